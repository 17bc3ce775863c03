"""The text in a terminal: Markdown becomes wrapped plain text, in colour where the terminal has it.

Words are never cut; a line ends where the terminal does. Code keeps its lines when the output goes to a file. Formulas
are written in Unicode, pictures by the names of their files. Interactive figures are for the page only.
"""

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..common.console import Console
from .plain_formulas import plain_formula
from .run import CellResult, stored_picture
from .text import PICTURES, Cell, Listing, Part, PictureLink, Section, Widget

TEXT_WIDTH = 96  # columns; wider lines are hard to read
_LEAST_WIDTH = 24

# Styles within a line: a character without width marks each; here it is mapped to the terminal's code.
_STYLES = {"\ue000": "1", "\ue001": "22", "\ue002": "3", "\ue003": "23", "\ue004": "36", "\ue005": "39"}
_BOLD, _NOT_BOLD, _ITALIC, _NOT_ITALIC, _CODE, _NOT_CODE = _STYLES
_MARKS = re.compile("[" + "".join(_STYLES) + "]")

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ITEM = re.compile(r"(\s*)([-*]|\d+\.) +(.*)")
_INLINE = re.compile(
    r"(?P<ticks>`+)(?P<code>.+?)(?P=ticks)(?!`)"
    r"|!\[(?P<alt>[^\]]*)\]\((?P<picture>[^)]*)\)"
    r"|\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)]*)\)"
    r"|(?<!\\)\$(?=\S)(?P<tex>[^$]*[^\s$\\])\$(?!\d)"
    r"|\*\*(?P<bold>(?=\S).+?(?<=\S))\*\*"
    r"|(?<!\w)\*(?P<italic>(?=[^\s*]).+?(?<=\S))\*(?!\w)"
    r"|~~(?P<struck>.+?)~~"
    r"|<a id=\"[^\"]*\">|</a>"
    r"|\\(?P<escaped>[!-/:-@\[-`{-~])",
    re.DOTALL,
)


