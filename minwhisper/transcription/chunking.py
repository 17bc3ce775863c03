"""Chapter 10, chunking at silence: cutting a recording into chunks that can be transcribed independently.

Windows that are decoded one after another need no cuts: each begins where the last complete segment ended, according to
its timestamps. Windows that are decoded together are cut before the text is known, so they are cut where the audio is
quietest: in a pause there is no word to cut in half.

Walkthrough: section 13.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..audio.load import FRAMES_PER_SECOND, HOP_LENGTH, N_FRAMES, AudioReader, AudioSource, open_audio
from ..audio.mel_stream import Spectrogram
from ..common.option_checks import check_number
from ..errors import OptionError

MIN_CHUNK_FRAMES = 20 * FRAMES_PER_SECOND  # every chunk but the last has at least this many frames
MIN_CHUNK_FRAMES_UNTIMED = 25 * FRAMES_PER_SECOND  # the same without timestamps, see chunk_at_silence
PAUSE_FRAMES = 30  # over which the loudness is averaged: 0.3 s, longer than the silence inside a "p" or a "t"


def cut_at_silence(
    audio: AudioSource, min_seconds: float, max_seconds: float, *, audio_track: int | str | None = None
) -> list[tuple[float, float]]:
    """Cut a recording into parts of ``min_seconds`` to ``max_seconds`` where it is quietest; the last is any length.

    Returns the start and end of each part in seconds, as for ``clip_timestamps``: each part starts where the one before
    it ends, and the last ends with the recording. The parts of a long recording can be transcribed at the same time,
    even on different machines. The spectrogram is computed piece by piece, so any length fits into memory.

    ``audio`` and ``audio_track`` are those of ``Whisper.transcribe``. Raises ``OptionError`` unless ``max_seconds``
    exceeds ``min_seconds`` by 0.3 s or more, over which the loudness is averaged, and ``AudioError`` for audio that
    cannot be read.

    >>> cut_at_silence(np.zeros(160_000), 3, 5)
    [(0.0, 3.15), (3.15, 6.3), (6.3, 10.0)]
    """
    for name, seconds in (("min_seconds", min_seconds), ("max_seconds", max_seconds)):
        check_number(name, seconds, "a number from 0 to 1,000,000,000", minimum=0, maximum=1e9)
    min_frames, max_frames = _frames_within(min_seconds, max_seconds)
    if max_frames - min_frames < PAUSE_FRAMES:
        raise OptionError(
            f"max_seconds: expected at least min_seconds + {PAUSE_FRAMES / FRAMES_PER_SECOND}, to have a choice of "
            f"pauses, got min_seconds {min_seconds:g} and max_seconds {max_seconds:g}; lower the one or raise the other"
        )
    with open_audio(audio, timeline=True, track=audio_track) as reader:
        return cut_open_audio(reader, min_seconds, max_seconds)


def cut_open_audio(reader: AudioReader, min_seconds: float, max_seconds: float) -> list[tuple[float, float]]:
    """Cut a recording that is open already, as ``cut_at_silence`` does; the lengths have been checked."""
    frames = math.ceil(reader.size / HOP_LENGTH)
    parts = chunk_at_silence(Spectrogram(reader), 0, frames, *_frames_within(min_seconds, max_seconds))
    times = [(start / FRAMES_PER_SECOND, end / FRAMES_PER_SECOND) for start, end in parts]
    return [*times[:-1], (times[-1][0], reader.seconds)] if times else []


def _frames_within(min_seconds: float, max_seconds: float) -> tuple[int, int]:
    """Return the smallest and the largest number of frames between two durations."""
    # Rounding first: 1.1 · 100 is 110.00000000000001.
    fewest = math.ceil(round(min_seconds * FRAMES_PER_SECOND, 6))
    return fewest, math.floor(round(max_seconds * FRAMES_PER_SECOND, 6))


def chunk_at_silence(
    mel: Spectrogram, start: int, end: int, min_frames: int = MIN_CHUNK_FRAMES, max_frames: int = N_FRAMES
) -> Iterator[tuple[int, int]]:
    """Yield chunks (start, end) of a range of frames, ``min_frames`` to ``max_frames`` long, the last any length.

    Chunks are cut one at a time, so the first can be decoded before the whole recording is read. Longer chunks make
    fewer windows if each takes one. With timestamps a chunk may take two, because the fuller a window is, the more
    often the model leaves its last phrase to the next one.
    """
    while end - start > max_frames:
        cut = quietest(mel, start + min_frames, start + max_frames)
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def quietest(mel: Spectrogram, first: int, last: int) -> int:
    """Return the frame in the middle of the quietest 0.3 s between two frames, the first if several are equal.

    The frames are read in pieces of 30 s that overlap, so that every 0.3 s is in one of them.
    """
    found = []  # loudness, start
    for start in range(first, last - PAUSE_FRAMES + 1, N_FRAMES - PAUSE_FRAMES + 1):
        quiet = loudness(mel.read(start, min(start + N_FRAMES, last)))
        found.append((float(quiet.min()), start + int(quiet.argmin())))
    return min(found)[1] + PAUSE_FRAMES // 2


def loudness(mel: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean log-mel over all bins and each 0.3 s: (M, T) -> (T - 29,)."""
    sums = np.cumsum(np.concatenate([[0.0], mel.mean(axis=0, dtype=np.float64)]))  # (T + 1,)
    return (sums[PAUSE_FRAMES:] - sums[:-PAUSE_FRAMES]) / PAUSE_FRAMES
