"""Exercise 3: self-attention with a cache."""

from typing import Any

import numpy as np

from .checking import NO_MISTAKES, Answer, Case, Exercise, Results, WrongAnswer, as_pair, as_real_array

TASK = """\
Write step(x, weights, cache, heads) -> (out, cache): causal self-attention for new positions only, with NumPy.

x (S, D) is the input at S new positions: one while decoding, several for a prompt. out (S, D) is the output of
attention for them. cache is None at first; after that it is what the function returned before. Its content is up to
you.
- weights["query"], ["key"], ["value"], ["out"] contain "weight" (D, D), with one row per output as everywhere in the
  package, so that y = x @ weight.T + bias, and "bias" (D,); the key has no bias.
- D is split into `heads` adjacent heads of width K = D / heads; scores are divided by the square root of K.
- A position attends to itself and to everything before it: all of the cache, and the new positions up to itself.
- Keys and values of old positions come from the cache and are not computed again.
- Do not modify the cache that is passed in: a beam search continues from one cache in several ways."""

SKELETON = '''\
import numpy as np


def step(x, weights, cache, heads):
    """New positions x (S, D), and the cache of those before them or None -> (out (S, D), new cache)."""
    out = ...
    return out, cache
'''

MISTAKES = {
    "weights not transposed": "The products are x @ weight. A weight has one row per output: use x @ weight.T.",
    "only the first three not transposed": (
        "The products for query, key and value are x @ weight. A weight has one row per output: use x @ weight.T."
    ),
    "only the last not transposed": (
        "The product of the out projection is x @ weight. The weight has one row per output: use x @ weight.T."
    ),
    "no query bias": "The bias of the query is missing.",
    "no value bias": "The bias of the value is missing.",
    "no out bias": "The bias of the out projection is missing.",
    "no out projection": "The out projection is missing: the product with weights['out'], which mixes the heads.",
    "not scaled": "The scores are not divided by the square root of K, the width of a head.",
    "scaled by D": "The scores are divided by the square root of D. Use K, the width of one head: D / heads.",
    "heads not split": "There is one head of width D. Split the width into heads, each with its own softmax.",
    "heads interleaved": (
        "The heads are interleaved columns. A head consists of K adjacent columns: "
        "reshape(S, heads, K), then transpose(1, 0, 2)."
    ),
    "split without transpose": (
        "reshape(heads, S, K) mixes positions with heads, since it goes through the array row by row. First "
        "reshape(S, heads, K), then transpose(1, 0, 2)."
    ),
    "merged without transpose": (
        "The heads are merged by reshape alone, which mixes positions with heads. First transpose (H, S, K) to "
        "(S, H, K), then reshape(S, D)."
    ),
    "no mask": "Each of several new positions attends to later ones, too. They need a causal mask among themselves.",
    "does not attend to itself": (
        "A position does not attend to itself: either its key and value are appended after its query is used, or the "
        "mask starts one position too early."
    ),
    "mask forgets the past": (
        "With positions in the cache the mask starts too early. New position i attends to the whole past and to the "
        "new positions up to i: np.triu(…, k=past + 1) of (S, past + S)."
    ),
    "new positions only": "The cache is not used: new positions attend only to each other.",
    "caches the last step only": (
        "The new cache contains only the newest positions. It needs all: those of the old cache, then the new ones."
    ),
    "new ones first": (
        "The new keys and values come before the old ones. The order does not matter for single positions, but it does "
        "for a mask. Put the old ones first: np.concatenate([old, new])."
    ),
    "keys cached in another order": "New values are appended after the old ones, but new keys before them.",
}


