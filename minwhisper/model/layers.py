"""Chapter 2. The layers: everything a Whisper does to its numbers, as pure functions of arrays and weights.

One letter key for shapes, used in every chapter:

===  ==============================================  ===  =================================
B    batch                                           D    width of the residual stream
T    frames of the spectrogram, positions of audio   H    heads
S    positions of text                               K    width of one head, D / H
V    vocabulary                                      F    hidden width of the MLP
M    mel bins                                        I,O  a layer's input and output width
===  ==============================================  ===  =================================

No layer changes its arguments, keeps state or looks at anything but its arguments. Each computes with the library
its arrays belong to (``xp``) and returns the dtype of its first argument, an embedding that of its table. Two dtypes
need care. In float16 the arithmetic is done in float32 and the result rounded, because sums over hundreds of terms
would drown in rounding. And a weight may be stored in float16 beside float32 activations: it is widened when it is
used. Whisper was published in float16, so storing it so loses nothing.

Walkthrough: sections 3, 4 and 5.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from ..common.backend import Array, array_module, asarray_like, to_numpy

Weights: TypeAlias = Mapping[str, Any]
"""Weights by name: arrays, or mappings (and tuples) of weights."""


def working_dtype(x: Array) -> Any:
    """The dtype to calculate in: float32 for float16, otherwise that of ``x``."""
    return np.float32 if x.dtype == np.float16 else x.dtype


INNER_BLOCK = 96


def matmul(a: Array, b: Array) -> Array:
    """The matrix product ``a @ b``, (…, S, I) and (…, I, O) -> (…, S, O), with the inner sum taken in blocks.

    A running sum of float32 numbers loses more the longer it runs. BLAS libraries differ in how long they let it run
    before they start a new one: 384 terms in OpenBLAS (relative error of a product 3.5e-7), 192 in the one PyTorch
    uses (2.5e-7). Blocks of 96 whose sums are added afterwards lose 1.9e-7, at a fifth to a half more time
    (tests/benchmarks/products.py); smaller ones lose still less and cost more. A single row is left alone, because
    BLAS sums a matrix-vector product in several lanes already (1.4e-7 over 384 terms, 2.6e-7 over 1,536), and so is
    a GPU's product, which has an order of its own.
    """
    inner = a.shape[-1]
    if array_module(a) is not np:
        if a.ndim > b.ndim == 2:  # CuPy multiplies two matrices as they lie; with more axes it would copy a weight
            return (a.reshape(-1, inner) @ b).reshape(*a.shape[:-1], b.shape[-1])
        return a @ b
    if a.ndim == 1 or a.shape[-2] == 1 or inner <= INNER_BLOCK:
        return a @ b
    total = a[..., :INNER_BLOCK] @ b[..., :INNER_BLOCK, :]
    for start in range(INNER_BLOCK, inner, INNER_BLOCK):
        total += a[..., start : start + INNER_BLOCK] @ b[..., start : start + INNER_BLOCK, :]
    return total


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """An affine map of the last axis, y = x Wᵀ + b.

    x (..., I), weight (O, I), bias (O,) -> (..., O). The weight is stored as PyTorch stores it, a row for each
    output.
    """
    dtype = working_dtype(x)
    y = matmul(x.astype(dtype, copy=False), weight.astype(dtype, copy=False).T)
    if bias is not None:
        y += bias.astype(dtype, copy=False)
    return y.astype(x.dtype, copy=False)


def embedding(tokens: Array, weight: Array) -> Array:
    """A row of the table for each id: tokens (B, S), weight (V, D) -> (B, S, D).

    It is the product of one-hot rows with the table, without the multiplications by zero.
    """
    return weight[tokens]


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Give each position mean 0 and variance 1, then a learned scale and shift. (..., D) -> (..., D).

    Ba et al., 2016, equation 4. The variance is that of the centred values: E[x²] - E[x]² would cancel.
    """
    dtype = working_dtype(x)
    xp = array_module(x)
    centred = x.astype(dtype, copy=False) - x.mean(axis=-1, keepdims=True, dtype=dtype)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    centred /= xp.sqrt(variance + eps)
    centred *= weight.astype(dtype, copy=False)
    centred += bias.astype(dtype, copy=False)
    return centred.astype(x.dtype, copy=False)


# Φ(x), the normal distribution function, is (1 + tanh(x p(x²))) / 2 for an even function p that a polynomial follows
# closely. These coefficients of 1, x², x⁴ … minimise the largest error of x Φ(x) over x² ≤ 32
# (tests/golden/fit_gelu.py); beyond it tanh is 1 in float32 and p may stay where it is. The well-known "tanh
# approximation" has the same form with a p of two terms, 0.79788 (1 + 0.044715 x²), and is off by up to 5e-4.
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


def gelu(x: Array) -> Array:
    """The Gaussian error linear unit, x Φ(x) = x/2 (1 + erf(x/√2)). Same shape out.

    Hendrycks and Gimpel, 2016. This is the exact function, not its tanh approximation: in float32 the error is at
    most 5e-7, half of what PyTorch's own GELU shows. In float64, which is for checking, erf comes from Python's
    ``math`` one element at a time: exact and slow.
    """
    xp = array_module(x)
    if x.dtype == np.float64:
        erf = np.frompyfunc(math.erf, 1, 1)(to_numpy(x) / math.sqrt(2.0))
        return x * 0.5 * (1.0 + asarray_like(np.asarray(erf, np.float64), x))
    wide = x.astype(working_dtype(x), copy=False)
    square = xp.minimum(wide * wide, GELU_LIMIT)
    p = xp.full_like(wide, GELU_COEFFICIENTS[-1])
    for coefficient in GELU_COEFFICIENTS[-2::-1]:  # Horner's rule, from the highest power down
        p *= square
        p += coefficient
    p *= wide
    xp.tanh(p, out=p)
    p += 1.0
    p *= wide
    p *= 0.5
    return p.astype(x.dtype, copy=False)


