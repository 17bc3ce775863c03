"""Device names, and the messages if a GPU cannot be used. A fake module replaces CuPy.

Its errors have the names and words of CuPy 13 and 14, seen in environments that lack one thing each, or in its source.
"""

import linecache
import sys
import types
import warnings
from functools import partial
from importlib import metadata

import numpy as np
import pytest

from minwhisper.errors import DeviceError, MinWhisperError
from minwhisper.fast import devices
from minwhisper.fast.devices import DeviceFacts, describe_device, resolve_device


class CUDARuntimeError(RuntimeError):
    """CuPy's error; only its name and its words matter."""


class CUBLASError(RuntimeError): ...


class OutOfMemoryError(MemoryError): ...


class CompileException(Exception): ...


class DynamicLibNotFoundError(RuntimeError): ...


NO_DRIVER = CUDARuntimeError(
    "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
)
NO_DEVICE = CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
LIBCUDA_GONE = RuntimeError(
    "CuPy failed to load libcuda.so.1: OSError: libcuda.so.1: cannot open shared object file: No such file or directory"
)
OUT_OF_MEMORY = OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes).")
NO_CONTEXT = CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
CUBLAS_FULL = CUBLASError("CUBLAS_STATUS_ALLOC_FAILED")
CUBLAS_IDLE = CUBLASError("CUBLAS_STATUS_NOT_INITIALIZED")
NO_NVRTC = DynamicLibNotFoundError(
    'Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file: libnvrtc.so.13 or libnvrtc.so.12, '
    "No such file: libnvrtc.so.13 or libnvrtc.so.12\n"
)
NO_NVRTC_13 = RuntimeError(
    "CuPy failed to load libnvrtc.so.12: OSError: libnvrtc.so.12: cannot open shared object file: "
    "No such file or directory"
)
NO_BUILTINS = CompileException(
    "nvrtc: error: failed to open libnvrtc-builtins.so.12.9.\n"
    "  Make sure that libnvrtc-builtins.so.12.9 is installed correctly."
)
NO_CUBLAS = ImportError(
    'Failure finding "libcublasLt.so.13 or libcublasLt.so.12": No such file: libcublasLt.so.13 or libcublasLt.so.12, '
    "No such file: libcublasLt.so.13 or libcublasLt.so.12\n"
)
OTHER_CUBLAS = ImportError("libcublas.so.12: cannot open shared object file: No such file or directory")
NO_HEADERS = RuntimeError(
    "Failed to find CUDA headers. Please install CUDA toolkit headers (e.g., pip install cupy-cuda12x[ctk]) or specify "
    "CUDA_PATH environment variable."
)
NO_HEADERS_13 = RuntimeError(
    "Failed to auto-detect CUDA root directory. Please specify `CUDA_PATH` environment variable if you are using CUDA "
    "versions not yet supported by CuPy."
)
HALF_THE_HEADERS = CompileException(
    'k.cu(1): catastrophic error: could not open source file "cuda_fp16.h" (no directories in search list)\n'
    "  #include <cuda_fp16.h>\n"
)
NO_CUDART = DynamicLibNotFoundError('Failure finding "libcudart.so.12": No such file: libcudart.so.12\n')
OTHER_HEADERS = CompileException(
    '/x/cub/warp/warp_reduce.cuh(52): error: identifier "__reduce_add_sync" is undefined\n\n1 error detected.\n'
)
OLD_GPU = CompileException("nvrtc: error: invalid value for --gpu-architecture (-arch)\n")
MISMATCH = CUDARuntimeError(
    "cudaErrorSystemDriverMismatch: system has unsupported display driver / cuda driver combination\nmore of it"
)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    """Hide this machine: no GPU, no CuPy package, no device that passed the probe."""
    monkeypatch.setattr(devices, "_working", set())
    monkeypatch.setattr(devices, "_DRIVER_FILES", ())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    packages(monkeypatch)


