"""Loading answers: the functions of a file, and the files of a folder by the functions that they define."""

import ast
import inspect
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

from ..errors import ExerciseError
from ..printable import printable
from .checking import Exercise
from .comparing import WrongAnswer
from .guard import Answer, check_nothing_replaced, error_place, message_of, package_hidden

MAX_FILE = 1_000_000  # bytes: larger files in a folder are ignored


def load_functions(path: Path | str, exercise: Exercise) -> tuple[Answer, ...]:
    """Run a file and return the functions that it defines for an exercise.

    Meanwhile its folder is on the import path, and minwhisper cannot be imported; code below
    ``if __name__ == "__main__"`` does not run. Raises ``ExerciseError`` if the file cannot be read, is not valid
    Python, fails, imports minwhisper, or does not define the functions.
    """
    file = str(path)
    shown = printable(file)
    module = ModuleType("answer")
    module.__file__ = file
    folder = str(Path(path).resolve().parent)
    code = _compiled(file)
    sys.modules[module.__name__] = module  # dataclasses look up their module
    sys.path.insert(0, folder)
    try:
        with warnings.catch_warnings(), package_hidden():
            exec(code, module.__dict__)
        check_nothing_replaced()
    except WrongAnswer as error:
        raise ExerciseError(f"{shown}: {error}") from None
    except BaseException as error:
        where = error_place(error, file) or f"{shown}: "
        raise ExerciseError(f"{where}{message_of(error)}") from None
    finally:
        sys.path[:] = [entry for entry in sys.path if entry != folder]
    return tuple(_function(module, exercise, index, shown) for index in range(len(exercise.functions)))


def _compiled(file: str) -> CodeType:
    shown = printable(file)
    try:
        source = Path(file).read_bytes()
    except OSError as error:
        raise ExerciseError(f"{shown}: cannot be read: {error.strerror or error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        text = f", in {error.text.strip()!r}" if error.text and error.text.strip() else ""
        raise ExerciseError(f"{shown}{line}: {error.msg}{text}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte in Python 3.11, or nested too deeply
        raise ExerciseError(f"{shown}: not valid Python: {error}") from None


def _function(module: ModuleType, exercise: Exercise, index: int, shown: str) -> Answer:
    name = exercise.functions[index]
    function = getattr(module, name, None)
    if callable(function):
        return function
    defined = [name for name, thing in vars(module).items() if inspect.isfunction(thing)]
    found = f"defines {', '.join(defined)}" if defined else "defines no function"
    raise ExerciseError(
        f"{shown}: {found}, expected {name!r}, which begins with 'def {exercise.calls[index]}:'; "
        f"'minwhisper exercise {exercise.number} --start FILE.py' writes the code to start from"
    )


def find_answers(folder: Path, exercises: Sequence[Exercise]) -> dict[int, list[Path]]:
    """Return the files of a folder that define all functions of an exercise, by the exercise's number.

    A file named after the function comes first: others may define it, too, as a helper. Nothing is run. Raises
    ``ExerciseError`` if there is no such folder, or no Python file in it.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.is_file())
    except OSError as error:
        raise ExerciseError(f"{printable(folder)}: cannot be read: {error.strerror or error}") from None
    if not files:
        raise ExerciseError(
            f"{printable(folder)}: there is no Python file in this folder; 'minwhisper exercise 1 --start "
            f"{printable(folder / 'softmax.py')}' writes the first to start from"
        )
    defined = {path: _defined_names(path) for path in files}
    found = {}
    for exercise in exercises:
        fitting = [path for path in files if defined[path].issuperset(exercise.functions)]
        found[exercise.number] = sorted(fitting, key=lambda path: path.stem not in exercise.functions)
    return found


def _defined_names(path: Path) -> set[str]:
    """Return the names of the functions that a file defines at its top level; none if it is not valid Python."""
    try:
        if path.stat().st_size > MAX_FILE:
            return set()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
