"""The GPU's key-value cache: the addresses of each sequence's keys and values, and the slots that it may write to.

A slot is an array with the keys and values of all positions of one sequence. A sequence that continues another, like a
hypothesis of a beam, copies nothing: a table has the address of a slot for each of its positions, as in paged
attention. Only the next token needs a slot that no other sequence writes to at that position.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ...common.backend import Array, address
from ...errors import ShapeError


class Slot:
    """Keys and values of all positions of a sequence, (L, 2, P, D); the first ``filled`` of them are written."""

    def __init__(self, array: Array) -> None:
        self.array, self.address, self.filled = array, address(array), 0


class GpuCache(NamedTuple):
    """The counterpart of ``model.decoder.Cache`` for R sequences of one window. Steps return a new one here, too."""

    cross_attention: Array  # keys and values of the window, (L, 2, T, D)
    slot_addresses: NDArray[np.int64]  # (R, P), the slot of each position; from `length` on, the next slot
    next_slots: tuple[Slot, ...]  # R slots that the sequences will write to if they are free
    slots: tuple[Slot, ...]  # all in use
    length: int = 0  # tokens per sequence

    @classmethod
    def of(cls, cross_attention: Array, slot: Slot, positions: int) -> Self:
        """Return the cache of one sequence without tokens."""
        return cls(cross_attention, np.full((1, positions), slot.address), (slot,), (slot,))

    @property
    def rows(self) -> int:
        """The number of sequences."""
        return len(self.slot_addresses)

    def reorder(self, rows: Sequence[int]) -> Self:
        """Return a cache with the sequences ``rows``, in this order; a sequence may appear several times."""
        if list(rows) == list(range(self.rows)):
            return self
        next_slots = tuple(self.next_slots[row] for row in rows)
        return self._replace(slot_addresses=self.slot_addresses[list(rows)], next_slots=next_slots)

    def extend(self, count: int, new_slot: Callable[[], Slot]) -> Self:
        """Return the cache with ``count`` more tokens per sequence, whose keys and values are still to be written.

        Two caches that continue the same one do not disturb each other: a slot already written at the next position
        belongs to another sequence, and this one gets another slot.
        """
        begin, end = self.length, self.length + count
        if end > self.slot_addresses.shape[1]:
            raise ShapeError(f"tokens: expected at most {self.slot_addresses.shape[1]} positions, got {end}")
        addresses, next_slots, slots = self.slot_addresses, list(self.next_slots), list(self.slots)
        taken: set[int] = set()
        for row, slot in enumerate(next_slots):
            if slot.address in taken or slot.filled > begin:
                free = (one for one in slots if one.address not in taken and one.filled <= begin)
                next_slots[row] = slot = next(free, None) or new_slot()
                if slot not in slots:
                    slots.append(slot)
            taken.add(slot.address)
            slot.filled = max(slot.filled, end)
            if addresses[row, begin] != slot.address:
                addresses = addresses.copy() if addresses is self.slot_addresses else addresses
                addresses[row, begin:] = slot.address
        return self._replace(slot_addresses=addresses, next_slots=tuple(next_slots), slots=tuple(slots), length=end)
