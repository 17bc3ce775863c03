"""The encoder over threads.

Threads that meet at every layer wait for the slowest, so they meet as rarely as they can: the positions are cut into
tiles, and a tile goes alone through all layers up to its keys and values, which every position needs of all others, and
from there to the end of the block.

The tiles are the same however many threads there are. A product may round differently when its shape changes, so this is
what makes the numbers the same, bit by bit.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..backend import Array
from ..config import WhisperConfig
from ..encoder import check_mel
from ..layers import Weights
from .cpu_layers import Linear, attend, gelu, layer_norm, linear, mlp, scratch, tiles
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
        """From the weights as :mod:`minwhisper.names` has them."""
        attention = weights["attention"]
        return cls(
            weights["attention_norm"],
            Linear.of(attention["query"], attention["key"], attention["value"]),
            Linear.of(attention["out"]),
            weights["mlp_norm"],
            Linear.of(weights["mlp"]["fc1"]),
            Linear.of(weights["mlp"]["fc2"]),
        )


def encode(mel: Array, weights: Weights, config: WhisperConfig, pool: Pool) -> Array:
    """:func:`minwhisper.encoder.encode`: mel (B, M, frames) -> features (B, ⌈frames / 2⌉, D)."""
    check_mel(mel, config)
    features = np.empty((len(mel), (mel.shape[2] + 1) // 2, config.d_model), np.float32)
    for window, out in zip(mel, features, strict=True):
        stem(window, weights, out, pool)
        for block in weights["blocks"]:
            encoder_block(out, EncoderBlock.of(block), config.encoder_attention_heads, pool)
        pool.run(lambda rows, x=out: layer_norm(x[rows], **weights["norm"], out=x[rows]), tiles(len(out)))
    return features


def stem(mel: Array, weights: Weights, out: Array, pool: Pool) -> None:
    """:func:`minwhisper.encoder.stem` of one window, into ``out``: mel (M, 2T) -> (T, D)."""
    width = out.shape[1]
    # A zero before and after, and one more where the second convolution would look past an odd end.
    sound = np.zeros((mel.shape[1] + 2, len(mel)), np.float32)
    sound[1:-1] = mel.T
    between = np.zeros((mel.shape[1] + 3, width), np.float32)
    first, second = (_taps(weights[name]) for name in ("conv1", "conv2"))

    def one(rows: slice) -> None:
        gelu(conv1d(sound[rows.start :], *first, out=between[1:-2][rows]))

    def two(rows: slice) -> None:
        y = gelu(conv1d(between[2 * rows.start :], *second, stride=2, out=out[rows]))
        y += weights["positions"][rows]

    pool.run(one, tiles(mel.shape[1]))
    pool.run(two, tiles(len(out)))


def _taps(weights: Weights) -> Linear:
    """The three matrices of a convolution below each other, (3 I, O), and its bias."""
    weight = weights["weight"]
    return Linear(np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(-1, len(weight)), weights["bias"])


def conv1d(padded: Array, taps: Array, bias: Array, out: Array, stride: int = 1) -> Array:
    """:func:`minwhisper.layers.conv1d` of a padded x, (≥ stride·(T-1) + 3, I), into ``out`` (T, O).

    Three frames that follow each other in memory are one row of three times the width, so the three products are one,
    and the rows overlap without being copied.
    """
    step, number = padded.strides
    x = as_strided(padded, (len(out), len(taps)), (stride * step, number), writeable=False)
    return linear(x, taps, bias, out)


def encoder_block(x: Array, block: EncoderBlock, heads: int, pool: Pool) -> None:
    """:func:`minwhisper.encoder.encoder_block` of one window, in place: x (T, D)."""
    length, width = x.shape
    size = width // heads
    query_key_value = scratch("query, key, value", length, 3 * width)
    queries, values = query_key_value[:, :width], query_key_value[:, 2 * width :]
    keys = scratch("keys", width, length)  # transposed: (D, T) holds (H, K, T)

    def ask(rows: slice) -> None:
        normed = layer_norm(x[rows], **block.attention_norm, out=scratch("normed", *x[rows].shape))
        y = linear(normed, *block.query_key_value, out=query_key_value[rows])
        y[:, :width] *= size**-0.5
        keys[:, rows] = y[:, width : 2 * width].T

    def answer(rows: slice) -> None:
        y = x[rows]
        mixed, change = scratch("mixed heads", *y.shape), scratch("change", *y.shape)
        for head in (slice(start, start + size) for start in range(0, width, size)):
            attend(queries[rows, head], keys[head], values[:, head], out=mixed[:, head])
        y += linear(mixed, *block.out, out=change)
        normed = layer_norm(y, **block.mlp_norm, out=mixed)
        y += mlp(normed, block.fc1, block.fc2, out=change)

    pool.run(ask, tiles(length))
    pool.run(answer, tiles(length))
