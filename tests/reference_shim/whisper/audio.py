"""As in openai-whisper."""

from minwhisper.audio import SAMPLE_RATE, load_audio
from minwhisper.mel import log_mel_spectrogram

__all__ = ["SAMPLE_RATE", "load_audio", "log_mel_spectrogram"]
