"""The table of rows in the GPU's memory: everything that changes from one decoder step to the next.

While decoding, a row is one token of one sequence at one position. A captured graph replays the same kernels with the
same arguments, so kernels read everything else from this table: the tokens and positions of the rows, where the keys
and values of their sequences and windows are, and how to choose the next tokens. It is one array of int64, sent in one
copy. In a greedy search the kernel that chooses tokens updates the table in place, so nothing has to be sent.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.backend import Array, address, array_module, pinned, send
from .cache import GpuCache

ROWS_PER_PASS = 8  # rows for which a kernel reads a matrix, or the keys and values of a window, once
HEADER = 8  # values before the columns, by HeaderAt


class HeaderAt(IntEnum):
    """Indices of the header's values."""

    ROWS_AT = 0  # R
    GROUPS_AT = 1  # the number of groups: up to ROWS_PER_PASS rows that attend to the same window
    CHOICES_AT = 2  # the number of choices
    TOP_AT = 3  # tokens that each choice returns, the most likely first
    ADVANCE_AT = 4  # 1 if each choice becomes the next token of the row of the same number


class Field(IntEnum):
    """Columns with one value per row, group or choice."""

    # per row
    TOKEN = 0
    POSITION = 1
    SEQUENCE = 2  # index into `slot_addresses`
    # per group
    CROSS_KV = 3  # address of the window's keys and values, (L, 2, T, D)
    FIRST_ROW = 4
    ROW_COUNT = 5
    # per choice
    LOGITS_ROW = 6
    KIND = 7  # a Kind
    GENERATED = 8  # number of tokens generated so far
    LAST = 9  # the last of them, or -1
    PREVIOUS = 10  # the last but one, or -1
    LAST_TIMESTAMP = 11  # the last one that is a timestamp, or -1
    DRAW = 12  # float64 bits: the random number of a sample, in [0, 1)
    TEMPERATURE = 13  # float64 bits
    FILTERS = 14  # address of the logit filters
    PROBE_TOKEN = 15


class Kind(IntEnum):
    """Kinds of choices."""

    TOP_K = 0  # the `top` most likely tokens
    SAMPLE = 1  # one sampled token
    PROBE = 2  # no token, but the probability of PROBE_TOKEN among all


class RowTable:
    """A table for up to ``capacity`` rows, in pinned memory of the host and in the memory of the GPU.

    Write to ``header``, ``fields``, ``doubles`` and ``slot_addresses``, then call ``send``.
    """

    def __init__(self, capacity: int, positions: int, like: Array, sequences: int | None = None) -> None:
        """``positions`` is the maximum length of a sequence; ``like`` is an array on the GPU.

        ``sequences`` is the maximum number of sequences, ``capacity`` by default.
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
        self.slot_addresses = self._host_array[begin:].reshape(sequences, positions)
        self._begin = begin
        self._sent: Any = None  # an event that is complete when the last copy is

    def write_rows(self, caches: Sequence[GpuCache], tokens: Sequence[Sequence[Sequence[int]]]) -> None:
        """Write the rows for new tokens (R, S) of each cache, which has been extended by them, and their groups."""
        self._wait()
        rows: list[tuple[int, int, int]] = []  # token, position, sequence
        groups: list[tuple[int, int, int]] = []  # address, first row, rows
        sequence = 0
        for cache, its in zip(caches, tokens, strict=True):
            first, begin = len(rows), cache.length - len(its[0])
            for number, row in enumerate(its, start=sequence):
                rows += [(token, position, number) for position, token in enumerate(row, start=begin)]
            self.slot_addresses[sequence : sequence + cache.rows] = cache.slot_addresses
            sequence += cache.rows
            window = address(cache.cross_attention)
            starts = range(first, len(rows), ROWS_PER_PASS)
            groups += [(window, row, min(ROWS_PER_PASS, len(rows) - row)) for row in starts]
        self.fields[Field.TOKEN : Field.SEQUENCE + 1, : len(rows)] = np.array(rows, np.int64).T
        self.fields[Field.CROSS_KV : Field.ROW_COUNT + 1, : len(groups)] = np.array(groups, np.int64).T
        self.header[HeaderAt.ROWS_AT], self.header[HeaderAt.GROUPS_AT] = len(rows), len(groups)

    def _wait(self) -> None:
        """Wait until the last copy is complete, so that the host's memory may be overwritten."""
        if self._sent is not None:
            self._sent.synchronize()

    def send(self, sequences: int) -> None:
        """Copy the table to the GPU, with the slot addresses of the first ``sequences`` sequences."""
        end = self._begin + sequences * self.slot_addresses.shape[1]
        self._sent = send(self._host_array[:end], self.device_array[:end])
