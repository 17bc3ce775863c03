"""Device names, and the diagnosis of GPUs that cannot be used.

CuPy can be imported without a driver, a GPU or CUDA's libraries. So before a GPU is used, an element-wise kernel and a
sum of rows must compile and run on it, and a matrix product must find cuBLAS. If something fails, the error says what
to install or to do. The many possible causes make up most of this file.

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

# Devices that have passed the probe, which compiles kernels. A device that failed is probed again each time, because a
# library may have been installed in the meantime, or memory freed.
_working: set[int] = set()

# These packages overwrite each other's files in the folder "cupy". The first is a build from source or conda's.
_CUPY_PACKAGES = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")

# Files that show that this process has access to a GPU: on Linux (in a container only with GPU access, unlike
# /proc/driver/nvidia), on WSL, on Windows.
_DRIVER_FILES = ("/dev/nvidia[0-9]*", "/usr/lib/wsl/lib/libcuda.so.1", r"C:\Windows\System32\nvcuda.dll")

FREE_MEMORY = "stop other programs that use this GPU (nvidia-smi lists them)"


class DeviceFacts(NamedTuple):
    """Properties of a GPU, and its free memory; sizes in bytes."""

    name: str
    compute_capability: tuple[int, int]  # (7, 5) is Turing
    total: int
    free: int  # according to the driver, so without the blocks that CuPy's pool keeps for reuse


def resolve_device(name: str) -> str:
    """Return the device for a name: ``"cpu"``, ``"cuda:0"``, ``"cuda:1"`` and so on.

    ``"cuda"`` means ``"cuda:0"``. ``"auto"`` means the first GPU if it works and the CPU otherwise, with a warning if
    there seems to be a GPU. No other name falls back to the CPU. Raises ``DeviceError`` for an unknown name, and
    for a GPU that cannot be used, with the cause and what to do.
    """
    kind, _, number = str(name).partition(":")
    if name == "cpu":
        return "cpu"
    if name == "auto":
        problem = _problem(0)
        if problem and _gpu_present():
            message = f"device 'auto' uses the CPU although there is a GPU: {problem}"
            warnings.warn(message, stacklevel=3)  # at the line that calls load_model
        return "cpu" if problem else "cuda:0"
    if kind == "cuda" and (number.isdecimal() or name == "cuda"):
        index = int(number or 0)
        problem = _problem(index)
        if problem:
            raise DeviceError(f"device {name!r}: {problem}; or use device 'cpu' or 'auto'")
        return f"cuda:{index}"
    raise DeviceError(f"unknown device {name!r}: expected 'cpu', 'cuda', 'cuda:1' (any number) or 'auto'")


def describe_device(device: str) -> DeviceFacts:
    """Return the properties of a GPU, ``"cuda:0"`` for instance.

    Raises ``DeviceError`` for any other name, and for a GPU that cannot be used.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number.isdecimal():
        raise DeviceError(f"device {device!r}: expected the number of a GPU, 'cuda:0', 'cuda:1' …")
    try:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(int(number))
        with cupy.cuda.Device(int(number)):
            free, total = cupy.cuda.runtime.memGetInfo()
    except Exception as error:  # see _problem
        raise DeviceError(f"device {device!r}: {_diagnose(error)}") from error
    return DeviceFacts(properties["name"].decode(), (properties["major"], properties["minor"]), total, free)


def _problem(index: int) -> str:
    """Return the reason why this GPU cannot be used and what to do about it; an empty string if it can be used."""
    if index in _working:
        return ""
    problem = _probe(index)
    if not problem:
        _working.add(index)
        return ""
    packages = _cupy_packages()
    if len(packages) > 1:  # whatever the cause, this has to be fixed first
        together = " and ".join(packages)
        problem += (
            f"; in addition, {together} are installed together and overwrite each other's files: "
            f"run pip uninstall -y {' '.join(packages)}, then install one of them again"
        )
    return problem


def _probe(index: int) -> str:
    """Test a GPU with small computations; return the problem and what to do, or an empty string if there is none."""
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
        if count == 0:
            return _no_gpu()
        if index >= count:
            return f"this machine has {count} GPU{'s' * (count > 1)}, numbered from 0{_hidden()}"
        with cupy.cuda.Device(index):
            twos = cupy.ones((2, 2), dtype="float32") + 1
            total = float(to_numpy((twos @ twos).sum()))
            # NVRTC compiles sums of long rows from the headers of CUB, which the lines above do not need.
            rows = to_numpy(cupy.ones((2, 2048), dtype="float32").sum(axis=-1))
    except Exception as error:  # CuPy raises its own types, the driver's, the compiler's and the loader's
        return _diagnose(error)
    if total != 32.0:
        return (
            f"the GPU computes a wrong 2×2 product ({total:g} instead of 32): restart the machine or update the driver"
        )
    if rows.tolist() != [2048.0, 2048.0]:
        return f"the GPU computes a wrong sum ({rows[0]:g} for 2,048 ones): restart the machine or update the driver"
    return ""


# The name of CuPy's error, and words in the errors of the driver and of CUDA's libraries.
_OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "cudaErrorMemoryAllocation",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
)