def softmax(x: Array) -> Array:
    """Positive numbers that sum to one along the last axis, exp(x) / Σ exp(x). Same shape out.

    The maximum is subtracted first: it changes nothing, and exp cannot overflow. An entry of -inf becomes 0.
    """
    xp = array_module(x)
    wide = x.astype(working_dtype(x), copy=False)
    e = wide - wide.max(axis=-1, keepdims=True)
    xp.exp(e, out=e)
    e /= e.sum(axis=-1, keepdims=True)
    return e.astype(x.dtype, copy=False)


def log_softmax(x: Array) -> Array:
    """The logarithm of :func:`softmax`, without the rounding of going there and back. Same shape out."""
    xp = array_module(x)
    wide = x.astype(working_dtype(x), copy=False)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    shifted -= xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted.astype(x.dtype, copy=False)


def conv1d(x: Array, weight: Array, bias: Array, stride: int = 1) -> Array:
    """A convolution over time with kernel 3 and one zero of padding on each side, as three matrix products.

    x (B, T, I), weight (O, I, 3), bias (O,) -> (B, ⌈T / stride⌉, O). Output t sees the inputs
    stride·t - 1, stride·t and stride·t + 1, and each of the three has a matrix of its own. (XLA's and TensorFlow's
    "same" padding with stride 2 would put the zero only behind an even-length input: every window one frame late.)
    """
    xp = array_module(x)
    dtype = working_dtype(x)
    batch, length, width = x.shape
    padded = xp.zeros((batch, length + 2, width), dtype=dtype)
    padded[:, 1:-1] = x
    taps = xp.ascontiguousarray(weight.astype(dtype, copy=False).transpose(2, 1, 0))  # (O, I, 3) -> (3, I, O)
    y = matmul(padded[:, :length:stride], taps[0])  # (B, ⌈T / stride⌉, I) @ (I, O)
    y += matmul(padded[:, 1 : 1 + length : stride], taps[1])
    y += matmul(padded[:, 2 : 2 + length : stride], taps[2])
    y += bias.astype(dtype, copy=False)
    return y.astype(x.dtype, copy=False)


def split_heads(x: Array, heads: int) -> Array:
    """Cut the width into heads: (B, S, D) -> (B, H, S, K)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)


def merge_heads(x: Array) -> Array:
    """Put the heads side by side again: (B, H, S, K) -> (B, S, D)."""
    batch, heads, length, width = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * width)


def keys_and_values(source: Array, weights: Weights, heads: int) -> tuple[Array, Array]:
    """What a source offers to attention: source (B, T, D) -> keys (B, H, K, T), values (B, H, T, K).

    The keys come transposed, as the product with the queries wants them, so that a cache can keep them that way.
    """
    keys = split_heads(linear(source, **weights["key"]), heads)
    values = split_heads(linear(source, **weights["value"]), heads)
    return keys.transpose(0, 1, 3, 2), values


def attention_scores(queries: Array, keys: Array) -> Array:
    """How well each key answers each query, Q Kᵀ / √K: (…, S, K) and (…, K, T) -> (…, S, T), in the working dtype."""
    dtype = working_dtype(queries)
    scale = queries.shape[-1] ** -0.5  # K is 64 in all published sizes: exactly 1/8
    return matmul(queries.astype(dtype, copy=False) * scale, keys.astype(dtype, copy=False))


def attend(queries: Array, keys: Array, values: Array, mask: Array | None = None) -> Array:
    """Scaled dot-product attention, softmax(Q Kᵀ / √K) V.

    queries (B, H, S, K), keys (B, H, K, T), values (B, H, T, K), mask (S, T) added to the scores -> (B, H, S, K).
    Vaswani et al., 2017, equation 1.
    """
    scores = attention_scores(queries, keys)  # (B, H, S, K), (B, H, K, T) -> (B, H, S, T)
    if mask is not None:
        scores += mask
    values = values.astype(scores.dtype, copy=False)
    mixed = matmul(softmax(scores), values)  # (B, H, S, T) @ (B, H, T, K) -> (B, H, S, K)
    return mixed.astype(queries.dtype, copy=False)


def causal_mask(length: int, past: int, like: Array) -> Array:
    """What position i of ``length`` new ones may see: the ``past`` ones and the new ones up to itself.

    Returns (length, past + length) of 0 where it may look and -inf where it may not, with the library of ``like``.
    """
    xp = array_module(like)
    return xp.triu(xp.full((length, past + length), -math.inf, dtype=working_dtype(like)), past + 1)


def attention(x: Array, weights: Weights, heads: int, *, source: Array | None = None, causal: bool = False) -> Array:
    """Multi-head attention: every position of ``x`` asks, every position of ``source`` answers.

    x (B, S, D), source (B, T, D) -> (B, S, D). Without a source, ``x`` answers itself (self-attention); with one it
    is cross-attention. With ``causal``, a position sees only itself and those before it. The key has no bias:
    it would add the same number to every score of a query, and softmax would take it out again.
    """
    queries = split_heads(linear(x, **weights["query"]), heads)
    keys, values = keys_and_values(x if source is None else source, weights, heads)
    mask = causal_mask(x.shape[1], 0, x) if causal else None
    return linear(merge_heads(attend(queries, keys, values, mask)), **weights["out"])


def mlp(x: Array, weights: Weights) -> Array:
    """Two linear maps with a GELU between, at every position alone: (B, S, D) -> (B, S, F) -> (B, S, D)."""
    return linear(gelu(linear(x, **weights["fc1"])), **weights["fc2"])
