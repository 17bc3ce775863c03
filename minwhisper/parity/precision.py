"""The precision that explains a difference: the errors that each precision would cause in a stage, found by trying.

A stage is computed once more with its weights, inputs and results rounded to the precision. The error of the result is
what a correct implementation with this precision can be expected to have, whatever the stage does to rounding errors.
"""

from collections.abc import Callable

import numpy as np

from ..common.backend import Array, to_numpy

SLACK = 8.0  # the error of a correct float32 may be this many times ours: sums differ in order and length
COARSE_SLACK = 3.0  # the same for lower precisions, whose errors are those of rounding alone
FLOAT64_ERROR = 1e-11  # relative difference
LOW = ("float16", "bfloat16", "int8")  # from fine to coarse


def to_float32(array: Array) -> Array:
    """Return an array in float32."""
    return to_numpy(array).astype(np.float32, copy=False)


def round_mantissa(array: Array, bits: int) -> Array:
    """Round to float32 values with ``bits`` bits of mantissa: 10 for float16 and TF32, 7 for bfloat16."""
    drop = 23 - bits
    whole = np.ascontiguousarray(to_float32(array)).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1) + ((whole >> np.uint32(drop)) & np.uint32(1))  # to even
    rounded: Array = ((whole + half) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)).view(np.float32)
    return np.where(np.isfinite(array), rounded, to_float32(array))


def round_to_int8(array: Array) -> Array:
    """Round to 255 levels, from minus to plus the largest value of each row of the last axis."""
    values = to_float32(array)
    finite = np.where(np.isfinite(values), values, 0)
    step = np.maximum(np.abs(finite).max(axis=-1, keepdims=True), 1e-30) / 127
    return np.where(np.isfinite(values), np.round(finite / step) * step, values)


ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "float16": lambda array: round_mantissa(array, 10),
    "bfloat16": lambda array: round_mantissa(array, 7),
    "int8": round_to_int8,
}
"""The rounding to each of the lower precisions."""


def representable(array: Array) -> str | None:
    """Return the coarsest of float16 and bfloat16 that holds all values exactly, or None."""
    finite = array[np.isfinite(array)]
    if np.array_equal(round_mantissa(finite, 7), finite):
        return "bfloat16"
    with np.errstate(over="ignore"):
        return "float16" if np.array_equal(finite.astype(np.float16), finite) else None


def relative_error(values: Array, exact: Array) -> float:
    """Return ‖values - exact‖ / ‖exact‖ in float64; infinities in the same places count as equal.

    It is infinite for another shape, for NaN, and for infinities in other places.
    """
    if values.shape != exact.shape:
        return np.inf
    infinite = ~np.isfinite(exact)
    if infinite.any() or not np.isfinite(values).all():
        if not np.array_equal(values[infinite], exact[infinite]) or not np.isfinite(values[~infinite]).all():
            return np.inf
        values, exact = values[~infinite], exact[~infinite]
    size = float(np.linalg.norm(exact.ravel()))
    difference = np.linalg.norm(np.subtract(values, exact, dtype=np.float64).ravel())
    return float(difference) / size if size else (0.0 if not difference else np.inf)


def name_precision(error: float, expected: dict[str, float], theirs: Array) -> str | None:
    """Return the precision that explains an error larger than float32's, or None.

    ``expected`` has the error of each of ``LOW``. float16 and bfloat16 are distinguished from TF32, whose results are
    float32, by values that are all representable in them.
    """
    held = representable(theirs)
    if error <= COARSE_SLACK * expected["float16"]:
        return "float16" if held == "float16" else "bfloat16" if held == "bfloat16" else "TF32"
    if held == "float16" and error <= 30 * expected["float16"]:
        return "float16 with sums in float16"
    if error <= COARSE_SLACK * expected["bfloat16"]:
        return "bfloat16" if held == "bfloat16" else "int8 or bfloat16"
    return "int8" if error <= COARSE_SLACK * expected["int8"] else None
