"""Detect NaN and infinity in weights and in the values computed from them.

Comparisons with NaN are false, so thresholds, maxima and beam search continue without an error and the output is
nonsense. Weights are therefore checked when they are loaded, and decoding checks the few values that it copies from the
device.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from ..errors import NumericalError
from .backend import Array

_EXPONENT = 0x7C00  # of a float16; all ones for infinity and NaN
_REMEDY = (
    "the audio, the weights or the activations are not finite: download the model again, unless you have changed its "
    "weights, or load it with dtype 'float64', which overflows later"
)


def all_finite(array: Array) -> bool:
    """Return True if no value of an array is NaN or infinite.

    The maximum and minimum suffice, because both are NaN if any value is. Unlike ``np.isfinite`` this allocates no
    array, and takes two thirds of the time.

    >>> all_finite(np.array([1.0, 2.0])), all_finite(np.array([1.0, np.nan])), all_finite(np.array([-np.inf, 1.0]))
    (True, False, False)
    """
    if not array.size or array.dtype.kind not in "f":
        return True
    if array.dtype == np.float16:  # comparing the bits as integers is vectorised
        return int((array.view(np.uint16) & 0x7FFF).max()) < _EXPONENT
    return math.isfinite(array.max()) and math.isfinite(array.min())


def check_finite(values: Iterable[float], what: str) -> None:
    """Raise ``NumericalError`` if a value is NaN or +inf; −inf is allowed, for suppressed tokens.

    ``what`` names the values in the message; ``error_context`` adds the model and the window.
    """
    for value in values:
        if math.isnan(value) or value == math.inf:
            raise NumericalError(f"{what}: expected a finite value, the model computed {value}; {_REMEDY}")


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Prefix the message of a ``NumericalError`` with its context, such as the model and the window.

    If contexts are nested, only the outermost one is used.
    """
    try:
        yield
    except NumericalError as error:
        raise NumericalError(error.problem, where) from None
