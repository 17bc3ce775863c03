"""Loading: the constants, samples in memory, and the length of a window. Files have tests of their own."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_files import wav_bytes
from minwhisper.audio import sample_store
from minwhisper.audio.load import (
    CHUNK_LENGTH,
    HOP_LENGTH,
    N_FFT,
    N_FRAMES,
    N_SAMPLES,
    SAMPLE_RATE,
    load_audio,
    open_audio,
    pad_or_trim,
)
from minwhisper.errors import AudioError
from test_reader import CLIPS, SHORT, assert_rejected


def test_constants():
    assert (SAMPLE_RATE, N_FFT, HOP_LENGTH, CHUNK_LENGTH, N_SAMPLES, N_FRAMES) == (16000, 400, 160, 30, 480000, 3000)


# --- Arrays


def test_float32_at_16_khz_is_returned_as_it_is():
    samples = np.linspace(-1.5, 1.5, 500, dtype=np.float32)
    assert load_audio(samples) is samples
    assert load_audio(samples, rate=16000) is samples


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1, 0, 0.5]),
        (np.array([-32768, 0, 16384], ">i2"), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float64), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float16), [-1, 0, 0.5]),
        (np.array([[-32768, 0], [16384, 0], [100, -100]], np.int16), [-0.5, 0.25, 0]),
        (np.array([[0.5], [0.25]]), [0.5, 0.25]),
        (np.zeros(0), []),
    ],
)
def test_array_types(array, expected):
    loaded = load_audio(array, rate=16000)
    assert loaded.dtype == np.float32
    assert loaded.tolist() == expected


@pytest.mark.parametrize("rate", [8000, 11025, 44100, np.int64(48000)])
def test_arrays_are_resampled(rate):
    seconds = np.arange(int(rate)) / int(rate)
    loaded = load_audio(0.5 * np.sin(2 * np.pi * 440 * seconds), rate=rate)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert loaded.shape == (16000,)
    assert loaded.dtype == np.float32
    assert np.abs(loaded - expected)[100:-100].max() < 1e-4  # finer than 16 bits would allow after rounding twice


def test_an_array_and_its_file_agree():
    noise = np.random.default_rng(0).integers(-9000, 9000, (44100, 2))
    from_array = load_audio(noise.astype(np.int16), rate=44100)
    assert np.abs(from_array - load_audio(wav_bytes(noise, rate=44100))).max() <= 1 / 32768


@pytest.mark.parametrize("size", [1, 2, 10, 100])
def test_few_samples_are_not_lost(size):
    assert load_audio(np.ones(size), rate=8000).size == 2 * size


def test_array_is_not_written_to():
    array = np.random.default_rng(0).integers(-9, 9, (999, 2)).astype(np.int16)
    before = array.copy()
    load_audio(array, rate=44100)
    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("array", "rate", "parts"),
    [
        (np.zeros(9, np.int16), None, ["int16", "load_audio(array, rate=", "32768"]),
        (np.zeros(9, np.uint8), None, ["uint8", "- 128", "/ 128"]),
        (np.zeros(9, np.int64), 16000, ["int64", "int16, int32 or uint8"]),
        (np.zeros(9, complex), None, ["complex128", "float"]),
        (np.array([1.0, None]), None, ["object", "float"]),
        (np.zeros(9, bool), 16000, ["bool", "float"]),
        (np.zeros((2, 3, 4)), None, ["(2, 3, 4)", "(samples, channels)"]),
        (np.array(1.0), None, ["()", "(samples,)"]),
        (np.zeros((9, 0)), None, ["(9, 0)"]),
        (np.zeros((2, 65)), None, ["(2, 65)", "64 channels", "array.T"]),
        (np.array([0, np.nan, 1, -np.inf]), None, ["2 of 4", "[1]", "nan_to_num"]),
        (np.array([[0, 1], [1, np.inf]]), 16000, ["1 of 4", "[1, 1]"]),
        (np.array([0, 1e300]), None, ["1 of 2", "too large"]),
        (np.zeros(9), 0, ["rate", "whole number", "got 0"]),
        (np.zeros(9), -44100, ["rate", "got -44100"]),
        (np.zeros(9), 44100.0, ["rate", "got 44100.0"]),
        (np.zeros(9), True, ["rate", "got True"]),
        (np.zeros(9), "16000", ["rate", "got '16000'"]),
        (np.zeros(9), 16, ["rate", "samples per second", "got 16"]),
        (np.zeros(9), 10**12, ["rate", "got 1000000000000"]),
    ],
)
def test_arrays_that_are_no_sound(array, rate, parts):
    assert_rejected(array, *parts, rate=rate)


def test_rate_is_for_arrays():
    assert_rejected(SHORT, "rate=16000", "omit it for a file", rate=16000)


# --- Piece by piece


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_a_sound_is_what_load_audio_loads(clip, monkeypatch):
    expected = load_audio(clip)
    for limit in (sample_store.MAX_IN_MEMORY, 10_000):  # kept in memory, and in a file
        monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", limit)
        with open_audio(clip) as sound:
            assert sound.size == expected.size
            assert sound.seconds == expected.size / 16000
            samples = sound.read(0, sound.size)
            assert samples.dtype == np.float32
            assert np.array_equal(samples, expected)


@pytest.fixture(params=["array", "memory", "file"])
def noise(request, monkeypatch):
    """A sound of 20,000 samples, from each of the places where samples are kept, and these samples."""
    integers = np.random.default_rng(0).integers(-32768, 32768, (20000, 1))
    expected = (integers[:, 0] / 32768).astype(np.float32)
    if request.param == "file":
        monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 3000)
    with open_audio(expected if request.param == "array" else wav_bytes(integers)) as sound:
        yield sound, expected


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 23000), st.integers(0, 23000)), max_size=6))
def test_reading_in_any_order(noise, places):
    sound, expected = noise
    followed_by_zeros = np.pad(expected, (0, 3000))
    for place in places:
        start, stop = sorted(place)
        samples = sound.read(start, stop)
        assert samples.dtype == np.float32
        assert np.array_equal(samples, followed_by_zeros[start:stop])


def test_reading_at_the_ends(noise):
    sound, expected = noise
    assert np.array_equal(sound.read(0, 20000), expected)
    assert np.array_equal(sound.read(19999, 20002), [expected[-1], 0, 0])
    for start, stop in [(0, 0), (5, 5), (20000, 20000), (30000, 30000)]:
        assert sound.read(start, stop).shape == (0,)
    assert not sound.read(20000, 20100).any()
    assert sound.read(10**9, 10**9 + 7).tolist() == [0] * 7


def test_reading_more_than_a_block(noise, monkeypatch):
    sound, expected = noise
    monkeypatch.setattr(sample_store, "CONVERSION_BLOCK", 777)
    assert np.array_equal(sound.read(1, 21000), np.pad(expected, (0, 1000))[1:])


def test_what_is_read_is_the_readers_own(noise):
    sound, expected = noise
    before = expected.copy()
    sound.read(0, 100)[:] = 7
    assert np.array_equal(sound.read(0, 100), before[:100])
    assert np.array_equal(expected, before)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (-5, -1), (6, 5)])
def test_places_that_are_none(noise, start, stop):
    with pytest.raises(AudioError, match=rf"^read\({start}, {stop}\): expected 0 <= start <= stop"):
        noise[0].read(start, stop)


def test_a_closed_sound_says_so(noise):
    sound, _ = noise
    with sound as same:
        assert same is sound
        sound.read(0, 1)
    for start, stop in [(0, 1), (0, 0), (-1, 0)]:
        with pytest.raises(AudioError, match=r"closed.*before close\(\)"):
            sound.read(start, stop)
    sound.close()
    assert sound.size == 20000


def test_two_sounds_do_not_mix(monkeypatch):
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1000)
    ramp = np.arange(6000)[:, None]
    with open_audio(wav_bytes(ramp)) as up, open_audio(wav_bytes(-ramp)) as down:
        for start in (0, 5000, 2000, 2001):
            expected = np.arange(start, start + 999) / 32768
            assert np.array_equal(up.read(start, start + 999), expected)
            assert np.array_equal(down.read(start, start + 999), -expected)


def test_a_sound_keeps_an_array_without_copying_it():
    samples = np.zeros(10**7, np.float32)
    tracemalloc.start()
    with open_audio(samples) as sound:
        sound.read(0, 100)
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e5


def test_arrays_are_brought_to_16_khz_as_by_load_audio():
    array = np.random.default_rng(0).integers(-9000, 9000, (44100, 2)).astype(np.int16)
    with open_audio(array, rate=44100) as sound:
        assert np.array_equal(sound.read(0, sound.size), load_audio(array, rate=44100))
    with open_audio(np.zeros(0)) as empty:
        assert empty.size == empty.seconds == 0
        assert empty.read(0, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("source", "rate"),
    [(np.zeros(9, np.int16), None), (np.array([np.nan]), None), (SHORT, 16000), ("nope.wav", None), (b"nope", None)],
)
def test_what_cannot_be_loaded_cannot_be_opened(source, rate):
    message = assert_rejected(source, rate=rate)
    with pytest.raises(AudioError) as caught:
        open_audio(source, rate)
    assert str(caught.value) == message


def test_loading_needs_little_more_memory_than_the_samples(tmp_path):
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(np.zeros((20 * 60 * 16000, 1))))
    tracemalloc.start()
    samples = load_audio(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples.shape == (20 * 60 * 16000,)
    assert peak < samples.nbytes + 2e6


# --- pad_or_trim


class Tensor:
    """A value of a type that calls itself ``torch.Tensor``."""

    __module__ = "torch"
    shape = (2,)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    length=st.integers(0, 9),
    data=st.data(),
)
def test_pad_or_trim(shape, length, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    array = np.arange(1, 1 + np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    result = pad_or_trim(array, length, axis=axis)
    assert result.dtype == array.dtype
    assert result.shape == tuple(length if i == axis % len(shape) else n for i, n in enumerate(shape))
    keep = min(length, array.shape[axis])
    common = np.moveaxis(result, axis, 0)
    assert np.array_equal(common[:keep], np.moveaxis(array, axis, 0)[:keep])
    assert not common[keep:].any()


@pytest.mark.parametrize(("value", "name"), [("talk.mp3", "str"), ([1, 2], "list"), (Tensor(), "torch.Tensor")])
def test_pad_or_trim_rejects_other_types(value, name):
    with pytest.raises(AudioError, match=f"^pad_or_trim: expected an array of NumPy or CuPy, got {name}; "):
        pad_or_trim(value)


def test_pad_or_trim_default():
    assert pad_or_trim(np.ones(5, np.float32)).shape == (N_SAMPLES,)
    same = np.ones(N_SAMPLES, np.float32)
    assert pad_or_trim(same) is same


def test_samples_need_no_pyav():
    code = (
        "import sys, numpy; sys.modules['av'] = None; import minwhisper; "
        "print(minwhisper.load_audio(numpy.array([0.5, 0.25])).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[0.5, 0.25]\n"
