"""Arrays of NumPy and of another library, simulated by a module of that name."""

import sys
import types

import numpy as np
import pytest

from minwhisper.common.backend import array_module, to_device, to_numpy


def test_array_module_is_numpy_or_the_library_of_an_array_that_is_not_numpys(monkeypatch):
    assert array_module() is array_module(np.zeros(3)) is array_module(np.float32(3)) is np
    library = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", library)
    array = type("ndarray", (), {"__module__": "elsewhere._core.core"})()
    assert array_module(array) is array_module(np.zeros(3), array) is library


@pytest.mark.parametrize("move", [to_numpy, lambda array: to_device(array, "cpu")])
def test_an_array_on_a_gpu_is_downloaded_and_one_that_is_here_not_copied(move):
    here = np.zeros((4, 4)).T
    assert move(types.SimpleNamespace(get=lambda: here)) is here
    assert move(here) is here
