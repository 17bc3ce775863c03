"""The layers on a GPU: what :mod:`minwhisper.layers` computes, in less memory and in fewer launches.

A GPU's small operations cost what it takes to launch them and to read and write their arrays; a softmax of five
operations does that five times. So there are kernels for what is no product (:mod:`minwhisper.fast.gpu_kernels`), and
where they cannot be compiled the readable layers stand in. Attention goes tile by tile: all scores of a window at once
would be 1,500 × 1,500 for each head, 180 MB for the large sizes, and a softmax needs room for a second such array.
"""

from collections.abc import Mapping
from typing import Any

from ..backend import Array, array_module
from ..layers import Weights, attend, causal_mask, layer_norm, linear, mlp
from .cpu_layers import tiles
from .gpu_kernels import Kernels

SCORES = 8 << 20  # bytes of scores computed at a time
ROWS = 512  # positions that go through the MLP at a time


def widened(weights: Weights) -> dict[str, Any]:
    """The weights with their matrices in float32: themselves if they are, else copies, made once for all tiles."""

    def wide(one: Any) -> Any:
        if isinstance(one, Mapping):
            return widened(one)
        return one.astype("float32", copy=False) if one.ndim > 1 else one

    return {name: wide(one) for name, one in weights.items()}


class Layers:
    """The layers with these kernels, or with none."""

    def __init__(self, kernels: Kernels | None = None) -> None:
        self.kernels = kernels

    def layer_norm(self, x: Array, weight: Array, bias: Array) -> Array:
        """:func:`minwhisper.layers.layer_norm`. (…, D) -> (…, D)."""
        if self.kernels is None:
            return layer_norm(x, weight, bias)
        out = array_module(x).empty(x.shape, x.dtype)
        self.kernels.layer_norm(x, weight, bias, out)
        return out

    def mlp(self, x: Array, weights: Weights) -> Array:
        """:func:`minwhisper.layers.mlp`. (…, D) -> (…, D)."""
        if self.kernels is None:
            return mlp(x, weights)
        fc1, fc2 = weights["fc1"], weights["fc2"]
        hidden = linear(x, fc1["weight"])
        self.kernels.bias_gelu(hidden, fc1["bias"])
        return linear(hidden, **fc2)

    def attend(self, queries: Array, keys: Array, values: Array, past: int | None = None) -> Array:
        """:func:`minwhisper.layers.attend`, the heads side by side at once: (H, S, K), (H, K, T), (H, T, K) -> (S, D).

        With ``past``, the last S of the T are the queries' own positions, of which each sees only those up to itself.
        """
        xp = array_module(queries)
        heads, length, width = queries.shape
        keys, values = (xp.ascontiguousarray(kv.astype(queries.dtype, copy=False)) for kv in (keys, values))
        mixed = xp.empty((length, heads * width), queries.dtype)
        by_head = mixed.reshape(length, heads, width).transpose(1, 0, 2)  # (H, S, K), the same memory
        for rows in tiles(length, max(1, SCORES // (4 * heads * keys.shape[2]))):
            seen = keys.shape[2] if past is None else past + rows.stop
            before = None if past is None else past + rows.start
            by_head[:, rows] = self._attend(queries[:, rows], keys[:, :, :seen], values[:, :seen], before)
        return mixed

    def _attend(self, queries: Array, keys: Array, values: Array, past: int | None) -> Array:
        """A tile: (H, S, K), (H, K, T), (H, T, K) -> (H, S, K)."""
        if self.kernels is None:
            mask = None if past is None else causal_mask(queries.shape[1], past, queries)
            return attend(queries, keys, values, mask)
        scores = (queries * queries.shape[2] ** -0.5) @ keys
        self.kernels.softmax(scores, past)
        return scores @ values


def split_heads(x: Array, heads: int) -> Array:
    """:func:`minwhisper.layers.split_heads` of one sequence: (S, D) -> (H, S, K)."""
    length, width = x.shape
    return x.reshape(length, heads, width // heads).transpose(1, 0, 2)
