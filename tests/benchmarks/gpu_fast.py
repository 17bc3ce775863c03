"""Rows of gpu.py that say whether a model fits, and how fast it is."""

import gc
import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
from gpu_lab import MIB, RATE, Lab, Size, Timing, engine_of, in_turn, say, speech, stepping, transcribed, with_engine
from gpu_report import Cells, Most, row
from gpu_t400 import ROOM, encoder_operations, step_bytes

from minwhisper.backend import to_device
from minwhisper.engine import Feed
from minwhisper.fast.gpu_memory import CONTEXT, device_memory

# ------------------------------------------------------------------------------------------ does it fit?


@row("memory", "Memory of the device that is not CuPy's pool's", "when", "MiB|.0f")
def context(lab: Lab) -> Iterator[Cells]:
    """The context, and what the driver keeps for kernels, graphs and cuBLAS."""
    yield "at the start, with cuBLAS", lab.begun / MIB
    lab.forget()
    yield "now", lab.gpu.beside_arrays() / MIB
    yield "guessed", CONTEXT / MIB


PARTS = [f"{part} MiB|.0f" for part in ("weights", "encoder", "decoder", "peak")]
FORETOLD = [part.replace(" MiB", " foretold") for part in PARTS]
TWO = [title for pair in zip(PARTS, FORETOLD, strict=True) for title in pair]


@row("memory", f"Peaks, CuPy's pool limited to {ROOM / 2**30:.2f} GiB", "model", *TWO, "pool holds MiB|.0f", "fits")
def peak(lab: Lab) -> Iterator[Cells]:
    """A window encoded, the longest prompt, and fifty tokens: the most bytes of arrays, beside what was foretold."""
    lab.forget()
    for size in [*lab.sizes, *(Size(size.name, "float16") for size in lab.sizes if size.dtype == "float32"), *lab.more]:
        config = lab.configs[size.name]
        its = device_memory(config, size.dtype)
        foretold = its.weights, its.encoder, its.cache + its.decoder, its.peak
        found: list[float | None] = [None] * 4
        gc.collect()
        with lab.gpu.pool(ROOM) as pool:
            held = None
            try:
                model = lab.model(size.name, size.dtype, lab.device)
                found[0] = pool.used()
                engine = model.engine  # making it takes all that is foretold, once: no peak of the work
                pool.peak()
                features = model.encode(lab.mel(model))
                found[1] = pool.peak() - found[0]
                with engine.at_work():
                    half_of_it = config.max_target_positions // 2
                    prompt = Feed(speech(model, half_of_it), engine.new_cache(features), [0, half_of_it - 1])
                    ((_, cache),) = engine.decode_together([prompt])
                    for _ in range(50):
                        ((_, cache),) = engine.decode_together([Feed(speech(model, 1), cache, [0])])
                found[2] = pool.peak() - found[0]
                found[3] = found[0] + max(found[1], found[2])
                held = pool.held() / MIB
            except Exception as error:  # of memory: CuPy's own type, or the package's
                lab.note(f"{size}: {type(error).__name__}: {error}")
            model = engine = features = cache = prompt = None
            gc.collect()
            both = [number and number / MIB for pair in zip(found, foretold, strict=True) for number in pair]
            if both[-2] is not None:
                both[-2] = Most(both[-2], 1.05 * its.peak / MIB)
            yield str(size), *both, held, found[3] is not None


@row(
    "memory",
    "Window after window",
    "model",
    "windows",
    "after the 5th MiB|.1f",
    "after the last MiB|.1f",
    "later peaks over the 5th MiB|.1f",
)
def flat(lab: Lab) -> Iterator[Cells]:
    """Nothing is left behind by a window; the peak is that of all but the first five, over that of the fifth."""
    with lab.gpu.pool() as pool:
        model = lab.model(lab.speaking[0], device=lab.device)
        mel, used, peaks = lab.mel(model), [], []
        for number in range(lab.windows):
            say(model, mel[..., ::-1].copy() if number % 2 else mel, 20)
            used.append(pool.used() / MIB)
            peaks.append(pool.peak() / MIB)
        growth = max(peaks[4:]) - peaks[4]
        yield lab.speaking[0], lab.windows, used[4], Most(used[-1], used[4] + 0.1), Most(growth, 0.1)
        model = None
        gc.collect()


# ------------------------------------------------------------------------------------------ is it fast?


