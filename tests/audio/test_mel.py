"""The log-mel spectrogram: its filters, all of it at once, window by window, and compared with openai-whisper's."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_files import wav_bytes
from inputs import DATA
from minwhisper.audio import mel_stream, sample_store
from minwhisper.audio.load import HOP_LENGTH, N_FFT, N_FRAMES, N_SAMPLES, load_audio, open_audio
from minwhisper.audio.mel import hertz_to_mel, log_mel_spectrogram, mel_filters, mel_to_hertz
from minwhisper.audio.mel_stream import Spectrogram
from minwhisper.errors import AudioError

JFK = DATA / "jfk.flac"


def exact_log_mel(samples, n_mels=80, padding=0, filters=None):
    """Return the log-mel spectrogram in float64, computed all at once: (M, T)."""
    filters = mel_filters(n_mels) if filters is None else filters
    padded = np.pad(np.pad(samples.astype(np.float64), (0, padding)), N_FFT // 2, mode="reflect")
    window = np.sin(np.pi * np.arange(N_FFT) / N_FFT) ** 2
    frames = np.stack([padded[i : i + N_FFT] for i in range(0, padded.size - N_FFT + 1, HOP_LENGTH)])[:-1]
    energy = filters.astype(np.float64) @ (np.abs(np.fft.rfft(frames * window)) ** 2).T
    logs = np.log10(np.maximum(energy, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


def noise(size):
    return (0.1 * np.random.default_rng(0).standard_normal(size)).astype(np.float32)


# --- The steps


def test_two_mel_filters_equal_those_computed_by_hand():
    # Corners at 0, 15.08, 30.16 and 45.25 mels; the first filter rises by 1/1005.6 Hz to an area of one.
    filters = mel_filters(2)
    assert filters.shape == (2, 201)
    assert filters.dtype == np.float32
    corners = mel_to_hertz(np.linspace(0, hertz_to_mel(8000), 4))
    assert filters[0, 10] == pytest.approx(400 / corners[1] * 2 / corners[2])
    assert filters[:, 0].tolist() == [0, 0]
    assert filters.sum(axis=1) * 40 == pytest.approx([1, 1], rel=1e-2)


# --- The whole spectrogram


@pytest.mark.parametrize("n_mels", [80, 128])
def test_every_value_is_the_nearest_float32(n_mels):
    samples = load_audio(JFK)
    exact = exact_log_mel(samples, n_mels)
    for source in (samples, JFK):
        mel = log_mel_spectrogram(source, n_mels)
        assert mel.dtype == np.float32
        assert mel.shape == exact.shape == (n_mels, 1100)
        assert np.array_equal(mel, exact.astype(np.float32))


@pytest.mark.parametrize(("size", "padding"), [(201, 0), (16000, 1), (16000, 30000), (0, 201), (5, 480000)])
def test_the_spectrogram_of_any_size_and_padding_is_exact(size, padding):
    samples = noise(size)
    before = samples.copy()
    mel = log_mel_spectrogram(samples, padding=padding)
    assert mel.shape == (80, (size + padding) // 160)
    assert np.abs(mel - exact_log_mel(samples, padding=padding)).max() < 2e-7
    assert np.array_equal(samples, before)


def test_digital_silence_and_a_faint_click_have_exact_values():
    samples = np.zeros(N_SAMPLES, np.float32)
    mel = log_mel_spectrogram(samples)
    assert mel.shape == (80, N_FRAMES)
    assert (mel == -1.5).all()
    samples[20 * 16000] = 1e-6  # below the clamp, and most blocks are silent
    assert np.array_equal(log_mel_spectrogram(samples), exact_log_mel(samples).astype(np.float32))


def test_invalid_arguments_are_rejected():
    for size, options, message in (
        (200, {}, "200 samples and 0 of padding are too short.*padding=480000$"),
        (100, {"padding": 100}, "100 samples and 100 of padding are too short"),
        *[(1000, {"padding": padding}, "padding: expected a number of zeros") for padding in (-1, 0.5, True)],
        *[(1000, {"n_mels": count}, "n_mels: expected a positive integer") for count in (0, 80.0, True)],
    ):
        with pytest.raises(AudioError, match=f"^{message}"):
            log_mel_spectrogram(noise(size), **options)


def test_long_audio_needs_little_memory():
    minutes = np.zeros(15 * 60 * 16000, np.float32)
    tracemalloc.start()
    mel = log_mel_spectrogram(minutes, padding=N_SAMPLES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mel.shape == (80, 93_000)
    assert peak < mel.nbytes + 20e6  # a spectrogram in float64 would take 30 MB more


# --- Window by window


@pytest.fixture(scope="module", params=[0, 4 * 128 * 700, mel_stream.CACHE_BYTES], ids=["no", "6 s", "all"])
def cached(request):
    """Return the whole spectrogram of 20 s of noise that gets louder, and a reader with part of it cached."""
    samples = noise(20 * 16000 + 77) * np.linspace(1e-5, 1, 20 * 16000 + 77, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mel_stream, "CACHE_BYTES", request.param)
        return log_mel_spectrogram(samples, 128, padding=N_SAMPLES), Spectrogram(open_audio(samples), 128)


@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, 5000), size=st.integers(0, 3001))
def test_any_window_equals_that_part_of_the_whole_spectrogram(cached, first, size):
    whole, spectrogram = cached
    last = min(first + size, 5000)
    window = spectrogram.read(first, last)
    assert window.dtype == np.float32
    assert np.array_equal(window, whole[:, first:last])


@pytest.mark.parametrize("size", [0, 1, 159, 160, 201, 3 * 16000, 3 * 16000 + 161])
def test_windows_of_short_audio_equal_the_padded_spectrogram(size):
    samples = noise(size)
    spectrogram = Spectrogram(open_audio(samples))
    assert spectrogram.content_frames == size // 160
    whole = spectrogram.read(0, spectrogram.content_frames + N_FRAMES)
    assert np.array_equal(whole, log_mel_spectrogram(samples, padding=N_SAMPLES))


@pytest.mark.parametrize("content_frames", [298, 299, 300])
def test_samples_after_the_last_whole_frame_are_used(content_frames):
    # The sample is at the edge of the last frame that is read, and in the middle of the one after it.
    samples = np.zeros(content_frames * HOP_LENGTH + 159, np.float32)
    samples[-1] = 1
    window = Spectrogram(open_audio(samples)).read(0, content_frames)
    assert np.array_equal(window, log_mel_spectrogram(samples, padding=N_SAMPLES)[:, :content_frames])
    assert window.min() > -1.5


def test_frames_out_of_range_and_of_closed_audio_are_rejected():
    with open_audio(noise(16000)) as audio:
        spectrogram = Spectrogram(audio)
        for first, last in [(-1, 5), (5, 4), (0, 3101)]:
            with pytest.raises(AudioError, match=rf"^read\({first}, {last}\): expected frames from 0 to 3100"):
                spectrogram.read(first, last)
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
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1 << 18)  # both recordings are longer
    monkeypatch.setattr(mel_stream, "CACHE_BYTES", 1 << 18)
    short, long = peak_memory(tmp_path / "short.wav", 20), peak_memory(tmp_path / "long.wav", 100)
    assert long < min(30e6, 1.1 * short)


# --- openai-whisper


@pytest.mark.parity
@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_and_spectrogram_are_openai_whispers_and_ours_is_closer_to_the_exact_one(n_mels):
    theirs = pytest.importorskip("whisper.audio")
    expected = theirs.mel_filters("cpu", n_mels).numpy()
    filters = mel_filters(n_mels)
    assert filters.dtype == expected.dtype
    assert np.array_equal(filters > 0, expected > 0)
    assert np.allclose(filters, expected, rtol=1.2e-7, atol=0)  # the last bit of float32
    samples = load_audio(JFK)
    ours, other = log_mel_spectrogram(samples, n_mels), theirs.log_mel_spectrogram(samples, n_mels).numpy()
    assert ours.dtype == other.dtype
    assert np.abs(ours - other).max() < 1e-4
    exact = exact_log_mel(samples, n_mels, filters=expected)
    our_error, their_error = np.abs(ours - exact).max(), np.abs(other - exact).max()
    assert our_error < 1e-7
    assert our_error < their_error
