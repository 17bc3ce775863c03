"""The report that gpu.py makes: rows are tables, which are printed line by line as they come."""

import gc
import json
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SHARES = {"machine": 0.12, "correct": 0.5, "memory": 0.68, "speed": 1.0, "t400": 9.9}  # of the minutes, to its end
HEADINGS = {
    "machine": "The machine",
    "correct": "Is it right?",
    "memory": "Does it fit?",
    "speed": "Is it fast?",
    "t400": "A T400, by arithmetic",
}
Cells = Sequence[Any]


class Most(NamedTuple):
    """A number that should not be larger."""

    value: float
    most: float


class Row(NamedTuple):
    """A table of the report."""

    section: str
    title: str
    columns: tuple[str, ...]  # "title" or "title|format"
    lines: Callable[[Any], Iterator[Cells]]
    foot: str  # a text below it


ROWS: dict[str, Row] = {}


def row(section: str, title: str, *columns: str, foot: str = "") -> Callable[[Callable[[Any], Iterator[Cells]]], Any]:
    """A function that yields the lines of a table, which has its name."""

    def enter(lines: Callable[[Any], Iterator[Cells]]) -> Any:
        ROWS[lines.__name__] = Row(section, title, columns, lines, foot)
        return lines

    return enter


def shown(column: str, value: Any) -> str:
    """A cell; in bold what is not as wanted."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "**no**"
    if isinstance(value, str):
        return value
    text = format(value.value if isinstance(value, Most) else value, column.partition("|")[2])
    return f"**{text}**" if is_missed(value) else text


def is_missed(value: Any) -> bool:
    """Whether something was wanted and is not so; what is no number is so too."""
    if isinstance(value, Most):
        return not value.value <= value.most
    return isinstance(value, bool | np.bool_) and not value


class Report:
    """What is printed and kept."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.kept, self.missed = path, {}, []

    def run(self, name: str, lab: Any, deadline: float, clock: Callable[[], float]) -> None:
        """One table, as far as it gets."""
        its, start, lines, ended = ROWS[name], clock(), [], ""
        titles = [column.partition("|")[0] for column in its.columns]
        print(f"\n### {its.title}\n\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                with closing(its.lines(lab)) as found:
                    for cells in found:
                        texts = [shown(*pair) for pair in zip(its.columns, cells, strict=True)]
                        print(f"| {' | '.join(texts)} |", flush=True)
                        lines.append([cell.value if isinstance(cell, Most) else cell for cell in cells])
                        for title, text, cell in zip(titles, texts, cells, strict=True):
                            if is_missed(cell):
                                at_most = f", wanted at most {cell.most:g}" if isinstance(cell, Most) else ""
                                self.missed.append(f"{name}, {texts[0]}, {texts[1]}: {title} {text}{at_most}")
                        if clock() > deadline:
                            ended = "ended here by the time limit, if there was more"
                            self.missed.append(f"{name}: {ended}")
                            break
            except Exception as error:
                ended = f"**failed**: {type(error).__name__}: {error}"
                self.missed.append(f"{name}: {ended}")
                traceback.print_exc()
        notes = [*(lab.notes if lab else ()), *dict.fromkeys(f"warning: {one.message}" for one in caught)]
        if lab:
            lab.notes.clear()
        if its.foot:
            print(f"\n```text\n{its.foot}\n```")
        print("".join(f"\n{note}." for note in (*notes, f"{clock() - start:.1f} s", *filter(None, [ended]))))
        self.kept[name] = {"title": its.title, "columns": titles, "lines": lines, "notes": notes, "ended": ended}
        self.save()
        gc.collect()

    def skip(self, name: str) -> None:
        """A table that there is no time for."""
        self.missed.append(f"{name}: not begun, by the time limit")

    def save(self) -> None:
        """What there is so far."""
        if self.path:
            whole = {"rows": self.kept, "missed": self.missed}
            self.path.write_text(json.dumps(whole, indent=1, default=lambda one: one.item()) + "\n", "utf-8")

    def end(self) -> None:
        """What was wanted and is not so."""
        print("\n## Not as wanted\n\n" + ("\n".join(f"- {one}" for one in self.missed) or "nothing"), flush=True)
        self.save()


def run(names: Sequence[str], lab: Any, minutes: float, path: Path | None, clock: Callable[[], float]) -> Report:
    """Make the tables of these rows; without a lab, those that need no GPU."""
    report, begun, section = Report(path), clock(), ""
    for name in names:
        its = ROWS[name]
        if lab is None and its.section != "t400":
            continue
        if its.section != section:
            section = its.section
            print(f"\n## {HEADINGS[section]}")
        deadline = begun + 60 * minutes * SHARES[section]
        if clock() > deadline:
            report.skip(name)
        else:
            report.run(name, lab, deadline, clock)
    report.end()
    return report
