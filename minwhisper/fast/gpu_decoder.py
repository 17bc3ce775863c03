"""The decoder on a GPU: prompts by the layers, steps by kernels alone.

A step launches fourteen small kernels a block, and to launch one takes the processor longer than it takes the GPU to
run it. As a CUDA graph all of them are launched by one call. That is done where one window is decoded greedily; for
several windows, and for candidates that change places, the kernels are launched one by one. A graph plays again what
was recorded, at the same addresses: so keys and values lie in buffers that stay, and what differs from step to step,
the tokens and how many came before, lies in the GPU's memory. They get there as numbers that kernels are called with:
no array is sent.
"""

import threading
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array, array_module
from ..config import WhisperConfig
from ..decoder import check_tokens, embed, tied_scores, wanted_positions
from ..devices import is_full
from ..engine import Feed, place_tokens
from ..layers import Weights, linear
from .cache import Cache, empty_keys_values
from .gpu_kernels import Kernels
from .gpu_layers import Layers, split_heads
from .gpu_memory import pool


def new_cache(features: Array, weights: Weights, config: WhisperConfig) -> Cache:
    """:func:`minwhisper.decoder.new_cache` of one window: features (1, T, D).

    Keys and values are kept in the dtype of the weights.
    """
    (x,) = features
    heads, width = config.decoder_attention_heads, config.d_model // config.decoder_attention_heads
    like, audio = weights["token_embedding"], []
    for block in weights["blocks"]:
        kept = empty_keys_values(like, (heads, len(x), width), by_position=True)
        kept.keys[...] = split_heads(linear(x, **block["cross_attention"]["key"]), heads).transpose(0, 2, 1)
        kept.values[...] = split_heads(linear(x, **block["cross_attention"]["value"]), heads)
        audio.append(kept)
    return Cache.of(audio, config.max_target_positions, by_position=True)


# ------------------------------------------------------------------------------------------ by the layers


def decode_cached(feed: Feed, weights: Weights, config: WhisperConfig, layers: Layers) -> tuple[Array, Cache]:
    """:func:`minwhisper.decoder.decode_cached`: the logits (R, S, V), and the new cache."""
    past, table = feed.cache.length, weights["token_embedding"]
    tokens = place_tokens(feed.tokens, table)
    check_tokens(tokens, feed.cache.rows, past, config)
    cache = feed.cache.extend(tokens.shape[1])
    x = embed(tokens, weights, np.float32, past)  # (R, S, D)
    for number, block in enumerate(weights["blocks"]):
        decoder_block(x, number, cache, block, config.decoder_attention_heads, layers)
    return project(wanted_positions(x, feed.wanted), weights, layers), cache


def decoder_block(x: Array, number: int, cache: Cache, weights: Weights, heads: int, layers: Layers) -> None:
    """:func:`minwhisper.decoder.decoder_block_cached` in place: x (R, S, D), which the cache counts already."""
    length, end = x.shape[1], cache.length
    keys, values = cache.text.blocks[number]  # (R, H, K, room), (R, H, room, K)
    own, cross = weights["attention"], weights["cross_attention"]
    past = end - length if length > 1 else None
    normed = layers.layer_norm(x, **weights["attention_norm"])
    for row, its in enumerate(normed):  # (S, D)
        queries = split_heads(linear(its, **own["query"]), heads)
        keys[row, :, :, end - length : end] = split_heads(linear(its, **own["key"]), heads).transpose(0, 2, 1)
        values[row, :, end - length : end] = split_heads(linear(its, **own["value"]), heads)
        x[row] += linear(layers.attend(queries, keys[row, :, :, :end], values[row, :, :end], past), **own["out"])

    together = x.reshape(-1, x.shape[2])  # (R · S, D), the same memory: all hear the same window
    normed = layers.layer_norm(together, **weights["cross_attention_norm"])
    queries = split_heads(linear(normed, **cross["query"]), heads)
    together += linear(layers.attend(queries, *cache.audio[number]), **cross["out"])
    together += layers.mlp(layers.layer_norm(together, **weights["mlp_norm"]), weights["mlp"])


def project(x: Array, weights: Weights, layers: Layers) -> Array:
    """:func:`minwhisper.decoder.project`: (R, S, D) -> logits (R, S, V)."""
    return tied_scores(layers.layer_norm(x, **weights["norm"]), weights["token_embedding"])


# ------------------------------------------------------------------------------------------ by kernels


class Buffers(NamedTuple):
    """What a step of N rows computes in, always at the same place."""

    tokens: Array  # (N,) int32
    positions: Array  # (N, 1) int32: of each cache that is fed, how many tokens are in it
    x: Array  # (N, D)
    normed: Array  # (N, D)
    query_key_value: Array  # (3, N, D)
    mixed: Array  # (N, D)
    hidden: Array  # (N, F)
    partial: Array  # of attend_audio
    logits: Array  # (N, V)


class _Part(NamedTuple):
    """What one of those fed together has among the common rows."""

    cache: Cache  # with the new token counted in
    rows: slice
    number: int


