"""Which array library an array belongs to, and which device a name means.

Every layer asks its own arguments for ``xp``, the library to compute with: NumPy for an array on the CPU, CuPy for
one on a GPU. There is no global switch, so a CPU model and a GPU model live in one process, and there is one
function each way, :func:`to_device` and :func:`to_numpy`, by which numbers cross between the two.

Walkthrough: section 14.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import DeviceError

Array: TypeAlias = NDArray[Any]
"""An array of NumPy or of CuPy; the two have the same methods, and the type checker sees NumPy's."""


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
    if isinstance(array, np.ndarray):
        return array
    return array.get()  # CuPy's way down


def to_device(array: Array, device: str) -> Array:
    """The array on a device named as :func:`resolve_device` returns it.

    An array that is there already is returned as it is, never copied.
    """
    if device == "cpu":
        return to_numpy(array)
    import cupy

    with on_device(device):
        return cupy.asarray(array)


def on_device(device: str) -> AbstractContextManager[Any]:
    """A context in which CuPy makes new arrays and runs kernels on this device; on the CPU it does nothing.

    CuPy has a current device, GPU 0 unless told otherwise, and refuses to compute with arrays of another.
    """
    if device == "cpu":
        return nullcontext()
    import cupy

    return cupy.cuda.Device(int(device.partition(":")[2]))


def resolve_device(name: str) -> str:
    """Turn a device's name into the device that will be used, ``"cpu"``, ``"cuda:0"``, ``"cuda:1"`` and so on.

    ``"cuda"`` is ``"cuda:0"``. ``"auto"`` is the first GPU if one works and the CPU otherwise; no other name
    ever falls back. Raises :class:`DeviceError` for a name that means nothing and for a GPU that does not work.
    """
    kind, _, number = str(name).partition(":")
    if name == "cpu":
        return "cpu"
    if name == "auto":
        return "cpu" if _why_no_gpu(0) else "cuda:0"
    if kind == "cuda" and (number.isdecimal() or name == "cuda"):
        index = int(number or 0)
        problem = _why_no_gpu(index)
        if problem:
            raise DeviceError(f"device {name!r}: {problem}; use device 'cpu', or 'auto' to take what works")
        return f"cuda:{index}"
    raise DeviceError(f"unknown device {name!r}: expected 'cpu', 'cuda', 'cuda:1' (any number) or 'auto'")


def _why_no_gpu(index: int) -> str:
    """Why the GPU of this number cannot be used; empty if it can.

    CuPy imports without a driver, a GPU or its libraries, so only work tells: an element-wise kernel has to
    compile and run, and a product has to find cuBLAS.
    """
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed (pip install cupy-cuda12x, or cupy-cuda13x for CUDA 13)"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        if index >= count:
            return f"there are {count} GPUs here, numbered from 0"
        with cupy.cuda.Device(index):
            ones = cupy.ones((2, 2), dtype="float32") + 1
            return "" if float((ones @ ones).sum()) == 32.0 else "a 2×2 product came out wrong"
    except Exception as error:  # CuPy raises its own types, the driver's and the compiler's
        return f"CuPy is installed but does not work here ({(str(error) or repr(error)).splitlines()[0]})"
