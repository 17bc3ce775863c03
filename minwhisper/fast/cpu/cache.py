"""The key-value cache, in buffers with spare capacity: a step writes only the keys and values of its own tokens."""

import math
from collections.abc import Sequence

from ...common.backend import Array, array_module
from ...model.layers import KV

GROWTH = 64  # tokens by which the capacity grows; also the initial capacity


def empty_kv(like: Array, shape: tuple[int, ...]) -> KV:
    """Return uninitialised keys (…, K, T) and values (…, T, K); ``shape`` is (…, T, K).

    Array library and dtype are those of ``like``.
    """
    xp = array_module(like)
    *lead, length, width = shape
    return KV(xp.empty((*lead, width, length), like.dtype), xp.empty(shape, like.dtype))


class KVBuffers:
    """Keys (R, H, K, capacity) and values (R, H, capacity, K) of R sequences per block, filled from the start."""

    def __init__(self, like: Array, blocks: int, shape: tuple[int, int, int, int]) -> None:
        """``shape`` is that of the values; for the rest see ``empty_kv``."""
        self.like, self.capacity, self.filled = like, shape[2], 0
        self.blocks = [empty_kv(like, shape) for _ in range(blocks)]

    def copy(self, rows: Sequence[int], length: int, capacity: int) -> "KVBuffers":
        """Return new buffers with the first ``length`` tokens of these rows."""
        _, heads, width, _ = self.blocks[0].keys.shape
        new = KVBuffers(self.like, len(self.blocks), (len(rows), heads, capacity, width))
        new.filled = length
        for mine, copied in zip(self.blocks, new.blocks, strict=True):
            for row, origin in enumerate(rows):
                copied.keys[row, :, :, :length] = mine.keys[origin, :, :, :length]
                copied.values[row, :, :length] = mine.values[origin, :, :length]
        return new


class CpuCache:
    """The counterpart of ``model.decoder.Cache`` for one window. Steps return a new one here, too.

    The new cache shares the buffers of the old one, which never reads past its own length. Only if two caches continue
    the same one does the second get a copy.
    """

    def __init__(self, audio: Sequence[KV], text: KVBuffers, rows: int, length: int) -> None:
        """``audio``: keys (H, K, T) and values (H, T, K) of the window for each block."""
        self.cross_attention, self.self_attention, self.rows, self.length = audio, text, rows, length

    @classmethod
    def of(cls, audio: Sequence[KV], capacity: int = GROWTH) -> "CpuCache":
        """Return the cache of one sequence without tokens."""
        heads, _, width = audio[0].values.shape
        return cls(audio, KVBuffers(audio[0].values, len(audio), (1, heads, capacity, width)), rows=1, length=0)

    def reorder(self, rows: Sequence[int]) -> "CpuCache":
        """Return a cache with the sequences ``rows``, in this order; a sequence may appear several times."""
        if list(rows) == list(range(self.rows)):
            return self
        text = self.self_attention.copy(rows, self.length, _capacity_for(self.length + 1))
        return CpuCache(self.cross_attention, text, len(rows), self.length)

    def extend(self, count: int) -> "CpuCache":
        """Return the cache with ``count`` more tokens per sequence, which the caller still has to write."""
        text, end = self.self_attention, self.length + count
        if text.filled != self.length or end > text.capacity:
            text = text.copy(range(self.rows), self.length, _capacity_for(end))
        text.filled = end
        return CpuCache(self.cross_attention, text, self.rows, end)


def _capacity_for(length: int) -> int:
    """Return the capacity of a buffer for ``length`` tokens."""
    return math.ceil(length / GROWTH) * GROWTH
