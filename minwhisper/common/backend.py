"""Arrays on a device: their library, and transfers between devices.

The functions of ``model/numerics.py`` compute with ``xp``, the library of their arguments: NumPy for an array on the
CPU, CuPy for one on a GPU. There is no global switch, so models on a CPU and on GPUs can be used in one
process. Only ``to_device`` and ``to_numpy`` move arrays between the two.

Walkthrough: section 14.
"""

import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""An array of NumPy or of CuPy; the two have the same methods, and the type checker sees NumPy's."""

Array2D: TypeAlias = np.ndarray[tuple[int, int], Any]
Array3D: TypeAlias = np.ndarray[tuple[int, int, int], Any]


def array_module(*arrays: Array) -> ModuleType:
    """Return the library of these arrays, NumPy or CuPy, by convention called ``xp``.

    >>> array_module(np.zeros(3)).__name__
    'numpy'
    """
    for array in arrays:
        if not isinstance(array, np.ndarray | np.generic):
            # cupy.ndarray is defined in the module "cupy" or below it: the first part of its name is the library.
            return sys.modules[type(array).__module__.partition(".")[0]]
    return np


def to_numpy(array: Array) -> Array:
    """Return a NumPy array unchanged, and download an array that is on a GPU."""
    if isinstance(array, np.ndarray | np.generic):  # a reduction returns a NumPy scalar
        return np.asarray(array)
    return array.get()  # CuPy


def to_device(array: Array, device: str) -> Array:
    """Move an array to a device, named as ``resolve_device`` returns it.

    An array that is already on the device is returned unchanged, never copied.
    """
    if device == "cpu":
        return to_numpy(array)
    import cupy

    # CuPy would keep an array in column-major order, but the kernels read row-major arrays.
    rows = np.ascontiguousarray(array) if isinstance(array, np.ndarray) and array.ndim else array
    with on_device(device):
        return cupy.asarray(rows)


def pinned(size: int, dtype: Any, like: Array) -> Array:
    """Allocate an array (size,) in pinned host memory, which the GPU of ``like`` can copy from by itself."""
    if isinstance(like, np.ndarray):
        return np.empty(size, dtype)
    import cupy

    memory = cupy.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, size)


def send(here: Array, there: Array) -> Any:
    """Copy pinned memory to an array on a GPU, in CuPy's current stream.

    ``here`` must not change until the returned event is complete. Between NumPy arrays it is a plain copy.
    """
    if isinstance(there, np.ndarray):
        there[...] = here
        return None
    import cupy

    stream = cupy.cuda.get_current_stream()
    there.set(here, stream=stream)  # CuPy
    return stream.record(cupy.cuda.Event(disable_timing=True))


def address(array: Array) -> int:
    """Return the address of an array in the memory of its device, as kernels need it."""
    if isinstance(array, np.ndarray):
        return int(array.ctypes.data)
    return int(array.data.ptr)  # CuPy


def reserve(size: int, device: str) -> None:
    """Let CuPy's pool allocate ``size`` bytes of GPU memory in one piece, for the arrays that follow.

    The driver allocates pages of 2 MiB, so arrays that are allocated one by one each waste part of their last page.
    """
    if device == "cpu":
        return
    import cupy

    with on_device(device), suppress(cupy.cuda.memory.OutOfMemoryError):  # then arrays are allocated one by one
        cupy.empty(size, "uint8")


def synchronize(device: str) -> None:
    """Wait until all copies to the GPU are done, and free the host memory that they came from."""
    if device == "cpu":
        return
    import cupy

    with on_device(device) as gpu:
        gpu.synchronize()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def device_of(array: Array) -> str:
    """Return the device of an array: ``"cpu"``, ``"cuda:0"``, ``"cuda:1"`` and so on."""
    return "cpu" if isinstance(array, np.ndarray | np.generic) else f"cuda:{array.device.id}"


def asarray_like(values: Any, like: Array) -> Array:
    """Return values, a list or an array, as an array on the device of ``like``."""
    return to_device(values if hasattr(values, "dtype") else np.asarray(values), device_of(like))


def device_constant(values: tuple[int, ...], like: Array) -> Array:
    """Return constant indices as an array on the device of ``like``; they are sent there once and cached."""
    return _device_constant(values, device_of(like))


@lru_cache(maxsize=64)
def _device_constant(values: tuple[int, ...], device: str) -> Array:
    there = to_device(np.array(values, np.int64), device)
    if device != "cpu":  # the next use may be in another stream
        import cupy

        cupy.cuda.get_current_stream().synchronize()
    return there


def on_device(device: str) -> AbstractContextManager[Any]:
    """Return a context in which this device is CuPy's current one; on the CPU it does nothing.

    CuPy allocates arrays and runs kernels on its current device, by default GPU 0, and rejects arrays of another.
    """
    if device == "cpu":
        return nullcontext()
    import cupy

    return cupy.cuda.Device(int(device.partition(":")[2]))
