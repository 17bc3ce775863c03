"""The command ``minwhisper walkthrough``: run the text and show it, export it as a page or notebook, or update it."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..checkpoints.sources import find_checkpoint, short_name
from ..common.atomic_write import replace_file, temporary_file
from ..common.console import Console
from ..errors import MissingExtraError, OptionError, WalkthroughError
from ..fast.cpu.threads import blas_threads
from ..fast.devices import resolve_device
from ..parity.comparison import CLIP, REFERENCE_FOLDER, clip_samples, load_reference
from ..whisper import load_model
from .compare_outputs import first_difference
from .here import draw_all
from .notebook import notebook
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
    with_parameters,
    with_results,
)
from .terminal import TerminalView
from .text import PICTURES, Listing, Section, Walkthrough, find_walkthrough, parse, write
from .widgets import compute

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
    if options.html or options.notebook:
        ran = with_results(walkthrough, {result.cell.line: result for result in results})
        drawn = {f"{PICTURES}{name}": drawing.svg for name, drawing in draw_all().items()}
        drawn |= {o.cell.picture.path: o.drawing.svg for o in results if o.cell.picture and o.drawing}
        clip = (REFERENCE_FOLDER / CLIP).read_bytes()
        if options.html:
            with blas_threads(1):
                data = compute(load_model(options.model, plain=True), clip_samples())
            write_file(options.html, page(ran, drawn, clip, data))
            console.note(f"wrote {options.html}")
        if options.notebook:
            write_file(options.notebook, notebook(with_parameters(ran, parameters), drawn, clip))
            console.note(f"wrote {options.notebook}")
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
    if options.section is not None and (options.html or options.notebook or options.update):
        raise OptionError("--section runs one section; --html, --notebook and --update need all: omit --section")
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
    for option, written in (("--html", options.html), ("--notebook", options.notebook)):
        if not written:
            continue
        if written.is_dir() or not written.parent.is_dir():
            raise OptionError(f"{option} {written}: expected a file name in an existing folder")
        with _write_errors(written), temporary_file(written.parent):
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
