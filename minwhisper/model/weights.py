"""Chapter 5. Where the numbers of a model lie in memory, and those of a model that nobody has trained.

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
"""What weights may be stored as. Arithmetic is float32 for the first two, float64 for the last."""

WeightLayout: TypeAlias = Callable[[Mapping[str, Shape], str], Mapping[str, Any]]
"""A function from tensor shapes and a dtype to one empty buffer per tensor on the CPU: an array, or an object with a
method ``load_into``, like :class:`minwhisper.fast.cpu.panels.Panels`."""


def check_dtype(dtype: str) -> None:
    """Raise :class:`OptionError` for a dtype that weights are not stored as."""
    if dtype not in DTYPES:
        raise OptionError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")


def by_columns(name: str, shape: Shape, dtype: str) -> Array:
    """An array for a tensor, with anything in it, laid out in memory as the products of the layers want it.

    A matrix W (O, I) is used as x Wᵀ. With Wᵀ (I, O) row by row in memory the outputs of one input lie side by side;
    the other way round, a product first has to rearrange it, and one of a single x takes up to twice as long.
    """
    matrix = len(shape) == 2 and not name.endswith("positions")  # of which rows are added, as they are
    return np.empty(shape[::-1], dtype).T if matrix else np.empty(shape, dtype)


def empty_weights(expected: Mapping[str, Shape], dtype: str) -> dict[str, Array]:
    """An array for each tensor, with anything in it: what the layers compute with on a CPU."""
    return {name: by_columns(name, shape, dtype) for name, shape in expected.items()}


def load_into(buffer: Any, read: Callable[[Array, int], object]) -> None:
    """Load a tensor into its buffer: ``read(out, first)`` writes the rows from ``first`` on to ``out`` (R, …).

    A buffer that is not an array, like :class:`minwhisper.fast.cpu.panels.Panels`, calls ``read`` as it needs.
    """
    if isinstance(buffer, np.ndarray):
        read(buffer, 0)
    else:
        buffer.load_into(read)


def rows_of(array: Array) -> Callable[[Array, int], object]:
    """Return the ``read`` for :func:`load_into` that copies the rows of an array (O, …)."""
    return lambda out, first: np.copyto(out, array[first : first + len(out)])


def random_weights(
    config: WhisperConfig,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    layout: WeightLayout | None = None,
) -> Weights:
    """Weights of an untrained model, for touring the architecture without a download.

    Matrices are normal with standard deviation 0.02, biases 0, norms 1 and 0, the encoder's positions its sines.
    The same seed gives the same model. ``layout`` allocates the arrays on the CPU, :func:`empty_weights` by default.
    Raises :class:`OptionError` for a ``dtype`` that is not in :data:`DTYPES`.
    """
    check_dtype(dtype)
    rng = np.random.default_rng(seed)
    expected, weights = expected_shapes(config), {}
    reserve(pool_bytes(expected, dtype), device)
    on_cpu = device == "cpu"
    buffers = (layout or empty_weights)(expected, dtype) if on_cpu else {}
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
    """How much of a GPU's memory tensors of these shapes take: CuPy's pool rounds each up to whole 512 bytes."""
    size = np.dtype(dtype).itemsize
    return sum(math.ceil(size * math.prod(shape) / 512) * 512 for shape in expected.values())


def count_parameters(weights: Weights) -> int:
    """How many numbers there are in (a branch of) the weights."""
    return sum(array.size for _, array in flatten(weights))
