"""NaN and infinity anywhere in a model lead to an error instead of text."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minwhisper
from conftest import real_model
from minwhisper.common.finite import all_finite, check_finite, error_context
from minwhisper.errors import NumericalError, OptionError
from minwhisper.writers.render import render

NOTHING = np.zeros(16_000, np.float32)
Break = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -np.nan])
def test_all_finite(dtype: str, bad: float, rng: np.random.Generator) -> None:
    array = rng.standard_normal((37, 11)).astype(dtype)
    array[0, 0] = np.finfo(dtype).max
    array[0, 1] = -np.finfo(dtype).max
    assert all_finite(array)
    for place in ((0, 0), (20, 5), (36, 10)):
        other = array.copy()
        other[place] = bad
        assert not all_finite(other)
        assert not all_finite(other.T[::2, ::-2]) or place[1] % 2
    assert all_finite(array[:0])
    assert all_finite(np.arange(3))


def test_error_names_the_outermost_context() -> None:
    check_finite([1.0, -np.inf], "a value")  # -inf is allowed: a suppressed token
    for bad in (np.nan, np.inf):
        message = rf"^here: a value: expected a finite value, the model computed {bad}"
        with pytest.raises(NumericalError, match=message), error_context("here"), error_context("inner"):
            check_finite([0.0, bad], "a value")


@pytest.fixture(scope="module")
def plain() -> minwhisper.Whisper:
    return real_model("tiny.en", plain=True)


def put(*path: Any, value: float = np.nan) -> Break:
    """Return a function that writes a value into the tensor at this path of names."""

    def change(weights: dict[str, Any]) -> None:
        array: Any = weights
        for name in path:
            array = array[name]
        array.flat[array.size // 2] = value

    return change


PLACES: dict[str, Break] = {
    "encoder bias": put("encoder", "blocks", 0, "mlp", "fc1", "bias"),
    "encoder infinity": put("encoder", "blocks", 0, "mlp", "fc1", "bias", value=np.inf),
    "convolution": put("encoder", "conv1", "weight"),
    "decoder norm": put("decoder", "norm", "weight"),
    "cross-attention": put("decoder", "blocks", 1, "cross_attention", "value", "weight"),
    "overflowing activations": put("decoder", "norm", "weight", value=3e38),
}


@pytest.fixture(params=PLACES)
def broken(request: pytest.FixtureRequest, plain: minwhisper.Whisper) -> Any:
    """Yield a model with one wrong value in its weights, and restore it afterwards."""
    kept = {name: array.copy() for name, array in minwhisper.model.weight_names.flatten(plain.weights)}
    PLACES[request.param](plain.weights)
    yield plain
    for name, array in minwhisper.model.weight_names.flatten(plain.weights):
        array[...] = kept[name]


NOT_FINITE = r"^tiny\.en: window from 0\.00 s: .*expected a finite value.*download the model"
MODES: list[dict[str, Any]] = [  # other than with fallback
    {"beam_size": 2, "temperature": 0.0},
    {"temperature": 0.5, "best_of": 2},
    {"batch_size": 2},
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_transcribe_fails_with_nan(broken: minwhisper.Whisper) -> None:
    with pytest.raises(NumericalError, match=NOT_FINITE):
        broken.transcribe(NOTHING, sample_len=3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("broken", ["decoder norm", "overflowing activations"], indirect=True)  # NaN, infinity
def test_transcribe_fails_with_nan_in_every_mode(broken: minwhisper.Whisper) -> None:
    for mode in MODES:
        with pytest.raises(NumericalError, match=NOT_FINITE):
            broken.transcribe(NOTHING, sample_len=3, **mode)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_decode_fails_with_nan(plain: minwhisper.Whisper, broken: minwhisper.Whisper) -> None:
    features = np.full((1500, 384), np.nan, np.float32)
    with pytest.raises(NumericalError, match=r"^tiny\.en: window 1: "):
        plain.decode(features)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_detect_language_fails_with_nan(base: minwhisper.Whisper) -> None:
    with pytest.raises(NumericalError, match=r"^base: the probability of a language"):
        base.detect_language(np.full((1500, 512), np.nan, np.float32))
    with pytest.raises(NumericalError, match=r"^base: window 1: the probability of a language"):
        base.decode(np.full((1500, 512), np.nan, np.float32))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_json_output_has_no_nan(bad: float) -> None:
    segment = {"id": 0, "start": 0.0, "end": 1.0, "text": " a", "avg_logprob": -0.5}
    transcript: Any = {"text": " a", "segments": [segment], "language": "en"}
    assert json.loads(render(transcript, "json")) == transcript
    segment["avg_logprob"] = bad
    with pytest.raises(OptionError, match="expected finite numbers"):
        render(transcript, "json")
