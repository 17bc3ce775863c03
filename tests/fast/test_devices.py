"""Device names, and the messages if a GPU cannot be used. A fake module replaces CuPy.

Its errors have the names and words of CuPy 13 and 14, seen in environments that lack one thing each, or in its source.
"""

import linecache
import sys
import types
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
import pytest

from minwhisper.errors import DeviceError, MinWhisperError
from minwhisper.fast import devices
from minwhisper.fast.devices import DeviceFacts, describe_device, resolve_device


def cupys(name: str, words: str) -> Exception:
    """Return an error of CuPy, or of a library under it; only its name and its words matter."""
    return type(name, (Exception,), {})(words)


def missing(library: str) -> Exception:
    """Return the error of CuPy 14 for a library that NVIDIA's search does not find."""
    return cupys("DynamicLibNotFoundError", f'Failure finding "{library}": No such file: {library}\n')


def failed_to_load(library: str) -> Exception:
    """Return the error of CuPy 13 for the same."""
    return RuntimeError(f"CuPy failed to load {library}: OSError: {library}: cannot open shared object file")


def uncompiled(words: str) -> Exception:
    return cupys("CompileException", words + "\n")


NO_DRIVER = cupys(
    "CUDARuntimeError", "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime"
)
NO_DEVICE = cupys("CUDARuntimeError", "cudaErrorNoDevice: no CUDA-capable device is detected")
OUT_OF_MEMORY = cupys("OutOfMemoryError", "Out of memory allocating 512 bytes (allocated so far: 0 bytes).")
NO_NVRTC = missing("libnvrtc.so.13 or libnvrtc.so.12")
OTHER_CUBLAS = ImportError("libcublas.so.12: cannot open shared object file: No such file or directory")


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


def unless_raised(value: object) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def pretend_cupy(
    monkeypatch: pytest.MonkeyPatch,
    gpus: int | Exception = 1,
    total: float = 32.0,
    kernel: Exception | None = None,
    product: Exception | None = None,
    rows: float | Exception = 2048.0,
    driver: int = 12020,
    cuda: int = 12090,
    installed: Sequence[str] = (),
) -> types.ModuleType:
    """Install a fake CuPy with that many GPUs, whose 2×2 product of twos sums to ``total``.

    Counting the GPUs, the first kernel, the product and the sums of rows can fail. ``used`` lists the GPUs used.
    """

    class Square:
        def __init__(self, values: np.ndarray) -> None:
            self.values = values

        def __add__(self, other: int) -> "Square":
            unless_raised(kernel)
            return Square(self.values + other)

        def __matmul__(self, other: "Square") -> np.ndarray:
            unless_raised(product)
            return self.values @ other.values

        def sum(self, axis: int) -> np.ndarray:
            return np.full(2, unless_raised(rows), np.float32)

    class Runtime:
        driverGetVersion = staticmethod(lambda: driver)
        runtimeGetVersion = staticmethod(lambda: cuda)
        getDeviceCount = staticmethod(lambda: unless_raised(gpus))
        memGetInfo = staticmethod(lambda: unless_raised(gpus) and (3 << 20, 1872 << 20))

        @staticmethod
        def getDeviceProperties(index: int) -> dict[str, object]:
            if index >= unless_raised(gpus):
                raise cupys("CUDARuntimeError", "cudaErrorInvalidDevice: invalid device ordinal")
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
    packages(monkeypatch, *(installed or [f"cupy-cuda{cuda // 1000}x"]))
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


