"""Loading of arrays, reading piece by piece, and pad_or_trim. Files are tested in test_reader.py."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_files import SHORT, assert_rejected, wav_bytes
from minwhisper.audio import sample_store
from minwhisper.audio.load import N_SAMPLES, load_audio, open_audio, pad_or_trim
from minwhisper.errors import AudioError

# --- Arrays


def test_float32_at_16_khz_is_returned_without_a_copy():
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


@pytest.mark.parametrize("rate", [8000, 44100, np.int64(48000)])
def test_arrays_are_resampled(rate):
    seconds = np.arange(int(rate)) / int(rate)
    loaded = load_audio(0.5 * np.sin(2 * np.pi * 440 * seconds), rate=rate)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert loaded.shape == (16000,)
    assert np.abs(loaded - expected)[100:-100].max() < 1e-4  # less than rounding to 16 bits would give


def test_an_array_loads_like_its_wav_file_and_is_not_written_to():
    noise = np.random.default_rng(0).integers(-9000, 9000, (44100, 2))
    array = noise.astype(np.int16)
    samples = load_audio(array, rate=44100)
    assert np.abs(samples - load_audio(wav_bytes(noise, rate=44100))).max() <= 1 / 32768
    assert np.array_equal(array, noise)
    with open_audio(array, rate=44100) as audio:
        assert np.array_equal(audio.read(0, audio.size), samples)


@pytest.mark.parametrize("size", [1, 2, 10, 100])
def test_few_samples_are_not_lost_by_resampling(size):
    assert load_audio(np.ones(size), rate=8000).size == 2 * size


@pytest.mark.parametrize(
    ("array", "rate", "parts"),
    [
        (np.zeros(9, np.int16), None, ["int16", "load_audio(array, rate=", "32768"]),
        (np.zeros(9, np.uint8), None, ["uint8", "- 128", "/ 128"]),
        (np.zeros(9, np.int64), 16000, ["int64", "int16, int32 or uint8"]),
        (np.array([1.0, None]), None, ["object", "float"]),
        (np.zeros((2, 3, 4)), None, ["(2, 3, 4)", "(samples, channels)"]),
        (np.array(1.0), None, ["()", "(samples,)"]),
        (np.zeros((9, 0)), None, ["(9, 0)", "(samples, channels)"]),
        (np.zeros((2, 65)), None, ["(2, 65)", "64 channels", "array.T"]),
        (np.array([0, np.nan, 1, -np.inf]), None, ["2 of 4", "[1]", "nan_to_num"]),
        (np.array([[0, 1], [1, np.inf]]), 16000, ["1 of 4", "[1, 1]"]),
        (np.array([0, 1e300]), None, ["1 of 2", "too large"]),
        (np.zeros(9), 0, ["rate", "whole number", "got 0"]),
        (np.zeros(9), 44100.0, ["rate", "got 44100.0"]),
        (np.zeros(9), True, ["rate", "got True"]),
        (np.zeros(9), 16, ["rate", "samples per second", "got 16"]),
        (np.zeros(9), 10**12, ["rate", "got 1000000000000"]),
    ],
)
def test_invalid_arrays_are_rejected(array, rate, parts):
    assert_rejected(array, *parts, rate=rate)


def test_a_rate_is_for_arrays_only():
    assert_rejected(SHORT, "rate=16000", "omit it for a file", rate=16000)


# --- Piece by piece


@pytest.fixture(params=["array", "memory", "file"])
def noise(request, monkeypatch):
    """Return an open recording of 20,000 samples, stored in each of the possible ways, and these samples."""
    integers = np.random.default_rng(0).integers(-32768, 32768, (20000, 1))
    expected = (integers[:, 0] / 32768).astype(np.float32)
    monkeypatch.setattr(sample_store, "CONVERSION_BLOCK", 777)
    if request.param == "file":
        monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 3000)
    with open_audio(expected if request.param == "array" else wav_bytes(integers)) as audio:
        yield audio, expected


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 23000), st.integers(0, 23000)), max_size=6))
def test_reading_in_any_order(noise, places):
    audio, expected = noise
    followed_by_zeros = np.pad(expected, (0, 3000))
    for place in places:
        start, stop = sorted(place)
        samples = audio.read(start, stop)
        assert samples.dtype == np.float32
        assert np.array_equal(samples, followed_by_zeros[start:stop])


def test_the_size_and_reading_far_past_the_end(noise):
    audio, _ = noise
    assert audio.size == 20000
    assert audio.seconds == 1.25
    assert audio.read(10**9, 10**9 + 7).tolist() == [0] * 7


def test_the_returned_array_is_a_copy(noise):
    audio, expected = noise
    before = expected.copy()
    audio.read(0, 100)[:] = 7
    assert np.array_equal(audio.read(0, 100), before[:100])
    assert np.array_equal(expected, before)


def test_invalid_ranges_are_rejected(noise):
    for start, stop in [(-1, 5), (-5, -1), (6, 5)]:
        with pytest.raises(AudioError, match=rf"^read\({start}, {stop}\): expected 0 <= start <= stop"):
            noise[0].read(start, stop)


def test_closed_audio_cannot_be_read(noise):
    audio, _ = noise
    with audio as same:
        assert same is audio
        audio.read(0, 1)
    for start, stop in [(0, 1), (0, 0), (-1, 0)]:
        with pytest.raises(AudioError, match=r"closed.*before close\(\)"):
            audio.read(start, stop)
    audio.close()


def test_an_open_array_is_not_copied():
    samples = np.zeros(10**7, np.float32)
    tracemalloc.start()
    with open_audio(samples) as audio:
        audio.read(0, 100)
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e5


def test_empty_arrays_can_be_opened():
    with open_audio(np.zeros(0)) as audio:
        assert audio.size == audio.seconds == 0
        assert audio.read(0, 3).tolist() == [0, 0, 0]


def test_loading_needs_little_more_memory_than_the_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1 << 20)
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(np.zeros((4 * 60 * 16000, 1))))
    tracemalloc.start()
    samples = load_audio(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples.shape == (4 * 60 * 16000,)
    assert peak < samples.nbytes + 2e6


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
    keep = min(length, array.shape[axis])
    common = np.moveaxis(result, axis, 0)
    assert np.array_equal(common[:keep], np.moveaxis(array, axis, 0)[:keep])
    assert not common[keep:].any()


TENSOR = type("Tensor", (), {"__module__": "torch", "shape": (2,)})()


@pytest.mark.parametrize(("value", "name"), [("talk.mp3", "str"), ([1, 2], "list"), (TENSOR, "torch.Tensor")])
def test_pad_or_trim_rejects_other_types(value, name):
    with pytest.raises(AudioError, match=f"^pad_or_trim: expected an array of NumPy or CuPy, got {name}; "):
        pad_or_trim(value)


def test_pad_or_trim_defaults_to_a_window():
    assert pad_or_trim(np.ones(5, np.float32)).shape == (480_000,)
    same = np.ones(N_SAMPLES, np.float32)
    assert pad_or_trim(same) is same


def test_arrays_need_no_pyav():
    code = (
        "import sys, numpy; sys.modules['av'] = None; import minwhisper; "
        "print(minwhisper.load_audio(numpy.array([0.5, 0.25])).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[0.5, 0.25]\n"
