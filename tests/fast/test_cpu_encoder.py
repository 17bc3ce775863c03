"""The encoder over threads against the readable one, and the same bit by bit however many threads there are."""

from dataclasses import replace

import numpy as np
import pytest

from minwhisper.errors import ShapeError
from minwhisper.fast.cpu import encoder as cpu_encoder
from minwhisper.fast.cpu.encoder import QKV, EncoderBlock, EncoderWeights, encoder_blocks
from minwhisper.fast.cpu.threads import Pool
from minwhisper.model import encoder, layers
from minwhisper.model.config import PUBLISHED
from minwhisper.model.engine import PlainEngine
from minwhisper.model.weights import random_weights
from minwhisper.parity.comparison import relative_difference, window_mel

BOUND = 1e-6
FRAMES = [1, 2, 7, 199, 200, 249, 250, 251, 2999, 3000]


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(2)


@pytest.fixture(scope="module")
def mel(speech) -> np.ndarray:
    return window_mel(speech["jfk.flac"], 80)


def fast(mel, model, pool):
    return cpu_encoder.encode(mel, EncoderWeights.of(model.weights["encoder"]), model.config, pool)


def plain(mel, model):
    return PlainEngine(model.weights, model.config).encode(mel)


# --- Its parts


@pytest.mark.parametrize("frames", FRAMES)
def test_the_stem(tiny_en, mel, pool, frames):
    weights = tiny_en.weights["encoder"]
    expected = encoder.stem(mel[..., :frames], weights)[0]
    out = np.full_like(expected, np.nan)
    cpu_encoder.stem(mel[0, :, :frames], EncoderWeights.of(weights), out, pool)
    assert relative_difference(out, expected) <= BOUND


def test_the_stem_of_base(base, mel, pool):
    weights = base.weights["encoder"]
    expected = encoder.stem(mel, weights)[0]
    out = np.full_like(expected, np.nan)
    cpu_encoder.stem(mel[0], EncoderWeights.of(weights), out, pool)
    assert relative_difference(out, expected) <= BOUND


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution(tiny_en, mel, stride):
    weights = tiny_en.weights["encoder"]["conv1"]
    x = np.ascontiguousarray(mel[:, :, :101].transpose(0, 2, 1))
    expected = layers.conv1d(x, **weights, stride=stride)[0]
    padded = np.pad(x[0], ((1, 1), (0, 0)))
    out = np.full_like(expected, np.nan)
    cpu_encoder.conv1d(padded, *EncoderWeights.of(tiny_en.weights["encoder"]).conv1, stride=stride, out=out)
    assert relative_difference(out, expected) <= BOUND


def check_blocks(model, mel, pool):
    """Each block, given what the readable ones before it gave."""
    weights, heads = model.weights["encoder"], model.config.encoder_attention_heads
    x = encoder.stem(mel, weights)
    for block in weights["blocks"]:
        ours = x[0].copy()
        buffers = [QKV.empty(name, *ours.shape, heads) for name in ("one", "two")]
        encoder_blocks(ours, [EncoderBlock.of(block)], buffers, pool)
        x = encoder.encoder_block(x, block, heads)
        assert relative_difference(ours, x[0]) <= BOUND


@pytest.mark.parametrize("clip", ["jfk.flac", pytest.param("LJ001-0003.wav", marks=pytest.mark.grid)])
def test_every_block(model, speech, pool, clip):
    check_blocks(model, window_mel(speech[clip], 80), pool)


# --- The whole


