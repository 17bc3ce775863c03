"""The values behind the page's interactive figures, computed from a model and a recording.

``compute`` runs the model once over the recording and returns plain arrays. ``images`` and ``values`` pack them for the
page: attention and spectrograms as pictures of one byte per pixel, which browsers read without a library, and the rest
as a small dictionary for JSON.
"""

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..audio.load import SAMPLE_RATE
from ..common.backend import Array, to_numpy
from ..model.config import WhisperConfig
from ..model.decoder import cross_keys_and_values, decode_cached, embed, new_cache, unembed
from ..model.encoder import stem
from ..model.layers import Weights, attention, causal_mask, keys_and_values, layer_norm, mlp, softmax
from ..parity.comparison import window_mel
from ..transcription.alignment import POSITIONS_PER_SECOND, alignment_matrix
from ..transcription.alignment_tools import dynamic_time_warping
from ..whisper import Whisper

Float64 = NDArray[np.float64]
Bytes = NDArray[np.uint8]

TEMPERATURES = tuple(round(0.1 * step, 1) for step in range(1, 21))  # of the slider, besides 0
CANDIDATES = 10  # tokens of each step whose logits the page gets
CELL = 4  # positions of audio per cell of the encoder's attention, 0.08 s
CROSS_CELL = 2  # and of cross-attention, 0.04 s
MAX_TOKENS = 224


class Step(NamedTuple):
    """One step of greedy decoding."""

    names: list[str]  # of the most likely tokens, in order; the first is chosen
    logits: Float64  # theirs, less the largest: (CANDIDATES,)
    log_sums: Float64  # log Σ exp(logits / τ) over all tokens, for each of TEMPERATURES


@dataclass(frozen=True)
class WidgetData:
    """What the interactive figures show."""

    seconds: float
    mel: Array  # log-mel spectrogram of the audio: (M, 100 per second)
    steps: list[Step]  # one per token of the text, the last chooses the end
    starts: list[float]  # when each of these tokens begins, in seconds
    alignment: Array  # (steps, positions): which audio matches which token
    encoder: Array  # self-attention: (blocks, heads, cells, cells) of CELL positions; a row sums to at most 1
    decoder: Array  # self-attention: (blocks, heads, steps, steps)
    cross: Array  # cross-attention: (blocks, heads, steps, cells) of CROSS_CELL positions


def compute(model: Whisper, samples: Array) -> WidgetData:
    """Run a model over a recording of at most 30 s: samples (N,) at 16 kHz."""
    config, tokenizer = model.config, model.tokenizer
    positions = samples.size * POSITIONS_PER_SECOND // SAMPLE_RATE
    mel = window_mel(samples, config.num_mel_bins)  # (1, M, 3000)
    features, encoder = _encode(mel, model.weights["encoder"], config, positions)
    prompt = list(tokenizer.sot_sequence("en", "transcribe", timestamps=False))
    text = _greedy(prompt, features, model.weights["decoder"], config, tokenizer.eot)
    logits, own, scores = _decode([*prompt, *text], features, model.weights["decoder"], config)

    first = len(prompt) - 1  # the row that predicts the first token of the text
    steps = [_step(row, tokenizer.name) for row in logits[first:]]
    heads = np.stack([scores[block, head] for block, head in model.alignment_heads])  # (N, S, T)
    alignment = to_numpy(alignment_matrix(heads, positions))[first:]
    rows, columns = dynamic_time_warping(-alignment)
    starts = columns[np.diff(rows, prepend=-1) > 0] / POSITIONS_PER_SECOND
    return WidgetData(
        seconds=samples.size / SAMPLE_RATE,
        mel=mel[0, :, : 2 * positions],
        steps=steps,
        starts=[float(start) for start in starts],
        alignment=alignment,
        encoder=encoder,
        decoder=own[:, :, first:, first:],
        cross=_binned(softmax(scores)[:, :, first:, :positions], CROSS_CELL),
    )


