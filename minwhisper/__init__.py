"""minwhisper: OpenAI's Whisper written from scratch in NumPy. The folders are chapters, from audio to text.

``walkthrough.md`` is an executable document that explains all of it with a real recording: ``minwhisper walkthrough``
runs it. The docstring of each chapter names its section there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audio.load import load_audio, pad_or_trim
    from .audio.mel import log_mel_spectrogram
    from .checkpoints.sources import available_models
    from .decoding.decode import DecodingResult
    from .decoding.options import DecodingOptions
    from .errors import MinWhisperError
    from .model.config import WhisperConfig
    from .parity.tracing import trace
    from .tokenizer.tokenizer import Tokenizer
    from .transcription.chunking import cut_at_silence
    from .transcription.options import TranscriptionOptions
    from .transcription.transcribe import Transcription
    from .whisper import Whisper, load_model
    from .writers.files import write_transcript
    from .writers.render import render

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
    "cut_at_silence",
    "load_audio",
    "load_model",
    "log_mel_spectrogram",
    "pad_or_trim",
    "render",
    "trace",
    "write_transcript",
]

_MODULES = {
    "DecodingOptions": "decoding.options",
    "DecodingResult": "decoding.decode",
    "MinWhisperError": "errors",
    "Tokenizer": "tokenizer.tokenizer",
    "Transcription": "transcription.transcribe",
    "TranscriptionOptions": "transcription.options",
    "Whisper": "whisper",
    "WhisperConfig": "model.config",
    "available_models": "checkpoints.sources",
    "cut_at_silence": "transcription.chunking",
    "load_audio": "audio.load",
    "load_model": "whisper",
    "log_mel_spectrogram": "audio.mel",
    "pad_or_trim": "audio.load",
    "render": "writers.render",
    "trace": "parity.tracing",
    "write_transcript": "writers.files",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the command can handle signals before NumPy is imported."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
