"""Measure voice activity detection: frames, words and time with and without ``vad_filter``, on speech and noise.

    python tests/benchmarks/vad.py [--model tiny.en] [--music FILE ...]

Prints two tables. Without speech: the share of frames taken for speech, and the hallucinated words per hour. With
speech, eight sentences from a book with pauses of 2 to 20 s: precision and recall of frames, word errors, and windows.
Each is measured without the filter, with it, and with Silero's network. Needs the extras ``offline`` and
``vad``. Music is synthesized; ``--music`` adds recordings of music without vocals.
"""

import argparse
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import minwhisper
from minwhisper.audio.load import open_audio
from minwhisper.audio.mel_stream import Spectrogram
from minwhisper.audio.speech import find_speech, find_speech_silero
from minwhisper.scoring import word_errors

RATE, HOP = 16000, 160
DATA = Path(__file__).parents[1] / "data"
CLIPS = [f"LJ001-{number:04}" for number in range(1, 9)]
PAUSES = (2, 5, 10, 3, 20, 2, 5)  # seconds between the clips
SPEECH_LEVEL = 0.08  # root mean square
SECONDS = 60  # of each example without speech
FILTERS: tuple[bool | str, ...] = (False, True, "silero")
rng = np.random.default_rng(0)

Samples = NDArray[np.float32]


# --- Examples without speech --------------------------------------------------------------------------------------


def level(samples: NDArray[np.floating], rms: float) -> Samples:
    """Scale samples to a root mean square."""
    return (samples * (rms / np.sqrt(np.mean(np.square(samples))))).astype(np.float32)


def noise(seconds: float, gain: Callable[[NDArray[np.floating]], NDArray[np.floating]] = np.ones_like) -> Samples:
    """Return noise whose spectrum has this gain at each frequency."""
    size = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(size)) * gain(np.maximum(np.fft.rfftfreq(size, 1 / RATE), 20.0))
    return level(np.fft.irfft(spectrum, size), 0.05)


def pink(seconds: float) -> Samples:
    """Return noise with the same power in each octave."""
    return noise(seconds, lambda frequency: frequency**-0.5)


def room(seconds: float) -> Samples:
    """Return the hum and rumble of a room, with knocks."""
    samples = level(noise(seconds, lambda frequency: 1 / (1 + (frequency / 150) ** 1.5)), 1.0)
    times = np.arange(samples.size) / RATE
    samples += sum(0.3 / k * np.sin(2 * np.pi * 50 * k * times) for k in (1, 2, 3)).astype(np.float32)
    for start in rng.integers(0, samples.size - 800, round(seconds / 2)):
        samples[start : start + 800] += 4 * rng.standard_normal(800) * np.exp(-np.arange(800) / 80)
    return level(samples, 0.02)


def note(frequency: float, seconds: float, decay: float = 2.0) -> NDArray[np.floating]:
    """Return a plucked note with eight overtones."""
    times = np.arange(round(seconds * RATE)) / RATE
    tones = (np.sin(2 * np.pi * frequency * k * times) / k**1.5 for k in range(1, 9))
    return sum(tones) * np.minimum(1, times / 0.02) * np.exp(-decay * times)


def played(seconds: float, notes: list[tuple[float, NDArray[np.floating]]]) -> Samples:
    """Mix notes, each at its time in seconds."""
    samples = np.zeros(round((seconds + 4) * RATE))
    for start, sound in notes:
        samples[round(start * RATE) :][: sound.size] += sound
    return level(samples[: round(seconds * RATE)], 0.1)


def tones(seconds: float) -> Samples:
    """Return a tone for two seconds, then none for four, like a telephone that rings."""
    times = np.arange(round(seconds * RATE)) / RATE
    return level((np.sin(2 * np.pi * 440 * times) + np.sin(2 * np.pi * 480 * times)) * (times % 6 < 2), 0.1)


def chords(seconds: float) -> Samples:
    """Return a triad per second."""
    triads = [(0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14)]
    return played(
        seconds,
        [(at, note(220 * 2 ** (step / 12), 1.5, 1.0)) for at in range(int(seconds)) for step in triads[at % 4]],
    )


