"""The work that gpu.py times: steps of the decoder, windows, whole clips."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minwhisper.common.backend import to_numpy
from minwhisper.fast.gpu.engine import gpu_engine
from minwhisper.model.engine import DecoderInput
from minwhisper.whisper import NoTokenizer

START, WORD = 50257, 400  # any tokens will do for timing
LENGTH = 100  # tokens of a sequence when its steps are timed
STEPS = 20  # steps that are timed together


class Contender(NamedTuple):
    """A piece of work that is timed."""

    run: Callable[[Any], Any]
    ready: Callable[[], Any] = lambda: None  # makes the argument of ``run``; not timed
    count: int = 1  # equal parts of the work; the reported time is that of one part


class Timing(NamedTuple):
    """The seconds that a contender takes."""

    first: float  # the first time, which includes compilation, capture and allocation
    median: float


def in_turn(gpu: Any, contenders: dict[str, Contender], rounds: int, warm: int = 2) -> dict[str, Timing]:
    """Time contenders in turn, ``rounds`` times each, after ``warm`` uncounted times each."""

    def timed(one: Contender) -> float:
        given = one.ready()
        return gpu.seconds(lambda: one.run(given)) / one.count

    first: dict[str, float] = {}
    for name, one in contenders.items():
        first[name], *_ = [timed(one) for _ in range(max(1, warm))]
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, one in contenders.items():
            taken[name].append(timed(one))
    return {name: Timing(first[name], statistics.median(column)) for name, column in taken.items()}


def with_engine(model: Any, engine: Any, **changes: Any) -> Any:
    """Return the same model with an engine of this class, with some of the engine's fields changed."""
    other = dataclasses.replace(model, **changes)
    vars(other)["engine"] = engine
    return other


def launching(model: Any) -> Any:
    """Return a GPU model whose engine launches kernels one by one and replays no graphs."""
    engine: Any = gpu_engine(model.weights, model.config, model.device)
    engine.runner.use_graph = False
    return engine


def filler(model: Any, length: int, rows: int = 1) -> list[list[int]]:
    """Return a sequence of ``length`` tokens, ``rows`` times."""
    last = model.config.vocab_size - 1
    return [[min(START, last)] + [min(WORD, last)] * (length - 1)] * rows


def steps(model: Any, features: Sequence[Any], rows: int = 1, moving: bool = False) -> Contender:
    """Decode ``STEPS`` steps of several windows together, each with ``rows`` sequences, starting after LENGTH tokens.

    ``moving``: the sequences are reordered before each step, like the hypotheses of a beam.
    """
    engine = model.engine
    order = [*range(1, rows), 0] if moving else [*range(rows)]
    token = [row[-1:] for row in filler(model, 2, rows)]

    def ready() -> list[Any]:
        with engine.session():
            fresh = [DecoderInput(filler(model, LENGTH), engine.new_cache(one), [0]) for one in features]
            return [cache.reorder([0] * rows) for _, cache in (engine.decode_batch([feed])[0] for feed in fresh)]

    def run(caches: list[Any]) -> Any:
        with engine.session():
            for _ in range(STEPS):
                found = engine.decode_batch([DecoderInput(token, cache.reorder(order), [0]) for cache in caches])
                caches = [cache for _, cache in found]
        return found

    return Contender(run, ready, STEPS)


def greedy_tokens(model: Any, mel: np.ndarray, most: int = 50, features: Any = None) -> list[int]:
    """Decode a window greedily: with all logit filters if there is a tokenizer, else by the largest logit.

    ``features``: those of the window, (1, T, D), if they are known.
    """
    features = model.encode(mel) if features is None else features
    if not isinstance(model.tokenizer, NoTokenizer):
        return model.decode(features[0], language="en", sample_len=most).tokens
    engine, tokens = model.engine, filler(model, 1)[0]
    cache = engine.new_cache(features)
    with engine.session():
        for _ in range(most):
            ((logits, cache),) = engine.decode_batch([DecoderInput([tokens[-1:]], cache, [0])])
            tokens.append(int(to_numpy(logits[0, 0].argmax())))
    return tokens[1:]


def transcribed_tokens(model: Any, samples: np.ndarray, **how: Any) -> list[int]:
    """Transcribe a clip, and return its tokens."""
    result = model.transcribe(samples, language="en", **how)
    return [token for segment in result["segments"] for token in segment["tokens"]]
