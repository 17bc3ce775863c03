"""The walkthrough as a text: what its parts are, how they are read from Markdown and written back.

``walkthrough.md`` is prose that GitHub shows and a program that :mod:`minwhisper.walkthrough.run` runs. Its parts:

* a section, ``## 3. Its title``;
* a listing, a fence ``python .noeval`` below ``<!-- source: model.layers.softmax -->``: that function as the package
has it; * a cell, a fence ``python``, and right behind it, if it shows something, its output as a fence ``text`` and the
  picture it draws, ``![what it shows](minwhisper/walkthrough/pictures/name.svg)``;
* anything else is prose, other fences included.

Jupytext sees the same cells, and takes a fence that is marked ``.noeval`` for prose. A comment before the title tells
it which kernel to start.
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
PICTURES = "minwhisper/walkthrough/pictures/"  # where a picture has to lie, seen from the text


@dataclass(frozen=True)
class Prose:
    """Markdown as it stands."""

    text: str
    line: int = 1  # of the file, of the first line of the part; of a cell or listing, of its first line of code


@dataclass(frozen=True)
class Listing:
    """A function or class of the package, as its source has it."""

    source: str  # module and name, "layers.softmax"
    code: str
    line: int = 1

    @property
    def file(self) -> str:
        """The file it is from, seen from the text."""
        return f"minwhisper/{self.source.partition('.')[0]}.py"

    @property
    def name(self) -> str:
        """What it is called in that file."""
        return self.source.partition(".")[2]


@dataclass(frozen=True)
class PictureLink:
    """A picture that a cell draws."""

    alt: str  # what it shows, in words
    path: str  # as the text has it, relative to its folder


@dataclass(frozen=True)
class Cell:
    """Code that runs, and what it shows."""

    code: str
    line: int = 1
    output: str = ""
    picture: PictureLink | None = None


Part: TypeAlias = Prose | Listing | Cell


@dataclass(frozen=True)
class Section:
    """A numbered section."""

    number: int
    title: str
    parts: tuple[Part, ...]
    line: int = 1


@dataclass(frozen=True)
class Walkthrough:
    """The whole text."""

    title: str
    introduction: tuple[Part, ...]
    sections: tuple[Section, ...]
    head: str = ""  # the comment before the title

    def parts(self) -> Iterator[Part]:
        """Every part, in order."""
        yield from self.introduction
        for section in self.sections:
            yield from section.parts

    def cells(self) -> Iterator[Cell]:
        """Every cell, in order."""
        return (part for part in self.parts() if isinstance(part, Cell))


def find_walkthrough() -> Path:
    """Where the text is: beside the package in a checkout, inside of it where it was installed.

    Raises :class:`WalkthroughError` if it is in neither place.
    """
    here = Path(__file__).parent
    for folder in (here, here.parent.parent):
        if (folder / FILE).is_file():
            return folder / FILE
    raise WalkthroughError(f"{FILE} is neither in {here} nor beside the package: is the installation complete?")


# ------------------------------------------------------------------------------------------ reading

_FENCE = re.compile(r"(`{3,})(.*)")
_SOURCE = re.compile(r"<!-- source: ([\w.]+) -->")
_PICTURE = re.compile(r"!\[(.*)\]\((" + re.escape(PICTURES) + r"[\w-]+\.svg)\)")
_SECTION = re.compile(r"## (\d+)\. (.+)")


def parse(text: str) -> Walkthrough:
    """Read the text. Raises :class:`WalkthroughError` naming the line of what is not as it should be."""
    lines = text.splitlines()
    top = next((at for at, line in enumerate(lines) if line.startswith("# ")), None)
    if top is None:
        raise WalkthroughError(f"{FILE}: expected a title, '# …'")
    reader = _Reader(lines, top + 1)
    introduction = reader.parts()
    sections: list[Section] = []
    while (heading := reader.heading()) is not None:
        number, title, line = heading
        if number != len(sections) + 1:
            raise WalkthroughError(f"{FILE}, line {line}: expected section {len(sections) + 1}, got {number}")
        sections.append(Section(number, title, reader.parts(), line))
    return Walkthrough(lines[top][2:], introduction, tuple(sections), "\n".join(lines[:top]).strip())


class _Reader:
    """Goes through the lines once; ``at`` is the next one."""

    def __init__(self, lines: list[str], at: int) -> None:
        self.lines, self.at = lines, at

    def heading(self) -> tuple[int, str, int] | None:
        """The section that starts here: number, title and line; None at the end of the text."""
        if self.at == len(self.lines):
            return None
        found = _SECTION.fullmatch(self.lines[self.at])
        assert found  # parts() stops nowhere else
        self.at += 1
        return int(found[1]), found[2], self.at

    def parts(self) -> tuple[Part, ...]:
        """The parts up to the next section or the end."""
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
            source = _SOURCE.fullmatch(line)
            if source or line == "```python":
                finish()
                parts.append(self._listing(source[1]) if source else self._cell())
                begun = self.at
            elif _FENCE.fullmatch(line):
                prose += self._fence()
            else:
                prose.append(line)
                self.at += 1
        finish()
        return tuple(parts)

    def _fence(self) -> list[str]:
        """The lines of the fence that opens here, fences included."""
        opens = _FENCE.fullmatch(self.lines[self.at])
        assert opens
        for end in range(self.at + 1, len(self.lines)):
            if self.lines[end] == opens[1]:
                fence, self.at = self.lines[self.at : end + 1], end + 1
                return fence
        raise WalkthroughError(f"{FILE}, line {self.at + 1}: the fence {opens[0]!r} is not closed")

    def _code(self) -> str:
        return "\n".join(self._fence()[1:-1])

    def _listing(self, source: str) -> Listing:
        self.at += 1
        if self.at == len(self.lines) or self.lines[self.at] != "```python .noeval":
            raise WalkthroughError(f"{FILE}, line {self.at + 1}: expected '```python .noeval' with {source}")
        line = self.at + 2
        return Listing(source, self._code(), line)

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
        """Whether this comes next, after blank lines; if so, the blank lines are passed."""
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
    """The text again: ``parse(write(w))`` is ``w`` but for the numbers of lines."""
    blocks = [walkthrough.head] if walkthrough.head else []
    blocks += [f"# {walkthrough.title}", *map(_block, walkthrough.introduction)]
    for section in walkthrough.sections:
        blocks += [f"## {section.number}. {section.title}", *map(_block, section.parts)]
    return "\n\n".join(blocks) + "\n"


def _block(part: Part) -> str:
    if isinstance(part, Prose):
        return part.text
    if isinstance(part, Listing):
        return f"<!-- source: {part.source} -->\n```python .noeval\n{part.code}\n```"
    blocks = [f"```python\n{part.code}\n```"]
    if part.output:
        blocks.append(f"```text\n{part.output}\n```")
    if part.picture:
        blocks.append(f"![{part.picture.alt}]({part.picture.path})")
    return "\n\n".join(blocks)


def source_of(name: str) -> str:
    """The source of a function or class of the package, ``"model.layers.softmax"`` or ``"model.decoder.Cache.take"``.

    Raises :class:`WalkthroughError` where there is none of this name.

    >>> print(source_of("audio.mel.log_energy"))
    def log_energy(energy: Float64) -> Float64:
        \"\"\"The power of ten of each energy, at least -10, since silence has none: any shape.\"\"\"
        return np.log10(np.maximum(energy, FLOOR))
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
        raise WalkthroughError(f"source {name!r}: the package has nothing of this name with a source") from None
