"""How much of a GPU's memory a model takes, from its configuration alone; and how much a card has.

Four things take memory: the weights; while a window is encoded, the activations of the encoder; while it is decoded,
the keys and values of sound and text, and what a step computes in. The last two never meet the encoder's, so the peak
is the weights and the larger of both. What the driver and CUDA's libraries take for themselves, the context, is beside
all this and is not CuPy's to count: :data:`CONTEXT` is a guess at it, and :func:`measure_card` measures it where there
is a GPU.
"""

from typing import Any, NamedTuple

import numpy as np

from ..backend import on_device
from ..config import PUBLISHED, WhisperConfig
from ..devices import describe_device
from ..names import expected_shapes
from ..weights import pool_bytes
from .gpu_layers import ROWS, SCORES

GPU_DTYPES = ("float32", "float16")  # of weights, as :class:`~minwhisper.fast.gpu.GpuEngine` takes them

CONTEXT = 256 << 20  # bytes, not measured on a T400: CUDA's context, the kernels, and cuBLAS with its workspace
SINGLE = 4  # bytes of a float32


class DeviceMemory(NamedTuple):
    """Bytes of CuPy's pool."""

    weights: int
    encoder: int  # activations while a window is encoded
    cache: int  # keys and values of the sound, and of all positions of the texts
    decoder: int  # activations while it is decoded: a prompt, a step, the rules

    @property
    def peak(self) -> int:
        """The most that is needed at one time."""
        return self.weights + max(self.encoder, self.cache + self.decoder)


def device_memory(config: WhisperConfig, dtype: str, texts: int = 1) -> DeviceMemory:
    """What one window takes, with so many texts about it: candidates of a beam, or draws.

    ``dtype`` is that of the weights, float32 or float16, in which keys and values are kept, too. Several texts, which
    fork, are there twice while they are copied; they take less as long as they are shorter than there is room for.
    Times of words take more for a moment: the scores of the whole vocabulary for each token of the text, twice (93 MB
    for 224 tokens).
    """
    stored = np.dtype(dtype).itemsize
    weights = pool_bytes(expected_shapes(config), dtype)
    features = SINGLE * config.max_source_positions * config.d_model
    copies = 1 if texts == 1 else 1 + 2 * texts  # the one that was there first stays while its window is decoded
    positions = config.max_source_positions + copies * config.max_target_positions
    cache = 2 * config.decoder_layers * positions * config.d_model * stored
    decoder = features + max(_prompt(config, stored), _step(config, texts))
    return DeviceMemory(weights, _encoder(config, stored), cache, decoder)


def _widened(numbers: int, stored: int) -> int:
    """The float32 copy of a weight, which one stored as float32 does not need."""
    return 0 if stored == SINGLE else SINGLE * numbers


def _encoder(c: WhisperConfig, stored: int) -> int:
    """The stage that takes most, with the mel, which stays."""
    T, D, F, M = c.max_source_positions, c.d_model, c.encoder_ffn_dim, c.num_mel_bins
    frames = 2 * T
    # The second convolution: its input as it comes and with zeros around, its three matrices, a sum and a product.
    convolution = SINGLE * (frames * D + (frames + 2) * D + 3 * D * D + 2 * T * D)
    gelu = 3 * SINGLE * frames * D
    # x, its norm, queries, keys, values, keys and values by head, what is heard; and a tile's queries and output.
    tile = min(T, max(1, SCORES // (SINGLE * c.encoder_attention_heads * T)))
    scores = SINGLE * c.encoder_attention_heads * tile * T
    attention = SINGLE * (8 * T * D + tile * D) + scores
    mlp = SINGLE * (T * D + ROWS * (2 * D + F)) + _widened(2 * D * F, stored)
    return SINGLE * M * frames + max(convolution, gelu, attention, mlp)


def _prompt(c: WhisperConfig, stored: int) -> int:
    """A prompt that fills half of the positions."""
    T, D, F = c.max_source_positions, c.d_model, c.decoder_ffn_dim
    S = c.max_target_positions // 2
    heard = SINGLE * (T * D + 6 * S * D) + (SINGLE * T * D if stored != SINGLE else 0)  # keys, and values, by head
    scores = min(SCORES, SINGLE * c.decoder_attention_heads * S * T)
    hidden = SINGLE * S * (3 * D + F) + _widened(D * F, stored)
    logits = 2 * SINGLE * c.vocab_size
    return max(heard + scores, hidden, logits)


def _step(c: WhisperConfig, texts: int) -> int:
    """A step's buffers, those for 1, 2, 4 … rows, and the logits that rules and choice go through, six times."""
    D, F, V = c.d_model, c.decoder_ffn_dim, c.vocab_size
    rows = 2 * (1 << (texts - 1).bit_length()) - 1
    return SINGLE * (rows * (6 * D + F + V) + 6 * texts * V)


# ------------------------------------------------------------------------------------------ what a card has


class Card(NamedTuple):
    """The memory of a GPU, in bytes."""

    total: int
    outside: int  # taken, but not by CuPy's pool: the context, and whatever other processes use
    limit: int = 0  # of CuPy's pool, if one is set (CUPY_GPU_MEMORY_LIMIT does)

    @property
    def room(self) -> int:
        """How large CuPy's pool can get."""
        room = max(0, self.total - self.outside)
        return min(room, self.limit) if self.limit else room


T400 = Card(2 << 30, CONTEXT)
"""The small card that this package is made to fit, with a guess at the context."""


def measure_card(device: str) -> Card:
    """What a GPU has, named as :func:`~minwhisper.devices.resolve_device` returns it.

    The driver does not tell one process's use from another's: what is taken outside of CuPy's pool is this process's
    context and all that others use. Raises :class:`DeviceError` for a GPU that does not answer.
    """
    facts = describe_device(device)
    with on_device(device):  # a pool has a part for each device
        return Card(facts.total, facts.total - facts.free - pool().total_bytes(), pool().get_limit())


def pool() -> Any:
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
