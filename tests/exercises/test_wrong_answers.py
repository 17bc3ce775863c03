"""Wrong answers: each typical mistake gets a hint that explains it, in whatever way the answer is written."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from minwhisper.common.edits import source_of
from minwhisper.exercises import EXERCISES, attention, cached, check, find_exercise
from minwhisper.exercises.loading import load_functions
from wrong_answers import WRONG, Wrong, changed

STEP = find_exercise(6)


@cache
def hint_of(wrong: Wrong) -> str:
    return hint_for(wrong.exercise, changed(wrong.exercise, *wrong.changes))


def hint_for(exercise, source: str) -> str | None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "answer.py"
        path.write_text(source, encoding="utf-8")
        return check(exercise, *load_functions(path, exercise), real=False).hint


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.exercise.functions[0]}-{wrong.name}")
def test_a_wrong_answer_gets_a_hint_for_its_mistake(wrong):
    hint = hint_of(wrong)
    assert hint is not None
    assert wrong.words in hint


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.functions[0])
def test_every_exercise_has_eight_wrong_answers_with_hints_of_their_own(exercise):
    hints = [hint_of(wrong).split("\n")[-1] for wrong in WRONG if wrong.exercise is exercise]
    by_mistake = {mistake.hint for mistake in exercise.mistakes.values()}
    assert len([hint for hint in hints if hint in by_mistake]) >= 8
    assert len(set(hints)) == len(hints)


# ------------------------------------------------------------------------------------------ caches

SOLUTION = (attention.softmax, cached.linear, cached.split_heads, cached.merge_heads, cached.step)
CACHE_START = "import numpy as np\nfrom typing import Any\n" + "\n".join(map(source_of, SOLUTION)).replace(
    "def step", "def solution"
)
CACHES = {
    "stores what it computes from": (
        """def step(x, weights, cache, heads):
    seen = x if cache is None else np.concatenate([cache, x])
    out, _ = solution(seen, weights, None, heads)
    return out[-len(x):], seen
""",
        "for 1 new position, keys or values of 2 are computed",
    ),
    "appends to a list": (
        """def step(x, weights, cache, heads):
    cache = cache if cache is not None else []
    old = tuple(map(np.concatenate, zip(*cache))) if cache else None
    out, (keys, values) = solution(x, weights, old, heads)
    cache.append((keys[-len(x):], values[-len(x):]))
    return out, cache
""",
        "modifies its argument cache: a beam search",
    ),
    "writes into a buffer": (
        """def step(x, weights, cache, heads):
    keys, values, past = cache or (np.zeros((99, 8)), np.zeros((99, 8)), 0)
    out, new = solution(x, weights, (keys[:past], values[:past]), heads)
    keys[past:past + len(x)], values[past:past + len(x)] = (array[past:] for array in new)
    return out, (keys, values, past + len(x))
""",
        "modifies its argument cache",
    ),
    "remembers by itself": (
        """memory = None
def step(x, weights, cache, heads):
    global memory
    out, memory = solution(x, weights, None if cache is None else memory, heads)
    return out, 'see memory'
""",
        "keep nothing in a global variable",
    ),
    "hides it in an object": (
        """class Cache:
    held = None
def step(x, weights, cache, heads):
    cache = cache or Cache()
    out, cache.held = solution(x, weights, cache.held, heads)
    return out, cache
""",
        "do not overwrite its arrays",
    ),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_cannot_be_used_twice_is_rejected(name):
    source, words = CACHES[name]
    assert words in hint_for(STEP, CACHE_START + source)


@pytest.mark.parametrize(
    "product",
    [
        "x @ w.T", "(w @ x.T).T", "np.matmul(x, np.transpose(w))", "np.dot(x, w.T)", "np.inner(x, w)",
        "np.tensordot(x, w, (1, 1))", "np.einsum('sd,od->so', x, w)", "np.stack([w @ row for row in x])",
        "np.concatenate([x @ part.T for part in (w[:4], w[4:])], axis=1)", "(np.concatenate([w, w, w]) @ x.T)[:8].T",
        "np.hstack(list(x @ w.reshape(2, 4, 8).transpose(0, 2, 1)))", "(x[:, None] * w).sum(axis=-1)",
        "x.astype(np.float32) @ np.asarray(w, np.float32).T",
    ],
)  # fmt: skip
def test_products_may_be_written_in_any_way(product):
    source = changed(
        STEP, ('np.einsum("sd,od->so", x, layer["weight"])', "times(x, layer['weight'])"),
        ("def step", f"def times(x, w):\n    return {product}\n\n\ndef step"),
    )  # fmt: skip
    assert hint_for(STEP, source) is None


@pytest.mark.parametrize(
    "product",
    ["x @ w.T", "(w @ x.T).T", "np.dot(x, np.transpose(w))", "np.inner(x, w)", "np.einsum('sd,od->so', x, w)"],
)
def test_recomputed_positions_are_detected(product):
    source = f"""{CACHE_START}
def step(x, weights, cache, heads):
    seen = x if cache is None else np.concatenate([cache, x])
    def times(x, w):
        return {product}
    times(seen, weights["key"]["weight"])
    plain = {{name: {{key: np.asarray(a) for key, a in layer.items()}} for name, layer in weights.items()}}
    return solution(seen, plain, None, heads)[0][-len(x):], seen
"""
    assert "keys or values of 2 are computed" in hint_for(STEP, source)
