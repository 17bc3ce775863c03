"""Exercise 4: beam search."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from .checking import NO_MISTAKES, Answer, Case, Exercise, Results, WrongAnswer, as_pair

TASK = """\
Write beam_search(score, start, end, size, longest) -> (tokens, sum_logprob): the best text that a beam of `size` finds.

score(tokens) takes a list of tokens, `start` included, and gives the log-probabilities (V,) of the next one. `start`
is a list that every text begins with; `end` is the token that ends one. A hypothesis is a text and the sum of the
log-probabilities of what was said in it, the end included once it is said. At first there is one, with nothing said.
- In each of at most `longest` rounds, go through all ways to go on of all hypotheses, a token each, the likeliest sum
  first; one of -inf is no way. Where the token is the end, set the hypothesis aside as ended; the others make up the
  next beam. Stop going through them as soon as there are `size` of these.
- The rounds are over when `size` hypotheses have ended, or more, or none is left to go on.
- If fewer than `size` have ended then, the likeliest of those that have not fill up to `size`.
- Of all these the best has the highest sum divided by the number of its tokens (by 1 if it has none).
tokens is the list of what was said, without `start` and without the end."""

SKELETON = '''\
import numpy as np


def beam_search(score, start, end, size, longest):
    """score(tokens) -> (V,); start a list of tokens, end one -> (tokens without both, sum of log-probabilities)."""
    tokens, sum_logprob = [], ...
    return tokens, sum_logprob
'''

MISTAKES = {
    "greedy": "That is what greedy search finds: the beam is only one wide. Keep the `size` likeliest of each round.",
    "ended forgotten": (
        "Hypotheses that have ended are forgotten, and the best of those that have not is returned. Keep them in a "
        "list of their own."
    ),
    "ends take up room": (
        "A hypothesis that ends takes up room in the beam, which shrinks. Go on through the ways until `size` that "
        "have not ended are found."
    ),
    "ends beyond the beam": (
        "Hypotheses that end are set aside however unlikely they are. Stop going through the ways as soon as `size` "
        "others are found."
    ),
    "best by the sum": (
        "The best is chosen by the sum, which favours short texts. Divide by the number of tokens before you compare."
    ),
    "end counted": "In the mean, the end is counted as a token. Divide by the number of tokens without it.",
    "empty text never": "The mean of a text without tokens is a division by 0. Divide its sum by 1: max(1, length).",
    "mean returned": "The second result is the mean. Compare means, but return the sum.",
    "last token only": (
        "Only the log-probability of the last token counts. Add it to the sum of the hypothesis that it follows."
    ),
    "end for free": "The log-probability of the end is not in the sum. Add it like that of every token.",
    "stops at the first end": "The search is over as soon as one hypothesis has ended. It is over when `size` have.",
    "takes the first end": (
        "The search is over with the first hypothesis that ends, and that one is returned. It is over when `size` have "
        "ended; then the best by the mean is returned."
    ),
    "never stops early": (
        "The search goes on although `size` hypotheses have ended. What ends later does not count any more."
    ),
    "beam for each hypothesis": (
        "The `size` best ways are kept of each hypothesis, and the beam grows. Keep the `size` best of all together."
    ),
    "one way for each hypothesis": (
        "Each hypothesis goes on in its one likeliest way. All ways of all hypotheses compete; two may come from one."
    ),
    "-inf taken": "A token of log-probability -inf was taken. It cannot be said: leave it out of the ways.",
    "unended left out": (
        "Hypotheses that have not ended are left out although fewer than `size` have. They fill up to `size`."
    ),
    "unended always count": (
        "Hypotheses that have not ended count although `size` have. They only fill up what is missing."
    ),
    "one round too many": "There is one round too many: at most `longest` tokens are said, the end being one of them.",
    "one round too few": "There is one round too few: `longest` tokens may be said.",
    "end in the tokens": "The end is among the tokens. Leave it out.",
    "start in the tokens": "The tokens of `start` are among those returned. Leave them out.",
}


def solution(
    score: Any, start: list[int], end: int, size: int, longest: int, mistakes: frozenset[str] = NO_MISTAKES
) -> tuple[list[int], float]:
    """The best text and its sum of log-probabilities, with these mistakes."""
    going: list[tuple[list[int], float]] = [([], 0.0)]
    ended: list[tuple[list[int], float]] = []
    enough = 1 if {"greedy", "stops at the first end", "takes the first end"} & mistakes else size
    for _ in range(longest + ("one round too many" in mistakes) - ("one round too few" in mistakes)):
        going, new = _widen(score, start, going, end, 1 if "greedy" in mistakes else size, mistakes)
        ended += new
        if not going or (len(ended) >= enough and "never stops early" not in mistakes):
            break
    if "ended forgotten" in mistakes and going:
        ended = []
    rest = going if "unended always count" in mistakes else going[: max(0, size - len(ended))]
    if ended and {"unended left out", "takes the first end", "greedy"} & mistakes:
        rest = []

    def mean(hypothesis: tuple[list[int], float]) -> float:
        if "best by the sum" in mistakes:
            return hypothesis[1]
        if "empty text never" in mistakes and not hypothesis[0]:
            return -math.inf
        return hypothesis[1] / max(1, len(hypothesis[0]) + ("end counted" in mistakes and hypothesis in ended))

    best = max(ended + rest, key=mean)
    tokens = [*best[0], end] if "end in the tokens" in mistakes and best in ended else best[0]
    return [*start, *tokens] if "start in the tokens" in mistakes else tokens, (
        mean(best) if "mean returned" in mistakes else best[1]
    )


def _widen(score: Any, start: list[int], going: Any, end: int, size: int, mistakes: frozenset[str]) -> Any:
    """The next beam, and the hypotheses that end on the way to it, each (tokens, sum)."""
    ways: list[tuple[float, list[int], int]] = []
    for said, total in going:
        own = []
        for token, logprob in enumerate(score(start + said).tolist()):
            if logprob == -math.inf and "-inf taken" not in mistakes:
                continue
            total_with = logprob if "last token only" in mistakes else total + logprob
            if token == end and "end for free" in mistakes:
                total_with = total
            own.append((total_with, said, token))
        own.sort(key=lambda way: -way[0])
        ways += own[:1] if "one way for each hypothesis" in mistakes and len(going) > 1 else own
        if "beam for each hypothesis" in mistakes:
            ways[-len(own) :] = own[:size]
    ways.sort(key=lambda way: -way[0])
    if "ends take up room" in mistakes:
        ways = ways[:size]
    unended, ended = [], []
    for total, said, token in ways:
        if token == end:
            ended.append((said, total))
        else:
            unended.append(([*said, token], total))
        full = len(unended) >= size and "beam for each hypothesis" not in mistakes
        if full and "ends beyond the beam" not in mistakes:
            break
    return (unended if "beam for each hypothesis" in mistakes else unended[:size]), ended


# ------------------------------------------------------------------------------------------ what is tried

Table = Callable[[tuple[int, ...]], Any]
START = [7, 8]


def _ask(function: Answer, table: Table, end: int, size: int, longest: int) -> Any:
    """What a function finds in a table, checked for its form: (tokens, sum)."""
    calls = 0

    def score(tokens: Sequence[int]) -> Any:
        nonlocal calls
        calls += 1
        tokens = [int(token) for token in tokens]
        said = tuple(tokens[len(START) :])
        if tokens[: len(START)] != START:
            raise WrongAnswer(f"score was asked about {tokens}, which does not begin with start, {START}")
        if end in said:
            raise WrongAnswer(f"score was asked about {list(said)} after start, which has ended: {end} is the end")
        if len(said) > longest or calls > 10_000:
            raise WrongAnswer(
                f"score was asked about {len(said)} tokens after start, and {calls:,} times in all; longest is "
                f"{longest} and size {size}. Do the rounds end?"
            )
        return table(said).copy()

    tokens, total = as_pair(function(score, list(START), end, size, longest), "tokens", "sum_logprob")
    try:
        return [int(token) for token in tokens], float(total)
    except (TypeError, ValueError):
        raise WrongAnswer(f"the result is ({tokens!r}, {total!r}), expected a list of tokens and a number") from None


def _search(*problems: tuple[Table, int, int, int]) -> Any:
    """A step that solves several problems (table, end, size, longest)."""

    def run(function: Answer) -> Results:
        outcome: Results = []
        for number, (table, end, size, longest) in enumerate(problems):
            tokens, total = _ask(function, table, end, size, longest)
            case = f" (size {size}, longest {longest}, case {number + 1})"
            outcome += [("the text" + case, tokens), ("the sum" + case, total)]
        return outcome

    return run


def _random(
    seed: int, count: int = 5, sharp: float = 2.0, end_bonus: float = 0.0, forbid: float = 0.0, end: int = 0
) -> Table:
    """Log-probabilities (V,) that depend on the whole text, the end's shifted, and some of them -inf."""

    @cache
    def table(said: tuple[int, ...]) -> Any:
        rng = np.random.default_rng([seed, len(said), *said])
        logits = rng.standard_normal(count) * sharp
        logits[end] += end_bonus
        logits[rng.random(count) < forbid] = -np.inf
        if not np.isfinite(logits).any():
            logits[1] = 0.0
        return logits - np.log(np.exp(logits).sum())

    return table


