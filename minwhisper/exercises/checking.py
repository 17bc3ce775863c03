"""How an answer is checked, and how what is wrong with it is found out.

An exercise has a solution that can make mistakes on purpose. Each of its steps calls a function a few times and
collects what it gives. The reader's function passes a step if it gives what the solution gives. If it does not, the
solution is tried with every mistake, then with every two of them: the one that gives the reader's numbers is the
reader's mistake, and its hint says so.
"""

import inspect
import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from ..common.console import printable

Answer: TypeAlias = Callable[..., Any]
"""A function that somebody wrote for an exercise."""

Results: TypeAlias = list[tuple[str, Any]]
"""What a step has collected: what each value is, and the value: an array, a list of tokens or a number."""

NO_MISTAKES: frozenset[str] = frozenset()


class WrongAnswer(Exception):
    """What a function does is wrong before any number is looked at; the message is the hint."""


@dataclass(frozen=True)
class Case:
    """Something the function has to get right."""

    title: str  # what is tried, "an empty text"
    run: Callable[[Answer], Results]
    advice: str  # for a wrong result that no known mistake explains


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    ``solution`` takes the arguments of the function and ``mistakes``, names of those it shall make; ``mistakes``
    are these names, with what to tell somebody who made them. ``unchanged`` says, for an argument, why it has to be
    left as it is.
    """

    number: int
    title: str
    section: int  # of the walkthrough, at whose end it stands
    function: str
    task: str
    skeleton: str  # Python that defines the function, to be filled in
    solution: Answer
    mistakes: Mapping[str, str]
    cases: tuple[Case, ...]
    tolerance: float = 1e-4  # how far a number may be off
    unchanged: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the function's arguments."""
        return tuple(name for name in inspect.signature(self.solution).parameters if name != "mistakes")

    def variant(self, mistakes: Sequence[str]) -> Answer:
        """The solution that makes these mistakes."""

        def answer(*arguments: Any) -> Any:
            return self.solution(*arguments, mistakes=frozenset(mistakes))

        return answer


@dataclass(frozen=True)
class Verdict:
    """How far an answer gets: the titles of the steps it passed, and what to do about the first it fails."""

    passed: tuple[str, ...]
    hint: str | None  # None if it passed them all

    @property
    def solved(self) -> bool:
        """Whether nothing is left to do."""
        return self.hint is None


def check(exercise: Exercise, function: Answer) -> Verdict:
    """Try a function step by step, up to the first step it fails."""
    passed: list[str] = []
    with np.errstate(all="ignore"):  # what comes of an overflow shows in the result
        try:
            watched = guarded(exercise, function)
            for number, step in enumerate(exercise.cases):
                got = step.run(watched)
                wrong = results_difference(step.run(exercise.solution), got, exercise.tolerance)
                if wrong:
                    hint = hint_for_mistake(exercise, number, got, watched) or step.advice
                    return Verdict(tuple(passed), f"{step.title}: {wrong}.\n{hint}")
                passed.append(step.title)
        except WrongAnswer as objection:
            return Verdict(tuple(passed), f"{exercise.cases[len(passed)].title}: {objection}")
    return Verdict(tuple(passed), None)


def hint_for_mistake(exercise: Exercise, number: int, got: Results, function: Answer) -> str | None:
    """The hint for the mistake, or the two mistakes, that give this outcome at a step and pass those before it.

    Of several that do, it is the one that gives what the function gives at most of the steps that follow.
    """
    later = exercise.cases[number + 1 :]
    for count in (1, 2):
        found = [names for names in combinations(exercise.mistakes, count) if _reproduces(exercise, number, names, got)]
        if not found:
            continue
        if len(found) > 1:
            outcomes = [_results_or_none(step, function) for step in later]
            found.sort(key=lambda names: _agreement(exercise, names, later, outcomes), reverse=True)
        hints = [exercise.mistakes[name] for name in found[0]]
        return hints[0] if count == 1 else "Two things at once. " + " And: ".join(hints)
    return None


def _reproduces(exercise: Exercise, number: int, names: Sequence[str], got: Results) -> bool:
    variant = exercise.variant(names)
    outcome = _results_or_none(exercise.cases[number], variant)
    if outcome is None or results_difference(outcome, got, exercise.tolerance, equal_nan=True):
        return False
    for step in exercise.cases[:number]:
        outcome = _results_or_none(step, variant)
        if outcome is None or results_difference(step.run(exercise.solution), outcome, exercise.tolerance):
            return False
    return True


