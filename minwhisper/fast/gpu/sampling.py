"""Token selection on a GPU: choices are written to the table of rows, and their results are read.

The kernel does the work of ``decoding.logit_filters.LogitFilters``, ``model.layers.log_softmax`` and the first part of
a ``decoding.search.KernelSampler``. The second part compares a few candidates and runs on the host.
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
MAX_FILTERS = 32  # filters kept on the GPU


_CHOICE_FIELDS = [
    *(Field.LOGITS_ROW, Field.KIND, Field.GENERATED, Field.LAST, Field.PREVIOUS, Field.LAST_TIMESTAMP),
    *(Field.FILTERS, Field.PROBE_TOKEN),
]


class SampleBuffers(NamedTuple):
    """The buffers for a number of choices."""

    slices: Array
    counters: Array  # (choices,) int32: zeros
    out: Array  # (choices · top · 2,) int32, see Kernels.choose_tokens


class GpuSampler:
    """A sampler that chooses a model's next tokens on the GPU."""

    def __init__(self, config: WhisperConfig, kernels: Kernels, like: Array) -> None:
        """``like`` is an array on the GPU."""
        self._vocabulary, self._kernels, self._like = config.vocab_size, kernels, like
        self._filters: dict[LogitFilters, Array] = {}

    def supports(self, request: DecoderRequest) -> bool:
        """Return whether the kernel supports a request. If not, as for wide beams, the array library computes it."""
        sampler, filters = request.sampler.kernel_sampler, request.logit_filters
        known = len(filters) == 1 and isinstance(filters[0], LogitFilters)
        return known and sampler is not None and sampler.top <= min(MAX_TOP, self._vocabulary)

    def top(self, requests: Sequence[DecoderRequest]) -> int:
        """Return the number of tokens per choice: the largest that a request needs."""
        return max((_sampler(request).top for request in requests), default=1)

    def is_greedy(self, requests: Sequence[DecoderRequest]) -> bool:
        """Return whether each choice is simply the next token of its row."""
        return all(_sampler(request).top == 1 and _sampler(request).temperature == 0 for request in requests)

    def make_buffers(self, choices: int) -> SampleBuffers:
        """Allocate the buffers for ``choices`` choices."""
        xp = array_module(self._like)
        return SampleBuffers(
            slices=xp.empty(Kernels.slices_shape(choices), np.int32),
            counters=xp.zeros(choices, np.int32),
            out=xp.empty(2 * MAX_TOP * choices, np.int32),
        )

    def run(self, table: RowTable, logits: Array, buffers: SampleBuffers) -> None:
        """Launch the kernel for the table's choices: logits (N, V)."""
        counters = buffers.counters
        self._kernels.choose_tokens(table, logits, buffers.slices, counters, buffers.out, len(counters))

    def write_choices(self, table: RowTable, requests: Sequence[DecoderRequest], greedy: bool) -> None:
        """Write the choices of each request to the table: first that of its probe, then one per candidate."""
        entries: list[tuple[int, ...]] = []
        draws: list[tuple[float, float]] = []
        row = 0
        for request in requests:
            sampler, filters = _sampler(request), self._filter_address(request)
            if request.probe is not None:
                entries.append((row, Kind.PROBE, 0, -1, -1, -1, filters, request.probe.token))
                draws.append((0.0, 1.0))
                row += 1
            kind = Kind.SAMPLE if sampler.temperature > 0 else Kind.TOP_K
            row_each = len(request.rows) > 1  # otherwise all candidates continue the same row
            for candidate in request.candidates:
                entries.append((row, kind, *_state(candidate, request.logit_filters[0]), filters, -1))
                row += row_each
            row += not row_each
            if sampler.temperature > 0:
                assert sampler.generator is not None
                drawn = sampler.generator.random(len(request.candidates))
                draws += [(draw, sampler.temperature) for draw in drawn]
            else:
                draws += [(0.0, 1.0)] * len(request.candidates)
        if entries:
            table.fields[_CHOICE_FIELDS, : len(entries)] = np.array(entries, np.int64).T
            table.doubles[[Field.DRAW, Field.TEMPERATURE], : len(entries)] = np.array(draws).T
        table.header[HeaderAt.CHOICES_AT] = len(entries)
        table.header[HeaderAt.TOP_AT] = self.top(requests)
        table.header[HeaderAt.ADVANCE_AT] = int(greedy)

    def read(self, request: DecoderRequest, chosen: Array) -> DecoderResponse:
        """Convert the kernel's output: int32 (choices, top, 2) on the host, tokens and bits of log-probabilities.

        Raises ``NumericalError`` for a probability that is not a number, like
        ``decoding.search.choose_tokens``.
        """
        values, probability, sampler = chosen.view(np.float32), float("nan"), _sampler(request)
        with error_context(request.where):
            if request.probe is not None:
                probability = float(values[0, 0, 1])
                check_finite([probability], "the probability of no speech")
                chosen, values = chosen[1:], values[1:]
            tokens, logprobs = chosen[:, : sampler.top, 0], values[:, : sampler.top, 1]
            check_finite(logprobs.ravel().tolist(), "the log-probability of a token")
        choices = sampler.choose_from(tokens.tolist(), logprobs.tolist(), request.candidates)
        return DecoderResponse(choices, probability)

    def _filter_address(self, request: DecoderRequest) -> int:
        """Return the address of a request's filters on the GPU, where they are sent once."""
        filters: Any = request.logit_filters[0]
        if filters not in self._filters:
            if len(self._filters) >= MAX_FILTERS:
                self._filters.clear()
            self._filters[filters] = asarray_like(pack_filters(filters, self._vocabulary), self._like)
        return address(self._filters[filters])


def pack_filters(filters: LogitFilters, vocabulary: int) -> Array:
    """Return filters in the kernel's format: int32, FILTER_HEADER values, then two bits per token.

    The first bits mark tokens that are always suppressed, the second those suppressed at the beginning.
    """
    times = filters.timestamps
    latest = -1 if times is None or times.max_initial_index is None else times.max_initial_index
    ids = (0, -1, vocabulary, -1) if times is None else (1, times.no_timestamps, times.timestamp_begin, latest)
    header = np.zeros(FILTER_HEADER, np.int32)
    header[:5] = filters.eot, *ids
    bits = np.zeros((2, 32 * -(-vocabulary // 32)), bool)
    bits[0, list(filters.suppressed)] = True
    bits[1, list(filters.blank)] = True
    return np.concatenate([header, np.packbits(bits, bitorder="little").view("<i4")])


def _sampler(request: DecoderRequest) -> KernelSampler:
    assert request.sampler.kernel_sampler is not None
    return request.sampler.kernel_sampler


def _state(candidate: Candidate, filters: Any) -> tuple[int, int, int, int]:
    """Return the number of tokens, the last, the last but one, and the last timestamp; -1 if there is none."""
    tokens = candidate.tokens
    times = filters.timestamps
    time = -1 if times is None else next((token for token in reversed(tokens) if token >= times.timestamp_begin), -1)
    return len(tokens), tokens[-1] if tokens else -1, tokens[-2] if len(tokens) > 1 else -1, time
