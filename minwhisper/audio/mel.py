"""Chapter 1, second half: samples → log-mel spectrogram, the input of the encoder.

Every 10 ms, take a frame of 25 ms, multiply it by a window, take its Fourier transform, pool the energies of its
frequencies into M mel bins, and take the logarithm. (Radford et al., 2022, section 2.2.)

Shapes: N samples, T frames, 201 frequencies from 0 to 8 kHz, 40 Hz apart, M mel bins.

Walkthrough: section 2.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..common.backend import Array2D
from ..errors import AudioError
from .load import HOP_LENGTH, N_FFT, SAMPLE_RATE, AudioReader, AudioSource, open_audio

Float64 = NDArray[np.float64]

MIN_ENERGY = 1e-10  # lower energies are raised to it
DYNAMIC_RANGE = 8.0  # powers of ten between the loudest bin and the lowest value that is kept
BLOCK_FRAMES = 300  # frames computed at a time: 3 s of audio, whose 4 MB of intermediate results fit into the cache


def log_mel_spectrogram(audio: AudioSource, n_mels: int = 80, padding: int = 0) -> Array2D:
    """Return the log-mel spectrogram: (M, T) float32, 100 frames per second, 3,000 for 30 s.

    ``audio`` is samples (N,) at 16 kHz, or anything else that ``load_audio`` takes without a rate. ``padding``
    zeros are appended to it. ``n_mels`` is 80, or 128 for large-v3 and turbo. T is (N + padding) // 160.

    The computation is in float64, and each value is rounded to float32 once. It goes block by block, so that an hour of
    audio needs little more memory than its spectrogram. Values are clamped relative to the loudest bin of the whole
    audio, so the spectrogram of an excerpt can differ from the same excerpt of the whole spectrogram.

    Raises ``AudioError`` for audio that cannot be loaded, and for 200 samples or fewer, padding included, because
    200 are mirrored at each end. openai-whisper has the same function.
    """
    with open_audio(audio) as reader:
        check_padding(reader.size, padding)
        filters = mel_filters(n_mels)  # (M, 201)
        mel = np.empty((n_mels, (reader.size + padding) // HOP_LENGTH), np.float32)  # (M, T)
        log_max = -np.inf
        for start in range(0, mel.shape[1], BLOCK_FRAMES):
            log_energy = log_mel_block(reader, padding, filters, start)
            log_max = max(log_max, float(log_energy.max()))
            mel[:, start : start + BLOCK_FRAMES] = scale(log_energy)
    return clamp(mel, log_max)


def log_mel_energy(samples: Float64, filters: NDArray[np.float32]) -> Float64:
    """Return log10 of the energy in each mel bin: samples (N,), filters (M, 201) -> (M, T).

    The first frame starts with the first sample.
    """
    power = power_spectrum(split_frames(samples))  # (T, 201)
    energy = filters @ power.T  # (M, 201) (201, T) -> (M, T)
    return np.log10(np.maximum(energy, MIN_ENERGY))


def split_frames(samples: NDArray[Any]) -> NDArray[Any]:
    """Split samples into overlapping frames of 400, one every 160: (N,) -> (T, 400), a view.

    >>> split_frames(np.arange(720))[:, 0]
    array([  0, 160, 320])
    """
    return sliding_window_view(samples, N_FFT)[::HOP_LENGTH]


def power_spectrum(frames: Float64) -> Float64:
    """Return the energy of each frequency in each frame: (T, 400) -> (T, 201).

    The energy is the squared magnitude of the Fourier transform of the windowed frame, E = |X|².
    """
    return np.abs(np.fft.rfft(frames * hann_window())) ** 2


def hann_window() -> Float64:
    """Return the periodic Hann window, which fades a frame in and out: (400,).

    It is 0 at the first sample and would be 0 again at the 401st, where its next period starts.
    """
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)


def scale(log_energy: Any) -> Any:
    """Scale log energies to values around zero, the encoder's input: any shape."""
    return (log_energy + 4.0) / 4.0


def clamp(mel: NDArray[np.float32], log_max: float) -> NDArray[np.float32]:
    """Raise scaled values (M, T) to at least 8 powers of ten below the maximum log energy, in place."""
    # Rounding is monotonic, so clamping rounded values gives the same as rounding clamped ones.
    return np.maximum(mel, np.float32(scale(log_max - DYNAMIC_RANGE)), out=mel)


# --- Mel filters --------------------------------------------------------------------------------------------------


