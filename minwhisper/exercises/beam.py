"""Exercise 10: beam search."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..common.edits import Edit, Mistake
from .checking import Case, Exercise
from .comparing import Results, WrongAnswer, as_tokens_and_sum
from .guard import Answer

TASK = """\
Write beam_search(score, start, end, beam_size, max_tokens) -> (tokens, sum_logprob): the best text of a beam search.

score(tokens) takes a list of tokens, `start` included, and returns the log-probabilities (V,) of the next one. `start`
is a list that every text begins with; `end` is the token that ends a text. A hypothesis is a text and the sum of the
log-probabilities of its tokens, including that of the end once it is reached. At first there is one: the empty text.
- In each of at most `max_tokens` rounds, continue every hypothesis with every token, except those of log-probability
  -inf. Rank the results, the largest sum first, and go through them. If the token is the end, the hypothesis is
  finished: set it aside. The others are the next beam. Stop as soon as it has `beam_size` hypotheses.
- The rounds are over when `beam_size` or more hypotheses have finished, or the beam is empty.
- If fewer than `beam_size` have finished then, the most likely of the beam fill up to `beam_size`.
- The best of all these has the largest sum divided by the number of its tokens (by 1 if it has none).
tokens is the list of generated tokens, without `start` and the end."""


class Hypothesis(NamedTuple):
    """Generated tokens and the sum of their log-probabilities."""

    tokens: list[int]  # without start, and without the end once it has finished
    sum_logprob: float


def beam_search(score: Any, start: list[int], end: int, beam_size: int, max_tokens: int) -> tuple[list[int], float]:
    """Return the tokens and the sum of log-probabilities of the best hypothesis."""
    active = [Hypothesis([], 0.0)]
    finished: list[Hypothesis] = []
    for _ in range(max_tokens):
        active, ended = next_beam(score, start, end, beam_size, active)
        finished += ended
        if len(finished) >= beam_size or not active:
            break
    unfinished = active[: max(0, beam_size - len(finished))]

    def mean(hypothesis: Hypothesis) -> float:
        return hypothesis.sum_logprob / max(1, len(hypothesis.tokens))

    best = max(finished + unfinished, key=mean)
    return best.tokens, best.sum_logprob


def next_beam(
    score: Any, start: list[int], end: int, beam_size: int, active: list[Hypothesis]
) -> tuple[list[Hypothesis], list[Hypothesis]]:
    """Return the next beam, and the hypotheses that finish in this round, without their end."""
    ranked: list[Hypothesis] = []
    for tokens, total in active:
        continuations = [
            Hypothesis([*tokens, token], total + logprob)
            for token, logprob in enumerate(score(start + tokens).tolist())
            if logprob > -math.inf
        ]
        ranked += continuations
    beam, ended = [], []
    for tokens, total in by_sum(ranked):
        if tokens[-1] == end:
            ended.append(Hypothesis(tokens[:-1], total))
        else:
            beam.append(Hypothesis(tokens, total))
        if len(beam) == beam_size:
            break
    return beam, ended


def by_sum(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Rank hypotheses, the most likely first."""
    return sorted(hypotheses, key=lambda hypothesis: hypothesis.sum_logprob, reverse=True)