def _encode(mel: Array, weights: Weights, config: WhisperConfig, positions: int) -> tuple[Array, Array]:
    """Encode a window; return features (1, T, D) and the attention among its first positions, binned."""
    x = stem(mel, weights)
    found = []
    for block in weights["blocks"]:
        normed = layer_norm(x, **block["attention_norm"])
        kv = keys_and_values(normed, block["attention"], config.encoder_attention_heads)
        change, scores = attention(normed, kv, block["attention"], config.encoder_attention_heads)
        x = x + change
        x = x + mlp(layer_norm(x, **block["mlp_norm"]), block["mlp"])
        binned = _binned(softmax(scores[0])[:, :positions, :positions], CELL)  # (H, positions, cells)
        found.append(_mean_rows(binned, CELL))
    return layer_norm(x, **weights["norm"]), np.stack(found)


def _greedy(prompt: Sequence[int], features: Array, weights: Weights, config: WhisperConfig, eot: int) -> list[int]:
    """Return the most likely tokens, one after the other, up to the end of the text."""
    cache = new_cache(features, weights, config)
    new, text = list(prompt), list[int]()
    while len(text) < MAX_TOKENS:
        logits, cache = decode_cached(np.array([new]), cache, weights, config, [len(new) - 1])
        new = [int(logits[0, -1].argmax())]
        if new[0] == eot:
            break
        text += new
    return text


def _decode(
    tokens: Sequence[int], features: Array, weights: Weights, config: WhisperConfig
) -> tuple[Array, Array, Array]:
    """Run the decoder over a text, and return its logits and its attention.

    tokens (S,) -> logits (S, V), self-attention weights (blocks, H, S, S), cross-attention scores (blocks, H, S, T).
    """
    heads = config.decoder_attention_heads
    x = embed(np.array([tokens]), weights, features.dtype)  # (1, S, D)
    mask = causal_mask(len(tokens), 0, x)
    own, cross = [], []
    for block in weights["blocks"]:
        normed = layer_norm(x, **block["attention_norm"])
        change, scores = attention(
            normed, keys_and_values(normed, block["attention"], heads), block["attention"], heads, mask
        )
        own.append(softmax(scores[0]))
        x = x + change
        normed = layer_norm(x, **block["cross_attention_norm"])
        change, scores = attention(
            normed, cross_keys_and_values(features, block, heads), block["cross_attention"], heads
        )
        cross.append(scores[0])
        x = x + change
        x = x + mlp(layer_norm(x, **block["mlp_norm"]), block["mlp"])
    return unembed(x, weights)[0], np.stack(own), np.stack(cross)


def _step(logits: Array, name: Callable[[int], str]) -> Step:
    wide = np.asarray(logits, np.float64)
    wide = wide - wide.max()
    order = np.argsort(-wide, kind="stable")[:CANDIDATES]
    sums = np.array([np.log(np.exp(wide / temperature).sum()) for temperature in TEMPERATURES])
    return Step([name(int(at)) for at in order], wide[order], sums)


def _binned(weights: Array, size: int) -> Array:
    """Add up neighbouring columns: (…, T) -> (…, ⌈T / size⌉)."""
    added: Array = np.add.reduceat(weights, range(0, weights.shape[-1], size), axis=-1)
    return added


def _mean_rows(weights: Array, size: int) -> Array:
    """Average neighbouring rows: (H, T, …) -> (H, ⌈T / size⌉, …)."""
    starts = np.arange(0, weights.shape[1], size)
    counts = np.diff(starts, append=weights.shape[1])
    averaged: Array = np.add.reduceat(weights, starts, axis=1) / counts[:, None]
    return averaged


# ------------------------------------------------------------------------------------------ for the page


