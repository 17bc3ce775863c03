"""Lower bounds for the times of a T400, computed from its rates, as tabulated in RESULTS.md. Needs no GPU."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minwhisper.fast.gpu.memory import T400, device_memory
from minwhisper.model.config import PUBLISHED, WhisperConfig

OPERATIONS, BANDWIDTH = 1.1e12, 80e9  # per second: float32 operations, and bytes read from memory
ROOM = T400.available  # bytes of arrays
TOKENS_PER_SECOND = 3  # of speech, including timestamps
LENGTH, WINDOW = 100, 30.0  # tokens before the step that is counted; seconds
FORMULA = """\
operations of a window: 2 · (6 T M D + 3 T D² + L (4 T D² + 2 T² D + 2 T D F)) in the encoder,
and 4 L' T D² for the cross-attention keys and values; L blocks in the encoder, L' in the decoder
bytes of a step: itemsize · (L' (6 D² + 2 D F) + V D + 2 L' (T + 100) D), matrices, keys and values
real-time factor: (operations / 1.1e12 + 90 · bytes / 80e9) / 30 s, 3 tokens per second; below 1 is faster than speech\
"""


class Estimate(NamedTuple):
    """Lower bounds for a window on a T400."""

    memory: int  # bytes, the peak of CuPy's pool
    encoder: float  # seconds
    cross_kv: float  # seconds for the cross-attention keys and values of the window
    step: float  # seconds for a token
    real_time: float  # seconds of work per second of audio


def encoder_operations(c: WhisperConfig) -> int:
    """Count the float32 operations in the encoder's matrix products for one window."""
    T, D, F, M = c.max_source_positions, c.d_model, c.encoder_ffn_dim, c.num_mel_bins
    stem = 6 * T * M * D + 3 * T * D * D
    return 2 * (stem + c.encoder_layers * (4 * T * D * D + 2 * T * T * D + 2 * T * D * F))


def step_bytes(c: WhisperConfig, dtype: str, length: int = LENGTH, windows: int = 1) -> int:
    """Count the bytes that a step reads: the decoder's matrices once, and the keys and values of each window."""
    T, D, F, layers = c.max_source_positions, c.d_model, c.decoder_ffn_dim, c.decoder_layers
    matrices = layers * (6 * D * D + 2 * D * F) + c.vocab_size * D
    return np.dtype(dtype).itemsize * (matrices + windows * 2 * layers * (T + length) * D)


def estimate(c: WhisperConfig, dtype: str, operations: float = OPERATIONS, bandwidth: float = BANDWIDTH) -> Estimate:
    """Evaluate ``FORMULA``."""
    encoder = encoder_operations(c) / operations
    cross_kv = 4 * c.decoder_layers * c.max_source_positions * c.d_model**2 / operations
    step = step_bytes(c, dtype) / bandwidth
    whole = encoder + cross_kv + WINDOW * TOKENS_PER_SECOND * step
    return Estimate(device_memory(c, dtype).peak, encoder, cross_kv, step, whole / WINDOW)


def t400() -> Iterator[tuple[str, str, bool, Estimate]]:
    """Yield an estimate for each published size and dtype, and whether it fits. Sizes that occur twice are left out."""
    for name, config in PUBLISHED.items():
        if name.endswith(".en") or name in ("large-v1", "large-v2"):
            continue
        for dtype in ("float32", "float16"):
            found = estimate(config, dtype)
            yield name, dtype, found.memory <= ROOM, found
