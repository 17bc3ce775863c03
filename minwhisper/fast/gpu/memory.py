"""The GPU memory that a model needs, computed from its configuration, and the memory of a card.

The weights and the buffers of the decoder's steps stay in memory. While a window is encoded, it also holds the
encoder's activations; while it is decoded, the keys and values of window and sequences and the activations of a prompt.
These two are never needed at the same time, so the peak is the weights, the buffers and the larger of the two. The
driver and CUDA's libraries need more, their context, which CuPy does not count: ``CONTEXT`` is an estimate, and
``measure_card`` measures it on a GPU.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...common.backend import on_device
from ...model.config import PUBLISHED, WhisperConfig
from ...model.weight_names import expected_shapes
from ...model.weights import pool_bytes
from ..devices import describe_device
from .kernels import CHUNK, FLOAT_BYTES, MAX_TOP, Kernels
from .table import HEADER, Field

GPU_DTYPES = ("float32", "float16")  # of weights, as ``GpuEngine`` supports them

CONTEXT = 256 << 20  # bytes of CUDA's context, kernels and cuBLAS's workspace; an estimate, not measured on a T400
MARGIN = 1 << 20  # bytes that are not counted elsewhere: the pool rounds up every array, and filters are stored too
MIN_TILE = 8 << 20  # bytes of attention scores, or of hidden values, computed at a time on a small card


class DeviceMemory(NamedTuple):
    """Bytes of CuPy's memory pool."""

    weights: int
    encoder: int  # activations while a window is encoded
    cache: int  # keys and values of the window, and of all positions of the sequences
    decoder: int  # activations while it is decoded: those of cross-attention's keys and values, or of a prompt
    buffers: int  # of decoder steps; they stay

    @property
    def peak(self) -> int:
        """The most memory needed at one time."""
        return self.weights + self.buffers + max(self.encoder, self.cache + self.decoder)


def device_memory(config: WhisperConfig, dtype: str, sequences: int = 1, tile: int = MIN_TILE) -> DeviceMemory:
    """Return the memory needed for one window with ``sequences`` hypotheses of a beam, or samples.

    ``dtype`` is that of the weights, and of keys and values, float32 or float16. ``tile`` is what ``tile_bytes``
    returns. Word timestamps briefly need more: the logits of all tokens of the text, twice (93 MB for 224 tokens).
    """
    stored = np.dtype(dtype).itemsize
    weights = pool_bytes(expected_shapes(config), dtype)
    positions = config.max_source_positions + sequences * config.max_target_positions
    cache = 2 * config.decoder_layers * positions * config.d_model * stored
    features = FLOAT_BYTES * config.max_source_positions * config.d_model
    decoder = features + max(_cross_kv(config, stored), _prompt(config, stored))
    return DeviceMemory(weights, _encoder(config, stored, tile), cache, decoder, _buffers(config, sequences))


