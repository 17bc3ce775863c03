"""The command ``minwhisper walkthrough``: run the text and show it, export it as a page, or update it."""

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..checkpoints.sources import find_checkpoint, short_name
from ..common.atomic_write import replace_file, temporary_file
from ..common.console import Console
from ..errors import MissingExtraError, OptionError, WalkthroughError
from ..fast.cpu.threads import blas_threads
from ..fast.devices import resolve_device
from ..parity.comparison import CLIP, REFERENCE_FOLDER, load_reference
from .compare_outputs import first_difference
from .here import draw_all
from .overview import draw_overview
from .page import check_libraries, page
from .run import (
    OVERVIEW,
    PICTURES_FOLDER,
    CellResult,
    run,
    stale_listings,
    stored_picture,
    stored_pictures,
    with_results,
)
from .text import PICTURES, Cell, Listing, Part, Section, Walkthrough, Widget, find_walkthrough, parse, write

MODEL = "tiny.en"  # the outputs in the text are those of this model on a CPU


def command(options: argparse.Namespace, console: Console) -> int:
    """Run the walkthrough and show it part by part; return 1 if an output or a listing differs from the text."""
    started = time.perf_counter()
    file = find_walkthrough()
    walkthrough = parse(file.read_text("utf-8"))
    compared = (short_name(options.model) or options.model) == MODEL
    _check_options(options, walkthrough, file, compared)
    show = TerminalView(console)
    results: list[CellResult] = []
    shown: Section | None = None
    show.title(walkthrough.title)
    parameters = {"MODEL": options.model, "DEVICE": options.device}
    if options.section and options.section > 1:
        console.note(f"running sections 1 to {options.section - 1} first")
    # One thread takes 37 s. Two take 26 s with two cores to themselves, but took 178 s on a busy machine.
    with blas_threads(1):
        for section, part, result in run(walkthrough, file, parameters, last=options.section, compared=compared):
            if options.section and (section is None or section.number != options.section):
                continue
            if section and section is not shown:
                shown = section
                show.heading(section)
            show.part(part, result)
            if result:
                results.append(result)
    stale = stale_listings(walkthrough)
    if options.update:
        _update(walkthrough, file, results)
    if options.html:
        by_line = {result.cell.line: result for result in results}
        drawn = {f"{PICTURES}{name}": drawing.svg for name, drawing in draw_all().items()}
        drawn |= {o.cell.picture.path: o.drawing.svg for o in results if o.cell.picture and o.drawing}
        clip = (REFERENCE_FOLDER / CLIP).read_bytes()
        write_file(options.html, page(with_results(walkthrough, by_line), drawn, clip))
        console.note(f"wrote {options.html}")
    missing = {result.note for result in results if result.note}
    for note in missing:
        console.note(note)
    seconds = time.perf_counter() - started
    return _report(console, results, stale, seconds, compared, options.update)


def _check_options(options: argparse.Namespace, walkthrough: Walkthrough, file: Path, compared: bool) -> None:
    """Reject invalid options before anything runs."""
    count = len(walkthrough.sections)
    if options.section is not None and not 1 <= options.section <= count:
        raise OptionError(f"--section {options.section}: expected a section from 1 to {count}")
    if options.section is not None and (options.html or options.update):
        raise OptionError("--section runs one section; --html and --update need all of them: omit --section")
    if options.update:
        if not compared or options.device != "cpu":
            raise OptionError(f"--update: the text is written with {MODEL} on a CPU; omit --model and --device")
        if not (file.parent / "pyproject.toml").is_file():
            raise OptionError(f"--update works in a checkout of the repository; {file} is an installed copy")
    if load_reference(short_name(options.model) or options.model) is None:
        raise OptionError(
            f"--model {options.model}: expected tiny.en or base, the models that section 15 has reference values for"
        )
    resolve_device(options.device)
    find_checkpoint(options.model)
    if options.html:
        check_libraries()
        if options.html.is_dir() or not options.html.parent.is_dir():
            raise OptionError(f"--html {options.html}: expected a file name in an existing folder")
        with _write_errors(options.html), temporary_file(options.html.parent):
            pass


