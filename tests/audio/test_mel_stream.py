"""The log-mel spectrogram read window by window: bit for bit that of the whole recording."""

import tracemalloc
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA
from minwhisper.audio import mel_stream
from minwhisper.audio.load import HOP_LENGTH, N_FRAMES, N_SAMPLES, load_audio, open_audio
from minwhisper.audio.mel import log_mel_spectrogram
from minwhisper.audio.mel_stream import Spectrogram
from minwhisper.errors import AudioError

CLIPS = sorted(path for path in DATA.iterdir() if path.suffix in {".wav", ".flac", ".aiff"})


def noise(size):
    return (0.1 * np.random.default_rng(0).standard_normal(size)).astype(np.float32)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_windows_of_a_file(clip):
    samples = load_audio(clip)
    whole = log_mel_spectrogram(samples, padding=N_SAMPLES)
    with open_audio(clip) as audio:
        spectrogram = Spectrogram(audio)
        end = spectrogram.content_frames
        assert end == samples.size // 160 == whole.shape[1] - N_FRAMES
        for first, last in [(0, end), (end // 3, end), (1, 2), (7, end // 2 + 1), (end - 5, end + 3000)]:
            window = spectrogram.read(first, last)
            assert window.dtype == np.float32
            assert np.array_equal(window, whole[:, first:last])


@pytest.fixture(scope="module", params=[0, 4 * 128 * 2000, mel_stream.CACHE_BYTES], ids=["no", "20 s", "all"])
def minute(request):
    """Return the spectrogram of a minute of noise that gets louder: the whole, and read with part of it cached."""
    samples = noise(60 * 16000 + 77) * np.linspace(1e-5, 1, 60 * 16000 + 77, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mel_stream, "CACHE_BYTES", request.param)
        return log_mel_spectrogram(samples, 128, padding=N_SAMPLES), Spectrogram(open_audio(samples), 128)


@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, 9000), size=st.integers(0, 3001))
def test_any_window(minute, first, size):
    whole, spectrogram = minute
    last = min(first + size, 9000)
    assert np.array_equal(spectrogram.read(first, last), whole[:, first:last])


@pytest.mark.parametrize("size", [0, 1, 159, 160, 161, 200, 201, 399, 401, 3 * 16000, 3 * 16000 + 161])
def test_short_audio(size):
    samples = noise(size)
    spectrogram = Spectrogram(open_audio(samples))
    assert spectrogram.content_frames == size // 160
    whole = spectrogram.read(0, spectrogram.content_frames + N_FRAMES)
    assert np.array_equal(whole, log_mel_spectrogram(samples, padding=N_SAMPLES))
    assert spectrogram.read(0, 0).shape == (80, 0)


@pytest.mark.parametrize("loud_sample", [0, 300_000, 30 * 16000, 700_000, 800_000 - 1])
def test_each_window_is_clamped_relative_to_the_whole_audio(loud_sample):
    samples = noise(800_000) * np.float32(1e-6)
    quiet = Spectrogram(open_audio(samples)).read(0, N_FRAMES)
    samples[loud_sample] = 1
    window = Spectrogram(open_audio(samples)).read(2000, N_FRAMES)
    assert np.array_equal(window, log_mel_spectrogram(samples, padding=N_SAMPLES)[:, 2000:3000])
    assert (window > quiet[:, 2000:]).mean() > 0.5


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

    def counted(audio, padding, filters, start):
        computed.append(start)
        return compute(audio, padding, filters, start)

    monkeypatch.setattr(mel_stream, "log_mel_block", counted)
    cached = spectrogram.read(0, 600)
    assert computed == []
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


def test_n_mels_is_checked():
    with pytest.raises(AudioError, match=r"^n_mels: expected a positive integer"):
        Spectrogram(open_audio(noise(1000)), 0)


def test_closed_audio_cannot_be_read():
    with open_audio(noise(1000)) as audio:
        spectrogram = Spectrogram(audio)
    with pytest.raises(AudioError, match="closed"):
        spectrogram.read(0, 5)


def peak_memory(path, minutes):
    """Write a WAV of this length, read it window by window, and return the peak memory in bytes."""
    second = np.sin(0.3 * np.arange(16000)) * np.random.default_rng(0).random(16000)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        for number in range(60 * minutes):
            out.writeframesraw((3000 * (1 + number % 10) * second).astype("<i2").tobytes())
    tracemalloc.start()
    with open_audio(path) as audio:
        spectrogram = Spectrogram(audio)
        assert spectrogram.content_frames == minutes * 6000
        for first in range(0, spectrogram.content_frames, N_FRAMES):
            assert spectrogram.read(first, first + N_FRAMES).shape == (80, N_FRAMES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_long_audio_needs_no_more_memory_than_short_audio(tmp_path):
    short = peak_memory(tmp_path / "short.wav", 5)
    long = peak_memory(tmp_path / "long.wav", 20)  # longer than what is kept in memory
    assert long < 30e6
    assert long < 1.3 * short
