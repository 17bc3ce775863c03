"""Comparing the results of an answer with the expected ones, and checking their kind."""

from typing import Any, TypeAlias

import numpy as np

from ..printable import short_repr

Results: TypeAlias = list[tuple[str, Any]]
"""The results of a test case, as (description, value); a value is an array, a list or a number."""

MAX_SHOWN = 200  # characters of a result in a hint


class WrongAnswer(Exception):
    """Raised for an answer that is wrong before any value is compared; the message is the hint."""


def results_difference(expected: Results, actual: Results, tolerance: float, equal_nan: bool = False) -> str | None:
    """Describe the first difference that exceeds the tolerance, or return None if there is none.

    >>> results_difference([("the result", np.array([1.0, 2.0]))], [("the result", np.array([1.0, 2.5]))], 1e-4)
    'the result at [1] is 2.5, expected 2'
    """
    for (what, want), (_, have) in zip(expected, actual, strict=True):
        if not isinstance(want, np.ndarray | float):
            if have != want:
                return f"{what} is {_shown(have)}, expected {_shown(want)}"
            continue
        want, have = np.asarray(want), np.asarray(have)
        if want.shape != have.shape:
            return f"{what} has the shape {have.shape}, expected {want.shape}"
        wrong = ~np.isclose(have, want, rtol=0.0, atol=tolerance, equal_nan=equal_nan)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            at = f" at {list(place)}" if place else ""
            others = f"; {wrong.sum():,} of {wrong.size:,} values are wrong" if wrong.sum() > 1 else ""
            return f"{what}{at} is {have[place]:.6g}, expected {want[place]:.6g}{others}"
    return None


def as_real_array(value: Any, what: str = "the result") -> Any:
    """Return the value if it is an array of real numbers, or raise ``WrongAnswer``."""
    if not isinstance(value, np.ndarray | np.generic) or (isinstance(value, np.generic) and value.ndim == 0):
        raise WrongAnswer(f"{what} is {kind(value)}, expected a NumPy array")
    if value.dtype.kind == "c":
        raise WrongAnswer(f"{what} is complex, expected real numbers: take the square of the absolute value")
    if value.dtype.kind not in "fiu":
        raise WrongAnswer(f"{what} is an array of {value.dtype}, expected float32 or float64")
    return np.asarray(value)


def as_pair(value: Any, first: str, second: str) -> tuple[Any, Any]:
    """Return the value if it is a tuple of two, or raise ``WrongAnswer``."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise WrongAnswer(f"the result is {kind(value)}, expected a tuple of two: ({first}, {second})")
    return value


def as_tokens_and_sum(value: Any) -> tuple[list[int], float]:
    """Return the value if it is a list of tokens and a number, or raise ``WrongAnswer``."""
    tokens, total = as_pair(value, "tokens", "sum_logprob")
    try:
        return [int(token) for token in tokens], float(total)
    except (TypeError, ValueError):
        raise WrongAnswer(
            f"the result is ({short_repr(tokens)}, {short_repr(total)}), expected a list of tokens and a number"
        ) from None


def as_token(value: Any, what: str) -> int:
    """Return the value as an integer, or raise ``WrongAnswer``."""
    try:
        token = int(value)
        if token != value:
            raise ValueError
    except (TypeError, ValueError):
        raise WrongAnswer(f"{what} is {short_repr(value)}, expected a token, an integer") from None
    return token


def as_strings(value: Any, what: str) -> list[str]:
    """Return the value as a list if it is a list or tuple of strings, or raise ``WrongAnswer``."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise WrongAnswer(f"{what} is {short_repr(value)}, expected a list of strings")
    return [str.__str__(one) for one in value]  # not a subclass, whose == could do anything


def kind(value: Any) -> str:
    """Describe a value by its type and size."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
