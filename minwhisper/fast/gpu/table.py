"""The table of a step's rows in the GPU's memory: what changes from step to step.

While decoding, a row is one token of one sequence at one position. A recorded graph replays the same kernels with the
same arguments, so whatever differs between steps is read from this table: the rows' tokens and positions, where the
keys and values of their sequences and windows are, and how the next tokens are chosen. It is one array of int64, which
is sent in one copy. What a greedy step changes, the kernel that chooses tokens changes in place, so nothing is sent.
"""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.backend import Array, array_module, pinned, send

HEADER = 8  # the first values, by HeaderAt


class HeaderAt(IntEnum):
    """The single values at the beginning."""

    ROWS_AT = 0  # R
    GROUPS_AT = 1  # of rows that attend to the same window
    CHOICES_AT = 2
    TOP_AT = 3  # tokens that each choice returns, the most likely first
    ADVANCE_AT = 4  # whether each choice becomes the next token of the row of the same number


class Field(IntEnum):
    """Columns with a value per row, group or choice."""

    # per row
    TOKEN = 0
    POSITION = 1
    SEQUENCE = 2  # which of the sequences in `places` it belongs to
    # per group
    CROSS_KV = 3  # address of the window's keys and values, (L, 2, T, D)
    FIRST_ROW = 4  # its first row
    ROW_COUNT = 5  # its rows
    # per choice
    LOGITS_ROW = 6  # which row of the logits
    KIND = 7  # a Kind
    GENERATED = 8  # tokens generated so far,
    LAST = 9  # the last of them,
    PREVIOUS = 10  # the last but one,
    LAST_TIMESTAMP = 11  # and the last that was a timestamp, or -1
    DRAW = 12  # float64 bits: where in the sum of probabilities a sample is
    TEMPERATURE = 13  # float64 bits
    FILTERS = 14  # address of the logit filters
    PROBE_TOKEN = 15  # of a PROBE, the token


class Kind(IntEnum):
    """What a choice does."""

    TOP_K = 0  # the `top` most likely tokens
    SAMPLE = 1  # one token, sampled
    PROBE = 2  # no token: the probability of one among all


class RowTable:
    """A table for up to ``capacity`` rows, here in pinned memory and there on the GPU.

    It is written to ``header``, ``fields``, ``numbers`` and ``places`` and then sent with :meth:`send`.
    """

    def __init__(self, capacity: int, positions: int, like: Array, sequences: int | None = None) -> None:
        """``positions`` of text that a sequence has at most; ``like`` is an array on the GPU.

        There are as many ``sequences`` as rows, if nothing else is said.
        """
        sequences = capacity if sequences is None else sequences
        xp = array_module(like)
        begin = HEADER + len(Field) * capacity
        self.capacity = capacity
        self._host_array: NDArray[np.int64] = pinned(begin + sequences * positions, np.int64, like)
        self._host_array[...] = 0
        self.device_array: Array = xp.empty(self._host_array.size, np.int64)
        self.header = self._host_array[:HEADER]
        self.fields = self._host_array[HEADER:begin].reshape(len(Field), capacity)
        self.doubles = self.fields.view(np.float64)  # the same memory, for DRAW and TEMPERATURE
        self.slot_addresses = self._host_array[begin:].reshape(
            sequences, positions
        )  # per sequence and position an address
        self._begin = begin
        self._sent: Any = None  # an event: what was sent has been read

    def wait(self) -> None:
        """Wait until what was sent has been read, and may be written to again."""
        if self._sent is not None:
            self._sent.synchronize()

    def send(self, sequences: int) -> None:
        """Send all of it, with the places of the first ``sequences``."""
        end = self._begin + sequences * self.slot_addresses.shape[1]
        self._sent = send(self._host_array[:end], self.device_array[:end])
