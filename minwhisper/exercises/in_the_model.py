"""Answers inside the real model: what Whisper writes with them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

from ..common.backend import Array
from ..model.layers import gelu
from ..parity.comparison import clip_samples
from ..whisper import Whisper
from . import (
    attention,
    beam,
    byte_pairs,
    cached,
    convolution,
    fallback,
    greedy,
    norms,
    softmax,
    spectrogram,
    timestamps,
    warping,
)
from .checking import Exercise
from .guard import Answer
from .own_network import OwnNetwork, Parts
from .real_model import clip_features
from .whisper_of_your_own import OwnSegment, OwnWindow, transcribe

SOLUTIONS = Parts(
    softmax=softmax.softmax,
    log_softmax=softmax.log_softmax,
    log_mel_spectrogram=spectrogram.log_mel_spectrogram,
    conv1d=convolution.conv1d,
    layer_norm=norms.layer_norm,
    gelu=norms.gelu,
    attention=attention.attention,
    step=cached.step,
    merge=byte_pairs.merge,
    greedy_search=greedy.greedy_search,
    timestamp_rules=timestamps.timestamp_rules,
    beam_search=beam.beam_search,
    dynamic_time_warping=warping.dynamic_time_warping,
    sample=fallback.sample,
    fallback=fallback.fallback,
)

CLIP_WORDS = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
IN_ENCODER = {"softmax", "log_mel_spectrogram", "conv1d", "layer_norm", "attention"}
SAMPLING_TEMPERATURE = 0.4


def parts_with(functions: Mapping[str, Answer]) -> Parts:
    """Return the solutions with some of them replaced, also inside solutions that call them, as most call softmax."""

    def rebound(solution: Any) -> Any:
        if not functions.keys() & solution.__globals__.keys():
            return solution
        names = {
            **solution.__globals__,
            **{name: one for name, one in functions.items() if name in solution.__globals__},
        }
        return FunctionType(solution.__code__, names, solution.__name__, solution.__defaults__)

    others = SOLUTIONS._asdict() | {"gelu": gelu}  # the package's: it is faster
    return Parts(**{name: functions.get(name) or rebound(solution) for name, solution in others.items()})


def lines_with(exercise: Exercise, functions: Sequence[Answer], model: Whisper) -> Iterator[tuple[str, bool]]:
    """Run an answer inside the model on the package's clip; yield lines to print, and whether each is right."""
    named = dict(zip(exercise.functions, functions, strict=True))
    own = OwnNetwork(model, parts_with(named))
    features = None if IN_ENCODER & named.keys() else clip_features()[0]
    samples = clip_samples()
    if features is None:
        features = own.encode(own.mel(samples))
    window = OwnWindow(own, features, len(samples))
    window.searches = ["beam_search" if "beam_search" in named else "greedy_search"]
    segments, _ = window.segments(window.tokens())
    text = " ".join(segment.text for segment in segments)
    yield f"With your {' and '.join(exercise.functions)}, Whisper writes: {text}", is_clip_text(text)
    more = MORE.get(exercise.number)
    if more:
        yield more(window, segments), True


def is_clip_text(text: str) -> bool:
    """Return whether a text has the words of the clip."""
    return " ".join(re.findall(r"[a-z]+", text.lower())) == CLIP_WORDS


def _pieces(window: OwnWindow, segments: Sequence[OwnSegment]) -> str:
    tokens = window.own.tokens_of(" " + segments[0].text) if segments else []
    return "And splits it into tokens: " + "|".join(map(window.own.vocabulary.name, tokens))


def _times(window: OwnWindow, segments: Sequence[OwnSegment]) -> str:
    words = [word for segment in segments for word in segment.words]
    return "And finds when the words begin: " + " ".join(f"{word.start:.2f}{word.text}" for word in words)


def _sampled(window: OwnWindow, segments: Sequence[OwnSegment]) -> str:
    tokens, _ = window.sampled(SAMPLING_TEMPERATURE)
    return f"And at temperature {SAMPLING_TEMPERATURE}: {window.own.vocabulary.decode(tokens).strip()}"


MORE: dict[int, Callable[[OwnWindow, Sequence[OwnSegment]], str]] = {7: _pieces, 11: _times, 12: _sampled}
"""Additional lines for exercises whose effect the text alone does not show."""


def transcribed(functions: Mapping[str, Answer], samples: Array, model: Whisper) -> Iterator[OwnSegment]:
    """Transcribe samples with a reader's functions for all parts; yield the segments."""
    yield from transcribe(OwnNetwork(model, Parts(**functions)), samples)
