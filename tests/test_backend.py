"""Arrays and devices on a machine of any kind: what is not installed here is played by a module of its name."""

import sys
import types

import numpy as np
import pytest

from minwhisper.backend import array_module, resolve_device, to_device, to_numpy
from minwhisper.errors import DeviceError, MinWhisperError


def pretend_cupy(monkeypatch: pytest.MonkeyPatch, gpus: int | Exception, total: float = 32.0) -> None:
    """Install a CuPy that finds so many GPUs, or fails to look, and whose 2×2 product of twos sums to ``total``."""

    class Runtime:
        @staticmethod
        def getDeviceCount() -> int:
            if isinstance(gpus, Exception):
                raise gpus
            return gpus

    class Device:
        def __init__(self, index: int) -> None:
            assert index < gpus

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    cupy = types.ModuleType("cupy")
    cupy.cuda = types.SimpleNamespace(runtime=Runtime, Device=Device)
    cupy.ones = lambda shape, dtype: np.full(shape, (total / 8) ** 0.5 - 1, dtype)
    monkeypatch.setitem(sys.modules, "cupy", cupy)


def without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it raises ImportError


def test_the_cpu_needs_nothing(monkeypatch):
    without_cupy(monkeypatch)
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda0", "auto:1", "mps"])
def test_a_name_that_means_nothing_is_an_error_that_lists_those_that_do(name, monkeypatch):
    pretend_cupy(monkeypatch, gpus=8)
    with pytest.raises(DeviceError, match=r"unknown device .*'cpu', 'cuda', 'cuda:1' .* 'auto'") as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(("name", "device"), [("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")])
def test_a_gpu_is_named_with_its_number(name, device, monkeypatch):
    pretend_cupy(monkeypatch, gpus=2)
    assert resolve_device(name) == device


def test_auto_is_the_first_gpu_that_works(monkeypatch):
    pretend_cupy(monkeypatch, gpus=2)
    assert resolve_device("auto") == "cuda:0"


def no_cupy(monkeypatch):
    without_cupy(monkeypatch)
    return r"CuPy is not installed \(pip install cupy-cuda12x"


def no_gpu(monkeypatch):
    pretend_cupy(monkeypatch, gpus=0)
    return "there are 0 GPUs"


def no_driver(monkeypatch):
    pretend_cupy(monkeypatch, gpus=RuntimeError("cudaErrorInsufficientDriver: too old\nmore of it"))
    return r"does not work here \(cudaErrorInsufficientDriver: too old\)"


def wordless(monkeypatch):
    pretend_cupy(monkeypatch, gpus=RuntimeError())
    return "does not work here"


def wrong_product(monkeypatch):
    pretend_cupy(monkeypatch, gpus=1, total=31.0)
    return "came out wrong"


@pytest.mark.parametrize("broken", [no_cupy, no_gpu, no_driver, wordless, wrong_product])
def test_a_gpu_that_was_asked_for_never_becomes_the_cpu(broken, monkeypatch):
    what = broken(monkeypatch)
    with pytest.raises(DeviceError, match=what) as caught:
        resolve_device("cuda")
    assert "device 'cuda'" in str(caught.value)
    assert "'cpu', or 'auto'" in str(caught.value)  # the way out
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, MinWhisperError)


@pytest.mark.parametrize("broken", [no_cupy, no_gpu, no_driver, wordless, wrong_product])
def test_auto_is_the_cpu_where_no_gpu_works(broken, monkeypatch):
    broken(monkeypatch)
    assert resolve_device("auto") == "cpu"


def test_a_gpu_beyond_the_last_is_an_error(monkeypatch):
    pretend_cupy(monkeypatch, gpus=2)
    with pytest.raises(DeviceError, match="there are 2 GPUs here, numbered from 0"):
        resolve_device("cuda:2")


def test_array_module_of_numpy():
    assert array_module(np.zeros(3)) is np
    assert array_module(np.float32(3)) is np  # what a reduction of an array gives
    assert array_module() is np


def test_array_module_is_the_library_of_whichever_array_is_not_numpys(monkeypatch):
    library = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", library)
    array = type("ndarray", (), {"__module__": "elsewhere._core.core"})()
    assert array_module(array) is library
    assert array_module(np.zeros(3), array) is library


@pytest.mark.parametrize("move", [to_numpy, lambda array: to_device(array, "cpu")])
def test_an_array_that_is_there_is_not_copied(move):
    for array in (np.zeros((2, 3), np.float16), np.zeros((4, 4)).T, np.zeros(0)):
        assert move(array) is array


@pytest.mark.parametrize("move", [to_numpy, lambda array: to_device(array, "cpu")])
def test_an_array_of_a_gpu_comes_down_once(move):
    here = np.arange(3)
    there = types.SimpleNamespace(get=lambda: here)
    assert move(there) is here
