"""The decoder: shapes and errors, causality, and a cache with which the logits do not depend on how tokens are fed."""

from itertools import pairwise

import numpy as np
import pytest

import minwhisper
from engine_pair import lively_weights
from inputs import SMALL
from minwhisper.errors import ShapeError
from minwhisper.model.decoder import Cache, decode, decode_cached, new_cache
from minwhisper.model.layers import Weights
from minwhisper.parity.comparison import relative_difference

BOUND = 4e-6
WINDOW = np.zeros((1, 3, 16), np.float32)


@pytest.fixture(scope="module")
def small() -> Weights:
    weights = lively_weights(SMALL)["decoder"]
    weights["positions"][...] *= 20  # as large as the token embedding
    return weights


@pytest.fixture
def features(rng) -> np.ndarray:
    return rng.standard_normal((1, 9, 16), np.float32)


@pytest.fixture
def texts(rng) -> np.ndarray:
    return rng.integers(0, 60, (4, 6))


def arrays(cache: Cache) -> list[np.ndarray]:
    return [array for half in cache for pair in half for array in pair]


# --- Shapes and errors


def test_more_than_448_positions_are_rejected(small):
    assert decode(np.zeros((1, 448), int), WINDOW, small, SMALL).shape == (1, 448, 60)
    with pytest.raises(ShapeError, match=r"at most 448 positions\), got \(1, 449\)"):
        decode(np.zeros((1, 449), int), WINDOW, small, SMALL)

    _, cache = decode_cached(np.zeros((1, 447), int), new_cache(WINDOW, small, SMALL), small, SMALL)
    logits, full = decode_cached(np.zeros((1, 1), int), cache, small, SMALL)
    assert (logits.shape, full.length) == ((1, 1, 60), 448)
    for past, more in ((full, 1), (cache, 2)):
        with pytest.raises(ShapeError, match=rf"448 positions\), got \(1, {more}\) after {past.length} earlier"):
            decode_cached(np.zeros((1, more), int), past, small, SMALL)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        *(((4,), r"tokens: expected \(batch, "), ((1, 1, 4), r"tokens: expected \(batch, ")),
        *(((1, 4), "tokens: expected a batch of 2, .* got 1"), ((3, 4), "tokens: expected a batch of 2, .* got 3")),
    ],
)
def test_tokens_need_one_row_per_window(small, shape, message):
    """Without the check, NumPy would broadcast one row over several windows."""
    with pytest.raises(ShapeError, match=message):
        decode(np.zeros(shape, int), np.zeros((2, 3, 16), np.float32), small, SMALL)


@pytest.mark.parametrize("ids", [[[-1, 0]], [[0, 60]], [[0.0, 1.0]], [0, 1], [[0], [1]]], ids=str)
def test_the_model_rejects_invalid_token_ids(ids):
    with pytest.raises(ShapeError, match="tokens: expected"):
        minwhisper.Whisper.random(SMALL).logits(ids, WINDOW)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_and_cache_have_the_dtype_of_the_features(small, dtype):
    empty = new_cache(WINDOW.astype(dtype), small, SMALL)
    logits, cache = decode_cached(np.array([[1, 2, 3]]), empty, small, SMALL)
    assert {array.dtype for array in (logits, *arrays(cache))} == {np.dtype(dtype)}


# --- What the logits depend on


def test_logits_depend_on_earlier_tokens_their_order_and_the_audio_but_not_on_later_tokens(small, texts, features):
    tokens = texts[:1]
    logits = decode(tokens, features, small, SMALL)
    other = tokens.copy()
    other[:, 4:] = 11, 13
    changed = decode(other, features, small, SMALL)
    assert np.array_equal(changed[:, :4], logits[:, :4])
    assert not np.allclose(changed[:, 4:], logits[:, 4:])
    for others, audio in ((tokens[:, [0, 1, 3, 2, 4, 5]], features), (tokens, np.zeros_like(features))):
        assert not np.allclose(decode(others, audio, small, SMALL)[:, -1], logits[:, -1], atol=0.1)


def test_windows_of_a_batch_are_independent(small, rng, texts):
    windows = rng.standard_normal((2, 9, 16), np.float32)
    both = decode(texts[:2], windows, small, SMALL)
    for row in range(2):
        alone = decode(texts[row : row + 1], windows[row : row + 1], small, SMALL)
        assert relative_difference(both[row], alone[0]) < 2e-6


# --- The cache


@pytest.mark.parametrize("cuts", [range(7), (0, 1, 4, 6)], ids=str)
def test_tokens_fed_in_parts_get_the_same_logits(small, texts, features, cuts):
    cache, parts = new_cache(features, small, SMALL), []
    for start, stop in pairwise(cuts):
        assert cache.length == start
        part, cache = decode_cached(texts[:1, start:stop], cache, small, SMALL)
        parts.append(part)
    assert relative_difference(np.concatenate(parts, axis=1), decode(texts[:1], features, small, SMALL)) < 2e-6


def test_a_step_leaves_its_cache_unchanged(small, texts, features):
    def step(tokens, cache):
        return decode_cached(tokens, cache, small, SMALL)

    _, cache = step(texts[:1, :3], new_cache(features, small, SMALL))
    before = [array.copy() for array in arrays(cache)]
    first, longer = step(texts[:1, 3:4], cache)
    step(texts[:1, 4:], cache)  # another continuation of the same cache, as in a beam search
    step(texts[:1, 4:5], longer)
    assert all(np.array_equal(old, new) for old, new in zip(before, arrays(cache), strict=True))
    assert (cache.length, longer.length) == (3, 4)
    again, _ = step(texts[:1, 3:4], cache)
    assert np.array_equal(again, first)


# --- Several sequences for one window


@pytest.mark.parametrize("rows", [[3, 1], [0, 0, 2], [2], [0, 1, 2, 3]], ids=str)
def test_reordered_sequences_of_a_window_continue_as_if_alone(small, texts, features, rows):
    empty = new_cache(features, small, SMALL)
    _, forked = decode_cached(texts[:, :3], empty.reorder([0] * 4), small, SMALL)
    reordered = forked.reorder(rows)
    assert (empty.rows, forked.rows, reordered.rows, reordered.length) == (1, 4, len(rows), 3)
    logits, longer = decode_cached(texts[rows, 3:5], reordered, small, SMALL)
    last, _ = decode_cached(texts[rows, 5:], longer, small, SMALL)
    for row, *ours in zip(rows, logits, last, strict=True):
        alone = decode(texts[row : row + 1], features.astype(np.float64), small, SMALL)[0, 3:]
        assert relative_difference(np.concatenate(ours), alone) < BOUND


def test_reorder_shares_the_audio_and_copies_nothing_if_the_order_is_the_same(small, texts, features):
    empty = new_cache(features, small, SMALL)
    _, forked = decode_cached(texts[:, :3], empty.reorder([0] * 4), small, SMALL)
    assert forked.reorder([2, 2]).cross_attention is forked.cross_attention is empty.cross_attention
    assert forked.reorder([0, 1, 2, 3]) is forked.reorder(range(4)) is forked


def test_reorder_needs_a_cache_of_one_window(small):
    cache = new_cache(np.zeros((2, 3, 16), np.float32), small, SMALL)
    with pytest.raises(ShapeError, match="cache: expected one window, got 2"):
        cache.reorder([0])
