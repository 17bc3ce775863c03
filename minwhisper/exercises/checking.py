"""The checker of the exercises: it runs an answer, and finds the mistake behind a wrong result.

Each exercise has a solution, known mistakes, which are edits of the solution's source, and test cases that call a
function a few times and collect its results. An answer passes a case if its results equal the solution's. If they do
not, the solution is run with every known mistake, then with every pair of them. The combination that reproduces the
answer's results is taken for the reader's mistake, and its hint is shown.
"""

import inspect
import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from ..common.edits import EditError, Mistake, edited
from ..printable import printable

Answer: TypeAlias = Callable[..., Any]
"""A function that a reader wrote for an exercise."""

Results: TypeAlias = list[tuple[str, Any]]
"""The results of a test case, as (description, value); a value is an array, a list of tokens or a number."""


class WrongAnswer(Exception):
    """Raised for an answer that is wrong before any value is compared; the message is the hint."""


@dataclass(frozen=True)
class Case:
    """A test case of an exercise."""

    title: str  # for instance "an empty text"
    run: Callable[[Answer], Results]
    advice: str  # the hint for a wrong result that no known mistake explains


@dataclass(frozen=True)
class Exercise:
    """A function to write, with its task, solution, mistakes and test cases.

    ``mistakes`` are edits of the solution. ``unchanged`` maps an argument to the reason why it must not be modified.
    """

    number: int
    title: str
    section: int  # of the walkthrough, which ends with this exercise
    function: str
    task: str
    skeleton: str  # Python code to start from, which defines the function
    solution: Answer
    mistakes: Mapping[str, Mistake]  # by name
    cases: tuple[Case, ...]
    tolerance: float = 1e-4  # the largest absolute error that passes
    unchanged: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the function's parameters."""
        return tuple(inspect.signature(self.solution).parameters)

    def variant(self, mistakes: Sequence[str]) -> Answer:
        """Return the solution with these mistakes. Raises ``EditError`` if they cannot be made together."""
        return edited(self.solution, [edit for name in mistakes for edit in self.mistakes[name].edits])


@dataclass(frozen=True)
class Verdict:
    """The result of a check: the titles of the cases that passed, and a hint for the first that failed."""

    passed: tuple[str, ...]
    hint: str | None  # None if all cases passed

    @property
    def solved(self) -> bool:
        """True if all cases passed."""
        return self.hint is None


def check(exercise: Exercise, function: Answer) -> Verdict:
    """Run the test cases in order, up to the first that fails."""
    passed: list[str] = []
    with np.errstate(all="ignore"):  # an overflow shows in the result
        try:
            answer = guarded(exercise, function)
            for number, case in enumerate(exercise.cases):
                results = case.run(answer)
                wrong = results_difference(case.run(exercise.solution), results, exercise.tolerance)
                if wrong:
                    hint = hint_for_mistake(exercise, number, results, answer) or case.advice
                    return Verdict(tuple(passed), f"{case.title}: {wrong}.\n{hint}")
                passed.append(case.title)
        except WrongAnswer as error:
            return Verdict(tuple(passed), f"{exercise.cases[len(passed)].title}: {error}")
    return Verdict(tuple(passed), None)


def hint_for_mistake(exercise: Exercise, number: int, results: Results, answer: Answer) -> str | None:
    """Return the hint for the mistake, or pair of mistakes, that gives these results in case ``number``.

    The cases before it have to pass with the mistake, too. Of several candidates, the one that agrees with the answer
    in most of the following cases is chosen.
    """
    later = exercise.cases[number + 1 :]
    for count in (1, 2):
        found = [
            names for names in combinations(exercise.mistakes, count) if _reproduces(exercise, number, names, results)
        ]
        if not found:
            continue
        if len(found) > 1:
            answered = [_results_or_none(case, answer) for case in later]
            found.sort(key=lambda names: _agreement(exercise, names, later, answered), reverse=True)
        hints = [exercise.mistakes[name].hint for name in found[0]]
        return hints[0] if count == 1 else "Two mistakes at once. " + " And: ".join(hints)
    return None


def _reproduces(exercise: Exercise, number: int, names: Sequence[str], results: Results) -> bool:
    try:
        variant = exercise.variant(names)
    except EditError:
        return False
    reproduced = _results_or_none(exercise.cases[number], variant)
    if reproduced is None or results_difference(reproduced, results, exercise.tolerance, equal_nan=True):
        return False
    for case in exercise.cases[:number]:
        reproduced = _results_or_none(case, variant)
        if reproduced is None or results_difference(case.run(exercise.solution), reproduced, exercise.tolerance):
            return False
    return True


def _agreement(
    exercise: Exercise, names: Sequence[str], cases: Sequence[Case], answered: Sequence[Results | None]
) -> int:
    """Count the cases in which the solution with these mistakes gives the same results as the answer."""
    variant = exercise.variant(names)
    pairs = [(_results_or_none(case, variant), results) for case, results in zip(cases, answered, strict=True)]
    return sum(
        expected is not None
        and results is not None
        and not results_difference(expected, results, exercise.tolerance, equal_nan=True)
        for expected, results in pairs
    )