def mel_filters(n_mels: int) -> NDArray[np.float32]:
    """Return the weight of each frequency in each mel bin: (M, 201) float32.

    Bin i is a triangle that rises from corner i to corner i + 1 and falls to corner i + 2. The M + 2 corners are evenly
    spaced in mels from 0 to 8 kHz, and the area of each triangle is 1. (M. Slaney, 1998, "Auditory Toolbox". The values
    are those of ``librosa.filters.mel(sr=16000, n_fft=400, n_mels=n_mels)``.)

    Raises ``AudioError`` if ``n_mels`` is not a positive integer.
    """
    if type(n_mels) is not int or n_mels < 1:
        raise AudioError(f"n_mels: expected a positive integer, 80 or 128 for Whisper, got {n_mels!r}")
    frequencies = np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT)  # (201,), in Hz
    corners = mel_to_hertz(np.linspace(0.0, hertz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]  # (M, 1) each
    rising = (frequencies - low) / (peak - low)  # (M, 201)
    falling = (high - frequencies) / (high - peak)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (high - low))).astype(np.float32)


# Slaney's mel scale is linear up to 1 kHz, 3 mels per 200 Hz, and logarithmic above, 27 mels per factor of 6.4.
MELS_PER_HERTZ = 3 / 200
MIN_LOG_HERTZ, MIN_LOG_MELS = 1000.0, 15.0  # where the logarithmic part starts
LOG_STEP = float(np.log(6.4)) / 27  # the logarithm of the frequency ratio of one mel


def hertz_to_mel(hertz: float) -> float:
    """Convert a frequency to mels.

    >>> hertz_to_mel(1000.0), round(hertz_to_mel(6400.0), 9)
    (15.0, 42.0)
    """
    if hertz < MIN_LOG_HERTZ:
        return hertz * MELS_PER_HERTZ
    return MIN_LOG_MELS + float(np.log(hertz / MIN_LOG_HERTZ)) / LOG_STEP


def mel_to_hertz(mels: Float64) -> Float64:
    """Convert mels to frequencies, the inverse of ``hertz_to_mel``: any shape."""
    logarithmic = MIN_LOG_HERTZ * np.exp((mels - MIN_LOG_MELS) * LOG_STEP)
    return np.where(mels < MIN_LOG_MELS, mels / MELS_PER_HERTZ, logarithmic)


# --- Blocks of frames ---------------------------------------------------------------------------------------------


def log_mel_block(reader: AudioReader, padding: int, filters: NDArray[np.float32], start: int) -> Float64:
    """Return the log energies (M, T) of the block of up to 300 frames that starts with frame ``start``.

    ``padding`` zeros follow the audio, and the frame centred on the end of the padded audio is dropped.
    """
    stop = min(start + BLOCK_FRAMES, (reader.size + padding) // HOP_LENGTH)
    samples = read_reflected(reader, padding, start * HOP_LENGTH, (stop - 1) * HOP_LENGTH + N_FFT)
    if not samples.any():  # a shortcut: digital silence can last for hours
        return np.full((len(filters), stop - start), np.log10(MIN_ENERGY))
    return log_mel_energy(samples, filters)


def read_reflected(reader: AudioReader, padding: int, start: int, stop: int) -> Float64:
    """Read samples ``start`` to ``stop`` of the audio and its padding with 200 samples mirrored at both ends.

    So frame 0 is centred on the first sample. The end samples are not repeated, as in NumPy's padding mode "reflect".

    >>> read_reflected(open_audio(np.arange(1000.0)), 0, 197, 203)
    array([3., 2., 1., 0., 1., 2.])
    """
    last = reader.size + padding - 1
    position = np.abs(np.arange(start, stop) - N_FFT // 2)  # mirrored at the start
    position = last - np.abs(last - position)  # and at the end
    first = int(position.min())
    samples = reader.read(first, int(position.max()) + 1)  # zeros past the end of the audio
    return samples[position - first].astype(np.float64)


def check_padding(size: int, padding: int) -> None:
    """Raise ``AudioError`` unless ``size`` samples and the padding are enough for a spectrogram."""
    if type(padding) is not int or padding < 0:
        raise AudioError(f"padding: expected a number of zeros to append, 0 or more, got {padding!r}")
    if size + padding <= N_FFT // 2:
        raise AudioError(
            f"{size} samples and {padding} of padding are too short for a spectrogram: expected more than "
            f"{N_FFT // 2} together; append silence, for instance padding=480000"
        )
