"""Exercise 3: self-attention with a cache."""

from typing import Any

import numpy as np

from .checking import NO_MISTAKES, Answer, Case, Exercise, Results, WrongAnswer, as_pair, as_real_array

TASK = """\
Write step(x, weights, cache, heads) -> (out, cache): causal self-attention for new positions only, with NumPy.

x (S, D) is what stands at S new positions: one while decoding, several for a prompt. out (S, D) is what attention
gives for them. cache is None at first; after that it is what the function returned before, and what is in it is up
to you.
- weights["query"], ["key"], ["value"], ["out"] hold "weight" (D, D), with a row for each output as everywhere in
  the package, so y = x @ weight.T + bias, and "bias" (D,); the key has no bias.
- D is cut into `heads` heads of width K = D / heads, next to each other; scores are divided by the square root of K.
- A position sees itself and everything before it: all of the cache, and of the new ones those up to itself.
- Keys and values of old positions come from the cache and are not computed again.
- The cache that is given stays as it is: a beam search goes on from one cache in several ways."""

SKELETON = '''\
import numpy as np


def step(x, weights, cache, heads):
    """New positions x (S, D), and the cache of those before them or None -> (out (S, D), new cache)."""
    out = ...
    return out, cache
'''

MISTAKES = {
    "weights not transposed": "The products are x @ weight. A weight has a row for each output: x @ weight.T.",
    "only the first three not transposed": (
        "The products for query, key and value are x @ weight. A weight has a row for each output: x @ weight.T."
    ),
    "only the last not transposed": (
        "The product of the out projection is x @ weight. The weight has a row for each output: x @ weight.T."
    ),
    "no query bias": "The bias of the query is missing.",
    "no value bias": "The bias of the value is missing.",
    "no out bias": "The bias of the out projection is missing.",
    "no out projection": "The last product is missing, the one with weights['out'], which mixes the heads.",
    "not scaled": "The scores are not divided by the square root of K, the width of a head.",
    "scaled by D": "The scores are divided by the square root of D. Of K, the width of one head: D / heads.",
    "heads not split": "There is one head of width D. Cut the width into heads, each with a softmax of its own.",
    "heads interleaved": (
        "The heads are cut as every so-many-th column. A head is K columns next to each other: "
        "reshape(S, heads, K), then transpose(1, 0, 2)."
    ),
    "split without transpose": (
        "reshape(heads, S, K) mixes positions with heads: it reads a row to its end before the next. First "
        "reshape(S, heads, K), then transpose(1, 0, 2)."
    ),
    "merged without transpose": (
        "The heads are put together by reshape alone, which mixes positions with heads. First transpose (H, S, K) to "
        "(S, H, K), then reshape(S, D)."
    ),
    "no mask": "Of several new positions, each sees those after it as well. They need a causal mask among themselves.",
    "sees not itself": (
        "A position does not see itself, once there are others: either it asks before its own key and value are put to "
        "the others, or the mask starts one too early."
    ),
    "mask forgets the past": (
        "With positions in the cache the mask starts too early: new position i sees the whole past and the new ones "
        "up to i, which is np.triu(…, k=past + 1) of (S, past + S)."
    ),
    "new positions only": "The cache is not looked at: new positions see only each other.",
    "remembers the last step only": (
        "The new cache holds only the newest positions. It holds all: those of the old cache followed by the new ones."
    ),
    "new ones first": (
        "The new keys and values stand before the old ones. As long as positions come one by one that makes no "
        "difference; behind a mask it does. Old ones first: np.concatenate([old, new])."
    ),
    "keys not remembered in order": "The values are put behind the old ones but the keys before them.",
}


