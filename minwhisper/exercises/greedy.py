"""Exercise 8: the greedy loop."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..common.edits import Edit, Mistake
from .checking import Case, Exercise
from .comparing import Results, WrongAnswer, as_tokens_and_sum
from .guard import Answer
from .softmax import log_softmax

TASK = """\
Write greedy_search(decode, prompt, end, max_tokens) -> (tokens, sum_logprob): always take the most likely token.

decode(tokens, cache) -> (logits (S, V), cache) decodes a list of S new tokens; row s has the logits of the token after
token s. The cache is None at first; after that, pass the one that decode returned last, and only the new tokens.
- Decode the prompt, a list of tokens. The last row of logits predicts the first token of the text.
- Take the token with the largest logit, and decode it in turn: a list of one token.
- Stop at the token `end`, or when `max_tokens` tokens have been taken, the end included.
tokens is the list of tokens taken, without the prompt and the end. sum_logprob is the sum of their log-probabilities,
log_softmax(logits), with that of the end if it was taken."""


def greedy_search(decode: Any, prompt: list[int], end: int, max_tokens: int) -> tuple[list[int], float]:
    """Return the most likely tokens, one after the other, and the sum of their log-probabilities."""
    tokens: list[int] = []
    sum_logprob = 0.0
    logits, cache = decode(prompt, None)
    for _ in range(max_tokens):
        logprobs = log_softmax(logits[-1])
        token = int(logprobs.argmax())
        sum_logprob += float(logprobs[token])
        if token == end:
            break
        tokens.append(token)
        logits, cache = decode([token], cache)
    return tokens, sum_logprob


MISTAKES = {
    "first row": Mistake(
        "The first row of the logits is used, which predicts the token after the first one of the prompt. Use the "
        "last, logits[-1].",
        (Edit("logits[-1]", "logits[0]"),),
    ),
    "least likely": Mistake("The token with the smallest logit is taken: argmin.", (Edit(".argmax()", ".argmin()"),)),
    "second best": Mistake(
        "The second most likely token is taken. np.argsort sorts in ascending order: the largest is at [-1].",
        (Edit("logprobs.argmax()", "logprobs.argsort()[-2]"),),
    ),
    "end in the tokens": Mistake(
        "The end is among the tokens. Leave the loop before you append it.",
        (Edit("            break", "            tokens.append(token)\n            break"),),
    ),
    "prompt in the tokens": Mistake(
        "The prompt is among the tokens. Return only those that were taken.",
        (Edit("return tokens,", "return list(prompt) + tokens,"),),
    ),
    "first token lost": Mistake(
        "The first token of the text is missing. The logits after the prompt predict it.",
        (Edit("return tokens,", "return tokens[1:],"),),
    ),
    "last token lost": Mistake(
        "The last token before the end is missing.",
        (Edit("return tokens,", "return tokens[: len(tokens) - (token == end)],"),),
    ),
    "end not in the sum": Mistake(
        "The log-probability of the end is not in the sum. Add it before you leave the loop.",
        (
            Edit(
                "sum_logprob += float(logprobs[token])",
                "sum_logprob += float(logprobs[token]) if token != end else 0.0",
            ),
        ),
    ),
    "sum of logits": Mistake(
        "The logits are summed up. Sum their log-probabilities: log_softmax(logits).",
        (Edit("log_softmax(logits[-1])", "logits[-1]"),),
    ),
    "sum of probabilities": Mistake(
        "The probabilities are summed up. Sum their logarithms.",
        (Edit("float(logprobs[token])", "float(np.exp(logprobs[token]))"),),
    ),
    "product of probabilities": Mistake(
        "The second result is the product of the probabilities. Return the sum of their logarithms.",
        (Edit("return tokens, sum_logprob", "return tokens, float(np.exp(sum_logprob))"),),
    ),
    "mean": Mistake(
        "The second result is the mean over the tokens and the end. Return the sum.",
        (Edit("return tokens, sum_logprob", "return tokens, sum_logprob / (len(tokens) + 1)"),),
    ),
    "mean without the end": Mistake(
        "The second result is divided by the number of tokens. Return the sum.",
        (Edit("return tokens, sum_logprob", "return tokens, sum_logprob / max(1, len(tokens))"),),
    ),
    "last only": Mistake(
        "The second result is the log-probability of the last token only. Add up all of them.",
        (Edit("sum_logprob +=", "sum_logprob ="),),
    ),
    "positive": Mistake(
        "The sum has the wrong sign. Logarithms of probabilities are 0 or less.",
        (Edit("sum_logprob +=", "sum_logprob -="),),
    ),
    "log10": Mistake(
        "The logarithms are to base 10. Take natural ones, np.log.",
        (Edit("float(logprobs[token])", "float(logprobs[token]) / np.log(10)"),),
    ),
    "one token too many": Mistake(
        "There is one token too many: at most `max_tokens`, the end included.",
        (Edit("range(max_tokens)", "range(max_tokens + 1)"),),
    ),
    "one token too few": Mistake(
        "There is one token too few: up to `max_tokens` are allowed.",
        (Edit("range(max_tokens)", "range(max_tokens - 1)"),),
    ),
    "prompt counted": Mistake(
        "The tokens of the prompt count towards `max_tokens`. Count only those that were taken.",
        (Edit("range(max_tokens)", "range(max_tokens - len(prompt))"),),
    ),
    "stops at the start of the prompt": Mistake(
        "The search stops at a token that is in the prompt. Only `end` stops it.",
        (Edit("if token == end:", "if token == end or token in prompt:"),),
    ),
    "stops at a repetition": Mistake(
        "The search stops when a token comes twice in a row. Only `end` stops it.",
        (Edit("if token == end:", "if token == end or token == (tokens or [None])[-1]:"),),
    ),
}


# ------------------------------------------------------------------------------------------ test cases

PROMPT, SIZE = [7, 8, 5], 9


class _State(NamedTuple):
    """The cache of the test cases: the tokens that were decoded."""

    tokens: tuple[int, ...]


def _run_search(function: Answer, seed: int, end: int, max_tokens: int, bonus: float) -> Any:
    """Run an answer on random logits, and check how it calls ``decode``."""
    calls, ended = 0, False

    def decode(tokens: Sequence[int], state: Any) -> Any:
        nonlocal calls, ended
        calls += 1
        try:
            new = tuple(int(token) for token in tokens)
        except TypeError:
            raise WrongAnswer(
                f"decode was called with {tokens!r}: expected a list of tokens, such as [{end}]"
            ) from None
        if ended:
            raise WrongAnswer(f"decode was called after the end, {end}, was decoded: stop there")
        if calls > max_tokens + 3:
            raise WrongAnswer(f"decode was called {calls} times, and max_tokens is {max_tokens}. Does the loop end?")
        if state is None:
            if calls > 1:
                raise WrongAnswer(
                    "decode was called with the cache None again. Pass the cache that it returned, and only the new "
                    "token: otherwise all tokens are computed again"
                )
            if new != tuple(PROMPT):
                raise WrongAnswer(f"decode was first called with {list(new)}, expected the prompt, {PROMPT}")
            state = _State(())
        elif not isinstance(state, _State):
            raise WrongAnswer("decode was called with something other than None or the cache that it returned last")
        elif len(new) != 1:
            raise WrongAnswer(
                f"decode was called with {len(new)} tokens and a cache. The cache has the earlier ones: pass only the "
                "new one, [token]"
            )
        elif len(state.tokens) != len(PROMPT) + calls - 2:
            raise WrongAnswer("decode was called with an old cache. Pass the one that it returned last")
        history = (*state.tokens, *new)
        if end in history[len(PROMPT) :]:
            ended = True
        rows = [_logits(seed, history[: len(state.tokens) + n + 1], end, bonus) for n in range(len(new))]
        return np.stack(rows), _State(history)

    tokens, total = as_tokens_and_sum(function(decode, list(PROMPT), end, max_tokens))
    return tokens, total


@cache
def _logits(seed: int, history: tuple[int, ...], end: int, bonus: float) -> Any:
    logits = np.random.default_rng([seed, *history]).standard_normal(SIZE) * 2 + 3
    logits[end] += bonus
    return logits


def _search(*problems: tuple[int, int, int, float]) -> Any:
    """Return a test case of several problems (seed, end, max_tokens, bonus of the end)."""

    def run(function: Answer) -> Results:
        outcome: Results = []
        for number, (seed, end, max_tokens, bonus) in enumerate(problems):
            tokens, total = _run_search(function, seed, end, max_tokens, bonus)
            case = f" (max_tokens {max_tokens}, text {number + 1})"
            outcome += [("the list of tokens" + case, tokens), ("the sum" + case, total)]
        return outcome

    return run


EXERCISE = Exercise(
    number=8,
    title="The greedy loop",
    section=9,
    task=TASK,
    solutions=(greedy_search,),
    mistakes=MISTAKES,
    unchanged={"prompt": "take a copy, `list(prompt)`, if you append to it."},
    cases=(
        Case(
            "a text of a few tokens",
            _search((3, 0, 20, 1.0)),
            "Begin with logits, cache = decode(prompt, None), take logits[-1].argmax(), then decode([token], cache).",
        ),
        Case(
            "several texts",
            _search(*((seed, seed % 5, 20, 0.5) for seed in range(10, 18))),
            "Stop at the first end, and only there. The sum has a log-probability for each token, and for the end.",
        ),
        Case(
            "texts that are longer than allowed",
            _search((30, 0, 4, -50.0), (31, 0, 1, -50.0), (32, 1, 7, -50.0)),
            "Stop when `max_tokens` tokens have been taken.",
        ),
        Case(
            "the end at once",
            _search((40, 0, 5, 50.0), (41, 3, 1, 50.0)),
            "The text is empty: the result is [] and the log-probability of the end.",
        ),
    ),
)
