"""Exercise 1: from samples to the log-mel spectrogram."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..audio.mel import mel_filters
from .checking import NO_MISTAKES, Answer, Case, Exercise, Results, as_real_array

TASK = """\
Write log_mel_spectrogram(samples, filters) -> mel, with nothing but NumPy.

samples (N,) float32 is sound at 16 kHz; filters (80, 201) holds, a row each mel bin, the weights of the 201
frequencies. The result is (80, N // 160), what minwhisper.log_mel_spectrogram gives:
- Mirror 200 samples outwards at both ends, without repeating the end sample.
- Cut frames of 400 samples, one each 160. Leave out the last, the one that is centred behind the end.
- Multiply each by the periodic Hann window, 0.5 - 0.5 cos(2 pi n / 400), and take its Fourier transform (np.fft.rfft).
- Square the absolute values, pool them with the filters, raise what is below 1e-10 to it, take log10.
- Raise what lies more than 8 below the largest of the whole result, add 4, divide by 4.
Float32 or float64, as you like: 0.001 is near enough."""

SKELETON = '''\
import numpy as np


def log_mel_spectrogram(samples, filters):
    """samples (N,) at 16 kHz, filters (80, 201) -> (80, N // 160)."""
    ...
'''

MISTAKES = {
    "symmetric window": (
        "These are the numbers of a symmetric Hann window, as np.hanning(400) gives. Its last sample is a zero that "
        "belongs to the next period: divide by 400, not by 399, or take np.hanning(401)[:-1]."
    ),
    "no window": "The frames are not multiplied by the Hann window: their ends click, and each frequency smears.",
    "Hamming window": "That is a Hamming window, 0.54 - 0.46 cos; Hann is 0.5 - 0.5 cos, and is 0 at the start.",
    "not centred": (
        "The first frame starts at sample 0. It should be centred on it: mirror 200 samples outwards at both ends "
        "before you cut frames."
    ),
    "zeros outside": "The sound is continued with zeros at its ends. Mirror it: np.pad(samples, 200, mode='reflect').",
    "end sample repeated": (
        "The mirror stands behind the end sample and so repeats it (NumPy's mode 'symmetric'). It stands on it: "
        "… 3 2 1 0 1 2 3 …, mode 'reflect'."
    ),
    "ends held": "The end samples are held (mode 'edge'). Mirror the sound: np.pad(samples, 200, mode='reflect').",
    "last frame kept": "One frame too many: the last is centred behind the last sample, and Whisper leaves it out.",
    "first frame left out": "The first frame is left out in place of the last: each column is 10 ms early.",
    "frames end to end": "The frames start 400 samples apart, so they do not overlap. A new one starts each 160.",
    "magnitude": "The absolute values are not squared: energy is |X|², real² + imaginary².",
    "real part only": "Only the real part is squared, so that it matters where a wave starts. Take real² + imaginary².",
    "divided by 400": (
        "The energy is divided by 400, as norm='ortho' does: every number is too low by the same. Whisper leaves "
        "the transform as it is."
    ),
    "divided by 160000": (
        "The transform is divided by 400 (norm='forward'), so the energy by 160,000. Whisper leaves it as it is."
    ),
    "log before pooling": "The logarithm comes after the filters: energies are pooled, not their logarithms.",
    "natural logarithm": "np.log is the natural logarithm. Powers of ten are meant: np.log10.",
    "decibels": "These are decibels, 10 log10(energy). Leave out the 10: clamp and scaling expect powers of ten.",
    "no floor": (
        "The logarithm of zero is -inf: silence has no energy at all. Raise the energies to 1e-10 before it, with "
        "np.maximum."
    ),
    "floor added": "1e-10 is added to every energy. It is a floor: np.maximum(energy, 1e-10).",
    "no clamp": (
        "Nothing is clamped. Raise everything to the largest number minus 8, before you add 4 and divide by 4. (With "
        "80, as for decibels, or after the scaling, the clamp has no effect.)"
    ),
    "clamp by frame": "The clamp is measured from the largest number of each frame. It is one for the whole sound.",
    "clamp by bin": "The clamp is measured from the largest number of each mel bin. It is one for the whole sound.",
    "fixed clamp": "The clamp is at -8. It is at the largest number of the sound minus 8.",
    "not scaled": "The last step is missing: add 4, then divide by 4.",
    "scaled in the wrong order": "That is x / 4 + 4. Add 4 first, then divide by 4.",
    "transposed": "The result is (frames, bins). Its transpose is wanted: a row each mel bin, a column each frame.",
}


def solution(samples: Any, filters: Any, mistakes: frozenset[str] = NO_MISTAKES) -> Any:
    """Sound (N,) and filters (80, 201) -> (80, N // 160), with these mistakes."""
    modes = {"end sample repeated": "symmetric", "zeros outside": "constant", "ends held": "edge"}
    mode: Any = next((modes[name] for name in modes if name in mistakes), "reflect")
    padded = np.pad(samples.astype(np.float64), 0 if "not centred" in mistakes else 200, mode=mode)
    hop = 400 if "frames end to end" in mistakes else 160
    frames = sliding_window_view(padded, 400)[::hop]  # (T + 1, 400)
    if "first frame left out" in mistakes:
        frames = frames[1:]
    elif not {"last frame kept", "not centred"} & mistakes:
        frames = frames[:-1]
    spectrum = np.fft.rfft(frames * _window(mistakes))  # (T, 201)
    energy = spectrum.real**2 + (0.0 if "real part only" in mistakes else spectrum.imag**2)
    if "magnitude" in mistakes:
        energy = np.sqrt(energy)
    energy /= 160000 if "divided by 160000" in mistakes else 400 if "divided by 400" in mistakes else 1
    log = _log(filters @ energy.T, mistakes)  # (80, 201) (201, T) -> (80, T)
    if "log before pooling" in mistakes:
        log = filters @ _log(energy, mistakes).T
    axis = 0 if "clamp by frame" in mistakes else 1 if "clamp by bin" in mistakes else None
    if "no clamp" not in mistakes:
        log = np.maximum(log, (0.0 if "fixed clamp" in mistakes else log.max(axis=axis, keepdims=True)) - 8)
    if "scaled in the wrong order" in mistakes:
        log = log / 4 + 4
    elif "not scaled" not in mistakes:
        log = (log + 4) / 4
    return log.T if "transposed" in mistakes else log


def _window(mistakes: frozenset[str]) -> Any:
    if "no window" in mistakes:
        return np.ones(400)
    constant = 0.54 if "Hamming window" in mistakes else 0.5
    length = 399 if "symmetric window" in mistakes else 400
    return constant - (1 - constant) * np.cos(2 * np.pi * np.arange(400) / length)


def _log(energy: Any, mistakes: frozenset[str]) -> Any:
    if "floor added" in mistakes:
        energy = energy + 1e-10
    elif "no floor" not in mistakes:
        energy = np.maximum(energy, 1e-10)
    log = np.log(energy) if "natural logarithm" in mistakes else np.log10(energy)
    return 10 * log if "decibels" in mistakes else log


def synthetic_audio(length: int, level: float = 1.0) -> Any:
    """Sound with what the mistakes need to show: (N,) float32, loud at first and quiet later, and noise below."""
    rng = np.random.default_rng(length)
    seconds = np.arange(length) / 16000
    tones = np.cos(2 * np.pi * 440 * seconds) + 0.5 * np.cos(2 * np.pi * (700 + 3000 * seconds) * seconds + 1)
    fading = np.where(np.arange(length) < length * 0.6, 1.0, 1e-3)
    noise = rng.standard_normal(length)
    return (level * fading * (0.3 * tones + 1e-4 * noise)).astype(np.float32)


def _call_with(sound: Any, filters: Any) -> Any:
    def run(function: Answer) -> Results:
        return [("the result", as_real_array(function(sound.copy(), filters.copy())))]

    return run


EXERCISE = Exercise(
    number=1,
    title="The log-mel spectrogram",
    section=2,
    function="log_mel_spectrogram",
    task=TASK,
    skeleton=SKELETON,
    solution=solution,
    mistakes=MISTAKES,
    tolerance=1e-3,
    cases=(
        Case(
            "half a second of sound",
            _call_with(synthetic_audio(8000), mel_filters(80)),
            "Go through the task line by line, and compare with section 2: mirror, frames, window, transform, square, "
            "filters, log10, clamp, scale. Where only the first and last columns are off, it is the mirror.",
        ),
        Case(
            "5,037 samples, no multiple of 160",
            _call_with(synthetic_audio(5037), mel_filters(80)),
            "There are N // 160 frames: 31 here. The rest of 77 samples begins no frame of its own.",
        ),
        Case(
            "other filters than Whisper's",
            _call_with(synthetic_audio(4000), mel_filters(80)[::-1].copy()),
            "Pool with the filters that are given, not with others.",
        ),
        Case(
            "digital silence",
            _call_with(np.zeros(3200, np.float32), mel_filters(80)),
            "In silence every energy is 0 and becomes 1e-10, its logarithm -10, and the result -1.5 everywhere.",
        ),
        Case(
            "sound that is hardly there",
            _call_with(synthetic_audio(3200, 3e-6), mel_filters(80)),
            "The floor is 1e-10, and it belongs to the energies in the mel bins: after the filters, before log10.",
        ),
    ),
)
