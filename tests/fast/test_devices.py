"""Device names, and the messages when a GPU cannot be used. A fake module replaces CuPy.

Its errors have the names and texts of CuPy 13 and 14, seen in environments that each lack one thing, or in its source.
"""

import linecache
import re
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import numpy as np
import pytest

from minwhisper.errors import DeviceError, MinWhisperError
from minwhisper.fast import devices
from minwhisper.fast.devices import DeviceFacts, describe_device, resolve_device


def cupys(name: str, words: str) -> Exception:
    """Return an error of CuPy, or of a library that it calls; only its name and its text matter."""
    return type(name, (Exception,), {})(words)


def missing(library: str) -> Exception:
    """Return the error of CuPy 14 for a library that NVIDIA's search does not find."""
    return cupys("DynamicLibNotFoundError", f'Failure finding "{library}": No such file: {library}\n')


def failed_to_load(library: str) -> Exception:
    """Return the error of CuPy 13 for a missing library."""
    return RuntimeError(f"CuPy failed to load {library}: OSError: {library}: cannot open shared object file")


def uncompiled(words: str) -> Exception:
    return cupys("CompileException", words + "\n")


def fault(words: str) -> Exception:
    """Return an error of the driver."""
    return cupys("CUDARuntimeError", words)


NO_CUPY = ModuleNotFoundError("No module named 'cupy'", name="cupy")
NO_DRIVER = fault("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime")
NO_DEVICE = fault("cudaErrorNoDevice: no CUDA-capable device is detected")
OUT_OF_MEMORY = cupys("OutOfMemoryError", "Out of memory allocating 512 bytes (allocated so far: 0 bytes).")
NO_NVRTC = missing("libnvrtc.so.13 or libnvrtc.so.12")
OTHER_CUBLAS = ImportError("libcublas.so.12: cannot open shared object file: No such file or directory")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    """Hide the real machine: no GPU, no CuPy package, no device that has passed the probe."""
    monkeypatch.setattr(devices, "_working", set())
    monkeypatch.setattr(devices, "_DRIVER_FILES", ())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    packages(monkeypatch)


def packages(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    """Pretend that these CuPy packages are installed, and no others."""

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
    kernel: Exception | None = None,
    product: float | Exception = 32.0,
    rows: float | Exception = 2048.0,
    driver: int = 12020,
    cuda: int = 12090,
    installed: Sequence[str] = (),
) -> types.ModuleType:
    """Install a fake CuPy with that many GPUs. Its 2×2 product sums to ``product`` and its rows sum to ``rows``.

    Both, the count of GPUs and the first kernel may be an error that is raised. ``used`` lists the GPUs used.
    """

    class Square:
        def __add__(self, other: int) -> "Square":
            unless_raised(kernel)
            return self

        def __matmul__(self, other: "Square") -> np.ndarray:
            return np.full((2, 2), unless_raised(product) / 4)

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
                raise fault("cudaErrorInvalidDevice: invalid device ordinal")
            return {"name": b"NVIDIA T400", "major": 7, "minor": 5, "totalGlobalMem": 1872 << 20}

    @contextmanager
    def use_device(index: int) -> Iterator[None]:
        assert index < gpus
        cupy.used.append(index)
        yield

    cupy = types.ModuleType("cupy")
    cupy.used = []
    cupy.cuda = types.SimpleNamespace(runtime=Runtime, Device=use_device)
    cupy.ones = lambda shape, dtype: Square()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    packages(monkeypatch, *(installed or [f"cupy-cuda{cuda // 1000}x"]))
    return cupy


def cupy_that_raises(monkeypatch: pytest.MonkeyPatch, error: Exception, installed: Sequence[str] = ()) -> None:
    """Make ``import cupy`` raise this error."""

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "cupy":
                raise error

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    packages(monkeypatch, *installed)


def framed(error: Exception) -> Exception:
    """Return the error that cupy/__init__.py raises in place of one from its extension modules."""
    frame = ImportError(
        "\n================\nFailed to import CuPy.\n\nOriginal error:\n  ImportError: …\n================\n"
    )
    frame.__cause__ = error
    return frame


def show_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_DRIVER_FILES", ("/nowhere/nvidia[0-9]*", __file__))


