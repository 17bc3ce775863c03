"""Chapter 9, alignment: the times of words, from cross-attention.

In a few heads of the decoder's cross-attention, each token attends to the audio in which it is spoken. With tokens as
rows and positions of audio as columns, their attention is a diagonal, steeper where speech is faster. A checkpoint
names these alignment heads. To find the times of tokens, run the decoder once over a finished text, normalise the
attention of these heads, average it, and find the path from the first row and column to the last with the largest sum.
A token begins where the path enters its row.

The method is openai-whisper's; the path is found by dynamic time warping (Sakoe and Chiba, 1978).

Walkthrough: section 12.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..common.backend import Array, array_module, asarray_like, to_numpy
from ..errors import OptionError, ShapeError
from ..model.config import WhisperConfig
from ..model.decoder import check_tokens, cross_keys_and_values, decoder_block, embed, unembed
from ..model.layers import Weights, softmax
from ..tokenizer.special_tokens import SECONDS_PER_TIMESTAMP
from ..tokenizer.tokenizer import Tokenizer
from .alignment_tools import dynamic_time_warping, median_filter
from .words import WordTiming, split_to_word_tokens

POSITIONS_PER_SECOND = round(1 / SECONDS_PER_TIMESTAMP)  # 50, two frames of the spectrogram each


def check_alignment_heads(heads: Sequence[tuple[int, int]], name: str) -> None:
    """Raise ``OptionError`` if a checkpoint, called ``name``, has no alignment heads."""
    if not heads:
        raise OptionError(
            f"word_timestamps: {name} has no alignment heads, which the times of words are read from; "
            'use a published model, or add "alignment_heads": [[block, head], …] to its generation_config.json (to '
            "config.json if it is in CTranslate2's format)"
        )


def cross_attention_scores(
    tokens: Array, features: Array, weights: Weights, config: WhisperConfig, heads: Sequence[tuple[int, int]]
) -> tuple[Array, Array]:
    """Run the plain decoder; return its logits and the cross-attention scores of some heads, before softmax.

    tokens (1, S), features (1, T, D), ``weights`` the "decoder" branch, N ``heads`` as (block, head) -> logits
    (1, S, V), those of ``decoder.decode``, and scores (N, S, T) in the order of ``heads``.

    These are scores before softmax, because softmax over all T would also pay attention to the padding of the window,
    and only the caller knows how long that is. Raises ``ShapeError`` for other shapes.
    """
    if tokens.ndim != 2 or tokens.shape[0] != 1 or features.ndim != 3 or features.shape[0] != 1:
        raise ShapeError(
            "alignment: expected tokens (1, positions) and features (1, positions, width) of one window, got "
            f"{tuple(tokens.shape)} and {tuple(features.shape)}"
        )
    check_tokens(tokens, 1, 0, config)
    found: dict[tuple[int, int], Array] = {}
    x = embed(tokens, weights, features.dtype)  # (1, S, D)
    for number, block in enumerate(weights["blocks"]):
        cross_kv = cross_keys_and_values(features, block, config.decoder_attention_heads)
        x, _, scores = decoder_block(x, cross_kv.empty(), cross_kv, block, config.decoder_attention_heads)
        for head in {head for owner, head in heads if owner == number}:
            found[number, head] = scores[0, head].copy()  # (S, T); a view would keep the scores of all heads
    return unembed(x, weights), array_module(x).stack([found[block, head] for block, head in heads])


def alignment_matrix(scores: Array, positions: int) -> Array:
    """Match tokens with positions of audio: scores (N, S, T) of N heads -> (S, positions).

    Softmax is over the first ``positions`` only, those that hold audio. Then the attention at each position is
    normalised over the tokens, to mean 0 and standard deviation 1: a position that every token attends to carries no
    information. The median filter removes spikes, and the heads are averaged.
    """
    cleaned = [median_filter(_normalised(softmax(head[:, :positions].astype(np.float64)))) for head in scores]
    averaged: Array = array_module(scores).stack(cleaned).mean(axis=0)
    return averaged.astype(scores.dtype)


def _normalised(weights: Array) -> Array:
    """Normalise attention weights to mean 0 and variance 1 over the tokens: (S, T) -> (S, T), both float64.

    In float32 the squares of small weights would underflow to a deviation of 0.
    """
    xp = array_module(weights)
    centred = weights - weights.mean(axis=0)
    deviation = xp.sqrt((centred * centred).mean(axis=0))
    # If there is only one position, all tokens give it the same weight, which becomes 0.
    return centred / xp.where(deviation > 0.0, deviation, 1.0)


class TokenTimings(NamedTuple):
    """The times and probabilities of the tokens of a window's text."""

    starts: NDArray[np.float64]  # (text + 1,) seconds from the window's start to each token, and to the end
    probabilities: NDArray[Any]  # (text,) of each token after those before it, among text tokens only


