"""An alignment as text: lines of REF above HYP, with a mark below each error."""

import unicodedata
from collections.abc import Callable, Iterable

from ..printable import printable
from .alignment import Pair

GAP = "*"  # fills the place of a word that is missing
SPACE = "␣"  # a space, when characters are aligned
HEAD = "REF: "
MAX_WORD = 200  # characters of a word that are shown

Style = Callable[[str, str], str]
"""A function from the mark of an error and a text to the text in the colour of that error."""


def format_alignment(pairs: Iterable[Pair], width: int = 80, style: Style | None = None, separator: str = " ") -> str:
    """Return an alignment in lines of at most ``width`` columns; a longer word has a line of its own.

    Below each error is its mark: S for a substitution, D for a deletion, I for an insertion. Stars fill the place of a
    missing word. ``style`` colours the words of errors. ``separator`` goes between two words; characters need none.

    >>> print(format_alignment([("so", "so"), ("the", "a"), ("cat", None), (None, "sat")]))
    REF: so the cat ***
    HYP: so a   *** sat
            S   D   I
    """
    lines: list[list[tuple[str, str, str]]] = [[]]
    used = len(HEAD)
    for pair in pairs:
        cell = _cell(pair)
        columns = len(separator) + columns_of(cell[0])
        if lines[-1] and used + columns > width:
            lines.append([])
            used = len(HEAD)
        lines[-1].append(cell)
        used += columns
    return "\n\n".join(_line(cells, style or _plain, separator) for cells in lines)


def columns_of(text: str) -> int:
    """Return the number of terminal columns that a text takes: two for wide characters, none for combining marks.

    >>> columns_of("über"), columns_of("日本")
    (4, 4)
    """
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in ("Mn", "Me") for char in text)


def mark_of(pair: Pair) -> str:
    """Return S, D or I for an error, and nothing for two equal words."""
    reference, hypothesis = pair
    if reference == hypothesis:
        return ""
    return "D" if hypothesis is None else "I" if reference is None else "S"


def _cell(pair: Pair) -> tuple[str, str, str]:
    """Return a pair of words and their mark, all of the same width."""
    words = [None if word is None else SPACE if word == " " else printable(word, MAX_WORD) for word in pair]
    width = max(columns_of(word) for word in words if word is not None)
    above, below = (GAP * width if word is None else word + " " * (width - columns_of(word)) for word in words)
    return above, below, mark_of(pair).ljust(width)


def _line(cells: list[tuple[str, str, str]], style: Style, separator: str) -> str:
    """Return the three lines of some pairs, or two if there is no error among them."""
    rows = [
        "REF: " + separator.join(style(mark.strip(), word) for word, _, mark in cells),
        "HYP: " + separator.join(style(mark.strip(), word) for _, word, mark in cells),
        "     " + separator.join(mark for _, _, mark in cells),
    ]
    return "\n".join(row.rstrip() for row in rows if row.strip())


def _plain(_mark: str, text: str) -> str:
    return text
