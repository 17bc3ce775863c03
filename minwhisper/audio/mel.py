"""Chapter 1, second half: samples become a log-mel spectrogram, the picture that the model looks at.

Every 10 ms, take 25 ms of sound, fade its ends, measure how much of each frequency is in it, pool the frequencies
into M bands that are spaced as the ear spaces them, and take the logarithm. (Radford et al., 2022, section 2.2.)

Shapes: N samples, T frames, 201 frequencies from 0 to 8 kHz, 40 Hz apart, M mel bins.

Walkthrough: section 2.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..errors import AudioError
from .load import HOP_LENGTH, N_FFT, N_SAMPLES, SAMPLE_RATE, AudioReader, AudioSource, open_audio

Float64 = NDArray[np.float64]

N_FREQUENCIES = N_FFT // 2 + 1  # 201
BLOCK_FRAMES = 300  # frames worked on at a time: 3 s of sound, about 4 MB that the processor's cache may hold
MIN_ENERGY = 1e-10  # the least energy told apart from none
CACHE_BYTES = 1 << 23  # bytes of a spectrogram that are kept, 8 MiB: four minutes of 80 bins
DYNAMIC_RANGE = 8.0  # powers of ten below the loudest bin of the whole sound that are kept


def log_mel_spectrogram(audio: AudioSource, n_mels: int = 80, padding: int = 0) -> NDArray[np.float32]:
    """The spectrogram that Whisper was trained on: (M, T) float32, a frame each 10 ms, 3,000 for 30 s.

    ``audio`` is samples (N,) at 16 kHz, or anything else that :func:`load_audio` takes without a rate. ``padding``
    zeros are appended to it first. ``n_mels`` is 80, or 128 for large-v3 and turbo. T is (N + padding) // 160.

    Computed in float64, a block of frames at a time, and rounded once: every value is the float32 nearest to the
    exact one, and an hour of sound needs little more memory than its result. The clamp to 8 powers of ten below
    the loudest bin looks at the whole sound, so part of a sound can have another spectrogram than the whole.

    Raises :class:`AudioError` for what cannot be loaded and for fewer than 201 samples, padding included, since the
    first and the last 200 are mirrored outwards. Source: openai-whisper's function of this name.
    """
    with open_audio(audio) as reader:
        if type(padding) is not int or padding < 0:
            raise AudioError(f"padding: expected a number of zeros to append, 0 or more, got {padding!r}")
        if reader.size + padding <= N_FFT // 2:
            raise AudioError(
                f"{reader.size} samples and {padding} of padding are too short for a spectrogram: expected more than "
                f"{N_FFT // 2} together; append silence, for instance padding=480000"
            )
        log_mel = LogMel(reader, n_mels, padding)
        mel = np.empty((n_mels, log_mel.num_frames), np.float32)  # (M, T)
        log_max = -np.inf
        for start in block_starts(0, log_mel.num_frames):
            logs = log_mel.block(start)
            log_max = max(log_max, float(logs.max()))
            mel[:, start : start + logs.shape[1]] = scale(logs)
    return clamp(mel, log_max)


class Spectrogram:
    """The spectrogram of a sound and the 30 s of zeros behind it, to be read piece by piece.

    ``content_frames`` is the number of frames in the audio itself, its samples // 160; 3,000 of the zeros follow them.
    Making one reads all of the audio for its loudest bin, from which the clamp is measured. It keeps that, and the
    first minutes of what it has computed on the way; the rest is computed again.

    ``audio`` stays the caller's to close, after the last read. ``n_mels`` is 80, or 128 for large-v3 and turbo.
    Raises :class:`AudioError` if it is no positive whole number.
    """

    def __init__(self, audio: AudioReader, n_mels: int = 80) -> None:
        self.content_frames = audio.size // HOP_LENGTH
        self._audio = audio
        self._log_mel = LogMel(audio, n_mels, N_SAMPLES)
        # Frames from this one on lie in the zeros altogether, and are as quiet as can be.
        silent = (audio.size + N_FFT // 2) // HOP_LENGTH + 1
        self._log_max = -np.inf
        self._cache: dict[int, NDArray[np.float32]] = {}  # blocks (M, T) by the frame with which they start
        for start in block_starts(0, silent):
            logs = self._log_mel.block(start)
            self._log_max = max(self._log_max, float(logs.max()))
            if 4 * n_mels * (start + BLOCK_FRAMES) <= CACHE_BYTES:
                self._cache[start] = scale(logs).astype(np.float32)

    def clear_cache(self) -> None:
        """Let go of what was computed on the way. It can still be read."""
        self._cache.clear()

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Frames ``first`` to ``last``: (M, last - first) float32, 0 <= first <= last <= ``content_frames`` + 3,000.

        They are ``log_mel_spectrogram(samples, n_mels, padding=480000)[:, first:last]``, bit for bit.
        Raises :class:`AudioError` for other numbers, and if the sound is closed.
        """
        if not 0 <= first <= last <= self._log_mel.num_frames:
            raise AudioError(
                f"read({first}, {last}): expected frames from 0 to {self._log_mel.num_frames}, first before last"
            )
        self._audio.read(0, 0)  # which raises if it is closed
        mel = np.empty((self._log_mel.n_mels, last - first), np.float32)
        for start in block_starts(first, last):
            block = self._cache[start] if start in self._cache else scale(self._log_mel.block(start))  # (M, T)
            begin, end = max(first, start), min(last, start + block.shape[1])
            mel[:, begin - first : end - first] = block[:, begin - start : end - start]
        return clamp(mel, self._log_max)


