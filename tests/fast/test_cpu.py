"""The model at work on a CPU: which engine it has, and that speech comes out the same, whichever it is."""

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

SOUNDS = [DATA / "jfk.flac", LJ[1]]
PATIENCE = 300  # seconds after which a test that hangs fails


def tokens(model: minwhisper.Whisper, sound, **options) -> list[list[int]]:
    return [segment["tokens"] for segment in model.transcribe(sound, language="en", **options)["segments"]]


@pytest.fixture(scope="module")
def expected(tiny_en) -> list[list[list[int]]]:
    """What the readable layers hear in each sound."""
    plain = replace(tiny_en, plain=True)
    return [tokens(plain, sound) for sound in SOUNDS]


# --- Which engine


def test_float32_on_a_cpu_is_scheduled_for_speed(tiny_en):
    assert isinstance(tiny_en.engine, CpuEngine)
    assert tiny_en.engine is tiny_en.engine


@pytest.mark.parametrize("options", [{"plain": True}, {"dtype": "float16"}, {"dtype": "float64"}], ids=str)
def test_everything_else_computes_with_the_layers_as_they_are(tiny_en, options):
    model = minwhisper.load_model("tiny.en", **options)
    assert isinstance(model.engine, PlainEngine)
    assert model.engine.weights is model.weights


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_as_asked_for(tiny_en, threads):
    assert minwhisper.load_model("tiny.en", threads=threads).engine.pool.count == threads


@pytest.mark.parametrize("threads", [None, 0])
def test_by_default_as_many_threads_as_usable_cores(tiny_en, monkeypatch, threads):
    monkeypatch.setattr("minwhisper.fast.cpu.engine.usable_cores", lambda: 5)
    assert replace(tiny_en, threads=threads).engine.pool.count == 5


def test_a_number_of_threads_that_makes_no_sense():
    with pytest.raises(OptionError, match="threads: expected"):
        minwhisper.load_model("tiny.en", threads=-1)


# --- What is heard


@pytest.mark.parametrize(("threads", "times"), [(1, 1), (2, 2), (4, 1)])
def test_the_same_tokens_with_any_number_of_threads_and_every_time(tiny_en, expected, threads, times):
    model = replace(tiny_en, threads=threads)
    for _ in range(times):
        assert [tokens(model, sound) for sound in SOUNDS] == expected


def test_the_same_tokens_with_a_beam(tiny_en):
    found = [tokens(model, SOUNDS[0], beam_size=3) for model in (tiny_en, replace(tiny_en, plain=True))]
    assert found[0] == found[1]


@pytest.mark.grid
def test_the_same_tokens_with_base(base):
    assert tokens(base, SOUNDS[0]) == tokens(replace(base, plain=True), SOUNDS[0])


def at_once(*works) -> list:
    """What each of them returns, in a thread of its own."""
    found = [None] * len(works)
    ready = threading.Barrier(len(works))

    def run(number):
        ready.wait(PATIENCE)
        found[number] = works[number]()

    running = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE)
    return found


def test_two_models_at_once(tiny_en, base, expected):
    small, large = replace(tiny_en, threads=2), replace(base, threads=2)
    alone = tokens(large, SOUNDS[1])
    found = at_once(lambda: [tokens(small, sound) for sound in SOUNDS], lambda: tokens(large, SOUNDS[1]))
    assert found == [expected, alone]


def test_one_model_in_two_threads_at_once(tiny_en, expected):
    model = replace(tiny_en, threads=2)
    found = at_once(lambda: tokens(model, SOUNDS[0]), lambda: tokens(model, SOUNDS[1]))
    assert found == expected[:2]


def test_on_a_real_transcript_it_is_no_further_from_the_truth_than_pytorch(model):
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