@pytest.mark.parametrize("frames", FRAMES)
def test_as_many_frames_as_there_are(tiny_en, mel, pool, frames):
    sound = mel[..., 300 : 300 + frames] if frames < 1000 else mel[..., :frames]
    ours, theirs = fast(sound, tiny_en, pool), plain(sound, tiny_en)
    assert ours.shape == theirs.shape == (1, (frames + 1) // 2, 384)
    assert ours.dtype == np.float32
    check_blocks(tiny_en, sound, pool)
    assert relative_difference(ours, theirs) <= 5e-6  # of four blocks together, which make a rounding larger


@pytest.mark.parametrize("frames", [1, 2, 7, 199, 1000])
def test_every_block_of_base_on_little_sound(base, mel, pool, frames):
    # Its fourth block turns a difference of 4e-7 into one of up to 4e-6 for so little sound, whoever computes it.
    check_blocks(base, mel[..., 300 : 300 + frames], pool)


def test_two_windows(tiny_en, speech, pool):
    windows = np.concatenate([window_mel(speech[clip], 80) for clip in ("jfk.flac", "LJ001-0001.wav")])
    ours = fast(windows, tiny_en, pool)
    assert relative_difference(ours, plain(windows, tiny_en)) <= BOUND
    for number in range(2):
        assert np.array_equal(ours[number], fast(windows[number : number + 1], tiny_en, pool)[0])


def test_no_window(tiny_en, pool):
    assert fast(np.zeros((0, 80, 200), np.float32), tiny_en, pool).shape == (0, 100, 384)


def test_the_mel_and_the_features_of_before_are_left_alone(tiny_en, mel, pool):
    sound = mel[..., :500].copy()
    sound.flags.writeable = False
    first = fast(sound, tiny_en, pool)
    kept = first.copy()
    fast(sound[:, ::-1], tiny_en, pool)
    assert np.array_equal(first, kept)


def test_a_mel_that_does_not_lie_row_by_row(tiny_en, mel, pool):
    sound = mel[..., :500]
    expected = fast(np.ascontiguousarray(sound), tiny_en, pool)
    assert np.array_equal(fast(np.asfortranarray(sound), tiny_en, pool), expected)


def test_attention_that_is_sure_of_itself(tiny_en, mel, pool):
    """Queries ten times as long: no maximum may be left out now, though there is no such model."""
    blocks = []
    for block in tiny_en.weights["encoder"]["blocks"]:
        query = {name: 10 * array for name, array in block["attention"]["query"].items()}
        blocks.append({**block, "attention": {**block["attention"], "query": query}})
    heads = tiny_en.config.encoder_attention_heads
    x = encoder.stem(mel, tiny_en.weights["encoder"])
    for block in blocks:
        ours = x[0].copy()
        buffers = [QKV.empty(name, *ours.shape, heads) for name in ("one", "two")]
        with np.errstate(over="raise", invalid="raise"):
            encoder_blocks(ours, [EncoderBlock.of(block)], buffers, pool)
        exact = encoder.encoder_block(x.astype(np.float64), block, heads)[0]
        x = encoder.encoder_block(x, block, heads)
        # Scores ten times as large are ten times as far off, in the readable one too.
        assert relative_difference(ours, exact) <= max(BOUND, 1.3 * relative_difference(x[0], exact))


@pytest.mark.parametrize("frames", [7, 250, 3000])
def test_bit_by_bit_the_same_with_any_number_of_threads_and_every_time(tiny_en, mel, frames):
    sound = mel[..., :frames]
    expected = fast(sound, tiny_en, Pool(1))
    for threads in (1, 2, 2, 3, 4):
        assert np.array_equal(fast(sound, tiny_en, Pool(threads)), expected)


def test_bit_by_bit_the_same_with_base(base, mel):
    expected = fast(mel, base, Pool(1))
    assert np.array_equal(fast(mel, base, Pool(3)), expected)


def test_weights_that_do_not_lie_side_by_side(pool, rng):
    """As those of a model that nobody has laid out for speed."""
    config = replace(PUBLISHED["tiny"], encoder_layers=2)
    weights = random_weights(config)["encoder"]

    def relaid(tree):
        if isinstance(tree, dict):
            return {name: relaid(branch) for name, branch in tree.items()}
        return tuple(map(relaid, tree)) if isinstance(tree, tuple | list) else np.ascontiguousarray(tree)

    mel = rng.standard_normal((1, 80, 400), np.float32)
    ours = cpu_encoder.encode(mel, EncoderWeights.of(relaid(weights)), config, pool)
    assert relative_difference(ours, encoder.encode(mel, weights, config)) <= BOUND


@pytest.mark.parametrize("shape", [(80, 3000), (1, 79, 3000), (1, 80, 0), (1, 80, 3001), (1, 1, 80, 200)], ids=str)
def test_what_is_no_mel(tiny_en, pool, shape):
    wrong = np.zeros(shape, np.float32)
    with pytest.raises(ShapeError) as theirs:
        plain(wrong, tiny_en)
    with pytest.raises(ShapeError) as ours:
        fast(wrong, tiny_en, pool)
    assert str(ours.value) == str(theirs.value)