class TerminalView:
    """A view of the text in a terminal: code is indented, output follows a bar; coloured only on a terminal."""

    def __init__(self, console: Console) -> None:
        """Choose the width, and colours or plain text."""
        self._console = console
        terminal = sys.stdout.isatty()
        self._coloured = terminal and "NO_COLOR" not in os.environ
        columns = max(_LEAST_WIDTH, shutil.get_terminal_size((TEXT_WIDTH, 24)).columns)
        self._width = min(TEXT_WIDTH, columns)
        self._code_width = columns if terminal else None  # a file keeps the lines of code

    def title(self, title: str) -> None:
        """Print the title of the text."""
        self._print(f"{_BOLD}{inline(title)}{_NOT_BOLD}\n")

    def heading(self, section: Section) -> None:
        """Print the heading of a section."""
        self._print(f"\n{_BOLD}{inline(section.heading)}{_NOT_BOLD}\n")

    def part(self, part: Part, result: CellResult | None) -> None:
        """Print prose, a listing, or a cell with its result; widgets are for the page only."""
        if isinstance(part, Listing):
            self._print(f"    {_BOLD}{part.file}: {part.name}{_NOT_BOLD}")
            self._code(part.code, "2")
            self._print("")
        elif isinstance(part, Cell):
            self._cell(part, result)
        elif not isinstance(part, Widget):
            text = render(part.text, self._width, self._code_width)
            if text:
                self._print(text + "\n")

    def _cell(self, cell: Cell, result: CellResult | None) -> None:
        self._code(cell.code, "36")
        for line in result.output.splitlines() if result else ():
            self._print("\n".join(_broken(line, self._code_width, "  | ", "  |   ")))
        if cell.picture:
            self._print(_wrap(picture_note(cell.picture), self._width, "  | ", "  |   "))
        if result and result.difference:
            self._print(self._in_colour("31", f"  ! {result.difference}"))
        self._print("")

    def _code(self, code: str, colour: str) -> None:
        lines = [part for line in code.splitlines() for part in _broken(line, self._code_width, "    ", "        ")]
        self._print(self._in_colour(colour, "\n".join(lines)))

    def _in_colour(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._coloured else text

    def _print(self, text: str) -> None:
        self._console.text(_MARKS.sub(lambda mark: f"\033[{_STYLES[mark[0]]}m" if self._coloured else "", text))


def picture_note(picture: PictureLink) -> str:
    """Return a note with the description of a picture and the name of its file."""
    file = stored_picture(picture)
    if file.is_relative_to(Path.cwd()):
        file = file.relative_to(Path.cwd())
    return f"[picture: {inline(picture.alt)} {file}]"


# ------------------------------------------------------------------------------------------ blocks


def render(markdown: str, width: int, code_width: int | None = None) -> str:
    """Convert Markdown to text of at most ``width`` columns, in which ``_STYLES`` mark bold, italics and code.

    Lines of code are broken at ``code_width``, unless it is None.
    """
    blocks = [block for lines in _blocks(markdown) if (block := _block(lines, width, code_width))]
    return "\n\n".join(blocks)


def _blocks(markdown: str) -> Iterator[list[str]]:
    """Split Markdown into blocks: fences, formulas and lists whole, anything else at blank lines."""
    kept = re.sub(r"^(?!    )<!--.*?-->$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    block: list[str] = []
    end = ""  # of the fence or formula that is open
    for line in kept.split("\n"):
        if end:
            block.append(line)
            if line.strip() == end:
                yield block
                block, end = [], ""
            continue
        fence = re.match(r"`{3,}|\$\$", line)
        alone = fence or re.match(r"#{1,6} |</?details|$", line)
        if block and (alone or (line.strip() and _starts(line) and _starts(line) != _starts(block[0]))):
            yield block
            block = []
        if fence and not (fence[0] == "$$" and len(line) > 4 and line.endswith("$$")):
            block, end = [line], fence[0]
        elif alone and line:
            yield [line]
        elif line.strip():
            block.append(line)
    if block:
        yield block


def _starts(line: str) -> str:
    """Return the kind of block that a line can start even without a blank line above it."""
    return ">" if line.startswith(">") else "|" if line.startswith("|") else "-" if _ITEM.match(line) else ""


def _block(lines: Sequence[str], width: int, code_width: int | None) -> str:
    first, text = lines[0], "\n".join(lines)
    if first.startswith("```"):
        code = [part for line in lines[1:-1] for part in _broken(line, code_width, "    ", "        ")]
        return "\n".join(f"{_CODE}{line}{_NOT_CODE}" if line else "" for line in code)
    if first.startswith("$$"):
        return _display(text.strip("$\n "), width)
    if heading := re.fullmatch(r"#{1,6} (.*)", text):
        return f"{_BOLD}{_wrap(inline(heading[1]), width)}{_NOT_BOLD}"
    if summary := re.fullmatch(r"<details>\s*<summary>(.*)</summary>", text, re.DOTALL):
        return f"{_BOLD}{inline(summary[1])}:{_NOT_BOLD}"
    if text == "</details>":
        return ""
    if first.startswith(">"):
        inner = render("\n".join(re.sub(r"^> ?", "", line) for line in lines), width - 4, code_width)
        return "\n".join(f"  │ {line}".rstrip() for line in inner.split("\n"))
    if first.startswith("|"):
        return _table(lines, width)
    if _ITEM.match(first):
        return _list(lines, width)
    return _wrap(inline(text), width)


def _display(tex: str, width: int) -> str:
    """Convert a formula on lines of its own; one that is too long is divided at its wide spaces."""
    lines = plain_formula(tex).split("\n")
    if max(map(_columns, lines), default=0) > width - 4:
        lines = [part for line in lines for part in re.split(r" {4,}", line)]
    return "\n".join(
        _wrap(line, width, "    ", "        ") if _columns(line) > width - 4 else f"    {line}" for line in lines
    )


def _list(lines: Sequence[str], width: int) -> str:
    items: list[tuple[str, str]] = []  # indentation with the bullet, and the text
    for line in lines:
        if item := _ITEM.match(line):
            items.append((f"{item[1]}{item[2] if item[2][0].isdigit() else '-'} ", item[3]))
        else:
            items[-1] = items[-1][0], f"{items[-1][1]} {line.strip()}"
    return "\n".join(_wrap(inline(text), width, bullet, " " * len(bullet)) for bullet, text in items)


def _table(lines: Sequence[str], width: int) -> str:
    """Convert a table to columns, or, if it is too wide, to one line per cell."""
    rows = [[inline(cell.strip()) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    head, _, *body = rows  # the second row has the alignment
    widths = [max(_columns(row[at]) for row in (head, *body) if at < len(row)) for at in range(len(head))]
    if sum(widths) + 2 * len(widths) - 2 <= width:
        lined = [head, ["─" * columns for columns in widths], *body]
        return "\n".join("  ".join(map(_padded, row, widths)).rstrip() for row in lined)
    records = [
        [
            _wrap(f"{name}: {cell}" if name else cell, width, "  " if at else "", "    ")
            for at, (name, cell) in enumerate(zip(head, row, strict=False))
        ]
        for row in body
    ]
    return "\n".join("\n".join(record) for record in records)


def _padded(cell: str, columns: int) -> str:
    return cell + " " * (columns - _columns(cell))


# ------------------------------------------------------------------------------------------ lines


def inline(markdown: str) -> str:
    """Convert the Markdown of a line: links, code, emphasis, formulas, pictures."""
    return _INLINE.sub(_span, _COMMENT.sub("", markdown))


def _span(found: re.Match[str]) -> str:
    if found["code"] is not None:
        return f"{_CODE}`{found['code'].strip()}`{_NOT_CODE}"
    if found["picture"] is not None:
        link = PictureLink(found["alt"], found["picture"])
        return picture_note(link) if link.path.startswith(PICTURES) else f"[picture: {inline(link.alt)} {link.path}]"
    if found["target"] is not None:
        return _link(inline(found["text"]), found["target"])
    if found["tex"] is not None:
        return plain_formula(found["tex"].strip("`"))
    if found["bold"] is not None:
        return f"{_BOLD}{inline(found['bold'])}{_NOT_BOLD}"
    if found["italic"] is not None:
        return f"{_ITALIC}{inline(found['italic'])}{_NOT_ITALIC}"
    return inline(found["struck"] or "") or found["escaped"] or ""


def _link(text: str, target: str) -> str:
    """Write out a link: a place in the text by its words, a file by its path, an address in brackets."""
    plain = _MARKS.sub("", text).strip("`")
    if target.startswith("#") or target == plain:
        return text
    return target if target.endswith(f"/{plain}") else f"{text} ({target})"


def _columns(text: str) -> int:
    """Return the width of a line in a terminal: East Asian characters take two columns, accents and styles none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    none = sum(char in _STYLES or unicodedata.combining(char) != 0 for char in text)
    return len(text) + wide - none


def _wrap(text: str, width: int, first: str = "", others: str = "") -> str:
    """Fill lines of at most ``width`` columns with whole words; only a word that is longer than a line exceeds it."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else f"{others if lines else first}{word}"
        if line and _columns(longer) > width:
            lines.append(line)
            longer = f"{others}{word}"
        line = longer
    return "\n".join([*lines, line] if line else lines)


def _broken(line: str, width: int | None, first: str, others: str) -> list[str]:
    """Break a line of code or output that is too long at its spaces, which it otherwise keeps."""
    indentation = line[: len(line) - len(line.lstrip())]
    rest, start, broken = line[len(indentation) :], first + indentation, []
    while width and _columns(start + rest) > width:
        at = rest.rfind(" ", 1, max(2, width - _columns(start)))
        if at < 0:
            at = rest.find(" ")
        if at < 0:
            break
        broken.append(start + rest[:at])
        rest, start = rest[at:].lstrip(), others + indentation
    return [*broken, (start + rest).rstrip()]
