"""Predicted memory and out-of-memory errors, on simulated GPUs with limited memory."""

import gc
import sys
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

import minwhisper
from inputs import SMALL, real_model
from minwhisper.common.backend import to_numpy
from minwhisper.errors import DeviceError, DeviceMemoryError
from minwhisper.fast import devices
from minwhisper.fast.gpu.cache import GpuCache
from minwhisper.fast.gpu.memory import CONTEXT, T400, Card, device_memory, measure_card, models_for
from minwhisper.model.engine import DecoderInput

MIB = 1 << 20


@pytest.fixture
def uncollected():
    """Disable garbage collection: memory has to be freed without it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def on_gpu(gpus, uncollected):
    return minwhisper.Whisper.random(SMALL, seed=3, device="cuda")


def small_mel():
    return np.random.default_rng(0).standard_normal((1, 8, 300)).astype(np.float32)


# ------------------------------------------------------------------------------------------ predictions


def test_the_models_that_fit_on_a_t400_are_listed():
    assert Card(2048 * MIB, CONTEXT) == T400
    fitting = ["large-v3-turbo float16", "medium float16", "small float32", "base float32", "tiny float32"]
    assert [" ".join(one) for one in models_for(T400.available, multilingual=True)] == fitting
    english = ["medium.en", "small.en", "base.en", "tiny.en"]
    assert [name for name, _ in models_for(T400.available, multilingual=False)] == english
    assert models_for(50 * MIB, multilingual=True) == []


def test_available_memory_excludes_other_programs_and_obeys_the_limit_of_the_pool(gpus):
    gpus.outside = 300 * MIB
    assert devices.resolve_device("cuda") == "cuda:0"
    card = measure_card("cuda:0")
    assert card == Card(2048 * MIB, 300 * MIB, 0)
    assert gpus.kept > gpus.alive  # blocks that the pool keeps do not count as used by other programs
    assert card.available == 1748 * MIB
    sys.modules["cupy"].get_default_memory_pool().set_limit(size=1000 * MIB)
    assert measure_card("cuda:0").available == 1000 * MIB
    gpus.outside = 1500 * MIB
    assert measure_card("cuda:0").available == 548 * MIB


# ------------------------------------------------------------------------------------------ loading


def test_a_smaller_model_can_be_loaded_while_the_error_is_handled(gpus, uncollected):
    devices.resolve_device("cuda")
    gpus.limit = 120 * MIB
    with pytest.raises(DeviceMemoryError) as caught:
        real_model("tiny.en", device="cuda")
    assert gpus.alive == gpus.kept == 0  # at once, although the traceback still exists
    assert str(caught.value) == (
        "cuda:0 ran out of memory while loading tiny.en in float32: it needs 181 MiB, 120 MiB were free; "
        "models that fit: tiny.en in float16; load one of them, or stop other programs that use this GPU (nvidia-smi "
        "lists them)"
    )
    assert isinstance(caught.value, DeviceError)
    assert type(caught.value.__cause__).__name__ == "OutOfMemoryError"
    model = real_model("tiny.en", device="cuda", dtype="float16")
    model.encode(np.zeros((1, 80, 200), np.float32))
    del model
    assert gpus.alive == 0


def test_the_message_names_models_that_fit(gpus, uncollected, monkeypatch):
    # A stand-in for the weights of a large model, too large for the card.
    monkeypatch.setattr("minwhisper.whisper.random_weights", lambda *_: sys.modules["cupy"].zeros(450 * MIB))
    for name, limit, way_out in (
        ("medium", 1000, "models that fit: small in float16, base in float32, tiny in float32; load one of them, or"),
        ("medium", 1700, "fit: an untrained model in float16, large-v3-turbo in float16, small"),
        ("medium.en", 50, "50 MiB were free; no model fits: stop other programs.*'cpu'"),
    ):
        gpus.limit = limit * MIB
        with pytest.raises(DeviceMemoryError, match=f"loading an untrained model in float32: it needs .*{way_out}"):
            minwhisper.Whisper.random(name, device="cuda")


def test_a_second_model_that_does_not_fit_is_an_error_and_the_first_stays(gpus, uncollected):
    first = minwhisper.Whisper.random("tiny", device="cuda", dtype="float16")
    gpus.limit = gpus.alive + 110 * MIB
    message = r"341 MiB, 110 MiB were free beside 72 MiB of CuPy.*models that fit: tiny in float16; load"
    with pytest.raises(DeviceMemoryError, match=message):
        minwhisper.Whisper.random("base", device="cuda")
    assert gpus.alive == device_memory(first.config, "float16").weights


def test_the_message_names_the_limit_of_the_pool(gpus):
    sys.modules["cupy"].get_default_memory_pool().set_limit(size=60 * MIB)
    with pytest.raises(DeviceMemoryError, match=r"60 MiB were free \(CuPy's pool is limited to 60 MiB\); no model"):
        minwhisper.Whisper.random("tiny", device="cuda")


@pytest.mark.parametrize("error", [MemoryError("of the CPU's"), ValueError("something else")], ids=repr)
def test_other_errors_are_unchanged(gpus, monkeypatch, error):
    monkeypatch.setattr("minwhisper.whisper.random_weights", Mock(side_effect=error))
    with pytest.raises(type(error), match=str(error)):
        minwhisper.Whisper.random(SMALL, device="cuda")


def test_an_out_of_memory_error_of_a_cuda_library_is_recognised(on_gpu, monkeypatch):
    error = RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")
    monkeypatch.setattr("minwhisper.fast.gpu.encoder.encode", Mock(side_effect=error))
    with pytest.raises(DeviceMemoryError, match="while encoding a window"):
        on_gpu.encode(small_mel())


# ------------------------------------------------------------------------------------------ computing


def decoded(model, new, cache):
    with model.engine.session():
        ((logits, _),) = model.engine.decode_batch([DecoderInput(new, cache, [0])])
    return logits


def audio_of(cache):
    return cache.cross_attention if isinstance(cache, GpuCache) else cache.cross_attention[0].keys


STAGES = {
    "encode": ("encoding a window with", lambda model, *_: model.encode(small_mel())),
    "cache": (
        "computing a window's keys and values with",
        lambda model, features, _: audio_of(model.engine.new_cache(features)),
    ),
    "prompt": ("decoding with", lambda model, _, cache: decoded(model, [[1, 2, 3, 4]], cache)),
    "step": ("decoding with", lambda model, _, cache: decoded(model, [[5]], cache)),
    "logits": ("computing logits with", lambda model, features, _: model.logits([[1, 2, 3]], features)),
}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_running_out_of_memory_is_explained_at_each_stage_which_can_be_repeated(stage, plain, gpus, uncollected):
    expected_message, work = STAGES[stage]
    model = replace(minwhisper.Whisper.random(SMALL, seed=3, device="cuda"), plain=plain)
    expected = to_numpy(work(model, features := model.encode(small_mel()), model.engine.new_cache(features)))
    cache = model.engine.new_cache(features)
    before, limit = gpus.alive, gpus.limit
    for room in (0, 512, 2048):  # too little for the first array, or for a later one
        gpus.limit = before + room
        with pytest.raises(DeviceMemoryError, match=f"while {expected_message} untrained in float32: ") as caught:
            work(model, features, cache)
        assert gpus.alive == gpus.kept == before  # at once, although the traceback still exists
        needs = "its weights alone need 0 MiB" if plain else "it needs 9 MiB"
        assert f"{needs}, 0 MiB were free beside 0 MiB of CuPy's arrays; " in str(caught.value)
    gpus.limit = limit
    np.testing.assert_array_equal(to_numpy(work(model, features, cache)), expected)


def test_running_out_of_memory_in_another_computation_is_explained(on_gpu, gpus):
    engine = on_gpu.engine
    gpus.limit = gpus.alive
    with pytest.raises(DeviceMemoryError, match="while computing with untrained"), engine.session():
        sys.modules["cupy"].zeros(1000)


def test_a_smaller_batch_is_suggested_if_one_sequence_fits(gpus):
    model = minwhisper.Whisper.random("tiny", device="cuda", dtype="float16")
    assert model.engine
    gpus.limit = 110 * MIB
    message = (
        r"it needs 99 MiB, \d+ MiB were free beside \d+ MiB of CuPy's arrays; one sequence of one window "
        "would fit: use a smaller batch_size, beam_size or best_of"
    )
    with pytest.raises(DeviceMemoryError, match=message):
        model.encode(np.zeros((20, 80, 3000), np.float32))


def test_smaller_models_are_suggested_in_place_of_the_loaded_one(gpus, uncollected):
    model = minwhisper.Whisper.random("base", device="cuda")
    gpus.limit = 290 * MIB
    with pytest.raises(DeviceMemoryError) as caught:
        model.encode(np.zeros((1, 80, 3000), np.float32))
    assert str(caught.value) == (
        "cuda:0 ran out of memory while encoding a window with untrained in float32: it needs 341 MiB, 12 MiB were "
        "free beside 278 MiB of CuPy's arrays; models that fit in its place: untrained in float16, tiny in float32; "
        "load one of them, or stop other programs that use this GPU (nvidia-smi lists them)"
    )
    plain = replace(model, plain=True)
    for limit, message in (
        (290, r"its weights alone need 277 MiB, .* place: untrained in float16, tiny"),
        (400, "in its place: untrained in float32 without plain=True, tiny in"),
    ):
        gpus.limit = limit * MIB
        with pytest.raises(DeviceMemoryError, match=message):
            plain.encode(np.zeros((1, 80, 3000), np.float32))
