"""Rows of gpu.py that say whether what comes out is right."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gpu_lab import DATA, Lab, engine_of, say, transcribed, with_engine
from gpu_report import Cells, Most, row

from minwhisper import layers as readable
from minwhisper.backend import to_device, to_numpy
from minwhisper.engine import Feed
from minwhisper.fast import gpu as gpu_engine
from minwhisper.fast.cache import Cache
from minwhisper.parity import relative_difference

EXACT = 1e-4  # relative difference of float32 from the CPU's
EXACT_HALF = 5e-3  # of float16: keys and values are rounded to it
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "beam of 5": {"temperature": 0.0, "beam_size": 5},
    "drawn": {"temperature": 0.4, "best_of": 3},
}


def any_tokens(model: Any, count: int) -> list[int]:
    """Some of the vocabulary, the same ones every time."""
    return np.random.default_rng(1).integers(0, model.config.vocab_size, count).tolist()


def logits(engine: Any, features: Any, tokens: list[int], prompt: int) -> Iterator[np.ndarray]:
    """Those of a prompt, at all its positions, and of the steps after it."""
    cache = engine.new_cache(features)
    with engine.at_work():
        for new in (tokens[:prompt], *([token] for token in tokens[prompt:])):
            ((found, cache),) = engine.decode_together([Feed([new], cache)])
            yield to_numpy(found)


def furthest(mine: Iterator[np.ndarray], exact: Iterator[np.ndarray]) -> tuple[float, float]:
    """The relative differences of the first, and the largest of the others."""
    first, *others = (relative_difference(*pair) for pair in zip(mine, exact, strict=True))
    return first, max(others)


COLUMNS = "features|.1e", "a prompt's logits|.1e", "ten steps' logits|.1e"


@row("correct", "Against the engine of the CPU, ‖difference‖ / ‖the CPU's‖", "model", "weights", *COLUMNS)
def exact(lab: Lab) -> Iterator[Cells]:
    """Features and logits."""
    for name in lab.speaking:
        for dtype, most in (("float32", EXACT), ("float16", EXACT_HALF)):
            here, there = lab.model(name, dtype), lab.model(name, dtype, lab.device)
            mel, said = lab.mel(here), any_tokens(here, 30)
            features, mine = here.encode(mel), there.encode(mel)
            found = furthest(logits(there.engine, mine, said, 20), logits(here.engine, features, said, 20))
            away = relative_difference(to_numpy(mine), features)
            yield name, dtype, *(Most(difference, most) for difference in (away, *found))


def word_errors(said: str, true: str) -> tuple[int, int]:
    """Words put in, left out or changed, and how many there are.

    >>> word_errors("A quick fox", "The quick, brown fox")
    (2, 4)
    """
    mine, exact = (re.findall(r"[a-z0-9']+", text.lower()) for text in (said, true))
    costs = list(range(len(exact) + 1))
    for number, word in enumerate(mine, start=1):
        before, costs = costs, [number]
        for place, other in enumerate(exact):
            costs.append(min(costs[-1] + 1, before[place + 1] + 1, before[place] + (word != other)))
    return costs[-1], len(exact)


ERRORS = "against float32 %|.2f", "float32 against the book %|.2f", "float16 against the book %|.2f"


@row("correct", "Word error of weights in float16", "model", "clips", "words", *ERRORS)
def half(lab: Lab) -> Iterator[Cells]:
    """Words of the clips of LJ Speech."""
    lines = (DATA / "lj_texts.csv").read_text("utf-8").splitlines()
    book = {f"{name}.wav": text for name, text in (line.split("|") for line in lines)}
    for name in lab.speaking:
        models = [lab.model(name, dtype, lab.device) for dtype in ("float32", "float16")]
        if models[0].maybe_tokenizer is None:
            lab.note(f"{name}: no words without its weights")
            continue
        clips = {clip: its for clip, its in lab.sounds.items() if clip.startswith("LJ")}
        single, narrow = (
            {clip: model.transcribe(its, temperature=0.0, language="en")["text"] for clip, its in clips.items()}
            for model in models
        )
        known = [clip for clip in clips if clip in book]
        columns = ((narrow, single, list(clips)), (single, book, known), (narrow, book, known))
        shares, words = [], 0
        for said, true, names in columns:
            wrong, all_of = np.sum([word_errors(said[clip], true[clip]) for clip in names], axis=0)
            shares.append(100.0 * float(wrong) / float(all_of))
            words = words or int(all_of)
        yield name, len(clips), words, Most(shares[0], 0.5), *shares[1:]


@row("correct", "Kernels against plain CuPy", "model", "weights", *COLUMNS, "tokens equal")
def plain(lab: Lab) -> Iterator[Cells]:
    """The engine with kernels and without."""
    for dtype, most in (("float32", EXACT), ("float16", EXACT_HALF)):
        model = lab.model(lab.speaking[0], dtype, lab.device)
        other, mel = engine_of(model, kernels=False), lab.mel(model)
        mine, features = model.encode(mel), other.encode(to_device(mel, model.device))
        said = any_tokens(model, 30)
        found = furthest(logits(model.engine, mine, said, 20), logits(other, features, said, 20))
        away = relative_difference(to_numpy(mine), to_numpy(features))
        equal = say(model, mel) == say(with_engine(model, other), mel)
        yield lab.speaking[0], dtype, *(Most(difference, most) for difference in (away, *found)), equal


@row("correct", "Recorded steps against launched ones", "weights", "texts", "steps", "recorded", "bit for bit")
def graph(lab: Lab) -> Iterator[Cells]:
    """Twelve steps as a CUDA graph, and the same kernels one by one."""
    for dtype in ("float32", "float16"):
        model = lab.model(lab.speaking[0], dtype, lab.device)
        engine, other = engine_of(model), engine_of(model, graph=False)
        audio = engine.new_cache(model.encode(lab.mel(model))).audio
        most = model.config.max_target_positions
        for texts in (1, 5):
            caches = [Cache.of(audio, most, by_position=True).take([0] * texts) for _ in "ab"]
            equal, rng = [], np.random.default_rng(2)
            for _ in range(12):
                token = rng.integers(0, model.config.vocab_size, (texts, 1)).tolist()
                found = [e.decode_together([Feed(token, c)])[0] for e, c in zip((engine, other), caches, strict=True)]
                equal.append(np.array_equal(*(to_numpy(one) for one, _ in found)))
                caches = [cache for _, cache in found]
            recorded = caches[0].text.recorded
            yield dtype, texts, len(equal), recorded is not None, all(equal)


@row("correct", "Each kernel against its layer in CuPy", "kernel", "weights", "‖difference‖ / ‖the layer's‖|.1e")
def layers(lab: Lab) -> Iterator[Cells]:
    """Random numbers through both."""
    for dtype in ("float32", "float16"):
        kernels = gpu_engine.load_kernels(np.dtype(dtype))
        for name, check in kernel_checks(kernels, lab, dtype).items():
            try:
                mine, expected = (to_numpy(array) for array in check())
                yield name, dtype, Most(relative_difference(mine, expected), 1e-5)
            except Exception as error:
                lab.note(f"{name}, {dtype}: {type(error).__name__}: {error}")
                yield name, dtype, False


def kernel_checks(kernels: Any, lab: Lab, dtype: str) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """For each kernel what it gives and what its layer gives, in the shapes of a model, for five texts."""
    c, rng, R, past = lab.configs[lab.sizes[0].name], np.random.default_rng(3), 5, 100
    T, D, F, V = c.max_source_positions, c.d_model, c.decoder_ffn_dim, c.vocab_size
    room, H, K = c.max_target_positions, c.decoder_attention_heads, c.d_model // c.decoder_attention_heads

    def some(*shape: int, of: str = "float32") -> Any:
        return to_device(rng.standard_normal(shape, dtype=np.float32).astype(of), lab.device)

    def whole(*values: int) -> Any:
        return to_device(np.array(values, np.int32), lab.device)

    def wide(array: Any) -> Any:
        return array.astype("float32", copy=False)

    def layer_norm() -> tuple[Any, Any]:
        x, weight, bias, out = some(R, D), some(D, of=dtype), some(D, of=dtype), some(R, D)
        kernels.layer_norm(x, weight, bias, out)
        return out, readable.layer_norm(x, wide(weight), wide(bias))

    def bias_gelu() -> tuple[Any, Any]:
        x, bias = some(R, F), some(F, of=dtype)
        expected = readable.gelu(x + wide(bias))
        kernels.bias_gelu(x, bias)
        return x, expected

    def softmax() -> tuple[Any, Any]:
        scores = some(H, R, T)
        expected = readable.softmax(scores + readable.causal_mask(R, T - R, scores))
        kernels.softmax(scores, T - R)
        return scores, expected

    def embed() -> tuple[Any, Any]:
        table, positions, x = some(V, D, of=dtype), some(room, D, of=dtype), some(R, D)
        its = whole(0, 1, V // 2, V - 2, V - 1)
        kernels.embed(its, table, positions, whole(past), x)
        return x, wide(table)[its] + wide(positions)[past]

    def matvec() -> tuple[Any, Any]:
        x, weight, bias, residual, y = some(R, D), some(F, D, of=dtype), some(F, of=dtype), some(R, F), some(R, F)
        kernels.matvec(x, weight, bias, y, residual=residual, gelu=True)
        return y, readable.gelu(readable.linear(x, wide(weight), wide(bias))) + residual

    def attend_text() -> tuple[Any, Any]:
        keys, values, out = some(R, H, room, K, of=dtype), some(R, H, room, K, of=dtype), some(R, D)
        new = some(3, R, D)
        kernels.attend_text(new, keys, values, whole(past), out)
        seen = wide(keys)[:, :, : past + 1].swapaxes(2, 3), wide(values)[:, :, : past + 1]
        return out, readable.attend(new[0].reshape(R, H, 1, K), *seen).reshape(R, D)

    def attend_audio() -> tuple[Any, Any]:
        keys, values, queries, out = some(H, T, K, of=dtype), some(H, T, K, of=dtype), some(R, D), some(R, D)
        kernels.attend_audio(queries, keys, values, some(*kernels.partial_shape(R, H, T, K)), out)
        by_head = queries.reshape(R, H, K).transpose(1, 0, 2)
        heard = readable.attend(by_head, wide(keys).swapaxes(1, 2), wide(values))
        return out, heard.transpose(1, 0, 2).reshape(R, D)

    checks = layer_norm, bias_gelu, softmax, embed, matvec, attend_text, attend_audio
    return {check.__name__: check for check in checks}


@row("correct", "Tokens against those of the CPU in float32", "model", "way", "clips", "all equal", "other")
def tokens(lab: Lab) -> Iterator[Cells]:
    """What is said of every clip, in every way."""
    for name in lab.speaking:
        here, there = lab.model(name), lab.model(name, device=lab.device)
        if here.maybe_tokenizer is None:
            mine, expected = say(there, lab.mel(there)), say(here, lab.mel(here))
            yield name, "likeliest of random weights", len(mine), mine == expected, first_other(mine, expected)
            continue
        for way, how in WAYS.items():
            pairs = {clip: [transcribed(m, its, **how) for m in (there, here)] for clip, its in lab.sounds.items()}
            other = [f"{clip} {first_other(*pair)}" for clip, pair in pairs.items() if pair[0] != pair[1]]
            yield name, way, len(pairs), not other, "; ".join(other)


def first_other(mine: list[int], expected: list[int]) -> str:
    """Where two texts part."""
    if mine == expected:
        return ""
    place = next((i for i, pair in enumerate(zip(mine, expected, strict=False)) if pair[0] != pair[1]), -1)
    return f"from token {place} of {len(expected)}" if place >= 0 else f"{len(mine)} tokens for {len(expected)}"
