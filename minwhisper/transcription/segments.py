"""Chapter 9. What a transcript is made of, and how the tokens of a window become segments of it.

The model says where each segment begins and ends, so a window's tokens are cut where one segment closes and the next
opens, and the next window starts where the last complete segment ended: no word is cut in half.

Walkthrough: section 12.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, NotRequired, TypedDict

from ..audio.load import FRAMES_PER_SECOND
from ..tokenizer.special_tokens import SECONDS_PER_TIMESTAMP

FRAMES_PER_TIMESTAMP = round(
    SECONDS_PER_TIMESTAMP * FRAMES_PER_SECOND
)  # 2 frames of the spectrogram for one timestamp step


class Word(TypedDict):
    """A word with its times. Keys are openai-whisper's."""

    word: str  # with the space before it and the punctuation around it
    start: float  # seconds from the start of the sound
    end: float
    probability: float  # mean of its tokens'


class Segment(TypedDict):
    """A stretch of text with its times. Keys are openai-whisper's."""

    id: int
    seek: int  # first frame of the window it was heard in
    start: float  # seconds from the start of the sound
    end: float
    text: str
    tokens: list[int]  # its timestamps included
    temperature: float
    avg_logprob: float  # of the window
    compression_ratio: float  # of the window's text: high for one that repeats itself
    no_speech_prob: float  # of the window
    words: NotRequired[list[Word]]  # where word times were asked for


class Transcript(TypedDict):
    """What :meth:`Whisper.transcribe` returns."""

    text: str
    segments: list[Segment]
    language: str  # a code


class TimedTokens(NamedTuple):
    """Part of a window: its tokens, and where it lies, in seconds from the start of the window."""

    start: float
    end: float
    tokens: tuple[int, ...]


class WindowSplit(NamedTuple):
    """A window's tokens in pieces."""

    pieces: list[TimedTokens]
    advance: int  # frames to the start of the next window
    single_timestamp_ending: bool  # whether a single timestamp ends the window: nobody speaks after it


def split_window(tokens: Sequence[int], first: int, size: int) -> WindowSplit:
    """Cut a window's tokens where two timestamps meet, and say how many frames to move on.

    ``first`` is the id of ``<|0.00|>``, ``size`` the frames of sound in the window. With no two timestamps side by
    side the window is one segment. A segment that was opened and not closed is left to the next window, which starts
    where the last complete one ended; only if a single timestamp closes the window is all of it done.
    Times may lie behind the sound, which the model hears followed by zeros; the way on is from 1 to ``size``.
    """

    def steps(token: int) -> int:
        # A window decoded without times can begin with text all the same: that is heard from its start.
        return max(0, token - first)

    cuts = [i + 1 for i in range(len(tokens) - 1) if tokens[i] >= first and tokens[i + 1] >= first]
    single_timestamp_ending = len(tokens) >= 2 and tokens[-2] < first <= tokens[-1]
    if not cuts:
        times = [steps(token) for token in tokens if token >= first]
        end = times[-1] * SECONDS_PER_TIMESTAMP if times and times[-1] else size / FRAMES_PER_SECOND
        return WindowSplit([TimedTokens(0.0, end, tuple(tokens))], size, single_timestamp_ending)
    following = steps(tokens[cuts[-1] - 1]) * FRAMES_PER_TIMESTAMP
    if single_timestamp_ending:
        cuts.append(len(tokens))
    parts = [tuple(tokens[start:end]) for start, end in pairwise([0, *cuts])]
    pieces = [
        TimedTokens(steps(part[0]) * SECONDS_PER_TIMESTAMP, steps(part[-1]) * SECONDS_PER_TIMESTAMP, part)
        for part in parts
    ]
    return WindowSplit(
        pieces,
        size if single_timestamp_ending else min(max(FRAMES_PER_TIMESTAMP, following), size),
        single_timestamp_ending,
    )
