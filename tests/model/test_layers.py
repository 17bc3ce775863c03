"""Layers: each against its definition in Python loops, and against mistakes that are easy to make."""

import math
from collections.abc import Callable, Mapping
from itertools import product
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
    merge_heads,
    mlp,
    softmax,
    split_heads,
)

# --- Definitions, one value at a time


def naive_linear(x, weight, bias=None):
    y = np.empty((*x.shape[:-1], len(weight)))
    for place in np.ndindex(y.shape):
        row = weight[place[-1]]
        y[place] = sum(x[place[:-1]][i] * row[i] for i in range(len(row))) + (0 if bias is None else bias[place[-1]])
    return y


def naive_layer_norm(x, weight, bias):
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        row = [float(v) for v in x[place]]
        mean = math.fsum(row) / len(row)
        variance = math.fsum((v - mean) ** 2 for v in row) / len(row)
        y[place] = [(v - mean) / math.sqrt(variance + 1e-5) * w + b for v, w, b in zip(row, weight, bias, strict=True)]
    return y


def naive_gelu(x):
    return np.array([v / 2 * math.erfc(-v / math.sqrt(2)) for v in x.ravel().tolist()]).reshape(x.shape)


def naive_softmax(x):
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        row = [float(v) for v in x[place]]
        total = math.fsum(math.exp(v - max(row)) for v in row)
        y[place] = [math.exp(v - max(row)) / total for v in row]
    return y


def naive_conv1d(x, weight, bias, stride=1):
    batch, length, inputs = x.shape
    y = np.zeros((batch, len(range(0, length, stride)), len(weight)))
    for b, t, o in np.ndindex(y.shape):
        y[b, t, o] = bias[o]
        for tap, i in product(range(3), range(inputs)):
            place = stride * t + tap - 1
            if 0 <= place < length:
                y[b, t, o] += x[b, place, i] * weight[o, i, tap]
    return y


def naive_attention(x, weights, heads, *, source=None, causal=False):
    queries = naive_linear(x, **weights["query"])
    source = x if source is None else source
    keys, values = naive_linear(source, **weights["key"]), naive_linear(source, **weights["value"])
    width = queries.shape[-1] // heads
    mixed = np.zeros_like(queries)
    for b, s, h in np.ndindex(*queries.shape[:2], heads):
        part = slice(h * width, (h + 1) * width)
        seen = range(s + 1) if causal else range(source.shape[1])
        scores = [sum(queries[b, s, part] * keys[b, t, part]) / math.sqrt(width) for t in seen]
        for t, share in zip(seen, naive_softmax(np.array([scores]))[0], strict=True):
            mixed[b, s, part] += share * values[b, t, part]
    return naive_linear(mixed, **weights["out"])


def naive_attend(queries, keys, values, mask):
    scores = np.einsum("bhsk,bhkt->bhst", queries, keys) / math.sqrt(queries.shape[-1]) + mask
    return np.einsum("bhst,bhtk->bhsk", naive_softmax(scores), values)


def naive_mlp(x, weights):
    return naive_linear(naive_gelu(naive_linear(x, **weights["fc1"])), **weights["fc2"])


# --- Every layer


class Case(NamedTuple):
    layer: Callable[..., Any]
    naive: Callable[..., Any]
    x: np.ndarray  # activations
    weights: tuple[Any, ...]
    others: Mapping[str, Any] = {}  # arrays among them are activations

    def run(self, dtype=np.float64, stored=None):
        return self.layer(*self.arguments(dtype, stored), **self.options(dtype))

    def arguments(self, dtype=np.float64, stored=None):
        return (cast(self.x, dtype), *(cast(w, stored or dtype) for w in self.weights))

    def options(self, dtype=np.float64):
        return {name: cast(value, dtype) for name, value in self.others.items()}


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
    """Return the output of ``attention``, of self-attention if there is no source."""
    kv = keys_and_values(x if source is None else source, weights, heads)
    return attention(x, kv, weights, heads, causal_mask(x.shape[1], 0, x) if causal else None)[0]


