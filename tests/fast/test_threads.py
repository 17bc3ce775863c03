"""Threads: each item is processed once, errors end the work, and the number of BLAS threads is restored."""

import contextlib
import multiprocessing
import os
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from minwhisper.errors import OptionError
from minwhisper.fast.cpu import threads
from minwhisper.fast.cpu.threads import Pool, Workspace, blas_threads, check_threads, one_blas_thread, usable_cores

TIMEOUT = 60  # seconds


def in_another_thread(work):
    """Call ``work`` in another thread and return its result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(TIMEOUT)
    return found[0]


def library_threads() -> set[int]:
    """Return the current thread counts of the BLAS libraries."""
    found = {library.filepath for library in threads._controller().lib_controllers}  # others may have been loaded since
    return {library["num_threads"] for library in threadpool_info() if library["filepath"] in found}


# --- Pool


@pytest.mark.parametrize(("count", "items"), [(2, 0), (2, 1), (4, 3), (16, 1000)])
def test_every_item_is_done_once(count, items):
    done = []
    Pool(count).run(done.append, iter(range(items)))
    assert sorted(done) == list(range(items))


def test_all_threads_work_and_the_caller_is_one_of_them():
    barrier, workers = threading.Barrier(3), set()

    def work(item):
        workers.add(threading.get_ident())
        barrier.wait(TIMEOUT)  # no item ends before all have begun

    Pool(3).run(work, range(3))
    assert len(workers) == 3
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

    with pytest.raises(ValueError, match="first item"):
        pool.run(work, range(300))
    assert 1 <= len(done) < 150
    done.clear()
    pool.run(done.append, range(50))
    assert sorted(done) == list(range(50))


# --- Workspace


def test_a_workspace_reuses_memory_by_name_and_thread_and_grows():
    workspace = Workspace()
    first = workspace("a", 3, 4)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((3, 4), np.float32, True)
    for shape in ((3, 4), (5,), (3, 0, 4)):
        again = workspace("a", *shape)
        assert (again.shape, again.ctypes.data) == (shape, first.ctypes.data)
    for other in (workspace("b", 10), in_another_thread(lambda: workspace("a", 10)), workspace("a", 100, 10)):
        assert not np.shares_memory(other, first)  # the old memory stays valid
    assert other.shape == (100, 10)
    assert np.shares_memory(workspace("a", 4), other)


# --- Number of threads


def test_invalid_numbers_of_threads_are_rejected():
    for valid in (None, 0, 1, 64, 1024):
        check_threads(valid)
    for count in (-1, 1.0, "2", True, (1,), 1025, 10**400):
        bound = "at most 1024" if isinstance(count, int) and count > 1 else "0 or more"
        with pytest.raises(OptionError, match=f"threads: expected a whole number, {bound}, got "):
            check_threads(count)


# Saved before a fixture replaces them.
container_cores, thread_counts = threads._container_cores, threads._thread_counts


@pytest.fixture
def eight_cores(monkeypatch):
    """Simulate a machine of eight cores without other limits."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_container_cores", list)
    monkeypatch.setattr(threads, "_thread_counts", list)


def test_cpu_affinity_limits_the_cores(eight_cores, monkeypatch):
    assert usable_cores() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 5})
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, cores in (6, 6), (None, 1):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert usable_cores() == cores


def test_container_quota_limits_the_cores(eight_cores, monkeypatch):
    monkeypatch.setattr(threads, "_container_cores", container_cores)
    for quota, cores in {"200000": 2, "150000": 2, "20000": 1, "max": 8}.items():
        files = {"/sys/fs/cgroup/cpu.max": f"{quota} 100000\n"}
        monkeypatch.setattr(Path, "read_text", lambda path, files=files: files[str(path)])
        assert usable_cores() == cores
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=FileNotFoundError))
    assert usable_cores() == 8


def test_blas_threads_limit_the_cores(eight_cores, monkeypatch):
    monkeypatch.setattr(threads, "_thread_counts", thread_counts)
    with threadpool_limits(3):
        assert usable_cores() == 3
        with one_blas_thread(), one_blas_thread():  # our own setting, not the user's
            assert usable_cores() == in_another_thread(usable_cores) == 3
        assert usable_cores() == 3


# --- BLAS threads


@pytest.fixture
def three_blas_threads():
    """Let BLAS use three threads, so that tests can check that this is restored."""
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


def test_blas_has_one_thread_until_the_last_of_two_threads_leaves_its_block(three_blas_threads):
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


def test_an_error_inside_nested_blocks_leaves_only_the_inner_one(three_blas_threads):
    for _ in range(2):
        with one_blas_thread():
            with pytest.raises(ValueError, match="inside"), one_blas_thread():
                raise ValueError("inside")
            assert library_threads() == {1}
        assert library_threads() == {3}


@pytest.mark.parametrize(("count", "expected"), [(None, 3), (0, 3), (2, 2)])
def test_blas_threads_are_restored_after_an_error_too(three_blas_threads, count, expected):
    def use():
        with one_blas_thread():
            assert library_threads() == {1}
        assert library_threads() == {expected}
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"), blas_threads(count):
        use()
    assert library_threads() == {3}


# --- After a fork


def in_a_child(work):
    """Run ``work`` in a forked process; return its exit code, None if it takes too long."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(TIMEOUT)
    code = child.exitcode
    child.kill()
    return code


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_a_forked_child_has_no_locks_or_blocks_of_other_threads(three_blas_threads):
    def use():
        assert library_threads() == {3}  # the child does not have the other thread, so its block is over
        assert usable_cores() >= 1
        with one_blas_thread():
            assert library_threads() == {1}
        assert library_threads() == {3}

    def fork():
        return with_another_thread_in(threads._BLAS._lock, lambda: in_a_child(use))

    assert with_another_thread_in(one_blas_thread(), fork) == 0


@needs_fork
def test_a_block_around_a_fork_can_be_left_in_both_processes(three_blas_threads):
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_blas_thread())

        def leave():
            assert library_threads() == {1}
            stack.close()
            assert library_threads() == {3}

        assert in_a_child(leave) == 0
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
