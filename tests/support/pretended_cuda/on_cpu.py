"""Compile the kernels that CuPy compiles with NVRTC once more with g++, so that the simulated driver can run them."""

import ctypes
import re
from functools import cache
from pathlib import Path
from typing import Any

import cuda_on_cpu

HEADER = Path(__file__).with_name("cupy_on_cpu.h")

# A library of kernels lists the size of each parameter, so that a launch can be queued with copies of its arguments.
SIZES = """
template <class... P> const size_t* sizes_of(void (*)(P...)) {
    static const size_t sizes[] = {sizeof(P)..., 0};
    return sizes;
}
"""


@cache
def library(source: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """Compile kernels for the CPU. Raises ``RuntimeError`` with the compiler's output if this fails."""
    names = re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\))?\s*(\w+)\(", source)
    sizes = [f'extern "C" const size_t* sizes_{name}() {{ return sizes_of({name}); }}' for name in names]
    return cuda_on_cpu.compiled("\n".join([source, SIZES, *sizes]), options)


def of_cupy(source: str) -> str:
    """Return the source of one of CuPy's own kernels, with our header in place of CuPy's."""
    return f'#include "{HEADER}"\n' + re.sub(r'#include [<"]cupy/[\w.]+[>"]', "", source)


def compile_for_both(driver: ctypes.CDLL) -> None:
    """Make CuPy compile each module that it compiles, or loads from its cache, for the CPU too."""
    from cupy.cuda import compiler

    original = compiler._compile_module_with_cache

    def compile_module(source: str, options: tuple[str, ...] = (), **how: Any) -> Any:
        includes = tuple(option for option in options if option.startswith(("-D", "-I")) and "cccl" not in option)
        one_thread = "CUPY_FOR" in source and "__syncthreads" not in source
        kernels: ctypes.CDLL | None
        if "cupy/carray.cuh" not in source:
            kernels = library(source, includes)
        else:
            try:
                kernels = library(of_cupy(source), includes)
            except RuntimeError:  # to run such a kernel is a violation
                kernels = None
        driver.pretended_next_library(ctypes.c_void_p(kernels._handle if kernels else None), int(one_thread))
        return original(source, options, **how)

    compiler._compile_module_with_cache = compile_module
