"""Each fast layer equals the readable one of the same name, on the activations of tiny.en for real speech."""

from typing import NamedTuple

import numpy as np
import pytest

from minwhisper.fast.cpu.layers import (
    MAX_SAFE_SCORE,
    ROW_SUM_BLOCK,
    TILE,
    attend,
    concat_weights,
    gelu,
    layer_norm,
    tiles,
)
from minwhisper.model import layers
from minwhisper.model.encoder import encoder_block, stem
from minwhisper.model.layers import causal_mask, keys_and_values, split_heads
from minwhisper.parity.comparison import relative_difference, window_mel

BOUND = 1e-6
ROWS = pytest.mark.parametrize("rows", [1, 8, TILE], ids=lambda rows: f"{rows} rows")


class Flow(NamedTuple):
    """Activations in the encoder's last block, whose values differ most in size."""

    x: np.ndarray  # (T, D), into the block
    normed: np.ndarray  # (T, D), into attention
    hidden: np.ndarray  # (T, F), into GELU
    weights: layers.Weights


@pytest.fixture(scope="module")
def flow(tiny_en, speech) -> Flow:
    encoder, heads = tiny_en.weights["encoder"], tiny_en.config.encoder_attention_heads
    x = stem(window_mel(speech["LJ001-0001.wav"], 80), encoder)
    *before, block = encoder["blocks"]
    for earlier in before:
        x = encoder_block(x, earlier, heads)
    normed = layers.layer_norm(x, **block["attention_norm"])
    hidden = layers.linear(layers.layer_norm(x, **block["mlp_norm"]), **block["mlp"]["fc1"])
    return Flow(x[0], normed[0], hidden[0], block)


@pytest.fixture(scope="module")
def qkv(flow):
    """Return unscaled queries (H, S, K), keys (H, K, T) and values (H, T, K) of a block's attention."""
    weights = flow.weights["attention"]
    queries = split_heads(layers.linear(flow.normed[None], **weights["query"]), 6)
    keys, values = keys_and_values(flow.normed[None], weights, 6)
    return queries[0], keys[0], values[0]


def scaled(queries):
    return queries * np.float32(queries.shape[-1] ** -0.5)


def score_bound(queries, keys) -> float:
    """Return a bound on the scores by the norms of queries and keys."""
    lengths = np.linalg.norm(scaled(queries), axis=-1).max() * np.linalg.norm(keys, axis=-2).max()
    return float(lengths) * 1.001


def uninitialised(*shape):
    """Return an uninitialised buffer, as far as a layer can tell."""
    return np.full(shape, np.nan, np.float32)


# --- Linear maps


def test_tiles_cover_every_row_once():
    for length in (1, TILE - 1, TILE, TILE + 1, 1500):
        assert [row for tile in tiles(length) for row in range(length)[tile]] == list(range(length))
    assert tiles(0) == []
    assert [tile.stop - tile.start for tile in tiles(130, 64)] == [64, 64, 2]


ARRANGED = {
    "another order": lambda parts: [parts[1], parts[0], parts[2]],
    "one twice": lambda parts: [parts[0], parts[1], parts[1]],
    "only the last": lambda parts: parts[1:],
    "one elsewhere": lambda parts: [parts[0], parts[1], parts[2].copy()],
    "by rows": lambda parts: [np.ascontiguousarray(part) for part in parts],
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


# --- Norm, GELU, MLP


@ROWS
def test_layer_norm(flow, rows):
    weights, x = flow.weights["attention_norm"], flow.x[:rows].copy()
    expected = layers.layer_norm(x, **weights)
    out = uninitialised(*x.shape)
    assert layer_norm(x, **weights, out=out) is out
    assert relative_difference(out, expected) <= BOUND
    assert np.array_equal(x, flow.x[:rows])
    assert np.array_equal(layer_norm(x, **weights, out=x), out)  # in place
    constant = layer_norm(np.full((2, 384), 5, np.float32), **weights, out=uninitialised(2, 384))
    assert np.array_equal(constant, np.stack([weights["bias"]] * 2))


def test_gelu_near_and_far_from_zero(flow):
    x = flow.hidden[:8].copy()
    assert gelu(x) is x
    assert relative_difference(x, layers.gelu(flow.hidden[:8])) <= BOUND
    far = np.linspace(-60, 60, 10_001, dtype=np.float32)[None]
    assert np.allclose(gelu(far.copy()), layers.gelu(far), rtol=1e-6, atol=1e-7)


# --- Attention


@ROWS
@pytest.mark.parametrize("positions", [1, TILE, TILE + 1, ROW_SUM_BLOCK, ROW_SUM_BLOCK + 1, 1500])
def test_attend(qkv, rows, positions):
    queries, keys, values = qkv
    queries, keys, values = queries[:, :rows], keys[:, :, :positions], values[:, :positions]
    expected, _ = layers.attend(queries, keys, values)
    assert relative_difference(attend(scaled(queries), keys, values), expected) <= BOUND
    small = queries * np.float32(20 / score_bound(queries, keys))  # the maximum need not be subtracted
    expected_of_small, _ = layers.attend(small, keys, values)
    found = attend(scaled(small), keys, values, max_score=score_bound(small, keys))
    assert relative_difference(found, expected_of_small) <= BOUND
    out = uninitialised(rows, 6 * 64)
    for head in range(6):  # each into its part of the width
        attend(scaled(queries[head]), keys[head], values[head], out=out[:, 64 * head : 64 * (head + 1)])
    assert relative_difference(out, expected.swapaxes(0, 1).reshape(out.shape)) <= BOUND


@pytest.mark.parametrize(("length", "past"), [(1, 100), (6, 60), (TILE, 0)])
def test_attend_with_a_causal_mask(qkv, length, past):
    queries, keys, values = qkv
    queries, keys, values = queries[:, :length], keys[:, :, : past + length], values[:, : past + length]
    mask = causal_mask(length, past, queries)
    expected, _ = layers.attend(queries, keys, values, mask)
    assert relative_difference(attend(scaled(queries), keys, values, mask), expected) <= BOUND


@pytest.mark.parametrize("bound_is_given", [False, True])
@pytest.mark.parametrize("rows", [1, TILE])
@pytest.mark.parametrize("sign", [1, -1])
def test_attend_with_scores_too_large_for_exp(rng, bound_is_given, rows, sign):
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


@pytest.mark.parametrize("rows", [1, TILE])
@pytest.mark.parametrize("score", [-0.99 * MAX_SAFE_SCORE, 0.99 * MAX_SAFE_SCORE], ids=["low", "high"])
@pytest.mark.parametrize("size", [1e-3, 100.0])
def test_attend_without_the_maximum_at_the_largest_safe_score(rng, rows, score, size):
    queries, keys = np.zeros((rows, 64), np.float32), np.zeros((64, 1500), np.float32)
    queries[:, 0], keys[0] = 1, score
    values = ((1 + rng.random((1500, 64))) * size).astype(np.float32)
    with np.errstate(all="raise"):
        ours = attend(queries, keys, values, max_score=MAX_SAFE_SCORE)
    assert relative_difference(ours, np.broadcast_to(values.mean(axis=0, dtype=np.float64), ours.shape)) <= BOUND
