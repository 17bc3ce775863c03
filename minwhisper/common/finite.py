"""Detect values that are not numbers: NaN and infinity, in weights and in what a model computes from them.

NaN passes every comparison: thresholds, maxima and beams go on as if nothing were wrong, and garbage comes out. So
weights are checked when they are loaded, and a search checks the few values that it brings down from the device.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from ..errors import NumericalError
from .backend import Array

_EXPONENT = 0x7C00  # of a float16: all ones stand for infinity and NaN
_WAY_OUT = (
    "the audio, the weights or the activations have values that are not finite: fetch the model again if its weights "
    "were not changed after loading, or load it with dtype 'float64', which overflows later"
)


def all_finite(array: Array) -> bool:
    """Return whether no value of an array is NaN or infinite.

    The largest and the smallest value tell, since both are NaN if any value is. Unlike ``np.isfinite`` this writes no
    array, and takes two thirds of its time.

    >>> all_finite(np.array([1.0, 2.0])), all_finite(np.array([1.0, np.nan])), all_finite(np.array([-np.inf, 1.0]))
    (True, False, False)
    """
    if not array.size or array.dtype.kind not in "f":
        return True
    if array.dtype == np.float16:  # NumPy compares these one by one, and their bits eight at a time
        return int((array.view(np.uint16) & 0x7FFF).max()) < _EXPONENT
    return math.isfinite(array.max()) and math.isfinite(array.min())


def check_finite(values: Iterable[float], what: str) -> None:
    """Raise :class:`NumericalError` if one of the values is NaN or +inf; −inf stands for a suppressed token.

    ``what`` names the values in the message; :func:`error_context` adds the model and the window.
    """
    for value in values:
        if math.isnan(value) or value == math.inf:
            raise NumericalError(f"{what}: expected a number, the model computed {value}; {_WAY_OUT}")


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Put a place, such as the model and the window, in front of the message of a :class:`NumericalError`.

    Of nested contexts only the outermost is named.
    """
    try:
        yield
    except NumericalError as error:
        raise NumericalError(error.problem, where) from None
