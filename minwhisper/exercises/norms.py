"""Exercise 4: layer norm and GELU."""

import math
from typing import Any

import numpy as np

from ..common.edits import Edit, Mistake
from ..parity.mistakes import LAYERS
from .checking import Case, Exercise
from .comparing import Results, as_real_array
from .guard import Answer
from .real_model import weights

TASK = """\
Write layer_norm(x, weight, bias) and gelu(x), each for an array of any number of axes -> an array of the same shape.

layer_norm: x (…, D), weight (D,), bias (D,). Each position, a row of D values along the last axis, is normalised:
- subtract its mean;
- divide by the square root of its variance + 1e-5, where the variance is the mean of the squared differences;
- multiply by weight, then add bias.
gelu: x * Φ(x) for every value, where Φ(x) = (1 + erf(x / sqrt(2))) / 2 is the normal distribution's cumulative
function. NumPy has no erf; math.erf is for one number, and np.vectorize(math.erf) applies it to an array. An
approximation is fine if its error is below 0.0002."""


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    """Normalise each position to mean 0 and variance 1, then scale and shift it: x (…, D), weight, bias (D,)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * weight + bias


def gelu(x: Any) -> Any:
    """Apply the Gaussian error linear unit, x Φ(x), to each value: (…,) -> (…,)."""
    return x * (1 + erf(x / math.sqrt(2))) / 2


def erf(x: Any) -> Any:
    """Approximate the error function to 1.5e-7, in NumPy (Abramowitz and Stegun, 1964, formula 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))


_MEAN = "x.mean(axis=-1, keepdims=True)"
_VARIANCE = "(centred**2).mean(axis=-1, keepdims=True)"
_GELU = "x * (1 + erf(x / math.sqrt(2))) / 2"


def _gelu(new: str) -> tuple[Edit, ...]:
    return (Edit(_GELU, new, gelu),)


MISTAKES = {
    "no epsilon": Mistake(
        "There is no epsilon: the variance of equal values is 0, and 0 / 0 is NaN. Add 1e-5 to the variance.",
        (Edit("1e-5", "0"),),
    ),
    "epsilon 1e-12": Mistake(LAYERS["epsilon 1e-12"].hint, (Edit("1e-5", "1e-12"),)),
    "epsilon 1e-6": Mistake(LAYERS["epsilon 1e-6"].hint, (Edit("1e-5", "1e-6"),)),
    "epsilon 1e-8": Mistake("Layer norm's epsilon is 1e-8. It should be 1e-5.", (Edit("1e-5", "1e-8"),)),
    "epsilon outside of the root": Mistake(
        LAYERS["epsilon outside of the root"].hint, (Edit("np.sqrt(variance + 1e-5)", "(np.sqrt(variance) + 1e-5)"),)
    ),
    "variance over D - 1": Mistake(
        LAYERS["variance over D - 1"].hint,
        (Edit(_VARIANCE, "(centred**2).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)"),),
    ),
    "no root": Mistake(
        "Layer norm divides by the variance. Divide by its square root.", (Edit("np.sqrt(variance", "(variance"),)
    ),
    "not divided": Mistake(
        "Layer norm only subtracts the mean. Divide by the square root of the variance, too.",
        (Edit(" / np.sqrt(variance + 1e-5)", ""),),
    ),
    "RMS norm": Mistake(LAYERS["RMS norm"].hint, (Edit(f"x - {_MEAN}", "x"),)),
    "mean not subtracted": Mistake(
        "x itself is divided by the standard deviation. Divide x minus its mean.",
        (Edit("return centred", "return x"),),
    ),
    "absolute deviation": Mistake(
        "Layer norm divides by the mean of the absolute differences. Divide by the root of the mean of their squares.",
        (Edit(_VARIANCE, "np.abs(centred).mean(axis=-1, keepdims=True) ** 2"),),
    ),
    "sum for mean": Mistake(
        "The squares are summed up, not averaged: the variance is their mean.",
        (Edit(_VARIANCE, "(centred**2).sum(axis=-1, keepdims=True)"),),
    ),
    "over positions": Mistake(
        LAYERS["norm over positions"].hint,
        (Edit(_MEAN, "x.mean(axis=-2, keepdims=True)"), Edit("(centred**2).mean(axis=-1", "(centred**2).mean(axis=-2")),
    ),
    "over the first axis": Mistake(
        "The norm is taken over the first axis. Take it over the last, axis=-1.",
        (Edit(_MEAN, "x.mean(axis=0, keepdims=True)"), Edit("(centred**2).mean(axis=-1", "(centred**2).mean(axis=0")),
    ),
    "over everything": Mistake(
        "There is one mean and one variance for the whole array. Each position has its own: axis=-1, keepdims=True.",
        (Edit(_MEAN, "x.mean()"), Edit(_VARIANCE, "(centred**2).mean()")),
    ),
    "axis not kept": Mistake(
        "Means and variances (S,) are used along the wrong axis: keep their own axis with keepdims=True.",
        (Edit(_MEAN, "x.mean(axis=-1)"), Edit(_VARIANCE, "x.var(axis=-1)")),
    ),
    "no weight": Mistake(LAYERS["norm without its weight"].hint, (Edit(" * weight", ""),)),
    "no bias": Mistake(LAYERS["norm without its bias"].hint, (Edit(" + bias", ""),)),
    "bias before the weight": Mistake(
        "The bias is added before the multiplication by the weight. Multiply first.",
        (
            Edit(
                "centred / np.sqrt(variance + 1e-5) * weight + bias",
                "(centred / np.sqrt(variance + 1e-5) + bias) * weight",
            ),
        ),
    ),
    "weight and bias swapped": Mistake(
        "weight and bias are swapped: multiply by weight, add bias.", (Edit("* weight + bias", "* bias + weight"),)
    ),
    "1 + weight": Mistake(
        "The result is multiplied by 1 + weight, as some other models do. Multiply by weight.",
        (Edit("* weight", "* (1 + weight)"),),
    ),
    "tanh approximation of GELU": Mistake(
        LAYERS["tanh approximation of GELU"].hint,
        _gelu("0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))"),
    ),
    "quick GELU": Mistake(LAYERS["quick GELU"].hint, _gelu("x / (1 + np.exp(-1.702 * x))")),
    "ReLU for GELU": Mistake(LAYERS["ReLU for GELU"].hint, _gelu("np.maximum(x, 0)")),
    "SiLU for GELU": Mistake(LAYERS["SiLU for GELU"].hint, _gelu("x / (1 + np.exp(-x))")),
    "Φ alone": Mistake("gelu returns Φ(x). Multiply it by x.", _gelu("(1 + erf(x / math.sqrt(2))) / 2")),
    "erf without the root": Mistake(
        "erf is taken of x. Take it of x / sqrt(2): Φ and erf scale x differently.",
        _gelu("x * (1 + erf(x)) / 2"),
    ),
    "erf of x times the root": Mistake(
        "erf is taken of x * sqrt(2). Divide by sqrt(2).", _gelu("x * (1 + erf(x * math.sqrt(2))) / 2")
    ),
    "erf of x / 2": Mistake("erf is taken of x / 2. Take it of x / sqrt(2).", _gelu("x * (1 + erf(x / 2)) / 2")),
    "not halved": Mistake(
        "Φ is not divided by 2, so that gelu is about 2 x for large x. Φ is (1 + erf(…)) / 2.",
        _gelu("x * (1 + erf(x / math.sqrt(2)))"),
    ),
    "without 1": Mistake(
        "The 1 in Φ(x) = (1 + erf(x / sqrt(2))) / 2 is missing.", _gelu("x * erf(x / math.sqrt(2)) / 2")
    ),
    "density": Mistake(
        "x is multiplied by the density of the normal distribution. Multiply by Φ, its cumulative function.",
        _gelu("x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)"),
    ),
}


