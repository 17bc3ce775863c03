"""The layers on one core of a CPU: what :mod:`minwhisper.model.layers` computes, in place or into buffers.

All of them take float32 and positions as rows, (S, D). Arrays that are larger than a core's cache cost more than the
products of matrices: softmax over all scores of a head takes four times as long as over a part that fits. So does
fresh memory, which :class:`~minwhisper.fast.cpu.threads.Workspace` avoids. Callers see to the first with tiles of
:data:`TILE` positions, and a product or a GELU of one tile is still long enough that a second thread is not kept
waiting for Python's lock.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...common.backend import Array
from ...model.layers import GELU_COEFFICIENTS, GELU_LIMIT, Weights
from .threads import Workspace

TILE = 125  # positions; of the 1,500 there are twelve, which 2, 3, 4 and 6 threads share evenly

INNER_BLOCK = 128  # of the inner sum; the layers have 96: these are as exact in what comes out, and a little faster
ROW_BLOCK = 375  # the same where one row of scores meets the values: longer sums take a buffer, under OpenBLAS's lock
scratch = Workspace()


def tiles(length: int, size: int = TILE) -> list[slice]:
    """The rows of each tile."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


class Linear(NamedTuple):
    """A linear map, or several of one x side by side: weight (I, O), laid out row by row, and bias (O,)."""

    weight: Array
    bias: Array

    @classmethod
    def of(cls, *maps: Weights) -> Self:
        """Maps as the layers have them, with weights (O, I), as one. A missing bias is zero."""
        return cls(side_by_side([w["weight"] for w in maps]), biases(maps))


def biases(maps: Sequence[Weights]) -> Array:
    """The biases of several maps of one x, one behind the other: (ΣO,). A missing one is zero."""
    return np.concatenate([w["bias"] if "bias" in w else np.zeros(len(w["weight"]), np.float32) for w in maps])


def address(array: Array) -> int:
    """Where an array begins in memory."""
    return int(array.__array_interface__["data"][0])


def side_by_side(weights: Sequence[Array]) -> Array:
    """The transposes of weights (O, I), one next to the other: (I, ΣO), contiguous.

    Where that is how they lie in memory already (:func:`minwhisper.fast.cpu.weights.empty_weights`), it is that memory.
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


# ------------------------------------------------------------------------------------------ layers, with buffers


def matmul(a: Array, b: Array, out: Array) -> Array:
    """:func:`minwhisper.model.layers.matmul` into ``out``, in blocks, too: (S, I) (I, O) -> (S, O)."""
    inner = a.shape[-1]
    if a.shape[-2] == 1 or inner <= INNER_BLOCK:
        return np.matmul(a, b, out=out)
    np.matmul(a[:, :INNER_BLOCK], b[:INNER_BLOCK], out=out)
    part = scratch("product", *out.shape)
    for start in range(INNER_BLOCK, inner, INNER_BLOCK):
        np.matmul(a[:, start : start + INNER_BLOCK], b[start : start + INNER_BLOCK], out=part)
        out += part
    return out


def linear(x: Array, weight: Array, bias: Array, out: Array) -> Array:
    """:func:`minwhisper.model.layers.linear` into ``out``: x (S, I), weight (I, O), bias (O,) -> (S, O)."""
    matmul(x, weight, out)
    out += bias
    return out


def layer_norm(x: Array, weight: Array, bias: Array, out: Array, eps: float = 1e-5) -> Array:
    """:func:`minwhisper.model.layers.layer_norm` into ``out``, which may be ``x``. (S, D) -> (S, D)."""
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
    """:func:`minwhisper.model.layers.gelu` in place. (S, F) -> (S, F)."""
    square, p = scratch("gelu: x²", *x.shape), scratch("gelu: p", *x.shape)
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


SAFE = 70.0  # exp of numbers up to this size is so far from overflow and from 0 that sums of 1,500, times values, are


def attend(
    queries: Array,
    keys: Array,
    values: Array,
    mask: Array | None = None,
    out: Array | None = None,
    largest: float = math.inf,
) -> Array:
    """:func:`minwhisper.model.layers.attend`, into ``out`` if given: (…, S, K), (…, K, T), (…, T, K) -> (…, S, K).

    The queries are scaled already. What softmax divides by is divided out at the end, where there is less of it. The
    maximum, which it subtracts to keep exp within bounds, need not be looked for where it is known that no score is
    larger than ``largest``, up or down, and that is small.
    """
    *lead, length, _ = queries.shape
    positions = keys.shape[-1]
    scores = np.matmul(queries, keys, out=scratch("scores", *lead, length, positions))
    if mask is not None:
        scores += mask
    if largest > SAFE:
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=-1, keepdims=True)
    block = TILE if length > 1 else ROW_BLOCK
    mixed = np.matmul(scores, values, out=out) if positions <= block else mix(scores, values, out, block)
    mixed /= total
    return mixed


def mix(scores: Array, values: Array, out: Array | None, block: int = TILE) -> Array:
    """The product of scores (…, S, T) and values (…, T, K) with the inner sum in blocks, all of them in one call."""
    *lead, length, positions = scores.shape
    blocks, rest = divmod(positions, block)
    row, number = scores.strides[-2:]
    left = as_strided(scores, (*lead, blocks, length, block), (*scores.strides[:-2], block * number, row, number))
    row, number = values.strides[-2:]
    width = values.shape[-1]
    right = as_strided(values, (*lead, blocks, block, width), (*values.strides[:-2], block * row, row, number))
    parts = np.matmul(left, right, out=scratch("mixed", *lead, blocks, length, width))
    out = np.add.reduce(parts, axis=-3, out=out)
    if rest:
        out += scores[..., positions - rest :] @ values[..., positions - rest :, :]
    return out


def mlp(x: Array, fc1: Linear, fc2: Linear, out: Array) -> Array:
    """:func:`minwhisper.model.layers.mlp` into ``out``. (S, D) -> (S, D)."""
    hidden = linear(x, *fc1, out=scratch("mlp", len(x), fc1.weight.shape[1]))
    return linear(gelu(hidden), *fc2, out=out)
