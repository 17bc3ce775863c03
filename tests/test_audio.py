"""Loading: the constants, samples in memory, and the length of a window. Files have tests of their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.audio import CHUNK_LENGTH, HOP_LENGTH, N_FFT, N_FRAMES, N_SAMPLES, SAMPLE_RATE, load_audio, pad_or_trim
from sounds import wav
from test_sound_file import SHORT, refusal


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
    assert np.abs(from_array - load_audio(wav(noise, rate=44100))).max() <= 1 / 32768


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
        (np.zeros(9), 16, ["rate", "samples a second", "got 16"]),
        (np.zeros(9), 10**12, ["rate", "got 1000000000000"]),
    ],
)
def test_arrays_that_are_no_sound(array, rate, parts):
    refusal(array, *parts, rate=rate)


def test_rate_is_for_arrays():
    refusal(SHORT, "rate=16000", "leave it out", rate=16000)


# --- pad_or_trim


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
    kept = min(length, array.shape[axis])
    common = np.moveaxis(result, axis, 0)
    assert np.array_equal(common[:kept], np.moveaxis(array, axis, 0)[:kept])
    assert not common[kept:].any()


def test_pad_or_trim_default():
    assert pad_or_trim(np.ones(5, np.float32)).shape == (N_SAMPLES,)
    same = np.ones(N_SAMPLES, np.float32)
    assert pad_or_trim(same) is same
