"""The report of gpu.py: each row is a table, printed and saved line by line as it is measured."""

import gc
import json
import math
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HEADINGS = {
    "machine": "The machine",
    "speed": "Is it fast?",
    "correct": "Is it right?",
    "memory": "Does it fit?",
    "checks": "Do its tests pass?",
    "t400": "A T400, by arithmetic",
}
Cells = Sequence[Any]


class Bound(NamedTuple):
    """A value and its limits; None if it could not be measured, which counts as a miss."""

    value: float | None
    least: float = -math.inf
    most: float = math.inf

    @property
    def limits(self) -> str:
        """The limits in words."""
        if self.least == -math.inf:
            return f"expected at most {self.most:g}"
        return f"expected at least {self.least:g}" + (f" and at most {self.most:g}" if self.most < math.inf else "")


def at_most(value: float | None, most: float) -> Bound:
    """Bound a value from above."""
    return Bound(value, most=most)


def at_least(value: float | None, least: float) -> Bound:
    """Bound a value from below."""
    return Bound(value, least=least)


class Row(NamedTuple):
    """A table of the report."""

    section: str
    title: str
    columns: tuple[str, ...]  # "title" or "title|format"
    lines: Callable[[Any], Iterator[Cells]]
    foot: str  # a text below it


ROWS: dict[str, Row] = {}


def row(section: str, title: str, *columns: str, foot: str = "") -> Callable[[Callable[[Any], Iterator[Cells]]], Any]:
    """Register a function that yields the lines of a table; the table gets the function's name."""

    def enter(lines: Callable[[Any], Iterator[Cells]]) -> Any:
        ROWS[lines.__name__] = Row(section, title, columns, lines, foot)
        return lines

    return enter


def shown(column: str, value: Any) -> str:
    """Format a cell; in bold if it is outside its limits."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "**no**"
    if isinstance(value, str):
        return value
    number = value.value if isinstance(value, Bound) else value
    text = "missing" if number is None else format(number, column.partition("|")[2])
    return f"**{text}**" if is_missed(value) else text


def is_missed(value: Any) -> bool:
    """Return whether a value is outside its limits, missing or not a number."""
    if isinstance(value, Bound):
        return value.value is None or not value.least <= value.value <= value.most
    return isinstance(value, bool | np.bool_) and not value


class Report:
    """Tables in two forms: as printed, and as saved."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.kept: dict[str, Any] = {}
        self.missed: list[str] = []

    def run(self, name: str, lab: Any, deadline: float, clock: Callable[[], float]) -> None:
        """Make one table, up to an error or the time limit."""
        its, start, ended = ROWS[name], clock(), ""
        titles = [column.partition("|")[0] for column in its.columns]
        kept: dict[str, Any] = {"title": its.title, "columns": titles, "lines": [], "notes": [], "ended": "unfinished"}
        self.kept[name] = kept
        print(f"\n### {its.title}\n\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                with closing(its.lines(lab)) as found:
                    for cells in found:
                        self._line(name, its.columns, cells)
                        if clock() > deadline:
                            ended = "cut off by the time limit, if there was more"
                            self.missed.append(f"{name}: {ended}")
                            break
            except Exception as error:
                first, *_ = [*str(error).splitlines(), ""]
                ended = f"**failed**: {type(error).__name__}: {first}"
                self.missed.append(f"{name}: {ended}")
                traceback.print_exc(limit=-5)
        notes = [*(lab.notes if lab else ()), *dict.fromkeys(f"warning: {one.message}" for one in caught)]
        if lab:
            lab.notes.clear()
        if its.foot:
            print(f"\n```text\n{its.foot}\n```")
        seconds = clock() - start
        print("".join(f"\n{note}." for note in (*notes, f"{seconds:.1f} s", *filter(None, [ended]))), flush=True)
        kept.update(notes=notes, ended=ended, seconds=seconds)
        self.save()
        gc.collect()

    def _line(self, name: str, columns: Sequence[str], cells: Cells) -> None:
        """Print and save a line of a table, and note its values outside their limits."""
        texts = [shown(*pair) for pair in zip(columns, cells, strict=True)]
        print(f"| {' | '.join(texts)} |", flush=True)
        self.kept[name]["lines"].append([cell.value if isinstance(cell, Bound) else cell for cell in cells])
        for column, text, cell in zip(columns, texts, cells, strict=True):
            if is_missed(cell):
                limits = f", {cell.limits}" if isinstance(cell, Bound) else ""
                self.missed.append(f"{name}, {texts[0]}, {texts[1]}: {column.partition('|')[0]} {text}{limits}")
        self.save()

    def skip(self, name: str) -> None:
        """Note that there is no time for a table."""
        self.missed.append(f"{name}: not started: time limit")

    def save(self) -> None:
        """Save the report so far."""
        if self.path:
            whole = {"rows": self.kept, "missed": self.missed}
            self.path.write_text(json.dumps(whole, indent=1, default=lambda one: one.item()) + "\n", "utf-8")

    def end(self) -> None:
        """List the values outside their limits."""
        print("\n## Not as expected\n\n" + ("\n".join(f"- {one}" for one in self.missed) or "nothing"), flush=True)
        self.save()


def run(names: Sequence[str], lab: Any, minutes: float, path: Path | None, clock: Callable[[], float]) -> Report:
    """Make the tables of these rows, in this order, until the minutes are over."""
    report, section = Report(path), ""
    deadline = clock() + 60 * minutes
    for name in names:
        if ROWS[name].section != section:
            section = ROWS[name].section
            print(f"\n## {HEADINGS[section]}")
        if clock() > deadline:
            report.skip(name)
        else:
            report.run(name, lab, deadline, clock)
    report.end()
    return report