def is_gpu_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a GPU's memory is full; NumPy's ``MemoryError`` does not."""
    return any(sign in f"{type(error).__name__}: {error}" for sign in _OUT_OF_MEMORY)


def _diagnose(error: Exception) -> str:
    """Return the cause of an error of CuPy and what to do about it.

    The cause is recognised by the words of the error. The module of the error's type differs between CuPy's versions,
    and cannot be imported if CuPy cannot.
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
        return f"cuBLAS cannot start, usually because the GPU's memory is full{_memory(cupy)}: {FREE_MEMORY}"
    if is_gpu_out_of_memory(error):
        return f"the GPU's memory is full{_memory(cupy)}: {FREE_MEMORY}"
    if "--gpu-architecture" in words:  # CUDA 13 dropped Maxwell, Pascal and Volta
        commands = f"run pip uninstall -y {_package(cupy)}, then pip install 'minwhisper[gpu]'"
        return f"this CUDA does not support this GPU; a GPU older than Turing needs CUDA 12: {commands}"
    missing = (
        "Failure finding",  # NVIDIA's search for libraries, in CuPy 14
        "Failed to find CUDA headers",
        "CuPy failed to load",  # CuPy 13
        "Failed to auto-detect CUDA root",  # CuPy 13, for the headers
        "cannot open shared object file",
        "DLL load failed",
        "failed to open libnvrtc-builtins",
        "could not open source file",
    )
    if any(sign in words for sign in missing):
        return _no_library(words, cupy)
    if type(error).__name__ == "CompileException":
        return (
            f"NVRTC cannot compile CuPy's kernels ({_first_line(error)}), usually because it and CUDA's headers have "
            f"different versions: pip install --force-reinstall '{_package(cupy)}[ctk]'"
        )
    return f"CuPy is installed but does not work here ({_first_line(error)})"


def _no_cupy(error: Exception) -> str:
    """Explain why CuPy cannot be imported."""
    if not (isinstance(error, ModuleNotFoundError) and error.name == "cupy"):
        return f"CuPy is installed but cannot be imported ({_first_line(error)})"
    packages = _cupy_packages()
    if len(packages) == 1:  # two shared a folder, and removing one removed the files of both
        return (
            f"CuPy's files are missing although {packages[0]} is installed: pip install --force-reinstall {packages[0]}"
        )
    return (
        "CuPy is not installed: pip install 'minwhisper[gpu]', which installs cupy-cuda12x "
        "(with a driver for CUDA 13, 'cupy-cuda13x[ctk]' works too, but never install both)"
    )


def _no_driver(cupy: ModuleType) -> str:
    """Explain that there is no driver, or that it is too old for CuPy. CUDA has the same error for both."""
    try:
        version = cupy.cuda.runtime.driverGetVersion()
    except Exception:  # as if there were no driver
        version = 0
    if not version:
        return (
            "no NVIDIA driver found: install it, or start the container with GPU access "
            "(docker run --gpus all); nvidia-smi should then list the GPU"
        )
    ours = _built_for(cupy)
    other = ""
    if 12 <= version // 1000 < ours:
        other = f", or run pip uninstall -y {_package(cupy)} and then pip install 'minwhisper[gpu]'"
    return (
        f"the NVIDIA driver is too old: it supports CUDA up to {version // 1000}.{version % 1000 // 10}, "
        f"but this CuPy needs CUDA {ours}: update the driver{other}"
    )


def _no_gpu() -> str:
    return f"the NVIDIA driver finds no GPU: check with nvidia-smi{_hidden()}"


def _no_library(words: str, cupy: ModuleType) -> str:
    """Explain that a part of CUDA is missing or has the wrong version. CuPy's wheel does not include these parts."""
    parts = {"nvrtc": "NVRTC, which compiles kernels", "cublas": "cuBLAS, which multiplies matrices"}
    library = next((part for sign, part in parts.items() if sign in words.lower()), "")
    if not library:
        a_header = any(sign in words for sign in ("headers", "CUDA root", "source file"))
        library = "CUDA's headers, which kernels include" if a_header else "a library of CUDA"
    if _package(cupy) in _cupy_packages():
        return f"CuPy cannot find {library}: pip install '{_package(cupy)}[ctk]'"
    # Installing pip's package next to conda's CuPy, or one built from source, would install a second CuPy.
    return f"CuPy cannot find {library}: install CUDA {_built_for(cupy)} from the same source as CuPy"


def _hidden() -> str:
    """Return a note about the variable that hides GPUs, if it is set."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if shown is None else f" (but CUDA_VISIBLE_DEVICES={shown!r} is set, which hides GPUs)"


def _memory(cupy: ModuleType) -> str:
    try:
        free, total = cupy.cuda.runtime.memGetInfo()
    except Exception:  # even this can fail if the memory is full
        return ""
    return f" ({free >> 20} of {total >> 20} MiB are free)"


def _built_for(cupy: ModuleType) -> int:
    """Return the CUDA version that CuPy was built for, 12 or 13; CuPy includes its runtime."""
    try:
        return int(cupy.cuda.runtime.runtimeGetVersion()) // 1000
    except Exception:  # CuPy is broken
        return 12


def _package(cupy: ModuleType) -> str:
    return f"cupy-cuda{_built_for(cupy)}x"


def _cupy_packages() -> list[str]:
    """Return the installed CuPy packages, according to pip. There should be one."""

    def listed() -> Iterator[str]:
        for name in _CUPY_PACKAGES:
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
            yield name

    return list(listed())


def _first_line(error: BaseException) -> str:
    """Return the first non-empty line of an error, or of its cause, without the frame that CuPy's import draws."""
    while isinstance(error, ImportError) and error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip(" =*") for line in str(error).splitlines())
    return next(filter(None, lines), repr(error))


def _gpu_present() -> bool:
    """Return whether there seems to be a GPU, quickly and without starting CUDA."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False  # all GPUs are hidden on purpose
    return any(glob.glob(pattern) for pattern in _DRIVER_FILES)
