"""The decoder: shapes and errors, causality, and a cache that gives the same logits however the tokens are fed."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

import minwhisper
from conftest import SMALL, real_model
from minwhisper.errors import ShapeError
from minwhisper.model.decoder import Cache, decode, decode_cached, new_cache
from minwhisper.model.layers import Weights
from minwhisper.model.weights import random_weights
from minwhisper.parity.comparison import clip_samples, relative_difference, window_mel

LENGTH = 6


@pytest.fixture(scope="module")
def small() -> Weights:
    return random_weights(SMALL)["decoder"]


@pytest.fixture(scope="module")
def features(tiny_en) -> np.ndarray:
    return tiny_en.encode(window_mel(clip_samples(), 80))


@pytest.fixture(scope="module")
def tokens(tiny_en) -> np.ndarray:
    """Return the first tokens of the clip's transcript: (1, 6)."""
    prompt = tiny_en.tokenizer.sot_sequence("en", "transcribe", timestamps=False)
    return np.array([[*prompt, *tiny_en.tokenizer.encode(" And so my fellow")]])[:, :LENGTH]


@pytest.fixture(scope="module")
def logits(tiny_en, tokens, features) -> np.ndarray:
    return tiny_en.logits(tokens, features)


@pytest.fixture(scope="module")
def exact(tokens, features) -> Callable[..., np.ndarray]:
    """Return a function that computes the last logits of the tokens and an ending in float64."""
    model = real_model("tiny.en", dtype="float64")

    def last_logits(ending, positions):
        logits = model.logits([[*tokens[0], *ending]], features)
        assert logits.dtype == np.float64
        return logits[0, -positions:]

    return last_logits


def step(tokens, cache: Cache, model: minwhisper.Whisper):
    return decode_cached(tokens, cache, model.weights["decoder"], model.config)


def begin(model: minwhisper.Whisper, features: np.ndarray) -> Cache:
    return new_cache(features, model.weights["decoder"], model.config)


def arrays(cache: Cache) -> list[np.ndarray]:
    return [array for half in cache for pair in half for array in pair]


# --- Shapes and errors


def test_448_positions_at_most(small):
    features = np.zeros((1, 3, 16), np.float32)
    assert decode(np.zeros((1, 448), int), features, small, SMALL).shape == (1, 448, 60)
    with pytest.raises(ShapeError, match=r"at most 448 positions\), got \(1, 449\)"):
        decode(np.zeros((1, 449), int), features, small, SMALL)

    _, cache = decode_cached(np.zeros((1, 447), int), new_cache(features, small, SMALL), small, SMALL)
    logits, full = decode_cached(np.zeros((1, 1), int), cache, small, SMALL)
    assert (logits.shape, full.length) == ((1, 1, 60), 448)
    for past, more in ((full, 1), (cache, 2)):
        with pytest.raises(ShapeError, match=rf"448 positions\), got \(1, {more}\) after {past.length} earlier"):
            decode_cached(np.zeros((1, more), int), past, small, SMALL)


@pytest.mark.parametrize("shape", [(4,), (1, 1, 4)])
def test_tokens_of_another_shape_are_rejected(small, shape):
    with pytest.raises(ShapeError, match=r"tokens: expected \(batch, "):
        decode(np.zeros(shape, int), np.zeros((1, 3, 16), np.float32), small, SMALL)


@pytest.mark.parametrize("rows", [1, 3])
def test_every_sequence_needs_tokens(small, rows):
    """NumPy would broadcast one row over several windows."""
    with pytest.raises(ShapeError, match=rf"tokens: expected a batch of 2, .* got {rows}"):
        decode(np.zeros((rows, 4), int), np.zeros((2, 3, 16), np.float32), small, SMALL)


