"""The decoder on a CPU: one step for one text or for many.

A step multiplies a few rows by every weight there is, so its time is that of reading the weights from memory: the
products must not rearrange them (:mod:`minwhisper.fast.cpu.panels`), and everything else has to stay out of the way.
Texts that are fed together share the reading. What they do not share, each text's own keys and values and those of its
window, each attends to alone.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from ...common.backend import Array
from ...model.config import WhisperConfig
from ...model.decoder import check_tokens
from ...model.engine import DecoderInput
from ...model.layers import Weights, causal_mask
from .cache import Cache, empty_keys_values
from .layers import Linear, attend, gelu, layer_norm, linear, scratch, tiles
from .panels import PanelLinear, Panels, multiply
from .threads import Pool

PROMPT_TILE = 64  # rows of a prompt that go through a block at a time
ALONE = Pool(1)
FEW = 8  # rows whose scores of all heads fit into a core's cache


# ------------------------------------------------------------------------------------------ weights


class DecoderBlock(NamedTuple):
    """The weights of a block, as the products want them."""

    attention_norm: Weights
    query_key_value: PanelLinear
    out: PanelLinear
    cross_attention_norm: Weights
    cross_query: PanelLinear
    cross_key_value: Linear
    cross_out: PanelLinear
    mlp_norm: Weights
    fc1: PanelLinear
    fc2: PanelLinear

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """From the weights as :mod:`minwhisper.model.weight_names` has them."""
        own, cross = weights["attention"], weights["cross_attention"]
        return cls(
            weights["attention_norm"],
            PanelLinear.of(own["query"], own["key"], own["value"]),
            PanelLinear.of(own["out"]),
            weights["cross_attention_norm"],
            PanelLinear.of(cross["query"]),
            Linear.of(cross["key"], cross["value"]),
            PanelLinear.of(cross["out"]),
            weights["mlp_norm"],
            PanelLinear.of(weights["mlp"]["fc1"]),
            PanelLinear.of(weights["mlp"]["fc2"]),
        )


class DecoderWeights(NamedTuple):
    """The "decoder" branch, as the products want it."""

    token_embedding: Panels  # (V, D)
    positions: Array
    blocks: tuple[DecoderBlock, ...]
    norm: Weights

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """From the weights as :mod:`minwhisper.model.weight_names` has them."""
        return cls(
            Panels.of(weights["token_embedding"]),
            weights["positions"],
            tuple(map(DecoderBlock.of, weights["blocks"])),
            weights["norm"],
        )


# ------------------------------------------------------------------------------------------ the window


def new_cache(features: Array, weights: DecoderWeights, config: WhisperConfig, pool: Pool) -> Cache:
    """:func:`minwhisper.model.decoder.new_cache` of one window: features (1, T, D)."""
    (x,) = features
    heads, width = config.decoder_attention_heads, config.d_model
    size = width // heads
    audio = [empty_keys_values(x, (heads, len(x), size), by_position=False) for _ in weights.blocks]

    def fill(rows: slice) -> None:
        for block, (keys, values) in zip(weights.blocks, audio, strict=True):
            y = linear(x[rows], *block.cross_key_value, out=scratch("keys, values", len(x[rows]), 2 * width))
            keys.reshape(width, -1)[:, rows] = y[:, :width].T
            values[:, rows] = y[:, width:].reshape(-1, heads, size).transpose(1, 0, 2)

    pool.run(fill, tiles(len(x)))
    return Cache.of(audio)


# ------------------------------------------------------------------------------------------ a step


class _Part(NamedTuple):
    """What one of those fed together has among the common rows."""

    cache: Cache  # with the new tokens counted in
    rows: slice  # of all rows, text by text
    shape: tuple[int, int]  # R, S
    wanted: list[int]  # of all rows


def decode_cached(
    feed: DecoderInput, weights: DecoderWeights, config: WhisperConfig, pool: Pool
) -> tuple[Array, Cache]:
    """:func:`minwhisper.model.decoder.decode_cached`: the logits (R, S, V), and the new cache."""
    return decode_batch([feed], weights, config, pool)[0]


def decode_batch(
    feeds: Sequence[DecoderInput], weights: DecoderWeights, config: WhisperConfig, pool: Pool
) -> list[tuple[Array, Cache]]:
    """:func:`minwhisper.model.decoder.decode_cached` for several caches, whose rows are multiplied together.

    Where one of them has several new tokens, a prompt, there is enough to do without the others.
    """
    prompts = {number for number, feed in enumerate(feeds) if np.shape(feed.tokens)[-1] > 1}
    if prompts and len(feeds) > 1:
        rest = [feed for number, feed in enumerate(feeds) if number not in prompts]
        stepped = iter(decode_batch(rest, weights, config, pool)) if rest else iter(())
        return [
            decode_cached(feed, weights, config, pool) if number in prompts else next(stepped)
            for number, feed in enumerate(feeds)
        ]
    parts: list[_Part] = []
    embedded: list[Array] = []
    end = 0
    for feed in feeds:
        tokens, past = np.asarray(feed.tokens), feed.cache.length
        check_tokens(tokens, feed.cache.rows, past, config)
        texts, length = tokens.shape
        rows = np.arange(end, end + tokens.size).reshape(tokens.shape)
        wanted = rows if feed.wanted is None else rows[:, list(feed.wanted)]
        parts.append(
            _Part(feed.cache.extend(length), slice(end, end + tokens.size), (texts, length), wanted.ravel().tolist())
        )
        x = weights.token_embedding.rows(tokens) + weights.positions[past : past + length]  # (R, S, D)
        embedded.append(x.reshape(tokens.size, -1))
        end += tokens.size
    x = np.concatenate(embedded)  # (N, D), N rows in all
    for number, block in enumerate(weights.blocks):
        decoder_block(x, number, parts, block, config.decoder_attention_heads, pool)
    logits = unembed(x[[row for part in parts for row in part.wanted]], weights, pool)
    found, first = [], 0
    for part in parts:
        mine = logits[first : first + len(part.wanted)]
        found.append((mine.reshape(part.shape[0], -1, config.vocab_size), part.cache))
        first += len(part.wanted)
    return found


def unembed(x: Array, weights: DecoderWeights, pool: Pool) -> Array:
    """:func:`minwhisper.model.decoder.unembed`: (N, D) -> logits (N, V). It works on ``x`` in place."""
    return multiply(layer_norm(x, **weights.norm, out=x), weights.token_embedding, pool)


def decoder_block(x: Array, number: int, parts: Sequence[_Part], block: DecoderBlock, heads: int, pool: Pool) -> None:
    """:func:`minwhisper.model.decoder.decoder_block_cached` of all rows, in place: x (N, D).

    The rows of a step go through it at once. Those of a prompt are cut into tiles, as the encoder's are.
    """
    count, width = x.shape
    scale = (width // heads) ** -0.5
    query_key_value = scratch("query, key, value", count, 3 * width)
    prompt = parts[0].shape[0] == 1 and count > PROMPT_TILE
    all_rows = tiles(count, PROMPT_TILE) if prompt else [slice(0, count)]
    inner = ALONE if prompt else pool

    def ask(rows: slice) -> None:
        normed = layer_norm(x[rows], **block.attention_norm, out=scratch("normed", *x[rows].shape))
        y = block.query_key_value(normed, inner, query_key_value[rows])
        y[:, :width] *= scale

    def answer(rows: slice) -> None:
        y = x[rows]
        normed, mixed = scratch("normed", *y.shape), scratch("mixed heads", *y.shape)
        change = scratch("change", *y.shape)
        here = [part._replace(rows=rows, shape=(1, len(y))) for part in parts] if prompt else parts
        for part in here:
            _attend_text(query_key_value, part, number, heads, mixed[_shifted(part.rows, rows)])
        y += block.out(mixed, inner, change)

        layer_norm(y, **block.cross_attention_norm, out=normed)
        queries = block.cross_query(normed, inner, scratch("cross queries", *y.shape))
        queries *= scale

        def listen(part: _Part) -> None:
            its = _shifted(part.rows, rows)
            _attend_audio(queries[its], part, number, heads, mixed[its])

        inner.run(listen, here)
        y += block.cross_out(mixed, inner, change)

        layer_norm(y, **block.mlp_norm, out=normed)
        hidden = block.fc1(normed, inner, scratch("mlp", len(y), len(block.fc1.weight)))
        y += block.fc2(gelu(hidden), inner, change)

    pool.run(ask, all_rows)
    for part in parts:
        _remember(query_key_value[part.rows], part, number, heads)
    pool.run(answer, all_rows)


def _shifted(rows: slice, tile: slice) -> slice:
    """Where the rows are in the tile."""
    return slice(rows.start - tile.start, rows.stop - tile.start)


def _remember(query_key_value: Array, part: _Part, number: int, heads: int) -> None:
    """Write the new tokens' keys and values into the cache: (R · S, 3 D)."""
    texts, length = part.shape
    end = part.cache.length
    split = query_key_value.reshape(texts, length, 3, heads, -1)  # (R, S, 3, H, K)
    keys, values = part.cache.self_attention.blocks[number]
    keys[:, :, :, end - length : end] = split[:, :, 1].transpose(0, 2, 3, 1)
    values[:, :, end - length : end] = split[:, :, 2].transpose(0, 2, 1, 3)


