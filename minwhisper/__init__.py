"""minwhisper: OpenAI's Whisper written from scratch in NumPy, in the order in which sound becomes text.

``walkthrough.md`` goes through all of it with a real recording; the docstring of each chapter names its section there.
``minwhisper walkthrough`` runs that text.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "DecodingOptions": "options",
    "DecodingResult": "decoding",
    "MinWhisperError": "errors",
    "Tokenizer": "tokenizer",
    "Transcription": "transcribe",
    "TranscriptionOptions": "options",
    "Whisper": "model",
    "WhisperConfig": "config",
    "available_models": "sources",
    "load_audio": "audio",
    "load_model": "model",
    "log_mel_spectrogram": "mel",
    "pad_or_trim": "audio",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command handles signals before it imports NumPy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
