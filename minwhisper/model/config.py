"""The numbers that define a Whisper model, and those of the published ones.

A model is an encoder that turns a log-mel spectrogram into features and a decoder that turns features and the
tokens so far into the next token. Both are stacks of the same block; all sizes differ only in the numbers below.
(Radford et al., 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", table 1.)

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
"""The most that a configuration may state: many times what any published model has, and little enough that names and
shapes of such a model can be listed at once."""


@dataclass(frozen=True)
class WhisperConfig:
    """The shape of a Whisper model. Names are those of Hugging Face's ``config.json``."""

    vocab_size: int  # V: tokens, special ones included
    num_mel_bins: int  # M: rows of the spectrogram
    d_model: int  # D: width of the residual stream, in both halves
    encoder_layers: int
    encoder_attention_heads: int  # H; each head is d_model / H wide
    encoder_ffn_dim: int  # F: width of the MLP's hidden layer
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    max_source_positions: int = 1500  # T: audio positions, two spectrogram frames each: 30 s
    max_target_positions: int = 448  # S: text positions, the prompt included

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
        """Read the keys that matter from a Hugging Face ``config.json``; others are left alone.

        Raises :class:`ConfigError` naming the keys that are missing, or a setting that Whisper never has.
        """
        names = {field.name for field in fields(cls)}
        optional = {"max_source_positions", "max_target_positions"}
        missing = sorted(names - optional - set(values))
        if missing:
            raise ConfigError(f"config.json lacks {', '.join(missing)}: is this a Whisper checkpoint?")
        for key, only in (("activation_function", "gelu"), ("scale_embedding", False)):
            if values.get(key, only) != only:
                raise ConfigError(f"{key}: Whisper has {only!r}, this config.json says {short_repr(values[key])}")
        return cls(**{name: values[name] for name in names if name in values})

    @property
    def is_multilingual(self) -> bool:
        """Whether the vocabulary is one of the multilingual ones; the English one is the smallest."""
        return self.vocab_size >= 51865


def _published(
    vocab: int, mels: int, width: int, layers: int, heads: int, decoder_layers: int | None = None
) -> WhisperConfig:
    """A published shape: the same width, heads and 4 × MLP in both halves."""
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
"""The configurations that OpenAI published, by the short name that :func:`minwhisper.load_model` takes."""

ALIASES: dict[str, str] = {"large": "large-v3", "turbo": "large-v3-turbo"}
"""Second names of published models, as openai-whisper has them."""
