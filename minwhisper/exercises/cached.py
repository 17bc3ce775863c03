"""Exercise 6: self-attention with a cache."""

from typing import Any

import numpy as np

from ..common.edits import Edit, Mistake
from ..parity.mistakes import ATTENTION
from .attention import softmax
from .checking import Case, Exercise
from .comparing import Results, WrongAnswer, as_pair, as_real_array
from .guard import Answer
from .real_model import weights

TASK = """\
Write step(x, weights, cache, heads) -> (out, cache): causal self-attention for new positions only, with NumPy.

x (S, D) is the input at S new positions: one while decoding, several for a prompt. out (S, D) is the output of
attention for them. cache is None at first; after that it is the one that the function returned last. Its content is up
to you.
- weights["query"], ["key"], ["value"], ["out"] contain "weight" (D, D), with one row per output as everywhere in the
  package, so that y = x @ weight.T + bias, and "bias" (D,); the key has no bias.
- D is split into `heads` adjacent heads of width K = D / heads; scores are divided by the square root of K.
- A position attends to itself and to everything before it: all of the cache, and the new positions up to itself.
- Keys and values of old positions come from the cache and are not computed again.
- Do not modify the cache that is passed in: a beam search continues from one cache in several ways."""


def step(x: Any, weights: Any, cache: Any, heads: int) -> Any:
    """Attend from new positions to all so far: x (S, D) -> (out (S, D), (keys (T, D), values (T, D)))."""
    query = linear(x, **weights["query"])
    key = linear(x, **weights["key"])
    value = linear(x, **weights["value"])
    past_keys, past_values = cache or (key[:0], value[:0])
    keys = np.concatenate([past_keys, key])  # (T, D), T = past + S
    values = np.concatenate([past_values, value])
    past = len(past_keys)
    mask = np.triu(np.full((len(x), past + len(x)), -np.inf), k=past + 1)  # (S, T)
    q, k, v = (split_heads(array, heads) for array in (query, keys, values))
    scores = q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5 + mask  # (H, S, K) @ (H, K, T) -> (H, S, T)
    mixed = merge_heads(softmax(scores) @ v)  # (H, S, T) @ (H, T, K) -> (H, S, K) -> (S, D)
    out = linear(mixed, **weights["out"])
    return out, (keys, values)


def linear(x: Any, weight: Any, bias: Any = 0.0) -> Any:
    """Apply an affine map: x (S, D), weight (D, D) with one row per output, bias (D,) -> (S, D)."""
    return x @ weight.T + bias


def linear_without_transpose(x: Any, weight: Any, bias: Any = 0.0) -> Any:
    """Multiply by a weight as it is, as two of the mistakes do."""
    return x @ weight + bias


def split_heads(x: Any, heads: int) -> Any:
    """Split the width into heads: (S, D) -> (H, S, K)."""
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def merge_heads(x: Any) -> Any:
    """Put the heads side by side again: (H, S, K) -> (S, D)."""
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


