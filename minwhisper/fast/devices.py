"""Which device a name means, and what to do where it does not work.

CuPy imports without a driver, a GPU or CUDA's libraries, so only work tells: before a GPU is used, an element-wise
kernel and a sum of rows have to compile and run on it, and a product has to find cuBLAS. What fails there is reported
as something to install or to do; the many ways to fail are most of this file.

Walkthrough: section 14.
"""

import glob
import os
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import NamedTuple

from ..common.backend import to_numpy
from ..errors import DeviceError

# Devices that have passed the probe, which costs the compilation of a kernel. What failed is tried again each time:
# a library may have been installed meanwhile, or memory set free.
_working: set[int] = set()

# They overwrite each other's files, all in one folder "cupy". The first is a build from source, or conda's.
_CUPY_PACKAGES = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")

# Where a driver shows a GPU to this process: on Linux (in a container only if it was given the GPU, unlike
# /proc/driver/nvidia), in Linux on Windows, on Windows.
_DRIVER_FILES = ("/dev/nvidia[0-9]*", "/usr/lib/wsl/lib/libcuda.so.1", r"C:\Windows\System32\nvcuda.dll")


class DeviceFacts(NamedTuple):
    """What a GPU is, and how much of its memory is left; sizes in bytes."""

    name: str
    compute_capability: tuple[int, int]  # (7, 5) is Turing
    total: int
    free: int  # as the driver counts: what CuPy's pool keeps for reuse is not free


def resolve_device(name: str) -> str:
    """Turn a device's name into the device that will be used, ``"cpu"``, ``"cuda:0"``, ``"cuda:1"`` and so on.

    ``"cuda"`` is ``"cuda:0"``. ``"auto"`` is the first GPU if one works and the CPU otherwise, with a warning if
    there is a GPU that could have been used; no other name ever falls back. Raises :class:`DeviceError` for a name
    that means nothing, and for a GPU that does not work, with what is missing and what to do.
    """
    kind, _, number = str(name).partition(":")
    if name == "cpu":
        return "cpu"
    if name == "auto":
        problem = _problem(0)
        if problem and _gpu_present():
            message = f"device 'auto' takes the CPU, though there is a GPU: {problem}"
            warnings.warn(message, stacklevel=3)  # at the line that calls load_model
        return "cpu" if problem else "cuda:0"
    if kind == "cuda" and (number.isdecimal() or name == "cuda"):
        index = int(number or 0)
        problem = _problem(index)
        if problem:
            raise DeviceError(f"device {name!r}: {problem}; or use device 'cpu', or 'auto' to take what works")
        return f"cuda:{index}"
    raise DeviceError(f"unknown device {name!r}: expected 'cpu', 'cuda', 'cuda:1' (any number) or 'auto'")