def values(data: WidgetData) -> dict[str, Any]:
    """Return the values that the page's script needs besides the images, for JSON."""
    return {
        "seconds": data.seconds,
        "temperatures": [0, *TEMPERATURES],
        "starts": [round(start, 2) for start in data.starts],
        "steps": [
            {
                "names": step.names,
                "logits": [round(float(logit), 4) for logit in step.logits],
                "sums": [round(float(total), 4) for total in step.log_sums],
            }
            for step in data.steps
        ],
        "colours": VIRIDIS,
        "heads": {kind: _scales(getattr(data, kind)) for kind in KINDS},
    }


KINDS = {"encoder": "Encoder self-attention", "cross": "Cross-attention", "decoder": "Decoder self-attention"}


def _scales(weights: Array) -> dict[str, Any]:
    """Return the size of a kind of attention, and the attention weight of each head's brightest pixel."""
    blocks, heads, rows, columns = weights.shape
    brightest = [[float(f"{_brightest(head):.3g}") for head in block] for block in weights]
    return {"blocks": blocks, "heads": heads, "rows": rows, "columns": columns, "brightest": brightest}


def _brightest(head: Array) -> float:
    return max(float(np.quantile(head, 0.999)), 1e-6)


def head_sheet(weights: Array) -> bytes:
    """Return a picture of all heads side by side, a row per block: weights (blocks, H, R, C) -> PNG.

    Brightness is the square root of the weight, 255 for ``brightest`` and above, so that weak attention is visible.
    """
    scaled = [[np.sqrt(np.minimum(head / _brightest(head), 1.0)) for head in block] for block in weights]
    return png(np.rint(255 * np.block(scaled)).astype(np.uint8))


def spectrogram(mel: Array) -> bytes:
    """Return a picture of a log-mel spectrogram, low frequencies at the bottom, two frames per pixel."""
    pairs = mel[:, : mel.shape[1] // 2 * 2].reshape(len(mel), -1, 2).mean(axis=2)
    return png(_levels(pairs[::-1], 0, 100), _palette(MAGMA))


def alignment_picture(alignment: Array) -> bytes:
    """Return a picture of the alignment, a row per token."""
    return png(_levels(alignment, 2, 99.8), _palette(VIRIDIS))


def _levels(image: Array, low: float, high: float) -> Bytes:
    """Scale to 0 to 255 between two percentiles."""
    least, most = np.percentile(image, [low, high])
    return np.rint(255 * np.clip((image - least) / (most - least), 0, 1)).astype(np.uint8)


# Some colours of Matplotlib's scales, evenly spaced; those between them are interpolated.
MAGMA = ("#000004", "#1d1147", "#51127c", "#832681", "#b73779", "#e75263", "#fc8961", "#fec488", "#fcfdbf")
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


def _palette(colours: Sequence[str]) -> Bytes:
    """Interpolate 256 colours: (256, 3)."""
    known = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in colours], np.float64)
    places = np.linspace(0, len(colours) - 1, 256)
    channels = [np.interp(places, np.arange(len(colours)), channel) for channel in known.T]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def png(image: Bytes, palette: Bytes | None = None) -> bytes:
    """Encode a picture (H, W) as PNG: levels of grey, or indices into a palette of 256 colours (256, 3).

    Each row is stored as differences from the one above where that makes the file smaller.
    """
    height, width = image.shape
    above = np.diff(image.astype(np.int16), axis=0, prepend=np.zeros((1, width), np.int16)).astype(np.uint8)
    best = min(
        (zlib.compress(np.insert(rows, 0, kind, axis=1).tobytes(), 9) for kind, rows in ((0, image), (2, above))),
        key=len,
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if palette is None else 3, 0, 0, 0)
    chunks = [(b"IHDR", header), *([] if palette is None else [(b"PLTE", palette.tobytes())]), (b"IDAT", best)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in (*chunks, (b"IEND", b"")))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def probability(step: Step, candidate: int, temperature: float) -> float:
    """Return the probability of one of a step's candidates at a temperature of the slider.

    The page's script computes the same; at 0 only the most likely token is left.
    """
    if temperature == 0:
        return float(candidate == 0)
    return math.exp(step.logits[candidate] / temperature - step.log_sums[TEMPERATURES.index(temperature)])
