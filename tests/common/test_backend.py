"""Arrays of NumPy and of another library, which is simulated by a module of its name."""

import sys
import types

import numpy as np
import pytest

from minwhisper.common.backend import array_module, to_device, to_numpy


def test_array_module_of_numpy():
    assert array_module(np.zeros(3)) is np
    assert array_module(np.float32(3)) is np  # the result of a reduction
    assert array_module() is np


def test_array_module_is_the_library_of_an_array_that_is_not_numpys(monkeypatch):
    library = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", library)
    array = type("ndarray", (), {"__module__": "elsewhere._core.core"})()
    assert array_module(array) is library
    assert array_module(np.zeros(3), array) is library


@pytest.mark.parametrize("move", [to_numpy, lambda array: to_device(array, "cpu")])
def test_an_array_that_is_already_there_is_not_copied(move):
    for array in (np.zeros((2, 3), np.float16), np.zeros((4, 4)).T, np.zeros(0)):
        assert move(array) is array


@pytest.mark.parametrize("move", [to_numpy, lambda array: to_device(array, "cpu")])
def test_an_array_on_a_gpu_is_downloaded(move):
    here = np.arange(3)
    there = types.SimpleNamespace(get=lambda: here)
    assert move(there) is here
