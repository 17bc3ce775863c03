"""Check option values.

A value may come from a program, a configuration file or NumPy. An invalid one raises ``OptionError`` with a
one-line message. Collections are read only up to a limit, and long values are abbreviated.

Walkthrough: section 11.
"""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from numbers import Integral, Real
from operator import index
from typing import Any

import numpy as np

from ..errors import OptionError
from ..printable import MAX_VALUE, short_repr

MAX_ITEMS = 65_536  # of a collection; more than a vocabulary has, and iterators can be infinite
MAX_TEXT = 100_000  # characters of a prompt; at most 223 of its tokens are used
MAX_SEED = 2**128 - 1  # the state of a generator has 128 bits

OPTION_HINTS = {
    "fp16": "the precision is chosen when the model is loaded: load_model(name, dtype='float16')",
    "verbose": "nothing is printed; iterate over model.stream(…), or pass a progress callback",
    "prompt": "in a transcription every window has its own prompt; use initial_prompt",
}


def check_names(options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise ``OptionError`` for the first unknown name, and suggest a similar known one."""
    for name in options:
        if name not in known:
            near = " or ".join(map(repr, get_close_matches(name[:MAX_VALUE], known)))
            hint = f"did you mean {near}? " if near else ""
            if name in OPTION_HINTS:
                raise OptionError(f"{name}: {OPTION_HINTS[name]}")
            raise OptionError(f"unknown option {short_repr(name)}: {hint}expected one of {', '.join(known)}")


def check_number(
    name: str,
    value: Any,
    expected: str,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    above: float = -math.inf,
    optional: bool = False,
) -> None:
    """Raise ``OptionError`` unless the value is a finite number from ``minimum`` to ``maximum``.

    NumPy's numbers are accepted, here and in ``check_count``; True and False are not.
    """
    if value is None and optional:
        return
    number = as_float(value)
    if not (math.isfinite(number) and minimum <= number <= maximum and number > above):
        raise OptionError(f"{name}: expected {expected}, got {short_repr(value)}")


def as_float(value: Any) -> float:
    """Return a real number as a float, or NaN for anything else and for an integer too large for a float."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def use_builtin_numbers(options: Any) -> None:
    """Convert the numbers in a frozen dataclass, such as those of NumPy, to Python's int and float, in place."""
    for name, value in vars(options).items():
        if isinstance(value, Integral) and not isinstance(value, bool):
            object.__setattr__(options, name, int(value))
        elif isinstance(value, Real) and not isinstance(value, bool | float):
            object.__setattr__(options, name, float(value))


def check_count(name: str, value: Any, *, optional: bool = True, minimum: int = 1, maximum: int | None = None) -> None:
    """Raise ``OptionError`` unless the value is a whole number from ``minimum`` to ``maximum``."""
    if value is None and optional:
        return
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < minimum:
        limit = f"at least {minimum}" if minimum else "0 or more"
    elif maximum is not None and int(value) > maximum:
        limit = f"at most {maximum}"
    else:
        return
    raise OptionError(f"{name}: expected a whole number, {limit}, got {short_repr(value)}")


def check_seed(value: Any) -> None:
    """Raise ``OptionError`` unless the value can seed a random number generator."""
    check_count("seed", value, optional=False, minimum=0, maximum=MAX_SEED)


def check_generator(value: Any) -> None:
    """Raise ``OptionError`` unless the value is a random number generator, or None."""
    if not isinstance(value, np.random.Generator | None):
        raise OptionError(
            f"generator: expected a numpy.random.Generator, such as default_rng(0), got {short_repr(value)}"
        )


def check_flag(name: str, value: Any, expected: str = "True or False") -> None:
    """Raise ``OptionError`` unless the value is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name}: expected {expected}, got {short_repr(value)}")


def check_text(name: str, value: Any, expected: str, *, optional: bool = True) -> None:
    """Raise ``OptionError`` unless the value is a string of reasonable length."""
    if value is None and optional:
        return
    if not isinstance(value, str):
        raise OptionError(f"{name}: expected {expected}, got {short_repr(value)}")
    if len(value) > MAX_TEXT:
        raise OptionError(f"{name}: expected at most {MAX_TEXT:,} characters, got {len(value):,}")


def as_tuple(name: str, value: Any, maximum: int = MAX_ITEMS) -> tuple[Any, ...] | None:
    """Return the items of a collection as a tuple, or None for a string or anything that is not a collection.

    Raises ``OptionError`` for more than ``maximum`` items, such as those of an infinite iterator.
    """
    if isinstance(value, str | bytes | bytearray):
        return None
    try:
        items = tuple(islice(value, maximum + 1))
    except TypeError:
        return None
    if len(items) > maximum:
        raise OptionError(f"{name}: expected at most {maximum:,} values, got more")
    return items


def as_token_ids(name: str, value: Any, expected: str) -> str | tuple[int, ...] | None:
    """Return a string or None unchanged, and a collection as token ids. Raises ``OptionError`` otherwise."""
    if value is None or isinstance(value, str):
        check_text(name, value, expected)
        return value
    items = as_tuple(name, value)
    if items is None:
        raise OptionError(f"{name}: expected {expected}, got {short_repr(value)}")
    for item in items:
        if not isinstance(item, Integral) or isinstance(item, bool):  # a float would have to be rounded
            raise OptionError(f"{name}: expected {expected}, got {short_repr(item)} among them")
    return tuple(map(index, items))
