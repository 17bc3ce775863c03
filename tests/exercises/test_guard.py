"""The checker survives and explains whatever an answer does; a file that cannot be used is an error in one line."""

import builtins
import sys

import numpy as np
import pytest

from minwhisper.errors import ExerciseError
from minwhisper.exercises import EXERCISES, attention, check, find_exercise
from minwhisper.exercises.loading import find_answers, load_functions
from wrong_answers import changed, hint_for

MEL, ATTENTION, BEAM = find_exercise(2), find_exercise(5), find_exercise(10)
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.functions[0])


def attention_that(*lines: str) -> str:
    return "import numpy as np\n\ndef attention(queries, keys, values, mask):\n    " + "\n    ".join(lines) + "\n"


# ------------------------------------------------------------------------------------------ invalid answers


@each
def test_a_function_without_a_usable_result_gets_a_hint(exercise, tmp_path):
    for body, words in (
        ("pass", "returns None: expected a line 'return …' at the end"),
        ("return 'text'", "expected"),
        ("return [1, 2]", "expected"),
        ("1 / 0", "line 2, '1 / 0': ZeroDivisionError: division by zero\nThe arguments were "),
    ):
        hint = hint_for(exercise, "".join(f"def {call}:\n    {body}\n" for call in exercise.calls), tmp_path)
        assert words in hint
        assert hint.startswith(exercise.cases[0].title + ": ")
    hint = check(exercise, *(lambda: 1 for _ in exercise.functions)).hint
    assert f"cannot be called as {exercise.calls[0]}" in hint


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return attention(queries, keys, values, mask)", "RecursionError: maximum recursion depth exceeded"),
        ("return np.matmul(queries, keys)", "answer.py, line 4, 'return np.matmul(queries, keys)': ValueError: matmul"),
        ("return unknown", "The arguments were queries (2, 3, 4), keys (2, 5, 4), values (2, 5, 4), mask None."),
    ],
)
def test_an_error_in_an_answer_is_named_with_its_line_and_the_arguments(line, words, tmp_path):
    assert words in hint_for(ATTENTION, attention_that(line), tmp_path)


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


def test_an_error_in_a_helper_names_its_current_line(tmp_path):
    helper = (
        "def helper(x):\n    return x{}\n\n\ndef attention(queries, keys, values, mask):\n    return helper(queries)\n"
    )
    assert "line 2, 'return x.oops': AttributeError" in hint_for(ATTENTION, helper.format(".oops"), tmp_path)
    assert "line 2, 'return x / None': TypeError" in hint_for(ATTENTION, helper.format(" / None"), tmp_path)


def test_objects_that_cannot_be_printed_or_equal_everything_do_not_deceive_the_checker(tmp_path):
    odd = "class Odd(BaseException):\n    def __str__(self): raise ValueError\n" + attention_that("raise Odd()")
    assert "answer.Odd" in hint_for(ATTENTION, odd, tmp_path)
    same = "class Same(str):\n    def __eq__(self, other): return True\n    __ne__ = None\n    __hash__ = str.__hash__"
    same += "\n\ndef merge(word, ids):\n    return [Same('x')]\n"
    assert "is ['x'], expected ['Ġlow', 'er']" in hint_for(find_exercise(7), same, tmp_path)
    scores = changed(BEAM, ("for total, tokens in sorted", "logprobs[:] = 0\n        for total, tokens in sorted"))
    assert hint_for(BEAM, scores, tmp_path) is None  # an answer may modify the log-probabilities that it gets


def test_an_answer_that_makes_numpy_or_warnings_raise_gets_the_same_hint(tmp_path):
    source = changed(ATTENTION, (" - x.max(axis=-1, keepdims=True)", ""))
    strict = "import numpy, warnings\nnumpy.seterr(all='raise')\nwarnings.simplefilter('error')\n"
    with np.errstate():
        assert "exp overflows" in hint_for(ATTENTION, strict + source, tmp_path)


@pytest.mark.parametrize(("module", "name"), [("numpy", "exp"), ("builtins", "sum")])
def test_an_answer_that_replaces_a_library_function_gets_a_hint_and_the_function_is_restored(module, name, tmp_path):
    before = np.exp, builtins.sum
    late = attention_that(f"import {module}", f"{module}.{name} = len", "return queries")
    assert f"your file replaces {module}.{name}" in hint_for(ATTENTION, late, tmp_path)
    with pytest.raises(ExerciseError, match=f"your file replaces {module}.{name}"):
        hint_for(ATTENTION, f"import {module}\n{module}.{name} = len\n" + late, tmp_path)
    assert (np.exp, builtins.sum) == before


# ------------------------------------------------------------------------------------------ the package is out of reach

IMPORTS = (
    "from minwhisper.model.layers import softmax",
    "__import__('minwhisper')",
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
        (b"import sys\nsys.exit('bye')\n", ", line 2, \"sys.exit('bye')\": SystemExit: bye"),
        (b"def attend(q): pass\n", "defines attend, expected 'attention', which begins with "
                                   "'def attention(queries, keys, values, mask):'; 'minwhisper exercise 5 --start"),
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


def test_files_and_folders_that_are_missing_or_hold_no_answer_are_errors(tmp_path):
    for path in (tmp_path / "missing.py", tmp_path):
        with pytest.raises(ExerciseError, match="cannot be read"):
            load_functions(path, ATTENTION)
    with pytest.raises(ExerciseError, match="no Python file in this folder"):
        find_answers(tmp_path, EXERCISES)
    with pytest.raises(ExerciseError, match="cannot be read"):
        find_answers(tmp_path / "missing", EXERCISES)


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
    assert {name for name in found if found[name]} == {1, 5}