def _update(walkthrough: Walkthrough, file: Path, results: list[CellResult]) -> None:
    """Rewrite the outputs that differ, the listings and the pictures."""
    for result in results:
        if result.note:
            raise MissingExtraError(f"--update: {result.note}")
        if (result.drawing is None) != (result.cell.picture is None):
            raise WalkthroughError(f"--update: {result.place}: {result.difference}")
    drawn = {stored_picture(o.cell.picture): o.drawing.svg for o in results if o.drawing and o.cell.picture}
    drawn[PICTURES_FOLDER / OVERVIEW] = draw_overview().svg
    drawn |= {PICTURES_FOLDER / name: drawing.svg for name, drawing in draw_all().items()}
    for picture, svg in drawn.items():
        if not picture.is_file() or picture.read_text("utf-8") != svg:
            write_file(picture, svg)
    for picture in stored_pictures():
        if picture not in drawn:
            picture.unlink()
    changed = {o.cell.line: o for o in results if first_difference(o.cell.output, o.output)}
    write_file(file, write(with_results(walkthrough, changed)))


def write_file(file: Path, text: str) -> None:
    """Write a file atomically. Raises ``WalkthroughError`` if it cannot be written."""
    with _write_errors(file):
        replace_file(file, text.encode())


@contextmanager
def _write_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WalkthroughError(f"cannot write {file}: {error.strerror or error}") from error


def _report(
    console: Console, results: list[CellResult], stale: list[Listing], seconds: float, compared: bool, updated: bool
) -> int:
    """Print a summary and return the exit status."""
    different = [result for result in results if result.difference]
    ran = f"{len(results)} cells in {seconds:.0f} s"
    if updated:
        console.note(f"{ran}; {len(different)} outputs and {len(stale)} listings rewritten")
        return 0
    for result in different:
        console.note(f"{result.place}, line {result.cell.line}: {result.difference}")
    for listing in stale:
        console.note(f"line {listing.line}: the listing of {listing.source} differs from the source in the package")
    if not compared:
        console.note(f"{ran}; outputs not compared: the text shows those of {MODEL}")
    elif not different and not stale:
        console.note(f"{ran}; all outputs match the text")
    return 1 if different or stale else 0


class TerminalView:
    """A view of the text in a terminal: code is indented, output follows a bar; coloured only on a terminal."""

    def __init__(self, console: Console) -> None:
        """Choose colours or plain text."""
        self._console = console
        coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._style: Callable[[str, str], str] = _coloured if coloured else _plain

    def title(self, title: str) -> None:
        """Print the title of the text."""
        self._console.text(self._style("1", title) + "\n")

    def heading(self, section: Section) -> None:
        """Print the heading of a section."""
        self._console.text(self._style("1", f"\n{section.heading}\n"))

    def part(self, part: Part, result: CellResult | None) -> None:
        """Print prose, a listing, or a cell with its result."""
        if isinstance(part, Listing):
            self._console.text(self._style("2", textwrap.indent(f"{part.file}: {part.name}\n{part.code}\n", "    ")))
        elif isinstance(part, Cell):
            self._console.text(self._style("36", textwrap.indent(part.code, "    ")))
            for line in result.output.splitlines() if result else ():
                self._console.text(f"  | {line}")
            if part.picture:
                self._console.text(f"  | [picture: {part.picture.alt}]")
            if result and result.difference:
                self._console.text(self._style("31", f"  ! {result.difference}"))
            self._console.text("")
        elif not isinstance(part, Widget):
            self._console.text(part.text + "\n")


def _coloured(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m"


def _plain(_code: str, text: str) -> str:
    return text