def _attend_text(query_key_value: Array, part: _Part, number: int, heads: int, out: Array) -> None:
    """New tokens look at their text up to themselves: all rows (N, 3 D) -> (R · S, D) for those of the part."""
    texts, length = part.shape
    width = out.shape[1]
    queries = query_key_value[part.rows, :width].reshape(texts, length, heads, -1).transpose(0, 2, 1, 3)  # (R, H, S, K)
    keys, values = part.cache.self_attention.blocks[number]
    end = part.cache.length
    if length == 1:
        heard = attend(queries, keys[..., :end], values[:, :, :end])
    else:  # of one text these may be some of the new tokens, of several they are all
        end = part.cache.length - len(query_key_value) + part.rows.stop if texts == 1 else end
        mask = causal_mask(length, end - length, queries)
        heard = attend(queries, keys[..., :end], values[:, :, :end], mask)
    out.reshape(texts, length, heads, -1)[...] = heard.transpose(0, 2, 1, 3)


def _attend_audio(queries: Array, part: _Part, number: int, heads: int, out: Array) -> None:
    """New tokens look at their window, those of all texts together: (R · S, D) -> (R · S, D)."""
    keys, values = part.cache.cross_attention[number]
    count, size = len(queries), queries.shape[1] // heads
    if count > FEW:  # a head at a time: the scores of all would not fit into a core's cache
        for head in range(heads):
            its = slice(head * size, (head + 1) * size)
            attend(queries[:, its], keys[head], values[head], out=out[:, its])
    else:
        heard = attend(queries.reshape(count, heads, size).transpose(1, 0, 2), keys, values)  # (H, R · S, K)
        out.reshape(count, heads, size)[...] = heard.transpose(1, 0, 2)
