"""Hyperparameters: the shape of a Whisper model, and the shapes of the published ones.

A model is an encoder that turns a log-mel spectrogram into features, and a decoder that turns the features and the
tokens so far into logits for the next token. Both are stacks of blocks. The sizes, from tiny to large, differ only in
the hyperparameters below. (Radford et al., 2022, "Robust Speech Recognition via Large-Scale Weak Supervision",
table 1.)

Walkthrough: section 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from ..common.untrusted import check_integer
from ..errors import ConfigError
from ..printable import short_repr

LIMITS = {
    "vocab_size": 1_000_000,
    "num_mel_bins": 1_000,
    "d_model": 16_384,
    "encoder_layers": 256,
    "encoder_attention_heads": 1_024,
    "encoder_ffn_dim": 131_072,
    "decoder_layers": 256,
    "decoder_attention_heads": 1_024,
    "decoder_ffn_dim": 131_072,
    "max_source_positions": 30_000,
    "max_target_positions": 30_000,
}
"""Upper limits of a configuration: far above any published model, and low enough to list all names and shapes."""


@dataclass(frozen=True)
class WhisperConfig:
    """The hyperparameters of a Whisper model, with the names of Hugging Face's ``config.json``."""

    vocab_size: int  # V: number of tokens, including special tokens
    num_mel_bins: int  # M: number of rows of the spectrogram
    d_model: int  # D: width of the residual stream in encoder and decoder
    encoder_layers: int
    encoder_attention_heads: int  # H: number of heads, each of width K = D / H
    encoder_ffn_dim: int  # F: hidden width of the MLP
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    max_source_positions: int = 1500  # T: audio positions, one per two frames of the spectrogram: 30 s
    max_target_positions: int = 448  # S: text positions, including the prompt

    def __post_init__(self) -> None:
        for field in fields(self):
            check_integer(field.name, getattr(self, field.name), 1, LIMITS[field.name])
        for half, heads in (("encoder", self.encoder_attention_heads), ("decoder", self.decoder_attention_heads)):
            if self.d_model % heads:
                raise ConfigError(
                    f"{half}_attention_heads: {heads} heads do not divide d_model, {self.d_model}, evenly"
                )
        if self.d_model % 2 or self.d_model < 4:
            raise ConfigError(f"d_model: expected an even width from 4 (sines and cosines), got {self.d_model}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the hyperparameters from a Hugging Face ``config.json``; other keys are ignored.

        Raises ``ConfigError`` for missing keys, or for a setting that Whisper does not have.
        """
        names = {field.name for field in fields(cls)}
        optional = {"max_source_positions", "max_target_positions"}
        missing = sorted(names - optional - set(values))
        if missing:
            raise ConfigError(f"config.json lacks {', '.join(missing)}: is this a Whisper checkpoint?")
        for key, only in (("activation_function", "gelu"), ("scale_embedding", False)):
            if values.get(key, only) != only:
                raise ConfigError(f"{key}: Whisper has {only!r}, this config.json has {short_repr(values[key])}")
        return cls(**{name: values[name] for name in names if name in values})

    @property
    def is_multilingual(self) -> bool:
        """True for a multilingual vocabulary; the English-only vocabulary is smaller."""
        return self.vocab_size >= 51865


def _published(
    vocab: int, mels: int, width: int, layers: int, heads: int, decoder_layers: int | None = None
) -> WhisperConfig:
    """Return a published configuration: encoder and decoder have the same width and heads, and F = 4 D."""
    return WhisperConfig(
        vocab_size=vocab,
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_layers=decoder_layers or layers,
        decoder_attention_heads=heads,
        decoder_ffn_dim=4 * width,
    )


PUBLISHED: dict[str, WhisperConfig] = {
    "tiny.en": _published(51864, 80, 384, 4, 6),
    "tiny": _published(51865, 80, 384, 4, 6),
    "base.en": _published(51864, 80, 512, 6, 8),
    "base": _published(51865, 80, 512, 6, 8),
    "small.en": _published(51864, 80, 768, 12, 12),
    "small": _published(51865, 80, 768, 12, 12),
    "medium.en": _published(51864, 80, 1024, 24, 16),
    "medium": _published(51865, 80, 1024, 24, 16),
    "large-v1": _published(51865, 80, 1280, 32, 20),
    "large-v2": _published(51865, 80, 1280, 32, 20),
    "large-v3": _published(51866, 128, 1280, 32, 20),
    "large-v3-turbo": _published(51866, 128, 1280, 32, 20, decoder_layers=4),
}
"""The models that OpenAI published, by the name that ``load_model`` accepts."""

ALIASES: dict[str, str] = {"large": "large-v3", "turbo": "large-v3-turbo"}
"""Other names of published models, as in openai-whisper."""
