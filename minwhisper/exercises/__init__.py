"""The exercises of the walkthrough: functions to write from scratch, with a checker that explains mistakes.

In: a Python file with the reader's function. Out: the test cases that it passes, and a hint for the first that fails.

* ``checking.py``: test cases, mistakes, and how a mistake is recognised
* ``spectrogram.py``, ``attention.py``, ``cached.py``, ``beam.py``, ``timestamps.py``: the five exercises; each file has
  the task, a solution, the known mistakes as edits of it, and the test cases (do not look before you have tried)

``minwhisper exercise`` lists them, ``minwhisper exercise 2`` prints one, and ``minwhisper exercise 2 attention.py``
checks an answer. They belong to sections 2, 4, 10 and 11 of the walkthrough.
"""

import inspect
import sys
import traceback
import warnings
from pathlib import Path
from types import ModuleType

from ..common.console import Console
from ..errors import ExerciseError, OptionError
from ..printable import printable
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
    """Return the exercise with this number. Raises ``OptionError`` if there is none."""
    for exercise in EXERCISES:
        if exercise.number == number:
            return exercise
    raise OptionError(f"exercise {number}: expected a number from 1 to {len(EXERCISES)}")


def load_function(path: Path | str, exercise: Exercise) -> Answer:
    """Run a file and return the function that it defines for an exercise.

    Meanwhile its folder is on the import path; code below ``if __name__ == "__main__"`` does not run. Raises
    ``ExerciseError`` if the file cannot be read, is not valid Python, fails, or does not define the function.
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
    except ValueError as error:  # a null byte in Python 3.11
        raise ExerciseError(f"{shown}: not valid Python: {error}") from None
    module = ModuleType("minwhisper_answer")
    module.__file__ = file
    folder = str(Path(path).resolve().parent)
    sys.modules[module.__name__] = module  # dataclasses look up their module
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
        f"{shown}: {found}, expected {exercise.function!r}, which begins with {call!r}; "
        f"'minwhisper exercise {exercise.number}' prints the code to start from"
    )


def _one_line(error: BaseException) -> str:
    return " ".join("".join(traceback.format_exception_only(error)).split())


def command(number: int | None, file: Path | None, console: Console) -> int:
    """Run ``minwhisper exercise``: list all exercises, print one, or check an answer. Returns the exit status.

    The status is 1 for an answer that is not correct yet, otherwise 0. Raises ``OptionError`` for an unknown number and
    ``ExerciseError`` for a file that cannot be used.
    """
    if number is None:
        for exercise in EXERCISES:
            console.text(f"{exercise.number}  {exercise.title} (section {exercise.section}): {exercise.function}")
        console.text("")
        console.text("'minwhisper exercise N' prints one; 'minwhisper exercise N FILE.py' checks your answer.")
        return 0
    exercise = find_exercise(number)
    if file is None:
        name = f"{exercise.function}.py"
        console.text(f"Exercise {exercise.number}, at the end of section {exercise.section}: {exercise.title}")
        console.text("")
        console.text(exercise.task)
        console.text("")
        console.text(f"Start from this code in a file {name}; 'minwhisper exercise {number} {name}' checks it.")
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
