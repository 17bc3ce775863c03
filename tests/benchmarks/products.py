"""Measure the cost and the benefit of matrix products summed in blocks: `numerics.matmul` and plain `@`, in turn.

Run: python tests/benchmarks/products.py

Prints, for the products of tiny's encoder, the ratio of median times, and the relative error of both against float64.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from minwhisper.model.numerics import matmul
from minwhisper.parity.comparison import relative_difference

ROUNDS = 15
SHAPES = {
    "queries, keys, values": ((1500, 384), (384, 384)),
    "MLP, first": ((1500, 384), (384, 1536)),
    "MLP, second": ((1500, 1536), (1536, 384)),
    "attention × values": ((6, 1500, 1500), (6, 1500, 64)),
}


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    print(f"{'product':<24} {'plain ms':>9} {'time ratio':>11} {'plain error':>12} {'blocks error':>13}")
    for name, (left, right) in SHAPES.items():
        a, b = rng.standard_normal(left, dtype=np.float32), rng.standard_normal(right, dtype=np.float32)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        pairs = [(seconds(lambda: a @ b), seconds(lambda: matmul(a, b))) for _ in range(ROUNDS)]  # noqa: B023
        plain, blocks = (statistics.median(times) for times in zip(*pairs, strict=True))
        errors = relative_difference(a @ b, exact), relative_difference(matmul(a, b), exact)
        print(f"{name:<24} {1e3 * plain:>9.1f} {blocks / plain:>11.2f} {errors[0]:>12.1e} {errors[1]:>13.1e}")
