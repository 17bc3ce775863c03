"""Arrays, reading in pieces, pad_or_trim, and storage of samples. Files are tested in test_reader.py."""

import errno
import os
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_files import SHORT, assert_rejected, wav_bytes
from minwhisper.audio import sample_store
from minwhisper.audio.load import N_SAMPLES, load_audio, open_audio, pad_or_trim
from minwhisper.audio.sample_store import SampleStore
from minwhisper.errors import AudioError
from open_files import needs_proc, temporary_files

# --- Arrays


def test_float32_at_16_khz_is_returned_without_a_copy():
    samples = np.linspace(-1.5, 1.5, 500, dtype=np.float32)
    assert load_audio(samples) is samples
    assert load_audio(samples, rate=16000) is samples


def test_integers_become_floats_from_minus_1_to_1_and_channels_are_averaged():
    for array, expected in (
        (np.array([-32768, 0, 16384], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float16), [-1, 0, 0.5]),
        (np.array([[-32768, 0], [16384, 0], [100, -100]], np.int16), [-0.5, 0.25, 0]),
        (np.array([[0.5], [0.25]]), [0.5, 0.25]),
        (np.zeros(0), []),
    ):
        loaded = load_audio(array, rate=16000)
        assert loaded.dtype == np.float32
        assert loaded.tolist() == expected


@pytest.mark.parametrize("rate", [8000, np.int64(44100)])
def test_arrays_are_resampled(rate):
    seconds = np.arange(int(rate)) / int(rate)
    loaded = load_audio(0.5 * np.sin(2 * np.pi * 440 * seconds), rate=rate)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert loaded.shape == (16000,)
    assert np.abs(loaded - expected)[100:-100].max() < 1e-4  # below the error of a rounding to 16 bits
    assert load_audio(np.ones(rate // 1000), rate=rate).size == 16  # fewer samples than the filter needs


def test_an_array_loads_like_its_wav_file_and_is_not_written_to():
    noise = np.random.default_rng(0).integers(-9000, 9000, (44100, 2))
    array = noise.astype(np.int16)
    samples = load_audio(array, rate=44100)
    assert np.abs(samples - load_audio(wav_bytes(noise, rate=44100))).max() <= 1 / 32768
    assert np.array_equal(array, noise)
    with open_audio(array, rate=44100) as audio:
        assert np.array_equal(audio.read(0, audio.size), samples)


def test_invalid_arrays_are_rejected():
    for array, rate, parts in (
        (np.zeros(9, np.int16), None, ["int16", "load_audio(array, rate=", "32768"]),
        (np.zeros(9, np.uint8), None, ["uint8", "- 128", "/ 128"]),
        (np.zeros(9, np.int64), 16000, ["int64", "int16, int32 or uint8"]),
        (np.array([1.0, None]), None, ["object", "float"]),
        (np.zeros((2, 3, 4)), None, ["(2, 3, 4)", "(samples, channels)"]),
        (np.zeros((9, 0)), None, ["(9, 0)", "(samples, channels)"]),
        (np.zeros((2, 65)), None, ["(2, 65)", "64 channels", "array.T"]),
        (np.array([0, np.nan, 1, -np.inf]), None, ["2 of 4", "[1]", "nan_to_num"]),
        (np.array([[0, 1], [1, np.inf]]), 16000, ["1 of 4", "[1, 1]"]),
        (np.array([0, 1e300]), None, ["1 of 2", "too large"]),
        (np.zeros(9), 44100.0, ["rate", "whole number", "got 44100.0"]),
        (np.zeros(9), 999, ["rate", "samples per second", "got 999"]),
        (np.zeros(9), 10**12, ["rate", "got 1000000000000"]),
    ):
        assert_rejected(array, *parts, rate=rate)


def test_rate_is_rejected_for_files_and_track_for_arrays():
    assert_rejected(SHORT, "rate=16000", "omit it for a file", rate=16000)
    assert_rejected(np.zeros(5), "only a file has tracks", track=1)


# --- Reading in pieces


@pytest.fixture(params=["array", "memory", "file"])
def noise(request, monkeypatch):
    """Return an open recording of 20,000 samples, stored in each possible way, and the samples themselves."""
    integers = np.random.default_rng(0).integers(-32768, 32768, (20000, 1))
    expected = (integers[:, 0] / 32768).astype(np.float32)
    monkeypatch.setattr(sample_store, "CONVERSION_BLOCK", 777)
    if request.param == "file":
        monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 3000)
    with open_audio(expected if request.param == "array" else wav_bytes(integers)) as audio:
        yield audio, expected


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 23000), st.integers(0, 23000)), max_size=6))
def test_ranges_can_be_read_in_any_order(noise, places):
    audio, expected = noise
    followed_by_zeros = np.pad(expected, (0, 3000))
    for place in places:
        start, stop = sorted(place)
        samples = audio.read(start, stop)
        assert samples.dtype == np.float32
        assert np.array_equal(samples, followed_by_zeros[start:stop])


