"""Threads: each item is done once, an error ends the work, and the library's own threads are given back."""

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
    blas_libraries,
    blas_threads,
    check_threads,
    one_blas_thread,
    usable_cores,
)

PATIENCE = 60  # seconds after which a test that hangs fails


def in_another_thread(work):
    """What ``work`` returns there."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(PATIENCE)
    return found[0]


def library_threads() -> set[int]:
    """How many threads products would run on now, of each library found."""
    found = {library.filepath for library in threads._controller().lib_controllers}  # others may have come since
    return {library["num_threads"] for library in threadpool_info() if library["filepath"] in found}


# --- Pool


@pytest.mark.parametrize("count", [1, 2, 4, 16])
@pytest.mark.parametrize("items", [0, 1, 3, 1000])
def test_every_item_is_done_once(count, items):
    done = []
    Pool(count).run(done.append, range(items))
    assert sorted(done) == list(range(items))


def test_items_may_come_from_an_iterator():
    done = []
    Pool(3).run(done.append, iter("abc"))
    assert sorted(done) == ["a", "b", "c"]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_as_many_threads_work_at_once_and_the_caller_is_one_of_them(count):
    together, workers = threading.Barrier(count), set()

    def work(item):
        workers.add(threading.get_ident())
        together.wait(PATIENCE)  # no item ends before all have begun

    Pool(count).run(work, range(count))
    assert len(workers) == count
    assert threading.get_ident() in workers


def test_one_thread_is_the_callers_and_keeps_the_order():
    done = []
    Pool(1).run(lambda item: done.append((item, threading.get_ident())), range(20))
    assert done == [(item, threading.get_ident()) for item in range(20)]


def test_all_is_done_when_it_returns():
    pool, caller, done = Pool(2), threading.get_ident(), []
    together = threading.Barrier(2)

    def work(item):
        together.wait(PATIENCE)
        if threading.get_ident() != caller:
            time.sleep(0.05)  # the caller has nothing left to do and must wait for the other
        done.append(item)

    pool.run(work, range(2))
    assert sorted(done) == [0, 1]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_error_is_raised_and_the_pool_can_be_used_again(count):
    pool = Pool(count)

    def work(item):
        if item == 7:
            raise ValueError("seven")

    for _ in range(20):
        with pytest.raises(ValueError, match="seven"):
            pool.run(work, range(10))
    done = []
    pool.run(done.append, range(100))
    assert sorted(done) == list(range(100))


def fail_in(pool: Pool, caller_fails: bool, items: int) -> list[int]:
    """What is done by the other of two threads where one fails with its first item."""
    caller, together, done = threading.get_ident(), threading.Barrier(2), []

    def work(item):
        if item < 2:
            together.wait(PATIENCE)  # both have begun
        if (threading.get_ident() == caller) == caller_fails:
            raise ValueError("first item")
        time.sleep(0.01)
        done.append(item)

    with pytest.raises(ValueError, match="first item"):
        pool.run(work, range(items))
    return done


@pytest.mark.parametrize("caller_fails", [True, False], ids=["the caller fails", "another fails"])
def test_after_an_error_the_others_end_what_they_are_at_and_no_more(caller_fails):
    pool = Pool(2)
    assert 1 <= len(fail_in(pool, caller_fails, 300)) < 150
    assert threading.active_count() < 100
    done = []
    pool.run(done.append, range(50))
    assert sorted(done) == list(range(50))


def test_two_callers_may_use_a_pool_at_once():
    pool, found = Pool(2), {}

    def call(name):
        done = []
        for _ in range(50):
            pool.run(lambda item: done.append((name, item)), range(20))
        found[name] = done

    callers = [threading.Thread(target=call, args=(name,)) for name in "ab"]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert {name: sorted(done) for name, done in found.items()} == {
        name: sorted((name, item) for item in range(20) for _ in range(50)) for name in "ab"
    }


# --- Scratch


def test_scratch_of_a_name_is_the_same_memory_again():
    workspace = Workspace()
    first = workspace("a", 3, 4)
    assert first.shape == (3, 4)
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert workspace("a", 3, 4).ctypes.data == first.ctypes.data
    smaller = workspace("a", 5)
    assert smaller.shape == (5,)
    assert smaller.ctypes.data == first.ctypes.data


def test_scratch_of_another_name_is_other_memory():
    workspace = Workspace()
    assert not np.shares_memory(workspace("a", 10), workspace("b", 10))


def test_scratch_grows_and_stays_large():
    workspace = Workspace()
    small = workspace("a", 4)
    small[:] = 7
    large = workspace("a", 100, 10)
    large[:] = 1
    assert large.shape == (100, 10)
    assert not np.shares_memory(small, large)
    assert (small == 7).all()  # who still holds the old one keeps it whole
    assert workspace("a", 4).ctypes.data == large.ctypes.data


def test_scratch_may_be_empty():
    assert Workspace()("a", 3, 0, 4).shape == (3, 0, 4)


def test_every_thread_has_scratch_of_its_own():
    workspace = Workspace()
    mine = workspace("a", 10)
    theirs = in_another_thread(lambda: workspace("a", 10))
    assert not np.shares_memory(mine, theirs)
    assert workspace("a", 10).ctypes.data == mine.ctypes.data


# --- How many


@pytest.mark.parametrize("count", [None, 0, 1, 64])
def test_numbers_of_threads(count):
    check_threads(count)


@pytest.mark.parametrize("count", [-1, 1.0, "2", True, (1,)], ids=repr)
def test_what_is_no_number_of_threads(count):
    with pytest.raises(OptionError, match=r"threads: expected a whole number, 0 or more, got "):
        check_threads(count)


@pytest.mark.parametrize("count", [1025, 10**9, 10**400], ids=["one more", "many", "too many to count"])
def test_more_threads_than_any_machine_has_cores(count):
    with pytest.raises(OptionError, match=r"threads: expected a whole number, at most 1024, got "):
        check_threads(count)


@pytest.fixture
def eight_cores(monkeypatch):
    """A machine of eight cores on which nobody takes fewer."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_container_cores", list)
    monkeypatch.setattr(threads, "_thread_counts", list)


