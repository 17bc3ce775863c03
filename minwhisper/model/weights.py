"""The layout of weights in memory, and random weights for an untrained model.

Walkthrough: section 7.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from ..common.backend import Array, reserve, synchronize, to_device
from ..errors import OptionError
from .config import WhisperConfig
from .encoder import sinusoids
from .layers import Weights
from .weight_names import Shape, expected_shapes, flatten, nest

DTYPES = ("float16", "float32", "float64")
"""The dtypes in which weights may be stored. Arithmetic is in float32 for the first two, in float64 for the last."""

Allocate: TypeAlias = Callable[[Shape, str], Array]
"""A function from a shape and a dtype to an uninitialised array in row-major order, like ``np.empty``."""

WeightLayout: TypeAlias = Callable[[Mapping[str, Shape], str, Allocate], Mapping[str, Any]]
"""A function from tensor shapes, a dtype and an ``Allocate`` to one empty buffer per tensor on the CPU: an array, or an
object with a method ``load_into``, like ``fast.cpu.panels.Panels``. It allocates all memory of the buffers with the
given function; the same arguments always give the same allocations in the same order."""


def check_dtype(dtype: str) -> None:
    """Raise ``OptionError`` for a dtype that is not in ``DTYPES``."""
    if dtype not in DTYPES:
        raise OptionError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")


def by_columns(name: str, shape: Shape, dtype: str, allocate: Allocate = np.empty) -> Array:
    """Return an uninitialised array for a tensor, in the memory layout that matmul needs.

    A matrix W (O, I) is used as x Wᵀ, so Wᵀ (I, O) is stored row by row. In the other order, BLAS would rearrange W
    first, and the product with a single row would take up to twice as long.
    """
    matrix = len(shape) == 2 and not name.endswith("positions")  # rows of the position tables are added as they are
    return allocate(shape[::-1], dtype).T if matrix else allocate(shape, dtype)


def empty_weights(expected: Mapping[str, Shape], dtype: str, allocate: Allocate = np.empty) -> dict[str, Array]:
    """Return an uninitialised array for each tensor: the default ``WeightLayout``."""
    return {name: by_columns(name, shape, dtype, allocate) for name, shape in expected.items()}


def load_into(buffer: Any, read: Callable[[Array, int], object]) -> None:
    """Load a tensor into its buffer: ``read(out, first)`` writes the rows from ``first`` on to ``out`` (R, …).

    A buffer that is not an array, like ``fast.cpu.panels.Panels``, calls ``read`` as often as it needs.
    """
    if isinstance(buffer, np.ndarray):
        read(buffer, 0)
    else:
        buffer.load_into(read)


def rows_of(array: Array) -> Callable[[Array, int], object]:
    """Return the ``read`` for ``load_into`` that copies the rows of an array (O, …)."""
    return lambda out, first: np.copyto(out, array[first : first + len(out)])


def random_weights(
    config: WhisperConfig,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    layout: WeightLayout | None = None,
) -> Weights:
    """Return the weights of an untrained model, to explore the architecture without a download.

    Matrices are normally distributed with standard deviation 0.02, biases are 0, norms are 1 and 0, and the encoder's
    positions are its sinusoids. The same seed gives the same model. ``layout`` allocates the arrays on the CPU, by
    default ``empty_weights``. Raises ``OptionError`` for a ``dtype`` that is not in ``DTYPES``.
    """
    check_dtype(dtype)
    rng = np.random.default_rng(seed)
    expected, weights = expected_shapes(config), {}
    reserve(pool_bytes(expected, dtype), device)
    on_cpu = device == "cpu"
    buffers = (layout or empty_weights)(expected, dtype, np.empty) if on_cpu else {}
    for name, shape in expected.items():
        if name == "encoder.positions":
            array = sinusoids(*shape)
        elif name.endswith("norm.weight"):
            array = np.ones(shape)
        elif name.endswith(".bias"):
            array = np.zeros(shape)
        else:
            array = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        if on_cpu:
            load_into(buffers[name], rows_of(array))
        weights[name] = buffers[name] if on_cpu else to_device(array.astype(dtype), device)
    synchronize(device)
    return nest(weights)


def pool_bytes(expected: Mapping[str, Shape], dtype: str) -> int:
    """Return the bytes of GPU memory for tensors of these shapes; CuPy's pool rounds each up to 512 bytes."""
    size = np.dtype(dtype).itemsize
    return sum(math.ceil(size * math.prod(shape) / 512) * 512 for shape in expected.values())


def count_parameters(weights: Weights) -> int:
    """Return the number of parameters in the weights, or in a branch of them."""
    return sum(array.size for _, array in flatten(weights))