@pytest.mark.parametrize("ids", [[[-1, 0]], [[0, 60]], [[0.0, 1.0]], [0, 1], [[0], [1]]], ids=str)
def test_the_model_rejects_invalid_token_ids(ids):
    with pytest.raises(ShapeError, match="tokens: expected"):
        minwhisper.Whisper.random(SMALL).logits(ids, np.zeros((1, 3, 16), np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_and_cache_have_the_dtype_of_the_features(small, dtype):
    features, tokens = np.zeros((1, 3, 16), dtype), np.array([[1, 2, 3]])
    logits, cache = decode_cached(tokens, new_cache(features, small, SMALL), small, SMALL)
    assert logits.dtype == dtype
    assert {array.dtype for array in arrays(cache)} == {np.dtype(dtype)}


# --- What the logits depend on


def test_later_tokens_change_nothing_before_them(tiny_en, tokens, features, logits):
    other = tokens.copy()
    other[:, 4:] = 11, 13
    changed = tiny_en.logits(other, features)
    assert np.array_equal(changed[:, :4], logits[:, :4])
    assert not np.allclose(changed[:, 4:], logits[:, 4:])


def test_the_order_of_earlier_tokens_and_the_audio_matter(tiny_en, tokens, features, logits):
    swapped = tokens[:, [0, 1, 3, 2, 4, 5]]
    assert not np.allclose(tiny_en.logits(swapped, features)[:, -1], logits[:, -1], atol=0.1)
    assert not np.allclose(tiny_en.logits(tokens, np.zeros_like(features))[:, -1], logits[:, -1], atol=0.1)


def test_windows_of_a_batch_are_independent(small, rng):
    texts, windows = rng.integers(0, 60, (2, 6)), rng.standard_normal((2, 9, 16), np.float32)
    both = decode(texts, windows, small, SMALL)
    for row in range(2):
        alone = decode(texts[row : row + 1], windows[row : row + 1], small, SMALL)
        assert relative_difference(both[row], alone[0]) < 2e-6


# --- The cache


@pytest.mark.parametrize(
    "cuts",
    [range(LENGTH + 1), (0, 1, 4, LENGTH)],
    ids=lambda cuts: "+".join(str(stop - start) for start, stop in pairwise(cuts)),
)
def test_tokens_fed_one_by_one_get_the_same_logits(tiny_en, tokens, features, logits, cuts):
    cache = begin(tiny_en, features)
    parts = []
    for start, stop in pairwise(cuts):
        assert cache.length == start
        part, cache = step(tokens[:, start:stop], cache, tiny_en)
        parts.append(part)
    stepwise = np.concatenate(parts, axis=1)
    assert relative_difference(stepwise, logits) < 2e-6
    assert np.array_equal(stepwise.argmax(axis=-1), logits.argmax(axis=-1))


def test_a_step_leaves_its_cache_unchanged(tiny_en, tokens, features):
    _, cache = step(tokens[:, :3], begin(tiny_en, features), tiny_en)
    before = [array.copy() for array in arrays(cache)]
    first, longer = step(tokens[:, 3:4], cache, tiny_en)
    step(tokens[:, 4:], cache, tiny_en)  # another continuation of the same cache, as in a beam search
    step(tokens[:, 4:5], longer, tiny_en)
    assert all(np.array_equal(old, new) for old, new in zip(before, arrays(cache), strict=True))
    assert (cache.length, longer.length) == (3, 4)
    again, _ = step(tokens[:, 3:4], cache, tiny_en)
    assert np.array_equal(again, first)


def test_shapes_of_a_cache(small):
    features = np.random.default_rng(0).standard_normal((2, 5, 16), np.float32)
    empty = new_cache(features, small, SMALL)
    _, cache = decode_cached(np.array([[1, 2, 3], [4, 5, 6]]), empty, small, SMALL)
    assert cache.cross_attention is empty.cross_attention
    assert len(cache.self_attention) == len(cache.cross_attention) == 2  # decoder blocks
    for kv, cross_kv in zip(*cache, strict=True):
        assert (kv.keys.shape, kv.values.shape) == ((2, 4, 4, 3), (2, 4, 3, 4))  # (B, H, K, S), (B, H, S, K)
        assert (cross_kv.keys.shape, cross_kv.values.shape) == ((2, 4, 4, 5), (2, 4, 5, 4))


# --- Several sequences for one window

# A step is as far from float64 as the text makes it. Over thirty texts the error was 0.7e-6 in the geometric mean and
# at most 4.9e-6; PyTorch's was 1.2e-6 and 8.5e-6.
STEP = 4e-6

ENDINGS = np.array([[11, 13], [290, 356], [837, 257], [11, 290]])  # continuations that differ from each other


@pytest.fixture(scope="module")
def begun(tiny_en, tokens, features) -> Cache:
    """Return the cache of one sequence after the first tokens of the clip."""
    return step(tokens, begin(tiny_en, features), tiny_en)[1]


def test_sequences_that_share_a_window_get_the_logits_of_each_alone(tiny_en, exact, begun):
    forked = begun.reorder([0] * 4)
    assert (begun.rows, forked.rows) == (1, 4)
    first, forked = step(ENDINGS[:, :1], forked, tiny_en)
    second, forked = step(ENDINGS[:, 1:], forked, tiny_en)
    assert (forked.rows, forked.length) == (4, LENGTH + 2)
    at_once, _ = step(ENDINGS, begun.reorder([0] * 4), tiny_en)
    for row, ending in enumerate(ENDINGS):
        alone = exact(ending, 2)
        for ours in (np.concatenate([first[row], second[row]]), at_once[row]):
            assert relative_difference(ours, alone) < STEP
            assert np.array_equal(ours.argmax(axis=-1), alone.argmax(axis=-1))
    assert relative_difference(second[0], second[1]) > 0.01  # the sequences do differ


@pytest.mark.parametrize("rows", [[3, 1], [0, 0, 2], [2], [1, 0, 2, 3], [0, 1, 2, 3]], ids=str)
def test_reordered_sequences_continue_as_if_alone(small, rng, rows):
    window, texts = rng.standard_normal((1, 9, 16), np.float32), rng.integers(0, 60, (4, 5))
    empty = new_cache(window, small, SMALL)
    _, forked = decode_cached(texts[:, :3], empty.reorder([0] * 4), small, SMALL)
    reordered = forked.reorder(rows)
    assert (reordered.rows, reordered.length) == (len(rows), 3)
    logits, _ = decode_cached(texts[rows, 3:], reordered, small, SMALL)
    for ours, row in zip(logits, rows, strict=True):
        alone = decode(texts[row : row + 1], window, small, SMALL)[0, 3:]
        assert relative_difference(ours, alone) < STEP


def test_reorder_shares_the_audio_and_copies_nothing_if_the_order_is_the_same(tiny_en, begun):
    _, forked = step(ENDINGS[:, :1], begun.reorder([0] * 4), tiny_en)
    reordered = forked.reorder([2, 2])
    assert all(ours is theirs for ours, theirs in zip(reordered.cross_attention, begun.cross_attention, strict=True))
    assert forked.reorder([0, 1, 2, 3]) is forked.reorder(range(4)) is forked


def test_reorder_needs_a_cache_of_one_window(small):
    cache = new_cache(np.zeros((2, 3, 16), np.float32), small, SMALL)
    with pytest.raises(ShapeError, match="cache: expected one window, got 2"):
        cache.reorder([0])
