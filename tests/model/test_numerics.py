"""Numerics: products in blocks, and array functions for any library."""

import sys
import types

import numpy as np
import pytest

from minwhisper.model import numerics
from minwhisper.model.numerics import INNER_BLOCK, matmul


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape)


def naive_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([[sum(x * y for x, y in zip(row, column, strict=True)) for column in b.T] for row in a])


@pytest.mark.parametrize("inner", [1, 95, 96, 97, 191, 192, 193, 300])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_matmul_at_the_edges_of_its_blocks(inner: int, rows: int) -> None:
    a, b = random(rows, inner), random(inner, 4)
    assert np.allclose(matmul(a, b), naive_matmul(a, b), rtol=1e-12, atol=1e-12)


def test_matmul_of_stacks() -> None:
    a, b = random(2, 3, 4, 200), random(2, 3, 200, 5)
    ours = matmul(a, b)
    assert ours.shape == (2, 3, 4, 5)
    for stack in np.ndindex(2, 3):
        assert np.allclose(ours[stack], naive_matmul(a[stack], b[stack]), rtol=1e-12, atol=1e-12)


def test_blocks_keep_the_error_of_a_long_sum_small() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((64, 1536), np.float32), rng.standard_normal((1536, 64), np.float32)
    assert 1536 % INNER_BLOCK == 0
    exact = a.astype(np.float64) @ b.astype(np.float64)
    # One running sum of all terms, which any BLAS may compute, would have an error of 7e-7 or more.
    assert np.linalg.norm(matmul(a, b) - exact) / np.linalg.norm(exact) < 2.5e-7


def test_functions_call_the_library_of_their_first_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", library)
    array = type("ndarray", (), {"__module__": "elsewhere._core"})()
    library.exp = library.concatenate = lambda x, axis=0: (x, axis)  # type: ignore[attr-defined]
    assert numerics.exp(array) == (array, 0)
    assert numerics.concatenate([array, array], axis=1) == ([array, array], 1)
    assert np.array_equal(numerics.exp(np.zeros(2)), np.ones(2))
