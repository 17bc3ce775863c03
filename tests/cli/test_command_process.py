"""The command as a process: signals, too little memory, streams that cannot be written."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from command_line import GREEDY
from inputs import DATA
from minwhisper.cli import interrupts
from minwhisper.errors import OUT_OF_MEMORY, DeviceMemoryError, WeightsError, is_out_of_memory
from minwhisper.writers.files import check_writable
from minwhisper.writers.render import FORMATS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no signals and limits of this kind")

SHORT, JFK = str(DATA / "LJ001-0008.wav"), str(DATA / "jfk.flac")
SURPASSED = "has never been surpassed.\n"
TRANSCRIBE = [sys.executable, "-m", "minwhisper", "transcribe", "--model", "tiny.en", *GREEDY]
LIMIT = 30  # seconds


@pytest.fixture(autouse=True)
def _needs_weights(tiny_en):
    """Skip this module where the weights are not installed."""


def heed_signals():
    """Reset the signals: if this process was started with some ignored, its children would ignore them too."""
    for number in interrupts.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def start(command, before=heed_signals, **streams):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([str(part) for part in command], text=True, preexec_fn=before, **streams)


def ended(process):
    """Wait for a process, and return its exit status and what it has printed since."""
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def limited(kilobytes):
    """Return a function that limits a child process's memory, like ``ulimit -v``."""
    return partial(resource.setrlimit, resource.RLIMIT_AS, (kilobytes << 10, kilobytes << 10))


# ------------------------------------------------------------------------------------------ signals


def test_a_signal_keeps_finished_files_and_no_others(tmp_path):
    number = signal.SIGTERM
    files = [tmp_path / f"{place}.flac" for place in range(30)]
    for file in files:
        file.symlink_to(JFK)
    process = start([*TRANSCRIBE, *files, "-o", tmp_path / "out"])
    shown = [process.stdout.readline() for _ in range(4)]  # the first file is finished
    time.sleep(random.Random(number).uniform(0, 0.5))
    process.send_signal(number)
    process.send_signal(number)  # the command timeout signals process and group: one interruption
    status, out, err = ended(process)
    assert status == 128 + number
    assert err.splitlines()[-1].startswith("minwhisper: interrupted")
    assert "Traceback" not in err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    finished = sum(line.rstrip().endswith(".flac:") for line in (*shown, *out.splitlines())) - 1
    assert finished >= 1
    assert {f"{place}.{ending}" for place in range(finished) for ending in FORMATS} <= written
    assert {name.split(".")[-1] for name in written} <= set(FORMATS)


def test_a_signal_at_any_moment_ends_quietly(tmp_path):
    chance = random.Random(16)
    for number in (signal.SIGTERM, signal.SIGINT) * 2:
        process = start([*TRANSCRIBE, SHORT, JFK, "-o", tmp_path])
        time.sleep(chance.uniform(0.05, 1.5))
        process.send_signal(number)
        status, _, err = ended(process)
        assert status in (0, 128 + number, -number)  # -number: before Python started
        assert "Traceback" not in err
        assert not list(tmp_path.glob(".*"))


AT_A_MOMENT = """
import atexit, os, signal, sys
class Sender:
    def find_spec(self, name, *_):
        if name == {moment!r}:
            os.kill(os.getpid(), signal.{signal})
sys.meta_path.insert(0, Sender())
if {moment!r} == "end":
    atexit.register(os.kill, os.getpid(), signal.{signal})
sys.argv = ["minwhisper", "info", "base"]
from minwhisper.__main__ import run
run()
"""
MOMENTS = {"numpy": "SIGTERM", "numpy._core._multiarray_umath": "SIGINT"}
MOMENTS |= {"minwhisper.cli.main": "SIGHUP", "end": "SIGINT"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_while_libraries_are_imported_or_at_the_end_is_quiet(moment):
    program = AT_A_MOMENT.format(moment=moment, signal=MOMENTS[moment])
    status, out, err = ended(start([sys.executable, "-c", program]))
    assert (status, err) == (128 + getattr(signal, MOMENTS[moment]), "")
    assert out[:6] == ("base: " if moment == "end" else "")


def test_signals_that_are_ignored_stay_ignored():
    like_nohup = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    process = start([*TRANSCRIBE[:3], "info", "base"], like_nohup)
    while process.poll() is None:  # at every stage of its run
        process.send_signal(signal.SIGHUP)
        time.sleep(0.02)
    assert ended(process)[::2] == (0, "")


def test_a_lost_interruption_is_raised_later():
    # PyAV calls the methods of a file object, and exceptions do not propagate out of them.
    class Unraisable:
        exc_value = KeyboardInterrupt()

    watched = interrupts.Interruption()
    with watched.watched():
        watched.check()
        sys.unraisablehook(Unraisable)
        with pytest.raises(KeyboardInterrupt):
            watched.check()
    assert watched.status == 130
    with watched.watched():
        watched.check()  # a new block starts without an interruption


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_second_signal_within_a_second_is_the_same_interruption(number):
    watched = interrupts.Interruption()
    with watched.watched():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)
    assert watched.status == 128 + number


