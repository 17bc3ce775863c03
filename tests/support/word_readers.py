"""Readers of the word-level formats: public libraries, or the grammar of a format."""

import csv
import html
import io
import re
from pathlib import Path
from typing import NamedTuple

import praatio.textgrid
import webvtt


class Read(NamedTuple):
    """A word as stored in a file, with times in milliseconds; None for what the format does not store."""

    start: int
    end: int | None
    text: str
    probability: float | None = None
    segment: int | None = None


def from_decimal(seconds: str | float) -> int:
    return round(float(seconds) * 1000)


def from_clock(time: str) -> int:
    hours, minutes, seconds = re.fullmatch(r"(\d\d+):(\d\d):(\d\d\.\d{3})", time).groups()
    return (int(hours) * 60 + int(minutes)) * 60_000 + from_decimal(seconds)


def read_tsv(text: str) -> list[Read]:
    rows = [*csv.DictReader(io.StringIO(text), dialect="excel-tab", strict=True)]
    return [
        Read(*(int(row[key]) for key in ("start", "end")), row["word"], float(row["probability"]), int(row["segment"]))
        for row in rows
    ]


def read_labels(text: str) -> list[Read]:
    lines = [re.fullmatch(r"(\d+\.\d{6})\t(\d+\.\d{6})\t([^\t]+)", line) for line in text.splitlines()]
    return [Read(from_decimal(line[1]), from_decimal(line[2]), line[3]) for line in lines]


def read_ctm(text: str) -> list[Read]:
    rows = [line.split() for line in text.splitlines()]
    assert all(row[:2] == ["audio", "1"] and len(row) == 6 for row in rows)
    return [
        Read(from_decimal(row[2]), from_decimal(row[2]) + from_decimal(row[3]), row[4], float(row[5])) for row in rows
    ]


def read_vtt(text: str) -> list[list[Read]]:
    """Return the words of each cue; a word starts at the last timestamp before it, or at the start of its cue."""
    cues = []
    for caption in webvtt.from_string(text):
        reached, end = map(from_clock, (caption.start, caption.end))
        assert not cues or cues[-1][0].start <= reached
        words = []
        payload = "(?:(?:<([0-9:.]+)>)?<c>([^<>&]*(?:&[a-z]+;[^<>&]*)*)</c>)"
        assert re.fullmatch(rf"(?:{payload}|\s)+", caption.raw_text), caption.raw_text
        for time, shown in re.findall(payload, caption.raw_text):
            if time:
                assert reached < from_clock(time) < end
                reached = from_clock(time)
            words.append(Read(reached, None, html.unescape(shown).strip()))
        assert reached < end
        cues.append(words)
    return cues


def read_textgrid(text: str) -> dict[str, list[Read]]:
    """Return the words of each tier, read as Praat does: only strings, numbers and flags count."""
    found = {}
    parts = re.findall(r'"((?:[^"]|"")*)"|(?<!\S)(\d[0-9.]*)(?!\S)|<(exists)>', text)
    values = (string.replace('""', '"') if not number + flag else number or flag for string, number, flag in parts)
    assert [next(values) for _ in range(3)] == ["ooTextFile", "TextGrid", "0"]
    end = from_decimal(next(values))
    assert next(values) == "exists"
    for _ in range(int(next(values))):
        assert next(values) == "IntervalTier"
        name = next(values)
        assert [from_decimal(next(values)) for _ in range(2)] == [0, end]
        size = int(next(values))
        intervals = [Read(from_decimal(next(values)), from_decimal(next(values)), next(values)) for _ in range(size)]
        assert [each.start for each in intervals] == [0, *(each.end for each in intervals[:-1])]
        assert all(each.start < each.end for each in intervals)
        assert intervals[-1].end == end
        found[name] = [each for each in intervals if each.text]
    assert next(values, None) is None
    return found


def read_with_praatio(text: str, file: Path) -> dict[str, list[Read]]:
    file.write_text(text, "utf-8", newline="\n")
    grid = praatio.textgrid.openTextgrid(str(file), includeEmptyIntervals=True, reportingMode="error")
    return {
        tier.name: [Read(*map(from_decimal, each[:2]), each.label) for each in tier.entries if each.label]
        for tier in grid.tiers
    }
