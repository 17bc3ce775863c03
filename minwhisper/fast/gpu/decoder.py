"""The decoder on a GPU, for rows: each is one token of one sequence at one position.

A step has one row per sequence, a prompt one row per token; both use the same kernels. For few rows, our own kernels
compute the products: they read each weight once for up to eight rows and can be captured as a CUDA graph. For the many
rows of a long prompt, cuBLAS computes them.
"""

from collections.abc import Sequence

from ...common.backend import Array, array_module
from ...model.config import WhisperConfig
from ...model.layers import Weights
from .buffers import RowBuffers
from .kernels import Norm
from .layers import Layers


class Decoder:
    """The decoder's weights and the computations with them."""

    def __init__(self, weights: Weights, config: WhisperConfig, layers: Layers) -> None:
        """``weights`` is the "decoder" branch."""
        self.weights, self.config, self._layers = weights, config, layers
        self._heads = config.decoder_attention_heads

    def cross_kv(self, features: Array) -> Array:
        """Return a window's keys and values for cross-attention: features (1, T, D) -> (L, 2, T, D)."""
        (x,) = features
        xp, layers, blocks = array_module(x), self._layers, self.weights["blocks"]
        out = xp.empty((len(blocks), 2, *x.shape), self.weights["token_embedding"].dtype)
        for block, (keys, values) in zip(blocks, out, strict=True):
            cross = block["cross_attention"]
            layers.kernels.add_bias_cast(layers.linear(x, cross["key"]["weight"]), None, keys)
            layers.kernels.add_bias_cast(layers.linear(x, cross["value"]["weight"]), cross["value"]["bias"], values)
        return out

    def new_slot(self) -> Array:
        """Return an uninitialised array for the keys and values of one sequence, (L, 2, P, D)."""
        like, config = self.weights["token_embedding"], self.config
        shape = (config.decoder_layers, 2, config.max_target_positions, config.d_model)
        return array_module(like).empty(shape, like.dtype)

    def forward(self, rows: RowBuffers, positions: int, own_kernels: bool) -> None:
        """Compute the residual stream of the table's rows, ``rows.x``, for windows of ``positions`` positions.

        With ``own_kernels``, our own kernels compute the products, as a captured graph needs; otherwise cuBLAS does.
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
        """Compute the logits of all rows in one product, or of the wanted rows one by one: out (N, V)."""
        run, embedding, norm = self._layers.kernels, self.weights["token_embedding"], Norm(**self.weights["norm"])
        if wanted is None:
            run.linear(rows.x, embedding, None, out, table=rows.table, norm=norm)
            return
        for index, row in enumerate(wanted):
            run.linear(rows.x[row : row + 1], embedding, None, out[index : index + 1], norm=norm)

    def _project_qkv(self, rows: RowBuffers, weights: Weights, norm: Norm, layer: int, own_kernels: bool) -> None:
        """Compute the queries, and write the rows' own keys and values to their slots."""
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
        """Apply a layer norm, a linear map and, if ``gelu`` is set, a GELU to the residual stream."""
        if own_kernels:
            self._layers.kernels.linear(rows.x, **weights, y=out, table=rows.table, norm=norm, gelu=gelu)
        else:
            self._layers.linear(self._layers.layer_norm(rows.x, *norm), **weights, out=out, gelu=gelu)

    def _add(self, rows: RowBuffers, x: Array, weights: Weights, own_kernels: bool) -> None:
        """Add a linear map of x to the residual stream."""
        if own_kernels:
            self._layers.kernels.linear(x, **weights, y=rows.x, table=rows.table, residual=rows.x)
        else:
            self._layers.add_linear(x, **weights, to=rows.x)