def tile_bytes(config: WhisperConfig, dtype: str, free: int) -> int:
    """Return the bytes for the encoder's tiles if ``free`` bytes are left beside the weights.

    All scores of a window at once take the fewest launches; a small card gets ``MIN_TILE``.
    """
    needed = device_memory(config, dtype)
    all_scores = FLOAT_BYTES * config.encoder_attention_heads * config.max_source_positions**2
    return min(all_scores, max(MIN_TILE, (free - (needed.peak - needed.weights)) // 2))


def _widened(values: int, stored: int) -> int:
    """Return the bytes of a weight's float32 copy; 0 if it is stored in float32."""
    return 0 if stored == FLOAT_BYTES else FLOAT_BYTES * values


def _encoder(c: WhisperConfig, stored: int, tile: int) -> int:
    """Return the bytes of the stage that needs most, plus those of mel and features, which are kept."""
    T, D, F, M, H = c.max_source_positions, c.d_model, c.encoder_ffn_dim, c.num_mel_bins, c.encoder_attention_heads
    conv1 = FLOAT_BYTES * 2 * T * (3 * M + D) + _widened(3 * M * D, stored)
    conv2 = FLOAT_BYTES * (2 * T * D + 3 * T * D + T * D) + _widened(3 * D * D, stored)
    scores = H * T * min(T, max(1, tile // (FLOAT_BYTES * H * T)))
    attention = FLOAT_BYTES * (T * D + 3 * T * D + scores) + _widened(D * D, stored)
    hidden = F * min(T, max(1, tile // (FLOAT_BYTES * F)))
    mlp = FLOAT_BYTES * (T * D + hidden) + _widened(2 * D * F, stored)
    return FLOAT_BYTES * (2 * T * M + T * D) + max(conv1, conv2, attention, mlp)


def _cross_kv(c: WhisperConfig, stored: int) -> int:
    """Return the bytes of a window's keys or values before they are stored."""
    return FLOAT_BYTES * c.max_source_positions * c.d_model + _widened(c.d_model**2, stored)


def _prompt(c: WhisperConfig, stored: int) -> int:
    """Return the bytes of a prompt that fills half of the positions."""
    S, D, F = c.max_target_positions // 2, c.d_model, c.decoder_ffn_dim
    own = max(3 * FLOAT_BYTES * S * D + _widened(D * D, stored), FLOAT_BYTES * S * D + _widened(D * F, stored))
    return S * _row(c) + max(own, 2 * FLOAT_BYTES * c.vocab_size)


def _row(c: WhisperConfig) -> int:
    """Return the bytes of a row: its activations, and attention's partial results."""
    H, D = c.decoder_attention_heads, c.d_model
    chunks = -(-max(c.max_source_positions, c.max_target_positions) // CHUNK)
    return FLOAT_BYTES * (3 * D + c.decoder_ffn_dim + H * chunks * (D // H + 2) + H)


def _buffers(c: WhisperConfig, sequences: int) -> int:
    """Return the bytes of the buffers of steps of 1, 2, 4 … rows, their tables and logits, and the prompts' table."""
    rows = 2 * (1 << (sequences - 1).bit_length()) - 1
    table = 8 * (len(Field) + c.max_target_positions)
    choice = FLOAT_BYTES * (prod(Kernels.slices_shape(1)) + 1 + 2 * MAX_TOP)
    prompts = 8 * (HEADER + len(Field) * 256 + 16 * c.max_target_positions)
    return rows * (_row(c) + table + choice + FLOAT_BYTES * c.vocab_size) + prompts


# ------------------------------------------------------------------------------------------ the memory of a card


class Card(NamedTuple):
    """The memory of a GPU, in bytes."""

    total: int
    outside: int  # used, but not by CuPy's pool: the context, and other processes
    limit: int = 0  # of CuPy's pool, as set by CUPY_GPU_MEMORY_LIMIT; 0 for none

    @property
    def available(self) -> int:
        """The maximum size of CuPy's pool."""
        available = max(0, self.total - self.outside)
        return min(available, self.limit) if self.limit else available


T400 = Card(2 << 30, CONTEXT)
"""The small card that this package is designed to fit, with an estimate of the context."""


def measure_card(device: str) -> Card:
    """Measure the memory of a GPU, ``"cuda:0"`` for instance.

    The driver does not distinguish between processes: memory used outside of CuPy's pool is this process's context and
    all that other processes use. Raises ``DeviceError`` if the GPU does not work.
    """
    facts = describe_device(device)
    with on_device(device):  # the pool has a part per device
        return Card(facts.total, facts.total - facts.free - memory_pool().total_bytes(), memory_pool().get_limit())


def memory_pool() -> Any:
    """Return CuPy's memory pool."""
    import cupy

    return cupy.get_default_memory_pool()


def models_for(available: int, multilingual: bool) -> list[tuple[str, str]]:
    """Return the published models that fit into ``available`` bytes of CuPy's pool, largest first: name and dtype.

    The dtype is float32 if it fits, because keys and values are then not rounded, and float16 otherwise.
    """
    fitting = []
    for name, config in PUBLISHED.items():
        dtypes = [dtype for dtype in GPU_DTYPES if device_memory(config, dtype).peak <= available]
        if dtypes and config.is_multilingual == multilingual:
            fitting.append((device_memory(config, "float32").weights, name, dtypes[0]))
    return [(name, dtype) for _, name, dtype in sorted(fitting, reverse=True)]
