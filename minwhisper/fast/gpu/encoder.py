"""The encoder on a GPU: one window at a time, in place, and in tiles on a small card.

The attention scores of a window are 1,500 × 1,500 per head, 180 MB in the large models. So attention and MLP process
the positions in tiles that fit the card's free memory. On a large card one tile is enough, which takes fewer launches.
"""

from ...common.backend import Array, array_module
from ...model.config import WhisperConfig
from ...model.encoder import check_mel
from ...model.layers import Weights
from ..cpu.layers import tiles
from .layers import Layers


def encode(mel: Array, weights: Weights, config: WhisperConfig, layers: Layers, tile: int) -> Array:
    """Compute ``model.encoder.encode``: mel (B, M, frames) -> features (B, T, D).

    ``tile`` limits the bytes of attention scores, or of hidden values of the MLP, computed at a time.
    """
    check_mel(mel, config)
    windows, _, frames = mel.shape
    features = array_module(mel).empty((windows, -(-frames // 2), config.d_model), mel.dtype)
    x = array_module(mel).empty(features.shape[1:], mel.dtype)  # allocated first, so as not to fragment the free memory
    for window, out in zip(mel, features, strict=True):
        stem(window, weights, layers, out=x)
        for block in weights["blocks"]:
            encoder_block(x, out, block, config.encoder_attention_heads, layers, tile)
        layers.layer_norm(x, **weights["norm"], out=out)
    return features


def stem(mel: Array, weights: Weights, layers: Layers, *, out: Array) -> None:
    """Compute ``model.encoder.stem`` of one window: (M, frames) -> out (T, D)."""
    x = _convolve(mel.T, 1, weights["conv1"]["weight"], layers)
    layers.kernels.epilogue(x, weights["conv1"]["bias"], gelu=True)
    _convolve(x, 2, weights["conv2"]["weight"], layers, out)
    layers.kernels.epilogue(out, weights["conv2"]["bias"], gelu=True, residual=weights["positions"][: len(out)])


def _convolve(x: Array, stride: int, weight: Array, layers: Layers, out: Array | None = None) -> Array:
    """Compute ``model.layers.conv1d`` without the bias, as one product: x (T, I), weight (O, I, 3)."""
    (length, channels), outputs = x.shape, len(weight)
    columns = array_module(x).empty((-(-length // stride), channels, 3), x.dtype)
    layers.kernels.im2col(x, columns, stride)
    return layers.linear(columns.reshape(len(columns), -1), weight.reshape(outputs, -1), out=out)


def encoder_block(x: Array, normed: Array, weights: Weights, heads: int, layers: Layers, tile: int) -> None:
    """Compute ``model.encoder.encoder_block`` in place: x (T, D); normed (T, D) is a buffer."""
    layers.layer_norm(x, **weights["attention_norm"], out=normed)
    attention(normed, weights["attention"], heads, layers, tile, to=x)
    layers.layer_norm(x, **weights["mlp_norm"], out=normed)
    mlp(normed, weights["mlp"], layers, tile, to=x)


def attention(x: Array, weights: Weights, heads: int, layers: Layers, tile: int, *, to: Array) -> None:
    """Compute self-attention and add it to ``to``: (T, D) -> (T, D). It overwrites x."""
    xp, length = array_module(x), len(x)
    queries, keys, values = (layers.linear(x, **weights[name]) for name in ("query", "key", "value"))
    rows = min(length, max(1, tile // (x.itemsize * heads * length)))
    buffer = xp.empty(heads * rows * length, x.dtype)
    for part in tiles(length, rows):
        count = part.stop - part.start
        scores = buffer[: heads * count * length].reshape(heads, count, length)  # (H, rows, T)
        layers.cublas.attention_scores(queries[part], keys, scores)
        layers.kernels.softmax(scores)
        layers.cublas.weighted_sum(scores, values, x[part])
    layers.add_linear(x, **weights["out"], to=to)


def mlp(x: Array, weights: Weights, layers: Layers, tile: int, *, to: Array) -> None:
    """Compute ``model.layers.mlp`` and add it to ``to``: (T, D) -> (T, D)."""
    fc1, fc2 = ({**weights[name], "weight": layers.widened(weights[name]["weight"])} for name in ("fc1", "fc2"))
    for part in tiles(len(x), max(1, tile // (x.itemsize * len(fc1["weight"])))):
        layers.add_linear(layers.linear(x[part], **fc1, gelu=True), **fc2, to=to[part])
