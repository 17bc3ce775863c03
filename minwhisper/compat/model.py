"""openai-whisper's ``whisper.model``, and its functions that load a model."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self

from ..checkpoints.sources import available_models
from ..fast.devices import resolve_device
from ..model.config import WhisperConfig
from ..model.weight_names import flatten
from ..whisper import Whisper as NativeWhisper
from ..whisper import load_model as load_native_model
from .conversion import Device, Tensor, as_array, as_tensor, device_name
from .decoding import decode, detect_language
from .tokenizer import remember
from .transcribe import transcribe

__all__ = ["ModelDimensions", "Whisper", "available_models", "dimensions", "load_model"]


@dataclass
class ModelDimensions:
    """The hyperparameters of a model, under openai-whisper's names."""

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int


def dimensions(config: WhisperConfig) -> ModelDimensions:
    """Return a configuration under openai-whisper's names."""
    return ModelDimensions(
        n_mels=config.num_mel_bins,
        n_audio_ctx=config.max_source_positions,
        n_audio_state=config.d_model,
        n_audio_head=config.encoder_attention_heads,
        n_audio_layer=config.encoder_layers,
        n_vocab=config.vocab_size,
        n_text_ctx=config.max_target_positions,
        n_text_state=config.d_model,
        n_text_head=config.decoder_attention_heads,
        n_text_layer=config.decoder_layers,
    )


class Whisper:
    """A model with openai-whisper's methods; ``wrapped`` is the model of this package that computes."""

    transcribe = transcribe
    decode = decode
    detect_language = detect_language

    def __init__(self, wrapped: NativeWhisper) -> None:
        self.wrapped = wrapped
        self.dims = dimensions(wrapped.config)

    @property
    def device(self) -> Device:
        """The device of the weights: ``"cpu"``, ``"cuda:0"``, …; with ``type`` and ``index``."""
        return Device(self.wrapped.device)

    @property
    def is_multilingual(self) -> bool:
        """True for a model that knows languages other than English."""
        return self.wrapped.is_multilingual

    @property
    def num_languages(self) -> int:
        """The number of languages in the vocabulary: 99, or 100."""
        return self.dims.n_vocab - 51765 - self.is_multilingual

    @property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """The (decoder block, head) pairs whose attention follows the audio."""
        return self.wrapped.alignment_heads

    @property
    def encoder(self) -> Callable[[Any], Any]:
        """The encoder as a function: ``embed_audio``."""
        return self.embed_audio

    @property
    def decoder(self) -> Callable[[Any, Any], Any]:
        """The decoder as a function: ``logits``."""
        return self.logits

    def embed_audio(self, mel: Any) -> Any:
        """Encode windows: mel (B, M, 3000) -> features (B, T, D)."""
        return as_tensor(self.wrapped.encode(as_array(mel)))

    def logits(self, tokens: Any, audio_features: Any) -> Any:
        """Score every possible next token: tokens (B, S) and features (B, T, D) -> logits (B, S, V)."""
        return as_tensor(self.wrapped.logits(as_array(tokens), as_array(audio_features)))

    def __call__(self, mel: Any, tokens: Any) -> Any:
        """Return the logits (B, S, V) of tokens (B, S) for mel (B, M, 3000)."""
        return self.logits(tokens, self.embed_audio(mel))

    def parameters(self) -> Iterator[Tensor]:
        """Yield the weights."""
        return (as_tensor(weight) for _, weight in flatten(self.wrapped.weights))

    def to(self, *target: Any, device: Any = None, **_options: Any) -> Self:
        """Move the model to a device, for which its weights are loaded again; a dtype has no effect."""
        named = [one for one in (*target, device) if isinstance(one, str | int) or type(one).__name__ == "device"]
        place = resolve_device(device_name(named[0])) if named else self.wrapped.device
        if place != self.wrapped.device:
            self.wrapped = load_native_model(self.wrapped.name, place, self.wrapped.dtype)
        return self

    def cuda(self, device: Any = "cuda") -> Self:
        """Move the model to a GPU."""
        return self.to(device)

    def cpu(self) -> Self:
        """Move the model to the CPU."""
        return self.to("cpu")

    def eval(self) -> Self:
        """Return the model, which is always in evaluation mode."""
        return self

    def half(self) -> Self:
        """Return the model unchanged: its precision was chosen when it was loaded."""
        return self

    float = half

    def __repr__(self) -> str:
        return repr(self.wrapped)


def load_model(
    name: str | PathLike[str], device: Any = None, download_root: str | None = None, in_memory: bool = False
) -> Whisper:
    """Load a model.

    Args:
        name: a published name, a Hugging Face hub id, or a folder: see ``minwhisper.load_model``.
        device: a name such as "cuda" or a ``torch.device``; by default a GPU if one can be used.
        download_root: has no effect, and a warning says so: weights are kept in the hub's cache.
        in_memory: has no effect.
    """
    if download_root is not None:
        warnings.warn(
            "download_root has no effect: weights are in the Hugging Face cache; to move it, set HF_HOME",
            stacklevel=2,
        )
    wrapped = load_native_model(name, device_name(device))
    remember(wrapped.tokenizer)
    return Whisper(wrapped)
