"""Two engines that do the same work: the engine under test and the readable layers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minwhisper.common.backend import to_device, to_numpy
from minwhisper.model.config import WhisperConfig
from minwhisper.model.engine import DecoderInput, Engine
from minwhisper.model.layers import Weights
from minwhisper.model.weight_names import flatten
from minwhisper.model.weights import random_weights


def lively_weights(config: WhisperConfig, seed: int = 0) -> Weights:
    """Return random weights so large that each changes the logits: those of an untrained model hardly do."""
    weights, rng = random_weights(config, seed), np.random.default_rng(seed)
    for name, array in flatten(weights):
        if name.endswith("norm.weight"):
            array += 0.3 * rng.standard_normal(array.shape)
        elif name.endswith(".bias"):
            array[...] = 0.3 * rng.standard_normal(array.shape)
        elif not name.endswith("positions"):
            array *= 50 / np.sqrt(np.prod(array.shape[1:]))  # from a standard deviation of 0.02
    return weights


class CachePair(NamedTuple):
    """The caches of both engines after the same tokens."""

    ours: Any
    theirs: Any

    def reorder(self, rows: Sequence[int]) -> "CachePair":
        return CachePair(self.ours.reorder(rows), self.theirs.reorder(rows))


class EnginePair(NamedTuple):
    """An engine and its reference; their logits must not differ by more than ``bound``."""

    ours: Engine
    theirs: Engine
    bound: float
    device: str = "cpu"

    def new_cache(self, features: np.ndarray) -> CachePair:
        """Return both caches for a window, given its features (1, T, D) on the CPU."""
        return CachePair(self.ours.new_cache(to_device(features, self.device)), self.theirs.new_cache(features))

    def decode(self, *feeds: tuple[Any, ...]) -> list[CachePair]:
        """Decode (tokens, caches) or (tokens, caches, wanted) in one batch, compare the logits, return the caches."""
        mine, exact = (
            [DecoderInput(tokens, caches[side], *wanted) for tokens, caches, *wanted in feeds] for side in (0, 1)
        )
        with self.ours.session():  # also for the readable layers, whose BLAS threads would slow each other down
            results = zip(self.ours.decode_batch(mine), self.theirs.decode_batch(exact), strict=True)
        new = []
        for (logits, cache), (expected, other) in results:
            assert_close(to_numpy(logits), expected, self.bound)
            assert (cache.rows, cache.length) == (other.rows, other.length)
            new.append(CachePair(cache, other))
        return new

    def step(self, tokens: Any, caches: CachePair, wanted: Sequence[int] | None = None) -> CachePair:
        """Decode tokens with one cache."""
        return self.decode((tokens, caches, wanted))[0]


def assert_close(ours: np.ndarray, expected: np.ndarray, bound: float) -> None:
    """Compare logits (R, S, V) as a whole and row by row: a row that attended to the wrong cache would differ more."""
    assert ours.shape == expected.shape
    assert ours.dtype == np.float32
    errors = np.linalg.norm(ours - expected.astype(np.float64), axis=-1)
    sizes = np.linalg.norm(expected, axis=-1)
    assert np.linalg.norm(errors) <= bound * np.linalg.norm(sizes)
    assert (errors <= max(bound, 1e-4) * sizes).all()
