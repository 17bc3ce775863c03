"""Chapter 10. The part of a model that transcription uses; ``Whisper`` implements it.

It is a protocol so that this chapter does not import the class that uses the chapter.

Walkthrough: section 13.
"""

from typing import Protocol

from ..common.backend import Array, Array2D
from ..decoding.decode import DecodingResult, WindowRequest
from ..model.config import WhisperConfig
from ..model.engine import Engine
from ..tokenizer.tokenizer import Tokenizer


class SpeechModel(Protocol):
    """A model with a tokenizer, which encodes windows of audio and decodes them."""

    @property
    def name(self) -> str:
        """The model's name in messages."""
        ...

    @property
    def config(self) -> WhisperConfig:
        """Its hyperparameters."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to token ids and back."""
        ...

    @property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """The (decoder block, head) pairs whose attention follows the audio; empty if none are known."""
        ...

    @property
    def is_multilingual(self) -> bool:
        """True if it knows languages other than English."""
        ...

    @property
    def engine(self) -> Engine:
        """The scheduled encoder and decoder."""
        ...

    def encode(self, mel: Array) -> Array:
        """Encode windows: mel (B, M, 3000) -> features (B, 1500, D)."""
        ...

    def detect_language(self, mel: Array2D) -> tuple[int, dict[str, float]]:
        """Return the language token of a window, mel (M, 3000), and the probability of each language by code."""
        ...

    def decode_window(self, request: WindowRequest) -> DecodingResult:
        """Decode a window whose options have been checked."""
        ...
