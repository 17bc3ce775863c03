"""The GPU that gpu.py measures: its clock, its rates, its memory."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np


class Rates(NamedTuple):
    """Rates of a GPU, per second."""

    copied: float  # bytes, read and written
    read: float  # bytes
    operations: float  # of a matrix product in float32


class Pool(NamedTuple):
    """CuPy's memory while ``Gpu.pool`` is open."""

    used: Callable[[], int]  # bytes of arrays now
    peak: Callable[[], int]  # the largest number of bytes since the previous call
    held: Callable[[], int]  # bytes taken from the device, including blocks kept for reuse


class Gpu:
    """A GPU as CuPy and PyTorch see it. The tests of these scripts replace this class for a simulated GPU."""

    def __init__(self, device: str) -> None:
        import cupy

        self.device, self.cupy = device, cupy

    def wait(self) -> None:
        """Wait until all work is done, including PyTorch's."""
        self.cupy.cuda.runtime.deviceSynchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Time a piece of work by the wall clock, from an idle GPU to an idle GPU."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def device_seconds(self, work: Callable[[], Any], times: int = 1) -> float:
        """Time a piece of work by the GPU's own clock, with the next one queued behind it."""
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        self.wait()
        start.record()
        for _ in range(times):
            work()
        end.record()
        end.synchronize()
        return self.cupy.cuda.get_elapsed_time(start, end) / 1e3 / times

    def rates(self, size: int = 1 << 30, side: int = 4096, rounds: int = 9) -> Rates:
        """Measure rates: copy and read more than any cache holds, and multiply large matrices."""
        cupy = self.cupy
        free, _ = cupy.cuda.runtime.memGetInfo()
        x = cupy.ones(min(size, free // 4) // 4, cupy.float32)
        y = cupy.empty_like(x)
        copy = cupy.ElementwiseKernel("float32 x", "float32 y", "y = x", "minwhisper_copy")
        a = cupy.asarray(np.random.default_rng(0).standard_normal((side, side), dtype=np.float32))
        out = cupy.empty_like(a)

        def median(work: Callable[[], Any]) -> float:
            work()
            work()
            return statistics.median(self.device_seconds(work, 3) for _ in range(rounds))

        return Rates(
            copied=2 * x.nbytes / median(lambda: copy(x, y)),
            read=x.nbytes / median(lambda: x.sum()),
            operations=2 * side**3 / median(lambda: cupy.matmul(a, a, out=out)),
        )

    @contextmanager
    def pool(self, limit: int = 0) -> Iterator[Pool]:
        """Count allocations inside the context, limited to ``limit`` bytes (0: unlimited)."""
        cupy, pool = self.cupy, self.cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before, held = pool.used_bytes(), pool.total_bytes()
        if limit:
            pool.set_limit(size=held + limit)
        peak = 0

        def used() -> int:
            return pool.used_bytes() - before

        def allocate(size: int) -> Any:
            nonlocal peak
            memory = pool.malloc(size)
            peak = max(peak, used())
            return memory

        def the_peak() -> int:
            nonlocal peak
            found, peak = max(peak, used()), used()
            return found

        cupy.cuda.set_allocator(allocate)  # for all threads: a separate thread uploads weights
        try:
            yield Pool(used, the_peak, lambda: pool.total_bytes() - held)
        finally:
            cupy.cuda.set_allocator(pool.malloc)
            pool.set_limit(size=0)
            pool.free_all_blocks()

    def beside_arrays(self) -> int:
        """Return the bytes used outside the default pool: by the context, and by other processes."""
        pool = self.cupy.get_default_memory_pool()
        pool.free_all_blocks()
        free, total = self.cupy.cuda.runtime.memGetInfo()
        return total - free - pool.total_bytes()

    def busy(self, work: Callable[[], Any]) -> float | None:
        """Return the seconds for which kernels run during some work; None without PyTorch's profiler.

        Raises any error that the profiler raises if it does not work with the driver.
        """
        if find_spec("torch") is None:
            return None
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        self.wait()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            work()
            self.wait()
        its = [event.self_device_time_total for event in seen.key_averages() if event.device_type == DeviceType.CUDA]
        return sum(its) / 1e6 or None