MISTAKES = {
    "greedy": Mistake(
        "The result is that of greedy search, a beam of one hypothesis. Keep the `beam_size` best of each round.",
        (Edit("active = [", "beam_size = 1\n    active = ["),),
    ),
    "finished forgotten": Mistake(
        "Finished hypotheses are lost, and the best unfinished one is returned. Keep the finished ones in a list of "
        "their own.",
        (Edit("unfinished =", "finished = [] if active else finished\n    unfinished ="),),
    ),
    "ends shrink the beam": Mistake(
        "A hypothesis that finishes takes a place in the beam, which shrinks. Go through the continuations until "
        "`beam_size` unfinished ones are found.",
        (Edit("by_sum(ranked)", "by_sum(ranked)[:beam_size]", next_beam),),
    ),
    "ends beyond the beam": Mistake(
        "Hypotheses finish however unlikely they are. Stop going through the continuations as soon as `beam_size` "
        "unfinished ones are found.",
        (Edit("else:", "elif len(beam) < beam_size:", next_beam), Edit("break", "continue", next_beam)),
    ),
    "best by the sum": Mistake(
        "The best is chosen by the sum, which favours short texts. Compare sum / number of tokens.",
        (Edit(" / max(1, len(hypothesis.tokens))", ""),),
    ),
    "end counted": Mistake(
        "In the mean, the end is counted as a token. Divide by the number of tokens without it.",
        (Edit("len(hypothesis.tokens)", "len(hypothesis.tokens) + (hypothesis in finished)"),),
    ),
    "empty text never": Mistake(
        "The mean of an empty text is a division by 0. Divide its sum by 1: max(1, length).",
        (
            Edit(
                "return hypothesis.sum_logprob", "return -math.inf if not hypothesis.tokens else hypothesis.sum_logprob"
            ),
        ),
    ),
    "mean returned": Mistake(
        "The second result is the mean. Compare means, but return the sum.",
        (Edit(", best.sum_logprob", ", mean(best)"),),
    ),
    "end for free": Mistake(
        "The log-probability of the end is not in the sum. Add it like that of every token.",
        (Edit("total + logprob", "total if token == end else total + logprob", next_beam),),
    ),
    "last token only": Mistake(
        "The sum is that of the last token only. Add its log-probability to the sum of the hypothesis.",
        (Edit("total + logprob", "logprob", next_beam),),
    ),
    "stops at the first end": Mistake(
        "The search stops as soon as one hypothesis has finished. Continue until `beam_size` have finished.",
        (Edit("len(finished) >= beam_size", "finished"),),
    ),
    "takes the first end": Mistake(
        "The search stops and returns the first hypothesis that finishes. Continue until `beam_size` have finished; "
        "then return the best by the mean.",
        (
            Edit("len(finished) >= beam_size", "finished"),
            Edit("unfinished = active", "unfinished = [] if finished else active"),
        ),
    ),
    "never stops early": Mistake(
        "The search continues after `beam_size` hypotheses have finished. Stop there.",
        (Edit("len(finished) >= beam_size or ", ""),),
    ),
    "beam for each hypothesis": Mistake(
        "The `beam_size` best continuations of each hypothesis are kept, and the beam grows. Keep the best of all "
        "together.",
        (
            Edit(
                "ranked += continuations",
                "ranked += by_sum(continuations)[:beam_size]",
                next_beam,
            ),
            Edit("if len(beam) == beam_size", "if False", next_beam),
        ),
    ),
    "one way for each hypothesis": Mistake(
        "Each hypothesis gets only its best continuation. All continuations of all hypotheses compete; two may come "
        "from one.",
        (
            Edit(
                "ranked += continuations",
                "ranked += by_sum(continuations)[:1] if len(active) > 1 else continuations",
                next_beam,
            ),
        ),
    ),
    "-inf taken": Mistake(
        "A token of log-probability -inf was chosen. Leave it out of the continuations.",
        (Edit("if logprob > -math.inf", "", next_beam),),
    ),
    "unfinished left out": Mistake(
        "Unfinished hypotheses are left out although fewer than `beam_size` have finished. They fill up to "
        "`beam_size`.",
        (Edit("unfinished = active", "unfinished = [] if finished else active"),),
    ),
    "unfinished always count": Mistake(
        "Unfinished hypotheses count although `beam_size` have finished. They only fill up what is missing.",
        (Edit("active[: max(0, beam_size - len(finished))]", "active"),),
    ),
    "one round too many": Mistake(
        "There is one round too many: at most `max_tokens` tokens, the end included.",
        (Edit("range(max_tokens)", "range(max_tokens + 1)"),),
    ),
    "one round too few": Mistake(
        "There is one round too few: up to `max_tokens` tokens are allowed.",
        (Edit("range(max_tokens)", "range(max_tokens - 1)"),),
    ),
    "end in the tokens": Mistake(
        "The end is among the tokens. Omit it.",
        (Edit("return best.tokens", "return best.tokens + [end] * (best in finished)"),),
    ),
    "start in the tokens": Mistake(
        "The tokens of `start` are among those returned. Omit them.", (Edit("return best", "return start + best"),)
    ),
}


# ------------------------------------------------------------------------------------------ test cases

Table = Callable[[tuple[int, ...]], Any]
START = [7, 8]


def _run_search(function: Answer, table: Table, end: int, beam_size: int, max_tokens: int) -> Any:
    """Run an answer on a table, and check how it calls ``score`` and the form of its result, (tokens, sum)."""
    calls = 0

    def score(tokens: Sequence[int]) -> Any:
        nonlocal calls
        calls += 1
        tokens = [int(token) for token in tokens]
        generated = tuple(tokens[len(START) :])
        if tokens[: len(START)] != START:
            raise WrongAnswer(f"score was called with {tokens}, which does not begin with start, {START}")
        if end in generated:
            raise WrongAnswer(
                f"score was called with {list(generated)} after start, which is finished: {end} is the end"
            )
        if len(generated) > max_tokens or calls > 10_000:
            raise WrongAnswer(
                f"score was called with {len(generated)} tokens after start, and {calls:,} times in all; max_tokens is "
                f"{max_tokens} and beam_size {beam_size}. Does the loop end?"
            )
        return table(generated).copy()

    return as_tokens_and_sum(function(score, list(START), end, beam_size, max_tokens))


