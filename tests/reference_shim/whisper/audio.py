"""As in openai-whisper."""

from minwhisper.audio.load import SAMPLE_RATE, load_audio
from minwhisper.audio.mel import log_mel_spectrogram

__all__ = ["SAMPLE_RATE", "load_audio", "log_mel_spectrogram"]
