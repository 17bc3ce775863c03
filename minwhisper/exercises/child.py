"""The process that an answer runs in: it may hang, crash or exit without harm to the command.

It reports in lines of JSON on its original standard output. What the answer prints goes to standard error instead. A
watchdog of ``faulthandler`` ends the process when a step takes too long, even in the middle of a library's code, and
writes which line was running.
"""

import faulthandler
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ..audio.load import load_audio
from ..errors import ExerciseError, MinWhisperError
from ..parity.comparison import clip_samples
from . import EXERCISES, find_exercise
from .checking import check
from .guard import Answer, error_place, message_of
from .in_the_model import lines_with, transcribed
from .loading import load_functions
from .real_model import real_model

MAX_GROWTH = 4 << 30  # bytes of memory that an answer may take


class Channel:
    """The channel to the parent process, with the watchdog."""

    def __init__(self, mark: str) -> None:
        """Take standard output for reports, and send what is printed from now on to standard error.

        ``mark`` is in each report, so that nothing else is mistaken for one.
        """
        self._mark = mark
        sys.stdout.flush()
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        faulthandler.enable(file=self._file)

    def report(self, event: str, **fields: Any) -> None:
        """Report an event."""
        print(json.dumps({"event": event, "mark": self._mark, **fields}), file=self._file, flush=True)

    def start_step(self, doing: str, seconds: float) -> None:
        """Announce a step, which ends the process if it takes longer than this."""
        self.report("step", doing=doing, seconds=seconds)
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._file)

    def end_step(self) -> None:
        """End the step: the package's own work has no limit."""
        faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """Carry out the task in the first argument, a JSON object, and exit."""
    task = json.loads(sys.argv[1])
    channel = Channel(task.pop("mark"))
    limit_memory()
    try:
        if task.pop("task") == "check":
            check_answer(channel, **task)
        else:
            transcribe_with(channel, **task)
    except MinWhisperError as error:
        channel.report("error", message=str(error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    channel.report("done")
    os._exit(0)  # threads of the answer, and functions that it registered for the exit, do not run on


def limit_memory() -> None:
    """Limit the memory of this process, on Linux: an answer that fills it gets a ``MemoryError``."""
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MAX_GROWTH, resource.RLIM_INFINITY))
    except (ImportError, OSError, ValueError):
        pass


def check_answer(channel: Channel, number: int, file: str, limit: float, model_limit: float, model: bool) -> None:
    """Check an answer, and run it inside the real model if it is right and ``model`` is set."""
    exercise = find_exercise(number)
    channel.start_step("reading the file", limit)
    try:
        functions = load_functions(file, exercise)
    except ExerciseError as error:
        channel.end_step()
        channel.report("error", message=str(error))
        return
    channel.end_step()

    def report(event: str, text: str) -> None:
        if event == "running":
            channel.start_step(text, limit)
        elif event == "searching":  # it may call the answer once more, on other cases
            channel.report("wrong", hint=text)
            channel.start_step("looking for the mistake", model_limit)
        else:
            channel.end_step()
            channel.report(event, title=text)

    verdict = check(exercise, *functions, report=report, real=model)
    channel.end_step()
    if verdict.hint is not None:
        channel.report("wrong", hint=verdict.hint)
        return
    channel.report("right")
    if not model:
        return
    whisper = real_model()
    if whisper is None:
        channel.report("no model")
        return
    channel.report("in the model")
    channel.start_step("in the real model", model_limit)
    try:
        for line, is_right in lines_with(exercise, functions, whisper):
            channel.report("writes", line=line, right=is_right)
    except BaseException as error:
        where = error_place(error, file)
        channel.report("wrong", hint=f"in the real model: {where}{message_of(error)}")
    channel.end_step()


def transcribe_with(channel: Channel, files: dict[str, str], audio: str | None, limit: float) -> None:
    """Transcribe a recording with the functions of these files, by the number of the exercise."""
    whisper = real_model()
    if whisper is None:
        channel.report("no model")
        return
    samples = clip_samples() if audio is None else load_audio(audio)
    functions: dict[str, Answer] = {}
    for exercise in EXERCISES:
        channel.start_step(f"reading {files[str(exercise.number)]}", limit)
        loaded = load_functions(files[str(exercise.number)], exercise)
        functions |= dict(zip(exercise.functions, loaded, strict=True))
    channel.start_step("the first window", limit)
    started = time.monotonic()
    try:
        for segment in transcribed(functions, samples, whisper):
            channel.start_step(f"the window after {segment.end:.2f} s", limit)
            channel.report("segment", start=segment.start, end=segment.end, text=segment.text, words=segment.words)
    except BaseException as error:
        where = next(filter(None, (error_place(error, file) for file in files.values())), "")
        channel.report("wrong", hint=f"{where}{message_of(error)}")
    channel.end_step()
    channel.report("seconds", seconds=time.monotonic() - started)