def _by_hand(probabilities: Mapping[tuple[int, ...], Sequence[float]], otherwise: Sequence[float]) -> Table:
    def table(said: tuple[int, ...]) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(np.array(probabilities.get(said, otherwise)))

    return table


# 0 is the end. Greedy says 1, behind which nothing is likely; 2 is followed by something nearly certain.
_TRAP = _by_hand({(): [0.0, 0.55, 0.45], (1,): [0.3, 0.36, 0.34], (2,): [0.9, 0.04, 0.06]}, [0.4, 0.35, 0.25])
# Nothing else can be said than 2, 1, and the end.
_NARROW = _by_hand({(): [0.0, 0.0, 1.0], (2,): [0.0, 1.0, 0.0]}, [0.7, 0.0, 0.3])
# One way only, with no other token than the end to fill the beam with.
_LINE = _by_hand({(): [0.0, 1.0], (1,): [0.0, 1.0], (1, 1): [0.0, 1.0]}, [0.6, 0.4])
_ENDLESS = _random(90, end_bonus=-50.0)

EXERCISE = Exercise(
    number=4,
    title="Beam search",
    section=11,
    function="beam_search",
    task=TASK,
    skeleton=SKELETON,
    solution=solution,
    mistakes=MISTAKES,
    unchanged={
        "start": "take a copy, `list(start)`; `tokens += [token]` changes a list in place, `tokens + [token]` does not."
    },
    cases=(
        Case(
            "size 1, which is greedy search",
            _search(*((_random(seed), 0, 1, 6) for seed in range(4))),
            "With size 1, take the likeliest token each round until it is the end; the sum has the end's "
            "log-probability in it. An end that is not the likeliest token is not reached.",
        ),
        Case(
            "a table in which greedy search goes astray",
            _search((_TRAP, 0, 2, 5)),
            "Write down the rounds: after the first the beam is [1] and [2]; the likeliest way on is the end behind 2.",
        ),
        Case(
            "random tables",
            _search(*((_random(100 + n, 5, 2.0, 1.0, end=n % 5), n % 5, 2 + n % 3, 6) for n in range(24))),
            "Write a round on paper: all ways, sorted by their sums; ends go aside, the first `size` others go on. At "
            "the end compare sum / number of tokens.",
        ),
        Case(
            "tokens that cannot be said",
            _search(
                (_LINE, 0, 2, 5),
                (_LINE, 0, 3, 6),
                (_NARROW, 0, 2, 4),
                (_NARROW, 0, 3, 3),
                *((_random(200 + n, 5, 2.0, 0.5, 0.5), 0, 3, 5) for n in range(4)),
            ),
            "A way of log-probability -inf is no way, even where fewer than `size` others are there. The beam may be "
            "narrower, or empty.",
        ),
        Case(
            "texts that do not end",
            _search(
                (_ENDLESS, 0, 2, 3),
                (_ENDLESS, 0, 3, 1),
                *((_random(300 + n, 5, 2.0, -1.0, end=4), 4, 3, 3) for n in range(6)),
            ),
            "After `longest` rounds the hypotheses that have not ended fill up where fewer than `size` have.",
        ),
        Case(
            "texts that end at once",
            _search(*((_random(400 + seed, 6, 2.0, 4.0), 0, 2 + seed % 3, 5) for seed in range(8))),
            "A text may be empty: its sum is the end's log-probability, and it is divided by 1.",
        ),
    ),
)
