"""openai-whisper's ``whisper.audio``: audio files, padding, and the log-mel spectrogram."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio import load, mel
from ..audio.load import CHUNK_LENGTH, FRAMES_PER_SECOND, HOP_LENGTH, N_FFT, N_FRAMES, N_SAMPLES, SAMPLE_RATE
from .conversion import Tensor, as_array, as_tensor

__all__ = [
    "CHUNK_LENGTH",
    "FRAMES_PER_SECOND",
    "HOP_LENGTH",
    "N_FFT",
    "N_FRAMES",
    "N_SAMPLES",
    "N_SAMPLES_PER_TOKEN",
    "SAMPLE_RATE",
    "TOKENS_PER_SECOND",
    "load_audio",
    "log_mel_spectrogram",
    "mel_filters",
    "pad_or_trim",
]

N_SAMPLES_PER_TOKEN = 2 * HOP_LENGTH  # 320: one position of the encoder's output
TOKENS_PER_SECOND = SAMPLE_RATE // N_SAMPLES_PER_TOKEN  # 50


def load_audio(file: Any, sr: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Return the samples of a file, (N,) float32 from -1 to 1, mono, ``sr`` per second."""
    if sr == SAMPLE_RATE:
        return load.load_audio(file)
    from ..audio.reader import decode_audio

    with load.AudioReader(decode_audio(file, sr).store) as reader:
        return reader.read(0, reader.size)


def pad_or_trim(array: Any, length: int = N_SAMPLES, *, axis: int = -1) -> Any:
    """Cut an array or tensor to ``length`` along ``axis``, or append zeros up to it."""
    fitted = load.pad_or_trim(as_array(array), length, axis=axis)
    return fitted if type(array) is np.ndarray else as_tensor(fitted)


def log_mel_spectrogram(audio: Any, n_mels: int = 80, padding: int = 0, device: Any = None) -> Tensor:
    """Return the log-mel spectrogram (M, T) of a file or of samples (N,) at 16 kHz; ``device`` has no effect."""
    spectrogram: Tensor = as_tensor(mel.log_mel_spectrogram(as_array(audio), n_mels, padding))
    return spectrogram


def mel_filters(device: Any, n_mels: int) -> Tensor:
    """Return the mel filters (M, 201); ``device`` has no effect."""
    filters: Tensor = as_tensor(mel.mel_filters(n_mels))
    return filters