def milliseconds(seconds: float | None) -> float | None:
    """For a cell."""
    return None if seconds is None else 1e3 * seconds


def peers(timings: dict[str, Timing], most: float) -> Iterator[Any]:
    """The peer's milliseconds, and the ratio to them."""
    theirs = timings.get("openai")
    yield theirs and 1e3 * theirs.median
    yield theirs and Most(timings["ours"].median / theirs.median, most)


@row(
    "speed",
    "Encoder, one window",
    *("model", "ms|.2f", "without kernels ms|.2f", "openai-whisper ms|.2f", "ratio|.2f"),
    *("TFLOP/s|.2f", "of the product's rate|.2f", "first time s|.2f", "peer's first time s|.2f"),
)
def encoder(lab: Lab) -> Iterator[Cells]:
    """From a mel on the GPU to features."""
    for size in lab.sizes:
        model, peer = lab.pair(size)
        mel = lab.mel(model)
        there, without = to_device(mel, lab.device), engine_of(model, kernels=False)
        works: dict[str, Callable[[], Any]] = {"ours": lambda: model.encode(there)}  # noqa: B023 (used in this turn)
        works["without"] = lambda: without.encode(there)  # noqa: B023
        if peer:
            works["openai"] = peer.encoder(mel)
        taken = in_turn(lab, works, lab.rounds)
        rate = encoder_operations(model.config) / taken["ours"].median
        yield (
            *(str(size), 1e3 * taken["ours"].median, 1e3 * taken["without"].median, *peers(taken, 1.1)),
            *(rate / 1e12, lab.rates and rate / lab.rates.operations),
            *(taken["ours"].first, taken["openai"].first if peer else None),
        )


@row(
    "speed",
    "A step, 100 tokens in",
    *("model", "ms|.3f", "no graph ms|.3f", "no kernels ms|.3f", "openai-whisper ms|.3f", "ratio|.2f"),
    *("on the GPU ms|.3f", "reads MB|.1f", "GB/s|.0f", "of what is read|.2f", "first time s|.2f"),
)
def step(lab: Lab) -> Iterator[Cells]:
    """One token for one text, until the GPU is idle again; on the GPU alone, one step after another."""
    for size in lab.sizes:
        model, peer = lab.pair(size)
        features = [model.encode(lab.mel(model))]
        others = {"launched": engine_of(model, graph=False), "without": engine_of(model, kernels=False)}
        works = {"ours": stepping(model, features)}
        works |= {who: stepping(with_engine(model, engine), features) for who, engine in others.items()}
        with peer.step(lab.mel(model)) if peer else nullcontext() as theirs:
            taken = in_turn(lab, works | ({"openai": theirs} if theirs else {}), lab.rounds, 10)
        alone = statistics.median(lab.gpu.back_to_back(works["ours"], 20) for _ in range(lab.rounds))
        reads = step_bytes(model.config, size.dtype)
        yield (
            *(str(size), *(1e3 * taken[who].median for who in ("ours", "launched", "without")), *peers(taken, 0.4)),
            *(1e3 * alone, reads / 1e6, reads / alone / 1e9, lab.rates and reads / alone / lab.rates.read),
            taken["ours"].first,
        )


@row(
    "speed",
    "Steps of many",
    *("model", "one ms|.3f", "windows", "windows ms|.3f", "peer's ms|.3f", "ratio|.2f"),
    *("five texts ms|.3f", "changing places ms|.3f", "peer's five ms|.3f"),
)
def together(lab: Lab) -> Iterator[Cells]:
    """Several windows that are decoded together, and five texts about one."""
    for size in lab.sizes:
        model, peer = lab.pair(size)
        mel = lab.mel(model)
        features = model.encode(mel)
        mine = (
            {"one": stepping(model, [features]), "ours": stepping(model, [features] * lab.batch)},
            {"five": stepping(model, [features], 5), "moving": stepping(model, [features], 5, moving=True)},
        )
        taken: dict[str, Timing] = {}
        for works, who, rows in zip(mine, ("openai", "their five"), (lab.batch, 5), strict=True):
            with peer.step(mel, rows) if peer else nullcontext() as theirs:
                taken |= in_turn(lab, works | ({who: theirs} if theirs else {}), lab.rounds, 5)
        five = (milliseconds(taken[who].median if who in taken else None) for who in ("five", "moving", "their five"))
        one, all_of = 1e3 * taken["one"].median, 1e3 * taken["ours"].median
        yield str(size), one, lab.batch, all_of, *peers(taken, 1.0), *five


