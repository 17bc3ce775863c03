"""Chapter 1: the log-mel spectrogram of a long recording, computed while it is read.

The spectrogram of an hour of audio takes 115 MB, but transcription needs only one window of 30 s at a time.
``Spectrogram`` computes the frames of a window when they are read.

Walkthrough: section 2.
"""

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError
from .load import HOP_LENGTH, N_FFT, N_SAMPLES, AudioReader
from .mel import BLOCK_FRAMES, clamp, log_mel_block, mel_filters, scale

CACHE_BYTES = 1 << 23  # bytes of a spectrogram that are cached, 8 MiB: four minutes of 80 bins


class Spectrogram:
    """The log-mel spectrogram of an open recording and of 30 s of zeros after it, read window by window.

    ``content_frames`` is the number of frames of the audio itself, its samples // 160; 3,000 frames of zeros follow.
    The constructor reads all of the audio once, to find the loudest bin, which sets the level of the clamp. It caches
    the spectrogram of the first minutes; the rest is computed again when it is read.

    The caller closes ``audio`` after the last read. ``n_mels`` is 80, or 128 for large-v3 and turbo.
    Raises ``AudioError`` if ``n_mels`` is not a positive integer.
    """

    def __init__(self, audio: AudioReader, n_mels: int = 80) -> None:
        self.content_frames = audio.size // HOP_LENGTH
        self._audio, self._filters = audio, mel_filters(n_mels)
        self._log_max = -np.inf
        self._cache: dict[int, NDArray[np.float32]] = {}  # start of a block -> block (M, T)
        silent = (audio.size + N_FFT // 2) // HOP_LENGTH + 1  # the first frame that has nothing but zeros
        for start in range(0, silent, BLOCK_FRAMES):
            log_energy = self._block(start)
            self._log_max = max(self._log_max, float(log_energy.max()))
            if 4 * n_mels * (start + BLOCK_FRAMES) <= CACHE_BYTES:
                self._cache[start] = scale(log_energy).astype(np.float32)

    def _block(self, start: int) -> NDArray[np.float64]:
        return log_mel_block(self._audio, N_SAMPLES, self._filters, start)

    def clear_cache(self) -> None:
        """Free the cached part; it is computed again when it is read."""
        self._cache.clear()

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Return frames ``first`` to ``last``: (M, last - first) float32, 0 <= first <= last <= content_frames + 3,000.

        They equal ``log_mel_spectrogram(samples, n_mels, padding=480000)[:, first:last]`` bit for bit. So blocks always
        start at multiples of 300 frames, because the rounding of a matrix product can depend on its size.

        Raises ``AudioError`` for other frames, and if the audio is closed.
        """
        frames = (self._audio.size + N_SAMPLES) // HOP_LENGTH
        if not 0 <= first <= last <= frames:
            raise AudioError(f"read({first}, {last}): expected frames from 0 to {frames}, the first before the last")
        self._audio.read(0, 0)  # raises if the audio is closed
        mel = np.empty((len(self._filters), last - first), np.float32)  # (M, T)
        for start in range(first // BLOCK_FRAMES * BLOCK_FRAMES, last, BLOCK_FRAMES):
            block = self._cache[start] if start in self._cache else scale(self._block(start))  # (M, T)
            begin, end = max(first, start), min(last, start + block.shape[1])
            mel[:, begin - first : end - first] = block[:, begin - start : end - start]
        return clamp(mel, self._log_max)
