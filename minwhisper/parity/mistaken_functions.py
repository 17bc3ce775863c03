"""Functions that the edits of the catalogue of mistakes put in place of the right ones."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..audio.load import N_FFT, SAMPLE_RATE, load_audio
from ..common.backend import Array
from ..model.encoder import sinusoids
from ..model.layers import causal_mask, gelu, layer_norm, linear, softmax


def htk_filters(n_mels: int) -> Array:
    """Return mel filters on HTK's scale, 2595 log10(1 + f / 700), with Slaney's area of 1: (M, C)."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    return triangles(700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1))


def triangles(corners: Array) -> Array:
    """Return triangular filters of area 1 with these corners in Hz: (M + 2,) -> (M, C)."""
    frequencies = np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rise, fall = (frequencies - low) / (peak - low), (high - frequencies) / (high - peak)
    return np.maximum(0.0, np.minimum(rise, fall)) * (2 / (high - low))


def mixed_to_mono(recording: Any, mix: Callable[[Array], Array], rate: int | None = None) -> Array:
    """Load a file with another way to mix its channels, (N, channels) -> (N,), or at a wrong sample rate."""
    channels, true_rate = recording.channels()
    return load_audio(np.ascontiguousarray(mix(channels), np.float32), rate or true_rate)


def tanh_gelu(x: Array) -> Array:
    """Return the tanh approximation of GELU."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def quick_gelu(x: Array) -> Array:
    """Return x σ(1.702 x), another approximation of GELU."""
    return x / (1 + np.exp(-1.702 * x))


def nearest(theirs: Array | None, candidates: Iterator[Array]) -> Array:
    """Return the candidate that is nearest to the other implementation's array; without one, the first candidate."""
    if theirs is None:
        return next(candidates)
    fitting = [one for one in candidates if one.shape == theirs.shape]
    return min(fitting, key=lambda one: float(np.abs(one - theirs).sum()))


def zeros_for_silence(mel: Array, theirs: Array | None) -> Array:
    """Set the columns to 0 that are 0 in the other implementation's spectrogram; without one, the last tenth."""
    if theirs is None or theirs.shape != mel.shape:
        end = np.arange(mel.shape[2]) >= mel.shape[2] * 9 // 10
        return np.where(end, 0.0, mel)
    return np.where((theirs == 0).all(axis=1, keepdims=True), 0.0, mel)


def shifted_positions(x: Array, positions: Array, theirs: Array | None, step: int) -> Array:
    """Add positions that are ``step`` off after a prompt of any length; all 0 after it if ``step`` is 0."""
    length = x.shape[1]
    rows = np.arange(length)

    def candidates() -> Iterator[Array]:
        for prompt in range(2, length):
            index = np.where(rows < prompt, rows, rows + step if step else 0)
            yield x + positions[index]

    return nearest(theirs, candidates())


def interleaved_heads(x: Array, heads: int) -> Array:
    """Split the width into heads as if the index of the head came last: (B, S, D) -> (B, H, S, K)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, width // heads, heads).transpose(0, 3, 1, 2)


def last_row_swapped(weights: Array, values: Array) -> Array:
    """Mix values, but at the last position those of the previous sequence: a cache that was not reordered."""
    result = weights @ values
    others = np.roll(values, 1, axis=0)
    others[:, :, -1] = values[:, :, -1]
    result[:, :, -1] = (weights[:, :, -1:] @ others)[:, :, 0]
    return result


NAMES = {
    function.__name__: function
    for function in (
        causal_mask,
        gelu,
        htk_filters,
        interleaved_heads,
        last_row_swapped,
        layer_norm,
        linear,
        load_audio,
        mixed_to_mono,
        nearest,
        quick_gelu,
        shifted_positions,
        sinusoids,
        softmax,
        tanh_gelu,
        zeros_for_silence,
    )
} | {"np": np}
"""The names that the new text of an edit may use, beside those of the module that it edits."""
