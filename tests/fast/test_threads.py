"""Threads: each item is done once, errors end the work, and the number of BLAS threads is restored."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from minwhisper.errors import OptionError
from minwhisper.fast.cpu import threads
from minwhisper.fast.cpu.threads import (
    Pool,
    Workspace,
    blas_threads,
    check_threads,
    one_blas_thread,
    usable_cores,
)

TIMEOUT = 60  # seconds


def in_another_thread(work):
    """Call ``work`` in another thread and return its result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(TIMEOUT)
    return found[0]


def library_threads() -> set[int]:
    """Return the current numbers of threads of the BLAS libraries."""
    found = {library.filepath for library in threads._controller().lib_controllers}  # others may have been loaded since
    return {library["num_threads"] for library in threadpool_info() if library["filepath"] in found}


# --- Pool


@pytest.mark.parametrize(("count", "items"), [(1, 3), (2, 0), (2, 1), (4, 3), (16, 1000)])
def test_every_item_is_done_once(count, items):
    done = []
    Pool(count).run(done.append, iter(range(items)))
    assert sorted(done) == list(range(items))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_all_threads_work_and_the_caller_is_one_of_them(count):
    barrier, workers = threading.Barrier(count), set()

    def work(item):
        workers.add(threading.get_ident())
        barrier.wait(TIMEOUT)  # no item ends before all have begun

    Pool(count).run(work, range(count))
    assert len(workers) == count
    assert threading.get_ident() in workers


def test_one_thread_is_the_caller_keeps_the_order_and_raises_errors():
    done = []

    def work(item):
        if item == 20:
            raise ValueError("twenty")
        done.append((item, threading.get_ident()))

    with pytest.raises(ValueError, match="twenty"):
        Pool(1).run(work, range(30))
    assert done == [(item, threading.get_ident()) for item in range(20)]


def test_run_waits_for_all_threads():
    caller, barrier, done = threading.get_ident(), threading.Barrier(2), []

    def work(item):
        barrier.wait(TIMEOUT)
        if threading.get_ident() != caller:
            time.sleep(0.05)  # the caller has nothing left to do and must wait for the other thread
        done.append(item)

    Pool(2).run(work, range(2))
    assert sorted(done) == [0, 1]


@pytest.mark.parametrize("caller_fails", [True, False], ids=["the caller fails", "another fails"])
def test_after_an_error_no_further_items_are_started_and_the_pool_stays_usable(caller_fails):
    pool, caller, together, done = Pool(2), threading.get_ident(), threading.Barrier(2), []

    def work(item):
        if item < 2:
            together.wait(TIMEOUT)  # both have begun
        if (threading.get_ident() == caller) == caller_fails:
            raise ValueError("first item")
        time.sleep(0.01)
        done.append(item)

    for _ in range(3):
        done.clear()
        with pytest.raises(ValueError, match="first item"):
            pool.run(work, range(300))
        assert 1 <= len(done) < 150
    assert threading.active_count() < 100
    done.clear()
    pool.run(done.append, range(50))
    assert sorted(done) == list(range(50))


def test_two_callers_share_a_pool():
    pool, found = Pool(2), {"a": [], "b": []}

    def call(name):
        for _ in range(50):
            pool.run(lambda item: found[name].append(item), range(20))

    callers = [threading.Thread(target=call, args=(name,)) for name in "ab"]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(TIMEOUT)
    assert [sorted(done) for done in found.values()] == [sorted([*range(20)] * 50)] * 2


# --- Workspace


def test_a_workspace_reuses_memory_by_name_and_grows():
    workspace = Workspace()
    first = workspace("a", 3, 4)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((3, 4), np.float32, True)
    first[:] = 7
    for shape in ((3, 4), (5,), (3, 0, 4)):
        again = workspace("a", *shape)
        assert (again.shape, again.ctypes.data) == (shape, first.ctypes.data)
    assert not np.shares_memory(workspace("b", 10), first)
    large = workspace("a", 100, 10)
    large[:] = 1
    assert large.shape == (100, 10)
    assert (first == 7).all()  # the old memory stays valid
    assert workspace("a", 4).ctypes.data == large.ctypes.data


def test_each_thread_has_its_own_workspace():
    workspace = Workspace()
    mine = workspace("a", 10)
    theirs = in_another_thread(lambda: workspace("a", 10))
    assert not np.shares_memory(mine, theirs)
    assert workspace("a", 10).ctypes.data == mine.ctypes.data


# --- Number of threads


def test_invalid_numbers_of_threads():
    for valid in (None, 0, 1, 64, 1024):
        check_threads(valid)
    for count in (-1, 1.0, "2", True, (1,), 1025, 10**400):
        bound = "at most 1024" if isinstance(count, int) and count > 1 else "0 or more"
        with pytest.raises(OptionError, match=f"threads: expected a whole number, {bound}, got "):
            check_threads(count)


