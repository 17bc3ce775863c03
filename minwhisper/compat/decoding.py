"""openai-whisper's ``whisper.decoding``: decode windows, and detect their language."""

from dataclasses import dataclass, fields, replace
from typing import Any

from ..decoding import options as native
from ..decoding.decode import DecodingResult, compression_ratio
from .conversion import as_array, as_tensor, wrapped_model

__all__ = ["DecodingOptions", "DecodingResult", "compression_ratio", "decode", "detect_language"]


@dataclass(frozen=True)
class DecodingOptions(native.DecodingOptions):
    """Options for decoding a window: those of ``DecodingOptions``, and ``fp16``."""

    fp16: bool = True  # has no effect: precision is chosen when a model is loaded


def decode(model: Any, mel: Any, options: native.DecodingOptions | None = None, **changes: Any) -> Any:
    """Decode a window, mel (M, 3000) or features (T, D), or a batch of them.

    ``changes`` are fields of ``DecodingOptions`` that differ from ``options``; ``fp16`` and ``verbose`` have no
    effect. Returns a ``DecodingResult``, for a batch a list of them.
    """
    given = {} if options is None else {field.name: getattr(options, field.name) for field in fields(options)}
    whisper, window = wrapped_model(model), as_array(mel)
    ignored = {"fp16", "verbose", *(() if whisper.is_multilingual else ("language", "task"))}
    found = whisper.decode(window, **{name: v for name, v in {**given, **changes}.items() if name not in ignored})
    return [_with_tensor(one) for one in found] if window.ndim == 3 else _with_tensor(found)


def _with_tensor(result: DecodingResult) -> DecodingResult:
    return replace(result, audio_features=as_tensor(result.audio_features))


def detect_language(model: Any, mel: Any, tokenizer: Any = None) -> tuple[Any, Any]:
    """Detect the language of a window, mel (M, 3000) or features (T, D), or of a batch of them.

    Returns the language's token and a mapping of each language's code to its probability, for a batch the tokens (B,)
    and a list of mappings. ``tokenizer`` has no effect: a model has its own. Raises ``ValueError`` for an English-only
    model.
    """
    tokens, probabilities = wrapped_model(model).detect_language(as_array(mel))
    return as_tensor(tokens), probabilities
