"""The encoder on threads equals the readable one, and is identical bit by bit for any number of threads."""

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


# --- Stem and blocks


@pytest.mark.parametrize("frames", FRAMES)
def test_the_stem(model, mel, pool, frames):
    weights = model.weights["encoder"]
    expected = encoder.stem(mel[..., :frames], weights)[0]
    out = np.full_like(expected, np.nan)
    cpu_encoder.stem(mel[0, :, :frames], EncoderWeights.of(weights), out, pool)
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
    """Compare each block, given the output of the readable blocks before it."""
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


# --- The whole encoder


@pytest.mark.parametrize("frames", FRAMES)
def test_any_number_of_frames(tiny_en, mel, pool, frames):
    window = mel[..., 300 : 300 + frames] if frames < 1000 else mel[..., :frames]
    ours, theirs = fast(window, tiny_en, pool), plain(window, tiny_en)
    assert ours.shape == theirs.shape == (1, (frames + 1) // 2, 384)
    assert ours.dtype == np.float32
    check_blocks(tiny_en, window, pool)
    assert relative_difference(ours, theirs) <= 5e-6  # over four blocks, which amplify rounding


@pytest.mark.parametrize("frames", [1, 2, 7, 199, 1000])
def test_blocks_of_base_on_short_windows(base, mel, pool, frames):
    # With so little audio, its fourth block amplifies a difference of 4e-7 to 4e-6 in any implementation.
    check_blocks(base, mel[..., 300 : 300 + frames], pool)


def test_two_windows(tiny_en, speech, pool):
    assert fast(np.zeros((0, 80, 200), np.float32), tiny_en, pool).shape == (0, 100, 384)
    windows = np.concatenate([window_mel(speech[clip], 80) for clip in ("jfk.flac", "LJ001-0001.wav")])
    ours = fast(windows, tiny_en, pool)
    assert relative_difference(ours, plain(windows, tiny_en)) <= BOUND
    for number in range(2):
        assert np.array_equal(ours[number], fast(windows[number : number + 1], tiny_en, pool)[0])


def test_arguments_and_previous_results_are_not_overwritten(tiny_en, mel, pool):
    window = mel[..., :500].copy()
    window.flags.writeable = False
    first = fast(window, tiny_en, pool)
    kept = first.copy()
    fast(window[:, ::-1], tiny_en, pool)
    assert np.array_equal(first, kept)


def test_a_mel_in_column_order(tiny_en, mel, pool):
    window = mel[..., :500]
    expected = fast(np.ascontiguousarray(window), tiny_en, pool)
    assert np.array_equal(fast(np.asfortranarray(window), tiny_en, pool), expected)


def test_large_scores_do_not_overflow(tiny_en, mel, pool):
    """Queries are ten times as long, so that the maximum has to be subtracted."""
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
        # Errors are ten times as large, too, also in the readable block.
        assert relative_difference(ours, exact) <= max(BOUND, 1.3 * relative_difference(x[0], exact))


@pytest.mark.parametrize("frames", [7, 3000])
def test_threads_change_no_bit(model, mel, frames):
    window = mel[..., :frames]
    expected = fast(window, model, Pool(1))
    for threads in (1, 2, 2, 3):
        assert np.array_equal(fast(window, model, Pool(threads)), expected)


def test_separate_weight_matrices(pool, rng):
    """Matrices that are not adjacent are copied."""
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
def test_invalid_mels(tiny_en, pool, shape):
    wrong = np.zeros(shape, np.float32)
    with pytest.raises(ShapeError) as theirs:
        plain(wrong, tiny_en)
    with pytest.raises(ShapeError) as ours:
        fast(wrong, tiny_en, pool)
    assert str(ours.value) == str(theirs.value)
