"""Make untrusted text safe to print: one line, visible characters only, and of limited length.

File names, tensor names and tokens come from files of unknown origin. On a terminal, an escape sequence in one of them
could change or erase other output. So every error and message passes through ``printable``, and a single value
inside a message through ``short_repr``.
"""

import reprlib

MAX_MESSAGE = 2000  # characters of a message
MAX_VALUE = 80  # characters of one value inside a message
_CUT = " … "


def printable(text: object, limit: int = MAX_MESSAGE) -> str:
    r"""Escape characters that are not printable, and cut the middle of a text longer than ``limit``.

    The end of a message is kept because it says what to do.

    >>> print(printable("two\nlines.wav"))
    two\nlines.wav
    >>> printable("0123456789" * 3, 16)
    '0123456 … 456789'
    """
    # Cut before escaping, to be fast for any length, and again after it, because escapes are longer.
    shown = _cut(str(text), limit)
    return _cut("".join(char if char.isprintable() else repr(char)[1:-1] for char in shown), limit)


def short_repr(value: object, limit: int = MAX_VALUE) -> str:
    r"""Return the ``repr`` of a value for a message, shortened if it is long, deep or has many items.

    >>> short_repr("a\x1b[31m" + "b" * 1000, 30)
    "'a\\x1b[31mbbbb … bbbbbbbbbbbb'"
    """
    try:
        shown = repr(_cut(value, limit)) if isinstance(value, str) else _SHORT.repr(value)
    except ValueError:  # Python does not convert an integer of more than 4,300 digits
        shown = f"a value of type {type(value).__name__} that is too long to show"
    return printable(shown, limit)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    kept = limit - len(_CUT)
    tail = kept // 2
    return f"{text[: kept - tail]}{_CUT}{text[len(text) - tail :]}"


_SHORT = reprlib.Repr()  # limits depth and items, so that a deeply nested value does not raise RecursionError
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MAX_VALUE
