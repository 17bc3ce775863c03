"""Exercise 3: the convolution of the stem."""

from typing import Any

import numpy as np

from ..common.edits import Edit, Mistake
from ..parity.mistakes import STEM
from .checking import Case, Exercise
from .comparing import Results, as_real_array
from .guard import Answer
from .real_model import clip_mel, weights

TASK = """\
Write conv1d(x, weight, bias, stride) -> y: a convolution over time with a kernel of 3.

x (T, I) is T frames of width I, weight (O, I, 3), bias (O,). stride is 1 or 2. The result is (T, O) for stride 1, and
(ceil(T / 2), O) for stride 2: every other frame, starting with the first.
- Output t sees three frames of the input: stride * t - 1, stride * t and stride * t + 1.
- Each of them is multiplied by a matrix of its own, weight[:, :, 0], weight[:, :, 1] and weight[:, :, 2], each (O, I),
  one row per output. y[t] is the sum of the three products and the bias.
- Frames before the first and after the last are zero.
A loop over the three matrices is fast; a loop over all frames is slow, but right."""


def conv1d(x: Any, weight: Any, bias: Any, stride: Any) -> Any:
    """Convolve over time with kernel 3: x (T, I), weight (O, I, 3), bias (O,) -> (ceil(T / stride), O)."""
    length = len(x)
    padded = np.pad(x, ((1, 1), (0, 0)))  # (T + 2, I)
    taps = weight.transpose(2, 1, 0)  # (O, I, 3) -> (3, I, O)
    y = bias
    for k in range(3):
        y = y + padded[k : k + length : stride] @ taps[k]  # (ceil(T / stride), I) @ (I, O)
    return y


_PADDED = "np.pad(x, ((1, 1), (0, 0)))"
_SLICE = "padded[k : k + length : stride]"

MISTAKES = {
    "not padded": Mistake(STEM["not padded"].hint, (Edit(_PADDED, "x"), Edit("len(x)", "len(x) - 2"))),
    "padded at the end only": Mistake(
        "The input is padded at its end only, so that y[t] sees frames t, t + 1 and t + 2. Pad one zero on each side.",
        (Edit("(1, 1)", "(0, 2)"),),
    ),
    "padded at the start only": Mistake(STEM["padded at the start only"].hint, (Edit("(1, 1)", "(2, 0)"),)),
    "'same' padding of XLA": Mistake(
        "With stride 2 the input is padded at its end only, as 'same' padding of XLA and TensorFlow does. Pad one zero "
        "on each side whatever the stride is: otherwise every output sees one frame later.",
        (Edit("(1, 1)", "(1, 1) if stride == 1 or length % 2 else (0, 2)"),),
    ),
    "ends repeated": Mistake(
        "The first and last frames are repeated outside of the input. Pad with zeros.",
        (Edit("(0, 0)))", '(0, 0)), mode="edge")'),),
    ),
    "ends mirrored": Mistake(
        "The input is mirrored at its ends. The samples of the spectrogram are mirrored; here, pad with zeros.",
        (Edit("(0, 0)))", '(0, 0)), mode="reflect")'),),
    ),
    "wrapped around": Mistake(
        "The first frame sees the last one, and the last the first: np.roll wraps around. Pad with zeros.",
        (Edit("(0, 0)))", '(0, 0)), mode="wrap")'),),
    ),
    "kernel flipped": Mistake(STEM["kernel flipped"].hint, (Edit("@ taps[k]", "@ taps[2 - k]"),)),
    "not transposed": Mistake(
        "Inputs and outputs of the matrices are swapped. Each has one row per output: x @ weight[:, :, k].T.",
        (Edit("@ taps[k]", "@ taps[k].T"),),
    ),
    "reshaped": Mistake(
        "weight is reshaped from (O, I, 3), which mixes its values. Move its axes: weight.transpose(2, 1, 0), or take "
        "weight[:, :, k].",
        (Edit("weight.transpose(2, 1, 0)", "weight.reshape(3, weight.shape[1], weight.shape[0])"),),
    ),
    "reshaped and transposed": Mistake(
        "weight is reshaped to (3, O, I), which mixes its values. Take weight[:, :, k] for the three matrices.",
        (
            Edit(
                "weight.transpose(2, 1, 0)",
                "weight.reshape(3, weight.shape[0], weight.shape[1]).transpose(0, 2, 1)",
            ),
        ),
    ),
    "reshaped to (O, 3, I)": Mistake(
        "weight is reshaped to (O, 3, I), which mixes its values. It is (O, I, 3): move the last axis, or take "
        "weight[:, :, k].",
        (
            Edit(
                "weight.transpose(2, 1, 0)",
                "weight.reshape(weight.shape[0], 3, weight.shape[1]).transpose(1, 2, 0)",
            ),
        ),
    ),
    "no bias": Mistake(STEM["no bias in the convolution"].hint, (Edit("y = bias", "y = 0 * bias"),)),
    "bias three times": Mistake(
        "The bias is added once for each of the three matrices. Add it once.", (Edit("y = bias", "y = 3 * bias"),)
    ),
    "bias subtracted": Mistake("The bias is subtracted. Add it.", (Edit("y = bias", "y = -bias"),)),
    "centre only": Mistake(
        "Only the frame in the centre is used. y[t] is the sum of three products, with the frames before and after it.",
        (Edit("range(3)", "(1,)"),),
    ),
    "the last product only": Mistake(
        "Only the last of the three products is left: each replaces the one before. Add them up.",
        (Edit("range(3)", "(2,)"),),
    ),
    "one tap missing": Mistake(
        "The matrix weight[:, :, 2] is not used. range(3) has 0, 1 and 2.", (Edit("range(3)", "range(2)"),)
    ),
    "one matrix for all": Mistake(
        "All three frames are multiplied by the same matrix. Frame stride * t + k - 1 belongs to weight[:, :, k].",
        (Edit("@ taps[k]", "@ taps[1]"),),
    ),
    "mean": Mistake("The three products are averaged. Add them up.", (Edit("@ taps[k]", "@ taps[k] / 3"),)),
    "stride ignored": Mistake(
        "The stride is ignored: there is an output for every frame. With stride 2, keep every other one.",
        (Edit(" : stride]", "]"),),
    ),
    "stride from the second frame": Mistake(
        "With stride 2 the outputs kept are 1, 3, 5 … Keep 0, 2, 4 …",
        (Edit(_SLICE, "padded[k + stride - 1 : k + length : stride]"),),
    ),
    "stride inside the kernel": Mistake(
        "The stride is applied between the frames that one output sees: a dilation. Apply it between outputs: y[t] "
        "sees stride * t - 1, stride * t and stride * t + 1.",
        (
            Edit("(1, 1)", "(stride, stride)"),
            Edit(_SLICE, "padded[k * stride : k * stride + length : stride]"),
        ),
    ),
    "no overlap": Mistake(
        "Neighbouring outputs do not share frames: output t starts at frame 3 t. It starts at stride * t - 1.",
        (Edit(_SLICE, "padded[k : k + length : 3]"),),
    ),
    "last output missing": Mistake(
        "With an odd number of frames and stride 2 the last output is missing: there are ceil(T / 2), rounded up.",
        (Edit("    return y", "    return y[: length // stride]"),),
    ),
    "transposed": Mistake(
        "The result is (O, T). Return its transpose: one row per frame.", (Edit("    return y", "    return y.T"),)
    ),
}


