"""The plain engine returns what the functions of the model return, and leaves its caches unchanged."""

import numpy as np
import pytest

from conftest import SMALL
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


def step(engine, tokens, cache):
    return decoder.decode_cached(np.array(tokens), cache, engine.weights["decoder"], SMALL)


def test_encode(engine, rng):
    mel = rng.standard_normal((2, 8, 11), np.float32)
    assert np.array_equal(engine.encode(mel), encoder.encode(mel, engine.weights["encoder"], SMALL))


DECODED = {  # tokens of two sequences, the positions whose logits are wanted
    "all positions": ([[1, 2, 3], [4, 5, 6]], None),
    "the first": ([[1, 2, 3], [4, 5, 6]], [0]),
    "the last": ([[1, 2, 3], [4, 5, 6]], [-1]),
    "two in another order": ([[1, 2, 3], [4, 5, 6]], [2, 0]),
    "a tuple": (((1, 2, 3), (4, 5, 6)), None),
    "an array": (np.array([[1, 2, 3], [4, 5, 6]]), [-1]),
}


@pytest.mark.parametrize(("tokens", "wanted"), DECODED.values(), ids=DECODED)
def test_tokens_of_one_cache(engine, features, tokens, wanted):
    cache = engine.new_cache(features)
    ((logits, longer),) = engine.decode_batch([DecoderInput(tokens, cache, wanted)])
    expected, after = step(engine, tokens, cache)
    assert logits.shape == (2, 3 if wanted is None else len(wanted), 60)
    assert np.allclose(logits, expected if wanted is None else expected[:, wanted], atol=1e-6)
    assert same(longer, after)
    assert (cache.rows, cache.length, longer.length) == (2, 0, 3)


def test_tokens_of_several_caches(engine, features):
    first, second = (engine.new_cache(features[row : row + 1]) for row in range(2))
    ((_, second),) = engine.decode_batch([DecoderInput([[7, 8]], second)])
    inputs = [
        DecoderInput([[1, 2, 3]], first, [2]),
        DecoderInput([[9], [10]], second.reorder([0, 0])),
        DecoderInput([[4]], first),
    ]
    for one, (logits, longer) in zip(inputs, engine.decode_batch(inputs), strict=True):
        expected, after = step(engine, one.tokens, one.cache)
        assert np.allclose(logits, expected[:, -1:], atol=1e-6)
        assert same(longer, after)
    assert engine.decode_batch([]) == []


def test_a_session_on_the_cpu(engine, features):
    with engine.session():
        assert same(engine.new_cache(features), decoder.new_cache(features, engine.weights["decoder"], SMALL))
