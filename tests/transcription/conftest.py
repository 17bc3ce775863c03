"""Models that encode each spectrogram only once: most of these tests decode the same few clips."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import minwhisper


def remembering(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that encodes each spectrogram once, and returns the stored features afterwards."""
    known: dict[bytes, Any] = {}

    def encode_once(mel: Any) -> Any:
        key = bytes(str(mel.shape), "ascii") + np.ascontiguousarray(mel).tobytes()
        if key not in known:
            known[key] = encode(mel)
            if isinstance(known[key], np.ndarray):
                known[key].setflags(write=False)
        return known[key]

    return encode_once


def with_memory(model: minwhisper.Whisper) -> minwhisper.Whisper:
    """Return a copy of a model that encodes each spectrogram once."""
    model = replace(model)
    model.engine.encode = remembering(model.engine.encode)
    return model


@pytest.fixture(scope="session")
def tiny_en(tiny_en: minwhisper.Whisper) -> minwhisper.Whisper:
    return with_memory(tiny_en)


@pytest.fixture(scope="session")
def base(base: minwhisper.Whisper) -> minwhisper.Whisper:
    return with_memory(base)


@pytest.fixture(scope="session")
def pytorch(pytorch: Callable[[minwhisper.Whisper], Any]) -> Callable[[minwhisper.Whisper], Any]:
    """Return a function that builds openai-whisper's model with the weights of ours; it also encodes only once."""
    made: dict[str, Any] = {}

    def get(model: minwhisper.Whisper) -> Any:
        if model.name not in made:
            made[model.name] = pytorch(model)
            made[model.name].encoder.forward = remembering(made[model.name].encoder.forward)
        return made[model.name]

    return get
