"""The encoder: from a log-mel spectrogram to features, one vector per 20 ms of audio.

Two convolutions (the "stem") combine neighbouring frames and halve their number. A table of sinusoids, which encode
the position, is added. Then each block lets every position attend to all others (self-attention) and transforms each
position on its own (the MLP). Nothing here depends on text, so the encoder runs once per window of audio.

Walkthrough: sections 3 and 6.
"""

import math

import numpy as np

from ..common.backend import Array
from ..errors import ShapeError
from .config import WhisperConfig
from .layers import Weights, attention, conv1d, gelu, keys_and_values, layer_norm, mlp


def sinusoids(length: int, width: int) -> Array:
    """Return the position table (T, D) in float64: sines in the first half of the width, cosines in the second.

    In each half, the wavelengths grow geometrically from 2π to 20000π positions. (Vaswani et al., 2017, section 3.5,
    interleave sines and cosines; Whisper does not.)
    """
    half = width // 2
    rates = np.exp(-math.log(10000.0) / (half - 1) * np.arange(half))
    angles = np.arange(length)[:, None] * rates  # (T, 1) * (D/2,) -> (T, D/2)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def stem(mel: Array, weights: Weights) -> Array:
    """Apply the two convolutions and add the positions: mel (B, M, 2T) -> (B, T, D)."""
    x = mel.transpose(0, 2, 1)  # (B, M, 2T) -> (B, 2T, M): the width becomes the last axis
    x = gelu(conv1d(x, **weights["conv1"]))  # (B, 2T, M) -> (B, 2T, D)
    x = gelu(conv1d(x, **weights["conv2"], stride=2))  # (B, 2T, D) -> (B, T, D)
    return x + weights["positions"][: x.shape[1]]  # (B, T, D) + (T, D)


def encoder_block(x: Array, weights: Weights, heads: int) -> Array:
    """Apply self-attention, then the MLP, and add each result to its input: (B, T, D) -> (B, T, D).

    The norm comes before each layer ("pre-norm"), so the residual stream passes through the blocks unchanged.
    """
    normed = layer_norm(x, **weights["attention_norm"])
    kv = keys_and_values(normed, weights["attention"], heads)
    change, _ = attention(normed, kv, weights["attention"], heads)
    x = x + change
    return x + mlp(layer_norm(x, **weights["mlp_norm"]), weights["mlp"])


def encode(mel: Array, weights: Weights, config: WhisperConfig) -> Array:
    """Encode windows of audio: mel (B, M, frames) -> features (B, ⌈frames / 2⌉, D).

    ``weights`` is the "encoder" branch. A window of 30 s has 3,000 frames, which become 1,500 positions; fewer are
    allowed. Raises ``ShapeError`` for a mel of another shape.
    """
    check_mel(mel, config)
    x = stem(mel, weights)  # (B, T, D)
    for block in weights["blocks"]:
        x = encoder_block(x, block, config.encoder_attention_heads)
    return layer_norm(x, **weights["norm"])


def check_mel(mel: Array, config: WhisperConfig) -> None:
    """Raise ``ShapeError`` unless ``mel`` is (B, M, frames), with at most two frames per position."""
    most = 2 * config.max_source_positions
    if mel.ndim != 3 or mel.shape[1] != config.num_mel_bins or not 1 <= mel.shape[2] <= most:
        raise ShapeError(f"mel: expected (batch, {config.num_mel_bins}, 1 to {most} frames), got {tuple(mel.shape)}")
