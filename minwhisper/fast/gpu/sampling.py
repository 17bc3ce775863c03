"""Choices of tokens on a GPU: how they are described in the table of rows, and what is read back.

The kernel does what :class:`minwhisper.decoding.logit_filters.LogitFilters`,
:func:`minwhisper.model.layers.log_softmax` and the first part of
a :class:`minwhisper.decoding.search.KernelSampler` do. The second part, which compares the candidates, is a few numbers
on this side.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...common.backend import Array, address, array_module, asarray_like
from ...common.finite import check_finite, error_context
from ...decoding.logit_filters import LogitFilters
from ...decoding.search import Candidate, DecoderRequest, DecoderResponse, KernelSampler
from ...model.config import WhisperConfig
from .kernels import MAX_TOP, Kernels
from .table import Field, HeaderAt, Kind, RowTable

FILTER_HEADER = 8  # values before the bits of a filter
MAX_FILTERS = 32  # filters that are remembered


_CHOICE_FIELDS = [
    *(Field.LOGITS_ROW, Field.KIND, Field.GENERATED, Field.LAST, Field.PREVIOUS, Field.LAST_TIMESTAMP),
    *(Field.FILTERS, Field.PROBE_TOKEN),
]


class SampleBuffers(NamedTuple):
    """What choices are computed in."""

    slices: Array
    counters: Array  # (choices,) int32: zeros
    out: Array  # (choices · top · 2,) int32, see Kernels.choose


class GpuSampler:
    """Choices among a model's tokens."""

    def __init__(self, config: WhisperConfig, kernels: Kernels, like: Array) -> None:
        """``like`` is an array on the GPU."""
        self._vocabulary, self._kernels, self._like = config.vocab_size, kernels, like
        self._filters: dict[LogitFilters, Array] = {}

    def possible(self, step: DecoderRequest) -> bool:
        """Return whether the kernel can choose as a step asks; wider beams choose by the array library."""
        sampler = step.sampler.kernel_sampler
        known = len(step.logit_filters) == 1 and isinstance(step.logit_filters[0], LogitFilters)
        return known and sampler is not None and sampler.top <= min(MAX_TOP, self._vocabulary)

    def top(self, steps: Sequence[DecoderRequest]) -> int:
        """Return the number of tokens per choice: the largest that is asked for."""
        return max((_sampler(step).top for step in steps), default=1)

    def greedy(self, steps: Sequence[DecoderRequest]) -> bool:
        """Return whether each choice is simply the next token of its row."""
        return all(_sampler(step).top == 1 and _sampler(step).temperature == 0 for step in steps)

    def make(self, choices: int) -> SampleBuffers:
        """Return what that many choices are computed in, and where the results are."""
        xp = array_module(self._like)
        return SampleBuffers(
            slices=xp.empty(Kernels.slices_shape(choices), np.int32),
            counters=xp.zeros(choices, np.int32),
            out=xp.empty(2 * MAX_TOP * choices, np.int32),
        )

    def run(self, table: RowTable, logits: Array, to: SampleBuffers) -> None:
        """Choose as the table says: logits (N, V)."""
        self._kernels.choose_tokens(table, logits, to.slices, to.counters, to.out, len(to.counters))

    def describe(self, table: RowTable, steps: Sequence[DecoderRequest], top: int, greedy: bool) -> None:
        """Enter choices, those of a step one after another, after the one that reads its probe."""
        entries: list[tuple[int, ...]] = []
        shares: list[tuple[float, float]] = []
        row = 0
        for step in steps:
            sampler, filters = _sampler(step), self._address(step)
            if step.probe is not None:
                entries.append((row, Kind.PROBE, 0, -1, -1, -1, filters, step.probe.token))
                shares.append((0.0, 1.0))
                row += 1
            kind, apart = Kind.SAMPLE if sampler.temperature > 0 else Kind.TOP_K, len(step.rows) > 1
            for candidate in step.candidates:  # of a single row, all continue
                entries.append((row, kind, *_state(candidate, step.logit_filters[0]), filters, -1))
                row += apart
            row += not apart
            if sampler.temperature > 0:
                assert sampler.generator is not None
                shares += [(share, sampler.temperature) for share in sampler.generator.random(len(step.candidates))]
            else:
                shares += [(0.0, 1.0)] * len(step.candidates)
        if entries:
            table.fields[_CHOICE_FIELDS, : len(entries)] = np.array(entries, np.int64).T
            table.doubles[[Field.DRAW, Field.TEMPERATURE], : len(entries)] = np.array(shares).T
        table.header[HeaderAt.CHOICES_AT] = len(entries)
        table.header[HeaderAt.TOP_AT] = top
        table.header[HeaderAt.ADVANCE_AT] = int(greedy)

    def read(self, step: DecoderRequest, chosen: Array) -> DecoderResponse:
        """Return what was chosen: int32 (choices, top, 2) on this side, with the bits of log-probabilities.

        Raises :class:`NumericalError` for a probability that is not a number: see
        :func:`minwhisper.decoding.search.choose_tokens`.
        """
        values, probability, sampler = chosen.view(np.float32), float("nan"), _sampler(step)
        with error_context(step.where):
            if step.probe is not None:
                probability = float(values[0, 0, 1])
                check_finite([probability], "the probability of no speech")
                chosen, values = chosen[1:], values[1:]
            tokens, logprobs = chosen[:, : sampler.top, 0], values[:, : sampler.top, 1]
            check_finite(logprobs.ravel().tolist(), "the log-probability of a token")
        return DecoderResponse(sampler.choose_from(tokens.tolist(), logprobs.tolist(), step.candidates), probability)

    def _address(self, step: DecoderRequest) -> int:
        """Where a step's filters are on the GPU: a few ids, and two bits per token."""
        filters: Any = step.logit_filters[0]
        if filters not in self._filters:
            if len(self._filters) >= MAX_FILTERS:
                self._filters.clear()
            self._filters[filters] = asarray_like(pack_filters(filters, self._vocabulary), self._like)
        return address(self._filters[filters])


def pack_filters(filters: LogitFilters, vocabulary: int) -> Array:
    """Return filters as the kernel reads them: int32, FILTER_HEADER values and a bit per token, twice."""
    times = filters.timestamps
    latest = -1 if times is None or times.max_initial_index is None else times.max_initial_index
    ids = (0, -1, vocabulary, -1) if times is None else (1, times.no_timestamps, times.timestamp_begin, latest)
    header = np.zeros(FILTER_HEADER, np.int32)
    header[:5] = filters.eot, *ids
    bits = np.zeros((2, 32 * -(-vocabulary // 32)), bool)
    bits[0, list(filters.suppressed)] = True
    bits[1, list(filters.blank)] = True
    return np.concatenate([header, np.packbits(bits, bitorder="little").view("<i4")])


def _sampler(step: DecoderRequest) -> KernelSampler:
    assert step.sampler.kernel_sampler is not None
    return step.sampler.kernel_sampler


def _state(candidate: Candidate, filters: Any) -> tuple[int, int, int, int]:
    """What the filters need to know of a candidate: tokens so far, the last two, and the last timestamp, or -1."""
    tokens = candidate.tokens
    times = filters.timestamps
    time = -1 if times is None else next((token for token in reversed(tokens) if token >= times.timestamp_begin), -1)
    return len(tokens), tokens[-1] if tokens else -1, tokens[-2] if len(tokens) > 1 else -1, time
