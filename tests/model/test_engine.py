"""The plain engine returns what the functions of the model return, and leaves its caches unchanged."""

import numpy as np
import pytest

from conftest import SMALL
from minwhisper.errors import ShapeError
from minwhisper.model import decoder, encoder
from minwhisper.model.engine import DecoderInput, PlainEngine
from minwhisper.model.weights import random_weights


@pytest.fixture(scope="module")
def engine() -> PlainEngine:
    return PlainEngine(random_weights(SMALL), SMALL)


@pytest.fixture
def features(rng) -> np.ndarray:
    return rng.standard_normal((2, 5, 16), np.float32)


def arrays(cache) -> list[np.ndarray]:
    return [array for half in cache for pair in half for array in pair]


def same(ours, theirs) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(arrays(ours), arrays(theirs), strict=True))


def step(engine, tokens, cache, wanted=None):
    return decoder.decode_cached(np.array(tokens), cache, engine.weights["decoder"], SMALL, wanted)


def test_encode(engine, rng):
    mel = rng.standard_normal((2, 8, 11), np.float32)
    assert np.array_equal(engine.encode(mel), encoder.encode(mel, engine.weights["encoder"], SMALL))
    with pytest.raises(ShapeError, match="mel: expected"):
        engine.encode(mel[0])


def test_new_cache(engine, features):
    cache = engine.new_cache(features)
    assert (cache.rows, cache.length) == (2, 0)
    assert same(cache, decoder.new_cache(features, engine.weights["decoder"], SMALL))


@pytest.mark.parametrize("wanted", [None, [0], [-1], [2, 0]], ids=str)
@pytest.mark.parametrize("form", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_tokens_of_one_cache(engine, features, wanted, form):
    cache, tokens = engine.new_cache(features), [[1, 2, 3], [4, 5, 6]]
    ((logits, longer),) = engine.decode_batch([DecoderInput(form(tokens), cache, wanted)])
    expected, after = step(engine, tokens, cache, wanted)
    assert np.array_equal(logits, expected)
    assert logits.shape == (2, 3 if wanted is None else len(wanted), 60)
    assert same(longer, after)
    assert (cache.length, longer.length) == (0, 3)


def test_tokens_of_several_caches(engine, features):
    first, second = (engine.new_cache(features[row : row + 1]) for row in range(2))
    ((_, second),) = engine.decode_batch([DecoderInput([[7, 8]], second)])
    feeds = [
        DecoderInput([[1, 2, 3]], first, [2]),
        DecoderInput([[9], [10]], second.reorder([0, 0])),
        DecoderInput([[4]], first),
    ]
    for feed, (logits, longer) in zip(feeds, engine.decode_batch(feeds), strict=True):
        expected, after = step(engine, feed.tokens, feed.cache, feed.wanted)
        assert np.array_equal(logits, expected)
        assert same(longer, after)


def test_no_tokens_at_all(engine):
    assert engine.decode_batch([]) == []


def test_one_row_of_tokens_per_sequence(engine, features):
    with pytest.raises(ShapeError, match="tokens: expected a batch of 2"):
        engine.decode_batch([DecoderInput([[1]], engine.new_cache(features))])


def test_a_session_on_the_cpu(engine, features):
    with engine.session():
        assert engine.new_cache(features).rows == 2
