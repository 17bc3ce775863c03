"""The model on a CPU: the choice of the engine, and the same tokens as from the readable layers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import minwhisper
from inputs import DATA
from minwhisper.errors import OptionError
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.model.engine import DecoderInput, PlainEngine
from minwhisper.parity.comparison import clip_samples, load_reference, relative_difference, subsample, window_mel

CLIPS = [DATA / "LJ001-0008.wav", DATA / "LJ001-0002.wav"]
TIMEOUT = 300  # seconds


def tokens(model: minwhisper.Whisper, audio, **options) -> list[list[int]]:
    return [segment["tokens"] for segment in model.transcribe(audio, language="en", **options)["segments"]]


# --- The engine


def test_only_float32_without_plain_uses_the_fast_engine(tiny_en):
    assert isinstance(tiny_en.engine, CpuEngine)
    assert tiny_en.engine is tiny_en.engine
    for options in ({"plain": True}, {"dtype": "float16"}, {"dtype": "float64"}):
        model = minwhisper.load_model("tiny.en", **options)
        assert isinstance(model.engine, PlainEngine)
        assert model.engine.weights is model.weights


def test_the_engine_has_the_requested_number_of_threads(tiny_en, monkeypatch):
    monkeypatch.setattr("minwhisper.fast.cpu.engine.usable_cores", lambda: 5)
    counts = [replace(tiny_en, threads=threads).engine.pool.count for threads in (1, 3, None, 0)]
    assert counts == [1, 3, 5, 5]
    with pytest.raises(OptionError, match="threads: expected"):
        minwhisper.load_model("tiny.en", threads=-1)


# --- Values


def test_the_number_of_threads_does_not_change_a_bit(tiny_en, rng):
    """A real model is used: its token embedding is large enough to be divided among threads."""
    mel, text = rng.standard_normal((1, 80, 1000), np.float32), list(range(400, 500))

    def everything(threads: int) -> list[np.ndarray]:
        engine = CpuEngine(tiny_en.weights, tiny_en.config, threads)
        first, second = (engine.encode(window) for window in (mel, mel[:, ::-1]))
        feeds = [
            DecoderInput([text], engine.new_cache(first), [50, 99]),
            DecoderInput([text[:5]], engine.new_cache(second)),
        ]
        prompts = engine.decode_batch(feeds)
        (_, one), (_, other) = prompts
        steps = [DecoderInput([[token] for token in text[5:10]], one.reorder([0] * 5)), DecoderInput([[11]], other)]
        return [first, second, *(logits for logits, _ in [*prompts, *engine.decode_batch(steps)])]

    expected = everything(1)
    for threads in (2, 2, 3):
        assert all(np.array_equal(*pair) for pair in zip(everything(threads), expected, strict=True))


def test_greedy_and_beam_search_in_parallel_threads_give_the_tokens_of_the_readable_layers(tiny_en):
    plain, shared, ready = replace(tiny_en, plain=True), replace(tiny_en, threads=2), threading.Barrier(2)
    options = {"beam_size": 3}, {}

    def run(clip, how):
        ready.wait(TIMEOUT)
        return tokens(shared, clip, **how)

    with ThreadPoolExecutor(2) as running:
        found = list(running.map(run, CLIPS, options))
    assert found == [tokens(plain, clip, **how) for clip, how in zip(CLIPS, options, strict=True)]


def test_features_and_logits_are_at_least_as_exact_as_pytorch(model):
    reference, engine = load_reference(model.name), model.engine
    features = engine.encode(window_mel(clip_samples(), model.config.num_mel_bins))
    text = [*model.tokenizer.sot_sequence("en", "transcribe", timestamps=True), *reference.tokens]
    with engine.session():
        [(at_once, _)] = engine.decode_batch([DecoderInput([text], engine.new_cache(features))])
        cache, steps = engine.new_cache(features), []
        for token in text:
            [(logits, cache)] = engine.decode_batch([DecoderInput([[token]], cache)])
            steps.append(logits)
    stages = (("encoder", features), ("logits", at_once), ("logits", np.concatenate(steps, axis=1)))
    for stage, array in stages:
        part = subsample(stage, array, reference.rows[stage])
        assert relative_difference(part, reference.exact[stage]) <= reference.pytorch[stage], stage
