"""Render a transcript as plain text, subtitles, a table or JSON, or in a word-level format.

===== ============================================================================================
txt   one line per segment
vtt   WebVTT subtitles for the web: https://www.w3.org/TR/webvtt1/
srt   SubRip subtitles for video players
tsv   a table of start and end in whole milliseconds, and text
json  the transcript itself
jsonl one line of JSON per segment: https://jsonlines.org
===== ============================================================================================

The output is byte for byte that of openai-whisper, with these exceptions: line breaks, arrows and NULs in the text do
not break the file; WebVTT escapes ``&`` and ``<``; no subtitle ends before it starts; blank words are omitted; and a
segment without words, among others with words, is kept as one subtitle.

openai-whisper lacks ``jsonl``. Its lines have the name of the recording, "file", its language, and the keys of
``Segment``, so pandas (``read_json(path, lines=True)``), DuckDB (``FROM 'folder/*.jsonl'``) and others load the files
of many recordings as one table. openai-whisper also lacks ``words.vtt``, ``words.tsv``, ``labels.txt``, ``TextGrid``
and ``ctm``, which are those of ``writers.words``, and ``html``, the page of ``writers.html``. The name of a format is
the ending of its files.

Walkthrough: section 13.
"""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any

from ..errors import OptionError
from ..printable import short_repr
from ..transcription.segments import Segment, Transcript
from .subtitles import (
    DEFAULT_SUBTITLES,
    SubtitleOptions,
    TimedText,
    format_timestamp,
    milliseconds,
    subtitles,
    whole_segment,
)
from .words import WORD_FORMATS, check_words, ctm, labels_txt, textgrid, words_tsv, words_vtt

PAGE = "html"
FORMATS = ("txt", "vtt", "srt", "tsv", "json")  # openai-whisper's, which "all" stands for
JSON_LINES = "jsonl"
ALL_FORMATS = (*FORMATS, JSON_LINES, *WORD_FORMATS, PAGE)
_ARROW = re.compile("-{2,}>")  # separates the times of a subtitle, so it must not occur in its text
_WEBVTT = str.maketrans({"&": "&amp;", "<": "&lt;"})  # the characters that start markup


def parse_formats(formats: str) -> tuple[str, ...]:
    """Return the formats in a comma-separated list, each once; "all" stands for ``FORMATS``.

    >>> parse_formats("srt, ctm"), parse_formats("all,TextGrid")
    (('srt', 'ctm'), ('txt', 'vtt', 'srt', 'tsv', 'json', 'TextGrid'))

    Raises ``OptionError`` for an unknown format.
    """
    names = [name.strip() for name in formats.split(",")] if isinstance(formats, str) else [formats]
    for name in names:
        _check_format(name, (*ALL_FORMATS, "all"))
    return tuple(dict.fromkeys(chain.from_iterable(FORMATS if name == "all" else (name,) for name in names)))


def render(
    transcript: Transcript, format: str, options: SubtitleOptions = DEFAULT_SUBTITLES, name: str = "audio"
) -> str:
    """Render a transcript in one of ``ALL_FORMATS``; "html" is then without the recording.

    ``options`` apply to vtt, srt and words.vtt; ``name`` is the recording's, for jsonl, ctm and html.

    Raises ``OptionError`` for an unknown format, for a negative or non-finite time, for a transcript without the words
    that a format needs, and, in JSON, for any non-finite number.
    """
    _check_format(format, ALL_FORMATS)
    check_words(transcript, format)
    segments = transcript["segments"]
    match format:
        case "txt":
            return "".join(f"{whole_segment(segment).text}\n" for segment in segments)
        case "vtt":
            cues = (_cue(subtitle) for subtitle in subtitles(transcript, options, escape_webvtt))
            return "WEBVTT\n\n" + "".join(cues)
        case "srt":
            timed = enumerate(subtitles(transcript, options), start=1)
            return "".join(f"{number}\n{_cue(subtitle, True, ',')}" for number, subtitle in timed)
        case "tsv":
            return "start\tend\ttext\n" + "".join(_table_row(segment) for segment in segments)
        case "jsonl":
            first = {"file": name, "language": transcript["language"]}
            return "".join(f"{_json({**first, **segment})}\n" for segment in segments)
        case "words.vtt":
            return words_vtt(transcript, options)
        case "words.tsv":
            return words_tsv(transcript)
        case "labels.txt":
            return labels_txt(transcript)
        case "TextGrid":
            return textgrid(transcript)
        case "ctm":
            return ctm(transcript, name)
        case "html":
            from .html import transcript_page  # loads FFmpeg's libraries

            return transcript_page(transcript, name)
        case _:
            return _json(transcript)


def _check_format(format: str, known: Sequence[str]) -> None:
    """Raise ``OptionError`` for an unknown format."""
    if isinstance(format, str) and format in known:
        return
    by_lower_case = {one.lower(): one for one in known}
    near = get_close_matches(format.lower().lstrip("."), by_lower_case, n=1) if isinstance(format, str) else []
    hint = f"; did you mean {by_lower_case[near[0]]}?" if near else ""
    raise OptionError(f"output_format: expected one of {', '.join(known)}, got {short_repr(format)}{hint}")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        raise OptionError(
            "the transcript: expected finite numbers, got NaN or infinity, which JSON does not have; transcribe again"
        ) from None


def _cue(subtitle: TimedText, always_include_hours: bool = False, decimal_marker: str = ".") -> str:
    start, end = (format_timestamp(time, always_include_hours, decimal_marker) for time in subtitle[:2])
    text = _ARROW.sub("->", subtitle.text).replace("\0", "\N{REPLACEMENT CHARACTER}")  # some players stop at a NUL
    return f"{start} --> {end}\n{text}\n\n"


def escape_webvtt(text: str) -> str:
    """Escape text for WebVTT, in which ``<`` starts a tag and ``&`` a character reference.

    >>> escape_webvtt("<b> & co")
    '&lt;b> &amp; co'
    """
    return text.translate(_WEBVTT)


def _table_row(segment: Segment) -> str:
    start, end, text = whole_segment(segment)
    cells = (milliseconds(start), milliseconds(end), text.replace("\t", " "))
    return "\t".join(map(str, cells)) + "\n"
