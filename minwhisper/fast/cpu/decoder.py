"""The decoder on a CPU: one step for one or many sequences.

A step multiplies a few rows by all weights, so it takes as long as reading the weights from memory: products must not
rearrange them (``fast.cpu.panels``), and everything else has to be cheap. Sequences decoded together
share that reading. Attention is done per cache, since each has its own keys and values.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from ...common.backend import Array
from ...model.config import WhisperConfig
from ...model.decoder import check_tokens
from ...model.engine import DecoderInput
from ...model.layers import Weights, causal_mask
from .cache import CpuCache, empty_kv
from .layers import Linear, attend, gelu, layer_norm, linear, tiles, workspace
from .panels import PanelLinear, Panels, panel_matmul
from .threads import Pool

PROMPT_TILE = 64  # rows of a prompt that go through a block at a time
MAX_BATCHED_ROWS = 8  # up to this number of rows, the scores of all heads fit into a core's cache
SINGLE_THREAD = Pool(1)


# ------------------------------------------------------------------------------------------ weights


class DecoderBlock(NamedTuple):
    """The weights of a block, in the layout that the products need."""

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
        """Convert weights named as in ``model.weight_names``."""
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
    """The "decoder" branch of the weights, in the layout that the products need."""

    token_embedding: Panels  # (V, D)
    positions: Array
    blocks: tuple[DecoderBlock, ...]
    norm: Weights

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """Convert weights named as in ``model.weight_names``."""
        return cls(
            Panels.of(weights["token_embedding"]),
            weights["positions"],
            tuple(map(DecoderBlock.of, weights["blocks"])),
            weights["norm"],
        )


# ------------------------------------------------------------------------------------------ the window


def new_cache(features: Array, weights: DecoderWeights, config: WhisperConfig, pool: Pool) -> CpuCache:
    """Compute ``model.decoder.new_cache`` of one window: features (1, T, D)."""
    (x,) = features
    heads, width = config.decoder_attention_heads, config.d_model
    size = width // heads
    audio = [empty_kv(x, (heads, len(x), size)) for _ in weights.blocks]

    def project(rows: slice) -> None:
        for block, (keys, values) in zip(weights.blocks, audio, strict=True):
            y = linear(x[rows], *block.cross_key_value, out=workspace("keys, values", len(x[rows]), 2 * width))
            keys.reshape(width, -1)[:, rows] = y[:, :width].T
            values[:, rows] = y[:, width:].reshape(-1, heads, size).transpose(1, 0, 2)

    pool.run(project, tiles(len(x)))
    return CpuCache.of(audio)


# ------------------------------------------------------------------------------------------ a step


class BatchItem(NamedTuple):
    """One decoder input, as part of the rows of a batch."""

    cache: CpuCache  # already extended by the new tokens
    rows: slice  # of the batch, one sequence after another
    shape: tuple[int, int]  # R, S
    wanted: list[int]  # rows of the batch whose logits are wanted


def decode_cached(
    entry: DecoderInput, weights: DecoderWeights, config: WhisperConfig, pool: Pool
) -> tuple[Array, CpuCache]:
    """Compute ``model.decoder.decode_cached``: the logits (R, S, V), and the new cache."""
    return decode_batch([entry], weights, config, pool)[0]


def decode_batch(
    inputs: Sequence[DecoderInput], weights: DecoderWeights, config: WhisperConfig, pool: Pool
) -> list[tuple[Array, CpuCache]]:
    """Compute ``model.decoder.decode_cached`` for several caches, whose rows share the products.

    An input with several new tokens per sequence, a prompt, is decoded alone: it has enough rows already.
    """
    prompts = {number for number, entry in enumerate(inputs) if np.shape(entry.tokens)[-1] > 1}
    if prompts and len(inputs) > 1:
        rest = [entry for number, entry in enumerate(inputs) if number not in prompts]
        stepped = iter(decode_batch(rest, weights, config, pool)) if rest else iter(())
        return [
            decode_cached(entry, weights, config, pool) if number in prompts else next(stepped)
            for number, entry in enumerate(inputs)
        ]
    items: list[BatchItem] = []
    embedded: list[Array] = []
    end = 0
    for entry in inputs:
        tokens, past = np.asarray(entry.tokens), entry.cache.length
        check_tokens(tokens, entry.cache.rows, past, config)
        sequences, length = tokens.shape
        rows = np.arange(end, end + tokens.size).reshape(tokens.shape)
        wanted = (rows if entry.wanted is None else rows[:, list(entry.wanted)]).ravel().tolist()
        items.append(BatchItem(entry.cache.extend(length), slice(end, end + tokens.size), (sequences, length), wanted))
        x = weights.token_embedding.rows(tokens) + weights.positions[past : past + length]  # (R, S, D)
        embedded.append(x.reshape(tokens.size, -1))
        end += tokens.size
    x = np.concatenate(embedded)  # (N, D), N rows in all
    for number, block in enumerate(weights.blocks):
        decoder_block(x, number, items, block, config.decoder_attention_heads, pool)
    logits = unembed(x[[row for item in items for row in item.wanted]], weights, pool)
    results, first = [], 0
    for item in items:
        its = logits[first : first + len(item.wanted)]
        results.append((its.reshape(item.shape[0], -1, config.vocab_size), item.cache))
        first += len(item.wanted)
    return results


def unembed(x: Array, weights: DecoderWeights, pool: Pool) -> Array:
    """Compute ``model.decoder.unembed``: (N, D) -> logits (N, V). It overwrites ``x``."""
    return panel_matmul(layer_norm(x, **weights.norm, out=x), weights.token_embedding, pool)


def decoder_block(
    x: Array, number: int, items: Sequence[BatchItem], block: DecoderBlock, heads: int, pool: Pool
) -> None:
    """Compute ``model.decoder.decoder_block`` of all rows, in place: x (N, D).

    The rows of a step pass through it together. Those of a long prompt are cut into tiles, as in the encoder.
    """
    count, width = x.shape
    scale = (width // heads) ** -0.5
    query_key_value = workspace("query, key, value", count, 3 * width)
    prompt = items[0].shape[0] == 1 and count > PROMPT_TILE
    all_rows = tiles(count, PROMPT_TILE) if prompt else [slice(0, count)]
    inner = SINGLE_THREAD if prompt else pool

    def project_qkv(rows: slice) -> None:
        normed = layer_norm(x[rows], **block.attention_norm, out=workspace("normed", *x[rows].shape))
        y = block.query_key_value(normed, inner, query_key_value[rows])
        y[:, :width] *= scale

    def attend_and_mlp(rows: slice) -> None:
        y = x[rows]
        normed, mixed = workspace("normed", *y.shape), workspace("mixed heads", *y.shape)
        change = workspace("change", *y.shape)
        here = [item._replace(rows=rows, shape=(1, len(y))) for item in items] if prompt else items
        for item in here:
            _self_attention(query_key_value, item, number, heads, mixed[_within(item.rows, rows)])
        y += block.out(mixed, inner, change)

        layer_norm(y, **block.cross_attention_norm, out=normed)
        queries = block.cross_query(normed, inner, workspace("cross queries", *y.shape))
        queries *= scale

        def cross_attend(item: BatchItem) -> None:
            its = _within(item.rows, rows)
            _cross_attention(queries[its], item, number, heads, mixed[its])

        inner.run(cross_attend, here)
        y += block.cross_out(mixed, inner, change)

        layer_norm(y, **block.mlp_norm, out=normed)
        hidden = block.fc1(normed, inner, workspace("mlp", len(y), len(block.fc1.weight)))
        y += block.fc2(gelu(hidden), inner, change)

    pool.run(project_qkv, all_rows)
    for item in items:
        _write_kv(query_key_value[item.rows], item, number, heads)
    pool.run(attend_and_mlp, all_rows)


def _within(rows: slice, tile: slice) -> slice:
    """Return rows of the batch as rows of a tile."""
    return slice(rows.start - tile.start, rows.stop - tile.start)


def _write_kv(query_key_value: Array, item: BatchItem, number: int, heads: int) -> None:
    """Write the new tokens' keys and values to the cache: (R · S, 3 D)."""
    sequences, length = item.shape
    end = item.cache.length
    split = query_key_value.reshape(sequences, length, 3, heads, -1)  # (R, S, 3, H, K)
    keys, values = item.cache.self_attention.blocks[number]
    keys[:, :, :, end - length : end] = split[:, :, 1].transpose(0, 2, 3, 1)
    values[:, :, end - length : end] = split[:, :, 2].transpose(0, 2, 1, 3)


