"""Run the walkthrough: its cells in one namespace, top to bottom, each output held against the one that the text shows.

A cell's output is what it prints, and then the value of its last line if that is an expression, as in a notebook.
A :class:`~minwhisper.walkthrough.drawing.Drawing` is such a value too: a picture, compared by the numbers it was drawn
from.
"""

import ast
import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, WalkthroughError
from .compare_outputs import first_difference
from .drawing import Drawing
from .text import Cell, Listing, Part, PictureLink, Section, Walkthrough, source_of

PARAMETERS = "# parameters"  # first line of the cell whose names the command's options set
PICTURES_FOLDER = Path(__file__).parent / "pictures"


@dataclass(frozen=True)
class CellResult:
    """What became of a cell."""

    place: str  # "section 3, cell 2"
    cell: Cell
    output: str
    drawing: Drawing | None = None
    difference: str | None = None  # from what the text shows
    note: str = ""  # why there is no picture


def run(
    walkthrough: Walkthrough,
    file: Path,
    parameters: dict[str, str] | None = None,
    *,
    last: int | None = None,
    compared: bool = True,
) -> Iterator[tuple[Section | None, Part, CellResult | None]]:
    """Run the text part by part: yields the section (None: the introduction), the part, and of a cell its outcome.

    ``file`` is where the text is from, for messages. ``parameters`` replace what the cell that begins with
    ``# parameters`` assigns. Sections behind ``last`` are left out. ``compared`` is whether outcomes are
    held against the text. Raises :class:`WalkthroughError` naming section, cell and line where a cell fails.
    """
    namespace: dict[str, Any] = {"__name__": "walkthrough"}
    places: list[tuple[Section | None, tuple[Part, ...]]] = [(None, walkthrough.introduction)]
    places += [(section, section.parts) for section in walkthrough.sections if last is None or section.number <= last]
    for section, parts in places:
        count = 0
        for part in parts:
            if not isinstance(part, Cell):
                yield section, part, None
                continue
            count += 1
            place = f"{f'section {section.number}' if section else 'introduction'}, cell {count}"
            result = run_cell(part, place, file, namespace)
            if part.code.startswith(PARAMETERS):
                namespace.update(parameters or {})
            if compared:
                result = replace(result, difference=_from_shown(result))
            yield section, part, result


def run_cell(cell: Cell, place: str, file: Path, namespace: dict[str, Any]) -> CellResult:
    """Run one cell in a namespace, which it may change.

    Raises :class:`WalkthroughError` with the place, the line and the line's code if it fails.
    """
    printed = io.StringIO()
    value: Any = None
    try:
        tree = ast.parse(cell.code)
        ast.increment_lineno(tree, cell.line - 1)  # so that tracebacks name lines of the file, and show them
        final = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with redirect_stdout(printed):
            exec(compile(tree, file, "exec"), namespace)
            if isinstance(final, ast.Expr):
                value = eval(compile(ast.Expression(final.value), file, "eval"), namespace)
            if value is not None and not isinstance(value, Drawing):
                print(repr(value))
    except MissingExtraError as error:
        return CellResult(place, cell, printed.getvalue().rstrip(), note=str(error))
    except Exception as error:
        raise WalkthroughError(_failure(error, cell, place, file)) from error
    drawing = value if isinstance(value, Drawing) else None
    return CellResult(place, cell, printed.getvalue().rstrip(), drawing)


def _failure(error: Exception, cell: Cell, place: str, file: Path) -> str:
    """Where a cell failed and why."""
    line = cell.line
    if isinstance(error, SyntaxError) and error.filename != str(file):
        line += (error.lineno or 1) - 1
    trace = error.__traceback__
    while trace:  # the innermost line of the text; what it called lies deeper
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    code = cell.code.splitlines()[line - cell.line].strip()
    return f"{place}, {file.name} line {line}, `{code}`: {type(error).__name__}: {error}"


def _from_shown(result: CellResult) -> str | None:
    """How an outcome differs from what the text shows; None if it does not."""
    found = first_difference(result.cell.output, result.output)
    link = result.cell.picture
    if found or result.note:
        return found
    if result.drawing is None or link is None:
        same = result.drawing is None and link is None
        return None if same else f"a picture is {'shown' if link else 'drawn'}, none {'drawn' if link else 'shown'}"
    stored = stored_picture(link)
    if not stored.is_file():
        return f"{stored.name}: there is no such picture"
    found = first_difference(Drawing.from_svg(stored.read_text("utf-8")).facts, result.drawing.facts)
    return f"{stored.name}: {found}" if found else None


def stored_picture(link: PictureLink) -> Path:
    """Where the picture of a link lies: pictures come with the package, the text may be elsewhere."""
    return PICTURES_FOLDER / Path(link.path).name


def stored_pictures() -> list[Path]:
    """All that lie there."""
    return sorted(PICTURES_FOLDER.glob("*.svg"))


def stale_listings(walkthrough: Walkthrough) -> list[Listing]:
    """The listings that are not what the package has."""
    listings = [part for part in walkthrough.parts() if isinstance(part, Listing)]
    return [listing for listing in listings if listing.code != source_of(listing.source)]


def with_results(walkthrough: Walkthrough, results: dict[int, CellResult]) -> Walkthrough:
    """The text with what came out in place of what it showed; outcomes by the line of their cell."""

    def renewed(part: Part) -> Part:
        if isinstance(part, Listing):
            return replace(part, code=source_of(part.source))
        if isinstance(part, Cell) and part.line in results:
            return replace(part, output=results[part.line].output)
        return part

    return replace(
        walkthrough,
        introduction=tuple(map(renewed, walkthrough.introduction)),
        sections=tuple(replace(s, parts=tuple(map(renewed, s.parts))) for s in walkthrough.sections),
    )
