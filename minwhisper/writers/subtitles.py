"""Subtitles: words grouped into lines and cues, with openai-whisper's options.

Walkthrough: section 13.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias, TypeVar

from ..errors import OptionError
from ..printable import short_repr
from ..transcription.segments import Segment, Transcript

LONG_PAUSE = 3.0  # seconds from the start of one word to the next; a new subtitle begins after a longer pause
_UNLIMITED = 1000  # default words per subtitle and characters per line, as in openai-whisper
_LINE_BREAK = re.compile("\r\n|[\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]")  # everything that str.splitlines() splits at

T = TypeVar("T")


@dataclass(frozen=True)
class SubtitleOptions:
    """Options that group words into subtitles. Names and defaults are openai-whisper's.

    If the transcript has no word timestamps, each segment is one subtitle. If it has, a subtitle contains words of one
    segment; with both ``max_line_width`` and ``max_line_count``, subtitles are filled across segments up to the next
    long pause, and ``max_words_per_line`` is ignored.

    Raises ``OptionError`` for an invalid value.
    """

    max_line_width: int | None = None  # characters per line; a longer word gets its own line
    max_line_count: int | None = None  # lines per subtitle
    highlight_words: bool = False  # underline each word while it is spoken
    max_words_per_line: int | None = None  # words per subtitle

    def __post_init__(self) -> None:
        for name in ("max_line_width", "max_line_count", "max_words_per_line"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                expected = "a whole number, at least 1, or None for no limit"
                raise OptionError(f"{name}: expected {expected}, got {short_repr(value)}")
        if type(self.highlight_words) is not bool:
            raise OptionError(f"highlight_words: expected True or False, got {short_repr(self.highlight_words)}")


DEFAULT_SUBTITLES = SubtitleOptions()


class TimedText(NamedTuple):
    """A subtitle, or a word of one."""

    start: float  # seconds
    end: float
    text: str


Lines: TypeAlias = Sequence[Sequence[TimedText]]
"""The words of a subtitle, by line."""


# ------------------------------------------------------------------------------------------ times


def format_timestamp(seconds: float, always_include_hours: bool = False, decimal_marker: str = ".") -> str:
    """Format a time as in subtitles, rounded to milliseconds.

    Hours are omitted if they are 0, unless ``always_include_hours``.

    >>> format_timestamp(83.4567), format_timestamp(83.4567, True, ","), format_timestamp(360_000)
    ('01:23.457', '00:01:23,457', '100:00:00.000')

    Raises ``OptionError`` for a negative or non-finite time.
    """
    minutes, rest = divmod(milliseconds(seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours:02}:" if always_include_hours or hours else ""
    return f"{shown}{minutes:02}:{rest // 1000:02}{decimal_marker}{rest % 1000:03}"


def milliseconds(seconds: float) -> int:
    """Round a time to milliseconds. Raises ``OptionError`` for a negative or non-finite time."""
    if not 0 <= seconds < math.inf:
        raise OptionError(f"a time in the transcript: expected seconds, 0 or more, got {seconds!r}")
    return round(seconds * 1000)


# ------------------------------------------------------------------------------------------ subtitles


def subtitles(
    transcript: Transcript, options: SubtitleOptions, escape: Callable[[str], str] = str
) -> Iterator[TimedText]:
    """Yield the subtitles in order, with line feeds between the lines of one subtitle.

    With ``highlight_words`` a subtitle is repeated for each of its words, with that word in ``<u>…</u>``, and without
    tags for the time between two words. ``escape`` is applied to the text after line breaking, so that it does not
    affect line widths, and not to the tags.
    """
    segments = transcript["segments"]
    if not any("words" in segment for segment in segments):
        yield from (whole._replace(text=escape(whole.text)) for whole in map(whole_segment, segments))
        return
    for lines in word_subtitles(segments, options):
        shown = [[word._replace(text=escape(word.text)) for word in line] for line in lines]
        if options.highlight_words:
            yield from _highlighted(shown)
        else:
            yield TimedText(shown[0][0].start, shown[-1][-1].end, _text(shown))


def word_subtitles(segments: Iterable[Segment], options: SubtitleOptions) -> Iterator[Lines]:
    """Yield the words of each subtitle, by line. A segment without words counts as one word."""
    for group in _word_groups(segments, options):
        lines = _broken_into_lines(group, options.max_line_width or _UNLIMITED)
        yield from _in_groups(lines, options.max_line_count or _UNLIMITED)


def whole_segment(segment: Segment) -> TimedText:
    """Return a segment as one subtitle of one line."""
    return TimedText(segment["start"], segment["end"], on_one_line(segment["text"]).strip())


def on_one_line(text: str) -> str:
    """Replace every line break, in the sense of ``str.splitlines``, with a space."""
    return _LINE_BREAK.sub(" ", text)


def _words(segment: Segment) -> list[TimedText]:
    """Return the words that are not blank. If a segment has no words, its text counts as one word."""
    words = [TimedText(word["start"], word["end"], word["word"]) for word in segment.get("words", [])]
    words = words or [TimedText(segment["start"], segment["end"], segment["text"])]
    return [word._replace(text=on_one_line(word.text)) for word in words if word.text.strip()]


def _word_groups(segments: Iterable[Segment], options: SubtitleOptions) -> Iterator[Sequence[TimedText]]:
    """Yield groups of words; no subtitle extends beyond its group."""
    if options.max_line_width is None or options.max_line_count is None:
        for segment in segments:
            yield from _in_groups(_words(segment), options.max_words_per_line or _UNLIMITED)
        return
    words = [word for segment in segments for word in _words(segment)]
    pauses = (i for i, (word, after) in enumerate(pairwise(words), start=1) if after.start - word.start > LONG_PAUSE)
    for start, end in pairwise([0, *pauses, len(words)]):
        yield words[start:end]


def _broken_into_lines(words: Iterable[TimedText], width: int) -> list[list[TimedText]]:
    """Fill each line with as many words as fit. Spaces around the first word of a line are removed."""
    lines: list[list[TimedText]] = []
    space_left = 0
    for word in words:
        if lines and len(word.text) <= space_left:
            lines[-1].append(word)
            space_left -= len(word.text)
        else:
            first = word._replace(text=word.text.strip())
            lines.append([first])
            space_left = width - len(first.text)
    return lines


def _in_groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _highlighted(lines: Lines) -> Iterator[TimedText]:
    words = [*chain.from_iterable(lines)]
    last = words[0].start
    for word in words:
        # Compare the times as shown, in milliseconds. If the words overlap, there is nothing between them.
        if milliseconds(last) < milliseconds(word.start):
            yield TimedText(last, word.start, _text(lines))
        yield TimedText(word.start, word.end, _text(lines, spoken=word))
        last = word.end


def _text(lines: Lines, spoken: TimedText | None = None) -> str:
    # Compare with "is": two words of a subtitle may be equal, and only one of them is being spoken.
    marked = ([_underlined(word.text) if word is spoken else word.text for word in line] for line in lines)
    return "\n".join(map("".join, marked))


def _underlined(word: str) -> str:
    """Underline a word, but not the space before it."""
    bare = word.lstrip()
    return f"{word[: len(word) - len(bare)]}<u>{bare}</u>"
