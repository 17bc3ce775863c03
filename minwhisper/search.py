"""Chapter 8. Choosing tokens: from the sound's features to candidates for what is said in a window.

The decoder gives scores; something has to choose. There are three ways, and one loop for all of them. Greedy search
takes the likeliest token each time. Sampling draws one at random, and several candidates can be drawn side by side.
A beam search keeps the few likeliest candidates, because the best beginning need not lead to the best end.

The loop feeds what was chosen back until ``<|endoftext|>``. Candidates are rows of a batch: one that forks has its
row of the cache taken twice, one that has ended leaves the batch, and all hear the same sound. The loop itself does
not compute: it says what it wants to have fed to the decoder and is given the scores, so that the searches of several
windows can take their steps together.

Walkthrough: section 11.
"""

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .backend import Array, array_module, to_numpy
from .engine import Engine, Feed, Memory
from .finite import check_finite
from .layers import log_softmax, softmax, working_dtype
from .rules import Rule
from .tokenizer import Tokenizer


class Candidate(NamedTuple):
    """What may have been said so far."""

    tokens: tuple[int, ...]  # without the prompt and the end
    sum_logprob: float  # log-probability of them all, and of the end once it is reached


class Choice(NamedTuple):
    """A next token for one of the candidates."""

    row: int  # which candidate goes on
    token: int
    sum_logprob: float  # log-probability of the candidate with it


Chooser: TypeAlias = Callable[[Array, Sequence[Candidate]], list[Choice]]
"""From the scores (R, V) of R candidates to how they go on, the best first where it matters."""


class Strategy(NamedTuple):
    """A way to choose, and how many candidates it takes."""

    choose: Chooser
    start: int = 1  # candidates to begin with, all alike
    keep: int = 1  # candidates to end with
    enough: int = 1  # so many that have ended end the search


class Step(NamedTuple):
    """What a search wants to have fed to the decoder next."""

    rows: list[int]  # R rows of the cache that go on, in this order
    tokens: list[list[int]]  # (R, S), what each goes on with
    wanted: list[int]  # the positions of S whose scores are wanted


class Found(NamedTuple):
    """What comes out of a search."""

    candidates: list[Candidate]
    no_speech: float  # how likely nobody speaks


Search: TypeAlias = Generator[Step, Array, Found]
"""A search under way: yields a step, is sent its logits (R, positions wanted, V), and returns what it has found."""


def search(
    prompt: Sequence[int], room: int, *, strategy: Strategy, rules: Sequence[Rule], tokenizer: Tokenizer, most: int
) -> Search:
    """Say tokens until the end: candidates for what is said in a window, and how likely nobody speaks.

    The prompt has ``<|startoftranscript|>`` in it. Each candidate says at most ``most`` tokens, and no more than there
    is ``room`` for in the decoder behind the prompt. Candidates that have not ended when the search has
    come after those that have, the likeliest first, where there would be fewer than the strategy keeps. The rules
    have to leave every candidate a token to say.
    """
    most = min(most, room - len(prompt) + 1)  # the last one said is never fed back
    start, last = list(prompt).index(tokenizer.sot), len(prompt) - 1
    logits = yield Step([0], [list(prompt)], [start, last])  # (1, 2, V)
    # Before any rule: no speech is a special token that the rules forbid.
    no_speech = float(to_numpy(softmax(logits[:, 0])[0, tokenizer.no_speech]))
    check_finite([no_speech], "the probability of no speech")
    scores = array_module(logits).repeat(logits[:, 1], strategy.start, axis=0)  # (R, V), a row a candidate
    rows = [0] * strategy.start  # where each is in the cache: at first all are the same text
    going = [Candidate((), 0.0)] * strategy.start
    ended: list[Candidate] = []
    for length in range(1, most + 1):
        for rule in rules:
            scores = rule(scores, [candidate.tokens for candidate in going])
        choices = strategy.choose(scores, going)
        ended += [Candidate(going[c.row].tokens, c.sum_logprob) for c in choices if c.token == tokenizer.eot]
        choices = [c for c in choices if c.token != tokenizer.eot]
        going = [Candidate((*going[c.row].tokens, c.token), c.sum_logprob) for c in choices]
        if len(ended) >= strategy.enough or not going or length == most:
            break
        logits = yield Step([rows[c.row] for c in choices], [[c.token] for c in choices], [0])
        scores, rows = logits[:, 0], list(range(len(choices)))
    ended = ended[: strategy.enough]
    going.sort(key=lambda candidate: candidate.sum_logprob, reverse=True)
    return Found(ended + going[: max(0, strategy.keep - len(ended))], no_speech)


class Searches:
    """Searches under way, each in a window of its own, that take their steps together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[int, tuple[Search, Step, Memory]] = {}
        self._count = 0

    def add(self, search: Search, features: Array) -> int:
        """Begin a search in a window's features (1, T, D); returns its number."""
        self._running[self._count] = search, next(search), self._engine.new_cache(features)
        self._count += 1
        return self._count - 1

    def step(self) -> list[tuple[int, Found]]:
        """Take one step in all; returns those that have ended by it, by their numbers."""
        numbers = list(self._running)
        feeds = [Feed(step.tokens, cache.take(step.rows), step.wanted) for _, step, cache in self._running.values()]
        ended = []
        for number, (logits, cache) in zip(numbers, self._engine.decode_together(feeds), strict=True):
            search = self._running.pop(number)[0]
            try:
                self._running[number] = search, search.send(logits), cache
            except StopIteration as end:
                ended.append((number, end.value))
        return ended


