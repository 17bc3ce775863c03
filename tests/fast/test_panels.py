"""Panels: they hold the values of a weight, and give its products."""

import numpy as np
import pytest

from minwhisper.fast.cpu.panels import (
    PANEL_WIDTH,
    PanelLinear,
    Panels,
    Unpacked,
    multiply_panels,
    panel_matmul,
    unpacked,
)
from minwhisper.fast.cpu.threads import Pool
from minwhisper.model import layers, numerics
from minwhisper.model.weights import rows_of
from minwhisper.parity.comparison import relative_difference, window_mel

BOUND = 5e-7
SHAPES = [(1, 1), (1, 5), (31, 8), (32, 384), (33, 129), (100, 128), (384, 384), (1500, 130), (70, 509), (5000, 384)]


@pytest.fixture(scope="module")
def features(tiny_en, speech) -> np.ndarray:
    """Return rows of the decoder's width: (1500, D)."""
    return tiny_en.encode(window_mel(speech["LJ001-0001.wav"], 80))[0]


@pytest.fixture(scope="module")
def decoder(tiny_en):
    return tiny_en.weights["decoder"]


# --- Values


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_panels_hold_a_weight(rng, shape):
    weight = rng.standard_normal(shape, np.float32)
    panels = Panels.of(weight)
    assert len(panels) == shape[0]
    assert np.array_equal(panels.weight(), weight)
    assert not np.shares_memory(panels.weight(), panels.array)
    assert not panels.array[-1, :, shape[0] - len(panels.array) * PANEL_WIDTH or PANEL_WIDTH :].any()
    numbers = rng.integers(0, shape[0], (2, 3))
    assert np.array_equal(panels.rows(numbers), weight[numbers])


@pytest.mark.parametrize("shape", [(33, 129), (5000, 384)], ids=str)
def test_loading_reads_each_row_once_in_order(rng, shape):
    weight, seen = rng.standard_normal(shape, np.float32), []

    def read(out, first):
        seen.extend(range(first, first + len(out)))
        out[...] = weight[first : first + len(out)]

    panels = Panels.empty(*shape)
    panels.load_into(read)
    assert seen == list(range(shape[0]))
    assert np.array_equal(panels.weight(), weight)


# --- Concatenation


def filled(parts, rng) -> list[np.ndarray]:
    weights = [rng.standard_normal((len(part), part.array.shape[1]), np.float32) for part in parts]
    for part, weight in zip(parts, weights, strict=True):
        part.load_into(rows_of(weight))
    return weights


@pytest.mark.parametrize("outputs", [64, 20])
def test_adjacent_panels_are_one_matrix(rng, outputs):
    parts = Panels.empty_adjacent(3, outputs, 40)
    weights = filled(parts, rng)
    for part, weight in zip(parts, weights, strict=True):
        assert np.array_equal(part.weight(), weight)
    together = Panels.of(*parts)
    assert np.array_equal(together.weight(), np.concatenate(weights))
    assert np.shares_memory(together.array, parts[1].array) == (outputs == 64)
    assert Panels.of(parts[1]).array is parts[1].array


@pytest.mark.parametrize(
    "arrange",
    [
        lambda parts: [parts[1], parts[0], parts[2]],
        lambda parts: [parts[0], parts[1], parts[1]],
        lambda parts: parts[:2],
        lambda parts: parts[1:],
        lambda parts: [parts[0], parts[1], Panels(parts[2].array.copy(), 64)],
        lambda parts: [Panels(part.array[:, :30], 64) for part in parts],
        lambda parts: [parts[0], parts[1].weight(), parts[2]],
        lambda parts: [part.weight() for part in parts],
    ],
    ids=[
        "another order",
        "one twice",
        "the first",
        "the last",
        "one elsewhere",
        "fewer inputs",
        "one no panels",
        "none panels",
    ],
)
def test_other_panels_are_copied(rng, arrange):
    parts = Panels.empty_adjacent(3, 64, 40)
    filled(parts, rng)
    arranged = arrange(parts)
    together = Panels.of(*arranged)
    assert np.array_equal(together.weight(), np.concatenate([unpacked(part) for part in arranged]))
    assert not any(np.shares_memory(together.array, part.array) for part in parts)


