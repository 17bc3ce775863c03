"""How much of a GPU's memory a model takes, from its configuration alone; and how much a card has.

Memory goes to the weights; to the buffers of the decoder's steps, which stay; while a window is encoded, to the
encoder's activations; while it is decoded, to the keys and values of audio and text and to the activations of a prompt.
The last two are never needed at the same time as the encoder's, so the peak is the weights, the buffers and the larger
of both. What the driver and CUDA's libraries take for themselves, the context, comes on top and is not CuPy's to count:
:data:`CONTEXT` is an estimate, and :func:`measure_card` measures it where there is a GPU.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...common.backend import on_device
from ...model.config import PUBLISHED, WhisperConfig
from ...model.weight_names import expected_shapes
from ...model.weights import pool_bytes
from ..devices import describe_device
from .kernels import CHUNK, MAX_TOP, Kernels
from .table import HEADER, Field

GPU_DTYPES = ("float32", "float16")  # of weights, as :class:`~minwhisper.fast.gpu.engine.GpuEngine` takes them

CONTEXT = 256 << 20  # bytes, not measured on a T400: CUDA's context, the kernels, and cuBLAS with its workspace
MARGIN = 1 << 20  # bytes taken beyond all that is counted: the pool rounds every array up, and filters are not counted
FLOAT_BYTES = 4  # bytes of a float32
TILE = 8 << 20  # bytes of attention scores, or of hidden values, computed at a time on a small card


class DeviceMemory(NamedTuple):
    """Bytes of CuPy's pool."""

    weights: int
    encoder: int  # activations while a window is encoded
    cache: int  # keys and values of the audio, and of all positions of the sequences
    decoder: int  # activations while it is decoded: keys and values of the audio, or a prompt
    buffers: int  # of steps: they stay

    @property
    def peak(self) -> int:
        """The most that is needed at one time."""
        return self.weights + self.buffers + max(self.encoder, self.cache + self.decoder)


def device_memory(config: WhisperConfig, dtype: str, sequences: int = 1, tile: int = TILE) -> DeviceMemory:
    """Return what one window takes, with that many sequences about it: hypotheses of a beam, or samples.

    ``dtype`` is that of the weights, float32 or float16, in which keys and values are kept, too; ``tile`` is what
    :func:`tile_bytes` returns. Times of words take more for a moment: the logits of each token of the text, twice
    (93 MB for 224 tokens).
    """
    stored = np.dtype(dtype).itemsize
    weights = pool_bytes(expected_shapes(config), dtype)
    positions = config.max_source_positions + sequences * config.max_target_positions
    cache = 2 * config.decoder_layers * positions * config.d_model * stored
    features = FLOAT_BYTES * config.max_source_positions * config.d_model
    decoder = features + max(_audio(config, stored), _prompt(config, stored))
    return DeviceMemory(weights, _encoder(config, stored, tile), cache, decoder, _buffers(config, sequences))


