"""Layers: each compared with its definition in float64, and checked for mistakes that are easy to make."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from minwhisper.model.layers import (
    KV,
    attend,
    attention,
    causal_mask,
    conv1d,
    embedding,
    gelu,
    keys_and_values,
    layer_norm,
    linear,
    log_softmax,
    mlp,
    softmax,
)

# --- Definitions


def naive_linear(x, weight, bias=0.0):
    return np.einsum("...i,oi->...o", x, weight) + bias


def naive_layer_norm(x, weight, bias):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def naive_gelu(x):
    return np.array([v / 2 * math.erfc(-v / math.sqrt(2)) for v in x.ravel().tolist()]).reshape(x.shape)


def naive_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def naive_conv1d(x, weight, bias, stride=1):
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    taps = [padded[:, tap : tap + x.shape[1] : stride] for tap in range(3)]
    return np.einsum("kbti,oik->bto", taps, weight) + bias


def naive_attend(queries, keys, values, mask=0.0):
    scores = np.einsum("bhsk,bhkt->bhst", queries, keys) / math.sqrt(queries.shape[-1]) + mask
    return np.einsum("bhst,bhtk->bhsk", naive_softmax(scores), values)


def naive_attention(x, weights, heads, *, source=None, causal=False):
    def project(activations, name):
        projected = naive_linear(activations, **weights[name])
        return np.stack(np.split(projected, heads, axis=-1), axis=1)  # each head is a consecutive part of the width

    keys, values = (project(x if source is None else source, name) for name in ("key", "value"))
    later = np.triu(np.full((x.shape[1], keys.shape[2]), -np.inf), 1) if causal else 0.0
    mixed = naive_attend(project(x, "query"), keys.swapaxes(2, 3), values, later)
    return naive_linear(np.concatenate([*mixed.swapaxes(0, 1)], axis=-1), **weights["out"])


def naive_mlp(x, weights):
    return naive_linear(naive_gelu(naive_linear(x, **weights["fc1"])), **weights["fc2"])


# --- Every layer


class Case(NamedTuple):
    layer: Callable[..., Any]
    naive: Callable[..., Any]
    x: np.ndarray  # activations
    weights: tuple[Any, ...] = ()

    def run(self, dtype=np.float64, stored=None):
        return self.layer(*self.arguments(dtype, stored))

    def arguments(self, dtype=np.float64, stored=None):
        return (cast(self.x, dtype), *(cast(w, stored or dtype) for w in self.weights))


def cast(tree, dtype):
    if isinstance(tree, Mapping):
        return {key: cast(value, dtype) for key, value in tree.items()}
    return tree.astype(dtype) if isinstance(tree, np.ndarray) else tree


def arrays(tree):
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, Mapping | tuple):
        for item in tree.values() if isinstance(tree, Mapping) else tree:
            yield from arrays(item)


def random(*shape, seed=0, scale=1.0, shift=0.0):
    """Return random values that float16 represents exactly, so that a case is the same in every dtype."""
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return (scale * values + shift).astype(np.float16).astype(np.float64)


def affine(inputs, outputs, seed, bias=True):
    weight = {"weight": random(outputs, inputs, seed=seed)}
    return weight | ({"bias": random(outputs, seed=seed)} if bias else {})


def attention_weights(width):
    return {
        name: affine(width, width, seed, bias=name != "key")
        for seed, name in enumerate(("query", "key", "value", "out"))
    }


def attended(x, weights, heads, *, source=None, causal=False):
    """Return the output of ``attention``, which is self-attention if there is no source."""
    kv = keys_and_values(x if source is None else source, weights, heads)
    return attention(x, kv, weights, heads, causal_mask(x.shape[1], 0, x) if causal else None)[0]


def to_longer_source(attention):
    """Return cross-attention from x to a longer source."""
    return lambda x, weights, heads: attention(
        x, weights, heads, source=np.concatenate([x + 1, 2 * x[:, ::-2]], axis=1)
    )


ATTENTION = (attention_weights(12), 3)
CONVOLUTION = (random(4, 5, 3), random(4))
HALVED = partial(conv1d, stride=2), partial(naive_conv1d, stride=2)
CASES = {
    "linear": Case(linear, naive_linear, random(2, 3, 100), (random(5, 100), random(5))),
    "linear without a bias": Case(linear, naive_linear, random(2, 3, 7), (random(5, 7),)),
    "linear of one long row": Case(linear, naive_linear, random(1, 200), (random(5, 200), random(5))),
    "layer_norm": Case(
        layer_norm, naive_layer_norm, random(2, 3, 10, scale=3, shift=1), (random(10), random(10, seed=1))
    ),
    "gelu": Case(gelu, naive_gelu, random(2, 3, 50, scale=3)),
    "softmax": Case(softmax, naive_softmax, random(2, 3, 10, scale=4)),
    "log_softmax": Case(log_softmax, lambda x: np.log(naive_softmax(x)), random(2, 3, 10, scale=4)),
    "conv1d": Case(conv1d, naive_conv1d, random(2, 8, 5), CONVOLUTION),
    "conv1d, stride 2": Case(*HALVED, random(2, 8, 5), CONVOLUTION),
    "conv1d, odd length": Case(*HALVED, random(1, 7, 5), CONVOLUTION),
    "attend": Case(
        lambda *arguments: attend(*arguments)[0],
        naive_attend,
        random(2, 3, 4, 5),
        (random(2, 3, 5, 6), random(2, 3, 6, 5), np.triu(np.full((4, 6), -np.inf), 3)),
    ),
    "causal self-attention": Case(
        partial(attended, causal=True), partial(naive_attention, causal=True), random(2, 5, 12), ATTENTION
    ),
    "cross-attention": Case(to_longer_source(attended), to_longer_source(naive_attention), random(2, 5, 12), ATTENTION),
    "mlp": Case(mlp, naive_mlp, random(2, 3, 6), ({"fc1": affine(6, 24, 1), "fc2": affine(24, 6, 2)},)),
}
every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def distance(ours, exact):
    return np.linalg.norm(ours.astype(np.float64) - exact) / np.linalg.norm(exact)


@every_layer
def test_layer_equals_its_definition(case):
    expected = case.naive(*case.arguments())
    ours = case.run()
    assert ours.shape == expected.shape
    assert distance(ours, expected) < 1e-14


@every_layer
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_output_has_the_dtype_of_the_activations_whatever_that_of_the_weights(case, dtype, bound):
    # Underflow is expected: the exponential of a score far below the largest is zero.
    with np.errstate(all="raise", under="ignore"):
        half, single, same = (case.run(dtype, stored) for stored in (np.float16, np.float32, None))
    assert half.dtype == single.dtype == same.dtype == dtype
    assert np.array_equal(half, single)
    for ours in (single, same):
        assert distance(ours, case.run()) < bound


@every_layer
def test_arguments_are_not_modified(case):
    arguments = case.arguments(np.float32)
    inputs = list(arrays(arguments))
    for array in inputs:
        array.flags.writeable = False  # writing to it is now an error
    ours = case.layer(*arguments)
    assert not any(np.shares_memory(ours, array) for array in inputs)
    assert np.array_equal(case.layer(*arguments), ours)  # no state is kept between calls


def test_embedding_looks_up_rows():
    table, tokens = random(10, 4), np.array([[3, 3, 9], [0, 1, 2]])
    ours = embedding(tokens, table)
    assert np.array_equal(ours, np.array([[table[token] for token in row] for row in tokens]))
    assert not np.shares_memory(ours, table)


# --- Norms and nonlinearities


def test_layer_norm_is_exact_for_values_far_from_zero():
    # The mean itself is known to no more than 2.4e-4 here; a variance of E[x²] - E[x]² would be off by about 1.
    x = (random(4, 100) + 3000).astype(np.float32)
    one, zero = np.ones(100, np.float32), np.zeros(100, np.float32)
    assert distance(layer_norm(x, one, zero), naive_layer_norm(x.astype(np.float64), one, zero)) < 1e-3


def test_gelu_in_float32_is_exact_near_zero_and_far_from_it():
    x = np.concatenate([np.linspace(-60, 60, 20_001), np.linspace(-6, 6, 20_001), [-1e6, 1e6]]).astype(np.float32)
    with np.errstate(all="raise", under="ignore"):
        ours = gelu(x)
    assert np.abs(ours - naive_gelu(x)).max() <= 5.5e-7
    x = np.float32([-60, -20, -1e-30, 0, 1e-30, 20, 60])
    assert np.allclose(gelu(x), [0, 0, -5e-31, 0, 5e-31, 20, 60], rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_minus_infinity_is_zero(dtype):
    x = np.array([[0, -np.inf, 1], [-np.inf, -np.inf, 2]], dtype)
    ours = softmax(x)
    e = math.e
    assert np.allclose(ours, [[1 / (1 + e), 0, e / (1 + e)], [0, 0, 1]], rtol=1e-6)
    assert np.array_equal(ours == 0, np.isneginf(x))
    assert np.array_equal(np.isneginf(log_softmax(x)), np.isneginf(x))


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_softmax_does_not_overflow_and_its_logarithm_is_exact_where_it_is_zero(shift):
    x = np.array([[0, 1000, 999]]) + shift
    e = math.e
    with np.errstate(all="raise", under="ignore"):
        assert np.allclose(softmax(x), [[0, e / (1 + e), 1 / (1 + e)]])
        assert np.allclose(log_softmax(x)[0, 0], -1000 - math.log1p(1 / e))


# --- Attention


def test_keys_and_values_are_appended_and_reordered():
    kv = KV(random(3, 2, 4, 5), random(3, 2, 5, 4))
    first, second = KV(kv.keys[..., :3], kv.values[:, :, :3]), KV(kv.keys[..., 3:], kv.values[:, :, 3:])
    rows = [2, 0, 2]
    for ours, theirs in (
        *((first.append(second), kv), (kv.empty().append(kv), kv)),
        (kv.reorder(rows), KV(kv.keys[rows], kv.values[rows])),
    ):
        assert np.array_equal(ours.keys, theirs.keys)
        assert np.array_equal(ours.values, theirs.values)


def test_scores_are_those_inside_the_softmax():
    queries, keys, mask = random(1, 2, 4, 5), random(1, 2, 5, 6), causal_mask(4, 2, np.zeros(1))
    identity = np.broadcast_to(np.eye(6), (1, 2, 6, 6))  # as values they give the attention weights themselves
    mixed, scores = attend(queries, keys, identity, mask)
    assert np.allclose(mixed, softmax(scores), rtol=1e-12)
    assert np.array_equal(np.isneginf(scores[0, 0]), np.isneginf(mask))


@pytest.mark.parametrize(("batch", "length"), [(1, 3), (2, 1), (5, 3)])
def test_sequences_that_share_keys_and_values_attend_as_each_alone(batch, length):
    x, weights = random(batch, length, 12), attention_weights(12)
    kv = keys_and_values(random(1, 7, 12), weights, 3)
    ours, scores = attention(x, kv, weights, 3)
    assert ours.shape == x.shape
    assert scores.shape == (1, 3, batch * length, 7)
    for row in range(batch):
        assert np.allclose(ours[row], attention(x[row : row + 1], kv, weights, 3)[0][0], rtol=1e-12)