def _search(*problems: tuple[Table, int, int, int]) -> Any:
    """Return a test case of several problems (table, end, beam_size, max_tokens)."""

    def run(function: Answer) -> Results:
        outcome: Results = []
        for number, (table, end, beam_size, max_tokens) in enumerate(problems):
            tokens, total = _run_search(function, table, end, beam_size, max_tokens)
            case = f" (beam_size {beam_size}, max_tokens {max_tokens}, case {number + 1})"
            outcome += [("the text" + case, tokens), ("the sum" + case, total)]
        return outcome

    return run


def _random(
    seed: int, count: int = 5, sharp: float = 2.0, end_bonus: float = 0.0, forbid: float = 0.0, end: int = 0
) -> Table:
    """Return a table of random log-probabilities (V,), the end's shifted by a bonus and some of them -inf."""

    @cache
    def table(generated: tuple[int, ...]) -> Any:
        rng = np.random.default_rng([seed, len(generated), *generated])
        logits = rng.standard_normal(count) * sharp
        logits[end] += end_bonus
        logits[rng.random(count) < forbid] = -np.inf
        if not np.isfinite(logits).any():
            logits[1] = 0.0
        return logits - np.log(np.exp(logits).sum())

    return table


def _by_hand(probabilities: Mapping[tuple[int, ...], Sequence[float]], otherwise: Sequence[float]) -> Table:
    def table(generated: tuple[int, ...]) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(np.array(probabilities.get(generated, otherwise)))

    return table


# 0 is the end. Greedy search chooses 1, after which nothing is likely; after 2 the end is nearly certain.
_TRAP = _by_hand({(): [0.0, 0.55, 0.45], (1,): [0.3, 0.36, 0.34], (2,): [0.9, 0.04, 0.06]}, [0.4, 0.35, 0.25])
# The only text is 2, 1, and the end.
_NARROW = _by_hand({(): [0.0, 0.0, 1.0], (2,): [0.0, 1.0, 0.0]}, [0.7, 0.0, 0.3])
# Each round has one continuation, so the beam never fills.
_LINE = _by_hand({(): [0.0, 1.0], (1,): [0.0, 1.0], (1, 1): [0.0, 1.0]}, [0.6, 0.4])
_ENDLESS = _random(90, end_bonus=-50.0)

EXERCISE = Exercise(
    number=10,
    title="Beam search",
    section=11,
    task=TASK,
    solutions=(beam_search,),
    mistakes=MISTAKES,
    unchanged={
        "start": "take a copy, `list(start)`; `tokens += [token]` changes a list in place, `tokens + [token]` does not."
    },
    cases=(
        Case(
            "beam_size 1, which is greedy search",
            _search(*((_random(seed), 0, 1, 6) for seed in range(4))),
            "With beam_size 1, take the most likely token each round until it is the end; the sum includes the end's "
            "log-probability. An end that is not the most likely token is not chosen.",
        ),
        Case(
            "a table in which greedy search misses the best text",
            _search((_TRAP, 0, 2, 5)),
            "Write down the rounds: after the first the beam is [1] and [2]; the best continuation is the end after 2.",
        ),
        Case(
            "random tables",
            _search(*((_random(100 + n, 5, 2.0, 1.0, end=n % 5), n % 5, 2 + n % 3, 6) for n in range(24))),
            "Write a round on paper: all continuations, sorted by their sums; ends go aside, the first `beam_size` "
            "others are the next beam. At the end compare sum / number of tokens.",
        ),
        Case(
            "tokens of log-probability -inf",
            _search(
                (_LINE, 0, 2, 5),
                (_LINE, 0, 3, 6),
                (_NARROW, 0, 2, 4),
                (_NARROW, 0, 3, 3),
                *((_random(200 + n, 5, 2.0, 0.5, 0.5), 0, 3, 5) for n in range(4)),
            ),
            "A token of log-probability -inf is never chosen, even if fewer than `beam_size` others are left. The beam "
            "may be smaller, or empty.",
        ),
        Case(
            "texts that do not end",
            _search(
                (_ENDLESS, 0, 2, 3),
                (_ENDLESS, 0, 3, 1),
                *((_random(300 + n, 5, 2.0, -1.0, end=4), 4, 3, 3) for n in range(6)),
            ),
            "After `max_tokens` rounds, unfinished hypotheses fill up if fewer than `beam_size` have finished.",
        ),
        Case(
            "texts that end at once",
            _search(*((_random(400 + seed, 6, 2.0, 4.0), 0, 2 + seed % 3, 5) for seed in range(8))),
            "A text may be empty: its sum is the end's log-probability, divided by 1.",
        ),
    ),
)