def speakers(lab: Lab) -> Iterator[tuple[Any, Any, str]]:
    """The models that can speak, with their peers."""
    for name in lab.speaking:
        model, peer = lab.pair(Size(name))
        if model.maybe_tokenizer is None:
            lab.note(f"{name}: nothing to say without its weights")
            continue
        yield model, peer, name


@row("speed", "A window by beam of five", "model", "ms|.1f", "openai-whisper ms|.1f", "ratio|.2f", "tokens equal")
def beam(lab: Lab) -> Iterator[Cells]:
    """All of it, from a mel to tokens."""
    for model, peer, name in speakers(lab):
        mel, said = lab.mel(model), {}

        def ours(model: Any = model, mel: Any = mel, said: Any = said) -> None:
            said["ours"] = model.decode(mel[0], beam_size=5, language="en").tokens

        works: dict[str, Callable[[], Any]] = {"ours": ours}
        if peer:
            theirs = peer.beam(mel, 5)
            works["openai"] = lambda theirs=theirs, said=said: said.update(openai=theirs())
        taken = in_turn(lab, works, max(1, lab.rounds // 2), warm=1)
        equal = said["ours"] == said["openai"] if peer else None
        yield name, 1e3 * taken["ours"].median, *peers(taken, 0.8), equal


@row(
    "speed",
    "Whole sounds, from samples to text",
    *("model", "sound", "s|.1f", "windows at a time", "took s|.2f", "times real time|.0f"),
    *("openai-whisper s|.2f", "speed|.2f", "tokens equal"),
)
def whole(lab: Lab) -> Iterator[Cells]:
    """The first clip, and those of the book one behind the other."""
    pause = np.zeros(4000, np.float32)
    book = [part for clip, its in lab.sounds.items() if clip.startswith("LJ") for part in (its, pause)]
    first = next(iter(lab.sounds))
    sounds = {first: lab.sounds[first]} | ({"the book": np.concatenate(book)} if book else {})
    for model, peer, name in speakers(lab):
        for title, samples in sounds.items():
            for batch in (1, lab.batch):
                said: dict[str, list[int]] = {}

                def ours(model: Any = model, samples: Any = samples, batch: int = batch, said: Any = said) -> None:
                    said["ours"] = transcribed(model, samples, temperature=0.0, batch_size=batch)

                works: dict[str, Callable[[], Any]] = {"ours": ours}
                if peer and batch == 1:
                    works["openai"] = lambda peer=peer, its=samples, said=said: said.update(openai=peer.tokens(its))
                taken = in_turn(lab, works, max(1, lab.rounds // 2), warm=1)
                seconds, theirs = samples.size / RATE, taken.get("openai")
                yield (
                    *(name, title, seconds, batch, taken["ours"].median, seconds / taken["ours"].median),
                    *(theirs and theirs.median, theirs and theirs.median / taken["ours"].median),
                    said["ours"] == said["openai"] if theirs else None,
                )


@row(
    "speed",
    "A token, while a window is decoded",
    *("model", "tokens", "ms|.3f", "kernels run ms|.3f", "the GPU waits ms|.3f"),
)
def host(lab: Lab) -> Iterator[Cells]:
    """What a token costs in all, rules and choice included, and for how much of it the GPU has something to do."""
    for size in lab.sizes:
        model, _ = lab.pair(size)
        mel = lab.mel(model)
        steps = len(say(model, mel, 50))
        a_token = statistics.median(per_token(lab.gpu.seconds, model, mel, steps) for _ in range(lab.rounds))
        busy = per_token(lab.gpu.busy, model, mel, steps)
        waits = None if busy is None else a_token - busy
        yield str(size), steps, milliseconds(a_token), milliseconds(busy), milliseconds(waits)


def per_token(measure: Callable[[Callable[[], Any]], Any], model: Any, mel: np.ndarray, steps: int) -> Any:
    """What so many tokens take over one, by a clock that can be none: for each."""
    one, all_of = measure(lambda: say(model, mel, 1)), measure(lambda: say(model, mel, steps))
    return None if one is None or all_of is None else (all_of - one) / max(1, steps - 1)
