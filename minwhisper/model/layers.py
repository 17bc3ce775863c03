"""Layers: the operations of Whisper's network, as pure functions of arrays and weights.

The letters for shapes, used in every chapter:

===  ==============================================  ===  =================================
B    batch                                           D    width of the residual stream
T    frames or positions of audio                    H    heads
S    positions of text                               K    width of one head, D / H
V    vocabulary                                      F    hidden width of the MLP
M    mel bins                                        I,O  a layer's input and output width
===  ==============================================  ===  =================================

No layer changes its arguments, keeps state or depends on anything but its arguments. Read ``matmul`` as ``@`` and
``exp`` as ``np.exp``: ``numerics`` has them for CPU and GPU, and for weights stored in float16.

Walkthrough: sections 3, 4 and 5.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..common.backend import Array
from .numerics import concatenate, exp, full_like, log, matmul, normal_cdf, pad, sqrt, triu

Weights: TypeAlias = Mapping[str, Any]
"""Weights by name: arrays, or mappings (and tuples) of weights."""


def linear(x: Array, weight: Array, bias: Array | float = 0.0) -> Array:
    """Apply an affine map to the last axis: x Wᵀ + b.

    x (…, I), weight (O, I), bias (O,) -> (…, O). As in PyTorch, the weight has one row per output.
    """
    return matmul(x, weight.T) + bias


def embedding(tokens: Array, weight: Array) -> Array:
    """Look up one row of the table per token: tokens (B, S), weight (V, D) -> (B, S, D).

    The same as the product of one-hot rows with the table.
    """
    return weight[tokens]


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Normalise each position to mean 0 and variance 1, then scale and shift it: (…, D) -> (…, D).

    Ba et al., 2016, equation 4. The variance is computed from the centred values: E[x²] - E[x]² would lose precision.
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / sqrt(variance + eps) * weight + bias


def gelu(x: Array) -> Array:
    """Apply the Gaussian error linear unit, x Φ(x): (…, F) -> (…, F).

    Hendrycks and Gimpel, 2016. This is the exact function, not its tanh approximation.
    """
    return x * normal_cdf(x)


def softmax(x: Array) -> Array:
    """Return exp(x) / Σ exp(x), positive values that sum to 1 along the last axis: (…, T) -> (…, T).

    The maximum is subtracted first: it cancels, and exp cannot overflow. An entry of -inf becomes 0.
    """
    e = x - x.max(axis=-1, keepdims=True)
    exp(e, out=e)  # in place: attention scores are the largest arrays of the model
    e /= e.sum(axis=-1, keepdims=True)
    return e


def log_softmax(x: Array) -> Array:
    """Return the logarithm of ``softmax``, exact even where softmax rounds to 0: (…, V) -> (…, V)."""
    shifted = x - x.max(axis=-1, keepdims=True)
    shifted -= log(exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def conv1d(x: Array, weight: Array, bias: Array, stride: int = 1) -> Array:
    """Convolve over time with kernel 3 and one zero of padding on each side, as three matrix products.

    x (B, T, I), weight (O, I, 3), bias (O,) -> (B, ⌈T / stride⌉, O). Output t sees the inputs stride·t - 1, stride·t
    and stride·t + 1, each through a matrix of its own. ("Same" padding with stride 2, as in XLA and TensorFlow, would
    pad only the end of an even-length input: every output would see one frame later.)
    """
    length = x.shape[1]
    x = pad(x, ((0, 0), (1, 1), (0, 0)))  # (B, T, I) -> (B, T + 2, I)
    taps = weight.transpose(2, 1, 0).copy()  # (O, I, 3) -> (3, I, O), contiguous
    y = matmul(x[:, :length:stride], taps[0])  # (B, ⌈T / stride⌉, I) @ (I, O)
    y += matmul(x[:, 1 : 1 + length : stride], taps[1])
    y += matmul(x[:, 2 : 2 + length : stride], taps[2])
    return y + bias


def split_heads(x: Array, heads: int) -> Array:
    """Split the width into heads: (B, S, D) -> (B, H, S, K)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)  # (B, S, H, K) -> (B, H, S, K)


