"""Word-level formats: for players, spreadsheets, and programs for audio, phonetics and scoring.

========== =======================================================================================
words.vtt  WebVTT subtitles with the start of each word: https://www.w3.org/TR/webvtt1/
words.tsv  a table of start and end in whole milliseconds, probability, word and segment
labels.txt Audacity labels, one per word: https://manual.audacityteam.org, "Importing and Exporting Labels"
TextGrid   Praat intervals, segments and words: https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html
ctm        words with times and confidences for NIST's sclite and its relatives
========== =======================================================================================

In all of them blank words are omitted, spaces around a word are removed, tabs and line breaks become spaces, a NUL
becomes U+FFFD, and no word ends before it starts. If a segment has no words, its text counts as one word without a
probability.

Walkthrough: section 13.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from ..errors import OptionError
from ..transcription.segments import Transcript
from .subtitles import Lines, SubtitleOptions, format_timestamp, milliseconds, on_one_line, word_subtitles

WORD_FORMATS = ("words.vtt", "words.tsv", "labels.txt", "TextGrid", "ctm")
NEED_WORDS = ("words.vtt", "words.tsv", "TextGrid", "ctm")  # labels.txt has segments if there are no words

_PLAIN = str.maketrans({"\t": " ", "\0": "\N{REPLACEMENT CHARACTER}"})
_WEBVTT = _PLAIN | str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class TimedWord(NamedTuple):
    """A word that is not blank, on one line."""

    start: float  # seconds
    end: float  # not before the start
    text: str
    probability: float | None  # None: a segment without words
    segment: int  # the segment's id


class Interval(NamedTuple):
    """A part of a tier of a TextGrid."""

    start: int  # milliseconds
    end: int
    text: str


def check_words(transcript: Transcript, format: str) -> None:
    """Raise ``OptionError`` if a transcript has text, but no words, and the format needs them."""
    segments = transcript["segments"]
    if format in NEED_WORDS and segments and not any("words" in segment for segment in segments):
        raise OptionError(
            f"output_format {format}: expected a transcript with words; transcribe with word_timestamps=True"
        )


def timed_words(transcript: Transcript) -> Iterator[TimedWord]:
    """Yield the words in order."""
    for segment in transcript["segments"]:
        number = segment["id"]
        found = [
            _timed_word(word["start"], word["end"], word["word"], _checked(word["probability"]), number)
            for word in segment.get("words", [])
            if word["word"].strip()
        ]
        if not found and segment["text"].strip():
            found = [_timed_word(segment["start"], segment["end"], segment["text"], None, number)]
        yield from found


def _timed_word(start: float, end: float, text: str, probability: float | None, segment: int) -> TimedWord:
    for time in (start, end):
        milliseconds(time)  # rejects times that no format can hold
    return TimedWord(start, max(start, end), _cleaned(text), probability, segment)


def _cleaned(text: str) -> str:
    return on_one_line(text).translate(_PLAIN).strip()


def _checked(probability: float) -> float:
    if not 0 <= probability <= 1:
        raise OptionError(f"a probability in the transcript: expected a number from 0 to 1, got {probability!r}")
    return probability


def _seconds(time: int) -> str:
    """Return milliseconds as seconds with three decimals."""
    return f"{time // 1000}.{time % 1000:03}"


# ------------------------------------------------------------------------------------------ one line per word


def words_tsv(transcript: Transcript) -> str:
    """Render a table of words. A cell with a quotation mark is quoted, as spreadsheets and csv readers expect."""
    file = io.StringIO()
    table = csv.writer(file, "excel-tab", lineterminator="\n")
    table.writerow(["start", "end", "probability", "word", "segment"])
    for start, end, text, probability, segment in timed_words(transcript):
        shown = "" if probability is None else f"{probability:.4f}"
        table.writerow([milliseconds(start), milliseconds(end), shown, text, segment])
    return file.getvalue()


def labels_txt(transcript: Transcript) -> str:
    """Render Audacity labels: one per word, or one per segment if there are no words."""
    # Adding 0.0 turns -0.0 into 0.0.
    return "".join(f"{word.start + 0.0:.6f}\t{word.end + 0.0:.6f}\t{word.text}\n" for word in timed_words(transcript))


def ctm(transcript: Transcript, name: str) -> str:
    """Render NIST's time-marked conversation: file, channel, start, duration, word and confidence.

    The columns are separated by spaces, so those in the name and in words become underscores. The lines are in order
    of their start, as the format requires.
    """
    file = "_".join(name.split()) or "audio"
    if file.startswith(";;"):  # which would make the line a comment
        file = f"_{file}"
    words = sorted(timed_words(transcript), key=lambda word: milliseconds(word.start))
    return "".join(f"{file} 1 {_ctm_columns(word)}\n" for word in words)


def _ctm_columns(word: TimedWord) -> str:
    start, end = milliseconds(word.start), milliseconds(word.end)
    columns = [_seconds(start), _seconds(end - start), "_".join(word.text.split())]
    return " ".join(columns if word.probability is None else [*columns, f"{word.probability:.4f}"])


# ------------------------------------------------------------------------------------------ WebVTT


def words_vtt(transcript: Transcript, options: SubtitleOptions) -> str:
    """Render WebVTT subtitles with a timestamp before each word, at which it starts.

    Words are grouped by the options; ``highlight_words`` has no effect, since players and style sheets mark the words:
    each is in ``<c>…</c>``, for ``::cue(:past)`` and ``::cue(:future)``. WebVTT requires the timestamps in a cue to
    increase and to be between its start and its end; a word for which this is impossible has no timestamp, and is shown
    with the word before it. WebVTT also requires cues in order of their starts, each with a duration: times that break
    this rule are moved.
    """
    cues, earliest = [], 0
    for lines in word_subtitles(transcript["segments"], options):
        start = max(earliest, milliseconds(lines[0][0].start))
        end = max(start + 1, milliseconds(lines[-1][-1].end))
        cues.append(f"{_timestamp(start)} --> {_timestamp(end)}\n{_cue_text(lines, start, end)}\n\n")
        earliest = start
    return "WEBVTT\n\n" + "".join(cues)


def _cue_text(lines: Lines, start: int, end: int) -> str:
    """Return the words of a cue, each after its timestamp."""
    reached = start
    shown: list[list[str]] = []
    for line in lines:
        shown.append([])
        for word in line:
            text = word.text.translate(_WEBVTT)
            bare = text.lstrip()
            space, time = text[: len(text) - len(bare)], milliseconds(word.start)
            mark = f"<{_timestamp(time)}>" if reached < time < end else ""
            reached = time if mark else reached
            shown[-1].append(f"{space}{mark}<c>{bare}</c>")
    return "\n".join(map("".join, shown))


def _timestamp(time: int) -> str:
    return format_timestamp(time / 1000, always_include_hours=True)


# ------------------------------------------------------------------------------------------ TextGrid


def textgrid(transcript: Transcript) -> str:
    """Render a Praat TextGrid in the long text format, with the tiers "segments" and "words".

    The intervals of a tier follow each other without gaps or overlaps: an empty one fills each gap, an interval that
    overlaps the next one ends where that one starts, and each lasts at least a millisecond. The last interval of both
    tiers ends with the last segment or word, since a transcript does not have the duration of its audio.
    """
    whole = (
        Interval(milliseconds(segment["start"]), milliseconds(segment["end"]), _cleaned(segment["text"]))
        for segment in transcript["segments"]
    )
    words = (Interval(milliseconds(word.start), milliseconds(word.end), word.text) for word in timed_words(transcript))
    tiers = {"segments": _without_overlaps(whole), "words": _without_overlaps(words)}
    end = max((interval.end for interval in chain(*tiers.values())), default=1)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_seconds(end)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {_seconds(end)}"]
        lines += _interval_lines(_without_gaps(intervals, end))
    return "\n".join(lines) + "\n"


def _without_overlaps(intervals: Iterable[Interval]) -> list[Interval]:
    """Sort the intervals that have text by their start, and shorten or move those that overlap."""
    ordered = sorted((one for one in intervals if one.text), key=lambda one: one.start)
    found: list[Interval] = []
    reached = 0
    for place, (start, end, text) in enumerate(ordered):
        if place + 1 < len(ordered):
            end = min(end, ordered[place + 1].start)
        start = max(start, reached)
        reached = max(end, start + 1)
        found.append(Interval(start, reached, text))
    return found


def _without_gaps(intervals: Iterable[Interval], end: int) -> list[Interval]:
    """Fill the time from 0 to ``end`` with empty intervals."""
    found: list[Interval] = []
    reached = 0
    for interval in (*intervals, Interval(end, end, "")):
        if reached < interval.start:
            found.append(Interval(reached, interval.start, ""))
        if interval.text:
            found.append(interval)
        reached = interval.end
    return found


def _interval_lines(intervals: Sequence[Interval]) -> Iterator[str]:
    yield f"        intervals: size = {len(intervals)}"
    for number, (start, end, text) in enumerate(intervals, start=1):
        doubled = text.replace('"', '""')
        yield f"        intervals [{number}]:"
        yield f"            xmin = {_seconds(start)}"
        yield f"            xmax = {_seconds(end)}"
        yield f'            text = "{doubled}"'