def _results_or_none(case: Case, function: Answer) -> Results | None:
    try:
        return case.run(function)
    except Exception:  # some mistakes fail together, or in some cases
        return None


# ------------------------------------------------------------------------------------------ comparing results


def results_difference(expected: Results, actual: Results, tolerance: float, equal_nan: bool = False) -> str | None:
    """Describe the first difference that exceeds the tolerance, or return None if there is none.

    >>> results_difference([("the result", np.array([1.0, 2.0]))], [("the result", np.array([1.0, 2.5]))], 1e-4)
    'the result at [1] is 2.5, expected 2'
    """
    for (what, want), (_, have) in zip(expected, actual, strict=True):
        if not isinstance(want, np.ndarray | float):
            if have != want:
                return f"{what} is {have}, expected {want}"
            continue
        want, have = np.asarray(want), np.asarray(have)
        if want.shape != have.shape:
            return f"{what} has the shape {have.shape}, expected {want.shape}"
        wrong = ~np.isclose(have, want, rtol=0.0, atol=tolerance, equal_nan=equal_nan)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            at = f" at {list(place)}" if place else ""
            others = f"; {wrong.sum():,} of {wrong.size:,} values are wrong" if wrong.sum() > 1 else ""
            return f"{what}{at} is {have[place]:.6g}, expected {want[place]:.6g}{others}"
    return None


def as_real_array(value: Any, what: str = "the result") -> Any:
    """Return the value if it is an array of real numbers, or raise ``WrongAnswer``."""
    if not isinstance(value, np.ndarray):
        raise WrongAnswer(f"{what} is {_kind(value)}, expected a NumPy array")
    if value.dtype.kind == "c":
        raise WrongAnswer(f"{what} is complex, expected real numbers: take the square of the absolute value")
    if value.dtype.kind not in "fiu":
        raise WrongAnswer(f"{what} is an array of {value.dtype}, expected float32 or float64")
    return np.asarray(value)


def as_pair(value: Any, first: str, second: str) -> tuple[Any, Any]:
    """Return the value if it is a tuple of two, or raise ``WrongAnswer``."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise WrongAnswer(f"the result is {_kind(value)}, expected a tuple of two: ({first}, {second})")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


# ------------------------------------------------------------------------------------------ calling the answer


def guarded(exercise: Exercise, function: Answer) -> Answer:
    """Wrap a function so that it raises ``WrongAnswer`` if it misbehaves.

    That is: it has other parameters, raises an error, returns None, or modifies an argument.
    """
    names = exercise.parameters
    call = f"{exercise.function}({', '.join(names)})"
    try:
        inspect.signature(function).bind(*names)
    except TypeError as error:
        raise WrongAnswer(f"{exercise.function} cannot be called as {call}: {error}") from None
    except ValueError:  # a function in C without a signature
        pass

    def call_answer(*arguments: Any) -> Any:
        before = _snapshot(arguments)
        try:
            result = function(*arguments)
        except WrongAnswer:
            raise
        except (Exception, SystemExit) as error:
            given = ", ".join(f"{name} {_given(value)}" for name, value in zip(names, arguments, strict=True))
            where = error_place(error, _file_of(function))
            raise WrongAnswer(f"{where}{type(error).__name__}: {error}\nThe arguments were {given}.") from None
        for name, old, new in zip(names, before, arguments, strict=True):
            if _changed(old, new):
                why = exercise.unchanged.get(name, "make a copy, or use an operation that returns a new array.")
                raise WrongAnswer(f"{exercise.function} modifies its argument {name}: {why}")
        if result is None:
            raise WrongAnswer(f"{exercise.function} returns None: expected a line 'return …' at the end")
        return result

    return call_answer


def error_place(error: BaseException, file: str) -> str:
    """Return the innermost place in a file that raised an error, ``"answer.py, line 3, 'x = 1 / 0': "``, or ""."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not lines or lines[-1] is None:
        return ""
    linecache.checkcache(file)  # the file may have changed
    code = linecache.getline(file, lines[-1]).strip()
    return f"{printable(file)}, line {lines[-1]}, {code!r}: "


def _file_of(function: Answer) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_filename if code else ""


def _given(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(value.shape)
    if isinstance(value, Mapping) or callable(value):
        return "as described"
    text = repr(value)
    return text if len(text) <= 60 else _kind(value)


def _snapshot(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.array(value)
    if isinstance(value, Mapping):
        return {key: _snapshot(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_snapshot(inner) for inner in value]
    return value


def _changed(old: Any, new: Any) -> bool:
    if isinstance(new, np.ndarray):
        return not np.array_equal(old, np.asarray(new), equal_nan=new.dtype.kind == "f")
    if isinstance(new, Mapping):
        return list(old) != list(new) or any(_changed(old[key], new[key]) for key in new)
    if isinstance(new, tuple | list):
        return len(old) != len(new) or any(map(_changed, old, new))
    return False
