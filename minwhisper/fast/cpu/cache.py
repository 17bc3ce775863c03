"""What texts remember, in buffers with room for more tokens: a step writes a row and copies nothing."""

import math
from collections.abc import Sequence
from typing import Any

from ...common.backend import Array, array_module
from ...model.decoder import KV

ROOM = 64  # tokens for which a buffer has room at first, and by which it grows


def empty_keys_values(like: Array, shape: tuple[int, ...], by_position: bool) -> KV:
    """Keys (…, K, T) and values (…, T, K) with anything in them: shape (…, T, K), library and dtype those of ``like``.

    In memory the keys lie as their shape says, or ``by_position``, as the values do.
    """
    xp = array_module(like)
    *lead, length, width = shape
    keys = xp.empty(shape if by_position else (*lead, width, length), like.dtype)
    return KV(keys.swapaxes(-1, -2) if by_position else keys, xp.empty(shape, like.dtype))


class Text:
    """Keys (R, H, K, room) and values (R, H, room, K) of some texts, for each block, of which the first are filled."""

    def __init__(self, like: Array, blocks: int, shape: tuple[int, int, int, int], by_position: bool) -> None:
        """``shape`` is that of the values; the others as in :func:`empty_keys_values`."""
        self.like, self.by_position = like, by_position
        self.room, self.filled = shape[2], 0
        self.blocks = [empty_keys_values(like, shape, by_position) for _ in range(blocks)]
        self.stepped = False  # on a GPU: whether a step was taken in these buffers,
        self.recorded: Any = None  # and a record of one, to be played again

    def copy(self, rows: Sequence[int], length: int, room: int) -> "Text":
        """The first ``length`` tokens of these rows, in buffers of their own."""
        _, heads, width, _ = self.blocks[0].keys.shape
        new = Text(self.like, len(self.blocks), (len(rows), heads, room, width), self.by_position)
        new.filled = length
        for mine, copied in zip(self.blocks, new.blocks, strict=True):
            for row, origin in enumerate(rows):
                copied.keys[row, :, :, :length] = mine.keys[origin, :, :, :length]
                copied.values[row, :, :length] = mine.values[origin, :, :length]
        return new


class Cache:
    """What :class:`minwhisper.model.decoder.Cache` is, of one window. A value too: who goes on from it gets a new one.

    The new one shares the buffers, since nobody looks behind the end of what is theirs. Only where two go on from the
    same one, the second gets a copy.
    """

    def __init__(self, audio: Sequence[KV], text: Text, rows: int, length: int) -> None:
        """``audio``: keys (H, K, T) and values (H, T, K) of the window for each block."""
        self.cross_attention, self.self_attention, self.rows, self.length = audio, text, rows, length

    @classmethod
    def of(cls, audio: Sequence[KV], room: int = ROOM, by_position: bool = False) -> "Cache":
        """That of one text without a token yet."""
        heads, _, width = audio[0].values.shape
        return cls(audio, Text(audio[0].values, len(audio), (1, heads, room, width), by_position), rows=1, length=0)

    def reorder(self, rows: Sequence[int]) -> "Cache":
        """The cache with these of its texts, in this order; one may come several times."""
        if list(rows) == list(range(self.rows)):
            return self
        return Cache(
            self.cross_attention,
            self.self_attention.copy(rows, self.length, _room(self.length + 1)),
            len(rows),
            self.length,
        )

    def extend(self, count: int) -> "Cache":
        """The cache with so many tokens more, which are still to be written."""
        text, end = self.self_attention, self.length + count
        if text.filled != self.length or end > text.room:
            text = text.copy(range(self.rows), self.length, _room(end))
        text.filled = end
        return Cache(self.cross_attention, text, self.rows, end)


def _room(length: int) -> int:
    """How large a buffer for so many tokens is."""
    return math.ceil(length / ROOM) * ROOM
