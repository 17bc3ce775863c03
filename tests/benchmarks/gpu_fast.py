"""Rows of gpu.py about speed."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpu_lab import RATE, Lab, Size, borrowed_tokenizer
from gpu_report import Cells, at_least, at_most, row
from gpu_t400 import encoder_operations, step_bytes
from gpu_work import Contender, Timing, greedy_tokens, in_turn, launching, steps, transcribed_tokens, with_engine
from minwhisper.common.backend import array_module, to_device
from minwhisper.whisper import NoTokenizer

ENCODER_RATIO, STEP_RATIO, BEAM_RATIO, TOKEN_RATIO = 1.1, 0.25, 0.8, 0.4  # maximum ratios to the peer's time
WAYS_TO_DECODE = "ours", "together", "theirs"
BATCH_GAIN = 4.0  # tokens per second of windows together over those of one window, at least


def milliseconds(timing: Timing | None) -> float | None:
    """Return the median in milliseconds, for a cell."""
    return timing and 1e3 * timing.median


def ratio(timings: dict[str, Timing], ours: str, theirs: str, most: float) -> Any:
    """Return the ratio of two contenders' times, for a cell; a missing peer counts as a miss."""
    peer = timings.get(theirs)
    return at_most(peer and timings[ours].median / peer.median, most)


@row(
    "speed",
    "Encoder, one window",
    *("model", "ms|.2f", "openai-whisper ms|.2f", "ratio|.2f", "TFLOP/s|.2f", "of the product's rate|.2f"),
    *("first time s|.2f", "peer's first time s|.2f"),
)
def encoder(lab: Lab) -> Iterator[Cells]:
    """Time a window, from a mel on the GPU to features."""
    for size in lab.sizes:
        model, peer = lab.pair(size)
        mel = lab.mel(model)
        there = to_device(mel, lab.device)
        contenders = {"ours": Contender(lambda _, model=model, there=there: model.encode(there))}
        if peer:
            contenders["openai"] = peer.encoder(mel)
        taken = in_turn(lab.gpu, contenders, lab.rounds)
        rate = encoder_operations(model.config) / taken["ours"].median
        yield (
            *(str(size), milliseconds(taken["ours"]), milliseconds(taken.get("openai"))),
            *(ratio(taken, "ours", "openai", ENCODER_RATIO), rate / 1e12, lab.rates and rate / lab.rates.operations),
            *(taken["ours"].first, taken["openai"].first if peer else None),
        )


@row(
    "speed",
    "A step after 100 tokens",
    *("model", "ms|.3f", "no graph ms|.3f", "openai-whisper ms|.3f", "ratio|.2f", "on the GPU ms|.3f"),
    *("reads MB|.1f", "GB/s|.0f", "of what is read|.2f"),
)
def step(lab: Lab) -> Iterator[Cells]:
    """Time one token of one sequence, by the wall clock and by the GPU's clock."""
    for size in lab.sizes:
        model, peer = lab.pair(size)
        mel = lab.mel(model)
        features = [model.encode(mel)]
        contenders = {"ours": steps(model, features), "launched": steps(with_engine(model, launching(model)), features)}
        if peer:
            contenders["openai"] = peer.steps(mel)
        taken = in_turn(lab.gpu, contenders, lab.rounds)
        ours = contenders["ours"]
        given = ours.ready()
        alone = lab.gpu.device_seconds(lambda ours=ours, given=given: ours.run(given)) / ours.count
        reads = step_bytes(model.config, size.dtype)
        yield (
            *(str(size), *(milliseconds(taken.get(name)) for name in ("ours", "launched", "openai"))),
            *(ratio(taken, "ours", "openai", STEP_RATIO), 1e3 * alone, reads / 1e6, reads / alone / 1e9),
            lab.rates and reads / alone / lab.rates.read,
        )


@row(
    "speed",
    "Steps of many sequences",
    *("model", "one ms|.3f", "windows", "windows ms|.3f", "peer's ms|.3f"),
    *("ratio|.2f", "five sequences ms|.3f", "reordered ms|.3f", "peer's five ms|.3f"),
)
def together(lab: Lab) -> Iterator[Cells]:
    """Time a step of several windows together, and one of five sequences of one window."""
    for size in lab.sizes:
        model, peer = lab.pair(size)
        mel = lab.mel(model)
        features = model.encode(mel)
        contenders = {
            "one": steps(model, [features]),
            "batch": steps(model, [features] * lab.batch),
            "five": steps(model, [features], 5),
            "moving": steps(model, [features], 5, moving=True),
        }
        if peer:
            contenders |= {"their batch": peer.steps(mel, lab.batch), "their five": peer.steps(mel, 5)}
        taken = in_turn(lab.gpu, contenders, lab.rounds)
        yield (
            *(str(size), milliseconds(taken["one"]), lab.batch, milliseconds(taken["batch"])),
            *(milliseconds(taken.get("their batch")), ratio(taken, "batch", "their batch", 1.0)),
            *(milliseconds(taken.get(name)) for name in ("five", "moving", "their five")),
        )


