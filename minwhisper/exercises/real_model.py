"""The real model of the exercises: tiny.en, if its weights are on this machine. Nothing is downloaded."""

from functools import cache
from typing import Any

import numpy as np

from ..audio.load import pad_or_trim
from ..audio.mel import log_mel_spectrogram
from ..checkpoints.sources import find_checkpoint
from ..common.backend import Array
from ..errors import MinWhisperError
from ..parity.comparison import clip_samples
from ..whisper import Whisper, load_model

NAME = "tiny.en"


@cache
def real_model() -> Whisper | None:
    """Return the model, or None if its weights are neither in a package nor in the hub's cache."""
    try:
        find_checkpoint(NAME, local_only=True)
        return load_model(NAME, plain=True)
    except MinWhisperError:
        return None


def weights() -> Any:
    """Return the model's weights as nested mappings; call it only if there is a ``real_model``."""
    model = real_model()
    assert model is not None
    return model.weights


@cache
def clip_mel() -> Array:
    """Return the log-mel spectrogram of the package's clip, filled up with silence: (80, 3000)."""
    return log_mel_spectrogram(pad_or_trim(clip_samples()))


@cache
def clip_features() -> Array:
    """Return the features of the clip, the encoder's output: (1, 1500, 384)."""
    model = real_model()
    assert model is not None
    return model.engine.encode(clip_mel()[None])


@cache
def clip_logits(tokens: tuple[int, ...]) -> Array:
    """Return the logits after these tokens of the clip's text, start of transcript included: (S, V)."""
    model = real_model()
    assert model is not None
    return np.asarray(model.logits([list(tokens)], clip_features())[0])
