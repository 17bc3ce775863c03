"""Matrix products by cuBLAS, called directly: they write where they should, read heads in place, and can add.

CuPy's own ``@`` would copy arrays of more than two axes that are not contiguous, write to new arrays and take three
times as long to launch. cuBLAS has columns where we have rows, so it is given each product transposed: Cᵀ = Bᵀ Aᵀ.
"""

from typing import Any, NamedTuple

import numpy as np

from ...common.backend import Array, address

NORMAL, TRANSPOSED = 0, 1  # cublasOperation_t


class _Scale:
    """A float32 at an address that stays, as cuBLAS takes its factors."""

    def __init__(self, value: float) -> None:
        self._kept = np.array(value, np.float32)
        self.address = self._kept.ctypes.data


_ONE, _ZERO = _Scale(1.0), _Scale(0.0)


class Cublas(NamedTuple):
    """Products of cuBLAS on CuPy's current device, for heads of one width."""

    cublas: Any
    scale: _Scale  # 1 / √K

    @classmethod
    def for_heads(cls, width: int) -> "Cublas":
        """``width`` is K."""
        import cupy

        return cls(cupy.cuda.cublas, _Scale(width**-0.5))

    def linear(self, x: Array, weight: Array, out: Array, add: bool = False) -> None:
        """Compute x Wᵀ, or with ``add`` add it to what is there: x (N, I), weight (O, I) -> out (N, O)."""
        (rows, inner), outer = x.shape, weight.shape[0]
        assert weight.shape == (outer, inner)
        assert out.shape == (rows, outer)
        _check(x, weight, out)
        self.cublas.sgemm(
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
        _check(queries, keys, out)
        self.cublas.sgemmStridedBatched(
            *(_handle(), TRANSPOSED, NORMAL, positions, length, size, self.scale.address),
            *(address(keys), width, size, address(queries), width, size),
            *(_ZERO.address, address(out), positions, length * positions, heads),
        )

    def weighted_sum(self, shares: Array, values: Array, out: Array) -> None:
        """Average values weighted by attention: shares (H, S, T), values (T, D) -> out (S, D)."""
        heads, length, positions = shares.shape
        width = values.shape[1]
        size = width // heads
        assert values.shape == (positions, width)
        assert out.shape == (length, width)
        _check(shares, values, out)
        self.cublas.sgemmStridedBatched(
            *(_handle(), NORMAL, NORMAL, size, length, positions, _ONE.address),
            *(address(values), width, size, address(shares), positions, length * positions),
            *(_ZERO.address, address(out), width, size, heads),
        )


def _handle() -> int:
    import cupy

    return int(cupy.cuda.device.get_cublas_handle())


def _check(*arrays: Array) -> None:
    """Check what cuBLAS cannot: it sees addresses only."""
    for array in arrays:
        assert array.dtype == np.float32, f"expected float32, got {array.dtype}"
        assert array.flags.c_contiguous, f"expected a contiguous array, got strides {array.strides}"