class LogMel:
    """The logarithm of the energy in each mel bin of a sound and ``padding`` zeros behind it, block by block.

    ``num_frames`` is the number of frames in all, the one centred on the very end being dropped.
    """

    def __init__(self, audio: AudioReader, n_mels: int, padding: int) -> None:
        self.num_frames = (audio.size + padding) // HOP_LENGTH
        self.n_mels = n_mels
        self._audio, self._padding = audio, padding
        self._filters = mel_filters(n_mels).astype(np.float64)  # (M, 201)
        self._cosines, self._sines = fourier_waves()
        self._window = hann_window()

    def block(self, start: int) -> Float64:
        """The powers of ten (M, T) of the block that starts with this frame."""
        stop = min(start + BLOCK_FRAMES, self.num_frames)
        samples = read_reflected(self._audio, self._padding, start * HOP_LENGTH, (stop - 1) * HOP_LENGTH + N_FFT)
        if not samples.any():  # digital silence, of which there can be hours
            return np.full((self.n_mels, stop - start), np.log10(MIN_ENERGY))
        energy = power(split_frames(samples) * self._window, self._cosines, self._sines)  # (T, 201)
        return log_energy(self._filters @ energy.T)  # (M, 201) (201, T) -> (M, T)


def block_starts(first: int, last: int) -> range:
    """Where the blocks start that hold frames ``first`` to ``last``.

    Blocks lie where they lie, whatever is asked for: how a matrix product rounds can depend on its size, so a frame
    is always computed together with the same others.
    """
    return range(first // BLOCK_FRAMES * BLOCK_FRAMES, last, BLOCK_FRAMES)


def read_reflected(audio: AudioReader, padding: int, start: int, stop: int) -> Float64:
    """Samples ``start`` to ``stop`` of the sound followed by zeros and mirrored outwards by 200 at both ends.

    The mirror puts the middle of frame 0 on sample 0; the end samples themselves are not repeated.

    >>> read_reflected(open_audio(np.arange(1000.0)), 0, 197, 203)
    array([3., 2., 1., 0., 1., 2.])
    """
    last = audio.size + padding - 1
    position = np.abs(np.arange(start, stop) - N_FFT // 2)  # folded at the left end
    position = last - np.abs(last - position)  # and at the right
    lowest = int(position.min())
    samples = audio.read(lowest, int(position.max()) + 1)  # behind its end a sound reads as zeros
    return samples[position - lowest].astype(np.float64)


def split_frames(samples: NDArray[Any]) -> NDArray[Any]:
    """Overlapping frames of 400 samples, 160 apart: (N,) -> (T, 400), a view that copies nothing.

    >>> split_frames(np.arange(720))[:, 0]
    array([  0, 160, 320])
    """
    return sliding_window_view(samples, N_FFT)[::HOP_LENGTH]


def hann_window() -> Float64:
    """A raised cosine over 400 samples, 0 at the first and back to 0 one after the last: (400,).

    It fades a frame's ends, which would otherwise click. "Periodic" is the one that repeats seamlessly.
    """
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)


def fourier_waves() -> tuple[Float64, Float64]:
    """The cosine and the sine of each frequency over the first half of a frame: (201, 201) and (199, 201).

    Row n is sample n; the sine has neither the first nor the middle one, where it is 0 at all frequencies. Column k
    turns k times within a frame, which is k × 40 Hz. The angle's whole turns are taken off as integers.
    """
    turns = np.outer(np.arange(N_FFT // 2 + 1), np.arange(N_FREQUENCIES)) % N_FFT
    angle = 2 * np.pi * turns / N_FFT
    return np.cos(angle), np.sin(angle[1:-1])


def power(windowed: Float64, cosines: Float64, sines: Float64) -> Float64:
    """How much of each frequency is in each frame: (T, 400) -> (T, 201).

    The products with the two waves are the real and the imaginary part of the Fourier transform (the latter with
    the other sign); the sum of their squares does not depend on when the wave started. Over a frame a cosine is the
    same from either end, and a sine the negative, so samples n and 400 - n are first added, or subtracted.
    """
    front, back = windowed[:, 1:200], windowed[:, :200:-1]  # samples 1 to 199, and 399 to 201
    sums = windowed[:, :201].copy()
    sums[:, 1:200] += back
    real = sums @ cosines  # (T, 201) (201, 201) -> (T, 201)
    imaginary = (front - back) @ sines  # (T, 199) (199, 201) -> (T, 201)
    return real * real + imaginary * imaginary


def mel_filters(n_mels: int) -> NDArray[np.float32]:
    """The weight of each frequency in each mel bin: (M, 201) float32.

    Bin i is a triangle that rises from corner i to corner i + 1 and falls to corner i + 2; the corners are M + 2
    points from 0 to 8 kHz, evenly spaced in mels. Each triangle's area is 1, over frequency in Hz. (M. Slaney, 1998,
    "Auditory Toolbox"; these are the numbers of ``librosa.filters.mel(sr=16000, n_fft=400, n_mels=n_mels)``.)

    Raises :class:`AudioError` if ``n_mels`` is not a positive whole number.
    """
    if type(n_mels) is not int or n_mels < 1:
        raise AudioError(f"n_mels: expected a positive whole number, 80 or 128 for Whisper, got {n_mels!r}")
    frequencies = np.arange(N_FREQUENCIES) * (SAMPLE_RATE / N_FFT)  # (201,), in Hz
    corners = mel_to_hertz(np.linspace(0.0, hertz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]  # (M, 1) each
    rising = (frequencies - low) / (peak - low)  # (M, 201)
    falling = (high - frequencies) / (high - peak)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (high - low))).astype(np.float32)


# Slaney's scale: 3 mels for 200 Hz up to 1 kHz, which is 15 mels; above, 27 mels for each factor of 6.4.
MELS_PER_HERTZ = 3 / 200
MIN_LOG_HERTZ = 1000.0
MIN_LOG_MELS = 15.0
MELS_PER_NEPER = float(27 / np.log(6.4))


def hertz_to_mel(hertz: float) -> float:
    """A frequency in mels.

    >>> hertz_to_mel(1000.0), round(hertz_to_mel(6400.0), 9)
    (15.0, 42.0)
    """
    if hertz < MIN_LOG_HERTZ:
        return hertz * MELS_PER_HERTZ
    return MIN_LOG_MELS + float(np.log(hertz / MIN_LOG_HERTZ)) * MELS_PER_NEPER


def mel_to_hertz(mels: Float64) -> Float64:
    """The inverse of :func:`hertz_to_mel`, for an array of any shape."""
    bent = MIN_LOG_HERTZ * np.exp((mels - MIN_LOG_MELS) / MELS_PER_NEPER)
    return np.where(mels < MIN_LOG_MELS, mels / MELS_PER_HERTZ, bent)


def log_energy(energy: Float64) -> Float64:
    """The power of ten of each energy, at least -10, since silence has none: any shape."""
    return np.log10(np.maximum(energy, MIN_ENERGY))


def scale(log: Any) -> Any:
    """Powers of ten to numbers around zero, as the model expects them: any shape."""
    return (log + 4.0) / 4.0


def clamp(mel: NDArray[np.float32], log_max: float) -> NDArray[np.float32]:
    """Raise what lies more than 8 powers of ten below the loudest one of the whole sound, in place: (M, T) scaled."""
    # Rounding keeps order, so clamping the rounded values gives what rounding the clamped ones would.
    return np.maximum(mel, np.float32(scale(log_max - DYNAMIC_RANGE)), out=mel)