def _agreement(
    exercise: Exercise, names: Sequence[str], steps: Sequence[Case], outcomes: Sequence[Results | None]
) -> int:
    """At how many of these steps the solution with mistakes gives these outcomes."""
    variant = exercise.variant(names)
    return sum(
        expected is not None
        and outcome is not None
        and not results_difference(expected, outcome, exercise.tolerance, equal_nan=True)
        for expected, outcome in (
            (_results_or_none(step, variant), outcome) for step, outcome in zip(steps, outcomes, strict=True)
        )
    )


def _results_or_none(step: Case, function: Answer) -> Results | None:
    try:
        return step.run(function)
    except Exception:  # some mistakes do not get along with each other, or with a step
        return None


# ------------------------------------------------------------------------------------------ looking at results


def results_difference(expected: Results, got: Results, tolerance: float, equal_nan: bool = False) -> str | None:
    """Where an outcome first differs from another in more than rounding, in words; None if it nowhere does.

    >>> results_difference([("the result", np.array([1.0, 2.0]))], [("the result", np.array([1.0, 2.5]))], 1e-4)
    'the result at [1] is 2.5, expected 2'
    """
    for (what, want), (_, have) in zip(expected, got, strict=True):
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
            others = f"; {wrong.sum():,} of {wrong.size:,} numbers are off" if wrong.sum() > 1 else ""
            return f"{what}{at} is {have[place]:.6g}, expected {want[place]:.6g}{others}"
    return None


def as_real_array(value: Any, what: str = "the result") -> Any:
    """The value, if it is an array of real numbers; otherwise an :class:`WrongAnswer` that says what it is."""
    if not isinstance(value, np.ndarray):
        raise WrongAnswer(f"{what} is {_kind(value)}, expected a NumPy array")
    if value.dtype.kind == "c":
        raise WrongAnswer(f"{what} is complex, expected real numbers: is a square of the absolute value missing?")
    if value.dtype.kind not in "fiu":
        raise WrongAnswer(f"{what} is an array of {value.dtype}, expected numbers, float32 or float64")
    return np.asarray(value)


def as_pair(value: Any, first: str, second: str) -> tuple[Any, Any]:
    """The value, if it is a tuple of two; otherwise an :class:`WrongAnswer` that says which two are expected."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise WrongAnswer(f"the result is {_kind(value)}, expected a tuple of two: ({first}, {second})")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


# ------------------------------------------------------------------------------------------ watching a function


def guarded(exercise: Exercise, function: Answer) -> Answer:
    """The function with an :class:`WrongAnswer` for what goes wrong in it.

    That is an error, None for a result, an argument changed, or a function that cannot be called as it should be.
    """
    names = exercise.parameters
    call = f"{exercise.function}({', '.join(names)})"
    try:
        inspect.signature(function).bind(*names)
    except TypeError as error:
        raise WrongAnswer(f"{exercise.function} cannot be called as {call}: {error}") from None
    except ValueError:  # something written in C, whose arguments nobody knows
        pass

    def watched(*arguments: Any) -> Any:
        before = _snapshot(arguments)
        try:
            result = function(*arguments)
        except WrongAnswer:
            raise
        except (Exception, SystemExit) as error:
            given = ", ".join(f"{name} {_given(value)}" for name, value in zip(names, arguments, strict=True))
            where = error_place(error, _file_of(function))
            raise WrongAnswer(f"{where}{type(error).__name__}: {error}\nIt was given {given}.") from None
        for name, old, new in zip(names, before, arguments, strict=True):
            if _changed(old, new):
                why = exercise.unchanged.get(name, "take a copy, or let an operation make a new array.")
                raise WrongAnswer(f"{exercise.function} changes its argument {name}: {why}")
        if result is None:
            raise WrongAnswer(f"{exercise.function} returns None: does it end with a line 'return …'?")
        return result

    return watched


def error_place(error: BaseException, file: str) -> str:
    """The last line of a file that an error went through, ``"answer.py, line 3, 'x = 1 / 0': "``; "" if none."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not lines or lines[-1] is None:
        return ""
    linecache.checkcache(file)  # it may have been written anew
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
