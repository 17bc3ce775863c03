"""The guard around an answer: whatever the answer does, the checker goes on and reports it.

While an answer runs, ``minwhisper`` cannot be imported. Afterwards its arguments, NumPy and Python's own functions must
be as they were before. Everything else that can go wrong becomes a ``WrongAnswer`` with an explanation.
"""

import builtins
import inspect
import linecache
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any, TypeAlias

import numpy as np

from ..printable import printable, short_repr
from .comparing import WrongAnswer, kind

Answer: TypeAlias = Callable[..., Any]
"""A function that a reader wrote for an exercise."""

PACKAGE = __name__.partition(".")[0]
MAX_VALUE = 60  # characters of an argument in a hint
MAX_COPIED = 1000  # entries of a mapping whose values are compared one by one


def guarded(function: Answer, name: str, parameters: Sequence[str], unchanged: Mapping[str, str]) -> Answer:
    """Wrap a function so that it raises ``WrongAnswer`` if it misbehaves.

    That is: it has other parameters, raises an error, returns None, modifies an argument, or replaces a function of
    NumPy or Python. ``unchanged`` maps an argument to the reason why it must not be modified.
    """
    call = f"{name}({', '.join(parameters)})"
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError as error:
        raise WrongAnswer(f"{name} cannot be called as {call}: {error}") from None
    except ValueError:  # a function in C without a signature
        pass

    def call_answer(*arguments: Any) -> Any:
        before = _snapshot(arguments)
        try:
            # An answer may have made NumPy or Python raise errors for warnings; that must not count here.
            with np.errstate(all="ignore"), warnings.catch_warnings(), package_hidden():
                result = function(*arguments)
        except WrongAnswer:
            raise
        except NotImplementedError:
            raise WrongAnswer(
                f"{name} is not written yet: replace 'raise NotImplementedError' with your code"
            ) from None
        except BaseException as error:
            check_nothing_replaced()
            given = ", ".join(f"{name} {_given(value)}" for name, value in zip(parameters, arguments, strict=True))
            where = error_place(error, _file_of(function))
            raise WrongAnswer(f"{where}{message_of(error)}\nThe arguments were {given}.") from None
        check_nothing_replaced()
        for parameter, old, new in zip(parameters, before, arguments, strict=True):
            if _changed(old, new):
                why = unchanged.get(parameter, "make a copy, or use an operation that returns a new array.")
                raise WrongAnswer(f"{name} modifies its argument {parameter}: {why}")
        if result is None:
            raise WrongAnswer(f"{name} returns None: expected a line 'return …' at the end")
        return result

    return call_answer


# ------------------------------------------------------------------------------------------ no minwhisper


class _Refuse(MetaPathFinder):
    """A finder that refuses to import this package."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Raise ``ImportError`` for this package and its modules."""
        if name.partition(".")[0] == PACKAGE:
            raise ImportError(f"an answer must not import {PACKAGE}: write it with NumPy and Python's standard library")


_REFUSE = _Refuse()


@contextmanager
def package_hidden() -> Iterator[None]:
    """Make this package impossible to import, in any way, within the block."""
    hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == PACKAGE}
    for name in hidden:
        del sys.modules[name]
    sys.meta_path.insert(0, _REFUSE)
    try:
        yield
    finally:
        if _REFUSE in sys.meta_path:
            sys.meta_path.remove(_REFUSE)
        sys.modules.update(hidden)


# ------------------------------------------------------------------------------------------ nothing replaced

_ORIGINALS = [(module, dict(vars(module))) for module in (builtins, math, np, np.fft, np.linalg, np.random)]


def check_nothing_replaced() -> None:
    """Raise ``WrongAnswer`` if a function of NumPy or Python was replaced, and put it back."""
    replaced = []
    for module, originals in _ORIGINALS:
        now = vars(module)
        for name, thing in originals.items():
            if now.get(name) is not thing and (not name.startswith("__") or name == "__import__"):
                setattr(module, name, thing)
                replaced.append(f"{module.__name__}.{name}")
    if replaced:
        raise WrongAnswer(
            f"your file replaces {', '.join(replaced[:3])}, which all other code uses, too. Give your function another "
            "name."
        )


# ------------------------------------------------------------------------------------------ errors


def message_of(error: BaseException) -> str:
    """Return the type and the message of an error in one line."""
    try:
        text = " ".join("".join(traceback.format_exception_only(error)).split())
    except BaseException:  # an error whose own __str__ raises one
        text = type(error).__name__
    return printable(text, 500)


def error_place(error: BaseException, file: str) -> str:
    """Return the innermost place in a file that raised an error, ``"answer.py, line 3, 'x = 1 / 0': "``, or ""."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not lines or lines[-1] is None:
        return ""
    return f"{place(file, lines[-1])}: "


def place(file: str, line: int) -> str:
    """Return ``answer.py, line 3, 'x = 1 / 0'``."""
    linecache.checkcache(file)  # the file may have changed
    return f"{printable(file)}, line {line}, {linecache.getline(file, line).strip()!r}"


def _file_of(function: Answer) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_filename if code else ""


def _given(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(value.shape)
    if isinstance(value, Mapping) or callable(value):
        return "as described"
    text = short_repr(value)
    return text if len(text) <= MAX_VALUE else kind(value)


# ------------------------------------------------------------------------------------------ arguments


def _snapshot(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.array(value)
    if isinstance(value, Mapping):
        if len(value) > MAX_COPIED:  # a vocabulary: its values are numbers
            return dict(value)
        return {key: _snapshot(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_snapshot(inner) for inner in value]
    return value


def _changed(old: Any, new: Any) -> bool:
    if isinstance(new, np.ndarray):
        return not np.array_equal(old, np.asarray(new), equal_nan=new.dtype.kind == "f")
    if isinstance(new, Mapping):
        if len(new) > MAX_COPIED or len(old) > MAX_COPIED:
            return bool(old != new)
        return list(old) != list(new) or any(_changed(old[key], new[key]) for key in new)
    if isinstance(new, tuple | list):
        return len(old) != len(new) or any(map(_changed, old, new))
    return False
