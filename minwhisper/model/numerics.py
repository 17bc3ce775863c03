"""Numerics: matrix products with smaller errors, the normal CDF, and array functions for both CPU and GPU.

The layers use these functions as if they were NumPy's. They differ from NumPy's in three ways:

- *Exactness.* ``matmul`` sums in blocks, which halves its error. NumPy has no ``normal_cdf``.
- *Portability.* An array belongs to NumPy or to CuPy. Each function calls the library of its arguments (``xp``).
- *Storage.* Weights may be stored in float16, in which Whisper was published, but all arithmetic is in float32 or
  float64. ``matmul`` converts its second argument to the dtype of the first. In sums and element-wise products
  the library itself promotes float16 to float32.

Walkthrough: sections 5, 14 and 15.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..common.backend import Array, array_module, asarray_like, to_numpy

INNER_BLOCK = 96  # terms of an inner sum that matmul adds at a time on a CPU
WIDENED_COLUMNS = 4096  # columns of a float16 matrix that a GPU converts to float32 at a time


def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product ``a @ b``: (…, S, I) and (…, I, O) -> (…, S, O), in the dtype of ``a``.

    A running sum in float32 loses more precision the longer it gets. BLAS libraries differ in the number of terms after
    which they start a new one: 384 in OpenBLAS, with a relative error of 3.5e-7. Here the inner sum is split into
    blocks of 96 terms, which lowers the error to 1.9e-7 and takes 30 to 70 % more time (tests/benchmarks/products.py).
    Smaller blocks are more exact and slower.

    Two cases need no blocks: a single row, because BLAS computes a matrix-vector product in several partial sums
    anyway (1.4e-7 over 384 terms, 2.6e-7 over 1,536), and a GPU, which has its own order of summation.
    """
    if array_module(a) is not np:
        return _matmul_on_gpu(a, b)
    b = b.astype(a.dtype, copy=False)
    inner = a.shape[-1]
    if a.ndim == 1 or a.shape[-2] == 1 or inner <= INNER_BLOCK:
        return a @ b
    total = a[..., :INNER_BLOCK] @ b[..., :INNER_BLOCK, :]
    for start in range(INNER_BLOCK, inner, INNER_BLOCK):
        total += a[..., start : start + INNER_BLOCK] @ b[..., start : start + INNER_BLOCK, :]
    return total


def _matmul_on_gpu(a: Array, b: Array) -> Array:
    columns = b.shape[-1]
    if a.ndim > b.ndim == 2:  # CuPy multiplies two matrices in place, but with more axes it would copy the weight
        return _matmul_on_gpu(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], columns)
    if a.dtype == b.dtype or columns <= WIDENED_COLUMNS:
        return a @ b.astype(a.dtype, copy=False)
    # In float32 the token embedding would be the largest array of the model, so it is converted part by part.
    out: Array = array_module(a).empty((*a.shape[:-1], columns), a.dtype)
    for start in range(0, columns, WIDENED_COLUMNS):
        part = slice(start, start + WIDENED_COLUMNS)
        out[..., part] = a @ b[..., part].astype(a.dtype)
    return out


# Φ(x) is (1 + tanh(x p(x²))) / 2 for an even function p that a polynomial follows closely. These coefficients of 1, x²,
# x⁴ … minimise the largest error of x Φ(x) over x² ≤ 32 (tests/golden/fit_gelu.py); beyond it tanh is 1 in float32 and
# p may stay constant. The well-known "tanh approximation" of GELU has the same form with a p of two terms,
# 0.79788 (1 + 0.044715 x²), and is off by up to 5e-4.
GELU_LIMIT = 32.0
GELU_COEFFICIENTS = (
    0.797884883,
    0.0363340884,
    -3.47249703e-05,
    -5.3684383e-05,
    3.38941728e-06,
    -2.62083764e-08,
    -8.82612271e-09,
    5.65380707e-10,
    -1.4930935e-11,
    1.50563621e-13,
)


def normal_cdf(x: Array) -> Array:
    """Return Φ(x) = (1 + erf(x/√2)) / 2, the cumulative distribution function of the normal distribution.

    NumPy has no erf. In float32 a polynomial inside a tanh takes its place: with it the error of x Φ(x) is at most
    5e-7. (That of PyTorch's GELU is twice as large on CPUs with AVX-512, and 3.8e-7 with AVX2 alone.) In float64, which
    is for checking, erf comes from Python's ``math``, one element at a time: exact and slow.
    """
    xp = array_module(x)
    if x.dtype == np.float64:
        erf = np.frompyfunc(math.erf, 1, 1)(to_numpy(x) / math.sqrt(2.0))
        return 0.5 * (1.0 + asarray_like(np.asarray(erf, np.float64), x))
    square = xp.minimum(x * x, GELU_LIMIT)
    p = xp.full_like(x, GELU_COEFFICIENTS[-1])
    for coefficient in GELU_COEFFICIENTS[-2::-1]:  # Horner's rule, from the highest power down
        p *= square
        p += coefficient
    p *= x
    xp.tanh(p, out=p)
    p += 1.0
    p *= 0.5
    return p


def _portable(name: str) -> Callable[..., Array]:
    """Return NumPy's function of this name, which calls CuPy's if its first argument is, or holds, arrays of CuPy."""

    def function(x: Any, *args: Any, **options: Any) -> Array:
        xp = array_module(x[0] if isinstance(x, list | tuple) else x)
        result: Array = getattr(xp, name)(x, *args, **options)
        return result

    function.__name__ = name
    function.__doc__ = f"Call ``numpy.{name}``, or CuPy's if the first argument is, or holds, arrays of CuPy."
    return function


ascontiguousarray = _portable("ascontiguousarray")
concatenate = _portable("concatenate")
exp = _portable("exp")
full_like = _portable("full_like")
log = _portable("log")
pad = _portable("pad")
sqrt = _portable("sqrt")
triu = _portable("triu")
