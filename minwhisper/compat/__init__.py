"""The interface of openai-whisper 20250625 on top of this package, for programs that were written for it.

``import minwhisper.compat as whisper`` runs most of them. If a program's own imports cannot be changed, call
``install`` before them: then ``import whisper`` and ``from whisper.audio import …`` find this package.

In: what openai-whisper's functions take, torch tensors included (this package itself never imports torch). Out: the
same results, with NumPy arrays in place of tensors. These arrays have the few methods of a tensor that such programs
call, such as ``.to(model.device)``. ``fp16`` is accepted and has no effect, since precision is chosen when a model is
loaded. Options that openai-whisper ignores are ignored here too.

Read ``conversion`` (arrays, devices), then ``model``. Every other file has the name and the functions of a module of
openai-whisper, whose own tests run on this package: see ``tests/parity/test_reference_parity.py``.
"""

import sys

from . import audio, conversion, decoding, model, timing, tokenizer, utils
from .audio import load_audio, log_mel_spectrogram, pad_or_trim
from .decoding import DecodingOptions, DecodingResult, decode, detect_language
from .model import ModelDimensions, Whisper, available_models, load_model
from .transcribe import transcribe

__version__ = "20250625"  # of the interface

__all__ = [
    "DecodingOptions",
    "DecodingResult",
    "ModelDimensions",
    "Whisper",
    "audio",
    "available_models",
    "conversion",
    "decode",
    "decoding",
    "detect_language",
    "install",
    "load_audio",
    "load_model",
    "log_mel_spectrogram",
    "model",
    "pad_or_trim",
    "timing",
    "tokenizer",
    "transcribe",
    "utils",
]


def install() -> None:
    """Make ``import whisper`` mean this package, for the rest of the process, even if openai-whisper is installed.

    A module that has already imported openai-whisper keeps it.
    """
    for name in [name for name in sys.modules if name == "whisper" or name.startswith("whisper.")]:
        del sys.modules[name]
    for name in [name for name in sys.modules if name == __name__ or name.startswith(f"{__name__}.")]:
        sys.modules[f"whisper{name.removeprefix(__name__)}"] = sys.modules[name]
