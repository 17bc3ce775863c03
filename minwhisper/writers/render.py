"""The contents of a transcript's files: plain text, subtitles, a table, or everything there is.

===== ============================================================================================
txt   one line a segment
vtt   WebVTT subtitles, for the web: https://www.w3.org/TR/webvtt1/
srt   SubRip subtitles, for players
tsv   a table of start and end, both in whole milliseconds, and text
json  the transcript itself
===== ============================================================================================

Each is byte for byte what openai-whisper makes of the same transcript and options, except that a line break in a text
does not break the file, nor does an arrow or a NUL; ``&`` and ``<``, with which WebVTT's markup begins, are escaped
there; no subtitle ends before it starts; blank words are left out; and a segment without words among others with words
is kept, whole.

Walkthrough: section 13.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias, TypeVar

from ..errors import OptionError
from ..printable import short_repr
from ..transcription.segments import Segment, Transcript

FORMATS = ("txt", "vtt", "srt", "tsv", "json")
LONG_PAUSE = 3.0  # seconds from the start of a word to that of the next, above which a new subtitle begins
_UNLIMITED = 1000  # words a subtitle or characters a line where nothing is asked, as in openai-whisper
_LINE_BREAK = re.compile("\r\n|[\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]")  # wherever str.splitlines() would cut
_ARROW = re.compile("-{2,}>")  # stands between the times of a subtitle, so it may not be in its text

_WEBVTT = str.maketrans({"&": "&amp;", "<": "&lt;"})  # the characters with which its markup begins

T = TypeVar("T")


@dataclass(frozen=True)
class SubtitleOptions:
    """How words become subtitles. Names and defaults are openai-whisper's.

    Without word times in the transcript a segment is a subtitle, whatever is asked. With them, a subtitle holds words
    of one segment, unless both ``max_line_width`` and ``max_line_count`` are given: then it is filled over the
    segments' ends up to the next long pause, and ``max_words_per_line`` is not looked at.

    Raises :class:`OptionError` for a value that makes no sense.
    """

    max_line_width: int | None = None  # characters a line, if no single word is longer
    max_line_count: int | None = None  # lines a subtitle
    highlight_words: bool = False  # underline each word while it is spoken
    max_words_per_line: int | None = None  # words a subtitle

    def __post_init__(self) -> None:
        for name in ("max_line_width", "max_line_count", "max_words_per_line"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                expected = "a whole number, at least 1, or None for no limit"
                raise OptionError(f"{name}: expected {expected}, got {short_repr(value)}")
        if type(self.highlight_words) is not bool:
            raise OptionError(f"highlight_words: expected True or False, got {short_repr(self.highlight_words)}")


SEGMENTS_AS_THEY_ARE = SubtitleOptions()


class TimedText(NamedTuple):
    """A subtitle, or a word of one."""

    start: float  # seconds
    end: float
    text: str


Lines: TypeAlias = Sequence[Sequence[TimedText]]
"""The words of a subtitle, line by line."""


# ------------------------------------------------------------------------------------------ formats


def render(transcript: Transcript, format: str, options: SubtitleOptions = SEGMENTS_AS_THEY_ARE) -> str:
    """The contents of a file of one of :data:`FORMATS`. ``options`` are for vtt and srt.

    Raises :class:`OptionError` for another format, for a time that is negative or no number, and for any number in JSON
    that is not finite.
    """
    check_format(format, FORMATS)
    segments = transcript["segments"]
    if format == "txt":
        return "".join(f"{_whole(segment).text}\n" for segment in segments)
    if format == "vtt":
        cues = (_cue(subtitle) for subtitle in subtitles(transcript, options, escape_webvtt))
        return "WEBVTT\n\n" + "".join(cues)
    if format == "srt":
        timed = enumerate(subtitles(transcript, options), start=1)
        return "".join(f"{number}\n{_cue(subtitle, hours=True, mark=',')}" for number, subtitle in timed)
    if format == "tsv":
        return "start\tend\ttext\n" + "".join(_table_row(segment) for segment in segments)
    try:
        return json.dumps(transcript, allow_nan=False)
    except ValueError:
        raise OptionError(
            "the transcript: expected finite numbers, it has NaN or infinity, which JSON cannot hold; transcribe again"
        ) from None


def check_format(format: str, known: Sequence[str]) -> None:
    """Raise :class:`OptionError` if the format is not a known one."""
    if not isinstance(format, str) or format not in known:
        raise OptionError(f"output_format: expected one of {', '.join(known)}, got {short_repr(format)}")


def clock(seconds: float, *, hours: bool = False, mark: str = ".") -> str:
    """A time as subtitles show it, to the millisecond. The hours are there if asked for, or if there are any.

    >>> clock(83.4567), clock(83.4567, hours=True, mark=","), clock(360_000)
    ('01:23.457', '00:01:23,457', '100:00:00.000')

    Raises :class:`OptionError` for a time that is negative or no number.
    """
    minutes, milliseconds = divmod(_milliseconds(seconds), 60_000)
    full_hours, minutes = divmod(minutes, 60)
    shown = f"{full_hours:02}:" if hours or full_hours else ""
    return f"{shown}{minutes:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


def _milliseconds(seconds: float) -> int:
    if not 0 <= seconds < math.inf:
        raise OptionError(f"a time in the transcript: expected seconds, 0 or more, got {seconds!r}")
    return round(seconds * 1000)


def _cue(subtitle: TimedText, *, hours: bool = False, mark: str = ".") -> str:
    start, end = (clock(seconds, hours=hours, mark=mark) for seconds in (subtitle.start, subtitle.end))
    text = _ARROW.sub("->", subtitle.text).replace("\0", "\N{REPLACEMENT CHARACTER}")  # a NUL ends many a player's text
    return f"{start} --> {end}\n{text}\n\n"


def escape_webvtt(text: str) -> str:
    """Return the text as WebVTT writes it, where a bare ``<`` opens a tag and ``&`` a character reference.

    >>> escape_webvtt("<b> & co")
    '&lt;b> &amp; co'
    """
    return text.translate(_WEBVTT)


def _table_row(segment: Segment) -> str:
    start, end, text = _whole(segment)
    cells = (_milliseconds(start), _milliseconds(end), text.replace("\t", " "))
    return "\t".join(map(str, cells)) + "\n"


# ------------------------------------------------------------------------------------------ subtitles


def subtitles(
    transcript: Transcript, options: SubtitleOptions, escape: Callable[[str], str] = str
) -> Iterator[TimedText]:
    """Yield each text to be shown, in order, with its times in seconds and a line feed between its lines.

    Where words are highlighted, the same subtitle comes once for each word with that word in ``<u>…</u>``, and
    without any for the time between two words. ``escape`` is applied to the text, not to these tags, and after the
    lines are broken: it does not count for their width.
    """
    segments = transcript["segments"]
    if not any("words" in segment for segment in segments):
        yield from (whole._replace(text=escape(whole.text)) for whole in map(_whole, segments))
        return
    for passage in _passages(segments, options):
        broken = _broken_into_lines(passage, options.max_line_width or _UNLIMITED)
        lines = [[word._replace(text=escape(word.text)) for word in line] for line in broken]
        for shown in _in_groups(lines, options.max_line_count or _UNLIMITED):
            if options.highlight_words:
                yield from _highlighted(shown)
            else:
                yield TimedText(shown[0][0].start, shown[-1][-1].end, _text(shown))


def _whole(segment: Segment) -> TimedText:
    return TimedText(segment["start"], segment["end"], _on_one_line(segment["text"]).strip())


def _words(segment: Segment) -> list[TimedText]:
    """The words that are not blank. The text of a segment without words is one word, so that it is not lost."""
    words = [TimedText(word["start"], word["end"], word["word"]) for word in segment.get("words", [])]
    words = words or [TimedText(segment["start"], segment["end"], segment["text"])]
    return [word._replace(text=_on_one_line(word.text)) for word in words if word.text.strip()]


def _on_one_line(text: str) -> str:
    return _LINE_BREAK.sub(" ", text)


def _passages(segments: Iterable[Segment], options: SubtitleOptions) -> Iterator[Sequence[TimedText]]:
    """Runs of words whose ends no subtitle crosses."""
    if options.max_line_width is None or options.max_line_count is None:
        for segment in segments:
            yield from _in_groups(_words(segment), options.max_words_per_line or _UNLIMITED)
        return
    words = [word for segment in segments for word in _words(segment)]
    pauses = (i for i, (word, after) in enumerate(pairwise(words), start=1) if after.start - word.start > LONG_PAUSE)
    for start, end in pairwise([0, *pauses, len(words)]):
        yield words[start:end]


def _broken_into_lines(words: Iterable[TimedText], width: int) -> list[list[TimedText]]:
    """As many words on each line as there is room for. The first of a line loses the space around it."""
    lines: list[list[TimedText]] = []
    room = 0
    for word in words:
        if lines and len(word.text) <= room:
            lines[-1].append(word)
            room -= len(word.text)
        else:
            first = word._replace(text=word.text.strip())
            lines.append([first])
            room = width - len(first.text)
    return lines


def _in_groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _highlighted(lines: Lines) -> Iterator[TimedText]:
    words = [*chain.from_iterable(lines)]
    last = words[0].start
    for word in words:
        # As shown, to the millisecond. Words can overlap: then nothing is between them.
        if _milliseconds(last) < _milliseconds(word.start):
            yield TimedText(last, word.start, _text(lines))
        yield TimedText(word.start, word.end, _text(lines, spoken=word))
        last = word.end


def _text(lines: Lines, spoken: TimedText | None = None) -> str:
    # "is": two words may be equal, but only one of them is being spoken.
    marked = ([_underlined(word.text) if word is spoken else word.text for word in line] for line in lines)
    return "\n".join(map("".join, marked))


def _underlined(word: str) -> str:
    """Without the space before it."""
    bare = word.lstrip()
    return f"{word[: len(word) - len(bare)]}<u>{bare}</u>"
