"""Exercise 2: attention."""

from typing import Any

import numpy as np

from .checking import NO_MISTAKES, Answer, Case, Exercise, Results, as_real_array

TASK = """\
Write attention(queries, keys, values, mask): scaled dot-product attention, with nothing but NumPy.

queries (H, S, K), keys (H, T, K) and values (H, T, K) belong to H heads of width K, which are independent of each
other. The result is (H, S, K). In each head:
- The score of a query and a key is their dot product, divided by the square root of K.
- mask (S, T) is None or is added to the scores of every head: 0 allows a query to attend to a key, -inf forbids it, and
  some masks contain other values.
- softmax over all T keys turns the scores of one query into positive weights that sum to 1.
- The result is the sum of the values over T, multiplied by these weights.
Scores can be large: np.exp(1000) is inf. Do not modify the arguments."""

SKELETON = '''\
import numpy as np


def attention(queries, keys, values, mask):
    """queries (H, S, K), keys and values (H, T, K), mask (S, T) or None -> (H, S, K)."""
    ...
'''

MISTAKES = {
    "not scaled": "The scores are not divided by the square root of K: softmax becomes too sharp.",
    "divided by K": "The scores are divided by K. Divide by its square root: queries.shape[-1] ** 0.5.",
    "multiplied by √K": "The scores are multiplied by the square root of K. Divide by it.",
    "scaled by all heads": "The scores are divided by √(H · K). Use √K: K is the width of one head, queries.shape[-1].",
    "scaled by T": "The scores are divided by the square root of T, the number of keys. Use K, the width of a head.",
    "scaled after softmax": "The scaling comes after softmax, which only makes the result smaller. Scale the scores.",
    "softmax over queries": (
        "softmax is over the queries: the weights of one key sum to 1. Take it over the keys, the last axis, so that "
        "the weights of one query sum to 1."
    ),
    "softmax over heads": "softmax is over the heads. Take it over the keys, the last axis of the scores.",
    "softmax over everything": (
        "softmax is over the whole array. The weights of each query have to sum to 1: use axis=-1 for the maximum and "
        "for the sum, with keepdims=True."
    ),
    "softmax over a head": (
        "softmax is over all scores of a head at once. The weights of each query have to sum to 1: use axis=-1 for the "
        "maximum and for the sum, with keepdims=True."
    ),
    "divided by the sum of all": (
        "exp is divided by the sum of the whole array. Divide by the sum for each query: sum(axis=-1, keepdims=True)."
    ),
    "divided by a head's sum": (
        "exp is divided by one sum per head. Divide by the sum for each query: sum(axis=-1, keepdims=True)."
    ),
    "no softmax": "softmax is missing: the scores themselves are used as weights.",
    "not divided by the sum": "exp alone is not softmax: divide it by its sum over the keys.",
    "maximum not subtracted": (
        "exp overflows: inf / inf is NaN. Subtract the maximum over the keys before exp. The result is the same, since "
        "the factor cancels."
    ),
    "one maximum for all": (
        "One maximum is subtracted from all scores. For a query with scores far below it, exp is 0 everywhere, and "
        "0 / 0 is NaN. Subtract the maximum for each query: max(axis=-1, keepdims=True)."
    ),
    "one maximum for a head": (
        "One maximum is subtracted from all scores of a head. For a query with scores far below it, exp is 0 "
        "everywhere, and 0 / 0 is NaN. Subtract the maximum for each query: max(axis=-1, keepdims=True)."
    ),
    "mask forgotten": "The mask is not used: queries attend to forbidden keys.",
    "mask multiplied": "The scores are multiplied by the mask. Add it: 0 keeps a score, -inf forbids the key.",
    "mask after softmax": "The mask is added after softmax. Add it to the scores before: exp(-inf) is 0.",
    "mask before scaling": "The mask is scaled together with the scores. Divide by √K first, then add the mask.",
    "mask as a switch": (
        "Every value other than 0 in the mask forbids a key here. Add the mask: some values are neither 0 nor -inf."
    ),
    "mask subtracted": "The mask is subtracted. Add it.",
    "keys for values": "The weighted sum is over the keys. Sum the values: the keys only determine the weights.",
    "heads together": "The scores are summed over the heads. Keep them separate: (H, S, T).",
    "heads summed": "The heads are summed at the end. Keep them separate: (H, S, K).",
}


