"""The checker survives what an answer does, and says what it was; files that cannot be used are errors in one line."""

import builtins
import sys

import numpy as np
import pytest

from minwhisper.errors import ExerciseError
from minwhisper.exercises import EXERCISES, attention, check, find_exercise
from minwhisper.exercises.checking import parameters_of
from minwhisper.exercises.comparing import results_difference
from minwhisper.exercises.loading import find_answers, load_functions
from wrong_answers import FOLDER, changed

MEL, ATTENTION, BEAM = find_exercise(2), find_exercise(5), find_exercise(10)
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.functions[0])


def hint_for(exercise, source: str, folder) -> str | None:
    path = folder / "answer.py"
    path.write_text(source, encoding="utf-8")
    return check(exercise, *load_functions(path, exercise), real=False).hint


def attention_that(*lines: str) -> str:
    return "import numpy as np\n\ndef attention(queries, keys, values, mask):\n    " + "\n    ".join(lines) + "\n"


# ------------------------------------------------------------------------------------------ invalid answers


@each
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("pass", "returns None: expected a line 'return …' at the end"),
        ("return 'text'", "expected"),
        ("return [1, 2]", "expected"),
        ("1 / 0", "line 2, '1 / 0': ZeroDivisionError: division by zero\nThe arguments were "),
        ("exit(3)", "SystemExit: 3"),
        ("return unknown", "NameError: name 'unknown' is not defined"),
        ("raise NotImplementedError", "is not written yet"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_function_without_a_usable_result_gets_a_hint(exercise, body, words, tmp_path):
    source = "".join(f"def {call}:\n    {body}\n" for call in exercise.calls)
    hint = hint_for(exercise, source, tmp_path)
    assert words in hint
    assert hint.startswith(exercise.cases[0].title + ": ")


@each
def test_other_parameters_get_a_hint(exercise):
    hint = check(exercise, *(lambda: 1 for _ in exercise.functions)).hint
    assert f"cannot be called as {exercise.calls[0]}" in hint


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (np.full((80, 50), np.nan), "at [0, 0] is nan, expected"),
        (np.zeros((80, 51)), "has the shape (80, 51), expected (80, 50)"),
        (np.zeros((80, 50), complex), "complex, expected real numbers"),
        (np.zeros((80, 50), object), "an array of object"),
        (np.zeros((80, 50)), "3,999 of 4,000 values are wrong"),
        (np.float64(1.0), "is of type float64, expected a NumPy array"),
    ],
    ids=["NaN", "shape", "complex", "object", "zeros", "number"],
)
def test_a_result_of_the_wrong_kind_is_described(result, words):
    assert words in check(MEL, lambda samples, filters: result).hint


def test_an_unknown_mistake_is_located_and_gets_advice():
    hint = check(
        ATTENTION, lambda queries, keys, values, mask: attention.attention(queries, keys, values, mask) + 1
    ).hint
    first, advice = hint.split("\n")
    assert "the result at [0, 0, 0] is " in first
    assert advice == ATTENTION.cases[0].advice


def test_an_error_in_numpy_names_the_readers_line(tmp_path):
    hint = hint_for(ATTENTION, attention_that("return np.matmul(queries, keys)"), tmp_path)
    assert f"{tmp_path / 'answer.py'}, line 4, 'return np.matmul(queries, keys)': ValueError: matmul" in hint
    assert "The arguments were queries (2, 3, 4), keys (2, 5, 4), values (2, 5, 4), mask None." in hint


def test_an_error_in_a_helper_names_its_current_line(tmp_path):
    helper = (
        "def helper(x):\n    return x{}\n\n\ndef attention(queries, keys, values, mask):\n    return helper(queries)\n"
    )
    assert "line 2, 'return x.oops': AttributeError" in hint_for(ATTENTION, helper.format(".oops"), tmp_path)
    assert "line 2, 'return x / None': TypeError" in hint_for(ATTENTION, helper.format(" / None"), tmp_path)


def test_a_recursion_without_an_end_is_named(tmp_path):
    source = attention_that("return attention(queries, keys, values, mask)")
    assert "RecursionError: maximum recursion depth exceeded" in hint_for(ATTENTION, source, tmp_path)