def describe_device(device: str) -> DeviceFacts:
    """The facts about a GPU, named as :func:`resolve_device` returns it, that a message about it needs.

    Raises :class:`DeviceError` for the CPU and for a GPU that does not answer.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number.isdecimal():
        raise DeviceError(f"device {device!r} cannot be described: expected a GPU, 'cuda:0', 'cuda:1' …")
    try:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(int(number))
        with cupy.cuda.Device(int(number)):
            free, total = cupy.cuda.runtime.memGetInfo()
    except Exception as error:  # see _problem
        raise DeviceError(f"device {device!r}: {_diagnose(error)}") from error
    return DeviceFacts(properties["name"].decode(), (properties["major"], properties["minor"]), total, free)


def _problem(index: int) -> str:
    """Why the GPU of this number cannot be used and what to do about it; empty if it can."""
    if index in _working:
        return ""
    problem = _probe(index)
    if not problem:
        _working.add(index)
        return ""
    packages = _cupy_packages()
    if len(packages) > 1:  # whatever it was, this has to be cleared first
        together = " and ".join(packages)
        problem += (
            f"; besides, {together} are installed together and overwrite each other's files: "
            f"pip uninstall -y {' '.join(packages)}, then install one of them again"
        )
    return problem


def _probe(index: int) -> str:
    """Compute on a GPU; what is wrong with it and what to do, or nothing."""
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
        if count == 0:
            return _no_gpu()
        if index >= count:
            return f"there {'is 1 GPU' if count == 1 else f'are {count} GPUs'} here, numbered from 0{_hidden()}"
        with cupy.cuda.Device(index):
            twos = cupy.ones((2, 2), dtype="float32") + 1
            total = float(to_numpy((twos @ twos).sum()))
            # Sums of long rows are compiled by NVRTC from the headers of CUB, which the lines above do not need.
            rows = to_numpy(cupy.ones((2, 2048), dtype="float32").sum(axis=-1))
    except Exception as error:  # CuPy raises its own types, the driver's, the compiler's and the loader's
        return _diagnose(error)
    if total != 32.0:
        return f"a 2×2 product came out wrong on it ({total:g} for 32): restart the machine, or update the driver"
    if rows.tolist() != [2048.0, 2048.0]:
        return f"a sum of 2,048 ones came out as {rows.tolist()[0]:g} on it: restart the machine, or update the driver"
    return ""


# How CuPy's error is called, and what the driver and CUDA's libraries say of what they need themselves.
_OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "cudaErrorMemoryAllocation",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU's memory is full: CuPy's does, one of NumPy's on the CPU does not."""
    return any(sign in f"{type(error).__name__}: {error}" for sign in _OUT_OF_MEMORY)


def _diagnose(error: Exception) -> str:
    """What an error of CuPy means for who wants to use a GPU.

    It is told by its words: the types lie in modules that move between CuPy's versions, and cannot be imported
    where CuPy cannot.
    """
    cupy = sys.modules.get("cupy")
    words = f"{type(error).__name__}: {error}"
    if cupy is None:
        return _no_cupy(error)
    if any(sign in words for sign in ("cudaErrorInsufficientDriver", "libcuda.so", "nvcuda.dll")):
        return _no_driver(cupy)
    if "cudaErrorNoDevice" in words:
        return _no_gpu()
    if "CUBLAS_STATUS_NOT_INITIALIZED" in words:
        return f"cuBLAS does not start, most often for want of memory{_memory(cupy)}: nvidia-smi lists what takes it"
    if is_out_of_memory(error):
        return f"its memory is full{_memory(cupy)}: end what else uses it, which nvidia-smi lists"
    if "--gpu-architecture" in words:  # CUDA 13 dropped Maxwell, Pascal and Volta
        two = f"pip uninstall -y {_package(cupy)}, then pip install 'minwhisper[gpu]'"
        return f"the compiler of CUDA does not know this GPU; one older than Turing needs CUDA 12's: {two}"
    absent = (
        "Failure finding",  # NVIDIA's search for libraries, in CuPy 14
        "Failed to find CUDA headers",
        "CuPy failed to load",  # CuPy 13
        "Failed to auto-detect CUDA root",  # CuPy 13, for the headers
        "cannot open shared object file",
        "DLL load failed",
        "failed to open libnvrtc-builtins",
        "could not open source file",
    )
    if any(sign in words for sign in absent):
        return _no_library(words, cupy)
    if type(error).__name__ == "CompileException":
        return (
            f"NVRTC does not compile CuPy's kernels ({_first_line(error)}), most often because it and CUDA's headers "
            f"are of different versions: pip install --force-reinstall '{_package(cupy)}[ctk]'"
        )
    return f"CuPy is installed but does not work here ({_first_line(error)})"


