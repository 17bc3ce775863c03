"""Exercise 2: from samples to the log-mel spectrogram."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..audio.mel import mel_filters
from ..common.edits import Edit, Mistake
from ..parity.comparison import clip_samples
from .checking import Case, Exercise
from .comparing import Results, as_real_array
from .guard import Answer

TASK = """\
Write log_mel_spectrogram(samples, filters) -> mel, with nothing but NumPy.

samples (N,) float32 is audio at 16 kHz. filters (80, 201) contains the weights of the 201 frequencies, one row per mel
bin. The result is (80, N // 160), the same as minwhisper.log_mel_spectrogram returns:
- Mirror 200 samples at both ends, without repeating the end samples.
- Split them into frames of 400 samples, one every 160. Leave out the last one, which is centred on the end.
- Multiply each frame by the periodic Hann window, 0.5 - 0.5 cos(2 pi n / 400), and take its Fourier transform
  (np.fft.rfft).
- Square the absolute values, pool them with the filters, raise values below 1e-10 to 1e-10, take log10.
- Raise values more than 8 below the maximum of the whole result to that level, add 4, divide by 4.
Use float32 or float64; an error of 0.001 is allowed."""


def log_mel_spectrogram(samples: Any, filters: Any) -> Any:
    """Compute the log-mel spectrogram: samples (N,), filters (80, 201) -> (80, T), T = N // 160."""
    padded = np.pad(samples, 200, mode="reflect")
    frames = sliding_window_view(padded, 400)[::160][:-1]  # (T, 400), without the one centred on the end
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    spectrum = np.fft.rfft(frames * window)  # (T, 201), complex
    energy = np.abs(spectrum) ** 2
    mel = np.maximum(filters @ energy.T, 1e-10)  # (80, 201) @ (201, T) -> (80, T)
    log = np.log10(mel)
    log = np.maximum(log, log.max() - 8)
    return (log + 4) / 4


MISTAKES = {
    "symmetric window": Mistake(
        "The values are those of a symmetric Hann window, as np.hanning(400) returns. Its last sample is 0, which "
        "belongs to the next period. Divide by 400, not by 399, or use np.hanning(401)[:-1].",
        (Edit("np.arange(400) / 400", "np.arange(400) / 399"),),
    ),
    "no window": Mistake(
        "The frames are not multiplied by the Hann window, so they jump at their ends, and frequencies leak.",
        (Edit("frames * window", "frames"),),
    ),
    "Hamming window": Mistake(
        "The window is a Hamming window, 0.54 - 0.46 cos. Hann is 0.5 - 0.5 cos and starts at 0.",
        (Edit("0.5 - 0.5 *", "0.54 - 0.46 *"),),
    ),
    "not centred": Mistake(
        "The first frame starts at sample 0. It should be centred on it: mirror 200 samples at both ends before you "
        "split the samples into frames.",
        (Edit("samples, 200,", "samples, 0,"), Edit("[:-1]", "")),
    ),
    "zeros outside": Mistake(
        "The audio is padded with zeros at its ends. Mirror it: np.pad(samples, 200, mode='reflect').",
        (Edit('"reflect"', '"constant"'),),
    ),
    "end sample repeated": Mistake(
        "The mirrored audio repeats the end sample, as NumPy's mode 'symmetric' does. Use mode 'reflect': "
        "… 3 2 1 0 1 2 3 …",
        (Edit('"reflect"', '"symmetric"'),),
    ),
    "ends held": Mistake(
        "The audio is padded with its end samples. Mirror it: np.pad(samples, 200, mode='reflect').",
        (Edit('"reflect"', '"edge"'),),
    ),
    "last frame kept": Mistake(
        "One frame too many: the last one is centred on the end of the audio. Leave it out.", (Edit("[:-1]", ""),)
    ),
    "first frame left out": Mistake(
        "The first frame is left out instead of the last, so each column is 10 ms early.", (Edit("[:-1]", "[1:]"),)
    ),
    "frames end to end": Mistake(
        "The frames start 400 samples apart and do not overlap. Start one every 160 samples.",
        (Edit("[::160]", "[::400]"),),
    ),
    "magnitude": Mistake(
        "The absolute values are not squared: energy is |X|², real² + imaginary².", (Edit(" ** 2", ""),)
    ),
    "real part only": Mistake(
        "Only the real part is squared, so the result depends on the phase. Use real² + imaginary².",
        (Edit("np.abs(spectrum)", "np.abs(spectrum.real)"),),
    ),
    "divided by 400": Mistake(
        "The energy is divided by 400, as with norm='ortho', so every value is too low by the same amount. Whisper "
        "does not scale the transform.",
        (Edit("np.fft.rfft", "1 / 20 * np.fft.rfft"),),
    ),
    "divided by 160000": Mistake(
        "The transform is divided by 400, as with norm='forward', so the energy by 160,000. Whisper does not scale the "
        "transform.",
        (Edit("np.fft.rfft", "1 / 400 * np.fft.rfft"),),
    ),
    "log before pooling": Mistake(
        "The logarithm comes before the filters. Pool the energies, then take the logarithm.",
        (Edit("filters @ energy.T", "energy.T"), Edit("np.log10", "filters @ np.log10")),
    ),
    "natural logarithm": Mistake(
        "np.log is the natural logarithm. Use np.log10, the logarithm to base 10.", (Edit("np.log10", "np.log"),)
    ),
    "decibels": Mistake(
        "The values are decibels, 10 log10(energy). Omit the 10: clamp and scaling expect powers of ten.",
        (Edit("(mel)", "(mel) * 10"),),
    ),
    "no floor": Mistake(
        "The logarithm of zero is -inf: digital silence has an energy of 0. Raise the energies to 1e-10 first, with "
        "np.maximum.",
        (Edit("1e-10", "0"),),
    ),
    "floor added": Mistake(
        "1e-10 is added to every energy. It is a floor: np.maximum(energy, 1e-10).",
        (Edit("mel = np.maximum", "mel = np.add"),),
    ),
    "no clamp": Mistake(
        "Nothing is clamped. Raise everything to the maximum minus 8, before you add 4 and divide by 4. (With 80, as "
        "for decibels, or after the scaling, the clamp has no effect.)",
        (Edit("np.maximum(log, log.max() - 8)", "log"),),
    ),
    "clamp by frame": Mistake(
        "The clamp is relative to the maximum of each frame. Use the maximum of the whole result.",
        (Edit("log.max()", "log.max(axis=0)"),),
    ),
    "clamp by bin": Mistake(
        "The clamp is relative to the maximum of each mel bin. Use the maximum of the whole result.",
        (Edit("log.max()", "log.max(axis=1, keepdims=True)"),),
    ),
    "fixed clamp": Mistake("The clamp is at -8. It should be at the maximum minus 8.", (Edit("log.max() - 8", "-8"),)),
    "not scaled": Mistake("The last step is missing: add 4, then divide by 4.", (Edit("(log + 4) / 4", "log"),)),
    "scaled in the wrong order": Mistake(
        "The scaling is x / 4 + 4. Add 4 first, then divide by 4.", (Edit("(log + 4) / 4", "log / 4 + 4"),)
    ),
    "transposed": Mistake(
        "The result is (frames, bins). Return its transpose: one row per mel bin, one column per frame.",
        (Edit("return ", "log = log.T\n    return "),),
    ),
}


def synthetic_audio(length: int, level: float = 1.0) -> Any:
    """Return audio that reveals each mistake: (N,) float32, tones that are loud first and quiet later, and noise."""
    rng = np.random.default_rng(length)
    seconds = np.arange(length) / 16000
    tones = np.cos(2 * np.pi * 440 * seconds) + 0.5 * np.cos(2 * np.pi * (700 + 3000 * seconds) * seconds + 1)
    fading = np.where(np.arange(length) < length * 0.6, 1.0, 1e-3)
    noise = rng.standard_normal(length)
    return (level * fading * (0.3 * tones + 1e-4 * noise)).astype(np.float32)


def _call_with(samples: Any, filters: Any) -> Any:
    def run(function: Answer) -> Results:
        return [("the result", as_real_array(function(samples.copy(), filters.copy())))]

    return run


EXERCISE = Exercise(
    number=2,
    title="The log-mel spectrogram",
    section=2,
    task=TASK,
    solutions=(log_mel_spectrogram,),
    mistakes=MISTAKES,
    tolerance=1e-3,
    cases=(
        Case(
            "half a second of audio",
            _call_with(synthetic_audio(8000), mel_filters(80)),
            "Go through the task line by line and compare with section 2: mirror, frames, window, transform, square, "
            "filters, log10, clamp, scale. If only the first and last columns are wrong, so is the mirroring.",
        ),
        Case(
            "5,037 samples, not a multiple of 160",
            _call_with(synthetic_audio(5037), mel_filters(80)),
            "There are N // 160 frames, here 31. The remaining 77 samples get no frame of their own.",
        ),
        Case(
            "filters other than Whisper's",
            _call_with(synthetic_audio(4000), mel_filters(80)[::-1].copy()),
            "Pool with the filters that are given as an argument.",
        ),
        Case(
            "digital silence",
            _call_with(np.zeros(3200, np.float32), mel_filters(80)),
            "In digital silence every energy is 0 and becomes 1e-10, so the result is -1.5 everywhere.",
        ),
        Case(
            "very quiet audio",
            _call_with(synthetic_audio(3200, 3e-6), mel_filters(80)),
            "The floor of 1e-10 applies to the energies in the mel bins: after the filters, before log10.",
        ),
        Case(
            "a second of speech, from a recording of 1961",
            _call_with(clip_samples()[16000:32000], mel_filters(80)),
            "All other cases pass: is something done for short audio only?",
        ),
    ),
)
