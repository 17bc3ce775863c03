"""Chapter 10, pauses: where a long sound can be cut so that its parts can be heard on their own.

Windows that are decoded one after another need no cuts: each begins where the last complete sentence ended, which the
model says. Windows that are decoded together have to be cut before anything is known of the text, so they are cut
where it is quietest: in a pause there is no word to cut through.

Walkthrough: section 13.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..audio.load import FRAMES_PER_SECOND, N_FRAMES
from ..audio.mel_stream import Spectrogram

MIN_CHUNK_FRAMES = 20 * FRAMES_PER_SECOND  # frames: a part is at least so long, if there is more to come
MIN_CHUNK_FRAMES_UNTIMED = 25 * FRAMES_PER_SECOND  # the same where no times are asked for, see chunk_at_silence
PAUSE = 30  # frames over which the loudness is averaged: 0.3 s, longer than the silence inside a "p" or a "t"


def chunk_at_silence(
    mel: Spectrogram, start: int, end: int, shortest: int = MIN_CHUNK_FRAMES
) -> Iterator[tuple[int, int]]:
    """Yield the parts of a stretch, each of ``shortest`` to 30 s, the last one shorter; in frames. None if it is empty.

    A part is cut when it is asked for: the first can be decoded before the pauses of a long recording are found.
    Longer parts make fewer windows, as long as each takes one. With times it may take two, because the fuller a window
    is, the more often the model leaves its last phrase to the next one.
    """
    while end - start > N_FRAMES:
        first = start + shortest
        quiet = loudness(mel.read(first, start + N_FRAMES))
        cut = first + PAUSE // 2 + int(quiet.argmin())
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def loudness(mel: NDArray[np.float32]) -> NDArray[np.float64]:
    """How loud each 0.3 s are, (M, T) -> (T - 29,): the mean of the log-mel over all bins and 30 frames."""
    sums = np.cumsum(np.concatenate([[0.0], mel.mean(axis=0, dtype=np.float64)]))  # (T + 1,)
    return (sums[PAUSE:] - sums[:-PAUSE]) / PAUSE