@pytest.fixture
def eight_cores(monkeypatch):
    """Simulate a machine of eight cores without other limits."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_container_cores", list)
    monkeypatch.setattr(threads, "_thread_counts", list)


container_cores = threads._container_cores  # before a fixture replaces it


def test_cpu_affinity_limits_the_cores(eight_cores, monkeypatch):
    assert usable_cores() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 5})
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, cores in (6, 6), (None, 1):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert usable_cores() == cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("20000 100000\n", 1), ("max 100000\n", 8), ("", 8), (None, 8)],
    ids=repr,
)
def test_container_quota_limits_the_cores(eight_cores, monkeypatch, quota, cores):
    def read_text(path):
        assert str(path) == "/sys/fs/cgroup/cpu.max"
        if quota is None:
            raise FileNotFoundError(path)
        return quota

    monkeypatch.setattr(threads, "_container_cores", container_cores)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert usable_cores() == cores


@pytest.mark.parametrize("limit", [1, 3])
def test_blas_threads_limit_the_cores(monkeypatch, limit):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_container_cores", list)
    with threadpool_limits(limit):
        assert usable_cores() == limit
        with one_blas_thread(), one_blas_thread():  # our own setting, not the user's
            assert usable_cores() == limit
            assert in_another_thread(usable_cores) == limit
        assert usable_cores() == limit


# --- BLAS threads


@pytest.fixture
def three_blas_threads():
    """Let BLAS use three threads, to see whether that is restored."""
    before = library_threads()
    with threadpool_limits(3):
        assert library_threads() == {3}
        yield
    assert library_threads() == before


def with_another_thread_in(context, work):
    """Call ``work`` while another thread is in this context, and return its result."""
    entered, may_leave = threading.Event(), threading.Event()

    def other():
        with context:
            entered.set()
            may_leave.wait(TIMEOUT)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert entered.wait(TIMEOUT)
        return work()
    finally:
        may_leave.set()
        thread.join(TIMEOUT)


def test_a_block_lasts_until_that_of_another_thread_has_ended_too(three_blas_threads):
    def use():
        with one_blas_thread():
            assert library_threads() == {1}
        return library_threads()

    assert with_another_thread_in(one_blas_thread(), use) == {1}
    assert library_threads() == {3}
    with one_blas_thread():
        with_another_thread_in(one_blas_thread(), lambda: None)
        assert library_threads() == {1}
    assert library_threads() == {3}


def test_nested_blocks_end_with_an_error(three_blas_threads):
    with one_blas_thread():
        with pytest.raises(ValueError, match="inside"), one_blas_thread():
            raise ValueError("inside")
        assert library_threads() == {1}
    assert library_threads() == {3}
    with one_blas_thread():
        assert library_threads() == {1}
    assert library_threads() == {3}


def test_blas_threads(three_blas_threads):
    for unchanged in (None, 0):
        with blas_threads(unchanged):
            assert library_threads() == {3}
    with blas_threads(2):
        assert library_threads() == {2}
        with one_blas_thread():
            assert library_threads() == {1}
        assert library_threads() == {2}
    assert library_threads() == {3}
    with pytest.raises(ValueError, match="inside"), blas_threads(2):
        raise ValueError("inside")
    assert library_threads() == {3}


# --- After a fork


def in_a_child(work):
    """Run ``work`` in a forked process; return 0, 1 for an error, or 2 if it takes too long."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 2


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@needs_fork
def test_a_lock_held_during_a_fork_does_not_block_the_child():
    def use():
        with one_blas_thread():
            usable_cores()

    assert with_another_thread_in(threads._BLAS._lock, lambda: in_a_child(use)) == 0


@needs_fork
def test_a_block_of_another_thread_ends_in_the_child(three_blas_threads):
    def use():
        assert library_threads() == {3}  # that block never ends in the child
        with one_blas_thread():
            assert library_threads() == {1}
        assert library_threads() == {3}

    assert with_another_thread_in(one_blas_thread(), lambda: in_a_child(use)) == 0


@needs_fork
def test_a_block_around_a_fork_ends_in_both_processes(three_blas_threads):
    def leave(stack):
        assert library_threads() == {1}
        stack.close()
        assert library_threads() == {3}

    with contextlib.ExitStack() as stack:
        stack.enter_context(one_blas_thread())
        assert in_a_child(lambda: leave(stack)) == 0
        assert library_threads() == {1}
    assert library_threads() == {3}


@needs_fork
def test_a_pool_starts_its_threads_in_the_child():
    pool = Pool(2)
    pool.run(lambda _: time.sleep(0.01), range(4))  # starts the other thread

    def use():
        meeting = threading.Barrier(2)
        pool.run(lambda _: meeting.wait(TIMEOUT / 2), range(2))

    assert in_a_child(use) == 0
    use()
