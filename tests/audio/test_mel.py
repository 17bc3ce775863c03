"""The log-mel spectrogram, step by step and as a whole. test_audio_parity.py compares it with PyTorch."""

import tracemalloc

import numpy as np
import pytest

from conftest import DATA
from minwhisper.audio.load import HOP_LENGTH, N_FFT, N_FRAMES, N_SAMPLES, load_audio
from minwhisper.audio.mel import hann_window, hertz_to_mel, log_mel_spectrogram, mel_filters, mel_to_hertz
from minwhisper.errors import AudioError

JFK = DATA / "jfk.flac"


def exact_log_mel(samples, n_mels=80, padding=0):
    """Return the same formula in float64, all at once: (M, T)."""
    padded = np.pad(np.pad(samples.astype(np.float64), (0, padding)), N_FFT // 2, mode="reflect")
    window = np.sin(np.pi * np.arange(N_FFT) / N_FFT) ** 2
    frames = np.stack([padded[i : i + N_FFT] for i in range(0, padded.size - N_FFT + 1, HOP_LENGTH)])[:-1]
    energy = mel_filters(n_mels).astype(np.float64) @ (np.abs(np.fft.rfft(frames * window)) ** 2).T
    logs = np.log10(np.maximum(energy, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


def noise(size):
    return (0.1 * np.random.default_rng(0).standard_normal(size)).astype(np.float32)


# --- The steps


def test_hann_window_is_periodic():
    window = hann_window()
    assert window.shape == (400,)
    assert window[0] == 0
    assert window[200] == 1
    assert np.allclose(window[:200] + window[200:], 1, atol=1e-15)  # two that half overlap add up to one


def test_two_mel_filters_by_hand():
    # Corners at 0, 15.08, 30.16 and 45.25 mels; the first filter rises by 1/1005.6 Hz to an area of one.
    filters = mel_filters(2)
    assert filters.shape == (2, 201)
    assert filters.dtype == np.float32
    corners = mel_to_hertz(np.linspace(0, hertz_to_mel(8000), 4))
    assert filters[0, 10] == pytest.approx(400 / corners[1] * 2 / corners[2])
    assert filters[:, 0].tolist() == [0, 0]
    assert filters.sum(axis=1) * 40 == pytest.approx([1, 1], rel=1e-2)


def test_mel_scale():
    assert [hertz_to_mel(hertz) for hertz in (500, 1000, 6400)] == pytest.approx([7.5, 15, 42])
    for hertz in (0.0, 999.0, 1000.0, 1001.0, 8000.0):
        assert mel_to_hertz(np.array(hertz_to_mel(hertz))) == pytest.approx(hertz)


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


@pytest.mark.parametrize(("size", "padding"), [(201, 0), (400, 0), (16000, 1), (16000, 30000), (0, 201), (5, 480000)])
def test_sizes_and_padding(size, padding):
    samples = noise(size)
    before = samples.copy()
    mel = log_mel_spectrogram(samples, padding=padding)
    assert mel.shape == (80, (size + padding) // 160)
    assert np.abs(mel - exact_log_mel(samples, padding=padding)).max() < 2e-7
    assert np.array_equal(samples, before)


def test_the_clamp_is_relative_to_the_maximum_of_the_whole_audio():
    samples = noise(10 * 16000)
    samples[: 8 * 16000] *= 1e-6  # the loud part comes later than the first blocks
    mel = log_mel_spectrogram(samples)
    assert mel.max() - mel.min() <= 2.0 + 1e-6
    assert np.abs(mel - exact_log_mel(samples)).max() < 1e-7


def test_digital_silence():
    samples = np.zeros(N_SAMPLES, np.float32)
    mel = log_mel_spectrogram(samples)
    assert mel.shape == (80, N_FRAMES)
    assert (mel == -1.5).all()
    samples[20 * 16000] = 1e-6  # too quiet for a clamp, and most blocks are silent
    assert np.array_equal(log_mel_spectrogram(samples), exact_log_mel(samples).astype(np.float32))


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        *[(size, {}, f"{size} samples and 0 of padding are too short.*padding=480000$") for size in (0, 200)],
        (100, {"padding": 100}, "100 samples and 100 of padding are too short"),
        *[(1000, {"padding": padding}, "padding: expected a number of zeros") for padding in (-1, 0.5, None, True)],
        *[(1000, {"n_mels": count}, "n_mels: expected a positive integer") for count in (0, 80.0, "80", True, None)],
    ],
)
def test_invalid_arguments(size, options, message):
    with pytest.raises(AudioError, match=f"^{message}"):
        log_mel_spectrogram(noise(size), **options)


def test_long_audio_needs_little_memory():
    minutes = np.zeros(15 * 60 * 16000, np.float32)
    tracemalloc.start()
    mel = log_mel_spectrogram(minutes, padding=N_SAMPLES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mel.shape == (80, 93_000)
    assert peak < mel.nbytes + 20e6  # in float64 it would take 30 MB more
