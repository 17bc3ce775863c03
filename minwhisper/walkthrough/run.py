"""The runner of the walkthrough: it executes the cells in one namespace and compares each output with the text.

As in a notebook, a cell's output is what it prints, followed by the value of its last line if that is an expression.
If that value is a ``Drawing``, it becomes the cell's picture, which is compared by the numbers it was drawn from.
"""

import ast
import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, WalkthroughError
from .compare_outputs import FACTOR, FACTOR_ON_GPU, first_difference
from .drawing import Drawing
from .here import ARCHITECTURE, SECTIONS, stage_file
from .text import Cell, Listing, Part, PictureLink, Section, Walkthrough, source_of

PARAMETERS = "# parameters"  # first line of the cell whose variables the command's options replace
PICTURES_FOLDER = Path(__file__).parent / "pictures"
OVERVIEW = "overview.svg"  # the picture in the README
WITHOUT_CELL = {OVERVIEW, ARCHITECTURE, *map(stage_file, SECTIONS)}  # pictures that no cell draws


@dataclass(frozen=True)
class CellResult:
    """The result of running a cell."""

    place: str  # "section 3, cell 2"
    cell: Cell
    output: str
    drawing: Drawing | None = None
    difference: str | None = None  # from the output in the text
    note: str = ""  # why the picture is missing


def run(
    walkthrough: Walkthrough,
    file: Path,
    parameters: dict[str, str] | None = None,
    *,
    last: int | None = None,
    compared: bool = True,
) -> Iterator[tuple[Section | None, Part, CellResult | None]]:
    """Run the text and yield each part as (section, part, result).

    The section is None in the introduction, the result None unless the part is a cell. ``file`` is the path of the
    text, for messages. ``parameters`` replace the variables of the cell that begins with ``# parameters``. Sections
    after ``last`` are skipped. With ``compared``, outputs are compared with the text. Raises ``WalkthroughError`` with
    section, cell and line if a cell fails.
    """
    namespace: dict[str, Any] = {"__name__": "walkthrough"}
    factor = FACTOR if (parameters or {}).get("DEVICE", "cpu") == "cpu" else FACTOR_ON_GPU
    places: list[tuple[Section | None, tuple[Part, ...]]] = [(None, walkthrough.introduction)]
    wanted = walkthrough.all_sections() if last is None else walkthrough.sections[:last]
    places += [(section, section.parts) for section in wanted]
    for section, parts in places:
        count = 0
        for part in parts:
            if not isinstance(part, Cell):
                yield section, part, None
                continue
            count += 1
            place = f"{_name(section)}, cell {count}"
            result = run_cell(part, place, file, namespace)
            if part.code.startswith(PARAMETERS):
                namespace.update(parameters or {})
            if compared:
                result = replace(result, difference=_difference_from_text(result, factor))
            yield section, part, result


def _name(section: Section | None) -> str:
    """Return the name of a section for messages."""
    if section is None:
        return "introduction"
    return f"section {section.number}" if section.number else "glossary"


def run_cell(cell: Cell, place: str, file: Path, namespace: dict[str, Any]) -> CellResult:
    """Run one cell in a namespace, which it may change.

    Raises ``WalkthroughError`` with the place, the line number and the line if the cell fails.
    """
    printed = io.StringIO()
    value: Any = None
    try:
        tree = ast.parse(cell.code)
        ast.increment_lineno(tree, cell.line - 1)  # so that tracebacks refer to lines of the file
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
    """Describe where a cell failed and why."""
    line = cell.line
    if isinstance(error, SyntaxError) and error.filename != str(file):
        line += (error.lineno or 1) - 1
    trace = error.__traceback__
    while trace:  # find the innermost frame that belongs to the text
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    code = cell.code.splitlines()[line - cell.line].strip()
    return f"{place}, {file.name} line {line}, `{code}`: {type(error).__name__}: {error}"


def _difference_from_text(result: CellResult, factor: float) -> str | None:
    """Describe how a result differs from the text, or return None if it does not."""
    found = first_difference(result.cell.output, result.output, factor)
    link = result.cell.picture
    if found or result.note:
        return found
    if result.drawing is None or link is None:
        same = result.drawing is None and link is None
        if same:
            return None
        return (
            "the text links a picture, but the cell draws none" if link else "the cell draws a picture without a link"
        )
    stored = stored_picture(link)
    if not stored.is_file():
        return f"{stored.name}: the picture is missing"
    found = first_difference(Drawing.from_svg(stored.read_text("utf-8")).facts, result.drawing.facts, factor)
    return f"{stored.name}: {found}" if found else None


def stored_picture(link: PictureLink) -> Path:
    """Return the file of a linked picture. Pictures are part of the package; the text may be elsewhere."""
    return PICTURES_FOLDER / Path(link.path).name


def stored_pictures() -> list[Path]:
    """List the stored pictures that cells draw."""
    return sorted(path for path in PICTURES_FOLDER.glob("*.svg") if path.name not in WITHOUT_CELL)


def stale_listings(walkthrough: Walkthrough) -> list[Listing]:
    """Return the listings that differ from the source in the package."""
    listings = [part for part in walkthrough.parts() if isinstance(part, Listing)]
    return [listing for listing in listings if listing.code != source_of(listing.source)]


def with_parameters(walkthrough: Walkthrough, parameters: dict[str, str]) -> Walkthrough:
    """Return the text with these values in its parameters cell, so that its code gives the outputs of this run."""
    code = "\n".join([PARAMETERS, *(f'{name} = "{value}"' for name, value in parameters.items())])
    introduction = tuple(
        replace(part, code=code) if isinstance(part, Cell) and part.code.startswith(PARAMETERS) else part
        for part in walkthrough.introduction
    )
    return replace(walkthrough, introduction=introduction)


def with_results(walkthrough: Walkthrough, results: dict[int, CellResult]) -> Walkthrough:
    """Return the text with these outputs, by the line of their cell, and with up-to-date listings."""

    def updated(part: Part) -> Part:
        if isinstance(part, Listing):
            return replace(part, code=source_of(part.source))
        if isinstance(part, Cell) and part.line in results:
            return replace(part, output=results[part.line].output)
        return part

    return replace(
        walkthrough,
        introduction=tuple(map(updated, walkthrough.introduction)),
        sections=tuple(replace(s, parts=tuple(map(updated, s.parts))) for s in walkthrough.sections),
        glossary=replace(last, parts=tuple(map(updated, last.parts))) if (last := walkthrough.glossary) else None,
    )
