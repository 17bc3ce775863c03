"""Exercise 1: softmax and log-softmax."""

from typing import Any

import numpy as np

from ..common.edits import Edit, Mistake
from .checking import Case, Exercise
from .comparing import Results, as_real_array
from .guard import Answer
from .real_model import clip_logits

TASK = """\
Write softmax(x) and log_softmax(x): x (…, T), any number of axes -> an array of the same shape.

- softmax turns each row, the values along the last axis, into positive weights that sum to 1: exp(x) / sum(exp(x)).
- log_softmax is its logarithm: log(exp(x) / sum(exp(x))).
- Values can be large, and exp(1000) is inf. A value of -inf has the weight 0, whose logarithm is -inf.
- log_softmax is exact even where softmax is so small that it rounds to 0.
- Do not modify the argument."""


def softmax(x: Any) -> Any:
    """Turn the values along the last axis into positive weights that sum to 1: (…, T) -> (…, T)."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))  # the maximum cancels, and exp cannot overflow
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x: Any) -> Any:
    """Return the logarithm of softmax, exact even where softmax rounds to 0: (…, T) -> (…, T)."""
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


_MAX, _SUM = "x.max(axis=-1, keepdims=True)", "e.sum(axis=-1, keepdims=True)"
_LOG_SUM = "np.log(np.exp(shifted).sum(axis=-1, keepdims=True))"


def _log(old: str, new: str) -> tuple[Edit, ...]:
    return (Edit(old, new, log_softmax),)


MISTAKES = {
    "softmax unchanged": Mistake(
        "softmax returns its argument as it is. Take exp, and divide each row by its sum.",
        (Edit(f"e / {_SUM}", "x"),),
    ),
    "log-softmax unchanged": Mistake(
        "log_softmax returns its argument as it is. Subtract the logarithm of the sum of exp.",
        _log(f"shifted - {_LOG_SUM}", "x"),
    ),
    "not divided": Mistake(
        "softmax is exp alone. Divide it by its sum over the last axis, so that each row sums to 1.",
        (Edit(f"np.exp(x - {_MAX})", "np.exp(x)"), Edit(f" / {_SUM}", "")),
    ),
    "maximum for the sum": Mistake(
        "softmax is exp(x - max), which is exp(x) divided by its maximum. Divide by the sum.", (Edit(f" / {_SUM}", ""),)
    ),
    "no exp": Mistake(
        "The values are divided by their sum without exp: weights can be negative. Take exp first.",
        (Edit(f"np.exp(x - {_MAX})", "x"),),
    ),
    "exp of -x": Mistake(
        "exp is taken of -x, so the smallest value gets the largest weight. Take exp(x - max).",
        (Edit(f"x - {_MAX}", "x.min(axis=-1, keepdims=True) - x"),),
    ),
    "powers of 2": Mistake(
        "The weights are powers of 2. softmax has powers of e: np.exp.", (Edit("np.exp(", "np.exp2("),)
    ),
    "over the first axis": Mistake(
        "softmax is over the first axis: columns sum to 1. Take maximum and sum over the last, axis=-1.",
        (Edit(_MAX, "x.max(axis=0, keepdims=True)"), Edit(_SUM, "e.sum(axis=0, keepdims=True)")),
    ),
    "over axis 1": Mistake(
        "softmax is over axis 1. In an array with three axes this is not the last one: use axis=-1.",
        (Edit(_MAX, "x.max(axis=1, keepdims=True)"), Edit(_SUM, "e.sum(axis=1, keepdims=True)")),
    ),
    "over everything": Mistake(
        "softmax is over the whole array, which sums to 1. Each row has to: axis=-1, keepdims=True in both places.",
        (Edit(_MAX, "x.max()"), Edit(_SUM, "e.sum()")),
    ),
    "one sum for all": Mistake(
        "exp is divided by the sum of the whole array. Divide each row by its own sum: sum(axis=-1, keepdims=True).",
        (Edit(_SUM, "e.sum()"),),
    ),
    "sums along the wrong axis": Mistake(
        "The sums (S,) are divided into the columns instead of the rows: keep their axis, sum(axis=-1, keepdims=True).",
        (Edit(_SUM, "e.sum(axis=-1)"),),
    ),
    "maxima along the wrong axis": Mistake(
        "The maxima (S,) are subtracted from the columns instead of the rows: max(axis=-1, keepdims=True).",
        (Edit(_MAX, "x.max(axis=-1)"),),
    ),
    "maximum not subtracted": Mistake(
        "exp overflows in softmax: inf / inf is NaN. Subtract the maximum of each row before exp; it cancels.",
        (Edit(f" - {_MAX}", ""),),
    ),
    "one maximum for all": Mistake(
        "softmax subtracts one maximum from all rows. In a row far below it exp is 0 everywhere, and 0 / 0 is NaN. "
        "Subtract the maximum of each row.",
        (Edit(_MAX, "x.max()"),),
    ),
    "minimum subtracted": Mistake(
        "softmax subtracts the minimum, so exp still overflows. Subtract the maximum.",
        (Edit(_MAX, "x.min(axis=-1, keepdims=True)"),),
    ),
    "mean subtracted": Mistake(
        "softmax subtracts the mean, so exp can still overflow. Subtract the maximum.",
        (Edit(_MAX, "x.mean(axis=-1, keepdims=True)"),),
    ),
    "log-softmax without a logarithm": Mistake(
        "log_softmax returns the probabilities themselves. Take their logarithm.",
        _log(f"shifted - {_LOG_SUM}", "np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)"),
    ),
    "logarithm of softmax": Mistake(
        "log_softmax is np.log(softmax(x)), which is -inf where softmax rounds to 0. The logarithm of a quotient is a "
        "difference: x - max - log(sum(exp(x - max))).",
        _log(f"shifted - {_LOG_SUM}", "np.log(np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True))"),
    ),
    "constant added before the logarithm": Mistake(
        "A small constant is added to softmax before the logarithm, which makes small probabilities larger than they "
        "are. Compute x - max - log(sum(exp(x - max))) instead.",
        _log(f"shifted - {_LOG_SUM}", "np.log(np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True) + 1e-10)"),
    ),
    "log10": Mistake(
        "log_softmax has logarithms to base 10. Use np.log, the natural logarithm.",
        _log(f"shifted - {_LOG_SUM}", f"(shifted - {_LOG_SUM}) / np.log(10)"),
    ),
    "log10 of the sum": Mistake(
        "In log_softmax the logarithm of the sum is to base 10. Use the inverse of exp, the natural logarithm np.log.",
        _log("np.log(", "np.log10("),
    ),
    "log2": Mistake(
        "log_softmax has logarithms to base 2. Use np.log, the natural logarithm.",
        _log(f"shifted - {_LOG_SUM}", f"(shifted - {_LOG_SUM}) / np.log(2)"),
    ),
    "sum without logarithm": Mistake(
        "log_softmax subtracts the sum of exp. Subtract the logarithm of the sum.",
        _log(_LOG_SUM, "np.exp(shifted).sum(axis=-1, keepdims=True)"),
    ),
    "maximum not subtracted outside": Mistake(
        "In log_softmax the maximum is subtracted inside exp only. Subtract it from x, too: "
        "x - max - log(sum(exp(x - max))).",
        _log(f"shifted - {_LOG_SUM}", f"x - {_LOG_SUM}"),
    ),
    "maximum not subtracted inside": Mistake(
        "exp overflows in log_softmax. Take x - max - log(sum(exp(x - max))), with the maximum of each row.",
        _log(f"shifted - {_LOG_SUM}", "x - np.log(np.exp(x).sum(axis=-1, keepdims=True))"),
    ),
    "one maximum in log-softmax": Mistake(
        "log_softmax subtracts one maximum from all rows. In a row far below it exp is 0 everywhere, and log(0) is "
        "-inf. Subtract the maximum of each row.",
        _log(_MAX, "x.max()"),
    ),
    "negative": Mistake(
        "log_softmax has the wrong sign. The logarithm of a probability is 0 or less.",
        _log("return shifted", "return -shifted + 2 * np.log(np.exp(shifted).sum(axis=-1, keepdims=True))"),
    ),
    "log-softmax over the first axis": Mistake(
        "log_softmax is over the first axis. Take maximum and sum over the last, axis=-1.",
        (
            Edit(_MAX, "x.max(axis=0, keepdims=True)", log_softmax),
            Edit(".sum(axis=-1", ".sum(axis=0", log_softmax),
        ),
    ),
    "log-softmax over everything": Mistake(
        "log_softmax is over the whole array. Take the sum of each row: sum(axis=-1, keepdims=True).",
        _log("np.exp(shifted).sum(axis=-1, keepdims=True)", "np.exp(x - x.max()).sum()"),
    ),
}


# ------------------------------------------------------------------------------------------ test cases


def _soft(x: Any) -> Any:
    def run(softmax: Answer, log_softmax: Answer) -> Results:
        return [("softmax", as_real_array(softmax(x.copy())))]

    return run


def _log_soft(x: Any) -> Any:
    def run(softmax: Answer, log_softmax: Answer) -> Results:
        return [("log_softmax", as_real_array(log_softmax(x.copy())))]

    return run


def _real(softmax: Answer, log_softmax: Answer) -> Results:
    logits = clip_logits((50257, 50363))[1:].copy()
    return [
        ("softmax", as_real_array(softmax(logits.copy()))),
        ("log_softmax", as_real_array(log_softmax(logits))),
    ]


_RANDOM = np.random.default_rng(1)
_SQUARE = _RANDOM.standard_normal((4, 4)) + np.arange(4)[:, None]
_CUBE = _RANDOM.standard_normal((3, 3, 5))
_LARGE = np.array([[1000.0, 1001.0, 1003.0], [-1001.0, -1000.0, -1000.5]])
_FAR = np.array([[900.0, 0.0, -1000.0], [-1.0, -np.inf, 1.0]])

EXERCISE = Exercise(
    number=1,
    title="Softmax and log-softmax",
    section=4,
    task=TASK,
    solutions=(softmax, log_softmax),
    mistakes=MISTAKES,
    unchanged={"x": "other code may need it. `x -= m` works in place; `x = x - m` does not."},
    cases=(
        Case(
            "softmax of a matrix (4, 4)",
            _soft(_SQUARE),
            "Take np.exp, then divide each row by its sum: e / e.sum(axis=-1, keepdims=True).",
        ),
        Case(
            "log_softmax of a matrix (4, 4)",
            _log_soft(_SQUARE),
            "The logarithm of a quotient is a difference: x - log(sum(exp(x))), with the sum of each row.",
        ),
        Case("softmax of an array with three axes", _soft(_CUBE), "Use axis=-1, whatever the number of axes is."),
        Case(
            "log_softmax of an array with three axes",
            _log_soft(_CUBE),
            "Use axis=-1 for the maximum and for the sum, with keepdims=True.",
        ),
        Case(
            "softmax of values around 1,000 and -1,000",
            _soft(_LARGE),
            "Subtract the maximum of each row before exp: then the argument of exp is never above 0.",
        ),
        Case(
            "log_softmax of values around 1,000 and -1,000",
            _log_soft(_LARGE),
            "Subtract the maximum of each row first; it cancels in the difference.",
        ),
        Case(
            "softmax of -inf, and of values far apart",
            _soft(_FAR),
            "exp(-inf) is 0, so -inf needs no special case as long as a row has a finite value.",
        ),
        Case(
            "log_softmax of -inf, and of values far apart",
            _log_soft(_FAR),
            "The logarithm of a weight that rounds to 0 is still a number: -1900 here. Do not take the logarithm of "
            "softmax.",
        ),
        Case(
            "Whisper's logits after the start of a text, 51,864 of them",
            _real,
            "All other cases pass: is something done for small arrays only?",
            real=True,
        ),
    ),
)
