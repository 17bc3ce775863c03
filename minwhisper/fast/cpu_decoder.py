"""The decoder on a CPU: one step for one text or for many.

A step multiplies a few rows by every weight there is, so its time is that of reading the weights from memory: the
products must not rearrange them, and everything else has to stay out of the way. Texts that are fed together share the
reading. What they do not share, each text's own keys and values and those of its window, each attends to alone.

Keys and values lie in buffers with room for more tokens, so that a step writes a row and copies nothing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from ..backend import Array
from ..config import WhisperConfig
from ..decoder import KeysValues, check_tokens
from ..engine import Feed
from ..layers import Weights, causal_mask
from .cpu_layers import Linear, attend, gelu, layer_norm, linear, product, scratch, tiles
from .threads import Pool

ROOM = 64  # tokens for which a buffer has room at first, and by which it grows
PIECE = 2_500_000  # numbers of a matrix (10 MB) that a thread multiplies at a time: less is not worth waking one
FEW = 3  # rows that are multiplied one by one, since a product of several rearranges the matrix first


# ------------------------------------------------------------------------------------------ weights


class DecoderBlock(NamedTuple):
    """The weights of a block, as the products want them."""

    attention_norm: Weights
    query_key_value: Linear
    out: Linear
    cross_attention_norm: Weights
    cross_query: Linear
    cross_key_value: Linear
    cross_out: Linear
    mlp_norm: Weights
    fc1: Linear
    fc2: Linear

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """From the weights as :mod:`minwhisper.names` has them."""
        own, cross = weights["attention"], weights["cross_attention"]
        return cls(
            weights["attention_norm"],
            Linear.of(own["query"], own["key"], own["value"]),
            Linear.of(own["out"]),
            weights["cross_attention_norm"],
            Linear.of(cross["query"]),
            Linear.of(cross["key"], cross["value"]),
            Linear.of(cross["out"]),
            weights["mlp_norm"],
            Linear.of(weights["mlp"]["fc1"]),
            Linear.of(weights["mlp"]["fc2"]),
        )


class DecoderWeights(NamedTuple):
    """The "decoder" branch, as the products want it."""

    token_embedding: Array  # (V, D); its transpose is contiguous
    positions: Array
    blocks: tuple[DecoderBlock, ...]
    norm: Weights

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """From the weights as :mod:`minwhisper.names` has them."""
        return cls(
            np.asfortranarray(weights["token_embedding"]),
            weights["positions"],
            tuple(map(DecoderBlock.of, weights["blocks"])),
            weights["norm"],
        )


# ------------------------------------------------------------------------------------------ the cache


class _Text:
    """Keys (R, H, K, room) and values (R, H, room, K) of some texts, for each block, of which the first are filled."""

    def __init__(self, blocks: int, rows: int, heads: int, width: int, room: int) -> None:
        self.room, self.filled = room, 0
        self.blocks = [
            KeysValues(np.empty((rows, heads, width, room), np.float32), np.empty((rows, heads, room, width), np.float32))
            for _ in range(blocks)
        ]

    def copy(self, rows: Sequence[int], length: int, room: int) -> "_Text":
        """The first ``length`` tokens of these rows, in buffers of their own."""
        _, heads, width, _ = self.blocks[0].keys.shape
        new = _Text(len(self.blocks), len(rows), heads, width, room)
        new.filled = length
        for mine, copied in zip(self.blocks, new.blocks, strict=True):
            for row, origin in enumerate(rows):
                copied.keys[row, :, :, :length] = mine.keys[origin, :, :, :length]
                copied.values[row, :, :length] = mine.values[origin, :, :length]
        return new


class Cache:
    """What :class:`minwhisper.decoder.Cache` is, of one window. A value too: who goes on from it gets a new one.

    The new one shares the buffers, since nobody looks behind the end of what is theirs. Only where two go on from the
    same one, the second gets a copy.
    """

    def __init__(self, audio: Sequence[KeysValues], text: _Text, rows: int, length: int) -> None:
        """``audio``: keys (H, K, T) and values (H, T, K) of the window for each block."""
        self.audio, self.text, self.rows, self.length = audio, text, rows, length

    def take(self, rows: Sequence[int]) -> "Cache":
        """The cache with these of its texts, in this order; one may come several times."""
        if list(rows) == list(range(self.rows)):
            return self
        return Cache(self.audio, self.text.copy(rows, self.length, self.text.room), len(rows), self.length)

    def extend(self, count: int) -> "Cache":
        """The cache with so many tokens more, which are still to be written."""
        text, end = self.text, self.length + count
        if text.filled != self.length or end > text.room:
            text = text.copy(range(self.rows), self.length, math.ceil(end / ROOM) * ROOM)
        text.filled = end
        return Cache(self.audio, text, self.rows, end)


def new_cache(features: Array, weights: DecoderWeights, config: WhisperConfig, pool: Pool) -> Cache:
    """:func:`minwhisper.decoder.new_cache` of one window: features (1, T, D)."""
    (x,) = features
    heads, width = config.decoder_attention_heads, config.d_model
    size = width // heads
    audio = [
        KeysValues(np.empty((heads, size, len(x)), np.float32), np.empty((heads, len(x), size), np.float32))
        for _ in weights.blocks
    ]

    def fill(rows: slice) -> None:
        for block, (keys, values) in zip(weights.blocks, audio, strict=True):
            y = linear(x[rows], *block.cross_key_value, out=scratch("keys, values", len(x[rows]), 2 * width))
            keys.reshape(width, -1)[:, rows] = y[:, :width].T
            values[:, rows] = y[:, width:].reshape(-1, heads, size).transpose(1, 0, 2)

    pool.run(fill, tiles(len(x)))
    return Cache(audio, _Text(len(weights.blocks), 1, heads, size, ROOM), rows=1, length=0)


# ------------------------------------------------------------------------------------------ a step


class _Part(NamedTuple):
    """What one of those fed together has in the common rows."""

    cache: Cache  # already with room for the new tokens
    rows: slice  # of all rows, text by text
    shape: tuple[int, int]  # R, S
    wanted: list[int]  # of all rows


def decode_cached(
    feed: Feed, weights: DecoderWeights, config: WhisperConfig, pool: Pool
) -> tuple[Array, Cache]:
    """:func:`minwhisper.decoder.decode_cached`: the logits (R, S, V), and the new cache."""
    return decode_together([feed], weights, config, pool)[0]


def decode_together(
    feeds: Sequence[Feed], weights: DecoderWeights, config: WhisperConfig, pool: Pool
) -> list[tuple[Array, Cache]]:
    """:func:`minwhisper.decoder.decode_cached` for several caches, whose rows are multiplied together."""
    heads = config.decoder_attention_heads
    parts: list[_Part] = []
    starts: list[Array] = []
    end = 0
    for feed in feeds:
        tokens = np.asarray(feed.tokens)
        check_tokens(tokens, feed.cache.rows, feed.cache.length, config)
        length = tokens.shape[1]
        begin, end = end, end + tokens.size
        rows = np.arange(begin, end).reshape(tokens.shape)
        wanted = rows if feed.wanted is None else rows[:, list(feed.wanted)]
        past = feed.cache.length
        parts.append(_Part(feed.cache.extend(length), slice(begin, end), tokens.shape, wanted.ravel().tolist()))
        starts.append(weights.token_embedding[tokens.ravel()] + np.tile(weights.positions[past : past + length], (len(tokens), 1)))
    x = starts[0] if len(starts) == 1 else np.concatenate(starts)  # (N, D), N rows in all
    for number, block in enumerate(weights.blocks):
        decoder_block(x, number, parts, block, heads, pool)
    wanted_rows = [row for part in parts for row in part.wanted]
    logits = project(x[wanted_rows], weights, pool)
    found = []
    for part in parts:
        mine, logits = logits[: len(part.wanted)], logits[len(part.wanted) :]
        found.append((mine.reshape(part.shape[0], -1, config.vocab_size), part.cache))
    return found


def project(x: Array, weights: DecoderWeights, pool: Pool) -> Array:
    """:func:`minwhisper.decoder.project`: (N, D) -> logits (N, V)."""
    logits = np.empty((len(x), len(weights.token_embedding)), np.float32)
    spread(layer_norm(x, **weights.norm, out=x), weights.token_embedding.T, logits, pool)
    return logits


def decoder_block(x: Array, number: int, parts: Sequence[_Part], block: DecoderBlock, heads: int, pool: Pool) -> None:
    """:func:`minwhisper.decoder.decoder_block_cached` of all rows, in place: x (N, D)."""
    count, width = x.shape
    normed, change = scratch("normed", count, width), scratch("change", count, width)
    mixed = scratch("mixed heads", count, width)

    layer_norm(x, **block.attention_norm, out=normed)
    query_key_value = scratch("query, key, value", count, 3 * width)
    spread_linear(normed, block.query_key_value, query_key_value, pool)
    query_key_value[:, :width] *= (width // heads) ** -0.5
    for part in parts:
        _attend_text(query_key_value[part.rows], part, number, heads, mixed[part.rows])
    x += spread_linear(mixed, block.out, change, pool)

    layer_norm(x, **block.cross_attention_norm, out=normed)
    queries = spread_linear(normed, block.cross_query, scratch("cross queries", count, width), pool)
    queries *= (width // heads) ** -0.5
    pool.run(lambda part: _attend_audio(queries[part.rows], part, number, heads, mixed[part.rows]), parts)
    x += spread_linear(mixed, block.cross_out, change, pool)

    layer_norm(x, **block.mlp_norm, out=normed)
    hidden = spread_linear(normed, block.fc1, scratch("mlp", count, block.fc1.weight.shape[1]), pool)
    x += spread_linear(gelu(hidden), block.fc2, change, pool)


def _attend_text(query_key_value: Array, part: _Part, number: int, heads: int, out: Array) -> None:
    """The new tokens look at their text: (R · S, 3 D) -> (R · S, D)."""
    rows, length = part.shape
    end = part.cache.length
    split = query_key_value.reshape(rows, length, 3, heads, -1)
    queries, new_keys, new_values = split[:, :, 0], split[:, :, 1], split[:, :, 2]  # (R, S, H, K)
    keys, values = part.cache.text.blocks[number]
    keys[:, :, :, end - length : end] = new_keys.transpose(0, 2, 3, 1)
    values[:, :, end - length : end] = new_values.transpose(0, 2, 1, 3)
    mask = causal_mask(length, end - length, queries) if length > 1 else None
    heard = attend(queries.transpose(0, 2, 1, 3), keys[..., :end], values[:, :, :end], mask)  # (R, H, S, K)
    out.reshape(rows, length, heads, -1)[...] = heard.transpose(0, 2, 1, 3)


def _attend_audio(queries: Array, part: _Part, number: int, heads: int, out: Array) -> None:
    """The new tokens look at their window, those of all texts together: (R · S, D) -> (R · S, D)."""
    heard = attend(queries.reshape(len(queries), heads, -1).transpose(1, 0, 2), *part.cache.audio[number])
    out.reshape(len(queries), heads, -1)[...] = heard.transpose(1, 0, 2)


def spread_linear(x: Array, weights: Linear, out: Array, pool: Pool) -> Array:
    """:func:`minwhisper.layers.linear` with :func:`spread`: x (N, I) -> (N, O)."""
    spread(x, weights.weight, out, pool)
    out += weights.bias
    return out


def spread(x: Array, weight: Array, out: Array, pool: Pool) -> None:
    """The product x (N, I) with a matrix (I, O) into ``out`` (N, O), shared among threads by columns if it is large."""
    rows = [x] if len(x) > FEW else np.split(x, len(x))
    outs = [out] if len(x) > FEW else np.split(out, len(x))
    pieces = min(8, math.ceil(weight.size * max(1, len(x) // 8) / PIECE))
    columns = math.ceil(weight.shape[1] / pieces)

    def some(start: int) -> None:
        part = slice(start, start + columns)
        for a, y in zip(rows, outs, strict=True):
            product(a, weight[:, part], y[:, part])

    pool.run(some, range(0, weight.shape[1], columns))
