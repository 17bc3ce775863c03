"""minwhisper: OpenAI's Whisper written from scratch in NumPy, in the order in which sound becomes text.

``walkthrough.md`` goes through all of it with a real recording; the docstring of each chapter names its section there.
``minwhisper walkthrough`` runs that text.
"""

from .audio import load_audio, pad_or_trim
from .config import WhisperConfig
from .decoding import DecodingResult
from .errors import MinWhisperError
from .mel import log_mel_spectrogram
from .model import Whisper, load_model
from .options import DecodingOptions, TranscriptionOptions
from .sources import available_models
from .tokenizer import Tokenizer
from .transcribe import Transcription

__version__ = "0.1.0"

__all__ = [
    "DecodingOptions",
    "DecodingResult",
    "MinWhisperError",
    "Tokenizer",
    "Transcription",
    "TranscriptionOptions",
    "Whisper",
    "WhisperConfig",
    "available_models",
    "load_audio",
    "load_model",
    "log_mel_spectrogram",
    "pad_or_trim",
]