MISTAKES = {
    "weights not transposed": Mistake(
        "The products are x @ weight. A weight has one row per output: use x @ weight.T.",
        (Edit("weight.T", "weight", linear),),
    ),
    "only the first three not transposed": Mistake(
        "The products for query, key and value are x @ weight. A weight has one row per output: use x @ weight.T.",
        (
            Edit("query = linear", "query = linear_without_transpose"),
            Edit("key = linear", "key = linear_without_transpose"),
            Edit("value = linear", "value = linear_without_transpose"),
        ),
    ),
    "only the last not transposed": Mistake(
        "The product of the out projection is x @ weight. The weight has one row per output: use x @ weight.T.",
        (Edit("out = linear", "out = linear_without_transpose"),),
    ),
    "no query bias": Mistake(
        "The bias of the query is missing.", (Edit('**weights["query"]', 'weights["query"]["weight"]'),)
    ),
    "no value bias": Mistake(
        "The bias of the value is missing.", (Edit('**weights["value"]', 'weights["value"]["weight"]'),)
    ),
    "no out bias": Mistake(
        "The bias of the out projection is missing.", (Edit('**weights["out"]', 'weights["out"]["weight"]'),)
    ),
    "no out projection": Mistake(
        "The out projection is missing: the product with weights['out'], which mixes the heads.",
        (Edit('linear(mixed, **weights["out"])', "mixed"),),
    ),
    "not scaled": Mistake(
        "The scores are not divided by the square root of K, the width of a head.", (Edit(" / q.shape[-1] ** 0.5", ""),)
    ),
    "scaled by D": Mistake(
        "The scores are divided by the square root of D. Use K, the width of one head: D / heads.",
        (Edit("q.shape[-1]", "x.shape[-1]"),),
    ),
    "heads not split": Mistake(
        "There is one head of width D. Split the width into heads, each with its own softmax.",
        (Edit("query = ", "heads = 1\n    query = "),),
    ),
    "heads interleaved": Mistake(
        "The heads are interleaved columns. A head consists of K adjacent columns: "
        "reshape(S, heads, K), then transpose(1, 0, 2).",
        (
            Edit(
                "x.reshape(len(x), heads, -1).transpose(1, 0, 2)",
                "x.reshape(len(x), -1, heads).transpose(2, 0, 1)",
                split_heads,
            ),
            Edit("x.transpose(1, 0, 2)", "x.transpose(1, 2, 0)", merge_heads),
        ),
    ),
    "split without transpose": Mistake(
        "reshape(heads, S, K) mixes positions with heads, since it goes through the array row by row. First "
        "reshape(S, heads, K), then transpose(1, 0, 2).",
        (Edit("x.reshape(len(x), heads, -1).transpose(1, 0, 2)", "x.reshape(heads, len(x), -1)", split_heads),),
    ),
    "merged without transpose": Mistake(
        "The heads are merged by reshape alone, which mixes positions with heads. First transpose (H, S, K) to "
        "(S, H, K), then reshape(S, D).",
        (Edit("x.transpose(1, 0, 2)", "x", merge_heads),),
    ),
    "no mask": Mistake(
        "Each of several new positions attends to later ones, too. They need a causal mask among themselves.",
        (Edit(" + mask", ""),),
    ),
    "does not attend to itself": Mistake(
        "A position does not attend to itself: either its key and value are appended after its query is used, or the "
        "mask starts one position too early.",
        (Edit("k=past + 1", "k=max(past, 1)"),),
    ),
    "mask on the diagonal": Mistake(
        ATTENTION["causal mask on the diagonal"].hint,
        (
            Edit(
                "np.triu(np.full((len(x), past + len(x)), -np.inf), k=past + 1)",
                "np.where(np.arange(past + len(x)) < np.maximum(past + np.arange(len(x))[:, None], 1), 0, -np.inf)",
            ),
        ),
    ),
    "mask forgets the past": Mistake(
        "With positions in the cache the mask starts too early. New position i attends to the whole past and to the "
        "new positions up to i: np.triu(…, k=past + 1) of (S, past + S).",
        (Edit("k=past + 1", "k=1"),),
    ),
    "new positions only": Mistake(
        "The cache is not used: new positions attend only to each other.",
        (Edit("(query, keys, values)", "(query, key, value)"), Edit("past = len(past_keys)", "past = 0")),
    ),
    "caches the last step only": Mistake(
        "The new cache contains only the newest positions. It needs all: those of the old cache, then the new ones.",
        (Edit("(keys, values)\n", "(key, value)\n"),),
    ),
    "new ones first": Mistake(
        "The new keys and values come before the old ones. The order does not matter for single positions, but it does "
        "for a mask. Put the old ones first: np.concatenate([old, new]).",
        (Edit("[past_keys, key]", "[key, past_keys]"), Edit("[past_values, value]", "[value, past_values]")),
    ),
    "keys cached in another order": Mistake(
        "New values are appended after the old ones, but new keys before them.",
        (Edit("[past_keys, key]", "[key, past_keys]"),),
    ),
}


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


def _real(function: Answer) -> Results:
    block = weights()["decoder"]["blocks"][0]["attention"]
    x, cache, outcome = weights()["decoder"]["positions"][:4], None, []
    for first, last in ((0, 2), (2, 3), (3, 4)):
        out, cache = as_pair(function(x[first:last].copy(), block, cache, 6), "out", "cache")
        outcome.append((f"out of positions {first} to {last - 1}", as_real_array(out, "out")))
    return outcome


EXERCISE = Exercise(
    number=6,
    title="The cache",
    section=10,
    task=TASK,
    solutions=(step,),
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
        Case(
            "Whisper's own weights, in the decoder's first block",
            _real,
            "All other cases pass: is something done for small arrays only?",
            real=True,
        ),
    ),
)
