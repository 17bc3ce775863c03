"""Chapter 1, beneath it: where the samples of a sound file wait until they are read.

An hour of them takes 115 MB. Decoding it again for each window would be slow, and for many formats inexact, so they are
decoded once and kept: in memory while they are few, and once they are many in a temporary file that nobody else sees.

Walkthrough: section 2.
"""

import contextlib
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError

MAX_IN_MEMORY = 1 << 24  # bytes kept in memory, 16 MiB: nearly nine minutes at 16 kHz
BLOCK = 1 << 16  # samples converted at a time, so that reading needs little more than its result
BYTES_PER_SAMPLE = 2  # of an int16
FULL_SCALE = 2**15  # of an int16; its inverse is a power of two too, so dividing by it rounds nothing


class SampleStore:
    """16-bit samples, appended at the end and read from anywhere; ``size`` says how many there are.

    The temporary file has no name where the system allows that, and is gone after :meth:`close` or with the process.
    """

    def __init__(self) -> None:
        self.size = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=MAX_IN_MEMORY)  # noqa: SIM115 (close() closes it)

    def append(self, pcm: NDArray[np.int16]) -> None:
        """Append samples (N,); none may follow the first :meth:`read_into`.

        Raises :class:`AudioError` if the folder for temporary files is full or cannot be written to.
        """
        try:
            self._file.write(pcm.tobytes())
            self._file.flush()  # a full disk is noticed here and not when the store is closed
        except OSError as error:
            raise AudioError(_cannot_store(error)) from error
        self.size += pcm.size

    def read_into(self, samples: NDArray[np.float32], start: int) -> None:
        """Fill ``samples``, (N,) float32, with those from ``start`` on, full scale being -1 to 1.

        Raises :class:`AudioError` if the temporary file cannot be read.
        """
        try:
            self._file.seek(BYTES_PER_SAMPLE * start)
            for first in range(0, samples.size, BLOCK):
                block = samples[first : first + BLOCK]  # a view
                pcm = np.frombuffer(self._file.read(BYTES_PER_SAMPLE * block.size), np.int16)
                np.multiply(pcm, 1 / FULL_SCALE, out=block, dtype=np.float32)
        except OSError as error:
            reason = error.strerror or error
            raise AudioError(
                f"the temporary file with the samples of the sound cannot be read ({reason}); expected a folder on a "
                "sound disk: name another in the environment variable TMPDIR"
            ) from error

    def close(self) -> None:
        """Forget the samples and free their memory or their file; closing twice does no harm."""
        with contextlib.suppress(OSError):  # what a full disk did not take is not missed
            self._file.close()


def _cannot_store(error: OSError) -> str:
    folder: Any = tempfile.tempdir  # None where Python has found none that it may write to
    name = "the folder for temporary files" if folder is None else f"the folder for temporary files, {folder!r},"
    return (
        f"{name} cannot take the samples of the sound ({error.strerror or error}); expected room for 115 MB an hour: "
        "make some, or name another folder in the environment variable TMPDIR"
    )
