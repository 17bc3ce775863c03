"""The decoder: from features and the tokens so far to logits, a score for each possible next token.

The keys and values of a token depend only on that token and the ones before it, so they never change once computed. A
``Cache`` keeps them, and ``decode_cached`` computes only the new tokens. ``decode`` starts from an empty cache and
computes all tokens at once.

Walkthrough: sections 9 and 10.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..common.backend import Array
from ..errors import ShapeError
from .config import WhisperConfig
from .layers import KV, Weights, attention, causal_mask, embedding, keys_and_values, layer_norm, mlp
from .numerics import ascontiguousarray, concatenate, matmul


def embed(tokens: Array, weights: Weights, dtype: Any, past: int = 0) -> Array:
    """Add token and position embeddings: tokens (B, S) after ``past`` earlier ones -> (B, S, D)."""
    x = embedding(tokens, weights["token_embedding"]).astype(dtype)  # float16 is for storage only
    return x + weights["positions"][past : past + tokens.shape[1]]  # (B, S, D) + (S, D)


def decoder_block(x: Array, kv: KV, cross_kv: KV, weights: Weights, heads: int) -> tuple[Array, KV, Array]:
    """Apply self-attention to the text so far, cross-attention to the audio, then the MLP.

    x (B, S, D), kv of the earlier tokens, cross_kv of the audio -> x (B, S, D), kv with the S new tokens appended, and
    the scores of cross-attention (B, H, S, T). ``cross_kv`` may have a batch of 1, which all sequences share.
    """
    normed = layer_norm(x, **weights["attention_norm"])
    length, past = x.shape[1], kv.values.shape[2]
    mask = causal_mask(length, past, x) if length > 1 else None  # a single new token may attend to all
    kv = kv.append(keys_and_values(normed, weights["attention"], heads))
    change, _ = attention(normed, kv, weights["attention"], heads, mask)
    x = x + change

    normed = layer_norm(x, **weights["cross_attention_norm"])
    change, scores = attention(normed, cross_kv, weights["cross_attention"], heads)
    x = x + change

    return x + mlp(layer_norm(x, **weights["mlp_norm"]), weights["mlp"]), kv, scores


def unembed(x: Array, weights: Weights) -> Array:
    """Compute the logits: (B, S, D) -> (B, S, V).

    The output projection is the token embedding itself ("tied"): the logit of a token is the product with its row.
    """
    return matmul(layer_norm(x, **weights["norm"]), weights["token_embedding"].T)  # (B, S, D) @ (D, V)


class Cache(NamedTuple):
    """A key-value cache: the keys and values of each decoder block. It does not change: steps return a new one."""

    self_attention: tuple[KV, ...]  # of the text, one entry per block; each step appends the new tokens
    cross_attention: tuple[KV, ...]  # of the audio, one entry per block; computed once per window

    @property
    def length(self) -> int:
        """The number of tokens in each sequence."""
        return int(self.self_attention[0].values.shape[2])

    @property
    def rows(self) -> int:
        """The number of sequences: one per window, or several for one window."""
        return int(self.self_attention[0].values.shape[0])

    def reorder(self, rows: Sequence[int]) -> "Cache":
        """Return a cache with the sequences ``rows``, in this order; a sequence may appear several times.

        This is how hypotheses branch and end. The keys and values of the audio are shared, not copied. Raises
        ``ShapeError`` for a cache of several windows.
        """
        windows = self.cross_attention[0].keys.shape[0]
        if windows != 1:
            raise ShapeError(f"cache: expected one window, got {windows}")
        if list(rows) == list(range(self.rows)):
            return self
        return self._replace(self_attention=tuple(kv.reorder(rows) for kv in self.self_attention))


def cross_keys_and_values(features: Array, block: Weights, heads: int) -> KV:
    """Project the keys and values of the audio for one block: features (B, T, D) -> (B, H, K, T) and (B, H, T, K)."""
    # Every step reads all of it, so it is made contiguous once; otherwise matmul would copy it each time.
    return KV(*map(ascontiguousarray, keys_and_values(features, block["cross_attention"], heads)))


def new_cache(features: Array, weights: Weights, config: WhisperConfig) -> Cache:
    """Return the cache before the first token: no text, and the keys and values of the audio. features (B, T, D)."""
    heads = config.decoder_attention_heads
    audio = tuple(cross_keys_and_values(features, block, heads) for block in weights["blocks"])
    return Cache(tuple(kv.empty() for kv in audio), audio)


def decode_cached(
    tokens: Array, cache: Cache, weights: Weights, config: WhisperConfig, wanted: Sequence[int] | None = None
) -> tuple[Array, Cache]:
    """Decode the tokens that follow those in the cache: tokens (B, S) -> logits (B, S, V) and the new cache.

    A prompt comes all at once, later tokens one by one. B is ``Cache.rows``. ``wanted`` are the positions whose
    logits are returned, by default all; in tiny, the logits of one position cost more than all blocks together.
    """
    check_tokens(tokens, cache.rows, cache.length, config)
    x = embed(tokens, weights, cache.cross_attention[0].keys.dtype, cache.length)  # (B, S, D)
    text = []
    for block, kv, cross_kv in zip(weights["blocks"], *cache, strict=True):
        x, kv, _ = decoder_block(x, kv, cross_kv, block, config.decoder_attention_heads)
        text.append(kv)
    return unembed(select_positions(x, wanted), weights), cache._replace(self_attention=tuple(text))


def decode(tokens: Array, features: Array, weights: Weights, config: WhisperConfig) -> Array:
    """Decode all tokens at once: tokens (B, S), features (B, T, D) -> logits (B, S, V).

    ``weights`` is the "decoder" branch. The logits at position s score the token at s + 1.
    """
    logits, _ = decode_cached(tokens, new_cache(features, weights, config), weights, config)
    return logits


def select_positions(x: Array, wanted: Sequence[int] | None) -> Array:
    """Select positions, by default all: (B, S, D) -> (B, len(wanted), D)."""
    if wanted is None:
        return x
    # Slices, because a list of indices would have to be sent to a GPU.
    return concatenate([x[:, :0], *(x[:, position, None] for position in wanted)], axis=1)


def check_tokens(tokens: Array, batch: int, past: int, config: WhisperConfig) -> None:
    """Raise ``ShapeError`` unless ``tokens`` is (B, S) and fits after ``past`` earlier tokens."""
    most = config.max_target_positions
    if tokens.ndim != 2 or past + tokens.shape[1] > most:
        raise ShapeError(
            f"tokens: expected (batch, at most {most} positions), got {tuple(tokens.shape)} after {past} earlier ones"
        )
    if tokens.shape[0] != batch:  # NumPy would broadcast a batch of one
        raise ShapeError(f"tokens: expected a batch of {batch}, one row per sequence, got {tokens.shape[0]}")