ATTENTION = (attention_weights(12), 3)
CASES = {
    "linear": Case(linear, naive_linear, random(2, 3, 100), (random(5, 100), random(5))),
    "linear without a bias": Case(linear, naive_linear, random(2, 3, 7), (random(5, 7),)),
    "linear of one vector": Case(linear, naive_linear, random(7), (random(5, 7), random(5))),
    "linear of one long row": Case(linear, naive_linear, random(1, 200), (random(5, 200), random(5))),
    "layer_norm": Case(
        layer_norm, naive_layer_norm, random(2, 3, 10, scale=3, shift=1), (random(10), random(10, seed=1))
    ),
    "gelu": Case(gelu, naive_gelu, random(2, 3, 50, scale=3), ()),
    "softmax": Case(softmax, naive_softmax, random(2, 3, 10, scale=4), ()),
    "log_softmax": Case(log_softmax, lambda x: np.log(naive_softmax(x)), random(2, 3, 10, scale=4), ()),
    "conv1d": Case(conv1d, naive_conv1d, random(2, 8, 5), (random(4, 5, 3), random(4))),
    "conv1d, stride 2": Case(conv1d, naive_conv1d, random(2, 8, 5), (random(4, 5, 3), random(4)), {"stride": 2}),
    "conv1d, odd length": Case(conv1d, naive_conv1d, random(1, 7, 4), (random(3, 4, 3), random(3)), {"stride": 2}),
    "attend": Case(
        lambda *arguments: attend(*arguments)[0],
        naive_attend,
        random(2, 3, 4, 5),
        (random(2, 3, 5, 6), random(2, 3, 6, 5), np.triu(np.full((4, 6), -np.inf), 3)),
    ),
    "self-attention": Case(attended, naive_attention, random(2, 5, 12), ATTENTION),
    "causal self-attention": Case(attended, naive_attention, random(2, 5, 12), ATTENTION, {"causal": True}),
    "cross-attention": Case(attended, naive_attention, random(2, 5, 12), ATTENTION, {"source": random(2, 7, 12)}),
    "mlp": Case(mlp, naive_mlp, random(2, 3, 6), ({"fc1": affine(6, 24, 1), "fc2": affine(24, 6, 2)},)),
}
every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def distance(ours, exact):
    return np.linalg.norm(ours.astype(np.float64) - exact) / np.linalg.norm(exact)


@every_layer
def test_layer_equals_its_definition(case):
    expected = case.naive(*case.arguments(), **case.options())
    ours = case.run()
    assert ours.shape == expected.shape
    assert distance(ours, expected) < 1e-14


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stored", [np.float16, np.float32, None], ids=["float16", "float32", "same"])
def test_output_has_the_dtype_of_the_activations(case, dtype, stored):
    # Underflow is expected: the exponential of a score far below the largest is zero.
    with np.errstate(all="raise", under="ignore"):
        ours = case.run(dtype, stored)
    assert ours.dtype == dtype
    assert distance(ours, case.run()) < {np.float32: 1e-6, np.float64: 1e-14}[dtype]


@every_layer
def test_float16_weights_give_the_same_as_float32_weights(case):
    assert np.array_equal(case.run(np.float32, stored=np.float16), case.run(np.float32, stored=np.float32))


@every_layer
def test_arguments_are_not_modified(case):
    arguments, options = case.arguments(np.float32), case.options(np.float32)
    inputs = list(arrays((arguments, options)))
    for array in inputs:
        array.flags.writeable = False  # writing to one is now an error
    ours = case.layer(*arguments, **options)
    assert not any(np.shares_memory(ours, array) for array in inputs)
    assert np.array_equal(case.layer(*arguments, **options), ours)  # no state is kept between calls


def test_embedding_looks_up_rows():
    table = random(10, 4)
    tokens = np.array([[3, 3, 9], [0, 1, 2]])
    ours = embedding(tokens, table)
    assert ours.shape == (2, 3, 4)
    for place in np.ndindex(2, 3):
        assert np.array_equal(ours[place], table[tokens[place]])
    assert not np.shares_memory(ours, table)


# --- Norms and nonlinearities


def test_layer_norm_of_values_far_from_zero():
    # The mean itself is known to no more than 2.4e-4 here; a variance of E[x²] - E[x]² would be off by about 1.
    x = (random(4, 100) + 3000).astype(np.float32)
    one, zero = np.ones(100, np.float32), np.zeros(100, np.float32)
    assert distance(layer_norm(x, one, zero), naive_layer_norm(x, one, zero)) < 1e-3


def test_layer_norm_of_equal_values_is_the_shift():
    shift = random(8)
    assert np.array_equal(layer_norm(np.full((2, 8), 5.0), random(8, seed=1), shift), np.stack([shift, shift]))


def test_gelu_in_float32():
    x = np.concatenate([np.linspace(-60, 60, 60_001), np.linspace(-6, 6, 60_001), [-1e6, 1e6]]).astype(np.float32)
    with np.errstate(all="raise", under="ignore"):
        ours = gelu(x)
    assert np.abs(ours - naive_gelu(x)).max() <= 5.5e-7


