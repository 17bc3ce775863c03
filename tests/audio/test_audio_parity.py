"""The spectrogram compared with openai-whisper, and both with the same formula in float64."""

import numpy as np
import pytest

from conftest import DATA
from minwhisper.audio.load import load_audio
from minwhisper.audio.mel import log_mel_spectrogram, mel_filters

torch = pytest.importorskip("torch")
whisper_audio = pytest.importorskip("whisper.audio")
pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def samples():
    return load_audio(DATA / "jfk.flac")


def exact_log_mel(samples, n_mels):
    """Return the spectrogram from PyTorch's transform and openai-whisper's filters, all in float64."""
    audio = torch.from_numpy(samples).double()
    window = torch.hann_window(400, dtype=torch.float64)
    energy = torch.stft(audio, 400, 160, window=window, return_complex=True)[:, :-1].abs() ** 2
    logs = (whisper_audio.mel_filters("cpu", n_mels).double() @ energy).clamp(min=1e-10).log10()
    return ((torch.maximum(logs, logs.max() - 8) + 4) / 4).numpy()


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_filters(n_mels):
    expected = whisper_audio.mel_filters("cpu", n_mels).numpy()
    filters = mel_filters(n_mels)
    assert filters.dtype == expected.dtype
    assert np.array_equal(filters > 0, expected > 0)
    assert np.allclose(filters, expected, rtol=1.2e-7, atol=0)  # the last bit of float32


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_is_closer_to_the_exact_one(n_mels, samples):
    exact = exact_log_mel(samples, n_mels)
    theirs = whisper_audio.log_mel_spectrogram(samples, n_mels).numpy()
    ours = log_mel_spectrogram(samples, n_mels)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert np.abs(ours - theirs).max() < 1e-4
    our_error, their_error = np.abs(ours - exact).max(), np.abs(theirs - exact).max()
    assert our_error < 1e-7
    assert our_error < their_error


@pytest.mark.parametrize(("size", "padding"), [(201, 0), (0, 480000), (100, 300)])
def test_short_audio(size, padding, samples):
    short = samples[8000 : 8000 + size]
    theirs = whisper_audio.log_mel_spectrogram(short, padding=padding).numpy()
    ours = log_mel_spectrogram(short, padding=padding)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4
