"""Chapter 10, chunking at silence: cutting a recording into chunks that can be transcribed independently.

Windows that are decoded one after another need no cuts: each begins where the last complete segment ended, according to
its timestamps. Windows that are decoded together are cut before the text is known, so they are cut where the audio is
quietest: in a pause there is no word to cut in half.

Walkthrough: section 13.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..audio.load import FRAMES_PER_SECOND, N_FRAMES
from ..audio.mel_stream import Spectrogram

MIN_CHUNK_FRAMES = 20 * FRAMES_PER_SECOND  # every chunk but the last has at least this many frames
MIN_CHUNK_FRAMES_UNTIMED = 25 * FRAMES_PER_SECOND  # the same without timestamps, see chunk_at_silence
PAUSE_FRAMES = 30  # over which the loudness is averaged: 0.3 s, longer than the silence inside a "p" or a "t"


def chunk_at_silence(
    mel: Spectrogram, start: int, end: int, min_frames: int = MIN_CHUNK_FRAMES
) -> Iterator[tuple[int, int]]:
    """Yield the chunks of some frames, (start, end), each ``min_frames`` to 3,000 long and the last any length.

    Chunks are cut one at a time, so the first can be decoded before the whole recording is read. Longer chunks make
    fewer windows if each takes one. With timestamps a chunk may take two, because the fuller a window is, the more
    often the model leaves its last phrase to the next one.
    """
    while end - start > N_FRAMES:
        first = start + min_frames
        quiet = loudness(mel.read(first, start + N_FRAMES))
        cut = first + PAUSE_FRAMES // 2 + int(quiet.argmin())
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def loudness(mel: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean log-mel over all bins and each 0.3 s: (M, T) -> (T - 29,)."""
    sums = np.cumsum(np.concatenate([[0.0], mel.mean(axis=0, dtype=np.float64)]))  # (T + 1,)
    return (sums[PAUSE_FRAMES:] - sums[:-PAUSE_FRAMES]) / PAUSE_FRAMES
