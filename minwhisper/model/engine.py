"""Chapter 4, for use: the model's computations behind one interface, however they are scheduled.

What comes after this chapter says what is to be computed and not how. :class:`PlainEngine` computes with the readable
layers, on any device; :mod:`minwhisper.fast` has others for CPUs and for GPUs, with the same results but for rounding.

Walkthrough: section 10.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from ..common.backend import Array, array_module, asarray_like, on_device
from .config import WhisperConfig
from .decoder import decode_cached, new_cache
from .encoder import encode
from .layers import Weights


class KVCache(Protocol):
    """What a search needs to know of a cache: :class:`~minwhisper.model.decoder.Cache` is one."""

    @property
    def rows(self) -> int:
        """How many texts are in it."""

    def reorder(self, rows: Sequence[int]) -> Self:
        """The cache with these of its texts, in this order; one may come several times."""


class DecoderInput(NamedTuple):
    """Tokens that texts go on with."""

    tokens: Sequence[Sequence[int]]  # (R, S), a row for each text of the cache
    cache: Any  # a Memory of the engine that is fed
    wanted: Sequence[int] | None = None  # the positions of S whose logits are asked for, all by default


class Engine(Protocol):
    """A model that computes."""

    @property
    def config(self) -> WhisperConfig:
        """The model's numbers."""

    @property
    def decoder_weights(self) -> Weights:
        """The "decoder" branch of the weights as the layers take them, for word alignment; to be used once."""

    def session(self) -> AbstractContextManager[Any]:
        """A context in which it computes best: to be entered around many calls; a single one needs none."""

    def encode(self, mel: Array) -> Array:
        """:func:`minwhisper.model.encoder.encode`: mel (B, M, frames) -> features (B, T, D)."""

    def new_cache(self, features: Array) -> Any:
        """:func:`minwhisper.model.decoder.new_cache`: the memory of texts about these windows, features (B, T, D)."""

    def decode_batch(self, feeds: Sequence[DecoderInput]) -> list[tuple[Array, Any]]:
        """:func:`minwhisper.model.decoder.decode_cached` for each of several caches: logits (R, S, V), the new cache.

        What they have in common, the weights, may be read once for all.
        """


class PlainEngine(NamedTuple):
    """An :class:`Engine` that computes with the layers as they are written, on the device of its weights."""

    weights: Weights  # {"encoder": …, "decoder": …}
    config: WhisperConfig
    device: str = "cpu"

    @property
    def decoder_weights(self) -> Weights:
        """See :class:`Engine`."""
        decoder: Weights = self.weights["decoder"]
        return decoder

    def session(self) -> AbstractContextManager[Any]:
        """The device of the weights is CuPy's current one."""
        return on_device(self.device)

    def encode(self, mel: Array) -> Array:
        """See :class:`Engine`."""
        return encode(mel, self.weights["encoder"], self.config)

    def new_cache(self, features: Array) -> Any:
        """See :class:`Engine`."""
        return new_cache(features, self.weights["decoder"], self.config)

    def decode_batch(self, feeds: Sequence[DecoderInput]) -> list[tuple[Array, Any]]:
        """See :class:`Engine`: one after the other."""
        return [self._decode(feed) for feed in feeds]

    def _decode(self, feed: DecoderInput) -> tuple[Array, Any]:
        tokens = place_tokens(feed.tokens, feed.cache.cross_attention[0].keys)
        return decode_cached(tokens, feed.cache, self.weights["decoder"], self.config, feed.wanted)


def place_tokens(tokens: Sequence[Sequence[int]], like: Array) -> Array:
    """Tokens (R, S) as an array on the device of another.

    A single one for each text gets to a GPU as a number that a kernel is called with, which is quicker than a transfer.
    """
    if len(tokens[0]) > 1 or isinstance(like, np.ndarray):
        return asarray_like([list(row) for row in tokens], like)
    xp = array_module(like)
    return xp.stack([xp.full(1, token, np.int64) for (token,) in tokens])