def the_quota_says(text: str, monkeypatch) -> None:
    def read_text(path, *args, **kwargs):
        assert str(path) == "/sys/fs/cgroup/cpu.max"
        return text

    monkeypatch.setattr(Path, "read_text", read_text)


container_cores = threads._container_cores  # before a fixture replaces it


def test_all_cores_by_default(eight_cores):
    assert usable_cores() == 8


def test_no_more_than_the_process_may_run_on(eight_cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 5})
    assert usable_cores() == 3


def test_all_there_are_where_the_system_does_not_say_which(eight_cores, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("20000 100000\n", 1), ("max 100000\n", 8), ("", 8)],
    ids=repr,
)
def test_no_more_than_a_container_is_given(eight_cores, monkeypatch, quota, cores):
    monkeypatch.setattr(threads, "_container_cores", container_cores)
    the_quota_says(quota, monkeypatch)
    assert usable_cores() == cores


def test_no_container_where_there_is_no_file(monkeypatch):
    def read_text(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert container_cores() == []


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_the_library_of_products_takes(monkeypatch, limit):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_container_cores", list)
    with threadpool_limits(limit):
        assert usable_cores() == limit
        with one_blas_thread(), one_blas_thread():  # which is ours, and no wish of anybody
            assert usable_cores() == limit
            assert in_another_thread(usable_cores) == limit
        assert usable_cores() == limit


# --- The library's threads


@pytest.fixture
def three_blas_threads():
    """Products on three threads, so that it shows whether a number from before is restored."""
    before = library_threads()
    with threadpool_limits(3):
        assert library_threads() == {3}
        yield
    assert library_threads() == before


def test_one_thread_until_the_end_of_the_block(three_blas_threads):
    with one_blas_thread():
        assert library_threads() == {1}
    assert library_threads() == {3}


def test_blocks_inside_each_other(three_blas_threads):
    with one_blas_thread():
        with one_blas_thread():
            assert library_threads() == {1}
        assert library_threads() == {1}
    assert library_threads() == {3}


def test_blocks_side_by_side(three_blas_threads):
    entered, may_leave, seen = threading.Event(), threading.Event(), []

    def other():
        with one_blas_thread():
            entered.set()
            may_leave.wait(PATIENCE)
            seen.append(library_threads())

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        assert entered.wait(PATIENCE)
    assert library_threads() == {1}  # the first block has ended, the second has not
    may_leave.set()
    thread.join(PATIENCE)
    assert seen == [{1}]
    assert library_threads() == {3}


def test_an_error_ends_the_blocks(three_blas_threads):
    with pytest.raises(ValueError, match="inside"), one_blas_thread(), one_blas_thread():
        raise ValueError("inside")
    assert library_threads() == {3}
    with one_blas_thread():
        assert library_threads() == {1}
    assert library_threads() == {3}


def test_products_on_so_many_threads(three_blas_threads):
    with blas_threads(2):
        assert library_threads() == {2}
        with one_blas_thread():
            assert library_threads() == {1}
        assert library_threads() == {2}
    assert library_threads() == {3}
    with pytest.raises(ValueError, match="inside"), blas_threads(2):
        raise ValueError("inside")
    assert library_threads() == {3}


@pytest.mark.parametrize("count", [None, 0])
def test_products_on_as_many_threads_as_before(three_blas_threads, count):
    with blas_threads(count):
        assert library_threads() == {3}


def test_the_library_of_products_has_a_name():
    assert all(name and version for name, version in blas_libraries())
    assert {name for name, _ in blas_libraries()} == {
        library["internal_api"]
        for library in threadpool_info()
        if library["filepath"] in {found.filepath for found in threads._controller().lib_controllers}
    }


# --- After a fork


def in_a_child(work):
    """The exit status of a forked process that does this: 0, 1 for an error, 2 if it takes too long."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 2


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def while_another_thread_is_in(context, work):
    """Call ``work`` while another thread is in this context."""
    entered, may_leave = threading.Event(), threading.Event()

    def other():
        with context:
            entered.set()
            may_leave.wait(PATIENCE)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert entered.wait(PATIENCE)
        return work()
    finally:
        may_leave.set()
        thread.join(PATIENCE)


@needs_fork
def test_a_lock_that_another_thread_holds_at_a_fork_does_not_hold_the_child():
    def use():
        with one_blas_thread():
            usable_cores()

    assert while_another_thread_is_in(threads._BLAS._lock, lambda: in_a_child(use)) == 0


@needs_fork
def test_a_block_of_another_thread_ends_with_a_fork(three_blas_threads):
    def use():
        assert library_threads() == {3}  # that block never ends here
        with one_blas_thread():
            assert library_threads() == {1}
        assert library_threads() == {3}

    assert while_another_thread_is_in(one_blas_thread(), lambda: in_a_child(use)) == 0


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
def test_a_pool_has_all_of_its_threads_in_a_child():
    pool = Pool(2)
    pool.run(lambda _: time.sleep(0.01), range(4))  # the other thread is there

    def use():
        meeting = threading.Barrier(2)
        pool.run(lambda _: meeting.wait(PATIENCE / 2), range(2))

    assert in_a_child(use) == 0
    use()
