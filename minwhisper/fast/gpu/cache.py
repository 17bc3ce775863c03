"""The GPU's key-value cache: where the keys and values of sequences are, and who may write where.

The keys and values of a text are in slots, arrays of all positions of one sequence. A sequence that continues another,
as the hypotheses of a beam do, copies nothing: for each sequence and position there is the address of the slot that has
its keys and values. Only the next token needs a slot that nobody else writes to at that position.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ...common.backend import Array, address
from ...errors import ShapeError


class Slot:
    """Keys and values of all positions of a text, (L, 2, P, D), of which the first ``filled`` are written."""

    def __init__(self, array: Array) -> None:
        self.array, self.address, self.filled = array, address(array), 0


class GpuCache(NamedTuple):
    """What :class:`minwhisper.model.decoder.Cache` is, for sequences of one window. A value: steps return a new one."""

    audio: Array  # keys and values of the window, (L, 2, T, D)
    slot_addresses: NDArray[
        np.int64
    ]  # (R, P): the address of the slot for each position; beyond `length`, of the next one
    next_slots: tuple[Slot, ...]  # R slots that the sequences would like to write to next
    slots: tuple[Slot, ...]  # all that are in use
    length: int = 0  # tokens in it

    @classmethod
    def of(cls, audio: Array, slot: Slot, positions: int) -> Self:
        """Return the cache of one sequence without a token yet."""
        return cls(audio, np.full((1, positions), slot.address), (slot,), (slot,))

    @property
    def rows(self) -> int:
        """The number of sequences."""
        return len(self.slot_addresses)

    def reorder(self, rows: Sequence[int]) -> Self:
        """Return the cache with these of its sequences, in this order; one may come several times."""
        if list(rows) == list(range(self.rows)):
            return self
        return self._replace(
            slot_addresses=self.slot_addresses[list(rows)], next_slots=tuple(self.next_slots[row] for row in rows)
        )

    def extend(self, count: int, new_slot: Callable[[], Slot]) -> Self:
        """Return the cache with that many tokens more per sequence, whose keys and values are still to be written.

        Two that continue from the same cache do not disturb each other: a slot that has been written to at the next
        position belongs to somebody else.
        """
        begin, end = self.length, self.length + count
        if end > self.slot_addresses.shape[1]:
            raise ShapeError(f"tokens: expected at most {self.slot_addresses.shape[1]} positions, got {end}")
        slot_addresses, next_slots, slots = self.slot_addresses, list(self.next_slots), list(self.slots)
        taken: set[int] = set()
        for row, slot in enumerate(next_slots):
            if slot.address in taken or slot.filled > begin:
                free = (one for one in slots if one.address not in taken and one.filled <= begin)
                next_slots[row] = slot = next(free, None) or new_slot()
                if slot not in slots:
                    slots.append(slot)
            taken.add(slot.address)
            slot.filled = max(slot.filled, end)
            if slot_addresses[row, begin] != slot.address:
                slot_addresses = slot_addresses.copy() if slot_addresses is self.slot_addresses else slot_addresses
                slot_addresses[row, begin:] = slot.address
        return self._replace(
            slot_addresses=slot_addresses, next_slots=tuple(next_slots), slots=tuple(slots), length=end
        )
