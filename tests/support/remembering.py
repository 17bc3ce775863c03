"""Models that encode each spectrogram once, in place of those of ``conftest.py``.

A folder whose tests decode the same few clips in many ways imports these fixtures in its ``conftest.py``.
"""

from collections.abc import Callable
from copy import copy
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
    model.engine.encode = remembering(model.engine.encode)  # type: ignore[method-assign]
    return model


@pytest.fixture(scope="session")
def tiny_en(tiny_en: minwhisper.Whisper) -> minwhisper.Whisper:
    """Return ``tiny_en`` with such a memory."""
    return with_memory(tiny_en)


@pytest.fixture(scope="session")
def base(base: minwhisper.Whisper) -> minwhisper.Whisper:
    """Return ``base`` with such a memory."""
    return with_memory(base)


@pytest.fixture(scope="session", params=["tiny.en", "base"])
def model(request: pytest.FixtureRequest) -> minwhisper.Whisper:
    """Return each real model in turn. That of ``conftest.py`` is made once, for whichever folder asks first."""
    return request.getfixturevalue(request.param.replace(".", "_"))


@pytest.fixture(scope="session")
def pytorch(pytorch: Callable[[minwhisper.Whisper], Any]) -> Callable[[minwhisper.Whisper], Any]:
    """Return a function that gives openai-whisper's model with the weights of ours, and such a memory."""
    made: dict[str, Any] = {}

    def get(model: minwhisper.Whisper) -> Any:
        if model.name not in made:
            theirs = copy(pytorch(model))  # other tests go on with the original
            encoder = copy(theirs.encoder)
            encoder.forward = remembering(encoder.forward)
            theirs._modules = {**theirs._modules, "encoder": encoder}
            made[model.name] = theirs
        return made[model.name]

    return get
