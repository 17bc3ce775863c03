"""The spectrogram, step by step and as a whole; against PyTorch it is held in test_audio_parity.py."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper import mel
from minwhisper.audio import HOP_LENGTH, N_FFT, N_FRAMES, N_SAMPLES, load_audio
from minwhisper.errors import AudioError
from minwhisper.mel import (
    fourier_waves,
    frames,
    hann_window,
    hertz_to_mel,
    log_energy,
    log_mel_spectrogram,
    mel_filters,
    mel_to_hertz,
    mirrored,
    power,
    scale,
)

JFK = Path(__file__).parent / "data" / "jfk.flac"


def exact_log_mel(samples, n_mels=80, padding=0):
    """The same formula in float64, all at once, with NumPy's own padding and Fourier transform."""
    sound = np.pad(np.pad(samples.astype(np.float64), (0, padding)), N_FFT // 2, mode="reflect")
    window = np.sin(np.pi * np.arange(N_FFT) / N_FFT) ** 2
    stack = np.stack([sound[i : i + N_FFT] for i in range(0, sound.size - N_FFT + 1, HOP_LENGTH)])[:-1]
    energy = mel_filters(n_mels).astype(np.float64) @ (np.abs(np.fft.rfft(stack * window)) ** 2).T
    logs = np.log10(np.maximum(energy, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


def noise(size, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


# --- The steps


@settings(max_examples=30, deadline=None)
@given(size=st.integers(N_FFT, 4000))
def test_frames(size):
    samples = np.arange(size)
    stack = frames(samples)
    assert stack.shape == ((size - N_FFT) // HOP_LENGTH + 1, N_FFT)
    assert np.shares_memory(stack, samples)
    for t, frame in enumerate(stack):
        assert np.array_equal(frame, samples[t * HOP_LENGTH : t * HOP_LENGTH + N_FFT])


@settings(max_examples=30, deadline=None)
@given(size=st.integers(0, 600), padding=st.integers(0, 600), data=st.data())
def test_mirrored(size, padding, data):
    if size + padding <= 200:
        return
    samples = noise(size)
    expected = np.pad(np.pad(samples, (0, padding)), 200, mode="reflect")
    start = data.draw(st.integers(0, expected.size))
    stop = data.draw(st.integers(start, expected.size))
    assert np.array_equal(mirrored(samples, padding, start, stop), expected[start:stop])


def test_hann_window():
    window = hann_window()
    assert window.shape == (400,)
    assert window[0] == 0
    assert window[200] == 1
    assert np.allclose(window[1:], window[:0:-1], atol=1e-15)
    assert np.allclose(window[:200] + window[200:], 1, atol=1e-15)  # half overlapped, it adds up to one


def test_power_is_that_of_the_fourier_transform():
    stack = noise((7, N_FFT)).astype(np.float64)
    expected = np.abs(np.fft.rfft(stack)) ** 2
    assert np.allclose(power(stack, *fourier_waves()), expected, rtol=1e-9, atol=1e-12)


def test_power_of_a_tone_is_in_its_frequency():
    tone = np.cos(2 * np.pi * 1000 * np.arange(N_FFT) / 16000 + 0.3)
    energy = power(tone[None], *fourier_waves())[0]
    assert energy.argmax() == 25  # 25 × 40 Hz
    assert energy[25] == pytest.approx(200**2)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_filters(n_mels):
    filters = mel_filters(n_mels)
    assert filters.shape == (n_mels, 201)
    assert filters.dtype == np.float32
    assert filters.min() == 0
    assert (filters.max(axis=1) > 0).all()
    peaks = filters.argmax(axis=1)
    assert (np.diff(peaks) >= 0).all()


def test_mel_filters_by_hand():
    # 2 bins: corners at 0, 15.08, 30.16 and 45.25 mels; the first rises by 1/1005.6 Hz to an area of one.
    filters = mel_filters(2)
    corners = mel_to_hertz(np.linspace(0, hertz_to_mel(8000), 4))
    assert filters[0, 10] == pytest.approx(400 / corners[1] * 2 / corners[2])
    assert filters[:, 0].tolist() == [0, 0]
    assert filters.sum(axis=1) * 40 == pytest.approx([1, 1], rel=1e-2)


def test_mel_scale():
    assert hertz_to_mel(500) == 7.5
    assert hertz_to_mel(1000) == 15
    assert hertz_to_mel(6400) == pytest.approx(42)
    for hertz in (0.0, 999.0, 1000.0, 1001.0, 8000.0):
        assert mel_to_hertz(np.array(hertz_to_mel(hertz))) == pytest.approx(hertz)


@pytest.mark.parametrize("n_mels", [0, -1, 80.0, "80", True, None])
def test_n_mels_must_be_a_number(n_mels):
    with pytest.raises(AudioError, match="n_mels"):
        log_mel_spectrogram(noise(1000), n_mels)


def test_log_energy_and_scale():
    assert log_energy(np.array([0.0, 1e-12, 1e-10, 1.0, 100.0])).tolist() == [-10, -10, -10, 0, 2]
    assert scale(np.array([-4.0, 0.0])).tolist() == [0, 1]


# --- The whole


def test_every_value_is_the_nearest_float32():
    samples = load_audio(JFK)
    exact = exact_log_mel(samples)
    result = log_mel_spectrogram(samples)
    assert result.dtype == np.float32
    assert result.shape == exact.shape == (80, 1100)
    assert np.array_equal(result, exact.astype(np.float32))


@pytest.mark.parametrize(("size", "padding"), [(201, 0), (400, 0), (16000, 1), (16000, 30000), (0, 201), (5, 480000)])
def test_sizes_and_padding(size, padding):
    samples = noise(size)
    result = log_mel_spectrogram(samples, padding=padding)
    assert result.shape == (80, (size + padding) // 160)
    assert np.abs(result - exact_log_mel(samples, padding=padding)).max() < 2e-7
    zeros = np.zeros(padding, np.float32)
    assert np.array_equal(result, log_mel_spectrogram(np.concatenate([samples, zeros])))


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_leave_no_seam(block, monkeypatch):
    samples = noise(20000)
    whole = log_mel_spectrogram(samples, 128)
    monkeypatch.setattr(mel, "BLOCK", block)
    assert np.allclose(log_mel_spectrogram(samples, 128), whole, rtol=0, atol=1.2e-7)


def test_the_clamp_looks_at_the_whole_sound():
    samples = noise(40 * 16000)
    samples[: 31 * 16000] *= 1e-6  # the first block is quiet, the second loud
    result = log_mel_spectrogram(samples)
    assert result.max() - result.min() <= 2.0 + 1e-6
    assert np.abs(result - exact_log_mel(samples)).max() < 1e-7


def test_silence():
    result = log_mel_spectrogram(np.zeros(N_SAMPLES, np.float32))
    assert result.shape == (80, N_FRAMES)
    assert (result == -1.5).all()


def test_sources():
    expected = log_mel_spectrogram(load_audio(JFK))
    assert np.array_equal(log_mel_spectrogram(JFK), expected)
    assert np.array_equal(log_mel_spectrogram(str(JFK)), expected)
    assert np.array_equal(log_mel_spectrogram(JFK.read_bytes()), expected)


def test_samples_are_not_written_to():
    samples = noise(5000)
    before = samples.copy()
    log_mel_spectrogram(samples)
    assert np.array_equal(samples, before)


@pytest.mark.parametrize(("size", "padding"), [(0, 0), (1, 0), (100, 0), (200, 0), (100, 100)])
def test_too_short(size, padding):
    with pytest.raises(AudioError, match=f"^{size} samples and {padding} of padding are too short.*padding=480000$"):
        log_mel_spectrogram(noise(size), padding=padding)


@pytest.mark.parametrize("padding", [-1, 0.5, None, True])
def test_padding_must_be_a_number(padding):
    with pytest.raises(AudioError, match="padding"):
        log_mel_spectrogram(noise(1000), padding=padding)


def test_bad_samples():
    with pytest.raises(AudioError, match="1 of 500"):
        log_mel_spectrogram(np.where(np.arange(500) == 3, np.nan, 0.0))


def test_an_hour_needs_little_memory():
    hour = np.zeros(3600 * 16000, np.float32)
    tracemalloc.start()
    result = log_mel_spectrogram(hour, padding=N_SAMPLES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.shape == (80, 363_000)
    assert peak < result.nbytes + 60e6
