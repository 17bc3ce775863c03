"""The encoder over threads.

Threads that meet at every layer wait for the slowest, so they meet as rarely as they can: the positions are cut into
tiles, and a tile goes alone through all layers up to its keys and values, which every position needs of all others, and
from there to the end of the block.

The tiles are the same however many threads there are. A product may round differently when its shape changes, so this
is what makes the numbers the same, bit by bit.
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
from .layers import TILE, Linear, attend, gelu, layer_norm, linear, mlp, scratch, tiles
from .threads import Pool


class EncoderBlock(NamedTuple):
    """The weights of a block, as the products want them."""

    attention_norm: Weights
    query_key_value: Linear
    out: Linear
    mlp_norm: Weights
    fc1: Linear
    fc2: Linear

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """From the weights as :mod:`minwhisper.model.weight_names` has them."""
        attention = weights["attention"]
        return cls(
            weights["attention_norm"],
            Linear.of(attention["query"], attention["key"], attention["value"]),
            Linear.of(attention["out"]),
            weights["mlp_norm"],
            Linear.of(weights["mlp"]["fc1"]),
            Linear.of(weights["mlp"]["fc2"]),
        )


class Asked(NamedTuple):
    """What the positions of a window ask of each other in one block."""

    queries: Array  # (T, D); each tile looks at its own only, so that one array does for all blocks
    keys: Array  # (D, T): transposed, it holds (H, K, T)
    values: Array  # (H, T, K)
    longest: Array  # (2, tiles, H): the largest squared length of a query and of a key in each tile, for each head

    @classmethod
    def room(cls, name: str, length: int, width: int, heads: int) -> Self:
        """Room for it, which is used again by whoever asks for the same name; the queries by everybody."""
        return cls(
            scratch("queries", length, width),
            scratch(f"{name}: keys", width, length),
            scratch(f"{name}: values", heads, length, width // heads),
            scratch(f"{name}: longest", 2, len(tiles(length)), heads),
        )


class EncoderWeights(NamedTuple):
    """The "encoder" branch, as the products want it."""

    conv1: Linear  # the three matrices of a convolution below each other, (3 I, O)
    conv2: Linear
    positions: Array
    blocks: tuple[EncoderBlock, ...]
    norm: Weights

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """From the weights as :mod:`minwhisper.model.weight_names` has them."""
        conv1, conv2 = (
            Linear(np.ascontiguousarray(conv["weight"].transpose(2, 1, 0)).reshape(-1, len(conv["bias"])), conv["bias"])
            for conv in (weights["conv1"], weights["conv2"])
        )
        blocks = tuple(map(EncoderBlock.of, weights["blocks"]))
        return cls(conv1, conv2, weights["positions"], blocks, weights["norm"])


def encode(mel: Array, weights: EncoderWeights, config: WhisperConfig, pool: Pool) -> Array:
    """:func:`minwhisper.model.encoder.encode`: mel (B, M, frames) -> features (B, ⌈frames / 2⌉, D)."""
    check_mel(mel, config)
    length, heads = (mel.shape[2] + 1) // 2, config.encoder_attention_heads
    features = np.empty((len(mel), length, config.d_model), np.float32)
    # Two by turns: while a tile writes down what it asks in one block, others still read the answers of the one before.
    rooms = [Asked.room(name, length, config.d_model, heads) for name in ("one block", "the next block")]
    for window, x in zip(mel, features, strict=True):
        stem(window, weights, x, pool)
        encoder_blocks(x, weights.blocks, rooms, pool)
        pool.run(partial(_last_norm, x, weights.norm), tiles(length))
    return features


def _last_norm(x: Array, weights: Weights, rows: slice) -> None:
    layer_norm(x[rows], **weights, out=x[rows])


def encoder_blocks(x: Array, blocks: Sequence[EncoderBlock], rooms: Sequence[Asked], pool: Pool) -> None:
    """:func:`minwhisper.model.encoder.encoder_block` one after the other, in place: x (T, D) of one window."""
    pool.run(lambda rows: ask(x, rows, blocks[0], rooms[0]), tiles(len(x)))
    for number, block in enumerate(blocks):
        asked, next_asked = rooms[number % 2], rooms[1 - number % 2]

        def go_on(rows: slice) -> None:
            answer(x, rows, block, asked)  # noqa: B023  # run at once
            if number + 1 < len(blocks):  # noqa: B023
                ask(x, rows, blocks[number + 1], next_asked)  # noqa: B023

        pool.run(go_on, tiles(len(x)))


def ask(x: Array, rows: slice, block: EncoderBlock, room: Asked) -> None:
    """The first half of a block, up to queries, keys and values, for one tile of x (T, D)."""
    width = x.shape[1]
    heads = room.longest.shape[2]
    normed = layer_norm(x[rows], **block.attention_norm, out=scratch("normed", *x[rows].shape))
    y = linear(normed, *block.query_key_value, out=scratch("query, key, value", len(normed), 3 * width))
    y[:, :width] *= (width // heads) ** -0.5
    room.queries[rows] = y[:, :width]
    room.keys[:, rows] = y[:, width : 2 * width].T
    room.values[:, rows] = y[:, 2 * width :].reshape(len(y), heads, -1).swapaxes(0, 1)
    split = y[:, : 2 * width].reshape(len(y), 2, heads, -1)
    np.maximum.reduce(np.vecdot(split, split), axis=0, out=room.longest[:, rows.start // TILE])


def answer(x: Array, rows: slice, block: EncoderBlock, asked: Asked) -> None:
    """The second half of a block, from attention on, for one tile of x (T, D), in place."""
    y = x[rows]
    width = y.shape[1]
    heads = asked.longest.shape[2]
    size = width // heads
    queries = asked.queries[rows]
    # No score is larger than the product of the two lengths (Cauchy and Schwarz).
    largest = np.sqrt(asked.longest[0, rows.start // TILE] * asked.longest[1].max(axis=0)).tolist()
    mixed, change = scratch("mixed heads", *y.shape), scratch("change", *y.shape)
    for head in range(heads):
        its = slice(head * size, (head + 1) * size)
        attend(queries[:, its], asked.keys[its], asked.values[head], out=mixed[:, its], largest=largest[head])
    y += linear(mixed, *block.out, out=change)
    normed = layer_norm(y, **block.mlp_norm, out=mixed)
    y += mlp(normed, block.fc1, block.fc2, out=change)


def stem(mel: Array, weights: EncoderWeights, out: Array, pool: Pool) -> None:
    """:func:`minwhisper.model.encoder.stem` of one window, into ``out``: mel (M, 2T) -> (T, D)."""
    width = out.shape[1]
    # A zero before and after, and one more where the second convolution would look past an odd end.
    sound = np.zeros((mel.shape[1] + 2, len(mel)), np.float32)
    sound[1:-1] = mel.T
    between = np.zeros((mel.shape[1] + 3, width), np.float32)

    def one(rows: slice) -> None:
        gelu(conv1d(sound[rows.start :], *weights.conv1, out=between[1:-2][rows]))

    def two(rows: slice) -> None:
        y = gelu(conv1d(between[2 * rows.start :], *weights.conv2, stride=2, out=out[rows]))
        y += weights.positions[rows]

    pool.run(one, tiles(mel.shape[1]))
    pool.run(two, tiles(len(out)))


def conv1d(padded: Array, taps: Array, bias: Array, out: Array, stride: int = 1) -> Array:
    """:func:`minwhisper.model.layers.conv1d` of a padded x, (≥ stride·(T-1) + 3, I), into ``out`` (T, O).

    Three frames that follow each other in memory are one row of three times the width, so the three products are one,
    and the rows overlap without being copied.
    """
    step, number = padded.strides
    x = as_strided(padded, (len(out), len(taps)), (stride * step, number), writeable=False)
    return linear(x, taps, bias, out)