def packages(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    """Make pip list these CuPy packages and no others."""

    def version(name: str) -> str:
        if name in installed:
            return "14.2.0"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(devices.metadata, "version", version)


def pretend_cupy(
    monkeypatch: pytest.MonkeyPatch,
    gpus: int | Exception = 1,
    total: float = 32.0,
    kernel: Exception | None = None,
    product: Exception | None = None,
    rows: float | Exception = 2048.0,
    driver: int = 12020,
    cuda: int = 12090,
) -> types.ModuleType:
    """Install a fake CuPy with that many GPUs, whose 2×2 product of twos sums to ``total``.

    Counting the GPUs, the first kernel, the product and the sums of rows can fail. ``used`` lists the GPUs used.
    """

    class Square:
        def __init__(self, values: np.ndarray) -> None:
            self.values = values

        def __add__(self, other: int) -> "Square":
            if kernel:
                raise kernel
            return Square(self.values + other)

        def __matmul__(self, other: "Square") -> np.ndarray:
            if product:
                raise product
            return self.values @ other.values

        def sum(self, axis: int) -> np.ndarray:
            if isinstance(rows, Exception):
                raise rows
            return np.full(2, rows, np.float32)

    class Runtime:
        @staticmethod
        def getDeviceCount() -> int:
            if isinstance(gpus, Exception):
                raise gpus
            return gpus

        driverGetVersion = staticmethod(lambda: driver)
        runtimeGetVersion = staticmethod(lambda: cuda)

        @staticmethod
        def memGetInfo() -> tuple[int, int]:
            if isinstance(gpus, Exception):
                raise gpus
            return 3 << 20, 1872 << 20

        @staticmethod
        def getDeviceProperties(index: int) -> dict[str, object]:
            if isinstance(gpus, Exception):
                raise gpus
            if index >= gpus:
                raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
            return {"name": b"NVIDIA T400", "major": 7, "minor": 5, "totalGlobalMem": 1872 << 20}

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        def __enter__(self) -> None:
            assert self.index < gpus
            cupy.used.append(self.index)

        def __exit__(self, *_: object) -> None: ...

    cupy = types.ModuleType("cupy")
    cupy.used = []
    cupy.cuda = types.SimpleNamespace(runtime=Runtime, Device=Device)
    cupy.ones = lambda shape, dtype: Square(np.full(shape, (total / 8) ** 0.5 - 1, dtype))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    packages(monkeypatch, f"cupy-cuda{cuda // 1000}x")
    return cupy


def without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it raises ImportError


def cupy_that_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Make ``import cupy`` raise this error."""

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "cupy":
                raise error

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])


def show_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_DRIVER_FILES", ("/nowhere/nvidia[0-9]*", __file__))


def test_the_cpu_works_without_cupy(monkeypatch):
    without_cupy(monkeypatch)
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda0", "auto:1", "mps"])
def test_unknown_names(name, monkeypatch):
    pretend_cupy(monkeypatch, gpus=8)
    with pytest.raises(DeviceError, match=r"unknown device .*'cpu', 'cuda', 'cuda:1' .* 'auto'") as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "device"), [("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("auto", "cuda:0")]
)
def test_gpus_have_a_number(name, device, monkeypatch, recwarn):
    cupy = pretend_cupy(monkeypatch, gpus=2)
    assert resolve_device(name) == device
    assert cupy.used == [int(device[-1])]  # the probe ran on this GPU
    assert not recwarn


def break_cupy(how: dict[str, object], words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    pretend_cupy(monkeypatch, **how)
    return words


# What is broken: arguments of pretend_cupy, and words that the message must contain.
FAULTS = {
    "no driver": ({"gpus": NO_DRIVER, "driver": 0}, ["no NVIDIA driver found", "--gpus all"]),
    "no libcuda": ({"kernel": LIBCUDA_GONE, "driver": 0}, ["no NVIDIA driver"]),
    "old driver": (
        {"gpus": NO_DRIVER, "driver": 11080},
        ["driver is too old", "up to 11.8", "needs CUDA 12", "update the driver"],
    ),
    "driver of cuda 12": (
        {"gpus": NO_DRIVER, "driver": 12020, "cuda": 13020},
        ["up to 12.2", "needs CUDA 13", "uninstall -y cupy-cuda13x and then pip install 'minwhisper[gpu]'"],
    ),
    "no gpu": ({"gpus": NO_DEVICE}, ["finds no GPU: check with nvidia-smi"]),
    "none counted": ({"gpus": 0}, ["finds no GPU"]),
    "no compiler": ({"kernel": NO_NVRTC}, ["cannot find NVRTC", "pip install 'cupy-cuda12x[ctk]'"]),
    "no compiler for cupy 13": ({"kernel": NO_NVRTC_13}, ["cannot find NVRTC", "pip install 'cupy-cuda12x[ctk]'"]),
    "half a compiler": ({"kernel": NO_BUILTINS}, ["cannot find NVRTC", "pip install 'cupy-cuda12x[ctk]'"]),
    "no products": ({"product": NO_CUBLAS, "cuda": 13020}, ["cannot find cuBLAS", "pip install 'cupy-cuda13x[ctk]'"]),
    "products of another cuda": ({"product": OTHER_CUBLAS}, ["cannot find cuBLAS", "pip install 'cupy-cuda12x[ctk]'"]),
    "no headers": ({"kernel": NO_HEADERS}, ["cannot find CUDA's headers", "pip install 'cupy-cuda12x[ctk]'"]),
    "no headers for cupy 13": ({"kernel": NO_HEADERS_13}, ["cannot find CUDA's headers"]),
    "half the headers": ({"kernel": HALF_THE_HEADERS}, ["cannot find CUDA's headers"]),
    "no runtime": ({"kernel": NO_CUDART}, ["cannot find a library of CUDA", "pip install 'cupy-cuda12x[ctk]'"]),
    "old gpu": (
        {"kernel": OLD_GPU, "cuda": 13020},
        ["older than Turing", "pip uninstall -y cupy-cuda13x, then pip install 'minwhisper[gpu]'"],
    ),
    "full": ({"kernel": OUT_OF_MEMORY}, ["memory is full (3 of 1872 MiB are free)", "nvidia-smi"]),
    "full from the start": ({"gpus": NO_CONTEXT}, ["memory is full: stop"]),
    "full for cublas": ({"product": CUBLAS_FULL}, ["memory is full (3 of 1872 MiB are free)"]),
    "idle cublas": ({"product": CUBLAS_IDLE}, ["cuBLAS cannot start", "3 of 1872 MiB"]),
    "wrong product": ({"total": 31.0}, ["a wrong 2×2 product (31 instead of 32)"]),
    "wrong rows": ({"rows": 2047.0}, ["a wrong sum (2047 for 2,048 ones)"]),
    "headers of another cuda": (
        {"rows": OTHER_HEADERS, "cuda": 13000},
        ["NVRTC cannot compile CuPy's kernels", "identifier", "pip install --force-reinstall 'cupy-cuda13x[ctk]'"],
    ),
    "no number": ({"total": float("nan")}, ["a wrong 2×2 product (nan instead of 32)"]),
    "another error": (
        {"gpus": MISMATCH},
        ["does not work here (cudaErrorSystemDriverMismatch: system has unsupported display driver / cuda driver"],
    ),
    "wordless": ({"gpus": RuntimeError()}, ["does not work here (RuntimeError())"]),
}


BROKEN = [pytest.param(partial(break_cupy, *fault), id=name) for name, fault in FAULTS.items()]


def broken_by(function):
    """Register a function that breaks something and returns what the message must contain."""
    BROKEN.append(function)
    return function


@broken_by
def no_cupy(monkeypatch):
    without_cupy(monkeypatch)
    return ["CuPy is not installed", "pip install 'minwhisper[gpu]'", "cupy-cuda12x", "never install both"]


@broken_by
def no_files(monkeypatch):  # after pip uninstall of one of two packages
    without_cupy(monkeypatch)
    packages(monkeypatch, "cupy-cuda12x")
    return ["CuPy's files are missing", "pip install --force-reinstall cupy-cuda12x"]


@broken_by
def no_pathfinder(monkeypatch):
    cupy_that_raises(monkeypatch, ModuleNotFoundError("No module named 'cuda'", name="cuda"))
    return ["cannot be imported (No module named 'cuda')"]


@broken_by
def framed(monkeypatch):  # as cupy/__init__.py frames what its extension modules raise
    cause = ImportError("/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found")
    frame = "\n================\nFailed to import CuPy.\n\nOriginal error:\n  ImportError: …\n================\n"
    error = ImportError(frame)
    error.__cause__ = cause
    cupy_that_raises(monkeypatch, error)
    return ["cannot be imported (/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found)"]


@broken_by
def shut_out(monkeypatch):
    pretend_cupy(monkeypatch, NO_DEVICE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    return ["finds no GPU", "CUDA_VISIBLE_DEVICES='7' is set, which hides GPUs"]


@broken_by
def no_products_in_conda(monkeypatch):
    pretend_cupy(monkeypatch, product=OTHER_CUBLAS)
    packages(monkeypatch, "cupy")
    return ["cannot find cuBLAS", "install CUDA 12 from the same source as CuPy"]


@broken_by
def nothing_but_a_folder(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    return ["does not work here (module 'cupy' has no attribute 'cuda')"]


@broken_by
def two_cupys(monkeypatch):
    pretend_cupy(monkeypatch, kernel=NO_NVRTC)
    packages(monkeypatch, "cupy-cuda12x", "cupy-cuda13x")
    return ["cannot find NVRTC", "both installed", "pip uninstall -y cupy-cuda12x cupy-cuda13x"]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_requested_gpu_never_falls_back_to_the_cpu_and_auto_warns(broken, monkeypatch, recwarn):
    expected = broken(monkeypatch)
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda")
    message = str(caught.value)
    assert all(words in message for words in expected), message
    assert message.startswith("device 'cuda': ")
    assert message.endswith("; or use device 'cpu' or 'auto'")  # the way out
    assert "\n" not in message
    assert isinstance(caught.value, MinWhisperError)
    assert resolve_device("auto") == "cpu"
    assert not recwarn  # silent, because there seems to be no GPU
    show_a_gpu(monkeypatch)
    assert resolve_device("auto") == "cpu"
    (warning,) = recwarn
    problem = message.removeprefix("device 'cuda': ").removesuffix("; or use device 'cpu' or 'auto'")
    assert str(warning.message) == f"device 'auto' uses the CPU although there is a GPU: {problem}"


@pytest.mark.parametrize("shown", ["", "-1"])
def test_auto_does_not_warn_about_hidden_gpus(shown, monkeypatch, recwarn):
    pretend_cupy(monkeypatch, NO_DEVICE)
    show_a_gpu(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert resolve_device("auto") == "cpu"
    assert not recwarn


def test_the_warning_points_at_the_callers_line(monkeypatch):
    def load_model() -> str:
        return resolve_device("auto")

    without_cupy(monkeypatch)
    show_a_gpu(monkeypatch)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        load_model()
    assert warned[0].filename == __file__
    assert linecache.getline(__file__, warned[0].lineno).strip() == "load_model()"


@pytest.mark.parametrize(
    ("gpus", "message"),
    [(1, "has 1 GPU, numbered from 0"), (2, "has 2 GPUs, numbered from 0")],
)
def test_the_number_of_a_gpu_is_too_large(gpus, message, monkeypatch):
    pretend_cupy(monkeypatch, gpus)
    with pytest.raises(DeviceError, match=f"device 'cuda:2': this machine {message}; or use"):
        resolve_device("cuda:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(DeviceError, match="but CUDA_VISIBLE_DEVICES='0' is set, which hides GPUs"):
        resolve_device("cuda:2")


def test_a_gpu_is_probed_once(monkeypatch):
    cupy = pretend_cupy(monkeypatch, gpus=2)
    for name in ("cuda", "cuda:0", "auto", "cuda:1", "cuda:1"):
        resolve_device(name)
    assert cupy.used == [0, 1]


def test_a_gpu_that_failed_is_probed_again(monkeypatch):
    pretend_cupy(monkeypatch, kernel=OUT_OF_MEMORY)
    with pytest.raises(DeviceError, match="full"):
        resolve_device("cuda")
    pretend_cupy(monkeypatch)  # the memory is free again
    assert resolve_device("cuda") == "cuda:0"


def test_properties_of_a_gpu(monkeypatch):
    cupy = pretend_cupy(monkeypatch, gpus=2)
    assert describe_device("cuda:1") == DeviceFacts("NVIDIA T400", (7, 5), total=1872 << 20, free=3 << 20)
    assert cupy.used == [1]  # memory is measured on the current device


@pytest.mark.parametrize("name", ["cpu", "auto", "cuda", "cuda:x"])
def test_describe_device_needs_the_number_of_a_gpu(name):
    with pytest.raises(DeviceError, match=f"device '{name}': expected the number of a GPU, 'cuda:0'"):
        describe_device(name)


def test_describe_device_explains_what_is_missing(monkeypatch):
    pretend_cupy(monkeypatch, NO_DEVICE)
    with pytest.raises(DeviceError, match="device 'cuda:0': the NVIDIA driver finds no GPU"):
        describe_device("cuda:0")
    pretend_cupy(monkeypatch)
    with pytest.raises(DeviceError, match=r"device 'cuda:1': .*cudaErrorInvalidDevice"):
        describe_device("cuda:1")
    without_cupy(monkeypatch)
    packages(monkeypatch)
    with pytest.raises(DeviceError, match=r"device 'cuda:0': CuPy is not installed"):
        describe_device("cuda:0")


def test_the_real_cupy_without_a_gpu(monkeypatch):
    cupy = pytest.importorskip("cupy")
    monkeypatch.undo()  # use this machine as it is
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        count = 0
    if count:
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match=r"no NVIDIA driver found|driver is too old|driver finds no GPU"):
        resolve_device("cuda")
    with pytest.raises(DeviceError, match=r"no NVIDIA driver found|driver is too old|driver finds no GPU"):
        describe_device("cuda:0")
