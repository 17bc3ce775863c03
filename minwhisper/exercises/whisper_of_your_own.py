"""A Whisper of your own, second half: from features to words with the functions of the exercises.

``own_network.py`` is the first half. Shapes are for a single window: T positions of audio, S of text, D width, H heads
of width K, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..audio.load import HOP_LENGTH, N_SAMPLES, SAMPLE_RATE
from ..common.backend import Array
from .own_network import OwnNetwork, as_float32, linear

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BEAM_SIZE = 5
MAX_TOKENS = 224  # of a window
FIRST_START = 50  # the latest timestamp that opens the first segment: 1 s, in steps of 0.02 s
POSITIONS_PER_SECOND = 50
FILTER_WIDTH = 7  # positions of the median filter


class Word(NamedTuple):
    """A word and when it begins, in seconds."""

    start: float
    text: str


class OwnSegment(NamedTuple):
    """A part of the transcript."""

    start: float  # seconds
    end: float
    text: str
    words: list[Word]


class State(NamedTuple):
    """The state of the decoder: the tokens so far, and the cache of each block, which ``step`` returned."""

    tokens: tuple[int, ...] = ()
    caches: tuple[Any, ...] = ()


def transcribe(own: OwnNetwork, samples: Array) -> Iterator[OwnSegment]:
    """Transcribe samples (N,) at 16 kHz, window by window; yield the segments."""
    seek = 0
    while seek < len(samples):
        audio = samples[seek : seek + N_SAMPLES]
        window = OwnWindow(own, own.encode(own.mel(audio)), len(audio))
        found, advance = window.segments(window.tokens())
        offset = seek / SAMPLE_RATE
        for start, end, text, words in found:
            moved = [Word(offset + word.start, word.text) for word in words]
            yield OwnSegment(offset + start, min(offset + end, len(samples) / SAMPLE_RATE), text, moved)
        seek += advance


class OwnWindow:
    """A window of 30 s: its keys and values, and the search for its text."""

    searches: Sequence[str] = ("greedy_search", "beam_search")  # at temperature 0; the best result is taken
    temperatures: Sequence[float] = TEMPERATURES

    def __init__(self, own: OwnNetwork, features: Array, size: int) -> None:
        """Take features (1500, D) of ``size`` samples of audio."""
        self.own, self.size = own, size
        blocks = own.weights["decoder"]["blocks"]
        self.cross = [own.keys_and_values(features, block["cross_attention"]) for block in blocks]
        self.no_speech_prob = 0.0
        self.random = np.random.default_rng(0)

    # ---------------------------------------------------------------------------------- decoder

    def decode(self, tokens: Sequence[int], state: State | None) -> tuple[Array, State]:
        """Decode new tokens: S of them -> logits (S, V), in which the last row is filtered, and the new state."""
        state = state or State(caches=(None,) * len(self.cross))
        x, caches = self.embed(tokens, len(state.tokens)), []
        for block, cross, cache in zip(self.own.weights["decoder"]["blocks"], self.cross, state.caches, strict=True):
            x, new = self.block(x, block, cross, cache)
            caches.append(new)
        logits = self.unembed(x)
        if not state.tokens:
            self.no_speech_prob = float(self.own.parts.softmax(logits[0])[self.own.vocabulary.no_speech])
        state = State((*state.tokens, *map(int, tokens)), tuple(caches))
        logits[-1] = self.filtered(logits[-1], list(state.tokens[len(self.own.prompt) :]))
        return logits, state

    def embed(self, tokens: Sequence[int], past: int) -> Array:
        """Add token and position embeddings: S tokens after ``past`` earlier ones -> (S, D)."""
        weights = self.own.weights["decoder"]
        return weights["token_embedding"][list(tokens)] + weights["positions"][past : past + len(tokens)]

    def block(self, x: Array, weights: Any, cross: tuple[Array, Array], cache: Any) -> tuple[Array, Any]:
        """Apply a block to new positions: x (S, D) and the cache of ``step`` -> (S, D) and the new cache."""
        own = self.own
        change, cache = own.parts.step(own.norm(x, weights["attention_norm"]), weights["attention"], cache, own.heads)
        x = x + as_float32(change)
        x = x + own.attend(own.norm(x, weights["cross_attention_norm"]), *cross, weights["cross_attention"])
        return x + own.mlp(x, weights), cache

    def unembed(self, x: Array) -> Array:
        """Compute the logits: (S, D) -> (S, V)."""
        weights = self.own.weights["decoder"]
        return self.own.norm(x, weights["norm"]) @ weights["token_embedding"].T

    def filtered(self, logits: Array, generated: list[int]) -> Array:
        """Suppress the tokens that may not follow those generated: (V,) -> (V,)."""
        own, vocabulary = self.own, self.own.vocabulary
        allowed = logits.copy()
        allowed[own.never] = -np.inf
        if not generated:
            allowed[own.blank] = -np.inf
            allowed[vocabulary.timestamp_begin + FIRST_START + 1 :] = -np.inf
        return as_float32(own.parts.timestamp_rules(allowed, generated, vocabulary.eot, vocabulary.timestamp_begin))

    # ---------------------------------------------------------------------------------- search

    def tokens(self) -> list[int]:
        """Return the tokens of the window's text, none for silence."""
        result = self.own.parts.fallback(self.attempt, list(self.temperatures))
        mean = result["sum_logprob"] / (len(result["tokens"]) + 1)
        silent = result["no_speech_prob"] > 0.6 and mean < -1
        return [] if silent else list(result["tokens"])

    def attempt(self, temperature: float) -> dict[str, Any]:
        """Decode the window at a temperature: the better of both searches at 0, sampling above."""
        names = self.searches if temperature == 0 else ("sampled",)
        found = [getattr(self, name)(temperature) for name in names]
        tokens, sum_logprob = max(found, key=lambda one: one[1] / max(1, len(one[0])))
        return {
            "text": self.own.vocabulary.decode(tokens).strip(),
            "tokens": tokens,
            "sum_logprob": sum_logprob,
            "no_speech_prob": self.no_speech_prob,
        }

    def greedy_search(self, _: float = 0.0) -> tuple[list[int], float]:
        """Return the tokens of the greedy loop and the sum of their log-probabilities."""
        end = self.own.vocabulary.eot
        tokens, total = self.own.parts.greedy_search(self.decode, list(self.own.prompt), end, MAX_TOKENS)
        return [int(token) for token in tokens], float(total)

    def beam_search(self, _: float = 0.0) -> tuple[list[int], float]:
        """Return the tokens of beam search and the sum of their log-probabilities."""
        states: dict[tuple[int, ...], State] = {}

        def score(tokens: Sequence[int]) -> Array:
            known = tuple(map(int, tokens))
            before = states.get(known[:-1])
            logits, states[known] = self.decode(known[-1:] if before else known, before)
            for old in [old for old in states if len(old) < len(known) - 1]:
                del states[old]
            logprobs = as_float32(self.own.parts.log_softmax(logits[-1])).copy()
            # Only as many tokens as this can enter the beam. Without the others, plain Python is fast enough.
            logprobs[logprobs < np.partition(logprobs, -BEAM_SIZE - 1)[-BEAM_SIZE - 1]] = -np.inf
            return logprobs

        end = self.own.vocabulary.eot
        tokens, total = self.own.parts.beam_search(score, list(self.own.prompt), end, BEAM_SIZE, MAX_TOKENS)
        return [int(token) for token in tokens], float(total)

    def sampled(self, temperature: float) -> tuple[list[int], float]:
        """Return tokens drawn at a temperature and the sum of their log-probabilities."""
        tokens: list[int] = []
        total = 0.0
        logits, state = self.decode(self.own.prompt, None)
        for _ in range(MAX_TOKENS):
            token = int(self.own.parts.sample(logits[-1].copy(), temperature, float(self.random.random())))
            total += float(self.own.parts.log_softmax(logits[-1].copy())[token])
            if token == self.own.vocabulary.eot:
                break
            tokens.append(token)
            logits, state = self.decode([token], state)
        return tokens, total

    # ---------------------------------------------------------------------------------- segments and words

    def segments(self, tokens: list[int]) -> tuple[list[OwnSegment], int]:
        """Split tokens into segments; return them, and the number of samples to the start of the next window.

        A segment that opens and does not close is left to the next window, unless it is the only one.
        """
        begin, end = self.own.vocabulary.timestamp_begin, self.size / SAMPLE_RATE
        cuts = [n + 1 for n in range(len(tokens) - 1) if tokens[n] >= begin and tokens[n + 1] >= begin]
        closed = len(tokens) > 1 and tokens[-1] >= begin > tokens[-2]
        advance = self.size
        if cuts and not closed:
            advance = min(self.size, max(1, tokens[cuts[-1] - 1] - begin) * 2 * HOP_LENGTH)
        else:
            cuts.append(len(tokens))
        parts = [tokens[first:last] for first, last in zip([0, *cuts], cuts, strict=False)]
        words = self.words([token for part in parts for token in part if token < self.own.vocabulary.eot])
        found = []
        for part in parts:
            times = [(token - begin) / POSITIONS_PER_SECOND for token in part if token >= begin]
            text = [token for token in part if token < self.own.vocabulary.eot]
            count = sum(self.begins_word(token) for token in text[1:]) + 1 if text else 0
            if text:
                last = times[-1] if len(times) > 1 else end
                joined = self.own.vocabulary.decode(text).strip()
                found.append(OwnSegment(times[0] if times else 0.0, last, joined, words[:count]))
            words = words[count:]
        return found, advance

    def begins_word(self, token: int) -> bool:
        """Return whether a token begins a word, that is, starts with a space."""
        return self.own.vocabulary.token_bytes(token).startswith(b" ")

    def words(self, text: list[int]) -> list[Word]:
        """Return the words of a text, with the times at which they begin."""
        if not text:
            return []
        rows, columns = self.own.parts.dynamic_time_warping(-self.alignment(text))
        starts = [
            int(column) / POSITIONS_PER_SECOND
            for n, (row, column) in enumerate(zip(rows, columns, strict=True))
            if n == 0 or row != rows[n - 1]
        ]
        firsts = [0, *(n for n in range(1, len(text)) if self.begins_word(text[n]))]
        return [
            Word(starts[first], self.own.vocabulary.decode(text[first:last]))
            for first, last in zip(firsts, [*firsts[1:], len(text)], strict=True)
        ]

    def alignment(self, text: list[int]) -> Array:
        """Return the alignment of the tokens of a text, and of its end, with the audio: (tokens + 1, positions)."""
        own, positions = self.own, max(1, self.size // (2 * HOP_LENGTH))
        x = self.embed([*own.prompt, own.vocabulary.no_timestamps, *text, own.vocabulary.eot], 0)
        weights = []
        for number, (block, cross) in enumerate(zip(own.weights["decoder"]["blocks"], self.cross, strict=True)):
            heads = [head for owner, head in own.alignment_heads if owner == number]
            x, query = self.block_with_query(x, block, cross)
            if heads:
                weights.append(self.attention_weights(query[heads], cross[0][heads, :positions]))
        stacked = np.concatenate(weights).astype(np.float64)  # (N heads, S, positions)
        centred = stacked - stacked.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True))
        matrix = median_filtered(centred / np.where(deviation > 0, deviation, 1.0)).mean(axis=0)
        return matrix[len(own.prompt) : len(own.prompt) + len(text) + 1]

    def attention_weights(self, queries: Array, keys: Array) -> Array:
        """Return the weights of attention: queries (N, S, K), keys (N, T, K) -> (N, S, T).

        With the identity as values, the result of attention is its weights. K columns are computed at a time, because
        values are as wide as keys.
        """
        _, positions, width = keys.shape
        columns = []
        for first in range(0, positions, width):
            values = np.broadcast_to(np.eye(positions, width, -first, np.float32), keys.shape)
            columns.append(as_float32(self.own.parts.attention(queries, keys, values, None)))
        return np.concatenate(columns, axis=2)[:, :, :positions]

    def block_with_query(self, x: Array, weights: Any, cross: tuple[Array, Array]) -> tuple[Array, Array]:
        """Apply a block to all positions of a text: (S, D) -> (S, D), and the queries of cross-attention (H, S, K)."""
        own = self.own
        change, _ = own.parts.step(own.norm(x, weights["attention_norm"]), weights["attention"], None, own.heads)
        x = x + as_float32(change)
        normed = own.norm(x, weights["cross_attention_norm"])
        query = own.split(linear(normed, weights["cross_attention"]["query"]))
        x = x + own.attend(normed, *cross, weights["cross_attention"])
        return x + own.mlp(x, weights), query


def median_filtered(x: Array) -> Array:
    """Replace each value by the median of the 7 around it, along the last axis, mirrored at the ends."""
    half = FILTER_WIDTH // 2
    if x.shape[-1] <= half:
        return x
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
    return np.median(sliding_window_view(padded, FILTER_WIDTH, axis=-1), axis=-1)
