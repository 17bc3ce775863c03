"""Matrices for products of few rows, as the decoder's steps have them: cut into strips that are read from end to end.

A product x W of many rows is work, and the library rearranges W for it first, which soon pays. Of few rows it is mostly
the reading of W, and rearranging takes longer than the product. The library has routines for small matrices that
rearrange nothing. So W is cut into strips of :data:`STRIP` columns, each of them small and in one piece, and one call
multiplies x by all of them in turn. One row then takes the time in which memory can be read, and eight little more.
Libraries of products call such strips panels.

Shapes: N rows of x, I inputs, O outputs, P strips.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ...common.backend import Array
from ...model.layers import Weights
from ...model.weights import rows_of
from .layers import INNER_BLOCK, address, biases, scratch, tiles
from .threads import Pool

STRIP = 32  # columns of a strip
PIECE = 1_250_000  # numbers of a matrix (5 MB) that a thread multiplies at a time: less is not worth waking one
ROWS = 64  # rows that are multiplied at a time: what they give has to stay in a core's cache
FULL = 6  # rows that the library's routine takes at once; with five, a beam's, it is slower than with six
BUFFER = 300_000  # numbers that are rearranged at a time when a matrix is filled


class Panels:
    """A matrix W (I, O) in strips. It stands for a weight (O, I) of the layers."""

    def __init__(self, strips: Array, outputs: int) -> None:
        """``strips`` (P, I, STRIP): number p has the columns from p · STRIP on; behind the last output come zeros."""
        self.strips, self.outputs = strips, outputs

    def __len__(self) -> int:
        """The rows of the weight, O."""
        return self.outputs

    @classmethod
    def empty(cls, outputs: int, inputs: int) -> Self:
        """Room for a weight (O, I), to be filled."""
        return cls(np.empty((math.ceil(outputs / STRIP), inputs, STRIP), np.float32), outputs)

    @classmethod
    def neighbours(cls, count: int, outputs: int, inputs: int) -> list[Self]:
        """Room for several weights (O, I), one behind the other if none has to share a strip with the next."""
        if outputs % STRIP:
            return [cls.empty(outputs, inputs) for _ in range(count)]
        whole = cls.empty(count * outputs, inputs)
        return [cls(part, outputs) for part in np.split(whole.strips, count)]

    @classmethod
    def of(cls, *weights: Any) -> Self:
        """Several weights (O, I) of one x as one: arrays, or panels, which are not copied where they are neighbours."""
        if all(isinstance(weight, cls) for weight in weights):
            whole = _together([weight.strips for weight in weights])
            if whole is not None:
                return cls(whole, sum(map(len, weights)))
        matrix = np.concatenate([unpacked(weight) for weight in weights])
        panels = cls.empty(*matrix.shape)
        panels.load_into(rows_of(matrix))
        return panels

    def load_into(self, read: Callable[[Array, int], object]) -> None:
        """Copy a weight in, some rows at a time: ``read(out, first)`` writes those from ``first`` on to out (R, I)."""
        inputs = self.strips.shape[1]
        some = max(1, BUFFER // (STRIP * inputs))  # strips
        buffer = np.zeros((some * STRIP, inputs), np.float32)
        for first in range(0, len(self.strips), some):
            strips = self.strips[first : first + some]
            rows = buffer[: len(strips) * STRIP]
            start = first * STRIP
            read(rows[: self.outputs - start], start)
            rows[self.outputs - start :] = 0.0  # what the last strip has beyond the matrix
            np.copyto(strips, rows.reshape(-1, STRIP, inputs).swapaxes(1, 2))

    def weight(self) -> Array:
        """A copy as the layers have it: (O, I), by columns as in :func:`minwhisper.model.weights.by_columns`."""
        matrix: Array = np.concatenate(self.strips, axis=1)  # (I, P · STRIP)
        return matrix[:, : self.outputs].T

    def rows(self, numbers: Array) -> Array:
        """Some rows of the weight: numbers (…) -> (…, I)."""
        found: Array = self.strips[numbers // STRIP, :, numbers % STRIP]
        return found


def _together(parts: Sequence[Array]) -> Array | None:
    """The array that these are, one part behind the other, or None if they are not."""
    whole = parts[0] if len(parts) == 1 else parts[0].base
    if not isinstance(whole, np.ndarray) or len(whole) != sum(map(len, parts)) or whole.shape[1:] != parts[0].shape[1:]:
        return None
    starts = np.cumsum([0, *map(len, parts)])
    pairs = zip(parts, starts, strict=False)
    return whole if all(address(part) == address(whole[start:]) for part, start in pairs) else None


# ------------------------------------------------------------------------------------------ products


def multiply(x: Array, panels: Panels, pool: Pool, out: Array | None = None) -> Array:
    """The product x (N, I) W -> (N, O), into ``out`` if given; threads share the strips if there are many.

    Five rows are multiplied as six (:data:`FULL`), of which the last is thrown away.
    """
    strips, rows, outputs = panels.strips, len(x), len(panels)
    count = len(strips)
    if rows == FULL - 1:
        x = np.concatenate([x, x[-1:]])
    whole = out
    if whole is None or outputs % STRIP or len(x) > rows:
        whole = np.empty((len(x), count * STRIP), np.float32)
    places = whole.reshape(len(x), count, STRIP).swapaxes(0, 1)  # (P, N, STRIP)
    pieces = min(16, math.ceil(strips.size * max(1, len(x) // 8) / PIECE))  # eight rows are as much work as reading W
    step = math.ceil(count / pieces)

    def some(first: int) -> None:
        part = slice(first, first + step)
        for its in tiles(len(x), ROWS):
            multiply_strips(x[its], strips[part], places[part, its])

    if pieces == 1:
        some(0)
    else:
        pool.run(some, range(0, count, step))
    if out is None:
        return whole[:rows, :outputs]
    if out is not whole:
        out[...] = whole[:rows, :outputs]
    return out


def multiply_strips(x: Array, strips: Array, out: Array) -> None:
    """Multiply x (R, I) by each of the strips (P, I, STRIP) into ``out`` (P, R, STRIP).

    As in :func:`minwhisper.model.layers.matmul`, the inner sum of more than one row is taken in blocks; all in one
    call.
    """
    count, inputs, width = strips.shape
    if len(x) == 1 or inputs <= INNER_BLOCK:
        np.matmul(x, strips, out=out)
        return
    blocks, rest = divmod(inputs, INNER_BLOCK)  # no published model has a rest
    even = inputs - rest
    left = x[:, :even].reshape(len(x), blocks, INNER_BLOCK).swapaxes(0, 1)
    right = strips[:, :even].reshape(count, blocks, INNER_BLOCK, width)
    parts = np.matmul(left, right, out=scratch("blocks of a product", count, blocks, len(x), width))
    np.add.reduce(parts, axis=1, out=out)
    if rest:
        out += x[:, even:] @ strips[:, even:]


class PanelLinear(NamedTuple):
    """A linear map, or several of one x side by side: weight (I, O) in panels and bias (O,)."""

    weight: Panels
    bias: Array

    @classmethod
    def of(cls, *maps: Weights) -> Self:
        """Maps as the layers have them, with weights (O, I) or panels, as one. A missing bias is zero."""
        return cls(Panels.of(*(w["weight"] for w in maps)), biases(maps))

    def __call__(self, x: Array, pool: Pool, out: Array) -> Array:
        """:func:`minwhisper.model.layers.linear` into ``out``: x (N, I) -> (N, O)."""
        multiply(x, self.weight, pool, out)
        out += self.bias
        return out


# ------------------------------------------------------------------------------------------ for the layers


class Unpacked(Mapping[str, Any]):
    """Weights by name as the layers have them, where some are panels: a matrix is copied when it is asked for."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Any:
        return unpacked(self._weights[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def unpacked(weights: Any) -> Any:
    """Weights, mappings or tuples of them, as the layers have them; what is not panels is left as it is."""
    if isinstance(weights, Panels):
        return weights.weight()
    if isinstance(weights, Mapping):
        return Unpacked(weights)
    return tuple(map(unpacked, weights)) if isinstance(weights, tuple) else weights
