"""Chapter 10, the record: how each window was decoded, for people and programs that inspect a transcript.

With ``record=True`` the record of every window has the attempts at decoding it, the alternative tokens at every step,
and the attention that the times of words were read from. All of it is kept from the computation, so nothing is computed
twice, and can be written as JSON.

Walkthrough: section 13.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from ..common.backend import Array, to_numpy
from ..decoding.decode import DecodingResult
from ..decoding.search import Candidate
from ..tokenizer.tokenizer import Tokenizer

ALTERNATIVES = 5  # tokens that are recorded at each step
MARGIN = 25  # positions of attention that are kept on both sides of a token: 0.5 s


class AlternativeRecord(TypedDict):
    """A token that could have come next."""

    token: int
    text: str  # as ``Tokenizer.name`` shows it
    probability: float  # after the logit filters


class StepRecord(TypedDict):
    """A token of a text, and its alternatives."""

    token: int
    text: str
    probability: float
    alternatives: list[AlternativeRecord]  # the most likely, the best first; the token itself may be among them


class CandidateRecord(TypedDict):
    """A text in the result of a search."""

    text: str
    tokens: list[int]
    avg_logprob: float  # per token, the end counted as one


class AttemptRecord(TypedDict):
    """A text that was decoded for a window, accepted or not."""

    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    text: str
    tokens: list[int]
    steps: list[StepRecord]  # one for each token, and one for the end
    candidates: list[CandidateRecord]  # of beam search or sampling, the chosen one among them; else only that one


class AttentionRecord(TypedDict):
    """The attention of the alignment heads near the time of a token, in positions of 0.02 s."""

    token: int
    first: int  # first position of the token itself, from the start of the window
    last: int  # position after its last one
    start: int  # position of the first value
    values: str  # of one byte each, 0 to 255 between the smallest and the largest of the window, in Base64


class WindowRecord(TypedDict):
    """The record of a window: how it was decoded."""

    seek: int  # its first frame, of 0.01 s
    size: int  # frames of audio in it
    silence: bool  # whether its text was dropped because there is no speech
    attempts: list[AttemptRecord]  # in order; the last one counts
    attention: NotRequired[list[AttentionRecord]]  # of the text's tokens, with word_timestamps


def record_attempt(decoded: DecodingResult, tokenizer: Tokenizer) -> AttemptRecord:
    """Record an attempt at a window. Its result was decoded with alternatives."""
    assert decoded.record is not None
    return {
        "temperature": decoded.temperature,
        "avg_logprob": decoded.avg_logprob,
        "compression_ratio": decoded.compression_ratio,
        "no_speech_prob": decoded.no_speech_prob,
        "text": decoded.text,
        "tokens": decoded.tokens,
        "steps": [
            {
                "token": step.token,
                "text": tokenizer.name(step.token),
                "probability": _probability(step.logprob),
                "alternatives": [
                    {"token": token, "text": tokenizer.name(token), "probability": _probability(logprob)}
                    for token, logprob in step.alternatives
                ],
            }
            for step in decoded.record.steps
        ],
        "candidates": [_record_candidate(candidate, tokenizer) for candidate in decoded.record.candidates],
    }


def _record_candidate(candidate: Candidate, tokenizer: Tokenizer) -> CandidateRecord:
    tokens = list(candidate.tokens)
    average = candidate.sum_logprob / (len(tokens) + 1)
    return {"text": tokenizer.decode(tokens).strip(), "tokens": tokens, "avg_logprob": average}


def _probability(logprob: float) -> float:
    return round(float(np.exp(min(logprob, 0.0))), 6)  # a difference of sums can exceed 0 by rounding


def record_attention(matrix: Array, tokens: Sequence[int], path_starts: Sequence[int]) -> list[AttentionRecord]:
    """Record the part of an alignment matrix near the path: one row for each token of the text.

    matrix (S + 1, positions), the last row the end's; ``path_starts`` (S + 1,) is where the path enters each row.
    """
    values = to_numpy(matrix).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    scaled = np.round((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    found: list[AttentionRecord] = []
    for row, token in enumerate(tokens):
        first, last = int(path_starts[row]), int(path_starts[row + 1])
        start = max(0, first - MARGIN)
        encoded = b64encode(scaled[row, start : last + MARGIN].tobytes()).decode()
        found.append({"token": token, "first": first, "last": last, "start": start, "values": encoded})
    return found


def attention_values(record: AttentionRecord) -> NDArray[np.uint8]:
    """Return the recorded attention of a token: (positions,), 0 to 255."""
    return np.frombuffer(b64decode(record["values"]), np.uint8)