def test_the_size_is_known_and_what_is_read_is_a_copy_with_zeros_past_the_end(noise):
    audio, expected = noise
    assert (audio.size, audio.seconds) == (20000, 1.25)
    assert audio.read(10**9, 10**9 + 7).tolist() == [0] * 7
    before = expected.copy()
    audio.read(0, 100)[:] = 7
    assert np.array_equal(audio.read(0, 100), before[:100])
    assert np.array_equal(expected, before)


def test_invalid_ranges_and_closed_audio_cannot_be_read(noise):
    with noise[0] as audio:
        for start, stop in [(-1, 5), (6, 5)]:
            with pytest.raises(AudioError, match=rf"^read\({start}, {stop}\): expected 0 <= start <= stop"):
                audio.read(start, stop)
    for start, stop in [(0, 1), (0, 0), (-1, 0)]:
        with pytest.raises(AudioError, match=r"closed.*before close\(\)"):
            audio.read(start, stop)
    audio.close()


def test_an_open_array_is_not_copied():
    samples = np.zeros(5, np.float32)
    with open_audio(samples) as audio:
        samples[2] = 1
        assert audio.read(1, 4).tolist() == [0, 1, 0]


def test_loading_needs_little_more_memory_than_the_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1 << 18)
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(np.zeros((90 * 16000, 1))))
    tracemalloc.start()
    samples = load_audio(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples.shape == (90 * 16000,)
    assert peak < samples.nbytes + 2e6


# --- pad_or_trim


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("length", [0, 2, 3, 4, 9])
def test_pad_or_trim_pads_with_zeros_or_cuts_along_the_axis(axis, length):
    array = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    result = pad_or_trim(array, length, axis=axis)
    expected = np.zeros((length, 4) if axis == 0 else (3, length), np.float32)
    rows, columns = min(3, len(expected)), min(4, expected.shape[1])
    expected[:rows, :columns] = array[:rows, :columns]
    assert result.dtype == np.float32
    assert np.array_equal(result, expected)


def test_pad_or_trim_rejects_other_types():
    tensor = type("Tensor", (), {"__module__": "torch", "shape": (2,)})()
    for value, name in (([1, 2], "list"), (tensor, "torch.Tensor")):
        with pytest.raises(AudioError, match=f"^pad_or_trim: expected a NumPy or CuPy array, got {name}; "):
            pad_or_trim(value)


def test_pad_or_trim_defaults_to_a_window():
    assert pad_or_trim(np.ones(5, np.float32)).shape == (480_000,)
    same = np.ones(N_SAMPLES, np.float32)
    assert pad_or_trim(same) is same


# --- Temporary files

RAMP = np.arange(-5000, 5000).astype(np.int16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder for temporary files, which are used for more than 1,000 bytes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1000)
    return tmp_path


@needs_proc
def test_a_full_disk_is_an_error_and_leaves_no_temporary_file(folder):
    resource = pytest.importorskip("resource")
    store = SampleStore()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, limits[1]))  # the maximum file size
    try:
        with pytest.raises(AudioError) as caught:
            list(map(store.append, RAMP.reshape(100, 100)))
        store.close()  # the disk is still full
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(caught.value)
    assert 7000 < store.size <= 7500
    for part in (repr(str(folder)), os.strerror(errno.EFBIG), "115 MB of free space per hour", "TMPDIR"):
        assert part in message
    assert len(message.splitlines()) == 1
    assert temporary_files(folder) == []


def test_no_usable_folder_for_temporary_files_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(folder / "nope")])
    with pytest.raises(AudioError, match=r"^the folder for temporary files cannot store.*No usable.*nope.*TMPDIR"):
        SampleStore().append(RAMP)
