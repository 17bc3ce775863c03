"""Chapter 8. Choosing tokens: from the sound's features to candidates for what is said in a window.

The decoder gives scores; something has to choose. There are three ways, and one loop for all of them. Greedy search
takes the likeliest token each time. Sampling draws one at random, and several candidates can be drawn side by side.
A beam search keeps the few likeliest candidates, because the best beginning need not lead to the best end.

The loop feeds what was chosen back until ``<|endoftext|>``. Candidates are rows of a batch: one that forks has its
row of the cache taken twice, one that has ended leaves the batch, and all attend to the same window. The loop itself
does not compute: it yields what is to be decoded and how to choose, and is sent the choices. So the searches of several
windows can take their steps together, and a GPU can do all of a step in one launch.

Walkthrough: section 11.
"""

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ..common.backend import Array, array_module, to_numpy
from ..common.finite import check_finite, error_context
from ..model.engine import DecoderInput, Engine, KVCache
from ..model.layers import log_softmax, softmax, working_dtype
from ..tokenizer.tokenizer import Tokenizer
from .logit_filters import LogitFilter


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


class Sampler(NamedTuple):
    """A chooser in two parts, of which the first is a reduction of the logits that a GPU can do in its own kernel.

    The first finds the ``top`` most likely tokens of each candidate, or at a temperature above 0 samples one; the
    second makes choices from those tokens and their log-probabilities.
    """

    choose: Callable[[Sequence[Sequence[int]], Sequence[Sequence[float]], Sequence[Candidate]], list[Choice]]
    top: int = 1
    temperature: float = 0.0
    generator: np.random.Generator | None = None


class Strategy(NamedTuple):
    """A way to choose, and how many candidates it takes."""

    choose: Chooser
    start: int = 1  # candidates to begin with, all alike
    keep: int = 1  # candidates to end with
    enough: int = 1  # so many that have ended end the search
    sampler: Sampler | None = None  # what `choose` does, in two parts


class Probe(NamedTuple):
    """A probability to be read off the unfiltered logits."""

    position: int  # of S
    token: int


class Step(NamedTuple):
    """What a search wants next: sequences continued by tokens, and then a choice for each candidate."""

    rows: list[int]  # R rows of the cache that go on, in this order
    tokens: list[list[int]]  # (R, S), what each goes on with
    going: list[Candidate]  # R of them, or several that all go on from the only row
    rules: Sequence[LogitFilter]
    strategy: Strategy
    probe: Probe | None = None
    where: str = "a window"  # for messages

    @property
    def wanted(self) -> list[int]:
        """The positions of S whose logits are needed: the last, after that of the probe."""
        last = len(self.tokens[0]) - 1
        return [last] if self.probe is None else [self.probe.position, last]


class Chosen(NamedTuple):
    """What a search is sent after a step."""

    choices: list[Choice]
    probability: float = math.nan  # what the probe found


class Found(NamedTuple):
    """What comes out of a search."""

    candidates: list[Candidate]
    no_speech: float  # how likely nobody speaks


Search: TypeAlias = Generator[Step, Chosen, Found]
"""A search under way: yields a step, is sent what was chosen, and returns what it has found."""


def search(
    prompt: Sequence[int],
    room: int,
    *,
    strategy: Strategy,
    rules: Sequence[LogitFilter],
    tokenizer: Tokenizer,
    most: int,
    where: str = "a window",
) -> Search:
    """Say tokens until the end: candidates for what is said in a window, and how likely nobody speaks.

    The prompt has ``<|startoftranscript|>`` in it. Each candidate says at most ``most`` tokens, and no more than there
    is ``room`` for in the decoder behind the prompt. Candidates that have not ended when the search has
    come after those that have, the likeliest first, where there would be fewer than the strategy keeps. The rules
    have to leave every candidate a token to say. Errors name the window by ``where``.
    """
    most = min(most, room - len(prompt) + 1)  # the last one said is never fed back
    going = [Candidate((), 0.0)] * strategy.start
    ended: list[Candidate] = []
    probe = Probe(list(prompt).index(tokenizer.sot), tokenizer.no_speech)
    chosen = yield Step([0], [list(prompt)], going, rules, strategy, probe, where)
    no_speech = chosen.probability
    rows = [0] * strategy.start  # where each candidate is in the cache: at first all are the same text
    for length in range(1, most + 1):
        choices = chosen.choices
        ended += [Candidate(going[c.row].tokens, c.sum_logprob) for c in choices if c.token == tokenizer.eot]
        choices = [c for c in choices if c.token != tokenizer.eot]
        going = [Candidate((*going[c.row].tokens, c.token), c.sum_logprob) for c in choices]
        if len(ended) >= strategy.enough or not going or length == most:
            break
        rows, new = [rows[c.row] for c in choices], [[c.token] for c in choices]
        chosen = yield Step(rows, new, going, rules, strategy, where=where)
        rows = list(range(len(choices)))
    ended = ended[: strategy.enough]
    going.sort(key=lambda candidate: candidate.sum_logprob, reverse=True)
    return Found(ended + going[: max(0, strategy.keep - len(ended))], no_speech)


