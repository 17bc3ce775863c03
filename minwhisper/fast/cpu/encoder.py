"""The encoder on several threads.

Threads that synchronise after every layer wait for the slowest one each time. So the positions are cut into tiles, and
a tile passes alone through all layers up to its keys and values, which every position needs from all others, and then
from attention to the end of the block.

The tiles do not depend on the number of threads. A product may round differently when its shape changes, so fixed
tiles make the results bit-identical for any number of threads.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...common.backend import Array
from ...model.config import WhisperConfig
from ...model.encoder import check_mel
from ...model.layers import Weights
from .layers import TILE, Linear, attend, gelu, layer_norm, linear, mlp, tiles, workspace
from .threads import Pool


class EncoderBlock(NamedTuple):
    """The weights of a block, in the layout that the products need."""

    attention_norm: Weights
    query_key_value: Linear
    out: Linear
    mlp_norm: Weights
    fc1: Linear
    fc2: Linear

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """Convert weights named as in ``model.weight_names``."""
        attention = weights["attention"]
        return cls(
            weights["attention_norm"],
            Linear.of(attention["query"], attention["key"], attention["value"]),
            Linear.of(attention["out"]),
            weights["mlp_norm"],
            Linear.of(weights["mlp"]["fc1"]),
            Linear.of(weights["mlp"]["fc2"]),
        )


class QKV(NamedTuple):
    """Queries, keys and values of a window in one block, and the largest norms of queries and keys."""

    queries: Array  # (T, D); a tile reads only its own, so one array serves all blocks
    keys: Array  # (D, T), which is (H, K, T)
    values: Array  # (H, T, K)
    squared_norms: Array  # (2, tiles, H): the largest squared norm of a query and of a key, per tile and head

    @classmethod
    def empty(cls, name: str, length: int, width: int, heads: int) -> Self:
        """Return uninitialised arrays; the same name gives the same ones, and all names share the queries."""
        return cls(
            workspace("queries", length, width),
            workspace(f"{name}: keys", width, length),
            workspace(f"{name}: values", heads, length, width // heads),
            workspace(f"{name}: squared norms", 2, len(tiles(length)), heads),
        )


class EncoderWeights(NamedTuple):
    """The "encoder" branch of the weights, in the layout that the products need."""

    conv1: Linear  # the three matrices of a convolution stacked, (3 I, O)
    conv2: Linear
    positions: Array
    blocks: tuple[EncoderBlock, ...]
    norm: Weights

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """Convert weights named as in ``model.weight_names``."""
        conv1, conv2 = (
            Linear(np.ascontiguousarray(conv["weight"].transpose(2, 1, 0)).reshape(-1, len(conv["bias"])), conv["bias"])
            for conv in (weights["conv1"], weights["conv2"])
        )
        blocks = tuple(map(EncoderBlock.of, weights["blocks"]))
        return cls(conv1, conv2, weights["positions"], blocks, weights["norm"])


def encode(mel: Array, weights: EncoderWeights, config: WhisperConfig, pool: Pool) -> Array:
    """Compute ``model.encoder.encode``: mel (B, M, frames) -> features (B, ⌈frames / 2⌉, D)."""
    check_mel(mel, config)
    length, heads = (mel.shape[2] + 1) // 2, config.encoder_attention_heads
    features = np.empty((len(mel), length, config.d_model), np.float32)
    # Two buffers in turn: while one tile writes the keys and values of the next block, others still read this block's.
    buffers = [QKV.empty(name, length, config.d_model, heads) for name in ("even blocks", "odd blocks")]
    for window, x in zip(mel, features, strict=True):
        stem(window, weights, x, pool)
        encoder_blocks(x, weights.blocks, buffers, pool)
        pool.run(partial(_last_norm, x, weights.norm), tiles(length))
    return features


def _last_norm(x: Array, weights: Weights, rows: slice) -> None:
    layer_norm(x[rows], **weights, out=x[rows])


def encoder_blocks(x: Array, blocks: Sequence[EncoderBlock], buffers: Sequence[QKV], pool: Pool) -> None:
    """Run ``model.encoder.encoder_block`` for each block, in place: x (T, D) of one window."""
    pool.run(lambda rows: project_qkv(x, rows, blocks[0], buffers[0]), tiles(len(x)))
    for number, block in enumerate(blocks):
        qkv, next_qkv = buffers[number % 2], buffers[1 - number % 2]

        def finish_and_project(rows: slice) -> None:
            attend_and_mlp(x, rows, block, qkv)  # noqa: B023  # run at once
            if number + 1 < len(blocks):  # noqa: B023
                project_qkv(x, rows, blocks[number + 1], next_qkv)  # noqa: B023

        pool.run(finish_and_project, tiles(len(x)))


def project_qkv(x: Array, rows: slice, block: EncoderBlock, out: QKV) -> None:
    """Run the first half of a block, up to queries, keys and values, for one tile of x (T, D)."""
    width = x.shape[1]
    heads = out.squared_norms.shape[2]
    normed = layer_norm(x[rows], **block.attention_norm, out=workspace("normed", *x[rows].shape))
    y = linear(normed, *block.query_key_value, out=workspace("query, key, value", len(normed), 3 * width))
    y[:, :width] *= (width // heads) ** -0.5
    out.queries[rows] = y[:, :width]
    out.keys[:, rows] = y[:, width : 2 * width].T
    out.values[:, rows] = y[:, 2 * width :].reshape(len(y), heads, -1).swapaxes(0, 1)
    split = y[:, : 2 * width].reshape(len(y), 2, heads, -1)
    np.maximum.reduce(np.vecdot(split, split), axis=0, out=out.squared_norms[:, rows.start // TILE])


def attend_and_mlp(x: Array, rows: slice, block: EncoderBlock, qkv: QKV) -> None:
    """Run the second half of a block, attention and MLP, for one tile of x (T, D), in place."""
    y = x[rows]
    width = y.shape[1]
    heads = qkv.squared_norms.shape[2]
    size = width // heads
    queries = qkv.queries[rows]
    # No score exceeds the product of the two norms (Cauchy-Schwarz).
    max_scores = np.sqrt(qkv.squared_norms[0, rows.start // TILE] * qkv.squared_norms[1].max(axis=0)).tolist()
    mixed, change = workspace("mixed heads", *y.shape), workspace("change", *y.shape)
    for head in range(heads):
        its = slice(head * size, (head + 1) * size)
        attend(queries[:, its], qkv.keys[its], qkv.values[head], out=mixed[:, its], max_score=max_scores[head])
    y += linear(mixed, *block.out, out=change)
    normed = layer_norm(y, **block.mlp_norm, out=mixed)
    y += mlp(normed, block.fc1, block.fc2, out=change)


def stem(mel: Array, weights: EncoderWeights, out: Array, pool: Pool) -> None:
    """Compute ``model.encoder.stem`` of one window, into ``out``: mel (M, 2T) -> (T, D)."""
    width = out.shape[1]
    # A zero at either end, and one more for the second convolution if the length is odd.
    frames = np.zeros((mel.shape[1] + 2, len(mel)), np.float32)
    frames[1:-1] = mel.T
    hidden = np.zeros((mel.shape[1] + 3, width), np.float32)

    def conv1(rows: slice) -> None:
        gelu(conv1d(frames[rows.start :], *weights.conv1, out=hidden[1:-2][rows]))

    def conv2(rows: slice) -> None:
        y = gelu(conv1d(hidden[2 * rows.start :], *weights.conv2, stride=2, out=out[rows]))
        y += weights.positions[rows]

    pool.run(conv1, tiles(mel.shape[1]))
    pool.run(conv2, tiles(len(out)))


def conv1d(padded: Array, taps: Array, bias: Array, out: Array, stride: int = 1) -> Array:
    """Compute ``model.layers.conv1d`` of a padded x, (≥ stride·(T-1) + 3, I), into ``out`` (T, O).

    Three consecutive frames in memory are one row of three times the width. So the three products become one, and the
    rows overlap without being copied.
    """
    step, itemsize = padded.strides
    x = as_strided(padded, (len(out), len(taps)), (stride * step, itemsize), writeable=False)
    return linear(x, taps, bias, out)
