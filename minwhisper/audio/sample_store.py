"""Chapter 1: storage for the decoded samples of a file.

A file is decoded once, since decoding it again for each window would be slow and, for many formats, inexact. An hour of
samples takes 115 MB. So up to nine minutes are kept in memory, and longer audio in a private temporary file.

Walkthrough: section 2.
"""

import contextlib
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError

MAX_IN_MEMORY = 1 << 24  # bytes, 16 MiB: almost nine minutes at 16 kHz
CONVERSION_BLOCK = 1 << 16  # samples converted at a time, so that reading needs little memory besides its result
BYTES_PER_SAMPLE = 2  # of an int16
FULL_SCALE = 2**15  # of an int16; a power of two, so that dividing by it is exact


class SampleStore:
    """16-bit samples that are appended and then read in any order; ``size`` is their number.

    The temporary file is deleted by ``close`` or at the end of the process; it has no name if the system allows it.
    """

    def __init__(self) -> None:
        self.size = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=MAX_IN_MEMORY)  # noqa: SIM115 (close() closes it)

    def append(self, pcm: NDArray[np.int16]) -> None:
        """Append samples (N,), before the first call of ``read_into``.

        Raises ``AudioError`` if the folder for temporary files is full or not writable.
        """
        try:
            self._file.write(pcm.tobytes())
            self._file.flush()  # reports a full disk here, not in close()
        except OSError as error:
            raise AudioError(_cannot_store(error)) from error
        self.size += pcm.size

    def read_into(self, samples: NDArray[np.float32], start: int) -> None:
        """Fill ``samples``, (N,) float32, with the samples from ``start`` on, full scale -1 to 1.

        Raises ``AudioError`` if the temporary file cannot be read.
        """
        try:
            self._file.seek(BYTES_PER_SAMPLE * start)
            for first in range(0, samples.size, CONVERSION_BLOCK):
                block = samples[first : first + CONVERSION_BLOCK]  # a view
                pcm = np.frombuffer(self._file.read(BYTES_PER_SAMPLE * block.size), np.int16)
                np.multiply(pcm, 1 / FULL_SCALE, out=block, dtype=np.float32)
        except OSError as error:
            reason = error.strerror or error
            raise AudioError(
                f"the temporary file with the audio samples cannot be read ({reason}); check the disk, or name another "
                "folder in the environment variable TMPDIR"
            ) from error

    def close(self) -> None:
        """Free the memory or delete the file; closing again has no effect."""
        with contextlib.suppress(OSError):  # samples that did not fit on a full disk are not needed
            self._file.close()


def _cannot_store(error: OSError) -> str:
    folder: Any = tempfile.tempdir  # None if Python found no writable folder
    name = "the folder for temporary files" if folder is None else f"the folder for temporary files, {folder!r},"
    return (
        f"{name} cannot store the audio samples ({error.strerror or error}); expected 115 MB of free space per hour; "
        "free some, or name another folder in the environment variable TMPDIR"
    )
