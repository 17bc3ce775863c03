"""Chapter 4. The decoder: from features and the tokens so far to a score for every possible next token.

It is here twice. :func:`decode` is the one to learn from: all tokens go in, every time. But a token's keys and
values depend only on the tokens before it, so they never change once computed; :func:`decode_cached` keeps them in
a :class:`Cache` and feeds in only the new tokens. The two give the same logits, and a test holds them to it.

Walkthrough: sections 9 and 10.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..common.backend import Array, array_module
from ..errors import ShapeError
from .config import WhisperConfig
from .layers import (
    Weights,
    attend,
    attention,
    causal_mask,
    embedding,
    keys_and_values,
    layer_norm,
    linear,
    merge_heads,
    mlp,
    split_heads,
)

TABLE_ROWS = 4096  # of the vocabulary that are widened at a time


def embed(tokens: Array, weights: Weights, dtype: Any, past: int = 0) -> Array:
    """What each token is plus where it stands: tokens (B, S), ``past`` of them before these -> (B, S, D)."""
    end = past + tokens.shape[-1]
    x = embedding(tokens, weights["token_embedding"]).astype(dtype)
    return x + weights["positions"][past:end].astype(dtype, copy=False)


def check_tokens(tokens: Array, batch: int, past: int, config: WhisperConfig) -> None:
    """Raise :class:`ShapeError` for tokens that are not (B, S) with room for them behind ``past`` earlier ones."""
    if tokens.ndim != 2 or past + tokens.shape[-1] > config.max_target_positions:
        raise ShapeError(
            f"tokens: expected (batch, at most {config.max_target_positions} positions), got "
            f"{tuple(tokens.shape)} after {past} earlier ones"
        )
    if tokens.shape[0] != batch:  # NumPy would stretch a batch of one over the other
        raise ShapeError(f"tokens: expected a batch of {batch}, as many as there are windows, got {tokens.shape[0]}")


def decoder_block(x: Array, features: Array, weights: Weights, heads: int) -> Array:
    """Look at the text so far, look at the sound, think. x (B, S, D), features (B, T, D) -> (B, S, D)."""
    x = x + attention(layer_norm(x, **weights["attention_norm"]), weights["attention"], heads, causal=True)
    normed = layer_norm(x, **weights["cross_attention_norm"])
    x = x + attention(normed, weights["cross_attention"], heads, source=features)
    return x + mlp(layer_norm(x, **weights["mlp_norm"]), weights["mlp"])


def unembed(x: Array, weights: Weights) -> Array:
    """Compare what came out with every token's embedding: (B, S, D) -> logits (B, S, V).

    The output projection is the embedding table itself ("tied"): a token that goes in as a row comes out as a score
    against the same row.
    """
    return unembed_tied(layer_norm(x, **weights["norm"]), weights["token_embedding"])


def unembed_tied(x: Array, table: Array) -> Array:
    """The products with every row of the table: x (…, D), table (V, D) -> (…, V).

    On a GPU a table stored in float16 is widened some rows at a time: all of it would be the largest array of all.
    """
    xp = array_module(x)
    if xp is np or table.dtype == x.dtype:
        return linear(x, table)
    scores = xp.empty((*x.shape[:-1], len(table)), x.dtype)
    for start in range(0, len(table), TABLE_ROWS):
        scores[..., start : start + TABLE_ROWS] = linear(x, table[start : start + TABLE_ROWS])
    return scores


def decode(tokens: Array, features: Array, weights: Weights, config: WhisperConfig) -> Array:
    """The plain decoder: tokens (B, S), features (B, T, D) -> logits (B, S, V).

    ``weights`` is the "decoder" branch. The logits at position s score the token at s + 1.
    """
    check_tokens(tokens, features.shape[0], 0, config)
    x = embed(tokens, weights, features.dtype)
    for block in weights["blocks"]:
        x = decoder_block(x, features, block, config.decoder_attention_heads)
    return unembed(x, weights)


class KV(NamedTuple):
    """What one attention has to remember: keys (B, H, K, T) and values (B, H, T, K); of text, S in place of T."""

    keys: Array
    values: Array

    def append(self, new: "KV") -> "KV":
        """These positions followed by new ones."""
        xp = array_module(self.keys)
        return KV(xp.concatenate([self.keys, new.keys], axis=3), xp.concatenate([self.values, new.values], axis=2))

    def reorder(self, rows: Sequence[int]) -> "KV":
        """These rows of the batch, in this order; a row may come several times."""
        xp = array_module(self.keys)
        return KV(*(xp.concatenate([kv[row : row + 1] for row in rows]) for kv in self))


class Cache(NamedTuple):
    """Keys and values of everything seen so far, one entry a decoder block. A value: steps return a new one."""

    self_attention: tuple[KV, ...]  # grows by the new tokens at every step
    cross_attention: tuple[KV, ...]  # computed once a window: the sound does not change

    @property
    def length(self) -> int:
        """How many tokens are in it."""
        return int(self.self_attention[0].keys.shape[3])

    @property
    def rows(self) -> int:
        """How many texts are in it: one for each window, or several that all hear the same window."""
        return int(self.self_attention[0].keys.shape[0])

    def reorder(self, rows: Sequence[int]) -> "Cache":
        """The cache of one window with these of its texts, in this order; a text may come several times.

        This is how candidates fork and end. What they hear is the same and is shared, not copied. Raises
        :class:`ShapeError` for a cache of several windows, whose sounds would have to be taken too.
        """
        if self.cross_attention[0].keys.shape[0] != 1:
            raise ShapeError(f"cache: expected that of one window, got {self.cross_attention[0].keys.shape[0]}")
        if list(rows) == list(range(self.rows)):
            return self
        return self._replace(self_attention=tuple(kv.reorder(rows) for kv in self.self_attention))


def new_cache(features: Array, weights: Weights, config: WhisperConfig) -> Cache:
    """The cache before the first token: no text, and the keys and values of the sound. features (B, T, D)."""
    xp = array_module(features)
    heads = config.decoder_attention_heads
    # Every step reads all of it, so it is laid out for that once: products copy what is not contiguous.
    audio = [
        KV(*map(xp.ascontiguousarray, keys_and_values(features, block["cross_attention"], heads)))
        for block in weights["blocks"]
    ]
    # No positions yet; an empty slice has the right library, dtype and batch.
    text = [KV(kv.keys[..., :0], kv.values[..., :0, :]) for kv in audio]
    return Cache(tuple(text), tuple(audio))


def decoder_block_cached(x: Array, text: KV, audio: KV, weights: Weights, heads: int) -> tuple[Array, KV]:
    """:func:`decoder_block` for new tokens only: x (B, S, D) -> (B, S, D) and the extended keys and values."""
    past = text.keys.shape[3]
    normed = layer_norm(x, **weights["attention_norm"])
    own = weights["attention"]
    text = text.append(KV(*keys_and_values(normed, own, heads)))
    # A single new token may look at everything: only several at once need a mask among themselves.
    mask = causal_mask(x.shape[1], past, x) if x.shape[1] > 1 else None
    queries = split_heads(linear(normed, **own["query"]), heads)
    x = x + linear(merge_heads(attend(queries, *text, mask)), **own["out"])

    cross = weights["cross_attention"]
    normed = layer_norm(x, **weights["cross_attention_norm"])
    queries = split_heads(linear(normed, **cross["query"]), heads)
    x = x + linear(merge_heads(attend_shared(queries, *audio)), **cross["out"])

    return x + mlp(layer_norm(x, **weights["mlp_norm"]), weights["mlp"]), text


def attend_shared(queries: Array, keys: Array, values: Array) -> Array:
    """:func:`attend` where several texts hear one window: queries (B, H, S, K), keys of one window (1, H, K, T).

    What is asked of the same keys can be asked together: the texts' queries line up as if they were positions of
    one, which is one large product a head and not B small ones. With a window for each text it is plain attention.
    """
    batch, heads, length, width = queries.shape
    if keys.shape[0] == batch:
        return attend(queries, keys, values)
    together = queries.transpose(1, 0, 2, 3).reshape(1, heads, batch * length, width)
    heard = attend(together, keys, values)  # (1, H, B · S, K)
    return heard.reshape(heads, batch, length, width).transpose(1, 0, 2, 3)


def decode_cached(
    tokens: Array, cache: Cache, weights: Weights, config: WhisperConfig, wanted: Sequence[int] | None = None
) -> tuple[Array, Cache]:
    """The decoder for tokens that follow those in the cache: tokens (B, S) -> logits (B, S, V), the new cache.

    One token a step while decoding; several at once for a prompt. B is :attr:`Cache.rows`. ``wanted`` are the
    positions whose logits are returned, all by default: of a prompt few are of interest, and each costs as much as
    all blocks together.
    """
    check_tokens(tokens, cache.rows, cache.length, config)
    x = embed(tokens, weights, cache.cross_attention[0].keys.dtype, cache.length)
    text = []
    for block, own, audio in zip(weights["blocks"], cache.self_attention, cache.cross_attention, strict=True):
        x, extended = decoder_block_cached(x, own, audio, block, config.decoder_attention_heads)
        text.append(extended)
    return unembed(wanted_positions(x, wanted), weights), cache._replace(self_attention=tuple(text))


def wanted_positions(x: Array, wanted: Sequence[int] | None) -> Array:
    """These positions, by default all: (B, S, D) -> (B, positions wanted, D)."""
    if wanted is None:
        return x
    # Slices, since a list to index with would have to be sent to a GPU.
    return array_module(x).concatenate([x[:, :0], *(x[:, position, None] for position in wanted)], axis=1)
