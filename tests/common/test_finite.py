"""NaN or infinity anywhere in a model leads to an error instead of text."""

import numpy as np
import pytest

import minwhisper
from minwhisper.common.finite import all_finite, check_finite, error_context
from minwhisper.errors import NumericalError, OptionError
from minwhisper.model.config import WhisperConfig
from minwhisper.model.weights import random_weights
from minwhisper.writers.render import render
from vocabularies import made_up_tokenizer


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_all_finite_finds_nan_and_infinity_anywhere(dtype, rng):
    array = rng.standard_normal((37, 11)).astype(dtype)
    array[0, :2] = np.finfo(dtype).max, -np.finfo(dtype).max
    assert all_finite(array)
    for place, bad in (((0, 0), np.nan), ((20, 4), np.inf), ((36, 10), -np.inf)):
        other = array.copy()
        other[place] = bad
        assert not all_finite(other)
        assert not all_finite(other.T[::2, ::-2])
    assert all_finite(array[:0])
    assert all_finite(np.arange(3))


def test_error_names_the_outermost_context():
    check_finite([1.0, -np.inf], "a value")  # -inf is allowed: it marks a suppressed token
    for bad in (np.nan, np.inf):
        message = rf"^here: a value: expected a finite value, the model computed {bad}"
        with pytest.raises(NumericalError, match=message), error_context("here"), error_context("inner"):
            check_finite([0.0, bad], "a value")


PLACES = {
    "encoder infinity": (("encoder", "blocks", 0, "mlp", "fc1", "bias"), np.inf),
    "cross-attention": (("decoder", "blocks", 1, "cross_attention", "value", "weight"), np.nan),
    "overflowing activations": (("decoder", "norm", "weight"), 3e38),
}
MODES = [
    {},  # with fallback
    {"beam_size": 2, "temperature": 0.0},
    {"temperature": 0.5, "best_of": 2},
    {"batch_size": 2},
]


def made_up(vocab_size):
    """Return a small model with random weights, which a test may change."""
    sizes = {"num_mel_bins": 80, "d_model": 16, "max_source_positions": 1500}
    for half in ("encoder", "decoder"):
        sizes |= {f"{half}_layers": 2, f"{half}_attention_heads": 2, f"{half}_ffn_dim": 24}
    config = WhisperConfig(vocab_size=vocab_size, **sizes)
    weights = random_weights(config, 0, "float32", "cpu")
    return minwhisper.Whisper(config, weights, made_up_tokenizer(vocab_size), name="made up", plain=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("place", PLACES)
def test_transcribe_fails_with_a_wrong_weight_in_every_mode(place):
    model = made_up(51864)
    names, value = PLACES[place]
    array = model.weights
    for name in names:
        array = array[name]
    array[...] = value
    message = r"^made up: window from 0\.00 s: .*expected a finite value.*download the model"
    for mode in MODES:
        with pytest.raises(NumericalError, match=message):
            model.transcribe(np.zeros(16_000, np.float32), sample_len=3, **mode)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_decoding_and_language_detection_fail_with_nan():
    features = np.full((1500, 16), np.nan, np.float32)
    with pytest.raises(NumericalError, match=r"^made up: window 1: "):
        made_up(51864).decode(features)
    multilingual = made_up(51865)
    with pytest.raises(NumericalError, match=r"^made up: the probability of a language"):
        multilingual.detect_language(features)
    with pytest.raises(NumericalError, match=r"^made up: window 1: the probability of a language"):
        multilingual.decode(features)


def test_json_output_has_no_nan():
    segment = {"id": 0, "start": 0.0, "end": 1.0, "text": " a", "avg_logprob": float("nan")}
    with pytest.raises(OptionError, match="expected finite numbers"):
        render({"text": " a", "segments": [segment], "language": "en"}, "json")