def merge_heads(x: Array) -> Array:
    """Put the heads side by side again: (B, H, S, K) -> (B, S, D)."""
    batch, heads, length, width = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * width)  # (B, S, H, K) -> (B, S, D)


class KV(NamedTuple):
    """The keys and values of one attention layer."""

    keys: Array  # (B, H, K, T), transposed as matmul needs them; S in place of T for text
    values: Array  # (B, H, T, K)

    def empty(self) -> "KV":
        """Return the same without any positions, T = 0."""
        return KV(self.keys[..., :0], self.values[..., :0, :])

    def append(self, new: "KV") -> "KV":
        """Return these positions followed by the new ones."""
        return KV(concatenate([self.keys, new.keys], axis=3), concatenate([self.values, new.values], axis=2))

    def reorder(self, rows: Sequence[int]) -> "KV":
        """Return these rows of the batch, in this order; a row may appear several times."""
        return KV(*(concatenate([kv[row : row + 1] for row in rows]) for kv in self))


def keys_and_values(source: Array, weights: Weights, heads: int) -> KV:
    """Project the keys and values that attention reads: source (B, T, D) -> (B, H, K, T) and (B, H, T, K)."""
    keys = split_heads(linear(source, **weights["key"]), heads)
    values = split_heads(linear(source, **weights["value"]), heads)
    return KV(keys.transpose(0, 1, 3, 2), values)  # keys (B, H, T, K) -> (B, H, K, T)


def causal_mask(length: int, past: int, like: Array) -> Array:
    """Return the mask that hides later tokens from earlier ones: (S, past + S) for S new tokens.

    It is added to the scores: 0 for the past tokens and up to the token itself, -inf after it.
    """
    return triu(full_like(like, -math.inf, shape=(length, past + length)), past + 1)


def attend(queries: Array, keys: Array, values: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Compute scaled dot-product attention, softmax(Q Kᵀ / √K + mask) V, and the scores inside the softmax.

    queries (B, H, S, K), keys (B, H, K, T), values (B, H, T, K), mask (S, T) -> (B, H, S, K) and scores (B, H, S, T).
    Vaswani et al., 2017, equation 1.
    """
    scores = matmul(queries * queries.shape[-1] ** -0.5, keys)  # (B, H, S, K) @ (B, H, K, T) -> (B, H, S, T)
    if mask is not None:
        scores += mask
    return matmul(softmax(scores), values), scores  # (B, H, S, T) @ (B, H, T, K) -> (B, H, S, K)


def attention(x: Array, kv: KV, weights: Weights, heads: int, mask: Array | None = None) -> tuple[Array, Array]:
    """Compute multi-head attention from x to keys and values: x (B, S, D) -> (B, S, D) and scores (B, H, S, T).

    In self-attention the keys and values come from ``x`` itself, in cross-attention from the audio. The key projection
    has no bias: it would add the same value to all scores of a query, and softmax would cancel it. If all B sequences
    share the keys and values of one window, they attend as one sequence of B·S queries, with scores (1, H, B·S, T).
    """
    queries = linear(x, **weights["query"]).reshape(len(kv.keys), -1, x.shape[-1])  # (B, S, D), or (1, B·S, D)
    mixed, scores = attend(split_heads(queries, heads), *kv, mask)  # (B, H, S, K), (B, H, S, T)
    return linear(merge_heads(mixed).reshape(x.shape), **weights["out"]), scores


def mlp(x: Array, weights: Weights) -> Array:
    """Apply two linear maps with a GELU between them to each position: (B, S, D) -> (B, S, F) -> (B, S, D)."""
    return linear(gelu(linear(x, **weights["fc1"])), **weights["fc2"])
