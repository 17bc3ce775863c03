"""Each fast layer equals the readable one of the same name, and attention scores neither overflow nor underflow."""

import numpy as np
import pytest

from minwhisper.fast.cpu.layers import MAX_SAFE_SCORE, ROW_SUM_BLOCK, TILE, attend, concat_weights, gelu, layer_norm
from minwhisper.model import layers
from minwhisper.parity.comparison import relative_difference

BOUND = 1e-6
ROWS = pytest.mark.parametrize("rows", [1, TILE], ids=lambda rows: f"{rows} rows")


@pytest.fixture
def qkv(rng):
    """Return unscaled queries (6, TILE, 64), keys (6, 64, 1500) and values (6, 1500, 64), some of them large."""
    queries, keys, values = (
        rng.standard_normal(shape, np.float32) for shape in ((6, TILE, 64), (6, 64, 1500), (6, 1500, 64))
    )
    return 3 * queries, keys, values * np.exp(rng.standard_normal(values.shape, np.float32))


def scaled(queries):
    return queries * np.float32(queries.shape[-1] ** -0.5)


def score_bound(queries, keys) -> float:
    """Return an upper bound of the scores from the norms of queries and keys."""
    lengths = np.linalg.norm(scaled(queries), axis=-1).max() * np.linalg.norm(keys, axis=-2).max()
    return float(lengths) * 1.001


def uninitialised(*shape):
    """Return a buffer of NaN, so that a layer that reads it fails the comparison."""
    return np.full(shape, np.nan, np.float32)


# --- Linear maps


ARRANGED = {
    "another order": lambda parts: [parts[1], parts[0], parts[2]],
    "only the last": lambda parts: parts[1:],
    "one elsewhere": lambda parts: [parts[0], parts[1], parts[2].copy()],
    "backwards": lambda parts: [part[::-1] for part in parts],
    "of no array": lambda parts: [np.frombuffer(part.tobytes(), np.float32).reshape(part.shape) for part in parts],
}


@pytest.mark.parametrize("arrange", ARRANGED.values(), ids=ARRANGED)
def test_only_adjacent_weights_are_concatenated_without_a_copy(rng, arrange):
    adjacent = [part.T for part in np.split(rng.standard_normal((5, 12), np.float32), 3, axis=1)]
    assert concat_weights(adjacent) is adjacent[0].base
    weights = arrange(adjacent)
    together = concat_weights(weights)
    assert together.flags.c_contiguous
    assert np.array_equal(together, np.concatenate([weight.T for weight in weights], axis=1))
    assert not any(np.shares_memory(together, weight) for weight in weights)


# --- Norm, GELU


def test_layer_norm_equals_the_readable_layer_in_place_and_for_equal_values(rng):
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((TILE, 384), 384, 384))
    x = 20 * x**3 + 5
    kept, out = x.copy(), uninitialised(*x.shape)
    assert layer_norm(x, weight, bias, out=out) is out
    assert relative_difference(out, layers.layer_norm(x, weight, bias)) <= BOUND
    assert np.array_equal(x, kept)
    assert np.array_equal(layer_norm(x, weight, bias, out=x), out)
    constant = layer_norm(np.full((2, 384), 5, np.float32), weight, bias, out=uninitialised(2, 384))
    assert np.array_equal(constant, np.stack([bias] * 2))


def test_gelu_equals_the_readable_layer_near_and_far_from_zero(rng):
    x = rng.standard_normal((8, 1536), np.float32)
    expected = layers.gelu(x)
    assert gelu(x) is x
    assert relative_difference(x, expected) <= BOUND
    far = np.linspace(-60, 60, 10_001, dtype=np.float32)[None]
    assert np.allclose(gelu(far.copy()), layers.gelu(far), rtol=1e-6, atol=1e-7)


# --- Attention


@ROWS
@pytest.mark.parametrize("positions", [1, TILE, TILE + 1, ROW_SUM_BLOCK + 1, 1500])
def test_attend_equals_the_readable_layer(qkv, rows, positions):
    queries, keys, values = qkv
    queries, keys, values = queries[:, :rows], keys[:, :, :positions], values[:, :positions]
    expected, _ = layers.attend(queries, keys, values)
    assert relative_difference(attend(scaled(queries), keys, values), expected) <= BOUND
    small = queries * np.float32(20 / score_bound(queries, keys))  # the maximum need not be subtracted
    expected_of_small, _ = layers.attend(small, keys, values)
    found = attend(scaled(small), keys, values, max_score=score_bound(small, keys))
    assert relative_difference(found, expected_of_small) <= BOUND
    out = uninitialised(rows, 6 * 64)
    for head in range(6):  # each writes its part of the width
        attend(scaled(queries[head]), keys[head], values[head], out=out[:, 64 * head : 64 * (head + 1)])
    assert relative_difference(out, expected.swapaxes(0, 1).reshape(out.shape)) <= BOUND


@ROWS
@pytest.mark.parametrize(("sign", "bound_is_given"), [(1, False), (1, True), (-1, True)])
def test_attend_is_exact_for_scores_too_large_for_exp(rng, bound_is_given, rows, sign):
    queries = np.abs(rng.standard_normal((2, rows, 64), np.float32)) * 30
    keys = np.abs(rng.standard_normal((2, 64, 1500), np.float32)) * sign
    values = rng.standard_normal((2, 1500, 64), np.float32)
    plain, scores = layers.attend(queries, keys, values)
    assert np.abs(scores).max() > 89  # exp of it overflows float32
    max_score = score_bound(queries, keys) if bound_is_given else np.inf
    with np.errstate(all="raise", under="ignore"):
        ours = attend(scaled(queries), keys, values, max_score=max_score)
    # Scores of hundreds are exact to 1e-5 only, so both are compared with float64.
    exact, _ = layers.attend(*(array.astype(np.float64) for array in (queries, keys, values)))
    assert np.isfinite(ours).all()
    assert relative_difference(ours, exact) <= 1.3 * relative_difference(plain, exact)


@ROWS
@pytest.mark.parametrize("score", [-0.99 * MAX_SAFE_SCORE, 0.99 * MAX_SAFE_SCORE], ids=["low", "high"])
@pytest.mark.parametrize("size", [1e-3, 100.0])
def test_attend_without_the_maximum_is_exact_up_to_the_largest_safe_score(rng, rows, score, size):
    queries, keys = np.zeros((rows, 64), np.float32), np.zeros((64, 1500), np.float32)
    queries[:, 0], keys[0] = 1, score
    values = ((1 + rng.random((1500, 64))) * size).astype(np.float32)
    with np.errstate(all="raise"):
        ours = attend(queries, keys, values, max_score=MAX_SAFE_SCORE)
    assert relative_difference(ours, np.broadcast_to(values.mean(axis=0, dtype=np.float64), ours.shape)) <= BOUND