@row("speed", "A window with a beam of five", "model", "ms|.1f", "openai-whisper ms|.1f", "ratio|.2f", "tokens equal")
def beam(lab: Lab) -> Iterator[Cells]:
    """Time a whole window, from a mel to tokens."""
    for name in lab.trained("a beam"):
        model, peer = lab.pair(Size(name))
        mel, tokens = lab.mel(model), {}

        def ours(_: Any, model: Any = model, mel: Any = mel, tokens: Any = tokens) -> None:
            tokens["ours"] = model.decode(mel[0], beam_size=5, language="en").tokens

        def theirs(_: Any, peer: Any = peer, mel: Any = mel, tokens: Any = tokens) -> None:
            tokens["openai"] = peer.decode(mel[0], beam_size=5)

        contenders = {"ours": Contender(ours)} | ({"openai": Contender(theirs)} if peer else {})
        taken = in_turn(lab.gpu, contenders, max(1, lab.rounds // 2), warm=1)
        yield (
            *(name, milliseconds(taken["ours"]), milliseconds(taken.get("openai"))),
            ratio(taken, "ours", "openai", BEAM_RATIO),
            tokens["ours"] == tokens["openai"] if peer else None,
        )


@row(
    "speed",
    "Whole clips, from samples to text",
    *("model", "clip", "s|.1f", "windows at a time", "took s|.2f", "times real time|.0f"),
    *("openai-whisper s|.2f", "ratio|.2f", "tokens equal"),
)
def whole(lab: Lab) -> Iterator[Cells]:
    """Time the first clip, and the clips of the book joined together."""
    for name in lab.trained("a whole clip"):
        model, peer = lab.pair(Size(name))
        for title, samples in long_clips(lab).items():
            for batch in (1, lab.batch):
                tokens: dict[str, list[int]] = {}

                def ours(_: Any, m: Any = model, its: Any = samples, batch: int = batch, to: Any = tokens) -> None:
                    to["ours"] = transcribed_tokens(m, its, temperature=0.0, batch_size=batch)

                def theirs(_: Any, peer: Any = peer, its: Any = samples, to: Any = tokens) -> None:
                    to["openai"] = peer.transcribe(its)

                asarray_like = peer if batch == 1 else None
                contenders = {"ours": Contender(ours)} | ({"openai": Contender(theirs)} if asarray_like else {})
                taken = in_turn(lab.gpu, contenders, max(1, lab.rounds // 2), warm=1)
                seconds = samples.size / RATE
                yield (
                    *(name, title, seconds, batch, taken["ours"].median, seconds / taken["ours"].median),
                    taken["openai"].median if asarray_like else None,
                    ratio(taken, "ours", "openai", 1.0) if batch == 1 else None,
                    tokens["ours"] == tokens["openai"] if asarray_like else None,
                )


@row(
    "speed",
    "Word timestamps, from samples to words",
    *("model", "clip", "s|.1f", "took s|.2f", "without words s|.2f", "openai-whisper s|.2f", "ratio|.2f"),
    *("words|d", "same word, 0.02 s apart at most"),
)
def words(lab: Lab) -> Iterator[Cells]:
    """Time clips with and without word timestamps, and compare the words with the peer's."""
    for name in lab.trained("a clip's words"):
        model, peer = lab.pair(Size(name))
        for title, samples in long_clips(lab).items():
            found: dict[str, list[dict[str, Any]]] = {}

            def ours(_: Any, m: Any = model, its: Any = samples, to: Any = found) -> None:
                transcript = m.transcribe(its, language="en", temperature=0.0, word_timestamps=True)
                to["ours"] = [word for segment in transcript["segments"] for word in segment["words"]]

            def without(_: Any, m: Any = model, its: Any = samples) -> None:
                transcribed_tokens(m, its, temperature=0.0)

            def theirs(_: Any, peer: Any = peer, its: Any = samples, to: Any = found) -> None:
                to["openai"] = peer.words(its)

            contenders = {"ours": Contender(ours), "without": Contender(without)}
            contenders |= {"openai": Contender(theirs)} if peer else {}
            taken = in_turn(lab.gpu, contenders, max(1, lab.rounds // 2), warm=1)
            pairs = list(zip(found["ours"], found.get("openai", ()), strict=False))
            same = sum(a["word"] == b["word"] and abs(a["start"] - b["start"]) < 0.0201 for a, b in pairs)
            yield (
                *(name, title, samples.size / RATE, taken["ours"].median, taken["without"].median),
                *(taken["openai"].median if peer else None, ratio(taken, "ours", "openai", 1.0)),
                *(len(found["ours"]), at_least(same if peer else None, len(found["ours"]))),
            )


def long_clips(lab: Lab) -> dict[str, np.ndarray]:
    """Return the first clip, and the clips of the book joined together."""
    pause = np.zeros(4000, np.float32)
    book = [part for clip, its in lab.clips.items() if clip.startswith("LJ") for part in (its, pause)]
    return dict(list(lab.clips.items())[:1]) | ({"the book": np.concatenate(book)} if book else {})


@row(
    "speed",
    "A token, while windows are decoded greedily",
    *("model", "tokens", "ms|.3f", "kernels run ms|.3f", "the GPU waits ms|.3f", "openai-whisper ms|.3f", "ratio|.2f"),
    *("windows together", "ms|.3f", "tokens per second, of one's|.2f"),
)
def host(lab: Lab) -> Iterator[Cells]:
    """Time a token with logit filters and choice, the idle time of the GPU, and a token of each of many windows.

    A model without weights of its own borrows a tokenizer; if there is none to borrow, its line has no filters, no
    peer and no windows together.
    """
    for size in lab.sizes:
        model, peer = lab.pair(size)
        mel = lab.mel(model)
        if isinstance(model.tokenizer, NoTokenizer):
            model = with_engine(model, model.engine, tokenizer=borrowed_tokenizer(model.config))
        features = model.encode(mel)
        many = array_module(features).concatenate([features] * lab.batch)
        window = peer and peer.features(mel)

        def ours(most: int, model: Any = model, mel: Any = mel, features: Any = features) -> list[int]:
            return greedy_tokens(model, mel, most, features)

        def together(most: int, model: Any = model, many: Any = many) -> Any:
            return model.decode(many, language="en", sample_len=most)

        def theirs(most: int, peer: Any = peer, window: Any = window) -> list[int]:
            return peer.decode(window, sample_len=most)

        count, clock = len(ours(50)), lab.gpu.seconds
        contenders = {"ours": ours}
        if isinstance(model.tokenizer, NoTokenizer):
            lab.note(f"{size}: no tokenizer is here, so logit filters are left out")
        else:
            contenders |= {"together": together} | ({"theirs": theirs} if peer else {})
        found = {name: [per_token(clock, one, count) for _ in range(lab.rounds)] for name, one in contenders.items()}
        one, all_of, other = (statistics.median(found[name]) if name in found else None for name in WAYS_TO_DECODE)
        busy = None
        try:
            busy = per_token(lab.gpu.busy, ours, count)
        except Exception as error:  # any error of PyTorch's profiler
            lab.note(f"the profiler failed, so the GPU's share is unknown: {type(error).__name__}: {error}")
        cells = one, busy, busy and one - busy, other
        yield (
            *(str(size), count, *(seconds and 1e3 * seconds for seconds in cells)),
            *(at_most(other and one / other, TOKEN_RATIO), lab.batch, all_of and 1e3 * all_of),
            at_least(all_of and lab.batch * one / all_of, BATCH_GAIN),
        )


def per_token(measure: Callable[[Callable[[], Any]], Any], decode: Callable[[int], Any], count: int) -> Any:
    """Return the time that each of ``count`` tokens adds to that of one token; None if the clock has none."""
    one, all_of = measure(lambda: decode(1)), measure(lambda: decode(count))
    return None if one is None or all_of is None else (all_of - one) / max(1, count - 1)


# ------------------------------------------------------------------------------------------ the first window

FIRST_WINDOW = """
import sys, time
import numpy as np
import bench_path
import minwhisper
from gpu_work import greedy_tokens
model = minwhisper.Whisper.random("tiny", device=sys.argv[1], dtype=sys.argv[2])
mel = np.zeros((1, 80, 3000), np.float32)
for _ in range(2):
    start = time.perf_counter()
    greedy_tokens(model, mel, 3)
    print(time.perf_counter() - start)
"""


@row(
    "speed",
    "The first window of a process",
    *("weights", "kernels compiled s|.2f", "kernels from disk s|.2f", "second window s|.3f"),
)
def compiled(lab: Lab) -> Iterator[Cells]:
    """Time fresh processes, first with an empty and then with a filled cache of compiled kernels."""
    for dtype in ("float32", "float16"):
        with tempfile.TemporaryDirectory() as folder:
            first, second = (first_window(lab.device, dtype, folder) for _ in range(2))
        yield dtype, first[0], second[0], second[1]


def first_window(device: str, dtype: str, folder: str) -> list[float]:
    """Time two windows of three tokens each, with an untrained tiny model in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_WINDOW, device, dtype],
        cwd=Path(__file__).parent,
        env=os.environ | {"CUPY_CACHE_DIR": folder},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        *_, last = done.stderr.strip().splitlines()
        raise RuntimeError(f"the timed process failed: {last}")
    return [float(line) for line in done.stdout.split()]
