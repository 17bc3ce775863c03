"""Numerics: products in blocks."""

import numpy as np
import pytest

from minwhisper.model.numerics import INNER_BLOCK, matmul


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape)


@pytest.mark.parametrize("inner", [1, 95, 96, 97, 193, 300])
@pytest.mark.parametrize("lead", [(1,), (3,), (2, 3, 4)], ids=str)
def test_matmul_is_exact_at_the_edges_of_its_blocks(inner: int, lead: tuple[int, ...]) -> None:
    a, b = random(*lead, inner), random(*lead[:-1], inner, 5)
    exact = (a[..., None] * b[..., None, :, :]).sum(axis=-2)
    np.testing.assert_allclose(matmul(a, b), exact, rtol=1e-12, atol=1e-12)


def test_blocks_keep_the_error_of_a_long_sum_small() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((64, 1536), np.float32), rng.standard_normal((1536, 64), np.float32)
    assert 1536 % INNER_BLOCK == 0
    exact = a.astype(np.float64) @ b.astype(np.float64)
    # A single running sum of all terms, which a BLAS may use, would have an error of 7e-7 or more.
    assert np.linalg.norm(matmul(a, b) - exact) / np.linalg.norm(exact) < 2.5e-7
