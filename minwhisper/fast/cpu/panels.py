"""Weight matrices cut into panels: fast products with few rows, as in a decoder step.

To multiply many rows by a matrix W, a BLAS library first copies W into panels, and the copy soon pays off. With few
rows it takes longer than the product itself, which takes as long as reading W from memory. BLAS libraries have routines
for small matrices that copy nothing. So W is stored here as panels of ``PANEL_WIDTH`` columns, each small and
contiguous, and one call multiplies x by all of them in turn. One row then takes as long as reading W does, and eight
rows take little more.

Shapes: N rows of x, I inputs, O outputs, P panels.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ...common.backend import Array, address
from ...model.layers import Weights
from ...model.weights import Allocate, rows_of
from .layers import SUM_BLOCK, concat_biases, tiles, workspace
from .threads import Pool

PANEL_WIDTH = 32  # columns
MIN_WORK = 1_250_000  # values of a matrix (5 MB) that a thread multiplies at a time: waking it for fewer does not pay
ROW_TILE = 64  # rows multiplied at a time, so that their results stay in a core's cache
ROW_GROUP = 6  # rows that the BLAS routine takes at once: five rows, as in a beam, are slower than six
LOAD_BUFFER = 300_000  # values rearranged at a time while a matrix is loaded


class Panels:
    """A matrix W (I, O) cut into panels. It replaces a weight (O, I) of the layers."""

    def __init__(self, array: Array, outputs: int) -> None:
        """``array`` (P, I, PANEL_WIDTH): panel p has the columns from p · PANEL_WIDTH on, padded with zeros."""
        self.array, self.outputs = array, outputs

    def __len__(self) -> int:
        """Return the number of rows of the weight, O."""
        return self.outputs

    @classmethod
    def empty(cls, outputs: int, inputs: int, allocate: Allocate = np.empty) -> Self:
        """Return uninitialised panels for a weight (O, I)."""
        return cls(allocate((math.ceil(outputs / PANEL_WIDTH), inputs, PANEL_WIDTH), "float32"), outputs)

    @classmethod
    def empty_adjacent(cls, count: int, outputs: int, inputs: int, allocate: Allocate = np.empty) -> list[Self]:
        """Return uninitialised panels for several weights (O, I), in one array if none shares a panel with the next."""
        if outputs % PANEL_WIDTH:
            return [cls.empty(outputs, inputs, allocate) for _ in range(count)]
        whole = cls.empty(count * outputs, inputs, allocate)
        return [cls(part, outputs) for part in np.split(whole.array, count)]

    @classmethod
    def of(cls, *weights: Any) -> Self:
        """Concatenate weights (O, I), arrays or panels, along O. Adjacent panels are not copied."""
        if all(isinstance(weight, cls) for weight in weights):
            whole = _common_base([weight.array for weight in weights])
            if whole is not None:
                return cls(whole, sum(map(len, weights)))
        matrix = np.concatenate([unpacked(weight) for weight in weights])
        panels = cls.empty(*matrix.shape)
        panels.load_into(rows_of(matrix))
        return panels

    def load_into(self, read: Callable[[Array, int], object]) -> None:
        """Load a weight, a few rows at a time: ``read(out, first)`` writes the rows from ``first`` on to out (R, I)."""
        inputs = self.array.shape[1]
        count = max(1, LOAD_BUFFER // (PANEL_WIDTH * inputs))  # panels at a time
        buffer = np.zeros((count * PANEL_WIDTH, inputs), np.float32)
        for first in range(0, len(self.array), count):
            panels = self.array[first : first + count]
            rows = buffer[: len(panels) * PANEL_WIDTH]
            start = first * PANEL_WIDTH
            read(rows[: self.outputs - start], start)
            rows[self.outputs - start :] = 0.0  # the padding of the last panel
            np.copyto(panels, rows.reshape(-1, PANEL_WIDTH, inputs).swapaxes(1, 2))

    def weight(self) -> Array:
        """Return a copy in the layout of the layers, (O, I): see ``model.weights.by_columns``."""
        matrix: Array = np.concatenate(self.array, axis=1)  # (I, P · PANEL_WIDTH)
        return matrix[:, : self.outputs].T

    def rows(self, numbers: Array) -> Array:
        """Return the rows of the weight with these numbers: (…) -> (…, I)."""
        found: Array = self.array[numbers // PANEL_WIDTH, :, numbers % PANEL_WIDTH]
        return found


def _common_base(parts: Sequence[Array]) -> Array | None:
    """Return the array that consists of these parts, in order and without gaps, or None if there is none."""
    whole = parts[0] if len(parts) == 1 else parts[0].base
    if not isinstance(whole, np.ndarray) or len(whole) != sum(map(len, parts)) or whole.shape[1:] != parts[0].shape[1:]:
        return None
    starts = np.cumsum([0, *map(len, parts)])
    pairs = zip(parts, starts, strict=False)
    return whole if all(address(part) == address(whole[start:]) for part, start in pairs) else None


# ------------------------------------------------------------------------------------------ products


def panel_matmul(x: Array, panels: Panels, pool: Pool, out: Array | None = None) -> Array:
    """Return the product x (N, I) W -> (N, O), in ``out`` if given. Threads share the panels if there are many.

    Five rows are multiplied as six (``ROW_GROUP``), and the sixth is dropped.
    """
    rows, outputs, count = len(x), len(panels), len(panels.array)
    if rows == ROW_GROUP - 1:
        x = np.concatenate([x, x[-1:]])
    whole = out
    if whole is None or outputs % PANEL_WIDTH or len(x) > rows:
        whole = np.empty((len(x), count * PANEL_WIDTH), np.float32)
    results = whole.reshape(len(x), count, PANEL_WIDTH).swapaxes(0, 1)  # (P, N, PANEL_WIDTH)
    work = panels.array.size * max(1, len(x) // 8)  # multiplying eight rows takes as long as reading W
    pieces = min(16, math.ceil(work / MIN_WORK))
    step = math.ceil(count / pieces)

    def multiply_piece(first: int) -> None:
        piece = slice(first, first + step)
        for tile in tiles(len(x), ROW_TILE):
            multiply_panels(x[tile], panels.array[piece], results[piece, tile])

    if pieces == 1:
        multiply_piece(0)
    else:
        pool.run(multiply_piece, range(0, count, step))
    if out is None:
        return whole[:rows, :outputs]
    if out is not whole:
        out[...] = whole[:rows, :outputs]
    return out


def multiply_panels(x: Array, panels: Array, out: Array) -> None:
    """Multiply x (R, I) by each of the panels (P, I, PANEL_WIDTH) into ``out`` (P, R, PANEL_WIDTH).

    As in ``model.numerics.matmul``, the inner sum is split into blocks if there is more than one row.
    All blocks go through one call.
    """
    count, inputs, width = panels.shape
    if len(x) == 1 or inputs <= SUM_BLOCK:
        np.matmul(x, panels, out=out)
        return
    blocks, rest = divmod(inputs, SUM_BLOCK)  # the rest is 0 in all published models
    even = inputs - rest
    left = x[:, :even].reshape(len(x), blocks, SUM_BLOCK).swapaxes(0, 1)
    right = panels[:, :even].reshape(count, blocks, SUM_BLOCK, width)
    parts = np.matmul(left, right, out=workspace("blocks of a product", count, blocks, len(x), width))
    np.add.reduce(parts, axis=1, out=out)
    if rest:
        out += x[:, even:] @ panels[:, even:]


class PanelLinear(NamedTuple):
    """A linear map, or several maps of the same x concatenated: weight (I, O) in panels and bias (O,)."""

    weight: Panels
    bias: Array

    @classmethod
    def of(cls, *maps: Weights) -> Self:
        """Concatenate maps of the layers, with weights (O, I) or panels. A missing bias becomes zero."""
        return cls(Panels.of(*(w["weight"] for w in maps)), concat_biases(maps))

    def __call__(self, x: Array, pool: Pool, out: Array) -> Array:
        """Compute ``model.layers.linear`` into ``out``: x (N, I) -> (N, O)."""
        panel_matmul(x, self.weight, pool, out)
        out += self.bias
        return out


# ------------------------------------------------------------------------------------------ for the layers


class Unpacked(Mapping[str, Any]):
    """A view of weights, some stored as panels, in the layout of the layers: a matrix is copied on access.

    With ``keep`` it is copied once, on the first access. The copies are not pickled.
    """

    def __init__(self, weights: Weights, keep: bool = False) -> None:
        self.packed, self.keep = weights, keep
        self._kept: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self._kept:
            return self._kept[name]
        found = unpacked(self.packed[name], self.keep)
        if self.keep:
            self._kept[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.packed)

    def __len__(self) -> int:
        return len(self.packed)

    def __reduce__(self) -> tuple[Any, ...]:
        return Unpacked, (self.packed, self.keep)


def unpacked(weights: Any, keep: bool = False) -> Any:
    """Return weights, a mapping or a tuple of them, in the layout of the layers. Only panels are converted."""
    if isinstance(weights, Panels):
        return weights.weight()
    if isinstance(weights, Mapping):
        return Unpacked(weights, keep)
    return tuple(unpacked(weight, keep) for weight in weights) if isinstance(weights, tuple) else weights


def packed(weights: Weights) -> Weights:
    """Return the weights that were passed to ``unpacked``; return any others unchanged."""
    return weights.packed if isinstance(weights, Unpacked) else weights
