"""Threads: how many, what they share out among them, and how the library of matrix products is kept from its own.

NumPy lets go of Python's lock while it computes, so threads of Python are enough to use several cores. Each calls
products that run on one thread. The library's own threads would do as well for one product, but they wait for the next
by spinning, which takes the cores from everything between two products, and from other processes.
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

import numpy as np  # its library has to be loaded to be found
from threadpoolctl import OpenBLASController, ThreadpoolController

from ...common.option_checks import check_count

MAX_THREADS = 1024  # more than any machine has cores

Item = TypeVar("Item")


class Pool:
    """A number of threads that share work, the caller's among them. They sleep in between.

    A child process that is forked has none of its parent's threads. There the pool starts new ones.
    """

    def __init__(self, count: int) -> None:
        """``count`` threads in all; those besides the caller's start when there is something to do."""
        self.count = count
        self._start()
        _POOLS.add(self)

    def _start(self) -> None:
        self._others = ThreadPoolExecutor(self.count - 1, "minwhisper") if self.count > 1 else None

    def run(self, work: Callable[[Item], Any], items: Iterable[Item]) -> None:
        """Call ``work`` on each item, several at a time, and return when all are done.

        Whoever is free takes the next one, so it must not matter which thread does which. The first error is raised.
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
                    left.clear()  # the others finish what they are at
                    raise

        helpers = [self._others.submit(take) for _ in range(min(self.count, len(left)) - 1)] if self._others else []
        try:
            take()
        finally:
            # One that has not begun has nothing left to do.
            errors = [helper.exception() for helper in helpers if not helper.cancel()]
        for error in errors:
            if error is not None:
                raise error


_POOLS: WeakSet[Pool] = WeakSet()


class Workspace(threading.local):
    """Arrays to work in, which each thread has of its own and uses again and again.

    Fresh memory costs more than most of what is done to it: the system hands it out page by page, each filled with
    zeros when it is first touched.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Any] = {}

    def __call__(self, name: str, *shape: int) -> Any:
        """A float32 array of this shape with anything in it. Whoever has asked for the name before loses that one."""
        size = math.prod(shape)
        array = self._arrays.get(name)
        if array is None or array.size < size:
            array = self._arrays[name] = np.empty(size, np.float32)
        return array[:size].reshape(shape)


# ------------------------------------------------------------------------------------------ how many


def check_threads(count: int | None) -> None:
    """Raise :class:`OptionError` for an impossible number of threads; 0 and None mean as many as there are cores."""
    check_count("threads", count, minimum=0, maximum=MAX_THREADS)


def usable_cores() -> int:
    """How many cores this process may use.

    The system says which ones, and a container may be given less of their time. Who has told the library of matrix
    products to take fewer, by ``OMP_NUM_THREADS`` or ``OPENBLAS_NUM_THREADS``, means us too.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_container_cores(), *_BLAS.limits()]))


def _container_cores() -> list[int]:
    """The share of time that a container has, in cores, if there is a limit (version 2 of Linux's control groups)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return [math.ceil(int(quota) / int(period))]
    except (OSError, ValueError):  # no such file; "max" is no number
        return []


# ------------------------------------------------------------------------------------------ the library's threads


class _Blas:
    """The number of threads that products of matrices run on, which is one for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: Counter[int] = Counter()  # blocks that want one thread, by the thread that entered them
        self._before: list[int] = []

    def limits(self) -> list[int]:
        """How many threads each library found would take, were it not for us."""
        with self._lock:
            return list(self._before) if self._users.total() else _counts()

    def enter(self) -> None:
        with self._lock:
            if not self._users.total():
                self._before = _counts()
                _set_counts([1] * len(self._before))
            self._users[threading.get_ident()] += 1

    def leave(self) -> None:
        with self._lock:
            self._users[threading.get_ident()] -= 1  # below 0 if another thread has entered: the total counts
            if not self._users.total():
                self._users.clear()
                _set_counts(self._before)

    def after_fork(self) -> None:
        """Start anew in a child process, of whose parent's threads only the one that forked is there.

        The lock may have been held by another, which will never release it; and blocks of others will never end.
        """
        self._lock = threading.Lock()
        own, total = self._users[threading.get_ident()], self._users.total()
        self._users = Counter({threading.get_ident(): own})
        if total and not own:
            _set_counts(self._before)


@cache
def _controller() -> ThreadpoolController:
    """The libraries of matrix products in this process; looking for them takes milliseconds, so it is done once."""
    return ThreadpoolController().select(user_api="blas")


def _set_counts(counts: Sequence[int]) -> None:
    """Have each library take so many threads from now on, whichever thread of ours asks for it.

    From version 3.8 on threadpoolctl serves the first thread that asks, and lets others ask in vain until that one is
    done. Here they take turns by a lock of their own.
    """
    if hasattr(OpenBLASController, "clear_controlling_thread"):
        OpenBLASController.clear_controlling_thread(force=True)
    for library, count in zip(_controller().lib_controllers, counts, strict=True):
        library.set_num_threads(count)


def blas_libraries() -> list[tuple[str, str]]:
    """The libraries of matrix products in this process: name and version."""
    return [(library["internal_api"], library["version"] or "?") for library in _controller().info()]


def _counts() -> list[int]:
    return [library["num_threads"] for library in _controller().info()]


_BLAS = _Blas()


def _after_fork() -> None:
    """Replace locks and threads in a child process: those of its parent are held by, or are, threads it lacks."""
    _BLAS.after_fork()
    for pool in list(_POOLS):
        pool._start()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products of matrices run on the thread that asks for them until the end of the block.

    Blocks may lie inside each other and run side by side: the number from before is back when the last one ends.
    """
    _BLAS.enter()
    try:
        yield
    finally:
        _BLAS.leave()


@contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Products of matrices run on this many threads until the end of the block; 0 and None leave it as it is."""
    if not count:
        yield
        return
    before = _counts()
    _set_counts([count] * len(before))
    try:
        yield
    finally:
        _set_counts(before)