def solution(queries: Any, keys: Any, values: Any, mask: Any, mistakes: frozenset[str] = NO_MISTAKES) -> Any:
    """Attention with these mistakes: queries (H, S, K), keys and values (H, T, K), mask (S, T) or None -> (H, S, K)."""
    heads, _, width = queries.shape
    scores = queries @ keys.transpose(0, 2, 1)  # (H, S, K) (H, K, T) -> (H, S, T)
    if "heads together" in mistakes:
        scores = np.repeat(scores.sum(axis=0, keepdims=True), heads, axis=0)
    scale = _scale(width, heads, keys.shape[1], mistakes)
    after = "scaled after softmax" in mistakes
    if "mask before scaling" in mistakes and not after:
        scores = _masked(scores, mask, mistakes) * scale
    else:
        scores = _masked(scores * (1.0 if after else scale), mask, mistakes)
    weights = _softmax(scores, mistakes) * (scale if after else 1.0)
    if "mask after softmax" in mistakes and mask is not None:
        weights = weights + mask
    mixed = weights @ (keys if "keys for values" in mistakes else values)  # (H, S, T) (H, T, K) -> (H, S, K)
    return mixed.sum(axis=0) if "heads summed" in mistakes else mixed


def _scale(width: int, heads: int, count: int, mistakes: frozenset[str]) -> float:
    scales = {
        "not scaled": 1.0,
        "divided by K": 1 / width,
        "multiplied by √K": width**0.5,
        "scaled by all heads": (width * heads) ** -0.5,
        "scaled by T": count**-0.5,
    }
    return next((scales[name] for name in scales if name in mistakes), width**-0.5)


def _masked(scores: Any, mask: Any, mistakes: frozenset[str]) -> Any:
    if mask is None or {"mask forgotten", "mask after softmax"} & mistakes:
        return scores
    if "mask multiplied" in mistakes:
        return scores * mask
    if "mask subtracted" in mistakes:
        return scores - mask
    if "mask as a switch" in mistakes:
        return np.where(mask != 0, -np.inf, scores)
    return scores + mask


def _softmax(scores: Any, mistakes: frozenset[str]) -> Any:
    if "no softmax" in mistakes:
        return scores
    axes: dict[str, Any] = {
        "softmax over queries": -2,
        "softmax over heads": 0,
        "softmax over everything": None,
        "softmax over a head": (-2, -1),
    }
    axis = next((axes[name] for name in axes if name in mistakes), -1)
    tops: dict[str, Any] = {"one maximum for all": None, "one maximum for a head": (-2, -1)}
    top = scores.max(axis=next((tops[name] for name in tops if name in mistakes), axis), keepdims=True)
    e = np.exp(scores - (0.0 if {"maximum not subtracted", "not divided by the sum"} & mistakes else top))
    if "not divided by the sum" in mistakes:
        return e
    sums: dict[str, Any] = {"divided by the sum of all": None, "divided by a head's sum": (-2, -1)}
    return e / e.sum(axis=next((sums[name] for name in sums if name in mistakes), axis), keepdims=True)


def _attend(seed: int, heads: int, length: int, count: int, width: int, mask: Any = None, size: Any = 1.0) -> Any:
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((heads, length, width)) * size
    keys, values = rng.standard_normal((2, heads, count, width))

    def run(function: Answer) -> Results:
        given = None if mask is None else mask.copy()
        return [("the result", as_real_array(function(queries.copy(), keys.copy(), values.copy(), given)))]

    return run


def _causal(length: int, count: int) -> Any:
    return np.triu(np.full((length, count), -np.inf), count - length + 1)


EXERCISE = Exercise(
    number=2,
    title="Attention",
    section=4,
    function="attention",
    task=TASK,
    skeleton=SKELETON,
    solution=solution,
    mistakes=MISTAKES,
    tolerance=1e-3,
    unchanged={
        "queries": "other code may need them. `queries /= 8` works in place; `queries = queries / 8` does not.",
        "mask": "the next layer needs it. Write `scores = scores + mask`, not `mask += scores`.",
    },
    cases=(
        Case(
            "3 queries and 5 keys in 2 heads, no mask",
            _attend(1, 2, 3, 5, 4),
            "The scores are queries @ keys.transpose(0, 2, 1) / √K, (H, S, T). softmax is over their last axis, and "
            "the result is softmax(scores) @ values.",
        ),
        Case(
            "a causal mask, 0 and -inf",
            _attend(2, 2, 3, 5, 4, _causal(3, 5)),
            "Add the mask (3, 5) to the scores of every head, before softmax.",
        ),
        Case(
            "a mask with values other than 0 and -inf",
            _attend(3, 3, 4, 4, 6, np.random.default_rng(4).standard_normal((4, 4))),
            "Add the mask to the scores after the division by √K and before softmax.",
        ),
        Case(
            "scores around 2,000",
            _attend(5, 2, 3, 5, 4, size=2000.0),
            "Subtract the maximum of each query's scores before exp: the argument of exp is never above 0 then.",
        ),
        Case(
            "large and small scores together",
            _attend(6, 2, 3, 5, 4, _causal(3, 5), size=np.array([[[1.0], [3000.0], [0.1]]])),
            "Subtract the maximum for each query before exp, not one maximum for all.",
        ),
        Case(
            "one query and one key",
            _attend(7, 1, 1, 1, 2, np.zeros((1, 1))),
            "With one key, its weight is 1 and the result is its value. Check that no axis of length 1 is dropped.",
        ),
    ),
)
