"""The model on a CPU: the choice of its engine, and the same tokens as the readable layers."""

import threading
from dataclasses import replace

import numpy as np
import pytest

import minwhisper
from conftest import DATA, LJ
from minwhisper.errors import OptionError
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.model.engine import DecoderInput, PlainEngine
from minwhisper.parity.comparison import clip_samples, load_reference, relative_difference, subsample, window_mel

CLIPS = [DATA / "jfk.flac", LJ[1]]
TIMEOUT = 300  # seconds


def tokens(model: minwhisper.Whisper, sound, **options) -> list[list[int]]:
    return [segment["tokens"] for segment in model.transcribe(sound, language="en", **options)["segments"]]


@pytest.fixture(scope="module")
def expected(tiny_en) -> list[list[list[int]]]:
    """Return the tokens of each clip by the readable layers."""
    plain = replace(tiny_en, plain=True)
    return [tokens(plain, clip) for clip in CLIPS]


# --- The engine


def test_float32_on_cpu_uses_the_fast_engine(tiny_en):
    assert isinstance(tiny_en.engine, CpuEngine)
    assert tiny_en.engine is tiny_en.engine


@pytest.mark.parametrize("options", [{"plain": True}, {"dtype": "float16"}, {"dtype": "float64"}], ids=str)
def test_other_options_use_the_readable_layers(tiny_en, options):
    model = minwhisper.load_model("tiny.en", **options)
    assert isinstance(model.engine, PlainEngine)
    assert model.engine.weights is model.weights


@pytest.mark.parametrize(("threads", "count"), [(1, 1), (3, 3), (None, 5), (0, 5)])
def test_number_of_threads(tiny_en, monkeypatch, threads, count):
    monkeypatch.setattr("minwhisper.fast.cpu.engine.usable_cores", lambda: 5)
    assert replace(tiny_en, threads=threads).engine.pool.count == count
    with pytest.raises(OptionError, match="threads: expected"):
        minwhisper.load_model("tiny.en", threads=-1)


# --- Tokens


@pytest.mark.parametrize(("threads", "times"), [(1, 1), (2, 2), (4, 1)])
def test_tokens_do_not_depend_on_threads(tiny_en, expected, threads, times):
    model = replace(tiny_en, threads=threads)
    for _ in range(times):
        assert [tokens(model, clip) for clip in CLIPS] == expected


def test_beam_search_gives_the_tokens_of_the_readable_layers(tiny_en):
    found = [tokens(model, CLIPS[0], beam_size=3) for model in (tiny_en, replace(tiny_en, plain=True))]
    assert found[0] == found[1]


@pytest.mark.grid
def test_base_gives_the_tokens_of_the_readable_layers(base):
    assert tokens(base, CLIPS[0]) == tokens(replace(base, plain=True), CLIPS[0])


def in_parallel(*works) -> list:
    """Run functions in parallel threads and return their results."""
    found = [None] * len(works)
    ready = threading.Barrier(len(works))

    def run(number):
        ready.wait(TIMEOUT)
        found[number] = works[number]()

    running = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(TIMEOUT)
    return found


def test_two_models_in_parallel(tiny_en, base, expected):
    small, large = replace(tiny_en, threads=2), replace(base, threads=2)
    alone = tokens(large, CLIPS[1])
    found = in_parallel(lambda: [tokens(small, clip) for clip in CLIPS], lambda: tokens(large, CLIPS[1]))
    assert found == [expected, alone]


def test_one_model_in_two_threads(tiny_en, expected):
    model = replace(tiny_en, threads=2)
    found = in_parallel(lambda: tokens(model, CLIPS[0]), lambda: tokens(model, CLIPS[1]))
    assert found == expected[:2]


def test_features_and_logits_are_at_least_as_exact_as_pytorch(model):
    reference = load_reference(model.name)
    features = model.engine.encode(window_mel(clip_samples(), model.config.num_mel_bins))
    text = [*model.tokenizer.sot_sequence("en", "transcribe", timestamps=True), *reference.tokens]
    engine = model.engine
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
