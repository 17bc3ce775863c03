"""Chapter 10. Segments: the parts of a transcript, and how the tokens of a window are split into them.

The model generates a timestamp where each segment begins and ends. A window's tokens are split between the end of one
segment and the start of the next, and the next window starts where the last complete segment ended: no word is cut in
half.

Walkthrough: section 13.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, NotRequired, TypedDict

from ..audio.load import FRAMES_PER_SECOND
from ..tokenizer.special_tokens import SECONDS_PER_TIMESTAMP
from .record import WindowRecord

FRAMES_PER_TIMESTAMP = round(SECONDS_PER_TIMESTAMP * FRAMES_PER_SECOND)  # 2


class Word(TypedDict):
    """A word with its times. Keys are openai-whisper's."""

    word: str  # with the space before it and the punctuation around it
    start: float  # seconds from the start of the audio
    end: float
    probability: float  # mean of its tokens'


class Segment(TypedDict):
    """A part of a transcript with its times. Keys are openai-whisper's."""

    id: int
    seek: int  # first frame of its window
    start: float  # seconds from the start of the audio
    end: float
    text: str
    tokens: list[int]  # its timestamps included
    temperature: float
    avg_logprob: float  # of the window
    compression_ratio: float  # of the window's text: high if it repeats itself
    no_speech_prob: float  # of the window
    words: NotRequired[list[Word]]  # only with word_timestamps


class Transcript(TypedDict):
    """The result of ``Whisper.transcribe``."""

    text: str
    segments: list[Segment]
    language: str  # a code
    windows: NotRequired[list[WindowRecord]]  # how they were decoded, only with record
    language_probs: NotRequired[dict[str, float]]  # only with record, if the language was detected


class TimedTokens(NamedTuple):
    """Consecutive tokens of a window, with start and end in seconds from the start of the window."""

    start: float
    end: float
    tokens: tuple[int, ...]


class WindowSplit(NamedTuple):
    """A window's tokens, split into the parts that become segments."""

    parts: list[TimedTokens]
    advance: int  # frames to the start of the next window
    single_timestamp_ending: bool  # whether a single timestamp ends the window: no speech after it


def split_window(tokens: Sequence[int], timestamp_begin: int, size: int) -> WindowSplit:
    """Split a window's tokens between two consecutive timestamps, and find how many frames to advance.

    ``timestamp_begin`` is the id of ``<|0.00|>``, ``size`` the number of frames of audio in the window. Without two
    consecutive timestamps the window is one segment. A segment that opens and does not close is left to the next
    window, which starts where the last complete one ended. If a single timestamp ends the window, the whole window is
    done. Timestamps may exceed the audio, since the model's input is padded with zeros; the advance is 1 to ``size``.
    """

    def steps(token: int) -> int:
        # A window decoded without timestamps may begin with text: it starts at 0.
        return max(0, token - timestamp_begin)

    cuts = [i + 1 for i in range(len(tokens) - 1) if tokens[i] >= timestamp_begin and tokens[i + 1] >= timestamp_begin]
    single_timestamp_ending = len(tokens) >= 2 and tokens[-2] < timestamp_begin <= tokens[-1]
    if not cuts:
        times = [steps(token) for token in tokens if token >= timestamp_begin]
        end = times[-1] * SECONDS_PER_TIMESTAMP if times and times[-1] else size / FRAMES_PER_SECOND
        return WindowSplit([TimedTokens(0.0, end, tuple(tokens))], size, single_timestamp_ending)
    last_end = steps(tokens[cuts[-1] - 1]) * FRAMES_PER_TIMESTAMP
    if single_timestamp_ending:
        cuts.append(len(tokens))
    groups = (tuple(tokens[start:end]) for start, end in pairwise([0, *cuts]))
    parts = [
        TimedTokens(steps(part[0]) * SECONDS_PER_TIMESTAMP, steps(part[-1]) * SECONDS_PER_TIMESTAMP, part)
        for part in groups
    ]
    advance = size if single_timestamp_ending else min(max(FRAMES_PER_TIMESTAMP, last_end), size)
    return WindowSplit(parts, advance, single_timestamp_ending)
