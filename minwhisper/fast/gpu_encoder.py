"""The encoder on a GPU: one window at a time, in place, and no array with all scores of an attention."""

from ..backend import Array, array_module
from ..config import WhisperConfig
from ..encoder import check_mel, stem
from ..layers import Weights, linear
from .cpu_layers import tiles
from .gpu_layers import ROWS, Layers, split_heads, widened


def encode(mel: Array, weights: Weights, config: WhisperConfig, layers: Layers) -> Array:
    """:func:`minwhisper.encoder.encode`: mel (B, M, frames) -> features (B, T, D)."""
    check_mel(mel, config)
    windows = [_encode(mel[number : number + 1], weights, config, layers) for number in range(len(mel))]
    return windows[0] if len(windows) == 1 else array_module(mel).concatenate(windows)


def _encode(mel: Array, weights: Weights, config: WhisperConfig, layers: Layers) -> Array:
    """One window: (1, M, frames) -> (1, T, D)."""
    x = array_module(mel).ascontiguousarray(stem(mel, weights)[0])
    for block in weights["blocks"]:
        encoder_block(x, block, config.encoder_attention_heads, layers)
    return layers.layer_norm(x, **weights["norm"])[None]


def encoder_block(x: Array, weights: Weights, heads: int, layers: Layers) -> None:
    """:func:`minwhisper.encoder.encoder_block` in place: x (T, D)."""
    x += attention(layers.layer_norm(x, **weights["attention_norm"]), weights["attention"], heads, layers)
    mlp = widened(weights["mlp"])
    for rows in tiles(len(x), ROWS):
        x[rows] += layers.mlp(layers.layer_norm(x[rows], **weights["mlp_norm"]), mlp)


def attention(x: Array, weights: Weights, heads: int, layers: Layers) -> Array:
    """:func:`minwhisper.layers.attention` of positions to each other: (T, D) -> (T, D)."""
    queries, keys, values = (split_heads(linear(x, **weights[name]), heads) for name in ("query", "key", "value"))
    return linear(layers.attend(queries, keys.transpose(0, 2, 1), values), **weights["out"])