def complete(search: Search, features: Array, engine: Engine) -> Found:
    """Run one search to its end, in a window's features (1, T, D)."""
    searches = Searches(engine)
    searches.add(search, features)
    while not (ended := searches.step()):
        pass
    return ended[0][1]


def best_candidate(candidates: Sequence[Candidate], length_penalty: float | None = None) -> Candidate:
    """The candidate with the highest log-probability for its length.

    A longer text is less likely because it has more tokens. Divided by their number, candidates compare by the mean;
    with a penalty α the divisor is ((5 + length) / 6)^α (Wu et al., 2016, equation 14): 0 leaves the sum as it is.
    """

    def worth(candidate: Candidate) -> float:
        length = len(candidate.tokens)
        divisor = max(length, 1) if length_penalty is None else ((5 + length) / 6) ** length_penalty
        return candidate.sum_logprob / divisor

    return max(candidates, key=worth)


# ------------------------------------------------------------------------------------------ three ways to choose


def likeliest(scores: Array, going: Sequence[Candidate]) -> list[Choice]:
    """Greedy: each candidate goes on with its likeliest token. scores (R, V)."""
    return _follow(scores, going, scores.argmax(axis=-1))


def draw(
    scores: Array, going: Sequence[Candidate], *, temperature: float, generator: np.random.Generator
) -> list[Choice]:
    """Sampling: each candidate goes on with a token drawn by softmax(scores / temperature). scores (R, V).

    One number from 0 to 1 is drawn a candidate; the token is the first at which the probabilities so far exceed it.
    """
    xp = array_module(scores)
    shifted = scores.astype(np.float64) - scores.max(axis=-1, keepdims=True)  # at most 0: no temperature overflows
    with np.errstate(over="ignore"):  # at next to no temperature, -inf is as good
        shifted /= temperature
    reached = xp.cumsum(softmax(shifted), axis=-1)
    drawn = generator.random(len(going)).tolist()
    # The last sum is 1 but for rounding.
    tokens = [(row > number * row[-1]).argmax() for row, number in zip(reached, drawn, strict=True)]
    return _follow(scores, going, xp.stack(tokens))


def widen(scores: Array, going: Sequence[Candidate], *, size: int, eot: int) -> list[Choice]:
    """Beam search: the ``size`` likeliest ways on of all candidates, and the ends that are as likely. scores (R, V).

    Of each candidate only its ``size`` + 1 best tokens can be among them, since one of these may be the end.
    """
    xp = array_module(scores)
    logprobs = log_softmax(scores)  # (R, V)
    best, values = [], []
    for _ in range(min(size + 1, logprobs.shape[-1])):  # the best, then the best of the others: faster than any sorting
        best.append(logprobs.argmax(axis=-1)[:, None])
        values.append(xp.take_along_axis(logprobs, best[-1], axis=-1))
        xp.put_along_axis(logprobs, best[-1], -math.inf, axis=-1)
    tokens, worth = _down(xp.concatenate(best, axis=-1), xp.concatenate(values, axis=-1))  # (R, size + 1) both
    choices = [
        Choice(row, int(token), candidate.sum_logprob + logprob)
        for row, candidate in enumerate(going)
        for token, logprob in zip(tokens[row], worth[row], strict=True)
        if logprob != -math.inf
    ]
    choices.sort(key=lambda choice: choice.sum_logprob, reverse=True)
    kept: list[Choice] = []
    room = size
    for choice in choices:
        kept.append(choice)
        room -= choice.token != eot
        if not room:
            break
    return kept


def _follow(scores: Array, going: Sequence[Candidate], tokens: Array) -> list[Choice]:
    """Each candidate with its token (R,), and what that adds to its log-probability. scores (R, V)."""
    xp = array_module(scores)
    logprobs = xp.take_along_axis(log_softmax(scores), tokens[:, None], axis=-1)[:, 0]
    return [
        Choice(row, int(token), candidate.sum_logprob + logprob)
        for row, (candidate, token, logprob) in enumerate(zip(going, *_down(tokens, logprobs), strict=True))
    ]


def _down(tokens: Array, logprobs: Array) -> list[list[Any]]:
    """Tokens and their log-probabilities for Python, in one piece: what a step brings down from a GPU.

    A float32 holds whole numbers up to 2²⁴, a vocabulary less than 2¹⁶. A row of scores with NaN or +inf anywhere in it
    has no log-probabilities but NaN, and raises :class:`NumericalError` here.
    """
    dtype = working_dtype(logprobs)
    both = to_numpy(array_module(logprobs).stack([tokens.astype(dtype), logprobs.astype(dtype)]))
    check_finite(both[1].ravel().tolist(), "the log-probability of a token")
    return both.tolist()
