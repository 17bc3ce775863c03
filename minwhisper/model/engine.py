"""Engines: one interface to the model, for several implementations.

The following chapters call an ``Engine``. ``PlainEngine`` runs the readable layers on any device;
``fast`` has faster engines for CPUs and GPUs, with the same results up to rounding.

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
    """The methods of a key-value cache that a search needs; ``model.decoder.Cache`` has them."""

    @property
    def rows(self) -> int:
        """The number of sequences."""

    def reorder(self, rows: Sequence[int]) -> Self:
        """Return a cache with the sequences ``rows``, in this order; a sequence may appear several times."""


class DecoderInput(NamedTuple):
    """The next tokens of the sequences of a cache."""

    tokens: Sequence[Sequence[int]]  # (B, S), one row per sequence of the cache
    cache: Any  # a cache of the same engine
    wanted: Sequence[int] | None = None  # the positions of S whose logits are returned, by default all


class Engine(Protocol):
    """An implementation of the model's computations."""

    @property
    def config(self) -> WhisperConfig:
        """The model's hyperparameters."""

    @property
    def decoder_weights(self) -> Weights:
        """The "decoder" branch of the weights in the layout of the layers, for word alignment.

        An engine may make a copy at each access, so do not keep it.
        """

    def session(self) -> AbstractContextManager[Any]:
        """Return a context in which many calls are faster; a single call does not need one."""

    def encode(self, mel: Array) -> Array:
        """Encode windows as ``model.encoder.encode`` does: mel (B, M, frames) -> (B, T, D)."""

    def new_cache(self, features: Array) -> Any:
        """Return an empty cache as ``model.decoder.new_cache`` does: features (B, T, D)."""

    def decode_batch(self, inputs: Sequence[DecoderInput]) -> list[tuple[Array, Any]]:
        """Decode each input as ``model.decoder.decode_cached`` does.

        Returns logits (B, S, V) and the new cache for each. An engine may read the weights once for all inputs.
        """


class PlainEngine(NamedTuple):
    """An ``Engine`` that runs the readable layers on the device of its weights."""

    weights: Weights  # {"encoder": …, "decoder": …}
    config: WhisperConfig
    device: str = "cpu"

    @property
    def decoder_weights(self) -> Weights:
        """See ``Engine``."""
        decoder: Weights = self.weights["decoder"]
        return decoder

    def session(self) -> AbstractContextManager[Any]:
        """Return a context in which the device of the weights is CuPy's current device."""
        return on_device(self.device)

    def encode(self, mel: Array) -> Array:
        """See ``Engine``."""
        return encode(mel, self.weights["encoder"], self.config)

    def new_cache(self, features: Array) -> Any:
        """See ``Engine``."""
        return new_cache(features, self.weights["decoder"], self.config)

    def decode_batch(self, inputs: Sequence[DecoderInput]) -> list[tuple[Array, Any]]:
        """See ``Engine``; one input after the other."""
        return [self._decode(entry) for entry in inputs]

    def _decode(self, entry: DecoderInput) -> tuple[Array, Any]:
        tokens = place_tokens(entry.tokens, entry.cache.cross_attention[0].keys)
        return decode_cached(tokens, entry.cache, self.weights["decoder"], self.config, entry.wanted)


def place_tokens(tokens: Sequence[Sequence[int]], like: Array) -> Array:
    """Return tokens (B, S) as an array on the device of ``like``.

    With one token per sequence, each reaches the GPU as an argument of a kernel, which is faster than a transfer.
    """
    if len(tokens[0]) > 1 or isinstance(like, np.ndarray):
        return asarray_like([list(row) for row in tokens], like)
    xp = array_module(like)
    return xp.stack([xp.full(1, token, np.int64) for (token,) in tokens])
