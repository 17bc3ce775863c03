"""Exercise 5: attention."""

from typing import Any

import numpy as np

from ..common.edits import Edit, Mistake
from .checking import Case, Exercise
from .comparing import Results, as_real_array
from .guard import Answer
from .real_model import weights

TASK = """\
Write attention(queries, keys, values, mask): scaled dot-product attention, with nothing but NumPy.

queries (H, S, K), keys (H, T, K) and values (H, T, K) belong to H heads of width K, which are independent of each
other. The result is (H, S, K). In each head:
- The score of a query and a key is their dot product, divided by the square root of K.
- mask (S, T) is None or is added to the scores of every head: 0 allows a query to attend to a key, -inf forbids it, and
  some masks contain other values.
- softmax over all T keys turns the scores of one query into positive weights that sum to 1.
- The result is the sum over T of the values, each multiplied by its weight.
Scores can be large: np.exp(1000) is inf. Do not modify the arguments."""


def attention(queries: Any, keys: Any, values: Any, mask: Any) -> Any:
    """Mix the values by attention: queries (H, S, K), keys and values (H, T, K), mask (S, T) or None -> (H, S, K)."""
    scale = queries.shape[-1] ** -0.5
    scores = queries @ keys.transpose(0, 2, 1) * scale  # (H, S, K) @ (H, K, T) -> (H, S, T)
    if mask is not None:
        scores = scores + mask
    weights = softmax(scores)
    return weights @ values  # (H, S, T) @ (H, T, K) -> (H, S, K)


def softmax(scores: Any, axis: Any = -1) -> Any:
    """Turn the scores of each query into positive weights that sum to 1: (…, T) -> (…, T)."""
    e = np.exp(scores - scores.max(axis=axis, keepdims=True))  # the maximum cancels, and exp cannot overflow
    return e / e.sum(axis=axis, keepdims=True)