def _self_attention(query_key_value: Array, item: BatchItem, number: int, heads: int, out: Array) -> None:
    """Let the item's tokens attend to their sequences up to themselves: all rows (N, 3 D) -> (R · S, D)."""
    sequences, length = item.shape
    width = out.shape[1]
    queries = query_key_value[item.rows, :width].reshape(sequences, length, heads, -1).transpose(0, 2, 1, 3)
    keys, values = item.cache.self_attention.blocks[number]
    end = item.cache.length
    if length == 1:
        mixed = attend(queries, keys[..., :end], values[:, :, :end])  # (R, H, S, K)
    else:  # for one sequence, possibly a tile of its new tokens; for several, all of them
        end = item.cache.length - len(query_key_value) + item.rows.stop if sequences == 1 else end
        mask = causal_mask(length, end - length, queries)
        mixed = attend(queries, keys[..., :end], values[:, :, :end], mask)
    out.reshape(sequences, length, heads, -1)[...] = mixed.transpose(0, 2, 1, 3)


def _cross_attention(queries: Array, item: BatchItem, number: int, heads: int, out: Array) -> None:
    """Let the new tokens of all sequences attend to their window: (R · S, D) -> (R · S, D)."""
    keys, values = item.cache.cross_attention[number]
    count, size = len(queries), queries.shape[1] // heads
    if count > MAX_BATCHED_ROWS:  # one head at a time, so that the scores fit into a core's cache
        for head in range(heads):
            its = slice(head * size, (head + 1) * size)
            attend(queries[:, its], keys[head], values[head], out=out[:, its])
    else:
        mixed = attend(queries.reshape(count, heads, size).transpose(1, 0, 2), keys, values)  # (H, R · S, K)
        out.reshape(count, heads, size)[...] = mixed.transpose(1, 0, 2)
