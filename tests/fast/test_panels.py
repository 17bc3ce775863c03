"""Panels: they hold the values of a weight, and their products are exact."""

import numpy as np
import pytest

from minwhisper.fast.cpu.panels import PANEL_WIDTH, Panels, Unpacked, panel_matmul, unpacked
from minwhisper.fast.cpu.threads import Pool
from minwhisper.model.weights import rows_of
from minwhisper.parity.comparison import relative_difference

SHAPES = pytest.mark.parametrize("shape", [(1, 1), (32, 384), (33, 129), (5000, 384)], ids=str)


# --- Values


@SHAPES
def test_panels_hold_a_weight(rng, shape):
    weight, seen = rng.standard_normal(shape, np.float32), []

    def read(out, first):
        seen.extend(range(first, first + len(out)))
        rows_of(weight)(out, first)

    panels = Panels.empty(*shape)
    panels.load_into(read)
    assert seen == list(range(shape[0]))  # each row is read once, in order
    assert len(panels) == shape[0]
    assert np.array_equal(panels.weight(), weight)
    assert not np.shares_memory(panels.weight(), panels.array)
    assert not panels.array[-1, :, shape[0] - len(panels.array) * PANEL_WIDTH or PANEL_WIDTH :].any()
    numbers = rng.integers(0, shape[0], (2, 3))
    assert np.array_equal(panels.rows(numbers), weight[numbers])


# --- Concatenation


def filled_panels(outputs, rng) -> list[Panels]:
    parts = Panels.empty_adjacent(3, outputs, 40)
    for part in parts:
        part.load_into(rows_of(rng.standard_normal((outputs, 40), np.float32)))
    return parts


@pytest.mark.parametrize("outputs", [64, 20])
def test_adjacent_panels_are_one_matrix(rng, outputs):
    parts = filled_panels(outputs, rng)
    together = Panels.of(*parts)
    assert np.array_equal(together.weight(), np.concatenate([part.weight() for part in parts]))
    assert np.shares_memory(together.array, parts[1].array) == (outputs == 64)  # panels of 20 are not full
    assert Panels.of(parts[1]).array is parts[1].array


ARRANGED = {
    "another order": lambda parts: [parts[1], parts[0], parts[2]],
    "only the last": lambda parts: parts[1:],
    "one elsewhere": lambda parts: [parts[0], parts[1], Panels(parts[2].array.copy(), 64)],
    "fewer inputs": lambda parts: [Panels(part.array[:, :30], 64) for part in parts],
    "one that is no panels": lambda parts: [parts[0], parts[1].weight(), parts[2]],
}


@pytest.mark.parametrize("arrange", ARRANGED.values(), ids=ARRANGED)
def test_panels_that_are_not_adjacent_are_copied(rng, arrange):
    parts = filled_panels(64, rng)
    arranged = arrange(parts)
    together = Panels.of(*arranged)
    assert np.array_equal(together.weight(), np.concatenate([unpacked(part) for part in arranged]))
    assert not any(np.shares_memory(together.array, part.array) for part in parts)


# --- Products


@SHAPES
@pytest.mark.parametrize("rows", [1, 5, 7, 130])
def test_products_of_any_shape_are_exact(rng, shape, rows):
    x, weight = rng.standard_normal((rows, shape[1]), np.float32), rng.standard_normal(shape, np.float32)
    panels, out = Panels.of(weight), np.full((rows, shape[0]), np.nan, np.float32)
    assert panel_matmul(x, panels, Pool(2), out) is out
    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    assert relative_difference(out, exact) <= 2.5e-7  # the error of PyTorch's BLAS over 384 terms
    assert np.array_equal(panel_matmul(x, panels, Pool(2)), out)


# --- For the layers


def test_unpacked_weights_convert_panels_on_access(rng):
    weight, bias = rng.standard_normal((40, 8), np.float32), rng.standard_normal(40, np.float32)
    seen = unpacked({"bias": bias, "blocks": ({"weight": Panels.of(weight)}, {"weight": weight})})
    assert isinstance(seen, Unpacked)
    assert list(seen) == ["bias", "blocks"]
    assert len(seen) == 2
    first, second = seen["blocks"]
    assert np.array_equal(first["weight"], weight)
    assert first["weight"] is not first["weight"]  # a copy per access
    assert seen["bias"] is bias
    assert second["weight"] is weight