def test_an_error_without_a_message_that_can_be_shown_is_named(tmp_path):
    odd = "class Odd(BaseException):\n    def __str__(self): raise ValueError\n" + attention_that("raise Odd()")
    assert "answer.Odd" in hint_for(ATTENTION, odd, tmp_path)


def test_a_string_of_a_class_that_is_equal_to_everything_is_compared_as_a_string(tmp_path):
    source = (
        "class Same(str):\n    def __eq__(self, other): return True\n    __ne__ = None\n    __hash__ = str.__hash__\n\n"
    )
    source += "def merge(word, ids):\n    return [Same('x')]\n"
    assert "is ['x'], expected ['Ġlow', 'er']" in hint_for(find_exercise(7), source, tmp_path)


def test_an_answer_that_makes_numpy_or_warnings_raise_gets_the_same_hint(tmp_path):
    source = changed(ATTENTION, (" - x.max(axis=-1, keepdims=True)", ""))
    strict = "import numpy, warnings\nnumpy.seterr(all='raise')\nwarnings.simplefilter('error')\n"
    with np.errstate():
        assert "exp overflows" in hint_for(ATTENTION, strict + source, tmp_path)


@pytest.mark.parametrize("module", ["numpy", "builtins"])
def test_an_answer_that_replaces_a_function_of_others_is_told_so_and_it_is_put_back(module, tmp_path):
    before = np.exp, builtins.sum
    name = "exp" if module == "numpy" else "sum"
    late = attention_that(f"import {module}", f"{module}.{name} = len", "return queries")
    assert f"your file replaces {module}.{name}" in hint_for(ATTENTION, late, tmp_path)
    with pytest.raises(ExerciseError, match=f"your file replaces {module}.{name}"):
        hint_for(ATTENTION, f"import {module}\n{module}.{name} = len\n" + late, tmp_path)
    assert (np.exp, builtins.sum) == before


def test_an_answer_may_modify_the_scores_it_gets(tmp_path):
    source = changed(
        BEAM,
        ("        beam = []\n        for total", "        logprobs[:] = 0.0\n        beam = []\n        for total"),
    )
    assert hint_for(BEAM, source, tmp_path) is None
    assert check(BEAM, *BEAM.solutions).solved


def test_a_difference_within_the_tolerance_is_none():
    assert results_difference([("x", np.ones(2))], [("x", np.ones(2) + 9e-5)], 1e-4) is None
    assert results_difference([("x", np.ones(2))], [("x", np.ones(2) + 2e-4)], 1e-4)
    assert results_difference([("x", np.array([-np.inf]))], [("x", np.array([-np.inf]))], 1e-4) is None
    assert results_difference([("x", 1.0)], [("x", float("nan"))], 1e-4) == "x is nan, expected 1"
    assert results_difference([("x", [1])], [("x", [1, 2])], 1e-4) == "x is [1, 2], expected [1]"
    assert results_difference([("x", np.array([np.nan]))], [("x", np.array([np.nan]))], 1e-4, equal_nan=True) is None


# ------------------------------------------------------------------------------------------ the package is out of reach

IMPORTS = (
    "from minwhisper.model.layers import softmax",
    "import minwhisper.exercises",
    "__import__('minwhisper')",
    "import importlib; importlib.import_module('minwhisper.model.layers')",
    "import importlib; importlib.reload(importlib.import_module('minwhisper'))",
)


@pytest.mark.parametrize("statement", IMPORTS)
def test_an_answer_that_imports_the_package_is_refused(statement, tmp_path):
    words = "ImportError: an answer must not import minwhisper"
    with pytest.raises(ExerciseError, match=words):
        hint_for(ATTENTION, f"{statement}\n" + attention_that("return queries"), tmp_path)
    assert words in hint_for(ATTENTION, attention_that(statement, "return queries"), tmp_path)
    (tmp_path / "neighbour_that_cheats.py").write_text(statement)
    with pytest.raises(ExerciseError, match=words):
        hint_for(ATTENTION, "import neighbour_that_cheats\n" + attention_that("return queries"), tmp_path)