NVRTC, HEADERS, CTK = "cannot find NVRTC", "cannot find CUDA's headers", "pip install 'cupy-cuda12x[ctk]'"
# What is broken: arguments of pretend_cupy, and words that the message must contain.
FAULTS = {
    "no driver": ({"gpus": NO_DRIVER, "driver": 0}, ["no NVIDIA driver found", "--gpus all"]),
    "no libcuda": ({"kernel": failed_to_load("libcuda.so.1"), "driver": 0}, ["no NVIDIA driver"]),
    "old driver": (
        {"gpus": NO_DRIVER, "driver": 11080}, ["driver is too old", "up to 11.8", "needs CUDA 12: update the driver;"]
    ),
    "driver of cuda 12": (
        {"gpus": NO_DRIVER, "driver": 12020, "cuda": 13020},
        ["up to 12.2", "needs CUDA 13", "uninstall -y cupy-cuda13x and then pip install 'minwhisper[gpu]'"],
    ),
    "no gpu": ({"gpus": NO_DEVICE}, ["finds no GPU: check with nvidia-smi"]),
    "none counted": ({"gpus": 0}, ["finds no GPU"]),
    "no compiler": ({"kernel": NO_NVRTC}, [NVRTC, CTK]),
    "no compiler for cupy 13": ({"kernel": failed_to_load("libnvrtc.so.12")}, [NVRTC, CTK]),
    "half a compiler": ({"kernel": uncompiled("nvrtc: failed to open libnvrtc-builtins.so.12.9.")}, [NVRTC, CTK]),
    "no products": (
        {"product": missing("libcublasLt.so.13 or libcublasLt.so.12"), "cuda": 13020},
        ["cannot find cuBLAS", "pip install 'cupy-cuda13x[ctk]'"],
    ),
    "products of another cuda": ({"product": OTHER_CUBLAS}, ["cannot find cuBLAS", CTK]),
    "no headers": ({"kernel": RuntimeError("Failed to find CUDA headers. Please install")}, [HEADERS, CTK]),
    "no headers for cupy 13": ({"kernel": RuntimeError("Failed to auto-detect CUDA root directory.")}, [HEADERS]),
    "half the headers": ({"kernel": uncompiled('error: could not open source file "cuda_fp16.h"')}, [HEADERS]),
    "no runtime": ({"kernel": missing("libcudart.so.12")}, ["cannot find a library of CUDA", CTK]),
    "old gpu": (
        {"kernel": uncompiled("nvrtc: error: invalid value for --gpu-architecture (-arch)"), "cuda": 13020},
        ["older than Turing", "pip uninstall -y cupy-cuda13x, then pip install 'minwhisper[gpu]'"],
    ),
    "full": ({"kernel": OUT_OF_MEMORY}, ["memory is full (3 of 1872 MiB are free)", "nvidia-smi"]),
    "full from the start": ({"gpus": cupys("CUDARuntimeError", "cudaErrorMemoryAllocation")}, ["memory is full: stop"]),
    "full for cublas": ({"product": cupys("CUBLASError", "CUBLAS_STATUS_ALLOC_FAILED")}, ["full (3 of 1872 MiB"]),
    "idle cublas": (
        {"product": cupys("CUBLASError", "CUBLAS_STATUS_NOT_INITIALIZED")}, ["cuBLAS cannot start", "3 of 1872 MiB"]
    ),
    "wrong product": ({"total": 31.0}, ["a wrong 2×2 product (31 instead of 32)"]),
    "wrong rows": ({"rows": 2047.0}, ["a wrong sum (2047 for 2,048 ones)"]),
    "headers of another cuda": (
        {"rows": uncompiled('x.cuh(52): error: identifier "__reduce_add" is undefined'), "cuda": 13000},
        ["NVRTC cannot compile CuPy's kernels", "identifier", "pip install --force-reinstall 'cupy-cuda13x[ctk]'"],
    ),
    "no number": ({"total": float("nan")}, ["a wrong 2×2 product (nan instead of 32)"]),
    "another error": (
        {"gpus": cupys("CUDARuntimeError", "cudaErrorSystemDriverMismatch: unsupported combination\nmore of it")},
        ["does not work here (cudaErrorSystemDriverMismatch: unsupported combination)"],
    ),
    "wordless": ({"gpus": RuntimeError()}, ["does not work here (RuntimeError())"]),
    "no products in conda": (
        {"product": OTHER_CUBLAS, "installed": ["cupy"]}, ["cuBLAS", "install CUDA 12 from the same source as CuPy"]
    ),
    "two packages": (
        {"kernel": NO_NVRTC, "installed": ["cupy-cuda12x", "cupy-cuda13x"]},
        [NVRTC, "both installed", "pip uninstall -y cupy-cuda12x cupy-cuda13x"],
    ),
}  # fmt: skip


def break_cupy(how: dict[str, object], words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    pretend_cupy(monkeypatch, **how)
    return words


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
def nothing_but_a_folder(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    return ["does not work here (module 'cupy' has no attribute 'cuda')"]


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


def test_the_number_of_a_gpu_is_too_large(monkeypatch):
    for gpus, message in (1, "has 1 GPU, numbered from 0"), (2, "has 2 GPUs, numbered from 0"):
        pretend_cupy(monkeypatch, gpus)
        with pytest.raises(DeviceError, match=f"device 'cuda:2': this machine {message}; or use"):
            resolve_device("cuda:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(DeviceError, match="but CUDA_VISIBLE_DEVICES='0' is set, which hides GPUs"):
        resolve_device("cuda:2")


def test_a_gpu_is_probed_until_it_works_and_then_no_more(monkeypatch):
    pretend_cupy(monkeypatch, kernel=OUT_OF_MEMORY)
    with pytest.raises(DeviceError, match="full"):
        resolve_device("cuda")
    cupy = pretend_cupy(monkeypatch, gpus=2)  # the memory is free again
    for name in ("cuda", "cuda:0", "auto", "cuda:1", "cuda:1"):
        resolve_device(name)
    assert cupy.used == [0, 1]


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
    for call, name in (resolve_device, "cuda"), (describe_device, "cuda:0"):
        with pytest.raises(DeviceError, match=r"no NVIDIA driver found|driver is too old|driver finds no GPU"):
            call(name)
