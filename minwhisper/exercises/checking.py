"""The checker of the exercises: it runs an answer, and finds the mistake behind a wrong result.

Each exercise has a solution, known mistakes, which are edits of the solution's source, and test cases that call the
functions a few times and collect their results. An answer passes a case if its results equal the solution's. If they do
not, the solution is run with every known mistake, then with every pair of them. The combination that reproduces the
answer's results is taken for the reader's mistake, and its hint is shown.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from ..common.edits import EditError, Mistake, edited
from .comparing import Results, WrongAnswer, results_difference
from .guard import Answer, check_nothing_replaced, guarded
from .real_model import real_model


@dataclass(frozen=True)
class Case:
    """A test case of an exercise."""

    title: str  # for instance "an empty text"
    run: Callable[..., Results]  # of the exercise's functions
    advice: str  # the hint for a wrong result that no known mistake explains
    real: bool = False  # whether it needs the weights of ``real_model``


@dataclass(frozen=True, eq=False)  # an exercise equals itself only
class Exercise:
    """One or two functions to write, with their task, solution, mistakes and test cases.

    ``mistakes`` are edits of the solutions, of the first one if an edit names no function. ``unchanged`` maps an
    argument to the reason why it must not be modified.
    """

    number: int
    title: str
    section: int  # of the walkthrough, which ends with this exercise
    task: str
    solutions: tuple[Answer, ...]
    mistakes: Mapping[str, Mistake]  # by name
    cases: tuple[Case, ...]
    tolerance: float = 1e-4  # the largest absolute error that passes
    unchanged: Mapping[str, str] = field(default_factory=dict)

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the functions to write."""
        return tuple(solution.__name__ for solution in self.solutions)

    @property
    def calls(self) -> tuple[str, ...]:
        """The functions with their parameters, such as ``softmax(x)``."""
        return tuple(f"{one.__name__}({', '.join(parameters_of(one))})" for one in self.solutions)

    @property
    def skeleton(self) -> str:
        """Python code to start from, which runs and defines the functions."""
        file, task = f"{self.functions[0]}.py", self.task.replace("\\", "\\\\")
        parts = [
            f'"""Exercise {self.number}: {self.title}.\n\n{task}\n\n'
            f'Check this file with: minwhisper exercise {self.number} {file}\n"""\n\nimport numpy as np\n'
        ]
        for solution, call in zip(self.solutions, self.calls, strict=True):
            first_line = (inspect.getdoc(solution) or "").splitlines()[0]
            parts.append(f'\n\ndef {call}:\n    """{first_line}"""\n    raise NotImplementedError\n')
        return "".join(parts)

    def variant(self, mistakes: Sequence[str]) -> tuple[Answer, ...]:
        """Return the solutions with these mistakes. Raises ``EditError`` if they cannot be made together."""
        first = self.solutions[0]
        edits = [
            edit._replace(function=edit.function or first) for name in mistakes for edit in self.mistakes[name].edits
        ]
        return tuple(edited(solution, edits) for solution in self.solutions)


def parameters_of(solution: Answer) -> tuple[str, ...]:
    """Return the names of a solution's parameters."""
    return tuple(inspect.signature(solution).parameters)


@dataclass(frozen=True)
class Verdict:
    """The result of a check: the titles of the cases that passed, and a hint for the first that failed."""

    passed: tuple[str, ...]
    hint: str | None  # None if all cases passed

    @property
    def solved(self) -> bool:
        """True if all cases passed."""
        return self.hint is None


def check(
    exercise: Exercise, *functions: Answer, report: Callable[[str, str], None] | None = None, real: bool = True
) -> Verdict:
    """Run the test cases in order, up to the first that fails.

    ``report`` is called with a kind of event and a text: "running", "passed" or "skipped" and the title of a case;
    "searching" and a provisional hint, before the search for the mistake starts. Cases that need real weights are left
    out if ``real`` is false, and skipped if the weights are not on this machine.
    """
    tell = report or (lambda event, title: None)
    passed: list[str] = []
    with np.errstate(all="ignore"):  # an overflow shows in the result
        for number, case in enumerate(exercise.cases):
            if case.real and not real:
                continue
            if case.real and real_model() is None:
                tell("skipped", case.title)
                continue
            expected = case.run(*exercise.solutions)
            tell("running", case.title)
            try:
                answers = guarded_answers(exercise, functions)
                results = case.run(*answers)
                wrong = results_difference(expected, results, exercise.tolerance)
                if wrong:
                    tell("searching", f"{case.title}: {wrong}.\n{case.advice}")
                    hint = hint_for_mistake(exercise, number, results, answers) or case.advice
                    return Verdict(tuple(passed), f"{case.title}: {wrong}.\n{hint}")
            except WrongAnswer as error:
                return Verdict(tuple(passed), f"{case.title}: {error}")
            passed.append(case.title)
            tell("passed", case.title)
    return Verdict(tuple(passed), None)


def guarded_answers(exercise: Exercise, functions: Sequence[Answer]) -> tuple[Answer, ...]:
    """Wrap the functions of an answer. Raises ``WrongAnswer`` for other parameters, or a replaced function."""
    check_nothing_replaced()
    return tuple(
        guarded(function, solution.__name__, parameters_of(solution), exercise.unchanged)
        for function, solution in zip(functions, exercise.solutions, strict=True)
    )


def hint_for_mistake(exercise: Exercise, number: int, results: Results, answers: Sequence[Answer]) -> str | None:
    """Return the hint for the mistake, or pair of mistakes, that gives these results in case ``number``.

    The cases before it must also pass with the mistake. Of several candidates, the one that agrees with the answer in
    most of the following cases is chosen.
    """
    later = [case for case in exercise.cases[number + 1 :] if not case.real]
    for count in (1, 2):
        found = [
            names for names in combinations(exercise.mistakes, count) if _reproduces(exercise, number, names, results)
        ]
        if not found:
            continue
        if len(found) > 1:
            answered = [_results_or_none(case, answers) for case in later]
            found.sort(key=lambda names: _agreement(exercise, names, later, answered), reverse=True)
        hints = [exercise.mistakes[name].hint for name in found[0]]
        return hints[0] if count == 1 else "Two mistakes at once. " + " And: ".join(hints)
    return None


def _reproduces(exercise: Exercise, number: int, names: Sequence[str], results: Results) -> bool:
    try:
        variant = exercise.variant(names)
    except (EditError, SyntaxError):  # two edits of one line that do not fit together
        return False
    reproduced = _results_or_none(exercise.cases[number], variant)
    if reproduced is None or results_difference(reproduced, results, exercise.tolerance, equal_nan=True):
        return False
    for case in exercise.cases[:number]:
        if case.real:
            continue
        reproduced = _results_or_none(case, variant)
        if reproduced is None or results_difference(case.run(*exercise.solutions), reproduced, exercise.tolerance):
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


def _results_or_none(case: Case, functions: Sequence[Answer]) -> Results | None:
    try:
        return case.run(*functions)
    except Exception:  # some mistakes fail together, or in some cases
        return None