def find_alignment(
    text_tokens: Sequence[int],
    features: Array,
    frames: int,
    *,
    prompt: Sequence[int],
    heads: Sequence[tuple[int, int]],
    weights: Weights,
    config: WhisperConfig,
    tokenizer: Tokenizer,
    language: str | None,
    on_path: Callable[[Array, Sequence[int]], None] | None = None,
) -> list[WordTiming]:
    """Find the times of the words of a window's text.

    Args:
        text_tokens: the text, without timestamps and other special tokens.
        features: of the window, (1, T, D).
        frames: number of frames of 0.01 s that hold audio; the rest is padding and is ignored.
        prompt: the tokens before the text, as ``Tokenizer.sot_sequence`` returns them with ``timestamps=True``;
            <|notimestamps|> is added here, because the text has none.
        heads: the alignment heads, (block, head) pairs, at least one (see ``check_alignment_heads``).
        weights: the "decoder" branch.
        config: the model's.
        tokenizer: the model's.
        language: a code, to split words by; None for an English-only model.
        on_path: called with the alignment matrix (text + 1, positions), whose last row is the end's, and the position
            at which the path enters each row, to record them.

    Returns the words, marks included, whose tokens joined are ``text_tokens``. Times are multiples of 0.02 s, and a
    word ends where the next begins. A probability is the mean over the word's tokens, computed over text tokens only.
    The result is openai-whisper's, except that in a window of a single position, 3 frames or fewer, all words are at
    0.0, where openai-whisper divides by zero. Raises ``ShapeError`` for more tokens than the model has positions.
    """
    if not text_tokens:
        return []
    timings = align_tokens(
        text_tokens,
        features,
        frames,
        prompt=prompt,
        heads=heads,
        weights=weights,
        config=config,
        tokenizer=tokenizer,
        on_path=on_path,
    )
    return join_to_words(text_tokens, timings, tokenizer, language)


def align_tokens(
    text_tokens: Sequence[int],
    features: Array,
    frames: int,
    *,
    prompt: Sequence[int],
    heads: Sequence[tuple[int, int]],
    weights: Weights,
    config: WhisperConfig,
    tokenizer: Tokenizer,
    on_path: Callable[[Array, Sequence[int]], None] | None = None,
) -> TokenTimings:
    """Find the times and probabilities of the tokens of a window's text, at least one.

    Arguments and errors are those of ``find_alignment``.
    """
    xp = array_module(features)
    tokens = [*prompt, tokenizer.no_timestamps, *text_tokens, tokenizer.eot]
    logits, scores = cross_attention_scores(asarray_like([tokens], features), features, weights, config, heads)

    # Row s of both has token s as input and predicts token s + 1. So the rows from <|notimestamps|> to the last token
    # of text belong to the tokens of the text and, as the last, to the end.
    first, last = len(prompt), len(prompt) + len(text_tokens)
    matrix = alignment_matrix(scores, max(1, frames // 2))
    matrix = matrix[first : last + 1]
    rows, columns = dynamic_time_warping(-matrix)
    enters = np.diff(rows, prepend=-1) > 0  # where the path reaches a new token
    if on_path is not None:
        on_path(matrix, columns[enters].tolist())

    probabilities = softmax(logits[0, first:last, : tokenizer.eot])
    of_text = probabilities[xp.arange(len(text_tokens)), asarray_like(text_tokens, features)]
    return TokenTimings(columns[enters] / POSITIONS_PER_SECOND, to_numpy(of_text))


def join_to_words(
    text_tokens: Sequence[int],
    timings: TokenTimings,
    tokenizer: Tokenizer,
    language: str | None,
    pool: Callable[[NDArray[np.float64]], float] = np.mean,
) -> list[WordTiming]:
    """Join tokens into words, as ``find_alignment`` does; ``pool`` turns the probabilities of tokens into a word's."""
    words = split_to_word_tokens(tokenizer, text_tokens, language)
    boundaries = accumulate((len(word.tokens) for word in words), initial=0)
    return [
        WordTiming(
            word=word.word,
            tokens=word.tokens,
            start=float(timings.starts[start]),
            end=float(timings.starts[end]),
            probability=float(pool(timings.probabilities[start:end].astype(np.float64))),
        )
        for word, (start, end) in zip(words, pairwise(boundaries), strict=True)
    ]
