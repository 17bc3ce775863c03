"""The encoder: the position table, the receptive field of the stem, shapes, sizes and dtypes."""

import numpy as np
import pytest

import minwhisper
from minwhisper.model.encoder import encode, encoder_block, sinusoids, stem
from minwhisper.model.weight_names import flatten
from minwhisper.model.weights import count_parameters
from minwhisper.parity.comparison import relative_difference


@pytest.fixture(scope="module")
def tiny() -> minwhisper.Whisper:
    return minwhisper.Whisper.random("tiny")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


# --- Positions


def test_sines_fill_the_first_half_and_cosines_the_second():
    table = sinusoids(1500, 384)
    assert table.shape == (1500, 384)
    assert table.dtype == np.float64
    assert np.array_equal(table[0], [0.0] * 192 + [1.0] * 192)
    assert np.allclose(table[:, :192] ** 2 + table[:, 192:] ** 2, 1)


def test_wavelengths_grow_geometrically_from_2_pi_to_20000_pi():
    table, position = sinusoids(1500, 384), np.arange(1500)
    assert np.allclose(table[:, 0], np.sin(position))
    assert np.allclose(table[:, 192], np.cos(position))
    assert np.allclose(table[:, 191], np.sin(position / 10000))
    assert np.allclose(table[:, 383], np.cos(position / 10000))
    rates = np.arcsin(table[1, :192])
    assert np.allclose(rates[1:] / rates[:-1], 10000 ** (-1 / 191))


def test_the_published_position_table_is_the_same_rounded_to_float16(tiny_en):
    error = np.abs(tiny_en.weights["encoder"]["positions"] - sinusoids(1500, 384))
    assert error.max() <= 2**-11


# --- Stem


@pytest.mark.parametrize("frame", [0, 1, 2, 9, 10, 18, 19])
def test_position_t_reads_the_frames_around_2t(tiny, frame):
    # Padding on one side only, as "same" padding with stride 2 does, would shift this by a frame.
    mel = noise(1, 80, 20)
    other = mel.copy()
    other[..., frame] += 1
    encoder = tiny.weights["encoder"]
    moved = np.abs(stem(mel, encoder) - stem(other, encoder)).max(axis=(0, 2)) > 0
    assert moved.tolist() == [abs(2 * t - frame) <= 2 for t in range(10)]


@pytest.mark.parametrize(("frames", "positions"), [(1, 1), (2, 1), (3, 2), (199, 100), (200, 100)])
def test_two_frames_become_one_position(tiny, frames, positions):
    assert tiny.encode(noise(1, 80, frames)).shape == (1, positions, 384)


# --- Encoder


def test_features_are_normalised(tiny):
    features = encode(noise(1, 80, 40), tiny.weights["encoder"], tiny.config)
    # The last layer is an untrained norm: every position has mean 0 and variance 1.
    assert np.allclose(features.mean(axis=-1), 0, atol=1e-5)
    assert np.allclose(features.var(axis=-1), 1, atol=1e-3)


def test_parameters_of_each_half_of_tiny(tiny):
    assert count_parameters(tiny.weights["encoder"]["blocks"][0]) == 1_774_080
    assert count_parameters(tiny.weights["encoder"]) == 8_208_384
    assert count_parameters(tiny.weights["decoder"]) == 29_552_256


def test_windows_of_a_batch_are_independent(tiny):
    mel, encoder = noise(2, 80, 40), tiny.weights["encoder"]
    both = encode(mel, encoder, tiny.config)
    for i in range(2):
        assert relative_difference(both[i], encode(mel[i : i + 1], encoder, tiny.config)[0]) < 2e-6


def test_equal_frames_get_different_features(tiny):
    # Without the position table, self-attention would not depend on the order of the frames.
    features = encode(np.zeros((1, 80, 40), np.float32), tiny.weights["encoder"], tiny.config)[0]
    gaps = np.linalg.norm(features[2:-1, None] - features[None, 2:-1], axis=-1)
    assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 1


@pytest.mark.parametrize(
    "shape", [(80, 200), (1, 200, 80), (1, 128, 200), (1, 80, 0), (1, 80, 3001), (1, 1, 80, 200)], ids=str
)
def test_a_mel_of_another_shape_is_rejected(tiny, shape):
    with pytest.raises(ValueError, match=r"mel: expected \(batch, 80, 1 to 3000 frames\), got ") as caught:
        tiny.encode(np.zeros(shape, np.float32))
    assert str(caught.value).endswith(str(shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_have_the_dtype_of_the_mel(tiny, dtype):
    mel, encoder = noise(1, 80, 40).astype(dtype), tiny.weights["encoder"]
    x = stem(mel, encoder)
    assert x.dtype == dtype
    assert encoder_block(x, encoder["blocks"][0], 6).dtype == dtype
    features = encode(mel, encoder, tiny.config)
    assert features.dtype == dtype
    assert relative_difference(features, encode(mel.astype(np.float64), encoder, tiny.config)) < 1e-6


def test_float16_weights_give_the_same_results_as_float32_weights(tiny_en):
    half = minwhisper.load_model("tiny.en", dtype="float16")
    assert half.weights["encoder"]["conv1"]["weight"].dtype == np.float16
    mel = noise(1, 80, 100)
    features = half.encode(mel)
    assert np.array_equal(features, encode(mel, tiny_en.weights["encoder"], tiny_en.config))
    assert np.array_equal(half.logits([[50257, 50363]], features), tiny_en.logits([[50257, 50363]], features))


def test_weights_and_mel_are_not_modified(tiny):
    mel = noise(1, 80, 20)
    mel.flags.writeable = False
    for _, weight in flatten(tiny.weights):
        weight.flags.writeable = False  # NumPy now rejects writes
    features = tiny.encode(mel)
    features.flags.writeable = False
    assert np.isfinite(tiny.logits([[1, 2, 3]], features)).all()