def test_the_cpu_works_without_cupy(monkeypatch):
    cupy_that_raises(monkeypatch, NO_CUPY)
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda0", "auto:1", "mps"])
def test_unknown_device_names_are_rejected(name, monkeypatch):
    pretend_cupy(monkeypatch, gpus=8)
    with pytest.raises(DeviceError, match=r"unknown device .*'cpu', 'cuda', 'cuda:1' .* 'auto'") as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "device"), [("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("auto", "cuda:0")]
)
def test_names_of_gpus_resolve_to_a_number(name, device, monkeypatch, recwarn):
    cupy = pretend_cupy(monkeypatch, gpus=2)
    assert resolve_device(name) == device
    assert cupy.used == [int(device[-1])]  # the probe ran on this GPU
    assert not recwarn


CTK = "pip install 'cupy-cuda12x[ctk]'"
GLIBCXX = "/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found"
# Words that the message must contain, in this order, and the arguments of break_cupy, which say what is broken.
FAULTS = {
    "no NVIDIA driver found … --gpus all": {"gpus": NO_DRIVER, "driver": 0},
    "no NVIDIA driver": {"kernel": failed_to_load("libcuda.so.1"), "driver": 0},
    "driver is too old … up to 11.8 … needs CUDA 12: update the driver;": {"gpus": NO_DRIVER, "driver": 11080},
    "up to 12.2 … needs CUDA 13 … uninstall -y cupy-cuda13x and then pip install 'minwhisper[gpu]'": {
        "gpus": NO_DRIVER, "driver": 12020, "cuda": 13020
    },
    "finds no GPU: check with nvidia-smi": {"gpus": NO_DEVICE},
    "finds no GPU": {"gpus": 0},
    "finds no GPU … CUDA_VISIBLE_DEVICES='7' is set, which hides GPUs": {"gpus": NO_DEVICE, "shown": "7"},
    f"cannot find NVRTC … {CTK}": {"kernel": NO_NVRTC},
    f"cannot find NVRTC, which … {CTK}": {"kernel": failed_to_load("libnvrtc.so.12")},
    "cannot find NVRTC": {"kernel": uncompiled("nvrtc: failed to open libnvrtc-builtins.so.12.9.")},
    "cannot find cuBLAS … pip install 'cupy-cuda13x[ctk]'": {
        "product": missing("libcublasLt.so.13 or libcublasLt.so.12"), "cuda": 13020
    },
    f"cannot find cuBLAS … {CTK}": {"product": OTHER_CUBLAS},
    "cuBLAS … install CUDA 12 from the same source as CuPy": {"product": OTHER_CUBLAS, "installed": ["cupy"]},
    f"cannot find CUDA's headers … {CTK}": {"kernel": RuntimeError("Failed to find CUDA headers. Please install")},
    "cannot find CUDA's headers": {"kernel": RuntimeError("Failed to auto-detect CUDA root directory.")},
    "CUDA's headers": {"kernel": uncompiled('error: could not open source file "cuda_fp16.h"')},
    f"cannot find a library of CUDA … {CTK}": {"kernel": missing("libcudart.so.12")},
    "older than Turing … pip uninstall -y cupy-cuda13x, then pip install 'minwhisper[gpu]'": {
        "kernel": uncompiled("nvrtc: error: invalid value for --gpu-architecture (-arch)"), "cuda": 13020
    },
    "memory is full (3 of 1872 MiB are free) … nvidia-smi": {"kernel": OUT_OF_MEMORY},
    "memory is full: stop": {"gpus": fault("cudaErrorMemoryAllocation")},
    "full (3 of 1872 MiB": {"product": cupys("CUBLASError", "CUBLAS_STATUS_ALLOC_FAILED")},
    "cuBLAS cannot start … 3 of 1872 MiB": {"product": cupys("CUBLASError", "CUBLAS_STATUS_NOT_INITIALIZED")},
    "a wrong 2×2 product (31 instead of 32)": {"product": 31.0},
    "a wrong sum (2047 for 2,048 ones)": {"rows": 2047.0},
    "NVRTC cannot compile CuPy's kernels … identifier … pip install --force-reinstall 'cupy-cuda13x[ctk]'": {
        "rows": uncompiled('x.cuh(52): error: identifier "__reduce_add" is undefined'), "cuda": 13000
    },
    "does not work here (cudaErrorSystemDriverMismatch: unsupported)": {
        "gpus": fault("cudaErrorSystemDriverMismatch: unsupported\nmore of it")
    },
    "does not work here (RuntimeError())": {"gpus": RuntimeError()},
    "cannot find NVRTC … installed together … pip uninstall -y cupy-cuda12x cupy-cuda13x": {
        "kernel": NO_NVRTC, "installed": ["cupy-cuda12x", "cupy-cuda13x"]
    },
    "CuPy is not installed: pip install 'minwhisper[gpu]' … cupy-cuda12x … never install both": {"importing": NO_CUPY},
    "CuPy's files are missing … pip install --force-reinstall cupy-cuda12x": {
        "importing": NO_CUPY, "installed": ["cupy-cuda12x"]  # after pip uninstall of one of two packages
    },
    "cannot be imported (No module named 'cuda')": {
        "importing": ModuleNotFoundError("No module named 'cuda'", name="cuda")
    },
    f"cannot be imported ({GLIBCXX})": {"importing": framed(ImportError(GLIBCXX))},
}  # fmt: skip


def break_cupy(monkeypatch: pytest.MonkeyPatch, shown: str | None = None, **how: Any) -> None:
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    if "importing" in how:
        cupy_that_raises(monkeypatch, how["importing"], how.get("installed", ()))
    else:
        pretend_cupy(monkeypatch, **how)


@pytest.mark.parametrize(("expected", "how"), FAULTS.items(), ids=FAULTS)
def test_a_requested_gpu_never_falls_back_to_the_cpu_and_auto_warns(expected, how, monkeypatch, recwarn):
    break_cupy(monkeypatch, **how)
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda")
    message = str(caught.value)
    assert re.search(".*".join(map(re.escape, expected.split(" … "))), message), message
    assert message.startswith("device 'cuda': ")
    assert message.endswith("; or use device 'cpu' or 'auto'")  # the alternative
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

    cupy_that_raises(monkeypatch, NO_CUPY)
    show_a_gpu(monkeypatch)
    with pytest.warns(UserWarning, match="although there is a GPU") as warned:
        load_model()
    assert warned[0].filename == __file__
    assert linecache.getline(__file__, warned[0].lineno).strip() == "load_model()"


def test_a_gpu_number_that_is_too_large_is_rejected(monkeypatch):
    for gpus, message in (1, "has 1 GPU, numbered from 0"), (2, "has 2 GPUs, numbered from 0"):
        pretend_cupy(monkeypatch, gpus)
        with pytest.raises(DeviceError, match=f"device 'cuda:2': this machine {message}; or use"):
            resolve_device("cuda:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(DeviceError, match="but CUDA_VISIBLE_DEVICES='0' is set, which hides GPUs"):
        resolve_device("cuda:2")


def test_a_gpu_is_probed_until_it_works_and_not_again(monkeypatch):
    pretend_cupy(monkeypatch, kernel=OUT_OF_MEMORY)
    with pytest.raises(DeviceError, match="full"):
        resolve_device("cuda")
    cupy = pretend_cupy(monkeypatch, gpus=2)  # the memory is free again
    for name in ("cuda", "cuda:0", "auto", "cuda:1", "cuda:1"):
        resolve_device(name)
    assert cupy.used == [0, 1]


def test_describe_device_gives_the_properties_of_that_gpu(monkeypatch):
    cupy = pretend_cupy(monkeypatch, gpus=2)
    assert describe_device("cuda:1") == DeviceFacts("NVIDIA T400", (7, 5), total=1872 << 20, free=3 << 20)
    assert cupy.used == [1]  # memory is measured on the current device


def test_describe_device_needs_the_number_of_a_gpu_and_explains_what_is_missing(monkeypatch):
    for name in ("cpu", "auto", "cuda", "cuda:x"):
        with pytest.raises(DeviceError, match=f"device '{name}': expected the number of a GPU, 'cuda:0'"):
            describe_device(name)
    for how, name, message in (
        ({"gpus": NO_DEVICE}, "cuda:0", "the NVIDIA driver finds no GPU"),
        ({}, "cuda:1", ".*cudaErrorInvalidDevice"),
        ({"importing": NO_CUPY}, "cuda:0", "CuPy is not installed"),
    ):
        break_cupy(monkeypatch, **how)
        with pytest.raises(DeviceError, match=f"device '{name}': {message}"):
            describe_device(name)
