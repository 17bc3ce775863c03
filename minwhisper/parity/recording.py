"""A recording as a file: its samples as Whisper takes them, and as they are in the file.

The latter are needed to compute the effect of a mistake in loading audio.
"""

import os
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from ..audio.load import SAMPLE_RATE, load_audio


class Recording(NamedTuple):
    """A recording in a file, or samples that are already loaded."""

    source: str | os.PathLike[str] | NDArray[np.float32]

    def samples(self) -> NDArray[np.float32]:
        """Return mono samples at 16 kHz, (N,), full scale -1 to 1."""
        return load_audio(self.source)

    def channels(self) -> tuple[NDArray[np.float32], int]:
        """Return the samples of all channels as they are in the file, (N, channels), and their rate."""
        if isinstance(self.source, np.ndarray):
            return self.source[:, None], SAMPLE_RATE
        parts = []
        with av.open(os.fspath(self.source)) as file:
            for frame in file.decode(audio=0):
                planar = av.AudioResampler(format="fltp").resample(frame)
                parts += [part.to_ndarray() for part in planar]
                rate = frame.sample_rate
        return np.concatenate(parts, axis=1).T.astype(np.float32, copy=False), rate