class Steps:
    """Steps of one new token a text."""

    def __init__(self, weights: Weights, config: WhisperConfig, kernels: Kernels) -> None:
        self._weights, self._config, self._kernels = weights, config, kernels
        self._buffers: dict[int, Buffers] = {}
        self._record = True
        self._lock = threading.Lock()  # two threads with one model would fill the same buffers

    def decode_together(self, feeds: Sequence[Feed]) -> list[tuple[Array, Cache]]:
        """:func:`minwhisper.decoder.decode_cached` of one token a text, for several caches: logits (R, 1, V)."""
        with self._lock:
            return self._decode_together(feeds)

    def _decode_together(self, feeds: Sequence[Feed]) -> list[tuple[Array, Cache]]:
        parts: list[_Part] = []
        buffers = self._buffers_of(sum(feed.cache.rows for feed in feeds))
        end = 0
        for number, feed in enumerate(feeds):
            past, rows = feed.cache.length, slice(end, end + feed.cache.rows)
            check_tokens(np.asarray(feed.tokens), feed.cache.rows, past, self._config)
            for row, (token,) in enumerate(feed.tokens, start=rows.start):
                buffers.tokens[row : row + 1].fill(token)
            buffers.positions[number].fill(past)
            parts.append(_Part(feed.cache.extend(1), rows, number))
            end = rows.stop
        if len(parts) == 1 and self._record:
            self._play(parts[0], buffers)
        else:
            self._launch(parts, buffers)
        return [(buffers.logits[part.rows, None].copy(), part.cache) for part in parts]

    def _buffers_of(self, rows: int) -> Buffers:
        """The buffers for so many rows: the first rows of some that are made once and stay, since records point there.

        They are for 1, 2, 4, 8 … rows, so that all of them together take less than twice what the largest do.
        """
        room = 1 << (rows - 1).bit_length()
        if room not in self._buffers:
            config, xp = self._config, array_module(self._weights["token_embedding"])
            width, heads = config.d_model, config.decoder_attention_heads
            partial = self._kernels.partial_shape(room, heads, config.max_source_positions, width // heads)
            self._buffers[room] = Buffers(
                tokens=xp.empty(room, np.int32),
                positions=xp.empty((room, 1), np.int32),
                x=xp.empty((room, width), np.float32),
                normed=xp.empty((room, width), np.float32),
                query_key_value=xp.empty((3, room, width), np.float32),
                mixed=xp.empty((room, width), np.float32),
                hidden=xp.empty((room, config.decoder_ffn_dim), np.float32),
                partial=xp.empty(partial, np.float32),
                logits=xp.empty((room, config.vocab_size), np.float32),
            )
        whole = self._buffers[room]
        first = Buffers(*(array[:rows] for array in whole))
        return first._replace(query_key_value=whole.query_key_value[:, :rows])

    def _play(self, part: _Part, buffers: Buffers) -> None:
        """A step of one cache: the second in the same buffers is recorded, and those after it play the record.

        A beam whose candidates change places has other buffers at every step, for which recording would not pay.
        """
        text = part.cache.text
        if not text.stepped:
            text.stepped = True
            self._launch([part], buffers)
            return
        if text.recorded is None:
            try:
                text.recorded = self._recorded_with_room(part, buffers)
            except Exception as error:  # CuPy raises its own types, and the driver's
                warnings.warn(f"a step cannot be recorded on this GPU, so it is slower: {error}", stacklevel=2)
                self._record = False
                self._launch([part], buffers)
                return
        text.recorded.launch()

    def _recorded_with_room(self, part: _Part, buffers: Buffers) -> Any:
        """The step as a CUDA graph, for which CUDA needs memory that CuPy's pool may be holding."""
        try:
            return self._recorded(part, buffers)
        except Exception as error:
            if not is_full(error):
                raise
            pool().free_all_blocks()
            return self._recorded(part, buffers)

    def _recorded(self, part: _Part, buffers: Buffers) -> Any:
        """The step as a CUDA graph."""
        import cupy

        stream = cupy.cuda.Stream(non_blocking=True)  # the usual one cannot be recorded
        with stream:
            stream.begin_capture()
            try:
                self._launch([part], buffers)
            finally:
                graph = stream.end_capture()
        return graph

    def _launch(self, parts: Sequence[_Part], to: Buffers) -> None:
        """All kernels of a step."""
        run, weights = self._kernels, self._weights
        queries, new_keys, new_values = to.query_key_value
        for part in parts:
            position = to.positions[part.number]
            run.embed(to.tokens[part.rows], weights["token_embedding"], weights["positions"], position, to.x[part.rows])
        for number, block in enumerate(weights["blocks"]):
            own, cross, mlp = block["attention"], block["cross_attention"], block["mlp"]
            run.layer_norm(to.x, **block["attention_norm"], out=to.normed)
            for name, y in (("query", queries), ("key", new_keys), ("value", new_values)):
                run.matvec(to.normed, own[name]["weight"], own[name].get("bias"), y)
            for part in parts:
                keys, values = part.cache.text.blocks[number]
                place = to.positions[part.number], to.mixed[part.rows]
                run.attend_text(to.query_key_value[:, part.rows], keys.swapaxes(2, 3), values, *place)
            run.matvec(to.mixed, own["out"]["weight"], own["out"]["bias"], to.x, residual=to.x)

            run.layer_norm(to.x, **block["cross_attention_norm"], out=to.normed)
            run.matvec(to.normed, cross["query"]["weight"], cross["query"]["bias"], queries)
            for part in parts:
                keys, values = part.cache.audio[number]
                partial = to.partial[part.rows]
                run.attend_audio(queries[part.rows], keys.swapaxes(1, 2), values, partial, to.mixed[part.rows])
            run.matvec(to.mixed, cross["out"]["weight"], cross["out"]["bias"], to.x, residual=to.x)

            run.layer_norm(to.x, **block["mlp_norm"], out=to.normed)
            run.matvec(to.normed, mlp["fc1"]["weight"], mlp["fc1"]["bias"], to.hidden, gelu=True)
            run.matvec(to.hidden, mlp["fc2"]["weight"], mlp["fc2"]["bias"], to.x, residual=to.x)
        run.layer_norm(to.x, **weights["norm"], out=to.normed)
        run.matvec(to.normed, weights["token_embedding"], None, to.logits)