def test_the_package_is_not_among_the_modules_while_an_answer_runs_and_is_afterwards(tmp_path):
    source = attention_that("import sys", "raise ValueError([name for name in sys.modules if 'minwhisper' in name])")
    assert "ValueError: []" in hint_for(ATTENTION, source, tmp_path)
    assert sys.modules["minwhisper.exercises.attention"] is attention


# ------------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"def attention(q, k, v, m)\n    pass\n", ", line 1: expected ':', in 'def attention(q, k, v, m)'"),
        (b"import numpy\n1 / 0\n", ", line 2, '1 / 0': ZeroDivisionError: division by zero"),
        (b"import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        (b"import sys\nsys.exit('bye')\n", ", line 2, \"sys.exit('bye')\": SystemExit: bye"),
        (b"raise KeyboardInterrupt\n", ", line 1, 'raise KeyboardInterrupt': KeyboardInterrupt"),
        (b"def attend(q): pass\n", "defines attend, expected 'attention', which begins with "
                                   "'def attention(queries, keys, values, mask):'; 'minwhisper exercise 5 --start"),
        (b"attention = 3\n", "defines no function, expected 'attention'"),
        (b"", "defines no function, expected 'attention'"),
        (b"x = '\xff'\n", "utf-8"),
        (b"x = 1\0", "null byte"),
        (b"x = " + b"(" * 5000, "answer.py"),
    ],
)  # fmt: skip
def test_an_invalid_file_is_an_error_in_one_line(source, words, tmp_path):
    path = tmp_path / "answer.py"
    path.write_bytes(source)
    with pytest.raises(ExerciseError) as error:
        load_functions(path, ATTENTION)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_or_a_folder_is_an_error(tmp_path):
    for path in (tmp_path / "missing.py", tmp_path):
        with pytest.raises(ExerciseError, match="cannot be read"):
            load_functions(path, ATTENTION)


def test_a_file_can_import_its_neighbours_and_the_path_is_restored(tmp_path):
    (tmp_path / "neighbour_of_answer.py").write_text("def attention(queries, keys, values, mask): return 1\n")
    path = tmp_path / "answer.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from neighbour_of_answer import attention\n@dataclass\nclass Pair:\n    a: int\n"
        "if __name__ == '__main__':\n    raise SystemExit\n"
    )
    before = list(sys.path)
    assert load_functions(path, ATTENTION)[0](0, 0, 0, 0) == 1
    assert sys.path == before
    del sys.modules["neighbour_of_answer"]


def test_the_answers_of_a_folder_are_found_by_the_functions_that_they_define(tmp_path):
    (tmp_path / "a.py").write_text("def attention(queries, keys, values, mask): ...\ndef softmax(x): ...\n")
    (tmp_path / "attention.py").write_text("def attention(queries, keys, values, mask): ...\n")
    (tmp_path / "broken.py").write_text("def softmax(x) ...\ndef log_softmax(x): ...\n")
    (tmp_path / "one.py").write_text("def softmax(x): ...\ndef log_softmax(x): ...\nraise SystemExit\n")
    found = find_answers(tmp_path, EXERCISES)
    assert found[5] == [tmp_path / "attention.py", tmp_path / "a.py"]
    assert found[1] == [tmp_path / "one.py"]
    assert found[2] == []
    assert {name for name in found if found[name]} == {1, 5}


def test_a_folder_without_answers_is_an_error(tmp_path):
    with pytest.raises(ExerciseError, match="no Python file in this folder"):
        find_answers(tmp_path, EXERCISES)
    with pytest.raises(ExerciseError, match="cannot be read"):
        find_answers(tmp_path / "missing", EXERCISES)


def test_every_answer_in_the_folder_of_the_tests_is_found():
    found = find_answers(FOLDER, EXERCISES)
    assert [found[exercise.number][0].stem for exercise in EXERCISES] == [one.functions[0] for one in EXERCISES]
    assert all(parameters_of(solution) for exercise in EXERCISES for solution in exercise.solutions)