# --- Products


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 65, 130])
def test_products_of_the_decoder(decoder, features, rows):
    x = layers.layer_norm(features[:rows], **decoder["norm"])
    block = decoder["blocks"][0]
    hidden = layers.gelu(layers.linear(x, **block["mlp"]["fc1"]))
    matrices = [block["mlp"]["fc1"]["weight"], block["cross_attention"]["query"]["weight"], decoder["token_embedding"]]
    for given, weight in [(x, one) for one in matrices] + [(hidden, block["mlp"]["fc2"]["weight"])]:
        ours = panel_matmul(given, Panels.of(weight), Pool(2))
        assert ours.shape == (rows, len(weight))
        exact = given.astype(np.float64) @ weight.T.astype(np.float64)
        assert relative_difference(ours, numerics.matmul(given, weight.T)) <= BOUND
        assert relative_difference(ours, exact) <= 2.5e-7  # the error of PyTorch's BLAS over 384 terms; fc2 has 1,536


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", [1, 5, 7])
def test_products_of_any_shape(rng, shape, rows):
    x, weight = rng.standard_normal((rows, shape[1]), np.float32), rng.standard_normal(shape, np.float32)
    panels, out = Panels.of(weight), np.full((rows, shape[0]), np.nan, np.float32)
    assert panel_matmul(x, panels, Pool(2), out) is out
    assert relative_difference(out, numerics.matmul(x, weight.T)) <= BOUND
    assert np.array_equal(panel_matmul(x, panels, Pool(2)), out)


def test_a_product_into_a_part_of_an_array(rng):
    x, weight = rng.standard_normal((3, 40), np.float32), rng.standard_normal((64, 40), np.float32)
    whole = np.zeros((5, 100), np.float32)
    panel_matmul(x, Panels.of(weight), Pool(1), whole[1:4, 10:74])
    assert relative_difference(whole[1:4, 10:74], x @ weight.T) <= BOUND
    whole[1:4, 10:74] = 0
    assert not whole.any()


@pytest.mark.parametrize(("rows", "multiplied"), [(1, 1), (4, 4), (5, 6), (6, 6), (8, 8), (64, 64), (130, 64)])
def test_rows_and_panels_per_call(decoder, features, monkeypatch, rows, multiplied):
    calls = []

    def counted(x, panels, out):
        calls.append((len(x), len(panels)))
        multiply_panels(x, panels, out)

    monkeypatch.setattr("minwhisper.fast.cpu.panels.multiply_panels", counted)
    panels = Panels.of(decoder["token_embedding"])
    assert panel_matmul(features[:rows], panels, Pool(2)).shape == (rows, len(panels))
    assert max(x for x, _ in calls) == multiplied
    assert sum(x * panels for x, panels in calls) == (6 if rows == 5 else rows) * len(panels.array)
    assert max(panels for _, panels in calls) < len(panels.array)  # threads share the token embedding
    calls.clear()
    panel_matmul(features[:1], Panels.of(decoder["blocks"][0]["mlp"]["fc1"]["weight"]), Pool(2))
    assert calls == [(1, 48)]  # but not a matrix of a block: too little work


def test_concatenated_linear_maps(decoder, features):
    own = decoder["blocks"][1]["attention"]
    maps = [own[name] for name in ("query", "key", "value")]  # the key has no bias
    out = PanelLinear.of(*maps)(features[:5], Pool(1), np.full((5, 3 * 384), np.nan, np.float32))
    for ours, weights in zip(np.split(out, 3, axis=1), maps, strict=True):
        assert relative_difference(ours, layers.linear(features[:5], **weights)) <= BOUND


# --- For the layers


def test_unpacked_weights(rng):
    weight, bias = rng.standard_normal((40, 8), np.float32), rng.standard_normal(40, np.float32)
    tree = {"bias": bias, "blocks": ({"weight": Panels.of(weight)}, {"weight": weight})}
    seen = unpacked(tree)
    assert isinstance(seen, Unpacked)
    assert list(seen) == ["bias", "blocks"]
    assert len(seen) == 2
    assert seen["bias"] is bias
    first, second = seen["blocks"]
    assert np.array_equal(first["weight"], weight)
    assert first["weight"] is not first["weight"]  # a copy per access
    assert second["weight"] is weight
    with pytest.raises(KeyError):
        first["none"]
