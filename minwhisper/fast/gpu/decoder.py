"""The decoder on a GPU, for rows: each one token of one sequence at one position.

A step has a row per sequence, and a prompt a row per token; both go through the same kernels. For a step all products
are kernels of our own, which read each weight once for up to eight rows, so that a step can be recorded as a CUDA
graph. For the many rows of a long prompt the products are cuBLAS's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...common.backend import Array, array_module
from ...model.config import WhisperConfig
from ...model.layers import Weights
from .kernels import Kernels, Norm
from .layers import Layers
from .table import RowTable

MAX_KERNEL_ROWS = 16  # rows up to which a product is a kernel of our own


class RowBuffers(NamedTuple):
    """What R rows are computed in."""

    table: RowTable  # for R rows or more
    x: Array  # (R, D), the residual stream
    queries: Array  # (R, D)
    mixed: Array  # (R, D), what attention returns
    hidden: Array  # (R, F)
    partial: Array  # what attention computes in
    counters: Array  # (R · H,) int32: zeros

    @classmethod
    def make(cls, rows: int, table: RowTable, config: WhisperConfig) -> "RowBuffers":
        """Return those for that many rows."""
        xp, width, heads = array_module(table.device_array), config.d_model, config.decoder_attention_heads
        positions = max(config.max_source_positions, config.max_target_positions)
        return cls(
            table=table,
            x=xp.empty((rows, width), np.float32),
            queries=xp.empty((rows, width), np.float32),
            mixed=xp.empty((rows, width), np.float32),
            hidden=xp.empty((rows, config.decoder_ffn_dim), np.float32),
            partial=xp.empty(partial_shape(config, rows, positions), np.float32),
            counters=xp.zeros(rows * heads, np.int32),
        )


def partial_shape(config: WhisperConfig, rows: int, positions: int) -> tuple[int, int, int, int]:
    """The shape of what the attention of that many rows computes in."""
    heads = config.decoder_attention_heads
    return Kernels.partial_shape(rows, heads, positions, config.d_model // heads)


class Decoder:
    """The decoder's weights, and what computes with them."""

    def __init__(self, weights: Weights, config: WhisperConfig, layers: Layers) -> None:
        """``weights`` is the "decoder" branch."""
        self.weights, self.config, self._layers = weights, config, layers
        self._heads = config.decoder_attention_heads

    def cross_kv(self, features: Array) -> Array:
        """Return a window's keys and values for cross-attention: features (1, T, D) -> (L, 2, T, D)."""
        (x,) = features
        xp, layers, blocks = array_module(x), self._layers, self.weights["blocks"]
        kept = xp.empty((len(blocks), 2, *x.shape), self.weights["token_embedding"].dtype)
        for block, (keys, values) in zip(blocks, kept, strict=True):
            cross = block["cross_attention"]
            layers.kernels.add_bias_cast(layers.linear(x, cross["key"]["weight"]), None, keys)
            layers.kernels.add_bias_cast(layers.linear(x, cross["value"]["weight"]), cross["value"]["bias"], values)
        return kept

    def new_slot(self) -> Array:
        """Return room for the keys and values of a text, (L, 2, P, D)."""
        like, config = self.weights["token_embedding"], self.config
        shape = (config.decoder_layers, 2, config.max_target_positions, config.d_model)
        return array_module(like).empty(shape, like.dtype)

    def forward(self, rows: RowBuffers, positions: int, own_kernels: bool) -> None:
        """Compute the residual stream of the table's rows: ``rows.x``. They attend to ``positions`` of audio.

        ``own_kernels``: by kernels of our own alone, which can be recorded, or else with cuBLAS's products.
        """
        run, weights, table = self._layers.kernels, self.weights, rows.table
        run.embed(table, weights["token_embedding"], weights["positions"], rows.x)
        for layer, block in enumerate(weights["blocks"]):
            own, cross, mlp = block["attention"], block["cross_attention"], block["mlp"]
            at = rows.partial, rows.counters, rows.mixed, self._heads, layer
            self._project_qkv(rows, own, Norm(**block["attention_norm"]), layer, own_kernels)
            run.self_attention(table, rows.queries, *at)
            self._add(rows, rows.mixed, own["out"], own_kernels)

            self._linear(rows, cross["query"], Norm(**block["cross_attention_norm"]), rows.queries, own_kernels)
            run.cross_attention(table, rows.queries, *at, positions)
            self._add(rows, rows.mixed, cross["out"], own_kernels)

            self._linear(rows, mlp["fc1"], Norm(**block["mlp_norm"]), rows.hidden, own_kernels, gelu=True)
            self._add(rows, rows.hidden, mlp["fc2"], own_kernels)

    def logits(self, rows: RowBuffers, out: Array, wanted: Sequence[int] | None = None) -> None:
        """Compare the residual stream with every token's embedding: of all rows, or of those wanted, one by one."""
        run, table, norm = self._layers.kernels, self.weights["token_embedding"], Norm(**self.weights["norm"])
        if wanted is None:
            run.linear(rows.x, table, None, out, table=rows.table, norm=norm)
            return
        for place, row in enumerate(wanted):
            run.linear(rows.x[row : row + 1], table, None, out[place : place + 1], norm=norm)

    def _project_qkv(self, rows: RowBuffers, weights: Weights, norm: Norm, layer: int, own_kernels: bool) -> None:
        """Queries, and the rows' own keys and values to where they are kept."""
        layers, table = self._layers, rows.table
        if own_kernels:
            layers.kernels.project_qkv(table, rows.x, weights, norm, rows.queries, layer)
            return
        normed = layers.layer_norm(rows.x, *norm)
        layers.linear(normed, **weights["query"], out=rows.queries)
        keys, values = (layers.linear(normed, weights[name]["weight"]) for name in ("key", "value"))
        layers.kernels.write_kv(table, keys, values, weights["value"]["bias"], layer)

    def _linear(
        self, rows: RowBuffers, weights: Weights, norm: Norm, out: Array, own_kernels: bool, gelu: bool = False
    ) -> None:
        """The residual stream through a norm and a linear map."""
        if own_kernels:
            self._layers.kernels.linear(rows.x, **weights, y=out, table=rows.table, norm=norm, gelu=gelu)
        else:
            self._layers.linear(self._layers.layer_norm(rows.x, *norm), **weights, out=out, gelu=gelu)

    def _add(self, rows: RowBuffers, x: Array, weights: Weights, own_kernels: bool) -> None:
        """What a linear map makes of x is added to the residual stream."""
        if own_kernels:
            self._layers.kernels.linear(x, **weights, y=rows.x, table=rows.table, residual=rows.x)
        else:
            self._layers.add_linear(x, **weights, to=rows.x)
