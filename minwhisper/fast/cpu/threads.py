"""Threads and the work they share, and the number of threads that BLAS uses.

NumPy releases Python's lock while it computes, so Python threads can use several cores. Each calls BLAS on one thread.
BLAS's own threads would be as fast for one product, but they busy-wait for the next one. That takes the cores from the
work between two products, and from other processes.
"""

import math
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np  # loads BLAS, so that threadpoolctl finds it
from threadpoolctl import OpenBLASController, ThreadpoolController

from ...common.option_checks import check_count

MAX_THREADS = 1024  # more than any machine has cores

Item = TypeVar("Item")


class Pool:
    """A pool of threads that share work, including the caller's. Idle threads sleep.

    A forked child process has none of its parent's threads, so the pool starts new ones there.
    """

    def __init__(self, count: int) -> None:
        """Use ``count`` threads in all. All but the caller's start with the first call of ``run``."""
        self.count = count
        self._start()
        _POOLS.add(self)

    def _start(self) -> None:
        self._others = ThreadPoolExecutor(self.count - 1, "minwhisper") if self.count > 1 else None

    def run(self, work: Callable[[Item], Any], items: Iterable[Item]) -> None:
        """Call ``work`` on each item, several at a time, and return when all are done.

        Each thread takes the next item when it is free, so results must not depend on which thread does which item. The
        first error is raised, and no further item is started.
        """
        left = deque(items)

        def take() -> None:
            while True:
                try:
                    item = left.popleft()
                except IndexError:
                    return
                try:
                    work(item)
                except BaseException:
                    left.clear()  # the other threads finish their current item
                    raise

        helpers = [self._others.submit(take) for _ in range(min(self.count, len(left)) - 1)] if self._others else []
        try:
            take()
        finally:
            # A helper that has not started yet has nothing left to do.
            errors = [helper.exception() for helper in helpers if not helper.cancel()]
        for error in errors:
            if error is not None:
                raise error


_POOLS: WeakSet[Pool] = WeakSet()


class Workspace(threading.local):
    """Reusable buffers, separate for each thread.

    Fresh memory costs more than most computations on it: the system provides it page by page, and fills each page with
    zeros at the first access.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Any] = {}

    def __call__(self, name: str, *shape: int) -> Any:
        """Return an uninitialised float32 array. It reuses the memory of the last one with this name."""
        size = math.prod(shape)
        array = self._arrays.get(name)
        if array is None or array.size < size:
            array = self._arrays[name] = np.empty(size, np.float32)
        return array[:size].reshape(shape)


# ------------------------------------------------------------------------------------------ number of threads


def check_threads(count: int | None) -> None:
    """Raise ``OptionError`` for an invalid number of threads; 0 and None mean all usable cores."""
    check_count("threads", count, minimum=0, maximum=MAX_THREADS)


def usable_cores() -> int:
    """Return the number of cores that this process may use.

    It is limited by the system's CPU affinity, by the CPU quota of a container, and by the number of threads set for
    BLAS, with ``OMP_NUM_THREADS`` or ``OPENBLAS_NUM_THREADS``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_container_cores(), *_BLAS.limits()]))


def _container_cores() -> list[int]:
    """Return the CPU quota of a container in cores, if there is one (Linux control groups, version 2)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return [math.ceil(int(quota) / int(period))]
    except (OSError, ValueError):  # there is no such file, or no limit ("max")
        return []


# ------------------------------------------------------------------------------------------ BLAS threads


class _BlasThreads:
    """The number of BLAS threads, a setting of the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: Counter[int] = Counter()  # open blocks of one_blas_thread, by the thread that entered them
        self._before: list[int] = []

    def limits(self) -> list[int]:
        """Return the number of threads of each library, as it is outside of ``one_blas_thread``."""
        with self._lock:
            return list(self._before) if self._users.total() else _thread_counts()

    def enter(self) -> None:
        with self._lock:
            if not self._users.total():
                self._before = _thread_counts()
                _set_thread_counts([1] * len(self._before))
            self._users[threading.get_ident()] += 1

    def leave(self) -> None:
        with self._lock:
            self._users[threading.get_ident()] -= 1  # below 0 if another thread has entered; only the total matters
            if not self._users.total():
                self._users.clear()
                _set_thread_counts(self._before)

    def after_fork(self) -> None:
        """Reset the state in a forked child process, which has only the thread that forked.

        Another thread may have held the lock and will never release it, and the blocks of other threads never end.
        """
        self._lock = threading.Lock()
        own, total = self._users[threading.get_ident()], self._users.total()
        self._users = Counter({threading.get_ident(): own})
        if total and not own:
            _set_thread_counts(self._before)


@cache
def _controller() -> ThreadpoolController:
    """Return the controller of BLAS libraries in this process. Finding them takes milliseconds, so it is cached."""
    return ThreadpoolController().select(user_api="blas")


def _set_thread_counts(counts: Sequence[int]) -> None:
    """Set the number of threads of each library, from any thread.

    Since version 3.8, threadpoolctl serves only the first thread that sets a limit and ignores the others until that
    one has finished. Our threads take turns with a lock instead.
    """
    if hasattr(OpenBLASController, "clear_controlling_thread"):
        OpenBLASController.clear_controlling_thread(force=True)
    for library, count in zip(_controller().lib_controllers, counts, strict=True):
        library.set_num_threads(count)


def blas_libraries() -> list[tuple[str, str]]:
    """Return name and version of the BLAS libraries in this process."""
    return [(library["internal_api"], library["version"] or "?") for library in _controller().info()]


def _thread_counts() -> list[int]:
    return [library["num_threads"] for library in _controller().info()]


_BLAS = _BlasThreads()


def _after_fork() -> None:
    """Replace locks and threads in a forked child process, where those of the parent do not work."""
    _BLAS.after_fork()
    for pool in list(_POOLS):
        pool._start()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread, the calling one, until the end of the block.

    Blocks may be nested and may run in parallel. The last one to end restores the previous number.
    """
    _BLAS.enter()
    try:
        yield
    finally:
        _BLAS.leave()


@contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Let BLAS use this many threads until the end of the block; 0 and None change nothing."""
    if not count:
        yield
        return
    before = _thread_counts()
    _set_thread_counts([count] * len(before))
    try:
        yield
    finally:
        _set_thread_counts(before)
