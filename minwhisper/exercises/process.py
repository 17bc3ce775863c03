"""The child process of an answer, from the parent's side: its start, its reports, its output and its end."""

import json
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..printable import printable
from .guard import place

PATIENCE = 5.0  # seconds after which a process is killed whose own watchdog should have ended it
UNWATCHED = 600.0  # seconds for the package's own work: reading weights, looking for a hint
MAX_PRINTED = 2000  # characters of an answer's output that are kept
MAX_LINE = 1_000_000  # bytes of a report
MAX_PRINTED_LINES = 20

_START = (
    "import sys; sys.path.insert(0, sys.argv[2]); from minwhisper.exercises import child; "
    "sys.path.remove(sys.argv[2]); child.main()"
)


class Ending(NamedTuple):
    """How a process ended."""

    problem: str | None  # a sentence if it did not finish
    printed: str  # what the answer printed, cut if it is long


class _Printed(threading.Thread):
    """A thread that reads all that the answer prints and keeps the beginning."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream, self.kept, self.count = stream, b"", 0

    def run(self) -> None:
        while chunk := self.stream.read1(65536):  # type: ignore[attr-defined]
            self.kept += chunk[: MAX_PRINTED - len(self.kept)] if len(self.kept) < MAX_PRINTED else b""
            self.count += len(chunk)

    def text(self) -> str:
        """Return the beginning of the output, with a note of how much more there was."""
        text = self.kept.decode("utf-8", "replace")
        more = self.count - len(self.kept)
        return text + (f"… and {more:,} bytes more" if more > 0 else "")


class _Lines(threading.Thread):
    """A thread that puts the lines of a stream into a queue, and None at its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream, self.lines = stream, queue.Queue[str | None]()

    def run(self) -> None:
        while line := self.stream.readline(MAX_LINE):
            self.lines.put(line.decode("utf-8", "replace"))
        self.lines.put(None)


def run_in_process(task: dict[str, Any], files: list[str], on_event: Callable[[dict[str, Any]], None]) -> Ending:
    """Run a task of ``child`` and call ``on_event`` with each report. ``files`` are the answers that it runs."""
    mark = secrets.token_hex(8)
    package_folder = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _START, json.dumps({**task, "mark": mark}), package_folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches this process only, which then ends the other
        env={**os.environ, "PYTHONIOENCODING": "utf-8:replace"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    printed, lines = _Printed(process.stderr), _Lines(process.stdout)
    printed.start()
    lines.start()
    doing, seconds, done = "starting", 0.0, False
    dump: list[str] = []
    deadline = time.monotonic() + UNWATCHED
    try:
        while True:
            try:
                line = lines.lines.get(timeout=0.2)
            except queue.Empty:
                if process.poll() is not None or time.monotonic() > deadline:  # a child of the answer may hold the pipe
                    break
                continue
            if line is None:
                break
            try:
                event = json.loads(line)
                kind = event["event"] if event["mark"] == mark else None
            except (ValueError, TypeError, KeyError):
                kind = None
            if kind is None:
                dump.append(line)  # from faulthandler, or from an answer that found the stream
                continue
            deadline = time.monotonic() + UNWATCHED
            if kind == "step":
                doing, seconds = event["doing"], event["seconds"]
                deadline = time.monotonic() + seconds + PATIENCE
            elif kind == "done":
                done = True
                break
            else:
                on_event(event)
    finally:
        hanging = process.poll() is None and not done and time.monotonic() > deadline
        status = _end(process, wait=not hanging)
        printed.join(1.0)
    problem = None if done else _problem(doing, seconds, hanging, status, "".join(dump), files)
    return Ending(problem, printed.text())


def _end(process: subprocess.Popen[bytes], wait: bool) -> int:
    """End a process and all that it started; return its exit status."""
    if wait:  # it is about to exit by itself
        with suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
    return process.wait()


def _problem(doing: str, seconds: float, hanging: bool, status: int, dump: str, files: list[str]) -> str:
    """Explain why a process ended before it was done."""
    where = _place_in_dump(dump, files)
    if hanging or "Timeout (" in dump:
        at = f", in {where}" if where else ""
        return f"{doing}: stopped after {seconds:.0f} s{at}. Does a loop go on for ever?"
    if "Fatal Python error" in dump or status < 0 or status > 255:
        name = f"signal {_signal_name(-status)}" if status < 0 else f"status {status:#x}"
        at = f", in {where}" if where else ""
        return (
            f"{doing}: Python itself crashed ({name}){at}. The usual reasons are an infinite recursion and a "
            "lack of memory."
        )
    return f"{doing}: your code ended the process, with exit status {status}. A function returns its result instead."


def _place_in_dump(dump: str, files: list[str]) -> str:
    """Return the innermost line of an answer in a traceback of ``faulthandler``, or ""."""
    escaped = {file.encode("ascii", "backslashreplace").decode("ascii"): file for file in files}
    for name, line in re.findall(r'File "(.+?)", line (\d+)', dump):
        if name in escaped:
            return place(escaped[name], int(line))
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def indented(text: str) -> str:
    """Return what an answer printed, safe for a terminal, with a bar in front of each line."""
    lines = text.splitlines()
    more = [f"  … and {len(lines) - MAX_PRINTED_LINES} lines more"] if len(lines) > MAX_PRINTED_LINES else []
    return "\n".join([*(f"  | {printable(line, 200)}" for line in lines[:MAX_PRINTED_LINES]), *more])
