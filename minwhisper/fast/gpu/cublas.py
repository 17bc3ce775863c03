"""Matrix products by cuBLAS, called directly to write into buffers, read heads in place, and add to the output.

CuPy's own ``@`` would copy non-contiguous arrays of more than two axes, write to new arrays and take three times as
long to launch. cuBLAS stores matrices by columns, so each product is passed transposed: Cᵀ = Bᵀ Aᵀ.
"""

from typing import Any, NamedTuple

import numpy as np

from ...common.backend import Array, address
from .kernels import check_arrays

NORMAL, TRANSPOSED = 0, 1  # cublasOperation_t


class _Scale:
    """A float32 at a fixed address, as cuBLAS takes its factors."""

    def __init__(self, value: float) -> None:
        self._kept = np.array(value, np.float32)
        self.address = self._kept.ctypes.data


_ONE, _ZERO = _Scale(1.0), _Scale(0.0)


class Cublas(NamedTuple):
    """Products by cuBLAS on CuPy's current device, for heads of one width."""

    library: Any
    scale: _Scale  # 1 / √K

    @classmethod
    def for_heads(cls, width: int) -> "Cublas":
        """Return the products for heads of this width, K."""
        import cupy

        return cls(cupy.cuda.cublas, _Scale(width**-0.5))

    def linear(self, x: Array, weight: Array, out: Array, add: bool = False) -> None:
        """Compute x Wᵀ, or with ``add`` add it to ``out``: x (N, I), weight (O, I) -> out (N, O)."""
        (rows, inner), outer = x.shape, weight.shape[0]
        assert weight.shape == (outer, inner)
        assert out.shape == (rows, outer)
        check_arrays(np.float32, x, weight, out)
        self.library.sgemm(
            *(_handle(), TRANSPOSED, NORMAL, outer, rows, inner, _ONE.address),
            *(address(weight), inner, address(x), inner),
            *((_ONE if add else _ZERO).address, address(out), outer),
        )

    def attention_scores(self, queries: Array, keys: Array, out: Array) -> None:
        """Compute Q Kᵀ / √K of each head: queries (S, D), keys (T, D) -> out (H, S, T)."""
        heads, length, positions = out.shape
        width = queries.shape[1]
        size = width // heads
        assert queries.shape[0] == length
        assert keys.shape == (positions, width)
        check_arrays(np.float32, queries, keys, out)
        self.library.sgemmStridedBatched(
            *(_handle(), TRANSPOSED, NORMAL, positions, length, size, self.scale.address),
            *(address(keys), width, size, address(queries), width, size),
            *(_ZERO.address, address(out), positions, length * positions, heads),
        )

    def weighted_sum(self, weights: Array, values: Array, out: Array) -> None:
        """Average values weighted by attention: weights (H, S, T), values (T, D) -> out (S, D)."""
        heads, length, positions = weights.shape
        width = values.shape[1]
        size = width // heads
        assert values.shape == (positions, width)
        assert out.shape == (length, width)
        check_arrays(np.float32, weights, values, out)
        self.library.sgemmStridedBatched(
            *(_handle(), NORMAL, NORMAL, size, length, positions, _ONE.address),
            *(address(values), width, size, address(weights), positions, length * positions),
            *(_ZERO.address, address(out), width, size, heads),
        )


def _handle() -> int:
    import cupy

    return int(cupy.cuda.device.get_cublas_handle())
