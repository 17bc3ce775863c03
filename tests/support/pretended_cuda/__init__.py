"""The real CuPy on a simulated GPU: the C files of this folder replace the driver, the CUDA runtime and cuBLAS.

NVRTC is real, so every kernel is compiled for a GPU. The same source, compiled by g++ (see
``cuda_on_cpu``), runs on "device" memory that is memory of this process. ``pretended.h`` explains how
streams run and what counts as a violation. ``start`` changes CuPy's libraries in memory, so CuPy can no longer use
a real GPU in this process.
"""

import ctypes
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

MIB = 1 << 20


def why_not() -> str:
    """Return what is missing to simulate a GPU, or "" if nothing is."""
    for program in ("gcc", "g++", "nm"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    if find_spec("cupy") is None:
        return "CuPy is not installed"
    from . import build

    return build.why_not()


class Count(NamedTuple):
    """Calls of one kind, and the bytes that they moved or allocated."""

    calls: int = 0
    bytes: int = 0


class PretendedGpu:
    """The interface of the simulated GPU for tests."""

    def __init__(self, driver: ctypes.CDLL) -> None:
        self._driver = driver
        for name in ("name", "logged", "violations"):
            getattr(driver, f"pretended_{name}").restype = ctypes.c_char_p
        for name in ("calls", "bytes", "taken", "peak"):
            getattr(driver, f"pretended_{name}").restype = ctypes.c_uint64
        driver.pretended_card.argtypes = [ctypes.c_uint64] * 3

    def card(self, total: int, context: int = 256 * MIB, page: int = 2 * MIB, capability: int = 75) -> None:
        """Limit the memory to ``total`` bytes, including CUDA's context; memory is allocated in whole pages.

        CuPy reads the compute capability once per process, but the number of multiprocessors each time.
        """
        self._driver.pretended_card(total, context, page)
        self._driver.pretended_capability(capability)

    @property
    def taken(self) -> int:
        """Bytes of device memory that are allocated, in whole pages, without the context."""
        return self._driver.pretended_taken()

    @property
    def peak(self) -> int:
        """The largest number of bytes allocated since ``card`` was called."""
        return self._driver.pretended_peak()

    @property
    def violations(self) -> list[str]:
        """Descriptions of calls that CUDA would reject, and of faults in kernels."""
        return self._driver.pretended_violations().decode().splitlines()

    def forgive(self) -> None:
        """Forget the violations."""
        self._driver.pretended_forgive()

    def counts(self) -> dict[str, Count]:
        """Return the number of calls of each kind since ``forget_counts``."""
        driver = self._driver
        return {
            driver.pretended_name(i).decode(): Count(driver.pretended_calls(i), driver.pretended_bytes(i))
            for i in range(driver.pretended_distinct())
        }

    def count(self, name: str) -> Count:
        """Return one of ``counts``."""
        return self.counts().get(name, Count())

    def forget_counts(self) -> None:
        """Count from zero."""
        self._driver.pretended_forget_counts()

    @contextmanager
    def log(self) -> Iterator[list[str]]:
        """Yield a list, to which the calls made inside the context are added at its end."""
        lines: list[str] = []
        self._driver.pretended_log(1)
        try:
            yield lines
        finally:
            lines += self._driver.pretended_logged().decode().splitlines()
            self._driver.pretended_log(0)

    @contextmanager
    def without_computing(self, but: str = "") -> Iterator[None]:
        """Run no products inside the context, and no kernels except the one of this name."""
        import cupy

        cupy.cuda.runtime.deviceSynchronize()
        self._driver.pretended_compute(0, but.encode())
        try:
            yield
            cupy.cuda.runtime.deviceSynchronize()
        finally:
            self._driver.pretended_compute(1, b"")

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Run blocks and threads in reverse order inside the context."""
        import cupy

        cupy.cuda.runtime.deviceSynchronize()
        self._driver.pretended_backward(1)
        try:
            yield
            cupy.cuda.runtime.deviceSynchronize()
        finally:
            self._driver.pretended_backward(0)


@cache
def start() -> PretendedGpu:
    """Replace the driver in this process. Raises ``RuntimeError`` if something is missing."""
    missing = why_not()
    if missing:
        raise RuntimeError(missing)
    from . import build, on_cpu

    driver = build.load()
    on_cpu.compile_for_both(driver)
    return PretendedGpu(driver)
