"""The model on a CPU: the choice of its engine, and the same tokens as the readable layers."""

import threading
from dataclasses import replace

import numpy as np
import pytest

import minwhisper
from conftest import DATA
from minwhisper.errors import OptionError
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.model.engine import DecoderInput, PlainEngine
from minwhisper.parity.comparison import clip_samples, load_reference, relative_difference, subsample, window_mel

CLIPS = [DATA / "LJ001-0008.wav", DATA / "LJ001-0002.wav"]
TIMEOUT = 300  # seconds


def tokens(model: minwhisper.Whisper, sound, **options) -> list[list[int]]:
    return [segment["tokens"] for segment in model.transcribe(sound, language="en", **options)["segments"]]


@pytest.fixture(scope="module")
def expected(tiny_en) -> list[list[list[int]]]:
    """Return the tokens of each clip by the readable layers."""
    plain = replace(tiny_en, plain=True)
    return [tokens(plain, clip) for clip in CLIPS]


# --- The engine


def test_only_float32_without_plain_uses_the_fast_engine(tiny_en):
    assert isinstance(tiny_en.engine, CpuEngine)
    assert tiny_en.engine is tiny_en.engine
    for options in ({"plain": True}, {"dtype": "float16"}, {"dtype": "float64"}):
        model = minwhisper.load_model("tiny.en", **options)
        assert isinstance(model.engine, PlainEngine)
        assert model.engine.weights is model.weights


def test_number_of_threads(tiny_en, monkeypatch):
    monkeypatch.setattr("minwhisper.fast.cpu.engine.usable_cores", lambda: 5)
    counts = [replace(tiny_en, threads=threads).engine.pool.count for threads in (1, 3, None, 0)]
    assert counts == [1, 3, 5, 5]
    with pytest.raises(OptionError, match="threads: expected"):
        minwhisper.load_model("tiny.en", threads=-1)


# --- Tokens


def test_tokens_are_those_of_the_readable_layers(tiny_en, expected):
    assert [tokens(replace(tiny_en, threads=2), clip) for clip in CLIPS] == expected


def test_beam_search_gives_the_tokens_of_the_readable_layers(tiny_en):
    found = [tokens(model, CLIPS[0], beam_size=3) for model in (tiny_en, replace(tiny_en, plain=True))]
    assert found[0] == found[1]


@pytest.mark.parametrize("models", [1, 2])
def test_models_in_parallel_threads(tiny_en, expected, models):
    used = ([replace(tiny_en, threads=2) for _ in range(models)] * 2)[:2]
    found, ready = [None, None], threading.Barrier(2)

    def run(number):
        ready.wait(TIMEOUT)
        found[number] = tokens(used[number], CLIPS[number])

    running = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(TIMEOUT)
    assert found == expected


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
