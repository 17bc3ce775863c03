"""Choices of tokens on a GPU: how they are described in the table of rows, and what is read back.

The kernel does what :class:`minwhisper.rules.LogitFilters`, :func:`minwhisper.layers.log_softmax` and the first part of
a :class:`minwhisper.search.Sampler` do. The second part, which compares the candidates, is a few numbers on this side.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import Array, address, beside
from ..config import WhisperConfig
from ..rules import LogitFilters
from ..search import Candidate, Chosen, Sampler, Step
from .gpu_kernels import Kernels
from .gpu_table import Field, HeaderAt, Kind, RowTable

MAX_TOP = 32  # tokens per choice; wider beams choose by the array library
FILTER_HEADER = 8  # values before the bits of a filter
KEPT = 32  # filters that are remembered


class Choices:
    """Choices among a model's tokens."""

    def __init__(self, config: WhisperConfig, kernels: Kernels, like: Array) -> None:
        """``like`` is an array on the GPU."""
        self._vocabulary, self._kernels, self._like = config.vocab_size, kernels, like
        self._filters: dict[LogitFilters, Array] = {}

    def possible(self, step: Step) -> bool:
        """Return whether the kernel can choose as a step asks."""
        sampler = step.strategy.sampler
        known = len(step.rules) == 1 and isinstance(step.rules[0], LogitFilters)
        return known and sampler is not None and sampler.top <= min(MAX_TOP, self._vocabulary)

    def top(self, steps: Sequence[Step]) -> int:
        """Return the number of tokens per choice: the largest that is asked for."""
        return max((_sampler(step).top for step in steps), default=1)

    def greedy(self, steps: Sequence[Step]) -> bool:
        """Return whether each choice is simply the next token of its row."""
        return all(_sampler(step).top == 1 and _sampler(step).temperature == 0 for step in steps)

    def room(self, rows: int) -> int:
        """Return the number of int32 that the results of that many choices take at most."""
        return 2 * MAX_TOP * rows

    def run(self, table: RowTable, logits: Array, out: Array, choices: int) -> None:
        """Choose as the table says: logits (N, V) -> out (choices, top, 2)."""
        self._kernels.choose(table, logits, out, choices)

    def describe(self, table: RowTable, steps: Sequence[Step], top: int, greedy: bool) -> None:
        """Enter choices, those of a step one after another, after the one that reads its probe."""
        number, row = 0, 0
        for step in steps:
            if step.probe is not None:
                table.fields[Field.KIND, number] = Kind.PROBE
                table.fields[Field.LOGITS, number] = row
                table.fields[Field.WANTED, number] = step.probe.token
                table.fields[Field.FILTERS, number] = self._address(step)
                number, row = number + 1, row + 1
            row = self._enter(table, step, number, row)
            number += len(step.going)
        for name, value in (
            (HeaderAt.CHOICES_AT, number),
            (HeaderAt.TOP_AT, top),
            (HeaderAt.ADVANCE_AT, int(greedy)),
        ):
            table.header[name] = value

    def _enter(self, table: RowTable, step: Step, number: int, row: int) -> int:
        """Enter the choices of a step's candidates; returns the row of the logits behind its own."""
        sampler, count = _sampler(step), len(step.going)
        part = slice(number, number + count)
        shared = len(step.rows) == 1  # all go on from the only row
        rows = np.full(count, row) if shared else np.arange(row, row + count)
        table.fields[Field.LOGITS, part] = rows
        table.fields[Field.FILTERS, part] = self._address(step)
        states = [_state(candidate, step.rules[0]) for candidate in step.going]
        for column, name in enumerate((Field.SAID, Field.LAST, Field.BEFORE, Field.TIME)):
            table.fields[name, part] = [state[column] for state in states]
        table.fields[Field.KIND, part] = Kind.SAMPLE if sampler.temperature > 0 else Kind.LIKELIEST
        if sampler.temperature > 0:
            assert sampler.generator is not None
            table.numbers[Field.SHARE, part] = sampler.generator.random(count)
            table.numbers[Field.TEMPERATURE, part] = sampler.temperature
        return row + (1 if shared else count)

    def read(self, step: Step, chosen: Array) -> Chosen:
        """Return what was chosen: int32 (choices, top, 2) on this side, with the bits of log-probabilities."""
        values, probability = chosen.view(np.float32), float("nan")
        if step.probe is not None:
            probability = float(values[0, 0, 1])
            chosen, values = chosen[1:], values[1:]
        sampler = _sampler(step)
        tokens, logprobs = chosen[:, : sampler.top, 0].tolist(), values[:, : sampler.top, 1].tolist()
        return Chosen(sampler.choose(tokens, logprobs, step.going), probability)

    def _address(self, step: Step) -> int:
        """Where a step's filters are on the GPU: a few ids, and two bits per token."""
        filters: Any = step.rules[0]
        if filters not in self._filters:
            if len(self._filters) >= KEPT:
                self._filters.clear()
            self._filters[filters] = beside(filter_array(filters, self._vocabulary), self._like)
        return address(self._filters[filters])


def filter_array(filters: LogitFilters, vocabulary: int) -> Array:
    """Return filters as the kernel reads them: int32, FILTER_HEADER values and a bit per token, twice."""
    times = filters.timestamps
    latest = -1 if times is None or times.latest_start is None else times.latest_start
    ids = (0, -1, vocabulary, -1) if times is None else (1, times.no_timestamps, times.first, latest)
    header = np.zeros(FILTER_HEADER, np.int32)
    header[:5] = filters.eot, *ids
    bits = np.zeros((2, 32 * -(-vocabulary // 32)), bool)
    bits[0, list(filters.suppressed)] = True
    bits[1, list(filters.blank)] = True
    return np.concatenate([header, np.packbits(bits, bitorder="little").view("<i4")])


def _sampler(step: Step) -> Sampler:
    assert step.strategy.sampler is not None
    return step.strategy.sampler


def _state(candidate: Candidate, filters: Any) -> tuple[int, int, int, int]:
    """What the filters need to know of a candidate: tokens so far, the last two, and the last timestamp, or -1."""
    tokens = candidate.tokens
    times = filters.timestamps
    time = -1 if times is None else next((token for token in reversed(tokens) if token >= times.first), -1)
    return len(tokens), tokens[-1] if tokens else -1, tokens[-2] if len(tokens) > 1 else -1, time
