"""Exercise 12: sampling and temperature fallback."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.edits import Edit, Mistake
from .checking import Case, Exercise
from .comparing import Results, WrongAnswer, as_token, kind
from .guard import Answer
from .real_model import clip_logits
from .softmax import softmax

TASK = """\
Write sample(logits, temperature, number) -> token and fallback(attempt, temperatures) -> result.

sample draws a token: logits (V,), temperature above 0, and a number from 0 to 1, which was drawn at random.
- The probabilities are softmax(logits / temperature). -inf has probability 0; exp can overflow at low temperatures.
- Return the first token at which the sum of the probabilities up to it, itself included, exceeds number.
fallback decodes a window at one temperature after another, until the text is accepted. attempt(temperature) returns a
dictionary with "text", "tokens" (without the end), "sum_logprob" (with the end) and "no_speech_prob".
- The mean log-probability is sum_logprob divided by the number of tokens + 1, since the end counts.
- The compression ratio is the number of bytes of the text in UTF-8, divided by their number after zlib.compress.
- A result is rejected if its compression ratio is above 2.4 (it repeats itself) or its mean is below -1 (improbable).
- But it is accepted as silence if no_speech_prob is above 0.6 and the mean is below -1.
- Return the first accepted result, without trying other temperatures; if there is none, return the last one."""


def sample(logits: Any, temperature: float, number: float) -> int:
    """Draw a token at a temperature, with a number from 0 to 1: logits (V,) -> a token."""
    probabilities = softmax(logits / temperature)
    up_to = np.cumsum(probabilities)
    return int((up_to > number).argmax())


def fallback(attempt: Any, temperatures: Any) -> Any:
    """Decode at one temperature after another, and return the first result that is accepted, or the last."""
    for temperature in temperatures:
        result = attempt(temperature)
        if not needs_fallback(result):
            break
    return result


def needs_fallback(result: Any) -> bool:
    """Return whether a result is to be rejected."""
    data = result["text"].encode()
    repeats = len(data) / len(zlib.compress(data)) > 2.4
    mean = result["sum_logprob"] / (len(result["tokens"]) + 1)
    improbable = mean < -1
    silent = improbable and result["no_speech_prob"] > 0.6
    return (repeats or improbable) and not silent


def _reject(old: str, new: str) -> tuple[Edit, ...]:
    return (Edit(old, new, needs_fallback),)


_SOFTMAX = "softmax(logits / temperature)"
_RATIO = "len(data) / len(zlib.compress(data)) > 2.4"

MISTAKES = {
    "most likely": Mistake(
        "sample returns the most likely token, whatever the number is. Return the first at which the sum of the "
        "probabilities exceeds it.",
        (Edit("(up_to > number).argmax()", "probabilities.argmax()"),),
    ),
    "not summed": Mistake(
        "sample compares the number with single probabilities. Compare it with their sum up to each token: np.cumsum.",
        (Edit("np.cumsum(probabilities)", "probabilities"),),
    ),
    "temperature ignored": Mistake(
        "sample does not use the temperature. Divide the logits by it.", (Edit("logits / temperature", "logits"),)
    ),
    "multiplied": Mistake(
        "sample multiplies the logits by the temperature. Divide by it: a high temperature makes the probabilities "
        "more even.",
        (Edit("logits / temperature", "logits * temperature"),),
    ),
    "probabilities divided": Mistake(
        "sample divides the probabilities by the temperature, after softmax. Divide the logits, before it.",
        (Edit(_SOFTMAX, "softmax(logits) / temperature"),),
    ),
    "no softmax": Mistake(
        "sample sums up exp(logits / temperature), which is not a distribution: divide by the sum (softmax).",
        (Edit(_SOFTMAX, "np.exp(logits / temperature)"),),
    ),
    "not divided by the sum": Mistake(
        "sample sums up exp(x - max), which is not a distribution: divide it by its sum first.",
        (Edit(_SOFTMAX, "np.exp(logits / temperature - (logits / temperature).max())"),),
    ),
    "overflow": Mistake(
        "exp overflows in sample: at a low temperature the logits become large. Subtract their maximum first.",
        (Edit(_SOFTMAX, "np.exp(logits / temperature) / np.exp(logits / temperature).sum()"),),
    ),
    "from the end": Mistake(
        "sample sums up from the last token to the first. Sum up from the first.",
        (Edit("(up_to > number).argmax()", "len(up_to) - 1 - (np.cumsum(probabilities[::-1]) > number).argmax()"),),
    ),
    "sorted": Mistake(
        "sample sorts the probabilities before it sums them up. Keep the order of the tokens.",
        (
            Edit("np.cumsum(probabilities)", "np.cumsum(np.sort(probabilities)[::-1])"),
            Edit("(up_to > number).argmax()", "np.argsort(-probabilities)[(up_to > number).argmax()]"),
        ),
    ),
    "token before": Mistake(
        "sample returns the token before the right one: the sum includes the probability of the token itself.",
        (Edit("(up_to > number).argmax()", "max((up_to > number).argmax() - 1, 0)"),),
    ),
    "token after": Mistake(
        "sample returns the token after the right one. The index of the first sum above the number is the token.",
        (Edit("(up_to > number).argmax()", "min((up_to > number).argmax() + 1, len(up_to) - 1)"),),
    ),
    "not strictly": Mistake(
        "sample returns a token whose sum only equals the number, such as one of probability 0 for the number 0. The "
        "sum has to exceed it: >, not >=.",
        (Edit("up_to > number", "up_to >= number"),),
    ),
    "never again": Mistake(
        "fallback returns the first result, whatever it is. Check it, and try the next temperature.",
        (Edit("if not needs_fallback(result)", "if True", fallback),),
    ),
    "always all": Mistake(
        "fallback tries all temperatures and returns the last result. Return the first one that is accepted.",
        (Edit("if not needs_fallback(result)", "if False", fallback),),
    ),
    "the best of all": Mistake(
        "fallback tries all temperatures and returns the result with the highest mean. Return the first one that is "
        "accepted.",
        (
            Edit(
                "    for temperature",
                "    def mean(result):\n        return result['sum_logprob'] / (len(result['tokens']) + 1)\n"
                "    return max(map(attempt, temperatures), key=mean)\n    for temperature",
                fallback,
            ),
        ),
    ),
    "the first if none": Mistake(
        "If no result is accepted, fallback returns the first. Return the last.",
        (
            Edit(
                "            break",
                "            return result\n    result = attempt(temperatures[0]) if len(temperatures) > 1 else result",
                fallback,
            ),
        ),
    ),
    "no compression ratio": Mistake(
        "fallback accepts a text that repeats itself: reject a compression ratio above 2.4.", _reject(_RATIO, "False")
    ),
    "characters": Mistake(
        'The compression ratio counts characters. Count bytes, len(text.encode()): "é" has two.',
        _reject("len(data) /", 'len(result["text"]) /'),
    ),
    "ratio upside down": Mistake(
        "The compression ratio is upside down: divide the length of the text by that of the compressed text.",
        _reject(_RATIO, "len(zlib.compress(data)) / len(data) > 2.4"),
    ),
    "ratio the wrong way round": Mistake(
        "Texts with a compression ratio below 2.4 are rejected. Reject those above.", _reject("> 2.4", "< 2.4")
    ),
    "no mean": Mistake(
        "fallback accepts a text that is improbable: reject a mean log-probability below -1.",
        _reject("mean < -1", "False"),
    ),
    "end not counted": Mistake(
        "The sum is divided by the number of tokens. Divide by the number of tokens + 1, since the end counts.",
        _reject('(len(result["tokens"]) + 1)', 'max(1, len(result["tokens"]))'),
    ),
    "sum for mean": Mistake(
        "The sum of the log-probabilities is compared with -1. Compare the mean.",
        _reject(' / (len(result["tokens"]) + 1)', ""),
    ),
    "characters for tokens": Mistake(
        "The sum is divided by the number of characters. Divide by the number of tokens + 1.",
        _reject('(len(result["tokens"]) + 1)', '(len(result["text"]) + 1)'),
    ),
    "mean the wrong way round": Mistake(
        "Results with a mean above -1 are rejected. Reject those below.", _reject("mean < -1", "mean > -1")
    ),
    "and for or": Mistake(
        "A result is rejected only if it repeats itself and is improbable. One of the two is enough.",
        _reject("(repeats or improbable)", "(repeats and improbable)"),
    ),
    "no silence": Mistake(
        "Silence is not accepted: with a no_speech_prob above 0.6 and a mean below -1, no temperature helps.",
        _reject(" and not silent", ""),
    ),
    "silence whatever the mean": Mistake(
        "Every result with a no_speech_prob above 0.6 is accepted. It is silence only if its mean is below -1, too.",
        _reject("improbable and result", "result"),
    ),
    "silence rejected": Mistake(
        "A no_speech_prob above 0.6 leads to another attempt. It leads to acceptance, if the mean is below -1.",
        _reject("(repeats or improbable) and not silent", 'repeats or improbable or result["no_speech_prob"] > 0.6'),
    ),
    "speech for silence": Mistake(
        "A low no_speech_prob counts as silence. Silence has one above 0.6.",
        _reject('["no_speech_prob"] > 0.6', '["no_speech_prob"] < 0.6'),
    ),
    "silence only if it does not repeat": Mistake(
        "Silence is not accepted if the text repeats itself. It is, whatever its compression ratio.",
        _reject("(repeats or improbable) and not silent", "repeats or (improbable and not silent)"),
    ),
}


# ------------------------------------------------------------------------------------------ test cases


def _draw(*problems: tuple[Any, float, Sequence[float]]) -> Any:
    def run(sample: Answer, fallback: Answer) -> Results:
        outcome: Results = []
        for logits, temperature, numbers in problems:
            for number in numbers:
                token = as_token(sample(logits.copy(), temperature, number), "the result of sample")
                outcome.append(
                    (f"sample of {len(logits)} logits, temperature {temperature}, number {number:.4g},", token)
                )
        return outcome

    return run


def _draw_real(sample: Answer, fallback: Answer) -> Results:
    return _draw((clip_logits((50257, 50363, 843))[-1], 0.8, (0.05, 0.5, 0.95)))(sample, fallback)


def _result(text: str, mean: float, no_speech: float = 0.01, count: int = 9) -> dict[str, Any]:
    return {
        "text": text,
        "tokens": list(range(count)),
        "sum_logprob": mean * (count + 1),
        "no_speech_prob": no_speech,
    }


def _fall(*problems: Sequence[dict[str, Any]]) -> Any:
    """Return a test case of several windows, each with the results of its attempts in order."""

    def run(sample: Answer, fallback: Answer) -> Results:
        outcome: Results = []
        for number, prepared in enumerate(problems):
            temperatures = [0.2 * n for n in range(len(prepared))]
            tried: list[float] = []
            made: list[Any] = []

            def attempt(temperature: float, prepared: Any = prepared, tried: Any = tried, made: Any = made) -> Any:
                if len(tried) > 50:
                    raise WrongAnswer("attempt was called more than 50 times. Does the loop end?")
                index = round(temperature / 0.2)
                if not 0 <= index < len(prepared):
                    raise WrongAnswer(f"attempt was called with {temperature}, which is not among the temperatures")
                tried.append(round(temperature, 1))
                made.append((round(temperature, 1), dict(prepared[index], tokens=list(prepared[index]["tokens"]))))
                return made[-1][1]

            found = fallback(attempt, temperatures)
            if not isinstance(found, dict):
                raise WrongAnswer(
                    f"the result of fallback is {kind(found)}, expected a dictionary that attempt returned"
                )
            if not any(found is one or found == one for _, one in made):
                raise WrongAnswer("the result of fallback is not one that attempt returned: return it as it is")
            chosen = next(temperature for temperature, one in made if found is one or found == one)
            window = f" in window {number + 1}"
            outcome += [
                ("the temperature of the result" + window, chosen),
                ("the list of temperatures tried" + window, tried),
            ]
        return outcome

    return run


_LOGITS = np.array([0.5, 2.0, -np.inf, 1.0, 1.5, -1.0])
_GOOD = _result("And so my fellow Americans", -0.2)
_BETTER = _result("And so, my fellow Americans", -0.1)
_LOOP = _result("ask what you can do, " * 12, -0.3)
_WILD = _result("Andes omit fella am erican", -1.4)
_WILD_LOOP = _result("no no no " * 20, -1.5)
_SILENT = _result("you", -1.2, 0.9, 1)
_HUMMING = _result("mmmm" * 40, -1.3, 0.8)
_FAINT = _result("Thank you very much", -0.4, 0.7)
_ACCENTS = _result("ありがとう、" * 5, -0.5)
_OK = _result("OK", -0.5)
_SHORT = _result("Yes", -1.45, 0.1, 1)
_ALMOST = _result("Yes, sir", -0.95, 0.1, 9)

EXERCISE = Exercise(
    number=12,
    title="Sampling and temperature fallback",
    section=13,
    task=TASK,
    solutions=(sample, fallback),
    mistakes=MISTAKES,
    unchanged={"logits": "other attempts need them. `logits / temperature` makes a new array."},
    cases=(
        Case(
            "sample at temperature 1",
            _draw((_LOGITS, 1.0, (0.05, 0.3, 0.5, 0.65, 0.8, 0.97))),
            "The sums are np.cumsum(softmax(logits)); the token is the index of the first that exceeds the number.",
        ),
        Case(
            "sample at other temperatures",
            _draw((_LOGITS, 0.4, (0.02, 0.4, 0.6, 0.7, 0.9, 0.99)), (_LOGITS, 2.0, (0.1, 0.4, 0.55, 0.8, 0.9, 0.93))),
            "Divide the logits by the temperature, then take softmax, then np.cumsum.",
        ),
        Case(
            "sample at a low temperature, where exp overflows",
            _draw((_LOGITS + 20, 0.01, (0.0, 0.5, 0.99)), (_LOGITS - 30, 0.02, (0.5, 0.9))),
            "Subtract the maximum before exp.",
        ),
        Case(
            "sample with the number 0",
            _draw(
                (np.array([-np.inf, -np.inf, 0.3, 0.1]), 1.0, (0.0,)), (np.array([-np.inf, 2.0, 1.0]), 0.5, (0.0, 0.1))
            ),
            "A token of probability 0 is never drawn: its sum does not exceed the one before it.",
        ),
        Case(
            "fallback with a good result at once",
            _fall([_GOOD, _BETTER, _LOOP], [_BETTER, _WILD]),
            "Call attempt with the first temperature, and return its result if it is accepted.",
        ),
        Case(
            "fallback from a text that repeats itself, or that is improbable",
            _fall(
                [_LOOP, _GOOD, _BETTER],
                [_WILD, _GOOD, _BETTER],
                [_WILD, _LOOP, _WILD_LOOP, _BETTER],
                [_WILD_LOOP, _GOOD],
            ),
            "Reject a compression ratio above 2.4, or a mean below -1.",
        ),
        Case(
            "fallback without a good result",
            _fall([_WILD, _LOOP, _WILD_LOOP], [_LOOP], [_WILD, _WILD_LOOP]),
            "Return the last result, even if it is rejected.",
        ),
        Case(
            "fallback near the limits",
            _fall([_ACCENTS, _GOOD], [_SHORT, _GOOD], [_ALMOST, _GOOD], [_OK, _GOOD]),
            "Count the bytes of the text, and divide the sum by the number of tokens + 1.",
        ),
        Case(
            "fallback in silence",
            _fall([_SILENT, _GOOD], [_FAINT, _GOOD], [_HUMMING, _GOOD], [_LOOP | {"no_speech_prob": 0.8}, _GOOD]),
            "Silence has a no_speech_prob above 0.6 and a mean below -1. It is accepted whatever its ratio is.",
        ),
        Case(
            "sample from Whisper's logits after 'And', 51,864 of them",
            _draw_real,
            "All other cases pass: is something done for small arrays only?",
            real=True,
        ),
    ),
)