def tile_bytes(config: WhisperConfig, dtype: str, free: int) -> int:
    """Return the bytes that the encoder's tiles may take where so many are free beside the weights.

    All scores of a window at once take the fewest launches; a small card gets by with :data:`TILE`.
    """
    needed = device_memory(config, dtype)
    everything = FLOAT_BYTES * config.encoder_attention_heads * config.max_source_positions**2
    return min(everything, max(TILE, (free - (needed.peak - needed.weights)) // 2))


def _widened(values: int, stored: int) -> int:
    """The float32 copy of a weight, which one stored as float32 does not need."""
    return 0 if stored == FLOAT_BYTES else FLOAT_BYTES * values


def _encoder(c: WhisperConfig, stored: int, tile: int) -> int:
    """The stage that takes most, with the mel and the features, which stay."""
    T, D, F, M, H = c.max_source_positions, c.d_model, c.encoder_ffn_dim, c.num_mel_bins, c.encoder_attention_heads
    first = FLOAT_BYTES * 2 * T * (3 * M + D) + _widened(3 * M * D, stored)
    second = FLOAT_BYTES * (2 * T * D + 3 * T * D + T * D) + _widened(3 * D * D, stored)
    scores = H * T * min(T, max(1, tile // (FLOAT_BYTES * H * T)))
    attention = FLOAT_BYTES * (T * D + 3 * T * D + scores) + _widened(D * D, stored)
    hidden = F * min(T, max(1, tile // (FLOAT_BYTES * F)))
    mlp = FLOAT_BYTES * (T * D + hidden) + _widened(2 * D * F, stored)
    return FLOAT_BYTES * (2 * T * M + T * D) + max(first, second, attention, mlp)


def _audio(c: WhisperConfig, stored: int) -> int:
    """Keys or values of a window before they are stored."""
    return FLOAT_BYTES * c.max_source_positions * c.d_model + _widened(c.d_model**2, stored)


def _prompt(c: WhisperConfig, stored: int) -> int:
    """A prompt that fills half of the positions."""
    S, D, F = c.max_target_positions // 2, c.d_model, c.decoder_ffn_dim
    own = max(3 * FLOAT_BYTES * S * D + _widened(D * D, stored), FLOAT_BYTES * S * D + _widened(D * F, stored))
    return S * _row(c) + max(own, 2 * FLOAT_BYTES * c.vocab_size)


def _row(c: WhisperConfig) -> int:
    """The bytes of a row: its activations, and what attention computes in."""
    H, D = c.decoder_attention_heads, c.d_model
    chunks = -(-max(c.max_source_positions, c.max_target_positions) // CHUNK)
    return FLOAT_BYTES * (3 * D + c.decoder_ffn_dim + H * chunks * (D // H + 2) + H)


def _buffers(c: WhisperConfig, sequences: int) -> int:
    """A step's buffers for 1, 2, 4 … rows, their tables and logits, and the table of prompts."""
    rows = 2 * (1 << (sequences - 1).bit_length()) - 1
    table = 8 * (len(Field) + c.max_target_positions)
    choice = FLOAT_BYTES * (prod(Kernels.slices_shape(1)) + 1 + 2 * MAX_TOP)
    prompts = 8 * (HEADER + len(Field) * 256 + 16 * c.max_target_positions)
    return rows * (_row(c) + table + choice + FLOAT_BYTES * c.vocab_size) + prompts


# ------------------------------------------------------------------------------------------ what a card has


class Card(NamedTuple):
    """The memory of a GPU, in bytes."""

    total: int
    outside: int  # taken, but not by CuPy's pool: the context, and whatever other processes use
    limit: int = 0  # of CuPy's pool, if one is set (CUPY_GPU_MEMORY_LIMIT does)

    @property
    def available(self) -> int:
        """How large CuPy's pool can get."""
        room = max(0, self.total - self.outside)
        return min(room, self.limit) if self.limit else room


T400 = Card(2 << 30, CONTEXT)
"""The small card that this package is made to fit, with a guess at the context."""


def measure_card(device: str) -> Card:
    """What a GPU has, named as :func:`~minwhisper.fast.devices.resolve_device` returns it.

    The driver does not tell one process's use from another's: what is taken outside of CuPy's pool is this process's
    context and all that others use. Raises :class:`DeviceError` for a GPU that does not answer.
    """
    facts = describe_device(device)
    with on_device(device):  # a pool has a part for each device
        return Card(facts.total, facts.total - facts.free - memory_pool().total_bytes(), memory_pool().get_limit())


def memory_pool() -> Any:
    """CuPy's pool of memory."""
    import cupy

    return cupy.get_default_memory_pool()


def models_for(room: int, multilingual: bool) -> list[tuple[str, str]]:
    """The published models that fit into so many bytes of CuPy's pool, largest first: names, each with a dtype.

    That is float32 where it fits, in which keys and values are not rounded, and float16 otherwise.
    """
    fitting = []
    for name, config in PUBLISHED.items():
        dtypes = [dtype for dtype in GPU_DTYPES if device_memory(config, dtype).peak <= room]
        if dtypes and config.is_multilingual == multilingual:
            fitting.append((device_memory(config, "float32").weights, name, dtypes[0]))
    return [(name, dtype) for _, name, dtype in sorted(fitting, reverse=True)]