def _convolve(seed: int, frames: int, inputs: int, outputs: int, stride: int) -> Any:
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal((frames, inputs)), rng.standard_normal((outputs, inputs, 3))
    bias = rng.standard_normal(outputs) * 3

    def run(conv1d: Answer) -> Results:
        return [("the result", as_real_array(conv1d(x.copy(), weight.copy(), bias.copy(), stride)))]

    return run


def _real(conv1d: Answer) -> Results:
    results: Results = []
    x = clip_mel()[:, 100:131].T.astype(np.float64)
    for name, stride in (("conv1", 1), ("conv2", 2)):
        layer = {key: np.array(value, np.float64) for key, value in weights()["encoder"][name].items()}
        x = conv1d(x.copy(), layer["weight"], layer["bias"], stride)
        results.append((f"the result with {name}'s weights", as_real_array(x)))
    return results


EXERCISE = Exercise(
    number=3,
    title="The convolution",
    section=3,
    task=TASK,
    solutions=(conv1d,),
    mistakes=MISTAKES,
    cases=(
        Case(
            "6 frames of width 4, stride 1",
            _convolve(1, 6, 4, 4, 1),
            "Write down y[0] = bias + weight[:, :, 1] @ x[0] + weight[:, :, 2] @ x[1]: the frame before x[0] is zero.",
        ),
        Case(
            "7 frames, from a width of 2 to one of 5",
            _convolve(2, 7, 2, 5, 1),
            "Input and output widths may differ: each matrix is (O, I), so that x @ weight[:, :, k].T is (T, O).",
        ),
        Case(
            "8 frames, stride 2",
            _convolve(3, 8, 3, 4, 2),
            "With stride 2, y[t] is centred on frame 2 t. Computing all outputs and keeping [::2] is right, too.",
        ),
        Case(
            "9 frames, stride 2",
            _convolve(4, 9, 3, 2, 2),
            "There are ceil(9 / 2) = 5 outputs; the last one is centred on the last frame.",
        ),
        Case("one frame", _convolve(5, 1, 3, 2, 1), "Both neighbours are zero: y[0] is bias + weight[:, :, 1] @ x[0]."),
        Case(
            "Whisper's own weights, on 0.3 s of speech",
            _real,
            "All other cases pass: is something done for small arrays only?",
            real=True,
        ),
    ),
)
