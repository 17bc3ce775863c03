"""The buffers of the decoder. A captured graph replays fixed addresses, so its buffers are allocated once and stay."""

from typing import NamedTuple

import numpy as np

from ...common.backend import Array, array_module
from ...model.config import WhisperConfig
from .kernels import Kernels
from .sampling import GpuSampler, SampleBuffers
from .table import RowTable

MAX_KERNEL_ROWS = 16  # up to this number of rows, our own kernels compute the products; beyond it, cuBLAS


class RowBuffers(NamedTuple):
    """The table and the activations of R rows."""

    table: RowTable  # of at least R rows
    x: Array  # (R, D), the residual stream
    queries: Array  # (R, D)
    mixed: Array  # (R, D), the output of attention
    hidden: Array  # (R, F)
    partial: Array  # partial results of attention
    counters: Array  # (R · H,) int32: zeros

    @classmethod
    def make(cls, rows: int, table: RowTable, config: WhisperConfig) -> "RowBuffers":
        """Allocate the buffers for ``rows`` rows."""
        xp, width, heads = array_module(table.device_array), config.d_model, config.decoder_attention_heads
        positions = max(config.max_source_positions, config.max_target_positions)
        return cls(
            table=table,
            x=xp.empty((rows, width), np.float32),
            queries=xp.empty((rows, width), np.float32),
            mixed=xp.empty((rows, width), np.float32),
            hidden=xp.empty((rows, config.decoder_ffn_dim), np.float32),
            partial=xp.empty(Kernels.partial_shape(rows, heads, positions, width // heads), np.float32),
            counters=xp.zeros(rows * heads, np.int32),
        )


class StepBuffers(NamedTuple):
    """The buffers of a step of up to R rows."""

    rows: RowBuffers
    logits: Array  # (R, V)
    samples: SampleBuffers


class DecoderBuffers:
    """The buffers of all steps, and the table of prompts. ``like`` is an array on the GPU."""

    def __init__(self, config: WhisperConfig, sampler: GpuSampler, like: Array) -> None:
        self._config, self._sampler, self._like = config, sampler, like
        self._steps: dict[int, StepBuffers] = {}
        self._prompt_table: RowTable | None = None

    def reserve(self) -> None:
        """Allocate the buffers of one sequence. They stay; allocated later, they would fragment the free memory."""
        self.step(1)
        self.prompt_table(self._config.max_target_positions // 2, 1)

    def step(self, rows: int) -> StepBuffers:
        """Return the buffers for at least ``rows`` rows: 1, 2, 4, 8 … All together take less than twice the largest."""
        capacity = 1 << (rows - 1).bit_length()
        if capacity not in self._steps:
            xp, config = array_module(self._like), self._config
            table = RowTable(capacity, config.max_target_positions, self._like)
            self._steps[capacity] = StepBuffers(
                rows=RowBuffers.make(capacity, table, config),
                logits=xp.empty((capacity, config.vocab_size), np.float32),
                samples=self._sampler.make_buffers(capacity),
            )
        return self._steps[capacity]

    def prompt_table(self, rows: int, sequences: int) -> RowTable:
        """Return the table of prompts, which have many rows and few sequences."""
        table = self._prompt_table
        if table is None or table.capacity < rows or len(table.slot_addresses) < sequences:
            capacity, sequences = (max(MAX_KERNEL_ROWS, 1 << (count - 1).bit_length()) for count in (rows, sequences))
            table = RowTable(capacity, self._config.max_target_positions, self._like, sequences)
            self._prompt_table = table
        return table