def melody(seconds: float) -> Samples:
    """Return notes of a scale, three per second."""
    scale = rng.choice([0, 2, 4, 5, 7, 9, 11, 12], int(3 * seconds))
    return played(seconds, [(number / 3, note(330 * 2 ** (step / 12), 0.5)) for number, step in enumerate(scale)])


def drums(seconds: float) -> Samples:
    """Return four beats per second of a drum kit."""
    times = np.arange(RATE // 5) / RATE
    hat = 0.3 * rng.standard_normal(times.size) * np.exp(-60 * times)
    kick = 1.5 * np.sin(2 * np.pi * (60 + 80 * np.exp(-30 * times)) * times) * np.exp(-15 * times)
    snare = rng.standard_normal(times.size) * np.exp(-20 * times)
    beats = [hat + kick, hat, hat + snare, hat]
    return played(seconds, [(beat / 4, beats[beat % 4]) for beat in range(int(4 * seconds))])


def band(seconds: float) -> Samples:
    """Return chords, melody and drums together."""
    return level(chords(seconds) + 0.6 * melody(seconds) + 0.7 * drums(seconds), 0.1)


NOT_SPEECH: dict[str, Callable[[float], Samples]] = {
    "digital silence": lambda seconds: np.zeros(round(seconds * RATE), np.float32),
    "white noise": noise,
    "pink noise": pink,
    "room": room,
    "telephone tones": tones,
    "chords": chords,
    "melody": melody,
    "drums": drums,
    "a band": band,
}


# --- Examples with speech -----------------------------------------------------------------------------------------


def loud_frames(samples: Samples) -> NDArray[np.bool_]:
    """Return which frames of a clean recording are speech: within 35 dB of loud ones, or in a gap under 0.3 s."""
    power = np.array([np.mean(samples[max(0, at - 200) : at + 200] ** 2) for at in range(0, samples.size - 159, HOP)])
    loud = power > 10**-3.5 * np.percentile(power, 95)
    places = np.flatnonzero(loud)
    for before, after in pairwise(places):
        if after - before <= 30:
            loud[before:after] = True
    return loud


def whispered(samples: Samples) -> Samples:
    """Return whispered speech: noise with the coarse spectrum of each 32 ms."""
    size, window = 512, np.hanning(513)[:-1]
    out, source = np.zeros(samples.size + size), rng.standard_normal(samples.size + size)
    kernel = np.hanning(17) / np.hanning(17).sum()
    weak_bass = np.minimum(1, np.arange(size // 2 + 1) * RATE / size / 1200)
    for at in range(0, samples.size - size, size // 4):
        envelope = np.convolve(np.abs(np.fft.rfft(samples[at : at + size] * window)), kernel, "same") * weak_bass
        spectrum = np.fft.rfft(source[at : at + size] * window)
        out[at : at + size] += np.fft.irfft(spectrum / np.abs(spectrum).mean() * envelope) * window
    return level(out[: samples.size], SPEECH_LEVEL)


def spoken(change: Callable[[Samples], Samples] = lambda samples: samples) -> tuple[Samples, NDArray[np.bool_]]:
    """Return the clips with pauses of digital silence, and which frames are speech."""
    samples, speech = [np.zeros(3 * RATE, np.float32)], [np.zeros(300, bool)]
    for name, pause in zip(CLIPS, (*PAUSES, 10), strict=True):
        clip = level(minwhisper.load_audio(DATA / f"{name}.wav"), SPEECH_LEVEL)
        clip = clip[: clip.size // HOP * HOP]
        samples += [change(clip), np.zeros(pause * RATE, np.float32)]
        speech += [loud_frames(clip), np.zeros(pause * 100, bool)]
    return np.concatenate(samples), np.concatenate(speech)


def with_background(background: Callable[[float], Samples], ratio: float) -> tuple[Samples, NDArray[np.bool_]]:
    """Return the speech mixed with a background that is quieter by ``ratio`` dB."""
    samples, speech = spoken()
    return samples + level(background(samples.size / RATE), SPEECH_LEVEL * 10 ** (-ratio / 20)), speech


SPEECH: dict[str, Callable[[], tuple[Samples, NDArray[np.bool_]]]] = {
    "in silence": spoken,
    "soft, -40 dB": lambda: spoken(lambda samples: 0.01 * samples),
    "white noise, 30 dB": lambda: with_background(noise, 30),
    "white noise, 20 dB": lambda: with_background(noise, 20),
    "white noise, 10 dB": lambda: with_background(noise, 10),
    "white noise, 5 dB": lambda: with_background(noise, 5),
    "room, 20 dB": lambda: with_background(room, 20),
    "room, 5 dB": lambda: with_background(room, 5),
    "a band, 20 dB": lambda: with_background(band, 20),
    "a band, 10 dB": lambda: with_background(band, 10),
    "whispered": lambda: spoken(whispered),
}


# --- Measures -----------------------------------------------------------------------------------------------------


def words(text: str) -> str:
    """Return a text in lower case, without punctuation and digits, its words separated by single spaces."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def found_frames(samples: Samples, filter: bool | str) -> tuple[NDArray[np.bool_], float]:
    """Return which frames a filter takes for speech, and its seconds, without those for the spectrogram."""
    found = np.zeros(samples.size // HOP, bool)
    with open_audio(samples) as audio:
        mel = Spectrogram(audio)
        began = time.process_time()
        for start, end in find_speech_silero(audio) if filter == "silero" else find_speech(mel):
            found[start:end] = True
    return found, time.process_time() - began


def transcribed(model: minwhisper.Whisper, samples: Samples, filter: bool | str) -> tuple[str, int, float]:
    """Return the words of a transcript, the number of its windows, and the seconds of processor time."""
    language = "en" if model.is_multilingual else None
    began = time.process_time()
    result = model.transcribe(samples, vad_filter=filter, language=language, record=True)
    return words(result["text"]), len(result["windows"]), time.process_time() - began


def row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def report_without_speech(model: minwhisper.Whisper, music: list[Path]) -> None:
    """Print the table for examples without speech."""
    row(
        "no speech", "frames taken for speech: own, Silero", "invented words per hour: off, own, Silero", "s: all three"
    )
    row(*["---"] * 4)
    examples = {name: make(SECONDS) for name, make in NOT_SPEECH.items()}
    examples |= {path.stem: minwhisper.load_audio(path)[: SECONDS * RATE] for path in music}
    for name, samples in examples.items():
        shares = [found_frames(samples, filter)[0].mean() for filter in FILTERS[1:]]
        results = [transcribed(model, samples, filter) for filter in FILTERS]
        hours = samples.size / RATE / 3600
        row(
            name,
            ", ".join(f"{share:.2f}" for share in shares),
            ", ".join(f"{len(found.split()) / hours:.0f}" for found, _, _ in results),
            ", ".join(f"{seconds:.1f}" for _, _, seconds in results),
        )


def report_speech(model: minwhisper.Whisper) -> None:
    """Print the table for examples with speech."""
    texts = dict(line.split("|") for line in (DATA / "lj_texts.csv").read_text("utf-8").splitlines())
    expected = words(" ".join(texts[name] for name in CLIPS).replace("forty-two", "forty two"))
    row(
        "speech",
        "precision, recall: own",
        "Silero",
        f"errors in {len(expected.split())} words: off, own, Silero",
        "windows",
        "s: all three",
    )
    row(*["---"] * 6)
    for name, make in SPEECH.items():
        samples, speech = make()
        scores = []
        for filter in FILTERS[1:]:
            found = found_frames(samples, filter)[0][: speech.size]
            right = (found & speech).sum()
            scores.append(f"{right / max(1, found.sum()):.2f}, {right / speech.sum():.3f}")
        results = [transcribed(model, samples, filter) for filter in FILTERS]
        row(
            name,
            *scores,
            ", ".join(str(word_errors(expected, got, None).errors) for got, _, _ in results),
            ", ".join(str(windows) for _, windows, _ in results),
            ", ".join(f"{seconds:.1f}" for _, _, seconds in results),
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--music", nargs="*", type=Path, default=[])
    options = parser.parse_args()
    model = minwhisper.load_model(options.model)
    samples = spoken()[0]
    for filter in FILTERS[1:]:
        seconds = found_frames(samples, filter)[1]
        print(f"vad_filter={filter}: {seconds * 3600 / (samples.size / RATE):.1f} s per hour of audio")
    print()
    report_without_speech(model, options.music)
    print()
    report_speech(model)


if __name__ == "__main__":
    main()