# ------------------------------------------------------------------------------------------ test cases


def _norm(x: Any, weight: Any, bias: Any) -> Any:
    def run(layer_norm: Answer, gelu: Answer) -> Results:
        return [("layer_norm", as_real_array(layer_norm(x.copy(), weight.copy(), bias.copy())))]

    return run


def _gelu_of(x: Any) -> Any:
    def run(layer_norm: Answer, gelu: Answer) -> Results:
        return [("gelu", as_real_array(gelu(x.copy())))]

    return run


def _real(layer_norm: Answer, gelu: Answer) -> Results:
    block = weights()["encoder"]["blocks"][0]
    x, norm, fc1 = weights()["encoder"]["positions"][:5], block["mlp_norm"], block["mlp"]["fc1"]
    normed = as_real_array(layer_norm(x.copy(), norm["weight"].copy(), norm["bias"].copy()))
    activated = as_real_array(gelu(normed @ fc1["weight"].T + fc1["bias"]))
    return [("layer_norm", normed), ("gelu", activated)]


_RANDOM = np.random.default_rng(4)
_WEIGHT, _BIAS = _RANDOM.standard_normal((2, 4)) + 0.5
_SQUARE = _RANDOM.standard_normal((4, 4)) * 2 + np.arange(4)[:, None]
_CUBE = _RANDOM.standard_normal((2, 3, 4)) * 3 + 1
_QUIET = np.array([[1.0, -1.0, 2.0, -2.0], [0.0, 0.0, 0.0, 0.0]]) * 2e-3

EXERCISE = Exercise(
    number=4,
    title="Layer norm and GELU",
    section=5,
    task=TASK,
    solutions=(layer_norm, gelu),
    mistakes=MISTAKES,
    tolerance=2e-4,
    unchanged={"x": "the residual stream needs it. `x -= m` works in place; `x = x - m` does not."},
    cases=(
        Case(
            "layer_norm of 4 positions of width 4, weight 1 and bias 0",
            _norm(_SQUARE, np.ones(4), np.zeros(4)),
            "Every row has mean 0 and variance 1 afterwards; rows do not depend on each other.",
        ),
        Case(
            "layer_norm with a weight and a bias",
            _norm(_SQUARE, _WEIGHT, _BIAS),
            "Multiply each column by its weight, then add its bias.",
        ),
        Case(
            "layer_norm of an array (2, 3, 4)",
            _norm(_CUBE, _WEIGHT, _BIAS),
            "Use axis=-1 and keepdims=True, whatever the number of axes is.",
        ),
        Case(
            "layer_norm of values around 0.002, and of zeros",
            _norm(_QUIET, np.ones(4), _BIAS),
            "The variance is as small as 1e-5 here, so epsilon counts: sqrt(variance + 1e-5).",
        ),
        Case(
            "gelu of values from -4 to 4",
            _gelu_of(np.linspace(-4.0, 4.0, 81)),
            "gelu(1) is 0.8413, gelu(-1) is -0.1587 and gelu(0) is 0.",
        ),
        Case(
            "gelu of an array (2, 3), with large values",
            _gelu_of(np.array([[-40.0, -8.0, 0.0], [0.5, 8.0, 40.0]])),
            "gelu approaches x for large positive x and 0 for large negative x, without overflow.",
        ),
        Case(
            "Whisper's own weights",
            _real,
            "All other cases pass: is something done for small arrays only?",
            real=True,
        ),
    ),
)
