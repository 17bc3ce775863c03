"""The layers of ``model.layers`` on one CPU core, in place or into buffers.

All take float32 and one position per row, (S, D). Arrays larger than a core's cache cost more than the matrix
products: softmax over all scores of a head takes four times as long as over a part that fits. So does fresh memory,
which ``Workspace`` avoids. Callers keep arrays small with tiles of ``TILE`` positions. A product or a GELU of one tile
still takes long enough that other threads seldom wait for Python's lock.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...common.backend import Array, address
from ...model.layers import Weights
from ...model.numerics import GELU_COEFFICIENTS, GELU_LIMIT
from .threads import Workspace

TILE = 125  # positions; the 1,500 of a window are twelve tiles, which 2, 3, 4 and 6 threads share evenly
SUM_BLOCK = 128  # terms of an inner sum; numerics.INNER_BLOCK is 96: as exact in the end, and a little slower
ROW_SUM_BLOCK = 375  # the same for one row of scores times values: longer sums take a buffer, under OpenBLAS's lock
MAX_SAFE_SCORE = 70.0  # up to this size, sums of 1,500 exp(score) times values stay far from overflow and underflow

workspace = Workspace()


def tiles(length: int, size: int = TILE) -> list[slice]:
    """Return the rows of each tile."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


class Linear(NamedTuple):
    """A linear map, or several maps of the same x concatenated: weight (I, O), row by row in memory, and bias (O,)."""

    weight: Array
    bias: Array

    @classmethod
    def of(cls, *maps: Weights) -> Self:
        """Concatenate maps of the layers, with weights (O, I). A missing bias becomes zero."""
        return cls(concat_weights([w["weight"] for w in maps]), concat_biases(maps))


def concat_biases(maps: Sequence[Weights]) -> Array:
    """Concatenate the biases of several maps: (ΣO,). A missing one becomes zero."""
    return np.concatenate([w["bias"] if "bias" in w else np.zeros(len(w["weight"]), np.float32) for w in maps])


def concat_weights(weights: Sequence[Array]) -> Array:
    """Concatenate the transposes of weights (O, I): (I, ΣO), contiguous.

    Nothing is copied if they are adjacent in memory, as ``fast.cpu.weights.empty_weights`` makes them.
    """
    whole, shape = weights[0].base, (weights[0].shape[1], sum(map(len, weights)))
    if isinstance(whole, np.ndarray) and whole.shape == shape and whole.flags.c_contiguous:
        starts = np.cumsum([0, *map(len, weights)])
        if all(
            w.base is whole and w.strides == whole.strides[::-1] and address(w) == address(whole) + start * w.itemsize
            for w, start in zip(weights, starts, strict=False)
        ):
            return whole
    return np.ascontiguousarray(np.concatenate([w.T for w in weights], axis=1))


# ------------------------------------------------------------------------------------------ layers with buffers


def matmul(a: Array, b: Array, out: Array) -> Array:
    """Compute ``model.numerics.matmul`` into ``out``, also in blocks: (S, I) (I, O) -> (S, O)."""
    inner = a.shape[-1]
    if a.shape[-2] == 1 or inner <= SUM_BLOCK:
        return np.matmul(a, b, out=out)
    np.matmul(a[:, :SUM_BLOCK], b[:SUM_BLOCK], out=out)
    part = workspace("part of a product", *out.shape)
    for start in range(SUM_BLOCK, inner, SUM_BLOCK):
        np.matmul(a[:, start : start + SUM_BLOCK], b[start : start + SUM_BLOCK], out=part)
        out += part
    return out


def linear(x: Array, weight: Array, bias: Array, out: Array) -> Array:
    """Compute ``model.layers.linear`` into ``out``: x (S, I), weight (I, O), bias (O,) -> (S, O)."""
    matmul(x, weight, out)
    out += bias
    return out


def layer_norm(x: Array, weight: Array, bias: Array, out: Array, eps: float = 1e-5) -> Array:
    """Compute ``model.layers.layer_norm`` into ``out``, which may be ``x``. (S, D) -> (S, D)."""
    share = np.float32(1 / x.shape[-1])
    mean = np.add.reduce(x, axis=-1, keepdims=True)
    mean *= share
    np.subtract(x, mean, out=out)
    variance = np.vecdot(out, out)[:, None]
    variance *= share
    variance += np.float32(eps)
    out /= np.sqrt(variance, out=variance)
    out *= weight
    out += bias
    return out


def gelu(x: Array) -> Array:
    """Compute ``model.layers.gelu`` in place. (S, F) -> (S, F)."""
    square, p = workspace("gelu: x²", *x.shape), workspace("gelu: p", *x.shape)
    np.multiply(x, x, out=square)
    np.minimum(square, GELU_LIMIT, out=square)
    np.multiply(square, GELU_COEFFICIENTS[-1], out=p)
    p += GELU_COEFFICIENTS[-2]
    for coefficient in GELU_COEFFICIENTS[-3::-1]:
        p *= square
        p += coefficient
    p *= x
    np.tanh(p, out=p)
    p += 1.0
    x *= 0.5
    x *= p
    return x


def attend(
    queries: Array,
    keys: Array,
    values: Array,
    mask: Array | None = None,
    out: Array | None = None,
    max_score: float = math.inf,
) -> Array:
    """Compute ``model.layers.attend``, into ``out`` if given.

    queries (…, S, K), keys (…, K, T), values (…, T, K), mask (S, T) -> (…, S, K).
    The queries must already be scaled. Division by the sum of the weights comes last, because the result has fewer
    values than the weights. Softmax subtracts the largest score to keep exp in bounds. That is skipped if
    ``max_score``, a bound on the absolute value of all scores, is at most ``MAX_SAFE_SCORE``.
    """
    *lead, length, _ = queries.shape
    positions = keys.shape[-1]
    scores = np.matmul(queries, keys, out=workspace("scores", *lead, length, positions))
    if mask is not None:
        scores += mask
    if max_score > MAX_SAFE_SCORE:
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=-1, keepdims=True)
    block = TILE if length > 1 else ROW_SUM_BLOCK
    mixed = np.matmul(scores, values, out=out) if positions <= block else weighted_sum(scores, values, out, block)
    mixed /= total
    return mixed


def weighted_sum(weights: Array, values: Array, out: Array | None, block: int = TILE) -> Array:
    """Multiply attention weights (…, S, T) by values (…, T, K), with the inner sum in blocks that share one call."""
    *lead, length, positions = weights.shape
    blocks, rest = divmod(positions, block)
    row, column = weights.strides[-2:]
    left = as_strided(weights, (*lead, blocks, length, block), (*weights.strides[:-2], block * column, row, column))
    row, column = values.strides[-2:]
    width = values.shape[-1]
    right = as_strided(values, (*lead, blocks, block, width), (*values.strides[:-2], block * row, row, column))
    parts = np.matmul(left, right, out=workspace("mixed", *lead, blocks, length, width))
    out = np.add.reduce(parts, axis=-3, out=out)
    if rest:
        out += weights[..., positions - rest :] @ values[..., positions - rest :, :]
    return out


def mlp(x: Array, fc1: Linear, fc2: Linear, out: Array) -> Array:
    """Compute ``model.layers.mlp`` into ``out``. (S, D) -> (S, D)."""
    hidden = linear(x, *fc1, out=workspace("mlp", len(x), fc1.weight.shape[1]))
    return linear(gelu(hidden), *fc2, out=out)
