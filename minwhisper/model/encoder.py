"""Chapter 3. The encoder: from a log-mel spectrogram to features, one vector for every 20 ms of sound.

Two convolutions (the "stem") look at neighbouring frames and halve their number; a table of sines tells each
position where it is; then every block lets each position look at all the others (attention) and think about what
it saw (MLP). Nothing here depends on text, so it runs once for each window of sound.

Walkthrough: sections 3 and 6.
"""

import math

import numpy as np

from ..common.backend import Array
from ..errors import ShapeError
from .config import WhisperConfig
from .layers import Weights, attention, conv1d, gelu, layer_norm, mlp


def sinusoids(length: int, width: int) -> Array:
    """The table of positions, (length, width): sines in the first half of the width, cosines in the second.

    Column j of a half turns with a wavelength from 2π to 20000π positions, in geometric steps. (Vaswani et al., 2017,
    section 3.5, interleave the two halves; Whisper does not.) Computed in float64.
    """
    half = width // 2
    rates = np.exp(-math.log(10000.0) / (half - 1) * np.arange(half))
    angles = np.arange(length)[:, None] * rates  # (T, 1) * (D/2,) -> (T, D/2)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def stem(mel: Array, weights: Weights) -> Array:
    """Two convolutions and the positions: mel (B, M, 2T) -> (B, T, D)."""
    x = mel.transpose(0, 2, 1)  # (B, M, 2T) -> (B, 2T, M): time first, so that the width is the last axis
    x = gelu(conv1d(x, **weights["conv1"]))  # (B, 2T, M) -> (B, 2T, D)
    x = gelu(conv1d(x, **weights["conv2"], stride=2))  # (B, 2T, D) -> (B, T, D)
    return x + weights["positions"][: x.shape[1]].astype(x.dtype, copy=False)


def encoder_block(x: Array, weights: Weights, heads: int) -> Array:
    """Look around, then think; each adds to what was there. (B, T, D) -> (B, T, D).

    The norm comes before the layer ("pre-norm"): the sum itself passes through the stack untouched.
    """
    x = x + attention(layer_norm(x, **weights["attention_norm"]), weights["attention"], heads)
    return x + mlp(layer_norm(x, **weights["mlp_norm"]), weights["mlp"])


def encode(mel: Array, weights: Weights, config: WhisperConfig) -> Array:
    """The whole encoder: mel (B, M, frames) -> features (B, ⌈frames / 2⌉, D).

    ``weights`` is the "encoder" branch. 30 s of sound are 3,000 frames and become 1,500 positions; fewer are allowed.
    Raises :class:`ShapeError` for a mel of another shape.
    """
    check_mel(mel, config)
    x = stem(mel, weights)
    for block in weights["blocks"]:
        x = encoder_block(x, block, config.encoder_attention_heads)
    return layer_norm(x, **weights["norm"])


def check_mel(mel: Array, config: WhisperConfig) -> None:
    """Raise :class:`ShapeError` for a mel that is not (B, M, frames) with as many frames as there are positions for."""
    most = 2 * config.max_source_positions
    if mel.ndim != 3 or mel.shape[1] != config.num_mel_bins or not 1 <= mel.shape[2] <= most:
        raise ShapeError(f"mel: expected (batch, {config.num_mel_bins}, 1 to {most} frames), got {tuple(mel.shape)}")
