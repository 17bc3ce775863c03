"""The log-mel spectrogram read window by window: bit for bit that of the whole recording."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_files import wav_bytes
from conftest import DATA
from minwhisper.audio import mel_stream, sample_store
from minwhisper.audio.load import HOP_LENGTH, N_FRAMES, N_SAMPLES, load_audio, open_audio
from minwhisper.audio.mel import log_mel_spectrogram
from minwhisper.audio.mel_stream import Spectrogram
from minwhisper.errors import AudioError


def noise(size):
    return (0.1 * np.random.default_rng(0).standard_normal(size)).astype(np.float32)


def test_windows_of_a_file():
    samples = load_audio(DATA / "jfk.flac")
    whole = log_mel_spectrogram(samples, padding=N_SAMPLES)
    with open_audio(DATA / "jfk.flac") as audio:
        spectrogram = Spectrogram(audio)
        end = spectrogram.content_frames
        assert end == samples.size // 160 == whole.shape[1] - N_FRAMES
        for first, last in [(0, end), (end // 3, end), (1, 2), (7, end // 2 + 1), (end - 5, end + 3000)]:
            window = spectrogram.read(first, last)
            assert window.dtype == np.float32
            assert np.array_equal(window, whole[:, first:last])


@pytest.fixture(scope="module", params=[0, 4 * 128 * 700, mel_stream.CACHE_BYTES], ids=["no", "6 s", "all"])
def cached(request):
    """Return the spectrogram of 20 s of noise that gets louder: the whole, and read with part of it cached."""
    samples = noise(20 * 16000 + 77) * np.linspace(1e-5, 1, 20 * 16000 + 77, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mel_stream, "CACHE_BYTES", request.param)
        return log_mel_spectrogram(samples, 128, padding=N_SAMPLES), Spectrogram(open_audio(samples), 128)


@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, 5000), size=st.integers(0, 3001))
def test_any_window(cached, first, size):
    whole, spectrogram = cached
    last = min(first + size, 5000)
    assert np.array_equal(spectrogram.read(first, last), whole[:, first:last])


@pytest.mark.parametrize("size", [0, 1, 159, 160, 200, 201, 399, 3 * 16000, 3 * 16000 + 161])
def test_short_audio(size):
    samples = noise(size)
    spectrogram = Spectrogram(open_audio(samples))
    assert spectrogram.content_frames == size // 160
    whole = spectrogram.read(0, spectrogram.content_frames + N_FRAMES)
    assert np.array_equal(whole, log_mel_spectrogram(samples, padding=N_SAMPLES))


@pytest.mark.parametrize("loud_sample", [0, 48_000, 110_000, 144_000 - 1])
def test_each_window_is_clamped_relative_to_the_whole_audio(loud_sample):
    samples = noise(144_000) * np.float32(1e-6)
    quiet = Spectrogram(open_audio(samples)).read(400, 600)
    samples[loud_sample] = 1
    window = Spectrogram(open_audio(samples)).read(400, 600)
    assert np.array_equal(window, log_mel_spectrogram(samples, padding=N_SAMPLES)[:, 400:600])
    assert (window > quiet).mean() > 0.5


@pytest.mark.parametrize("content_frames", [100, 298, 299, 300])
def test_samples_after_the_last_whole_frame_count(content_frames):
    # The sample is at the edge of the last frame that is read, and in the middle of the one after it.
    samples = np.zeros(content_frames * HOP_LENGTH + 159, np.float32)
    samples[-1] = 1
    window = Spectrogram(open_audio(samples)).read(0, content_frames)
    assert np.array_equal(window, log_mel_spectrogram(samples, padding=N_SAMPLES)[:, :content_frames])
    assert window.min() > -1.5


def test_cached_blocks_are_not_computed_again(monkeypatch):
    monkeypatch.setattr(mel_stream, "CACHE_BYTES", 4 * 80 * 700)  # room for two blocks of 300 frames
    spectrogram = Spectrogram(open_audio(noise(20 * 16000)))
    computed = []
    compute = mel_stream.log_mel_block
    monkeypatch.setattr(mel_stream, "log_mel_block", lambda *block: computed.append(block[-1]) or compute(*block))
    cached = spectrogram.read(0, 600)
    spectrogram.read(100, 1300)
    assert computed == [600, 900, 1200]
    spectrogram.clear_cache()
    assert np.array_equal(spectrogram.read(0, 600), cached)
    assert computed[3:] == [0, 300]


@pytest.mark.parametrize(("first", "last"), [(-1, 5), (5, 4), (0, 3101), (3101, 3101)])
def test_frames_out_of_range_are_rejected(first, last):
    spectrogram = Spectrogram(open_audio(noise(16000)))
    with pytest.raises(AudioError, match=rf"^read\({first}, {last}\): expected frames from 0 to 3100"):
        spectrogram.read(first, last)


def test_closed_audio_cannot_be_read():
    with open_audio(noise(1000)) as audio:
        spectrogram = Spectrogram(audio)
    with pytest.raises(AudioError, match="closed"):
        spectrogram.read(0, 5)


def peak_memory(path, seconds):
    """Write a WAV of this length, read it window by window, and return the peak memory in bytes."""
    second = 3000 * np.sin(0.3 * np.arange(16000))
    path.write_bytes(wav_bytes(np.tile(second, seconds)[:, None]))
    tracemalloc.start()
    with open_audio(path) as audio:
        spectrogram = Spectrogram(audio)
        for first in range(0, spectrogram.content_frames, N_FRAMES):
            assert spectrogram.read(first, first + N_FRAMES).shape == (80, N_FRAMES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_long_audio_needs_no_more_memory_than_short_audio(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1 << 20)  # both recordings are longer
    monkeypatch.setattr(mel_stream, "CACHE_BYTES", 1 << 20)
    short, long = peak_memory(tmp_path / "short.wav", 60), peak_memory(tmp_path / "long.wav", 240)
    assert long < min(30e6, 1.1 * short)
