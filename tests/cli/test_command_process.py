"""The command as a process: signals, too little memory, streams that cannot be written to."""

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
from conftest import DATA
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


def start(command, **streams):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([str(part) for part in command], text=True, preexec_fn=heed_signals, **streams)


def limited(kilobytes):
    """Return a function that limits a child process's memory, like ``ulimit -v``."""
    return partial(resource.setrlimit, resource.RLIMIT_AS, (kilobytes << 10, kilobytes << 10))


# ------------------------------------------------------------------------------------------ signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_keeps_finished_files_and_no_others(tmp_path, number):
    files = [tmp_path / f"{place}.flac" for place in range(30)]
    for file in files:
        file.symlink_to(JFK)
    process = start([*TRANSCRIBE, *files, "-o", tmp_path / "out"])
    shown = [process.stdout.readline() for _ in range(4)]  # the first file is finished
    time.sleep(random.Random(number).uniform(0, 0.5))
    process.send_signal(number)
    process.send_signal(number)  # like timeout, which signals the process and its group: one interruption
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1].startswith("minwhisper: interrupted")
    assert "Traceback" not in err
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    shown += out.splitlines()
    finished = sum(line.rstrip().endswith(".flac:") for line in shown) - 1
    assert finished >= 1
    assert {f"{place}.{ending}" for place in range(finished) for ending in FORMATS} <= set(written)
    assert all(name.split(".")[-1] in FORMATS for name in written)


def test_a_signal_at_any_moment_ends_quietly(tmp_path):
    chance = random.Random(16)
    for number in (signal.SIGTERM, signal.SIGINT) * 2:
        process = start([*TRANSCRIBE, SHORT, JFK, "-o", tmp_path])
        time.sleep(chance.uniform(0.05, 1.5))
        process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode in (0, 128 + number, -number)  # -number: before Python started
        assert "Traceback" not in err
        assert not list(tmp_path.glob(".*"))


AT_AN_IMPORT = """
import os, signal, sys
class Sender:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.{signal})
sys.meta_path.insert(0, Sender())
sys.argv = ["minwhisper", "transcribe", {file!r}]
from minwhisper.__main__ import run
run()
"""


@pytest.mark.parametrize("module", ["numpy", "numpy._core._multiarray_umath", "minwhisper.cli.main"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_libraries_are_imported_is_quiet(module, name):
    program = AT_AN_IMPORT.format(module=module, signal=name, file=SHORT)
    process = start([sys.executable, "-c", program])
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err) == (128 + getattr(signal, name), "", "")


def test_a_signal_at_the_end_of_the_process_is_quiet():
    program = (
        "import atexit, os, signal, sys; sys.argv = ['minwhisper', 'info', 'base']; "
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); from minwhisper.__main__ import run; run()"
    )
    process = start([sys.executable, "-c", program])
    out, err = process.communicate(timeout=LIMIT)
    assert out.startswith("base: ")
    assert (process.returncode, err) == (130, "")


def test_signals_that_are_ignored_stay_ignored():
    process = subprocess.Popen(
        [*TRANSCRIBE, SHORT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # like nohup
    )
    time.sleep(0.3)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (0, SURPASSED)


def test_a_lost_interruption_is_raised_later():
    # PyAV calls methods of a file object, and an exception cannot leave them.
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
        watched.check()  # starts anew


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


@pytest.mark.parametrize("kilobytes", [150_000, 540_000])
def test_too_little_memory_gives_one_line(kilobytes):
    done = subprocess.run(
        [*TRANSCRIBE, JFK], capture_output=True, text=True, timeout=LIMIT, preexec_fn=limited(kilobytes)
    )
    if done.returncode == 0 and kilobytes > 400_000:  # the memory was sufficient
        assert done.stderr == ""
        return
    assert done.returncode == 2
    assert done.stderr in (f"minwhisper: {OUT_OF_MEMORY}\n", f"minwhisper: {JFK}: {OUT_OF_MEMORY}\n")


@pytest.mark.parametrize("batch", ["1", "2"])
def test_endless_standard_input_does_not_stop_the_other_files(batch):
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run(
            [*TRANSCRIBE, "-", SHORT, "--batch_size", batch],
            stdin=zeros,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            preexec_fn=limited(1_100_000),
        )
    assert (done.returncode, done.stdout) == (2, f"{SHORT}:\n{SURPASSED}")
    assert done.stderr == f"minwhisper: standard input: {OUT_OF_MEMORY}\n"


def test_a_lack_of_memory_is_known_in_every_disguise():
    def caused(error, cause):
        error.__cause__ = cause
        return error

    for error in (
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        ImportError("x.so: failed to map segment from shared object"),
        caused(WeightsError("model.bin: cannot be read"), OSError(12, "Cannot allocate memory")),
    ):
        assert is_out_of_memory(error)
    for error in (OSError(28, "No space left on device"), WeightsError("model.bin: too short"), RuntimeError("thread")):
        assert not is_out_of_memory(error)
    assert not is_out_of_memory(caused(DeviceMemoryError("cuda:0 ran out of memory"), MemoryError()))


# ------------------------------------------------------------------------------------------ streams and files


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")
def test_messages_that_cannot_be_written_do_not_stop_the_text(tmp_path):
    command = [*TRANSCRIBE, tmp_path / "missing.wav", SHORT]
    with open("/dev/full", "w") as full:
        process = start(command, stderr=full)
        out, _ = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (2, f"{SHORT}:\n{SURPASSED}")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")
def test_help_on_a_full_disk():
    with open("/dev/full", "w") as full:
        process = start([sys.executable, "-m", "minwhisper", "--help"], stdout=full)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert err == "minwhisper: cannot write to standard output: No space left on device; is the disk full?\n"
