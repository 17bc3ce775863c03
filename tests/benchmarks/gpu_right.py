"""Rows of gpu.py about correctness."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import carried
from gpu_lab import Lab
from gpu_report import Cells, at_most, row
from gpu_work import greedy_tokens, launching, transcribed_tokens
from minwhisper.common.backend import to_numpy
from minwhisper.model.engine import DecoderInput
from minwhisper.parity.comparison import relative_difference
from minwhisper.scoring import ErrorCounts, word_errors

EXACT = 1e-4  # relative difference of float32 from the CPU's
EXACT_HALF = 5e-3  # the same for float16, to which keys and values are rounded
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "beam of 5": {"temperature": 0.0, "beam_size": 5},
    "sampled": {"temperature": 0.4, "best_of": 3},
}


def any_tokens(model: Any, count: int) -> list[int]:
    """Return random tokens of the vocabulary, the same every time."""
    return np.random.default_rng(1).integers(0, model.config.vocab_size, count).tolist()


def logits(engine: Any, features: Any, tokens: list[int], prompt: int) -> Iterator[np.ndarray]:
    """Yield the logits of a prompt at all its positions, then those of each step after it."""
    cache = engine.new_cache(features)
    with engine.session():
        for new in (tokens[:prompt], *([token] for token in tokens[prompt:])):
            ((found, cache),) = engine.decode_batch([DecoderInput([new], cache)])
            yield to_numpy(found)


def furthest(mine: Iterator[np.ndarray], exact: Iterator[np.ndarray]) -> tuple[float, float]:
    """Return the relative difference of the first arrays, and the largest of the others."""
    first, *others = (relative_difference(*pair) for pair in zip(mine, exact, strict=True))
    return first, max(others)


COLUMNS = "features|.1e", "a prompt's logits|.1e", "ten steps' logits|.1e"


@row("correct", "Against the engine of the CPU, ‖difference‖ / ‖the CPU's‖", "model", "weights", *COLUMNS)
def exact(lab: Lab) -> Iterator[Cells]:
    """Compare features and logits."""
    for name in lab.names:
        for dtype, most in (("float32", EXACT), ("float16", EXACT_HALF)):
            here, there = lab.model(name, dtype), lab.model(name, dtype, lab.device)
            mel, tokens = lab.mel(here), any_tokens(here, 30)
            features, mine = here.encode(mel), there.encode(mel)
            found = furthest(logits(there.engine, mine, tokens, 20), logits(here.engine, features, tokens, 20))
            away = relative_difference(to_numpy(mine), features)
            yield name, dtype, *(at_most(difference, most) for difference in (away, *found))


@row("speed", "Replayed graphs against launched kernels", "weights", "sequences", "steps", "bit for bit")
def graph(lab: Lab) -> Iterator[Cells]:
    """Take twelve steps as a CUDA graph, and with the same kernels one by one."""
    for dtype in ("float32", "float16"):
        model = lab.model(lab.names[0], dtype, lab.device)
        features, engines = model.encode(lab.mel(model)), (model.engine, launching(model))
        for rows in (1, 5):
            caches = [engine.new_cache(features).reorder([0] * rows) for engine in engines]
            equal, rng = [], np.random.default_rng(2)
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # the engine warns if it cannot capture a graph
                for _ in range(12):
                    tokens = rng.integers(0, model.config.vocab_size, (rows, 1)).tolist()
                    pairs = zip(engines, caches, strict=True)
                    found = [engine.decode_batch([DecoderInput(tokens, cache)])[0] for engine, cache in pairs]
                    equal.append(np.array_equal(*(to_numpy(one) for one, _ in found)))
                    caches = [cache for _, cache in found]
            yield dtype, rows, len(equal), all(equal)


@row("correct", "Tokens against those of the CPU in float32", "model", "way", "clips", "all equal", "difference")
def tokens(lab: Lab) -> Iterator[Cells]:
    """Transcribe every clip with each set of options. The CPU's tokens may have been computed in advance."""
    stored = carried.expected_tokens()
    for name in lab.trained("a transcript"):
        there, here = lab.model(name, device=lab.device), None
        for way, how in WAYS.items():
            different = []
            for clip, samples in lab.clips.items():
                expected = stored.get(name, {}).get(way, {}).get(clip)
                if expected is None:
                    here = here or lab.model(name)
                    expected = transcribed_tokens(here, samples, **how)
                mine = transcribed_tokens(there, samples, **how)
                if mine != expected:
                    different.append(f"{clip} {first_difference(mine, expected)}")
            yield name, way, len(lab.clips), not different, "; ".join(different)
    if not lab.trained("a transcript"):
        name = lab.names[0]
        mine, expected = (greedy_tokens(m, lab.mel(m)) for m in (lab.model(name, device=lab.device), lab.model(name)))
        yield name, "greedy, random weights", 1, mine == expected, first_difference(mine, expected)
        yield name, "with its own weights", 0, False, "not here"


def first_difference(mine: list[int], expected: list[int]) -> str:
    """Return a description of the first difference between two lists of tokens."""
    if mine == expected:
        return ""
    place = next((i for i, pair in enumerate(zip(mine, expected, strict=False)) if pair[0] != pair[1]), -1)
    return f"from token {place} of {len(expected)}" if place >= 0 else f"{len(mine)} tokens for {len(expected)}"


def share_of_errors(references: dict[str, str], texts: dict[str, str], clips: list[str]) -> tuple[float, int]:
    """Return the word error rate over clips in percent, and the number of words of their references."""
    counts = sum((word_errors(references[clip], texts[clip]) for clip in clips), ErrorCounts())
    return 100.0 * counts.rate, counts.length


ERRORS = "against float32 %|.2f", "float32 against the book %|.2f", "float16 against the book %|.2f"


@row("correct", "Word error of weights in float16", "model", "clips", "words", *ERRORS)
def half(lab: Lab) -> Iterator[Cells]:
    """Compare the words of the clips of LJ Speech."""
    lines = (carried.DATA / "lj_texts.csv").read_text("utf-8").splitlines()
    book = {f"{name}.wav": text for name, text in (line.split("|") for line in lines)}
    for name in lab.trained("word error"):
        clips = {clip: its for clip, its in lab.clips.items() if clip.startswith("LJ")}
        single, narrow = (
            {clip: model.transcribe(its, temperature=0.0, language="en")["text"] for clip, its in clips.items()}
            for model in (lab.model(name, dtype, lab.device) for dtype in ("float32", "float16"))
        )
        known = [clip for clip in clips if clip in book]
        columns = ((narrow, single, list(clips)), (single, book, known), (narrow, book, known))
        shares, words = zip(*(share_of_errors(found, texts, names) for texts, found, names in columns), strict=True)
        yield name, len(clips), words[0], at_most(shares[0], 0.5), *shares[1:]
