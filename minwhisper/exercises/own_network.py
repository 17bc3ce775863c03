"""A Whisper of your own, first half: from samples to features with the functions of the exercises.

Weights and vocabulary come from a model of the package. Everything in between is computed in this file and in
``whisper_of_your_own.py``, or in the functions that ``Parts`` holds: a reader's own, or the solutions.

Shapes are for a single window: T positions of audio, S of text, D width, H heads of width K, V vocabulary.
"""

from typing import Any, NamedTuple

import numpy as np

from ..audio.load import N_SAMPLES
from ..audio.mel import mel_filters
from ..common.backend import Array
from ..tokenizer.bpe import bytes_to_unicode, split_words
from ..tokenizer.tokenizer import MUSIC, SYMBOLS
from ..whisper import Whisper
from .guard import Answer


class Parts(NamedTuple):
    """The functions of the exercises."""

    softmax: Answer
    log_softmax: Answer
    log_mel_spectrogram: Answer
    conv1d: Answer
    layer_norm: Answer
    gelu: Answer
    attention: Answer
    step: Answer
    merge: Answer
    greedy_search: Answer
    timestamp_rules: Answer
    beam_search: Answer
    dynamic_time_warping: Answer
    sample: Answer
    fallback: Answer


class OwnNetwork:
    """The network of a model, computed by ``parts``."""

    def __init__(self, model: Whisper, parts: Parts) -> None:
        """Take weights and vocabulary from a model."""
        self.parts, self.weights, self.vocabulary = parts, model.weights, model.tokenizer
        self.heads, self.alignment_heads = model.config.decoder_attention_heads, model.alignment_heads
        self.filters = mel_filters(model.config.num_mel_bins)
        self.prompt = list(model.tokenizer.sot_sequence("en", "transcribe", timestamps=True))
        never = {*model.tokenizer.prompt_only_tokens, model.tokenizer.no_timestamps, *self.symbol_tokens()}
        self.never = sorted(never)
        self.blank = [*self.tokens_of(" "), model.tokenizer.eot]

    # ---------------------------------------------------------------------------------- text

    def tokens_of(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        pieces = [
            piece
            for word in split_words(text)
            for piece in self.parts.merge(bytes_to_unicode(word.encode()), self.vocabulary.ids)
        ]
        return [self.vocabulary.ids[piece] for piece in pieces]

    def symbol_tokens(self) -> set[int]:
        """Return the tokens of symbols that are written but not spoken, which are never generated."""
        symbols = [self.tokens_of(space + symbol) for symbol in SYMBOLS.split() for space in ("", " ")]
        notes = [self.tokens_of(space + note) for note in MUSIC for space in ("", " ")]
        openings = [self.tokens_of(" -"), self.tokens_of(" '")]
        return {tokens[0] for tokens in symbols if len(tokens) == 1} | {tokens[0] for tokens in notes + openings}

    # ---------------------------------------------------------------------------------- encoder

    def mel(self, samples: Array) -> Array:
        """Return the log-mel spectrogram of a window, filled up with silence: samples (N,) -> (M, 3000)."""
        padded = np.zeros(N_SAMPLES, np.float32)
        padded[: len(samples)] = samples
        return as_float32(self.parts.log_mel_spectrogram(padded, self.filters))

    def encode(self, mel: Array) -> Array:
        """Encode a window: mel (M, 3000) -> features (1500, D)."""
        parts, weights = self.parts, self.weights["encoder"]
        x = mel.T
        for name, stride in (("conv1", 1), ("conv2", 2)):
            x = as_float32(parts.conv1d(x, weights[name]["weight"], weights[name]["bias"], stride))
            x = as_float32(parts.gelu(x))
        x = x + weights["positions"]
        for block in weights["blocks"]:
            y = self.norm(x, block["attention_norm"])
            x = x + self.attend(y, *self.keys_and_values(y, block["attention"]), block["attention"])
            x = x + self.mlp(x, block)
        return self.norm(x, weights["norm"])

    def norm(self, x: Array, weights: Any) -> Array:
        """Apply layer norm: (S, D) -> (S, D)."""
        return as_float32(self.parts.layer_norm(x, weights["weight"], weights["bias"]))

    def mlp(self, x: Array, block: Any) -> Array:
        """Apply the MLP and the norm before it: (S, D) -> (S, D)."""
        hidden = as_float32(self.parts.gelu(linear(self.norm(x, block["mlp_norm"]), block["mlp"]["fc1"])))
        return linear(hidden, block["mlp"]["fc2"])

    def keys_and_values(self, source: Array, weights: Any) -> tuple[Array, Array]:
        """Return the keys and values of attention: source (T, D) -> (H, T, K) both."""
        return self.split(linear(source, weights["key"])), self.split(linear(source, weights["value"]))

    def attend(self, x: Array, keys: Array, values: Array, weights: Any) -> Array:
        """Attend from x to keys and values: x (S, D), keys and values (H, T, K) -> (S, D)."""
        mixed = as_float32(self.parts.attention(self.split(linear(x, weights["query"])), keys, values, None))
        return linear(mixed.transpose(1, 0, 2).reshape(x.shape), weights["out"])

    def split(self, x: Array) -> Array:
        """Split the width into heads: (S, D) -> (H, S, K)."""
        return x.reshape(len(x), self.heads, -1).transpose(1, 0, 2)


def linear(x: Array, weights: Any) -> Array:
    """Apply an affine map: (S, I) -> (S, O)."""
    return x @ weights["weight"].T + weights.get("bias", np.float32(0))


def as_float32(x: Any) -> Array:
    """Return an array in float32: an answer may compute in float64, and all that follows would be as slow."""
    return np.asarray(x, np.float32)
