"""Wrong answers: each typical mistake gets a hint that explains it, however the answer is written."""

import pytest

from minwhisper.common.edits import source_of
from minwhisper.exercises import attention, cached, find_exercise
from wrong_answers import WRONG, changed, hint_for

STEP = find_exercise(6)


@pytest.mark.parametrize(("number", "name"), [(number, name) for number in WRONG for name in WRONG[number]])
def test_a_wrong_answer_gets_a_hint_for_its_mistake(number, name, tmp_path):
    changes, words = WRONG[number][name]
    assert words in hint_for(find_exercise(number), changed(find_exercise(number), *changes), tmp_path)


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
    "remembers by itself": (
        """memory = None
def step(x, weights, cache, heads):
    global memory
    out, memory = solution(x, weights, None if cache is None else memory, heads)
    return out, 'see memory'
""",
        "keep nothing in a global variable",
    ),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_cannot_be_used_twice_is_rejected(name, tmp_path):
    source, words = CACHES[name]
    assert words in hint_for(STEP, CACHE_START + source, tmp_path)


COUNTED = ["x @ w.T", "(w @ x.T).T", "np.dot(x, np.transpose(w))", "np.inner(x, w)", "np.einsum('sd,od->so', x, w)"]
OTHERS = [
    "np.tensordot(x, w, (1, 1))",
    "np.concatenate([x @ part.T for part in (w[:4], w[4:])], axis=1)",
    "(np.concatenate([w, w, w]) @ x.T)[:8].T",
    "x.astype(np.float32) @ np.asarray(w, np.float32).T",
]


@pytest.mark.parametrize("product", [*COUNTED, *OTHERS])
def test_products_may_be_written_in_any_way(product, tmp_path):
    times = f"def times(x, w):\n    return {product}\n\n\ndef step"
    changes = ('np.einsum("sd,od->so", x, layer["weight"])', "times(x, layer['weight'])"), ("def step", times)
    assert hint_for(STEP, changed(STEP, *changes), tmp_path) is None


@pytest.mark.parametrize("product", COUNTED)
def test_recomputed_positions_are_detected(product, tmp_path):
    source = f"""{CACHE_START}
def step(x, weights, cache, heads):
    seen = x if cache is None else np.concatenate([cache, x])
    def times(x, w):
        return {product}
    times(seen, weights["key"]["weight"])
    plain = {{name: {{key: np.asarray(a) for key, a in layer.items()}} for name, layer in weights.items()}}
    return solution(seen, plain, None, heads)[0][-len(x):], seen
"""
    assert "keys or values of 2 are computed" in hint_for(STEP, source, tmp_path)