# ------------------------------------------------------------------------------------------ left-over files

WRITING = """
import pathlib, sys, time
from minwhisper.common.atomic_write import temporary_file
with temporary_file(pathlib.Path(sys.argv[1])):
    print(flush=True)
    time.sleep(60)
"""


def test_temporary_files_of_killed_processes_are_removed_and_others_stay(tmp_path):
    (tmp_path / ".mine.tmp").touch()
    dead, alive = (start([sys.executable, "-c", WRITING, tmp_path]) for _ in range(2))
    try:
        for process in (dead, alive):
            process.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 3
        check_writable(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3  # both processes are still writing
        dead.kill()
        dead.communicate(timeout=LIMIT)
        check_writable(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        for process in (dead, alive):
            process.kill()
            process.communicate(timeout=LIMIT)
    check_writable(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".mine.tmp"]


# ------------------------------------------------------------------------------------------ memory


def test_too_little_memory_gives_one_line():
    status, _, err = ended(start([*TRANSCRIBE, JFK], limited(150_000)))
    assert (status, err) == (2, f"minwhisper: {OUT_OF_MEMORY}\n")


@pytest.mark.parametrize("batch", ["1", "2"])
def test_endless_standard_input_does_not_stop_the_other_files(batch):
    with open("/dev/zero", "rb") as zeros:
        process = start([*TRANSCRIBE, "-", SHORT, "--batch_size", batch], limited(1_100_000), stdin=zeros)
        assert ended(process) == (2, f"{SHORT}:\n{SURPASSED}", f"minwhisper: standard input: {OUT_OF_MEMORY}\n")


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("x.so: failed to map segment from shared object"), True),
        (caused(WeightsError("model.bin: cannot be read"), OSError(12, "Cannot allocate memory")), True),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("thread"), False),
        (caused(DeviceMemoryError("cuda:0 ran out of memory"), MemoryError()), False),
    ],
    ids=repr,
)
def test_every_kind_of_out_of_memory_error_is_recognised(error, expected):
    assert is_out_of_memory(error) is expected


# ------------------------------------------------------------------------------------------ streams and files


@pytest.fixture
def full():
    """Open a device that is always full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no device that is always full")
    with open("/dev/full", "w") as file:
        yield file


def test_messages_that_cannot_be_written_do_not_stop_the_text(tmp_path, full):
    process = start([*TRANSCRIBE, tmp_path / "missing.wav", SHORT], stderr=full)
    assert ended(process)[:2] == (2, f"{SHORT}:\n{SURPASSED}")


@pytest.mark.parametrize("arguments", [["--help"], ["info", "base"]], ids=["help", "text"])
def test_text_on_a_full_disk_is_an_error(full, arguments):
    message = "minwhisper: cannot write to standard output: No space left on device; is the disk full?\n"
    assert ended(start([*TRANSCRIBE[:3], *arguments], stdout=full)) == (2, None, message)


def test_a_closed_pipe_ends_the_command_quietly():
    command = f"{sys.executable} -m minwhisper info base | true; exit ${{PIPESTATUS[0]}}"  # as `| head` does
    assert ended(start(["bash", "-c", command])) == (1, "", "")
