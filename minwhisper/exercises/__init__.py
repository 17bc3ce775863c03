"""The exercises of the walkthrough: functions to write from scratch, and a check that says what is wrong with them.

``minwhisper exercise`` lists them, ``minwhisper exercise 2`` shows one, ``minwhisper exercise 2 attention.py`` checks
an answer.
"""

import inspect
import sys
import traceback
import warnings
from pathlib import Path
from types import ModuleType

from ..common.console import Console, printable
from ..errors import ExerciseError, OptionError
from . import attention, beam, cached, spectrogram, timestamps
from .checking import Answer, Case, Exercise, Verdict, check, error_place

__all__ = ["EXERCISES", "Answer", "Case", "Exercise", "Verdict", "check", "command", "find_exercise", "load_function"]

EXERCISES: tuple[Exercise, ...] = (
    spectrogram.EXERCISE,
    attention.EXERCISE,
    cached.EXERCISE,
    beam.EXERCISE,
    timestamps.EXERCISE,
)


def find_exercise(number: int) -> Exercise:
    """The exercise of this number. Raises :class:`OptionError` if there is none."""
    for exercise in EXERCISES:
        if exercise.number == number:
            return exercise
    raise OptionError(f"exercise {number}: expected a number from 1 to {len(EXERCISES)}")


def load_function(path: Path | str, exercise: Exercise) -> Answer:
    """Run a file and take the function of an exercise out of it.

    The file's folder is importable meanwhile; what stands below ``if __name__ == "__main__"`` does not run. Raises
    :class:`ExerciseError` for a file that cannot be read, is no Python, fails, or does not define the function.
    """
    file = str(path)
    shown = printable(file)
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise ExerciseError(f"{shown}: cannot be read: {error.strerror or error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            code = compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        text = f", in {error.text.strip()!r}" if error.text and error.text.strip() else ""
        raise ExerciseError(f"{shown}{line}: {error.msg}{text}") from None
    except ValueError as error:  # a null byte, in Python 3.11
        raise ExerciseError(f"{shown}: is no Python: {error}") from None
    module = ModuleType("minwhisper_answer")
    module.__file__ = file
    folder = str(Path(path).resolve().parent)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    sys.path.insert(0, folder)
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        where = error_place(error, file) or f"{shown}: "
        raise ExerciseError(f"{where}{_one_line(error)}") from None
    finally:
        sys.path.remove(folder)
    function = getattr(module, exercise.function, None)
    if callable(function):
        return function
    call = f"def {exercise.function}({', '.join(exercise.parameters)}):"
    defined = [name for name, thing in vars(module).items() if inspect.isfunction(thing)]
    found = f"defines {', '.join(defined)}" if defined else "defines no function"
    raise ExerciseError(
        f"{shown}: {found}, expected {exercise.function!r}; it begins with {call!r}; "
        f"'minwhisper exercise {exercise.number}' prints all that is there to start with"
    )


def _one_line(error: BaseException) -> str:
    return " ".join("".join(traceback.format_exception_only(error)).split())


def command(number: int | None, file: Path | None, console: Console) -> int:
    """What ``minwhisper exercise`` does: list all, show one, or check an answer; returns the exit status.

    0 for a list, a task and a solved exercise, 1 for an answer that is not right yet. Raises :class:`OptionError` and
    :class:`ExerciseError` as :func:`find_exercise` and :func:`load_function` do.
    """
    if number is None:
        for exercise in EXERCISES:
            console.text(f"{exercise.number}  {exercise.title} (section {exercise.section}): {exercise.function}")
        console.text("")
        console.text("minwhisper exercise N shows one; minwhisper exercise N FILE.py checks your answer.")
        return 0
    exercise = find_exercise(number)
    if file is None:
        name = f"{exercise.function}.py"
        console.text(f"Exercise {exercise.number}, at the end of section {exercise.section}: {exercise.title}")
        console.text("")
        console.text(exercise.task)
        console.text("")
        console.text(f"Begin with this, in a file {name}; minwhisper exercise {number} {name} checks it.")
        console.text("")
        console.text(exercise.skeleton)
        return 0
    verdict = check(exercise, load_function(file, exercise))
    for title in verdict.passed:
        console.text(f"passed: {title}")
    if verdict.hint is None:
        console.text(f"Exercise {number} is solved.")
        return 0
    console.text(f"not yet: {verdict.hint}")
    return 1
