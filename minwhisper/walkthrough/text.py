"""The parts of the walkthrough, read from Markdown and written back.

``walkthrough.md`` is a document that GitHub shows and ``walkthrough/run.py`` executes. Its parts:

* a section, ``## 3. Its title``; the last may be ``## Glossary``, without a number;
* a listing: a code block ``python .noeval`` below ``<!-- source: model.layers.softmax -->`` that shows the source of
  that function; with ``<!-- source: model.layers.softmax, folded -->`` the page shows only its name at first;
* a cell: a code block ``python``, followed by its output, a code block ``text``, and by the picture that it draws,
  ``![what it shows](minwhisper/walkthrough/pictures/name.svg)``, if it has them;
* a widget, ``<!-- widget: heads -->``: an interactive figure of the page, invisible elsewhere;
* prose: everything else, including other code blocks. In it, a quotation that begins in bold is a box that can be
  skipped, and ``<details><summary>Answer</summary>``, with a blank line after it and before ``</details>``, folds what
  is between them.

Jupytext sees the same cells and treats a block marked ``.noeval`` as prose. A comment before the title names the
kernel for it.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, TypeAlias

from ..errors import WalkthroughError

FILE = "walkthrough.md"
PACKAGE = Path(__file__).parent.parent
WIDGETS = ("playhead", "heads", "temperature", "candidates")
PICTURES = "minwhisper/walkthrough/pictures/"  # the folder of the pictures, relative to the text


@dataclass(frozen=True)
class Prose:
    """Markdown that is shown as it is."""

    text: str
    line: int = 1  # line number in the file of the part's first line; of a cell or listing, of its first code line


@dataclass(frozen=True)
class Listing:
    """The source of a function or class of the package."""

    source: str  # module and name, "model.layers.softmax"
    code: str
    line: int = 1
    folded: bool = False  # on the page

    @property
    def file(self) -> str:
        """The file that defines it, relative to the text."""
        return f"minwhisper/{'/'.join(_split_source(self.source)[0])}.py"

    @property
    def name(self) -> str:
        """Its name in that file."""
        return ".".join(_split_source(self.source)[1])


def _split_source(source: str) -> tuple[list[str], list[str]]:
    """Split "model.decoder.Cache" into the parts of the module, model and decoder, and those of the name, Cache."""
    names = source.split(".")
    depth = 1
    while depth < len(names) - 1 and PACKAGE.joinpath(*names[:depth]).is_dir():
        depth += 1
    return names[:depth], names[depth:]


@dataclass(frozen=True)
class PictureLink:
    """A link to the picture that a cell draws."""

    alt: str  # alternative text: what the picture shows
    path: str  # relative to the text


@dataclass(frozen=True)
class Cell:
    """Code to run, with its output."""

    code: str
    line: int = 1
    output: str = ""
    picture: PictureLink | None = None


@dataclass(frozen=True)
class Widget:
    """The place of an interactive figure."""

    name: str  # one of WIDGETS
    line: int = 1


Part: TypeAlias = Prose | Listing | Cell | Widget


@dataclass(frozen=True)
class Section:
    """A section of the text."""

    number: int  # from 1; that of the glossary is 0
    title: str
    parts: tuple[Part, ...]
    line: int = 1

    @property
    def heading(self) -> str:
        """Its number, unless it is the glossary, and its title."""
        return f"{self.number}. {self.title}" if self.number else self.title


@dataclass(frozen=True)
class Walkthrough:
    """The whole text."""

    title: str
    introduction: tuple[Part, ...]
    sections: tuple[Section, ...]
    head: str = ""  # a comment before the title
    glossary: Section | None = None

    def parts(self) -> Iterator[Part]:
        """Iterate over all parts in order."""
        yield from self.introduction
        for section in self.all_sections():
            yield from section.parts

    def all_sections(self) -> tuple[Section, ...]:
        """Return the sections, and the glossary if there is one."""
        return (*self.sections, self.glossary) if self.glossary else self.sections

    def cells(self) -> Iterator[Cell]:
        """Iterate over all cells in order."""
        return (part for part in self.parts() if isinstance(part, Cell))


def find_walkthrough() -> Path:
    """Return the path of the text: beside the package in a checkout, inside it after installation.

    Raises ``WalkthroughError`` if it is in neither place.
    """
    here = Path(__file__).parent
    for folder in (here, PACKAGE.parent):
        if (folder / FILE).is_file():
            return folder / FILE
    raise WalkthroughError(f"{FILE} is neither in {here} nor beside the package: the installation is incomplete")


# ------------------------------------------------------------------------------------------ reading

_FENCE = re.compile(r"(`{3,})(.*)")
_SOURCE = re.compile(r"<!-- source: ([\w.]+)(, folded)? -->")
_WIDGET = re.compile(r"<!-- widget: (.*) -->")
_PICTURE = re.compile(r"!\[(.*)\]\((" + re.escape(PICTURES) + r"[\w-]+\.svg)\)")
_SECTION = re.compile(r"## (?:([1-9]\d*)\. (.+)|(Glossary))")


def parse(text: str) -> Walkthrough:
    """Parse the text. Raises ``WalkthroughError``, with the line number, if its structure is wrong."""
    lines = text.splitlines()
    top = next((at for at, line in enumerate(lines) if line.startswith("# ")), None)
    if top is None:
        raise WalkthroughError(f"{FILE}: expected a title, '# …'")
    reader = _Reader(lines, top + 1)
    introduction = reader.parts()
    sections: list[Section] = []
    glossary: Section | None = None
    while (heading := reader.heading()) is not None:
        number, title, line = heading
        if glossary:
            raise WalkthroughError(f"{FILE}, line {line}: expected no section after the glossary, got {title!r}")
        if number not in (0, len(sections) + 1):
            raise WalkthroughError(f"{FILE}, line {line}: expected section {len(sections) + 1}, got {number}")
        section = Section(number, title, reader.parts(), line)
        if number:
            sections.append(section)
        else:
            glossary = section
    return Walkthrough(lines[top][2:], introduction, tuple(sections), "\n".join(lines[:top]).strip(), glossary)


class _Reader:
    """A parser that passes over the lines once; ``at`` is the index of the next one."""

    def __init__(self, lines: list[str], at: int) -> None:
        self.lines, self.at = lines, at

    def heading(self) -> tuple[int, str, int] | None:
        """Return number (0: the glossary), title and line of the section that starts here; None at the end."""
        if self.at == len(self.lines):
            return None
        found = _SECTION.fullmatch(self.lines[self.at])
        assert found  # parts() stops only at a section
        self.at += 1
        return int(found[1] or 0), found[2] or found[3], self.at

    def parts(self) -> tuple[Part, ...]:
        """Return the parts up to the next section or the end."""
        parts: list[Part] = []
        prose: list[str] = []
        begun = self.at

        def finish() -> None:
            filled = [place for place, line in enumerate(prose) if line.strip()]
            if filled:
                parts.append(Prose("\n".join(prose[filled[0] : filled[-1] + 1]), begun + filled[0] + 1))
            prose.clear()

        while self.at < len(self.lines) and not _SECTION.fullmatch(self.lines[self.at]):
            line = self.lines[self.at]
            if part := self._special():
                finish()
                parts.append(part)
                begun = self.at
            elif _FENCE.fullmatch(line):
                prose += self._fence()
            else:
                prose.append(line)
                self.at += 1
        finish()
        return tuple(parts)

    def _special(self) -> Part | None:
        """Return the listing, cell or widget that starts here, if one does."""
        line = self.lines[self.at]
        if source := _SOURCE.fullmatch(line):
            return self._listing(source[1], bool(source[2]))
        if widget := _WIDGET.fullmatch(line):
            return self._widget(widget[1])
        return self._cell() if line == "```python" else None

    def _fence(self) -> list[str]:
        """Return the lines of the code block that opens here, fences included."""
        opens = _FENCE.fullmatch(self.lines[self.at])
        assert opens
        for end in range(self.at + 1, len(self.lines)):
            if self.lines[end] == opens[1]:
                fence, self.at = self.lines[self.at : end + 1], end + 1
                return fence
        raise WalkthroughError(f"{FILE}, line {self.at + 1}: the code block {opens[0]!r} is not closed")

    def _code(self) -> str:
        return "\n".join(self._fence()[1:-1])

    def _widget(self, name: str) -> Widget:
        self.at += 1
        if name not in WIDGETS:
            raise WalkthroughError(f"{FILE}, line {self.at}: expected a widget of {', '.join(WIDGETS)}, got {name!r}")
        return Widget(name, self.at)

    def _listing(self, source: str, folded: bool) -> Listing:
        self.at += 1
        if self.at == len(self.lines) or self.lines[self.at] != "```python .noeval":
            raise WalkthroughError(
                f"{FILE}, line {self.at + 1}: expected '```python .noeval' with the source of {source}"
            )
        line = self.at + 2
        return Listing(source, self._code(), line, folded)

    def _cell(self) -> Cell:
        line = self.at + 2
        code, output, picture = self._code(), "", None
        if self._follows("```text"):
            output = self._code()
        if self._follows(_PICTURE):
            found = _PICTURE.fullmatch(self.lines[self.at])
            assert found
            picture = PictureLink(found[1], found[2])
            self.at += 1
        return Cell(code, line, output, picture)

    def _follows(self, wanted: str | re.Pattern[str]) -> bool:
        """Skip blank lines if this comes after them, and return whether it does."""
        at = self.at
        while at < len(self.lines) and not self.lines[at].strip():
            at += 1
        line = self.lines[at] if at < len(self.lines) else ""
        if line != wanted if isinstance(wanted, str) else not wanted.fullmatch(line):
            return False
        self.at = at
        return True


# ------------------------------------------------------------------------------------------ writing


def write(walkthrough: Walkthrough) -> str:
    """Return the Markdown: ``parse(write(w))`` equals ``w`` up to the line numbers."""
    blocks = [walkthrough.head] if walkthrough.head else []
    blocks += [f"# {walkthrough.title}", *map(_block, walkthrough.introduction)]
    for section in walkthrough.all_sections():
        blocks += [f"## {section.heading}", *map(_block, section.parts)]
    return "\n\n".join(blocks) + "\n"


def _block(part: Part) -> str:
    if isinstance(part, Prose):
        return part.text
    if isinstance(part, Listing):
        mark = ", folded" if part.folded else ""
        return f"<!-- source: {part.source}{mark} -->\n```python .noeval\n{part.code}\n```"
    if isinstance(part, Widget):
        return f"<!-- widget: {part.name} -->"
    blocks = [f"```python\n{part.code}\n```"]
    if part.output:
        blocks.append(f"```text\n{part.output}\n```")
    if part.picture:
        blocks.append(f"![{part.picture.alt}]({part.picture.path})")
    return "\n\n".join(blocks)


def source_of(name: str) -> str:
    """Return the source of a function, class or method of the package, such as ``"model.layers.softmax"``.

    Raises ``WalkthroughError`` if the package has none of this name.

    >>> source_of("walkthrough.text.source_of").splitlines()[0]
    'def source_of(name: str) -> str:'
    """
    try:
        thing: Any = import_module("minwhisper")
        for step in name.split("."):
            if hasattr(thing, "__path__") and find_spec(f"{thing.__name__}.{step}") is not None:
                thing = import_module(f"{thing.__name__}.{step}")
            else:
                thing = getattr(thing, step)
        if isinstance(thing, ModuleType):
            raise TypeError("a whole module")
        return dedent(inspect.getsource(thing)).rstrip("\n")
    except (ImportError, AttributeError, TypeError):
        raise WalkthroughError(f"source {name!r}: expected the name of a function or class of the package") from None