MISTAKES = {
    "not scaled": Mistake(
        "The scores are not divided by the square root of K: softmax becomes too sharp.", (Edit(" * scale", ""),)
    ),
    "divided by K": Mistake(
        "The scores are divided by K. Divide by its square root: queries.shape[-1] ** 0.5.", (Edit("** -0.5", "** -1"),)
    ),
    "multiplied by √K": Mistake(
        "The scores are multiplied by the square root of K. Divide by it.", (Edit("** -0.5", "** 0.5"),)
    ),
    "scaled by all heads": Mistake(
        "The scores are divided by √(H · K). Use √K: K is the width of one head, queries.shape[-1].",
        (Edit("queries.shape[-1]", "(queries.shape[0] * queries.shape[-1])"),),
    ),
    "scaled by T": Mistake(
        "The scores are divided by the square root of T, the number of keys. Use K, the width of a head.",
        (Edit("queries.shape[-1]", "keys.shape[1]"),),
    ),
    "scaled after softmax": Mistake(
        "The scaling comes after softmax, which only makes the result smaller. Scale the scores.",
        (Edit(" * scale", ""), Edit("softmax(scores)", "softmax(scores) * scale")),
    ),
    "softmax over queries": Mistake(
        "softmax is over the queries: the weights of one key sum to 1. Take it over the keys, the last axis, so that "
        "the weights of one query sum to 1.",
        (Edit("softmax(scores)", "softmax(scores, axis=-2)"),),
    ),
    "softmax over heads": Mistake(
        "softmax is over the heads. Take it over the keys, the last axis of the scores.",
        (Edit("softmax(scores)", "softmax(scores, axis=0)"),),
    ),
    "softmax over everything": Mistake(
        "softmax is over the whole array. The weights of each query have to sum to 1: use axis=-1 for the maximum and "
        "for the sum, with keepdims=True.",
        (Edit("softmax(scores)", "softmax(scores, axis=None)"),),
    ),
    "softmax over a head": Mistake(
        "softmax is over all scores of a head at once. The weights of each query have to sum to 1: use axis=-1 for the "
        "maximum and for the sum, with keepdims=True.",
        (Edit("softmax(scores)", "softmax(scores, axis=(-2, -1))"),),
    ),
    "divided by the sum of all": Mistake(
        "exp is divided by the sum of the whole array. Divide by the sum for each query: sum(axis=-1, keepdims=True).",
        (Edit("e.sum(axis=axis", "e.sum(axis=None", softmax),),
    ),
    "divided by a head's sum": Mistake(
        "exp is divided by one sum per head. Divide by the sum for each query: sum(axis=-1, keepdims=True).",
        (Edit("e.sum(axis=axis", "e.sum(axis=(-2, -1)", softmax),),
    ),
    "no softmax": Mistake(
        "softmax is missing: the scores themselves are used as weights.",
        (Edit("return e / e.sum(axis=axis, keepdims=True)", "return scores", softmax),),
    ),
    "not divided by the sum": Mistake(
        "exp alone is not softmax: divide it by its sum over the keys.",
        (
            Edit(" - scores.max(axis=axis, keepdims=True)", "", softmax),
            Edit(" / e.sum(axis=axis, keepdims=True)", "", softmax),
        ),
    ),
    "maximum not subtracted": Mistake(
        "exp overflows: inf / inf is NaN. Subtract the maximum over the keys before exp. The result is the same, since "
        "the factor cancels.",
        (Edit(" - scores.max(axis=axis, keepdims=True)", "", softmax),),
    ),
    "one maximum for all": Mistake(
        "One maximum is subtracted from all scores. For a query with scores far below it, exp is 0 everywhere, and "
        "0 / 0 is NaN. Subtract the maximum for each query: max(axis=-1, keepdims=True).",
        (Edit("scores.max(axis=axis", "scores.max(axis=None", softmax),),
    ),
    "one maximum for a head": Mistake(
        "One maximum is subtracted from all scores of a head. For a query with scores far below it, exp is 0 "
        "everywhere, and 0 / 0 is NaN. Subtract the maximum for each query: max(axis=-1, keepdims=True).",
        (Edit("scores.max(axis=axis", "scores.max(axis=(-2, -1)", softmax),),
    ),
    "heads together": Mistake(
        "The scores are summed over the heads. Keep them separate: (H, S, T).",
        (Edit("if mask", "scores[:] = scores.sum(axis=0)\n    if mask"),),
    ),
    "mask forgotten": Mistake(
        "The mask is not used: queries attend to forbidden keys.", (Edit("scores + mask", "scores"),)
    ),
    "mask multiplied": Mistake(
        "The scores are multiplied by the mask. Add it: 0 keeps a score, -inf forbids the key.",
        (Edit("scores + mask", "scores * mask"),),
    ),
    "mask after softmax": Mistake(
        "The mask is added after softmax. Add it to the scores before: exp(-inf) is 0.",
        (
            Edit("scores + mask", "scores"),
            Edit("return", "weights = weights if mask is None else weights + mask\n    return"),
        ),
    ),
    "mask before scaling": Mistake(
        "The mask is scaled together with the scores. Divide by √K first, then add the mask.",
        (Edit(" * scale", ""), Edit("softmax(scores", "softmax(scores * scale")),
    ),
    "mask as a switch": Mistake(
        "Every value other than 0 in the mask forbids a key here. Add the mask: some values are neither 0 nor -inf.",
        (Edit("scores + mask", "np.where(mask != 0, -np.inf, scores)"),),
    ),
    "mask subtracted": Mistake("The mask is subtracted. Add it.", (Edit("scores + mask", "scores - mask"),)),
    "heads summed": Mistake(
        "The heads are summed at the end. Keep them separate: (H, S, K).",
        (Edit("weights @ values", "(weights @ values).sum(axis=0)"),),
    ),
    "keys for values": Mistake(
        "The weighted sum is over the keys. Sum the values: the keys only determine the weights.",
        (Edit("@ values", "@ keys"),),
    ),
}


def _attend(seed: int, heads: int, length: int, count: int, width: int, mask: Any = None, size: Any = 1.0) -> Any:
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((heads, length, width)) * size
    keys, values = rng.standard_normal((2, heads, count, width))

    def run(function: Answer) -> Results:
        given = None if mask is None else mask.copy()
        return [("the result", as_real_array(function(queries.copy(), keys.copy(), values.copy(), given)))]

    return run


def _real(attention: Answer) -> Results:
    block = weights()["encoder"]["blocks"][0]
    x = weights()["encoder"]["positions"][:40]
    rows = [
        (x @ block["attention"][name]["weight"].T).reshape(40, 6, 64).transpose(1, 0, 2)
        for name in ("query", "key", "value")
    ]
    return [("the result", as_real_array(attention(*rows, None)))]


def _causal(length: int, count: int) -> Any:
    return np.triu(np.full((length, count), -np.inf), count - length + 1)


EXERCISE = Exercise(
    number=5,
    title="Attention",
    section=4,
    task=TASK,
    solutions=(attention,),
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
            "Subtract the maximum of each query's scores before exp: then the argument of exp is never above 0.",
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
        Case(
            "Whisper's own weights, in the encoder's first block",
            _real,
            "All other cases pass: is something done for small arrays only?",
            real=True,
        ),
    ),
)
