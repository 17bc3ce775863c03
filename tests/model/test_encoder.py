"""The encoder: the position table, the receptive field of the stem, windows and dtypes."""

import numpy as np
import pytest

import minwhisper
from inputs import SMALL
from minwhisper.model.decoder import decode
from minwhisper.model.encoder import encode, sinusoids, stem
from minwhisper.model.layers import Weights
from minwhisper.model.weight_names import flatten
from minwhisper.model.weights import random_weights
from minwhisper.parity.comparison import relative_difference


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(SMALL)["encoder"]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_the_published_position_table_is_the_same_rounded_to_float16(tiny_en):
    table, position = sinusoids(1500, 384), np.arange(1500)
    assert table.dtype == np.float64
    assert np.abs(tiny_en.weights["encoder"]["positions"] - table).max() <= 2**-11
    assert np.allclose(table[:, [0, 192]].T, [np.sin(position), np.cos(position)])  # the shortest and the longest wave
    assert np.allclose(table[:, [191, 383]].T, [np.sin(position / 10000), np.cos(position / 10000)])


def test_position_t_reads_the_frames_around_2t(weights):
    # Padding on one side only, like "same" padding with stride 2 in some frameworks, would shift this by a frame.
    mel = noise(1, 8, 20)
    for frame in (0, 1, 2, 9, 10, 18, 19):
        other = mel.copy()
        other[..., frame] += 1
        moved = np.abs(stem(mel, weights) - stem(other, weights)).max(axis=(0, 2)) > 0
        assert moved.tolist() == [abs(2 * t - frame) <= 2 for t in range(10)]


def test_windows_of_a_batch_are_independent(weights):
    mel = noise(2, 8, 40)
    both = encode(mel, weights, SMALL)
    for i in range(2):
        assert relative_difference(both[i], encode(mel[i : i + 1], weights, SMALL)[0]) < 2e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_have_the_dtype_of_the_mel(weights, dtype):
    mel = noise(1, 8, 40).astype(dtype)
    features = encode(mel, weights, SMALL)
    assert features.dtype == dtype
    assert relative_difference(features, encode(mel.astype(np.float64), weights, SMALL)) < 1e-6


def test_float16_weights_give_the_same_results_as_float32_weights(tiny_en):
    half = minwhisper.load_model("tiny.en", dtype="float16")
    assert half.weights["encoder"]["conv1"]["weight"].dtype == np.float16
    mel = noise(1, 80, 100)
    features = half.encode(mel)
    assert np.array_equal(features, encode(mel, tiny_en.weights["encoder"], tiny_en.config))
    assert np.array_equal(half.logits([[50257, 50363]], features), tiny_en.logits([[50257, 50363]], features))


def test_weights_and_mel_are_not_modified():
    weights, mel = random_weights(SMALL), noise(1, 8, 20)
    for array in (mel, *(weight for _, weight in flatten(weights))):
        array.flags.writeable = False  # NumPy now rejects writes
    features = encode(mel, weights["encoder"], SMALL)
    features.flags.writeable = False
    assert np.isfinite(decode(np.array([[1, 2, 3]]), features, weights["decoder"], SMALL)).all()