def solution(x: Any, weights: Any, cache: Any, heads: int, mistakes: frozenset[str] = NO_MISTAKES) -> Any:
    """Positions x (S, D) -> (out (S, D), (keys (T, D), values (T, D))), with these mistakes."""
    if "heads not split" in mistakes:
        heads = 1
    length, width = x.shape
    query = _linear(x, weights["query"], mistakes, "no query bias")
    key, value = (
        _linear(x, weights["key"], mistakes, ""),
        _linear(x, weights["value"], mistakes, "no value bias"),
    )
    keys, values = _join(cache, key, value, mistakes)  # (T, D)
    seen_keys, seen_values = keys, values
    if "new positions only" in mistakes:
        seen_keys, seen_values = key, value
    past = len(seen_keys) - length
    split = [_split(array, heads, mistakes) for array in (query, seen_keys, seen_values)]
    scale = 1.0 if "not scaled" in mistakes else (width if "scaled by D" in mistakes else width // heads) ** -0.5
    scores = split[0] @ split[1].transpose(0, 2, 1) * scale + _mask(length, past, mistakes)  # (H, S, T)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = e / e.sum(axis=-1, keepdims=True) @ split[2]  # (H, S, T) (H, T, K) -> (H, S, K)
    if "heads interleaved" in mistakes:
        mixed = mixed.transpose(1, 2, 0)
    elif "merged without transpose" not in mistakes:
        mixed = mixed.transpose(1, 0, 2)
    out = mixed.reshape(length, width)
    if "no out projection" not in mistakes:
        out = _linear(out, weights["out"], mistakes, "no out bias")
    return out, (key, value) if "remembers the last step only" in mistakes else (keys, values)


def _linear(x: Any, layer: Any, mistakes: frozenset[str], unbiased: str) -> Any:
    only = "only the last not transposed" if unbiased == "no out bias" else "only the first three not transposed"
    weight = layer["weight"] if {"weights not transposed", only} & mistakes else layer["weight"].T
    return x @ weight + (0.0 if unbiased in mistakes else layer.get("bias", 0.0))


def _join(cache: Any, key: Any, value: Any, mistakes: frozenset[str]) -> Any:
    if cache is None:
        return key, value
    first = "new ones first" in mistakes
    keys = [key, cache[0]] if first or "keys not remembered in order" in mistakes else [cache[0], key]
    return np.concatenate(keys), np.concatenate([value, cache[1]] if first else [cache[1], value])


def _split(x: Any, heads: int, mistakes: frozenset[str]) -> Any:
    length, width = x.shape
    if "split without transpose" in mistakes:
        return x.reshape(heads, length, width // heads)
    if "heads interleaved" in mistakes:
        return x.reshape(length, width // heads, heads).transpose(2, 0, 1)
    return x.reshape(length, heads, width // heads).transpose(1, 0, 2)  # (H, S, K)


def _mask(length: int, past: int, mistakes: frozenset[str]) -> Any:
    if "no mask" in mistakes:
        return 0.0
    start = past + 1
    if "mask forgets the past" in mistakes:
        start = 1
    elif "sees not itself" in mistakes:
        start = max(past, 1)  # the very first position has to see something
    return np.triu(np.full((length, past + length), -np.inf), start)


# ------------------------------------------------------------------------------------------ what is tried

WIDTH = 8
_PRODUCTS = (np.dot, np.einsum, np.tensordot, np.inner)
_VIEWS = (np.transpose, np.swapaxes, np.moveaxis, np.reshape)


class CountingArray(np.ndarray):
    """A weight (D, D) that counts the positions it is multiplied with, in ``rows``, shared by its views.

    A product with a part of it counts for a part of a position. A copy, or it in a larger array, does not count: what
    is asked of an answer is too little then, never too much.
    """

    rows: list[float]

    def __array_finalize__(self, origin: Any) -> None:
        """Views count in the same place."""
        self.rows = getattr(origin, "rows", [])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """The operation on plain arrays; a matrix product is counted."""
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        if ufunc is np.matmul:
            self.rows.append(result.size / WIDTH)
        return result

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Products with another name are counted too."""
        if function in _VIEWS:
            return super().__array_function__(function, types, arguments, options)
        result = function(*map(_plain, arguments), **options)
        if function in _PRODUCTS:
            self.rows.append(result.size / WIDTH)
        return result


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    return value.view(np.ndarray) if isinstance(value, CountingArray) else value


def _weights(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    weights: Any = {
        name: {"weight": rng.standard_normal((WIDTH, WIDTH)) / 2, "bias": rng.standard_normal(WIDTH)}
        for name in ("query", "key", "value", "out")
    }
    del weights["key"]["bias"]
    for name in ("key", "value"):
        counted = weights[name]["weight"].view(CountingArray)
        counted.rows = []
        weights[name]["weight"] = counted
    return weights


class _Session:
    """Goes through positions with a function, a few at a time, and collects what comes out."""

    def __init__(self, function: Answer, seed: int, heads: int = 2) -> None:
        self.function, self.heads, self.weights = function, heads, _weights(seed)
        self.x = np.random.default_rng(seed + 1).standard_normal((12, WIDTH))
        self.outcome: Results = []

    def go(self, first: int, last: int, cache: Any, name: str = "") -> Any:
        """Positions ``first`` to ``last``; returns the new cache."""
        counters = [self.weights[name]["weight"].rows for name in ("key", "value")]
        for rows in counters:
            rows.clear()
        result = self.function(self.x[first:last].copy(), self.weights, cache, self.heads)
        out, cache = as_pair(result, "out", "cache")
        done, new = max(round(sum(rows)) for rows in counters), last - first
        if done > new:
            raise WrongAnswer(
                f"for {new} new position{'s' * (new > 1)}, keys or values of {done} are computed. Keep the keys and "
                "values themselves in the cache, not what they are computed from."
            )
        where = f"position {first}" if new == 1 else f"positions {first} to {last - 1}"
        self.outcome.append((f"out of {where}{name}", as_real_array(out, "out")))
        return cache


def _chunked(seed: int, *lengths: int, heads: int = 2) -> Any:
    def run(function: Answer) -> Results:
        text, cache, at = _Session(function, seed, heads), None, 0
        for length in lengths:
            cache = text.go(at, at + length, cache)
            at += length
        return text.outcome

    return run


def _branching(function: Answer) -> Results:
    text = _Session(function, 11)
    trunk = text.go(0, 3, None)
    left = text.go(3, 4, trunk)
    right = text.go(5, 7, trunk, " (another way on from the same cache)")
    left = text.go(7, 8, left, " (the first way on again)")
    text.go(8, 9, right, " (the second way on again)")
    text.go(9, 10, left, " (the first way on, for the third time)")
    text.go(0, 2, None, " (a new text)")
    return text.outcome


EXERCISE = Exercise(
    number=3,
    title="The cache",
    section=10,
    function="step",
    task=TASK,
    skeleton=SKELETON,
    solution=solution,
    mistakes=MISTAKES,
    unchanged={
        "cache": (
            "a beam search goes on from one cache in several ways, so an old one has to stay as it was. Return a new "
            "dict or tuple, with arrays from np.concatenate."
        ),
        "weights": "every step uses the same ones.",
    },
    cases=(
        Case(
            "the first position alone",
            _chunked(1, 1),
            "A position alone sees only itself: softmax gives it the weight 1, and out is its value through the out "
            "projection, (x @ value.T + bias) @ out.T + bias.",
        ),
        Case(
            "a prompt of 4 at once",
            _chunked(2, 4),
            "Without a cache this is section 4's attention with a causal mask: np.triu(np.full((S, S), -np.inf), 1).",
        ),
        Case(
            "positions one by one",
            _chunked(3, 1, 1, 1, 1),
            "A new position asks, and all keys and values answer: those in the cache followed by its own.",
        ),
        Case(
            "a prompt of 3, then one by one",
            _chunked(4, 3, 1, 1, 1),
            "After the prompt the cache holds 3 positions, and one more after each step.",
        ),
        Case(
            "several at once after several",
            _chunked(5, 2, 3, 2),
            "New position i sees all of the past and the new ones up to itself: the mask is (S, past + S), with -inf "
            "from diagonal past + 1 on.",
        ),
        Case(
            "4 heads in place of 2",
            _chunked(6, 2, 1, 2, heads=4),
            "The number of heads is an argument; their width is D // heads.",
        ),
        Case(
            "two ways on from one cache",
            _branching,
            "The cache that is given must be all that is remembered, and must stay as it is: nothing in it may be "
            "written over, and nothing kept in a global variable.",
        ),
    ),
)
