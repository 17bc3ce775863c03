"""Which array library an array belongs to, and how arrays come to a device and back.

Every layer asks its own arguments for ``xp``, the library to compute with: NumPy for an array on the CPU, CuPy for
one on a GPU. There is no global switch, so a CPU model and a GPU model live in one process, and there is one
function each way, :func:`to_device` and :func:`to_numpy`, by which numbers cross between the two.

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
    """The library that computes on these arrays, by convention called ``xp``.

    >>> array_module(np.zeros(3)).__name__
    'numpy'
    """
    for array in arrays:
        if not isinstance(array, np.ndarray | np.generic):
            # cupy.ndarray lives in the module "cupy" or below it: the first word names the library.
            return sys.modules[type(array).__module__.partition(".")[0]]
    return np


def to_numpy(array: Array) -> Array:
    """The array as a NumPy array: itself if it is one, downloaded if it is on a GPU."""
    if isinstance(array, np.ndarray | np.generic):  # a reduction gives a scalar of NumPy's
        return np.asarray(array)
    return array.get()  # CuPy's way down


def to_device(array: Array, device: str) -> Array:
    """The array on a device named as :func:`~minwhisper.fast.devices.resolve_device` returns it.

    An array that is there already is returned as it is, never copied.
    """
    if device == "cpu":
        return to_numpy(array)
    import cupy

    # CuPy would keep columns in order where they lie so, and the kernels read rows.
    rows = np.ascontiguousarray(array) if isinstance(array, np.ndarray) and array.ndim else array
    with on_device(device):
        return cupy.asarray(rows)


def pinned(size: int, dtype: Any, like: Array) -> Array:
    """Return an array (size,) in memory of this side from which a GPU, that of ``like``, can copy by itself."""
    if isinstance(like, np.ndarray):
        return np.empty(size, dtype)
    import cupy

    memory = cupy.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, size)


def send(here: Array, there: Array) -> Any:
    """Copy pinned memory to an array on a GPU, in the order of CuPy's current stream.

    Until the event that is returned has happened, ``here`` has to stay as it is. Of NumPy's arrays it is a plain copy.
    """
    if isinstance(there, np.ndarray):
        there[...] = here
        return None
    import cupy

    stream = cupy.cuda.get_current_stream()
    there.set(here, stream=stream)  # CuPy's
    return stream.record(cupy.cuda.Event(disable_timing=True))


def address(array: Array) -> int:
    """Return where an array begins in the memory of its device, as kernels see it."""
    if isinstance(array, np.ndarray):
        return int(array.ctypes.data)
    return int(array.data.ptr)  # CuPy's


def reserve(size: int, device: str) -> None:
    """Have CuPy's pool take so many bytes of a GPU in one piece, and cut from it what is made next.

    The driver gives out pages of 2 MiB: of many arrays that are taken one by one, each wastes the rest of its last.
    """
    if device == "cpu":
        return
    import cupy

    with on_device(device), suppress(cupy.cuda.memory.OutOfMemoryError):  # where that is too much, piece by piece
        cupy.empty(size, "uint8")


def synchronize(device: str) -> None:
    """Wait until all is on the GPU that was sent, and give back the memory on this side that it was sent from."""
    if device == "cpu":
        return
    import cupy

    with on_device(device) as gpu:
        gpu.synchronize()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def device_of(array: Array) -> str:
    """Where an array is: ``"cpu"``, ``"cuda:0"``, ``"cuda:1"`` and so on."""
    return "cpu" if isinstance(array, np.ndarray | np.generic) else f"cuda:{array.device.id}"


def asarray_like(values: Any, like: Array) -> Array:
    """Values, in a list or an array, as an array on the device of another."""
    return to_device(values if hasattr(values, "dtype") else np.asarray(values), device_of(like))


def device_constant(values: tuple[int, ...], like: Array) -> Array:
    """Numbers that never change, to index an array with on its own device: sent there once and remembered."""
    return _device_constant(values, device_of(like))


@lru_cache(maxsize=64)
def _device_constant(values: tuple[int, ...], device: str) -> Array:
    there = to_device(np.array(values, np.int64), device)
    if device != "cpu":  # whoever uses it next may do so in another stream
        import cupy

        cupy.cuda.get_current_stream().synchronize()
    return there


def on_device(device: str) -> AbstractContextManager[Any]:
    """A context in which CuPy makes new arrays and runs kernels on this device; on the CPU it does nothing.

    CuPy has a current device, GPU 0 unless told otherwise, and refuses to compute with arrays of another.
    """
    if device == "cpu":
        return nullcontext()
    import cupy

    return cupy.cuda.Device(int(device.partition(":")[2]))