def choose(step: Step, logits: Array) -> Chosen:
    """Filter the logits and choose from them: logits (R, positions wanted, V)."""
    probability = math.nan
    with error_context(step.where):
        if step.probe is not None:  # before any rule: no speech is a special token that the rules forbid
            probability = float(to_numpy(softmax(logits[:, 0])[0, step.probe.token]))
            check_finite([probability], "the probability of no speech")
        scores = logits[:, -1]
        if len(scores) < len(step.going):
            scores = array_module(logits).repeat(scores, len(step.going), axis=0)  # (R, V), a row per candidate
        for rule in step.rules:
            scores = rule(scores, [candidate.tokens for candidate in step.going])
        return Chosen(step.strategy.choose(scores, step.going), probability)


@runtime_checkable
class ChoosingEngine(Protocol):
    """An engine that chooses, too."""

    def choose_batch(self, requests: Sequence[tuple[Step, Any]]) -> list[tuple[Chosen, Any]]:
        """Do what :func:`choose_batch` does."""


def choose_batch(engine: Engine, requests: Sequence[tuple[Step, Any]]) -> list[tuple[Chosen, Any]]:
    """Take a step of several searches: for each, with the cache it goes on from, the choices and the new cache."""
    if isinstance(engine, ChoosingEngine):
        return engine.choose_batch(requests)
    decoded = engine.decode_batch([DecoderInput(step.tokens, cache, step.wanted) for step, cache in requests])
    return [(choose(step, logits), new) for (step, _), (logits, new) in zip(requests, decoded, strict=True)]


class Searches:
    """Searches under way, each in a window of its own, that take their steps together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[int, tuple[Search, Step, KVCache]] = {}
        self._count = 0

    def add(self, search: Search, features: Array) -> int:
        """Begin a search in a window's features (1, T, D); returns its number."""
        self._running[self._count] = search, next(search), self._engine.new_cache(features)
        self._count += 1
        return self._count - 1

    def step(self) -> list[tuple[int, Found]]:
        """Take one step in all; returns those that have ended by it, by their numbers."""
        numbers = list(self._running)
        requests = [(step, cache.reorder(step.rows)) for _, step, cache in self._running.values()]
        ended = []
        for number, (chosen, cache) in zip(numbers, choose_batch(self._engine, requests), strict=True):
            search = self._running.pop(number)[0]
            try:
                self._running[number] = search, search.send(chosen), cache
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


def greedy(scores: Array, going: Sequence[Candidate]) -> list[Choice]:
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


def beam_step(scores: Array, going: Sequence[Candidate], *, size: int, eot: int) -> list[Choice]:
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
    return best_ways(tokens, worth, going, size=size, eot=eot)


def best_ways(
    tokens: Sequence[Sequence[int]],
    logprobs: Sequence[Sequence[float]],
    going: Sequence[Candidate],
    *,
    size: int,
    eot: int,
) -> list[Choice]:
    """Of each candidate's best tokens and their log-probabilities, (R, size + 1) both, those that are kept."""
    choices = [
        Choice(row, int(token), candidate.sum_logprob + logprob)
        for row, candidate in enumerate(going)
        for token, logprob in zip(tokens[row], logprobs[row], strict=True)
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


def only_way(
    tokens: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]], going: Sequence[Candidate]
) -> list[Choice]:
    """Each candidate with its only token and that token's log-probability, (R, 1) both."""
    return [
        Choice(row, int(token), candidate.sum_logprob + logprob)
        for row, (candidate, (token,), (logprob,)) in enumerate(zip(going, tokens, logprobs, strict=True))
    ]


def _follow(scores: Array, going: Sequence[Candidate], tokens: Array) -> list[Choice]:
    """Each candidate with its token (R,), and what that adds to its log-probability. scores (R, V)."""
    xp = array_module(scores)
    column = tokens[:, None]
    found, logprobs = _down(column, xp.take_along_axis(log_softmax(scores), column, axis=-1))
    return only_way(found, logprobs, going)


def _down(tokens: Array, logprobs: Array) -> list[list[Any]]:
    """Tokens and their log-probabilities for Python, in one piece: what a step brings down from a GPU.

    A float32 holds whole numbers up to 2²⁴, a vocabulary less than 2¹⁶. A row of scores with NaN or +inf anywhere in it
    has no log-probabilities but NaN, and raises :class:`NumericalError` here.
    """
    dtype = working_dtype(logprobs)
    both = to_numpy(array_module(logprobs).stack([tokens.astype(dtype), logprobs.astype(dtype)]))
    check_finite(both[1].ravel().tolist(), "the log-probability of a token")
    return both.tolist()