def solution(x: Any, weights: Any, cache: Any, heads: int, mistakes: frozenset[str] = NO_MISTAKES) -> Any:
    """One step with these mistakes: x (S, D) -> (out (S, D), (keys (T, D), values (T, D)))."""
    if "heads not split" in mistakes:
        heads = 1
    length, width = x.shape
    query = _linear(x, weights["query"], mistakes, "no query bias")
    key, value = (
        _linear(x, weights["key"], mistakes, ""),
        _linear(x, weights["value"], mistakes, "no value bias"),
    )
    keys, values = _join(cache, key, value, mistakes)  # (T, D)
    all_keys, all_values = keys, values
    if "new positions only" in mistakes:
        all_keys, all_values = key, value
    past = len(all_keys) - length
    split = [_split(array, heads, mistakes) for array in (query, all_keys, all_values)]
    scale = 1.0 if "not scaled" in mistakes else (width if "scaled by D" in mistakes else width // heads) ** -0.5
    scores = split[0] @ split[1].transpose(0, 2, 1) * scale + _mask(length, past, mistakes)  # (H, S, T)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    averaged = e / e.sum(axis=-1, keepdims=True) @ split[2]  # (H, S, T) (H, T, K) -> (H, S, K)
    if "heads interleaved" in mistakes:
        averaged = averaged.transpose(1, 2, 0)
    elif "merged without transpose" not in mistakes:
        averaged = averaged.transpose(1, 0, 2)
    out = averaged.reshape(length, width)
    if "no out projection" not in mistakes:
        out = _linear(out, weights["out"], mistakes, "no out bias")
    return out, (key, value) if "caches the last step only" in mistakes else (keys, values)


def _linear(x: Any, layer: Any, mistakes: frozenset[str], unbiased: str) -> Any:
    only = "only the last not transposed" if unbiased == "no out bias" else "only the first three not transposed"
    weight = layer["weight"] if {"weights not transposed", only} & mistakes else layer["weight"].T
    return x @ weight + (0.0 if unbiased in mistakes else layer.get("bias", 0.0))


def _join(cache: Any, key: Any, value: Any, mistakes: frozenset[str]) -> Any:
    if cache is None:
        return key, value
    first = "new ones first" in mistakes
    keys = [key, cache[0]] if first or "keys cached in another order" in mistakes else [cache[0], key]
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
    elif "does not attend to itself" in mistakes:
        start = max(past, 1)  # the very first position has to attend to something
    return np.triu(np.full((length, past + length), -np.inf), start)


# ------------------------------------------------------------------------------------------ test cases

WIDTH = 8
_PRODUCTS = (np.dot, np.einsum, np.tensordot, np.inner)
_VIEWS = (np.transpose, np.swapaxes, np.moveaxis, np.reshape)


class CountingArray(np.ndarray):
    """A weight (D, D) that counts the positions it is multiplied with, in ``rows``, which its views share.

    A product with a part of the weight counts as a part of a position. Copies and larger arrays that contain it are not
    counted, so the check may be too lenient, but never too strict.
    """

    rows: list[float]

    def __array_finalize__(self, origin: Any) -> None:
        """Share the counter with views."""
        self.rows = getattr(origin, "rows", [])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply the operation to plain arrays, and count matrix products."""
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        if ufunc is np.matmul:
            self.rows.append(result.size / WIDTH)
        return result

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Count products made by other functions, too."""
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
    """A text that is passed to the function a few positions at a time; it collects the results."""

    def __init__(self, function: Answer, seed: int, heads: int = 2) -> None:
        self.function, self.heads, self.weights = function, heads, _weights(seed)
        self.x = np.random.default_rng(seed + 1).standard_normal((12, WIDTH))
        self.outcome: Results = []

    def feed(self, first: int, last: int, cache: Any, name: str = "") -> Any:
        """Pass positions ``first`` to ``last`` (exclusive) and return the new cache."""
        counters = [self.weights[name]["weight"].rows for name in ("key", "value")]
        for rows in counters:
            rows.clear()
        result = self.function(self.x[first:last].copy(), self.weights, cache, self.heads)
        out, cache = as_pair(result, "out", "cache")
        computed, new = max(round(sum(rows)) for rows in counters), last - first
        if computed > new:
            raise WrongAnswer(
                f"for {new} new position{'s' * (new > 1)}, keys or values of {computed} are computed. Store keys and "
                "values themselves in the cache, not their inputs."
            )
        where = f"position {first}" if new == 1 else f"positions {first} to {last - 1}"
        self.outcome.append((f"out of {where}{name}", as_real_array(out, "out")))
        return cache


def _chunked(seed: int, *lengths: int, heads: int = 2) -> Any:
    def run(function: Answer) -> Results:
        text, cache, at = _Session(function, seed, heads), None, 0
        for length in lengths:
            cache = text.feed(at, at + length, cache)
            at += length
        return text.outcome

    return run


def _branches(function: Answer) -> Results:
    text = _Session(function, 11)
    shared = text.feed(0, 3, None)
    left = text.feed(3, 4, shared)
    right = text.feed(5, 7, shared, " (second branch from the same cache)")
    left = text.feed(7, 8, left, " (first branch, continued)")
    text.feed(8, 9, right, " (second branch, continued)")
    text.feed(9, 10, left, " (first branch, continued again)")
    text.feed(0, 2, None, " (a new text)")
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
            "a beam search continues from one cache in several ways, so an old cache must stay valid. Return a new "
            "dict or tuple, with arrays from np.concatenate."
        ),
        "weights": "every step uses them.",
    },
    cases=(
        Case(
            "the first position alone",
            _chunked(1, 1),
            "A single position attends only to itself, with weight 1, so that out is its value after the out "
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
            "A new position attends to all keys and values: those in the cache, followed by its own.",
        ),
        Case(
            "a prompt of 3, then one by one",
            _chunked(4, 3, 1, 1, 1),
            "After the prompt the cache contains 3 positions, and one more after each step.",
        ),
        Case(
            "several at once after several",
            _chunked(5, 2, 3, 2),
            "New position i attends to the whole past and to the new ones up to i: the mask is (S, past + S), with "
            "-inf from diagonal past + 1 on.",
        ),
        Case(
            "4 heads instead of 2",
            _chunked(6, 2, 1, 2, heads=4),
            "The number of heads is an argument; their width is D // heads.",
        ),
        Case(
            "two branches from one cache",
            _branches,
            "The cache must contain everything that the next step needs, and must not be modified: do not overwrite "
            "its arrays, and keep nothing in a global variable.",
        ),
    ),
)