def _no_cupy(error: Exception) -> str:
    """CuPy could not be imported."""
    if not (isinstance(error, ModuleNotFoundError) and error.name == "cupy"):
        return f"CuPy is installed but cannot be imported ({_first_line(error)})"
    packages = _cupy_packages()
    if len(packages) == 1:  # of two that shared a folder, one was removed, and the files of both with it
        return f"CuPy's files are gone, though {packages[0]} is installed: pip install --force-reinstall {packages[0]}"
    return (
        "CuPy is not installed: pip install 'minwhisper[gpu]', which brings cupy-cuda12x "
        "(where the driver has CUDA 13, 'cupy-cuda13x[ctk]' does as well, but never both)"
    )


def _no_driver(cupy: ModuleType) -> str:
    """There is no driver, or one for an older CUDA than CuPy's. CUDA has the same words for both."""
    try:
        version = cupy.cuda.runtime.driverGetVersion()
    except Exception:  # then the driver is as good as none
        version = 0
    if not version:
        return (
            "there is no NVIDIA driver here: install it, or start the container with its GPUs "
            "(docker run --gpus all); nvidia-smi then lists them"
        )
    ours = _built_for(cupy)
    other = ""
    if 12 <= version // 1000 < ours:
        other = f", or pip uninstall -y {_package(cupy)} and then pip install 'minwhisper[gpu]'"
    return (
        f"the NVIDIA driver is too old: it runs CUDA up to {version // 1000}.{version % 1000 // 10}, "
        f"and this CuPy is made for CUDA {ours}: update the driver{other}"
    )


def _no_gpu() -> str:
    return f"the NVIDIA driver finds no GPU: nvidia-smi lists those that there are{_hidden()}"


def _no_library(words: str, cupy: ModuleType) -> str:
    """A part of CUDA that CuPy's wheel does not hold is not there, or not in the version that CuPy wants."""
    parts = {"nvrtc": "NVRTC, which compiles kernels", "cublas": "cuBLAS, which multiplies matrices"}
    library = next((part for sign, part in parts.items() if sign in words.lower()), "")
    if not library:
        a_header = any(sign in words for sign in ("headers", "CUDA root", "source file"))
        library = "CUDA's headers, which kernels include" if a_header else "a library of CUDA"
    if _package(cupy) in _cupy_packages():
        return f"CuPy does not find {library}: pip install '{_package(cupy)}[ctk]'"
    # pip's package over conda's CuPy, or one from source, would make two.
    return f"CuPy does not find {library}: install CUDA {_built_for(cupy)} from where CuPy was installed"


def _hidden() -> str:
    """A reminder of the variable that hides GPUs, if it is set."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if shown is None else f" (but CUDA_VISIBLE_DEVICES={shown!r} is set, which hides GPUs)"


def _memory(cupy: ModuleType) -> str:
    try:
        free, total = cupy.cuda.runtime.memGetInfo()
    except Exception:  # a GPU that is full may refuse even that
        return ""
    return f" ({free >> 20} of {total >> 20} MiB are free)"


def _built_for(cupy: ModuleType) -> int:
    """The CUDA, 12 or 13, that CuPy was built for; CuPy has its runtime inside."""
    try:
        return int(cupy.cuda.runtime.runtimeGetVersion()) // 1000
    except Exception:  # a CuPy that is broken cannot be asked
        return 12


def _package(cupy: ModuleType) -> str:
    return f"cupy-cuda{_built_for(cupy)}x"


def _cupy_packages() -> list[str]:
    """The CuPy packages that are installed, by the books of pip: one is right."""

    def listed() -> Iterator[str]:
        for name in _CUPY_PACKAGES:
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
            yield name

    return list(listed())


def _first_line(error: BaseException) -> str:
    """The first line of an error that says something; of its cause if it only frames one, as CuPy's import does."""
    while isinstance(error, ImportError) and error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip(" =*") for line in str(error).splitlines())
    return next(filter(None, lines), repr(error))


def _gpu_present() -> bool:
    """Whether there is a GPU that somebody who said "auto" may have meant. Quick, and without starting CUDA."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False  # hidden on purpose
    return any(glob.glob(pattern) for pattern in _DRIVER_FILES)