def test_gelu_far_from_zero_and_near_it():
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


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_softmax_does_not_overflow(shift):
    x = np.array([[0, 1000, 999]]) + shift
    e = math.e
    with np.errstate(all="raise", under="ignore"):
        assert np.allclose(softmax(x), [[0, e / (1 + e), 1 / (1 + e)]])
        assert np.allclose(log_softmax(x)[0, 0], -1000 - math.log1p(1 / e))


def test_log_softmax_is_exact_where_softmax_rounds_to_zero():
    assert softmax(np.float32([0, 200]))[0] == 0
    assert np.array_equal(log_softmax(np.float32([0, 200])), np.float32([-200, 0]))


# --- Convolution


@pytest.mark.parametrize(
    ("length", "stride", "outputs"),
    [
        # One row per position of the single 1: the tap that reads it (1 before, 2 at, 3 after), at each output.
        (4, 1, [[2, 1, 0, 0], [3, 2, 1, 0], [0, 3, 2, 1], [0, 0, 3, 2]]),
        (4, 2, [[2, 0], [3, 1], [0, 2], [0, 3]]),
        (5, 2, [[2, 0, 0], [3, 1, 0], [0, 2, 0], [0, 3, 1], [0, 0, 2]]),
        (1, 1, [[2]]),
        (1, 2, [[2]]),
    ],
)
def test_conv1d_pads_both_sides(length, stride, outputs):
    # With "same" padding and stride 2 the first window would begin at position 0, and give [[1, 0], [2, 0], …].
    taps = np.array([[[1.0, 2.0, 3.0]]])
    probes = np.eye(length)[:, :, None]
    assert np.array_equal(conv1d(probes, taps, np.zeros(1), stride)[..., 0], outputs)


# --- Attention


def test_heads_are_consecutive_parts_of_the_width():
    x = random(2, 5, 12)
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 4)
    for b, h, s in np.ndindex(2, 3, 5):
        assert np.array_equal(heads[b, h, s], x[b, s, 4 * h : 4 * h + 4])
    assert np.array_equal(merge_heads(heads), x)


def test_keys_and_values_are_appended_and_reordered():
    kv = KV(random(3, 2, 4, 5), random(3, 2, 5, 4))
    first, second = KV(kv.keys[..., :3], kv.values[:, :, :3]), KV(kv.keys[..., 3:], kv.values[:, :, 3:])
    for ours in (first.append(second), kv.empty().append(kv)):
        assert np.array_equal(ours.keys, kv.keys)
        assert np.array_equal(ours.values, kv.values)
    assert kv.empty().keys.shape == (3, 2, 4, 0)
    reordered = kv.reorder([2, 0, 2])
    assert np.array_equal(reordered.keys, kv.keys[[2, 0, 2]])
    assert np.array_equal(reordered.values, kv.values[[2, 0, 2]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_causal_mask(dtype):
    mask = causal_mask(3, 2, np.zeros(1, dtype))
    assert mask.dtype == dtype
    hidden = -np.inf
    assert np.array_equal(mask, [[0, 0, 0, hidden, hidden], [0, 0, 0, 0, hidden], [0, 0, 0, 0, 0]])


def test_scores_are_those_inside_the_softmax():
    queries, keys, mask = random(1, 2, 4, 5), random(1, 2, 5, 6), causal_mask(4, 2, np.zeros(1))
    identity = np.broadcast_to(np.eye(6), (1, 2, 6, 6))  # as values it returns the attention weights themselves
    mixed, scores = attend(queries, keys, identity, mask)
    assert np.allclose(mixed, softmax(scores), rtol=1e-12)
    assert np.array_equal(np.isneginf(scores[0, 0]), np.isneginf(mask))


def test_a_bias_of_the_keys_changes_nothing():
    # This is why Whisper has none.
    x, weights = random(2, 5, 12), attention_weights(12)
    biased = weights | {"key": weights["key"] | {"bias": 3 * random(12, seed=9)}}
    assert np.allclose(attended(x, biased, 3), attended(x, weights, 3), rtol=1e-12, atol=1e-12)
    assert not np.allclose(attended(x, weights | {"query": biased["key"]}, 3), attended(x, weights, 3))


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 3])
def test_sequences_that_share_keys_and_values_attend_as_each_alone(batch, length):
    x, weights = random(batch, length, 12), attention_weights(12)
    kv = keys_and_values(random(1, 7, 12), weights, 3)
    ours, scores = attention(x, kv, weights, 3)
    assert ours.shape == x.shape
    assert scores.shape == (1, 3, batch * length, 7)
    for row in range(batch):
        assert np.allclose(ours[row], attention(x[row : row + 1], kv, weights, 3)[0][0], rtol=1e-12)
