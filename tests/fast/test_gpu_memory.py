"""What fits into a GPU, and what happens where something does not: on pretended GPUs, which can run out of memory."""

import gc
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import minwhisper
from conftest import DATA, SMALL, real_model
from minwhisper.common.backend import to_numpy
from minwhisper.errors import DeviceError, DeviceMemoryError, SomeFailedError
from minwhisper.fast import devices
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.fast.gpu.cache import GpuCache
from minwhisper.fast.gpu.decoder import Decoder
from minwhisper.fast.gpu.memory import CONTEXT, GPU_DTYPES, T400, Card, device_memory, measure_card, models_for
from minwhisper.fast.gpu.runner import DecoderRunner
from minwhisper.model.config import PUBLISHED
from minwhisper.model.engine import DecoderInput

JFK, SHORT = DATA / "jfk.flac", DATA / "LJ001-0008.wav"
MIB = 1 << 20


@pytest.fixture
def uncollected():
    """Memory has to be set free without the collector of cycles, which comes when it pleases."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def there(gpus, uncollected):
    return minwhisper.Whisper.random(SMALL, seed=3, device="cuda")


def small_mel(windows=1):
    return np.random.default_rng(0).standard_normal((windows, 8, 300)).astype(np.float32)


def tokens(transcript) -> list[list[int]]:
    return [segment["tokens"] for segment in transcript["segments"]]


# ------------------------------------------------------------------------------------------ what is foretold


def test_larger_sizes_take_more_and_float16_about_half():
    for dtype in GPU_DTYPES:
        needed = [device_memory(PUBLISHED[name], dtype) for name in ("tiny", "base", "small", "medium", "large-v3")]
        for smaller, larger in pairwise(needed):
            assert all(one < other for one, other in zip(smaller, larger, strict=True))
            assert smaller.peak < larger.peak
    for config in PUBLISHED.values():
        single, half = (device_memory(config, dtype) for dtype in GPU_DTYPES)
        assert half.weights == pytest.approx(single.weights / 2, rel=1e-3)
        assert half.cache == single.cache / 2
        assert 0.5 < half.peak / single.peak < 0.56
        assert device_memory(config, "float32", sequences=5).peak > single.peak


def test_the_small_card_takes_what_is_promised():
    assert Card(2048 * MIB, CONTEXT) == T400
    assert models_for(T400.available, multilingual=True) == [
        ("large-v3-turbo", "float16"),
        ("medium", "float16"),
        ("small", "float32"),
        ("base", "float32"),
        ("tiny", "float32"),
    ]
    assert [name for name, _ in models_for(T400.available, multilingual=False)] == [
        "medium.en",
        "small.en",
        "base.en",
        "tiny.en",
    ]
    assert models_for(50 * MIB, multilingual=True) == []


def test_a_card_is_measured(gpus):
    gpus.outside = 300 * MIB
    assert devices.resolve_device("cuda") == "cuda:0"
    card = measure_card("cuda:0")
    assert card == Card(2048 * MIB, 300 * MIB, 0)
    assert gpus.kept > gpus.alive  # what the pool keeps for itself is no other's
    assert card.available == 1748 * MIB
    sys.modules["cupy"].get_default_memory_pool().set_limit(size=1000 * MIB)
    assert measure_card("cuda:0").available == 1000 * MIB
    gpus.outside = 1500 * MIB
    assert measure_card("cuda:0").available == 548 * MIB


# ------------------------------------------------------------------------------------------ loading


def test_weights_that_do_not_fit_leave_nothing_behind(gpus, uncollected):
    devices.resolve_device("cuda")
    gpus.limit = 120 * MIB
    with pytest.raises(DeviceMemoryError) as caught:
        real_model("tiny.en", device="cuda")
    assert gpus.alive == gpus.kept == 0  # at once, though the traceback is still here
    assert str(caught.value) == (
        "cuda:0 ran out of memory while loading tiny.en in float32: it needs 181 MiB, 120 MiB were free; "
        "models that fit: tiny.en in float16; load one of them, or stop other programs that use this GPU (nvidia-smi "
        "lists them)"
    )
    assert isinstance(caught.value, DeviceError)
    assert type(caught.value.__cause__).__name__ == "OutOfMemoryError"


def test_a_smaller_one_can_be_loaded_where_the_error_is_handled(gpus, uncollected, tiny_en):
    gpus.limit = 120 * MIB
    try:
        model = real_model("tiny.en", device="cuda")
    except DeviceMemoryError:
        model = real_model("tiny.en", device="cuda", dtype="float16")
    assert tokens(model.transcribe(SHORT, temperature=0.0)) == tokens(tiny_en.transcribe(SHORT, temperature=0.0))
    del model
    assert gpus.alive < 8192  # the rules' constants
    gpus.limit = 1


def test_others_that_would_fit_are_named(gpus, uncollected, monkeypatch):
    gpus.limit = 1000 * MIB
    # A large model's weights, of which the first is too large already.
    monkeypatch.setattr("minwhisper.whisper.random_weights", lambda *_: sys.modules["cupy"].zeros(250 * MIB))
    with pytest.raises(DeviceMemoryError) as caught:
        minwhisper.Whisper.random("medium", device="cuda")
    assert str(caught.value) == (
        "cuda:0 ran out of memory while loading an untrained model in float32: it needs 3316 MiB, 1000 MiB were free; "
        "models that fit: small in float16, base in float32, tiny in float32; load one of them, or stop other programs "
        "that use this GPU (nvidia-smi lists them)"
    )
    gpus.limit = 1700 * MIB
    with pytest.raises(DeviceMemoryError, match="fit: an untrained model in float16, large-v3-turbo in float16, small"):
        minwhisper.Whisper.random("medium", device="cuda")
    gpus.limit = 50 * MIB
    with pytest.raises(DeviceMemoryError, match=r"50 MiB were free; no model fits: stop other programs.*'cpu'"):
        minwhisper.Whisper.random("medium.en", device="cuda")


def test_a_second_model_beside_a_first(gpus, uncollected):
    first = minwhisper.Whisper.random("tiny", device="cuda", dtype="float16")
    gpus.limit = gpus.alive + 110 * MIB
    with pytest.raises(
        DeviceMemoryError, match=r"needs 341 MiB, 110 MiB were free beside 72 MiB of CuPy.*fit: tiny in"
    ):
        minwhisper.Whisper.random("base", device="cuda")
    assert gpus.alive == device_memory(first.config, "float16").weights


def test_a_limit_of_the_pool_is_told(gpus, uncollected):
    sys.modules["cupy"].get_default_memory_pool().set_limit(size=60 * MIB)
    with pytest.raises(DeviceMemoryError, match=r"60 MiB were free \(CuPy's pool is limited to 60 MiB\); no model"):
        minwhisper.Whisper.random("tiny", device="cuda")
    assert gpus.alive == gpus.kept == 0


def test_what_is_no_lack_of_the_gpus_memory_is_left_alone(gpus, monkeypatch):
    for error in (MemoryError("of the CPU's"), ValueError("something else")):

        def fails(*_, error=error):
            raise error

        monkeypatch.setattr("minwhisper.whisper.random_weights", fails)
        with pytest.raises(type(error), match=str(error)):
            minwhisper.Whisper.random(SMALL, device="cuda")


def test_what_cudas_libraries_say_is_understood(there, monkeypatch):
    def fails(*_):
        raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")

    monkeypatch.setattr("minwhisper.fast.gpu.encoder.encode", fails)
    with pytest.raises(DeviceMemoryError, match="while encoding a window"):
        there.encode(small_mel())


# ------------------------------------------------------------------------------------------ at work


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
def test_a_stage_that_fails_says_so_and_can_be_done_again(stage, plain, gpus, uncollected):
    said, work = STAGES[stage]
    model = replace(minwhisper.Whisper.random(SMALL, seed=3, device="cuda"), plain=plain)
    expected = to_numpy(work(model, features := model.encode(small_mel()), model.engine.new_cache(features)))
    cache = model.engine.new_cache(features)
    before, enough = gpus.alive, gpus.limit
    for room in (0, 512, 2048):  # the first array finds no room, or one after it
        gpus.limit = before + room
        with pytest.raises(DeviceMemoryError, match=f"while {said} untrained in float32: ") as caught:
            work(model, features, cache)
        assert gpus.alive == gpus.kept == before  # at once, though the traceback is still here
        needs = "its weights alone need 0 MiB" if plain else "it needs 9 MiB"
        assert f"{needs}, 0 MiB were free beside 0 MiB of CuPy's arrays; " in str(caught.value)
    gpus.limit = enough
    np.testing.assert_array_equal(to_numpy(work(model, features, cache)), expected)


def test_what_else_is_computed_is_told_too(there, gpus):
    engine = there.engine
    gpus.limit = gpus.alive
    with pytest.raises(DeviceMemoryError, match="while computing with untrained"), engine.session():
        sys.modules["cupy"].zeros(1000)


def test_where_one_text_would_fit_fewer_are_the_way_out(gpus, uncollected):
    model = minwhisper.Whisper.random("tiny", device="cuda", dtype="float16")
    assert model.engine
    before, gpus.limit = gpus.alive, 110 * MIB
    with pytest.raises(
        DeviceMemoryError,
        match=r"it needs 99 MiB, \d+ MiB were free beside \d+ MiB of CuPy's arrays; one sequence of one window "
        "would fit: use a smaller batch_size, beam_size or best_of",
    ):
        model.encode(np.zeros((20, 80, 3000), np.float32))
    assert gpus.alive == before


def test_a_loaded_model_that_does_not_suffice_could_give_way_to_another(gpus, uncollected):
    model = minwhisper.Whisper.random("base", device="cuda")
    gpus.limit = 290 * MIB
    with pytest.raises(DeviceMemoryError) as caught:
        model.encode(np.zeros((1, 80, 3000), np.float32))
    assert str(caught.value) == (
        "cuda:0 ran out of memory while encoding a window with untrained in float32: it needs 341 MiB, 12 MiB were "
        "free beside 278 MiB of CuPy's arrays; models that fit in its place: untrained in float16, tiny in float32; "
        "load one of them, or stop other programs that use this GPU (nvidia-smi lists them)"
    )
    with pytest.raises(
        DeviceMemoryError, match=r"its weights alone need 277 MiB, .* place: untrained in float16, tiny"
    ):
        replace(model, plain=True).encode(np.zeros((1, 80, 3000), np.float32))
    gpus.limit = 400 * MIB
    with pytest.raises(DeviceMemoryError, match="in its place: untrained in float32 without plain=True, tiny in"):
        replace(model, plain=True).encode(np.zeros((1, 80, 3000), np.float32))


def test_a_model_that_is_forgotten_is_gone(gpus, uncollected):
    model = minwhisper.Whisper.random(SMALL, device="cuda")
    model.encode(small_mel())
    del model
    assert gpus.alive == 0


def test_on_the_cpu_nothing_is_in_the_way(tiny_en):
    assert isinstance(tiny_en.engine, CpuEngine)


# ------------------------------------------------------------------------------------------ transcribing


@pytest.mark.parametrize(
    ("room", "said"),
    [
        pytest.param(
            *(
                0,
                "while encoding a window with tiny.en in float16: it needs 99 MiB, 0 MiB were free beside 7[0-9] MiB",
            ),
            marks=pytest.mark.grid,
        ),
        (100, "while decoding"),
    ],
    ids=["encoding", "decoding"],
)
def test_a_transcription_that_fails_can_be_done_again(room, said, gpus, uncollected, monkeypatch):
    model = real_model("tiny.en", device="cuda", dtype="float16")
    expected = tokens(model.transcribe(SHORT, temperature=0.0))  # the rules' constants are sent once
    before, enough = gpus.alive, gpus.limit
    gpus.limit = before + room * MIB

    new_cache = DecoderRunner.new_cache

    def the_last(*args):
        made = new_cache(*args)
        gpus.limit = gpus.alive + MIB // 4
        return made

    monkeypatch.setattr(DecoderRunner, "new_cache", the_last)
    with pytest.raises(DeviceMemoryError, match=said):
        model.transcribe(SHORT, temperature=0.0, beam_size=5)
    assert gpus.alive <= before + 2 * MIB  # and the buffers of a step of five rows
    gpus.limit = enough
    monkeypatch.setattr(DecoderRunner, "new_cache", new_cache)
    assert tokens(model.transcribe(SHORT, temperature=0.0)) == expected


@pytest.mark.grid
def test_several_sounds_that_find_no_room(gpus, uncollected, monkeypatch):
    model = real_model("tiny.en", device="cuda", dtype="float16")
    expected = tokens(model.transcribe(SHORT, temperature=0.0))
    before, enough = gpus.alive, gpus.limit
    gpus.limit = before + 10 * MIB
    with pytest.raises(SomeFailedError, match=r"^2 of 2 sounds could not.*cuda:0 ran out of memory while encoding.*$"):
        model.transcribe_many([SHORT, SHORT], temperature=0.0)
    assert gpus.alive == before
    gpus.limit = before + 29 * MIB
    with pytest.raises(SomeFailedError, match=r"^1 of 2 sounds") as caught:  # beside the first, there is no room
        model.transcribe_many([SHORT, SHORT], temperature=0.0)
    assert tokens(caught.value.transcripts[0]) == expected
    del caught
    gpus.limit = enough

    forward = Decoder.forward

    def prompt(*args, **how):
        gpus.limit = gpus.alive
        return forward(*args, **how)

    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "forward", prompt)
        with pytest.raises(DeviceMemoryError, match=r"while decoding with tiny\.en in float16"):
            model.transcribe_many([SHORT, SHORT], temperature=0.0)
    assert gpus.alive == before
    gpus.limit = enough
    assert [tokens(one) for one in model.transcribe_many([SHORT, SHORT], temperature=0.0)] == [expected, expected]
