"""Chapter 8. The search: from a window's features to candidates for its text.

The decoder scores every token; a sampler chooses among them. Three samplers share one loop. Greedy search takes the
most likely token each time. Sampling draws a token at random, for several candidates side by side. Beam search keeps
the few most likely candidates, because the best first token need not lead to the best text.

The loop feeds each chosen token back until ``<|endoftext|>``. Candidates are rows of a batch: when one forks, its row
of the cache is used twice; when one finishes, it leaves the batch. All of them attend to the same window. The loop
itself computes nothing: it yields a request to decode and choose, and receives the response. This lets the searches of
several windows advance together, and lets a GPU run a whole step in one launch.

Walkthrough: section 11.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ..common.backend import Array, array_module, to_numpy
from ..common.finite import check_finite, error_context
from ..model.engine import DecoderInput, Engine, KVCache
from ..model.layers import log_softmax, softmax
from ..tokenizer.tokenizer import Tokenizer
from .logit_filters import LogitFilter


class Candidate(NamedTuple):
    """One hypothesis: the tokens generated so far, and their log-probability."""

    tokens: tuple[int, ...]  # generated tokens, without the prompt and the end
    sum_logprob: float  # sum of their log-probabilities, including the end's once it is reached


class Choice(NamedTuple):
    """A next token for one of the candidates."""

    row: int  # index of the candidate that it continues
    token: int
    sum_logprob: float  # log-probability of the candidate with this token


ChooseTokens: TypeAlias = Callable[[Array, Sequence[Candidate]], list[Choice]]
"""Logits (R, V) of R candidates -> their continuations, in beam search the best first."""


class KernelSampler(NamedTuple):
    """A sampler in two parts, the first of which a GPU kernel can compute.

    The first part finds the ``top`` most likely tokens of each candidate, or samples one at a temperature above 0. The
    second part, ``choose_from``, makes choices from those tokens and their log-probabilities.
    """

    choose_from: Callable[[Sequence[Sequence[int]], Sequence[Sequence[float]], Sequence[Candidate]], list[Choice]]
    top: int = 1
    temperature: float = 0.0
    generator: np.random.Generator | None = None


class Sampler(NamedTuple):
    """A way to choose tokens, and the number of candidates that it needs."""

    choose: ChooseTokens
    initial_size: int = 1  # candidates at the start, all alike
    group_size: int = 1  # candidates in the result
    max_finished: int = 1  # the search ends when this many candidates have finished
    kernel_sampler: KernelSampler | None = None  # the same as `choose`, in two parts


class Probe(NamedTuple):
    """A token whose probability is read from the unfiltered logits."""

    position: int  # index into S
    token: int


class Alternative(NamedTuple):
    """A token that could have come next."""

    token: int
    logprob: float  # after the logit filters


class Fork(NamedTuple):
    """The most likely tokens to come next, at one step of a candidate."""

    sum_logprob: float  # log-probability of the tokens so far
    alternatives: Sequence[Alternative]  # the most likely next tokens, the best first


class DecoderRequest(NamedTuple):
    """One step of a search: tokens to decode, then a choice for each candidate."""

    rows: list[int]  # R rows of the cache to continue, in this order
    tokens: list[list[int]]  # (R, S), the tokens to append to each row
    candidates: list[Candidate]  # R of them, or several that all continue a single row
    logit_filters: Sequence[LogitFilter]
    sampler: Sampler
    probe: Probe | None = None
    where: str = "a window"  # for error messages
    alternatives: int = 0  # number of likely tokens to return for each candidate, apart from the choices

    @property
    def wanted(self) -> list[int]:
        """The positions of S whose logits are needed: that of the probe, if there is one, and the last."""
        last = len(self.tokens[0]) - 1
        return [last] if self.probe is None else [self.probe.position, last]


class DecoderResponse(NamedTuple):
    """The response to a ``DecoderRequest``."""

    choices: list[Choice]
    probability: float = math.nan  # of the probe's token
    alternatives: Sequence[Sequence[Alternative]] = ()  # for each candidate, if requested


class SearchResult(NamedTuple):
    """The outcome of a search."""

    candidates: list[Candidate]
    no_speech_prob: float
    forks: Mapping[tuple[int, ...], Fork] = {}  # by the tokens so far, if alternatives were requested


Search: TypeAlias = Generator[DecoderRequest, DecoderResponse, SearchResult]
"""A running search: yields a request for each step, receives the response, and returns the result."""


def search(
    prompt: Sequence[int],
    max_context: int,
    *,
    sampler: Sampler,
    logit_filters: Sequence[LogitFilter],
    tokenizer: Tokenizer,
    max_tokens: int,
    where: str = "a window",
    alternatives: int = 0,
) -> Search:
    """Generate tokens until the end: candidates for a window's text, and the probability of no speech.

    The prompt contains ``<|startoftranscript|>``. Each candidate gets at most ``max_tokens`` tokens, and no more than
    fit after the prompt in the decoder's ``max_context`` positions. If fewer candidates than the sampler's
    ``group_size`` have finished, the most likely unfinished ones follow them in the result. The logit filters must
    leave every candidate at least one token. The ``alternatives`` most likely tokens are recorded at every step of
    every candidate. Errors name the window by ``where``.
    """
    max_tokens = min(max_tokens, max_context - len(prompt) + 1)  # the last token is never fed back
    active = [Candidate((), 0.0)] * sampler.initial_size
    finished: list[Candidate] = []
    probe = Probe(list(prompt).index(tokenizer.sot), tokenizer.no_speech)
    forks: dict[tuple[int, ...], Fork] = {}
    response = yield DecoderRequest([0], [list(prompt)], active, logit_filters, sampler, probe, where, alternatives)
    no_speech_prob = response.probability
    rows = [0] * sampler.initial_size  # each candidate's row of the cache: at first they share one
    for length in range(1, max_tokens + 1):
        choices = response.choices
        for candidate, likely in zip(active, response.alternatives, strict=False):
            forks[candidate.tokens] = Fork(candidate.sum_logprob, likely)
        finished += [Candidate(active[c.row].tokens, c.sum_logprob) for c in choices if c.token == tokenizer.eot]
        choices = [c for c in choices if c.token != tokenizer.eot]
        active = [Candidate((*active[c.row].tokens, c.token), c.sum_logprob) for c in choices]
        if len(finished) >= sampler.max_finished or not active or length == max_tokens:
            break
        rows, tokens = [rows[c.row] for c in choices], [[c.token] for c in choices]
        response = yield DecoderRequest(rows, tokens, active, logit_filters, sampler, None, where, alternatives)
        rows = list(range(len(choices)))
    finished = finished[: sampler.max_finished]
    active.sort(key=lambda candidate: candidate.sum_logprob, reverse=True)
    return SearchResult(finished + active[: max(0, sampler.group_size - len(finished))], no_speech_prob, forks)


def choose_tokens(request: DecoderRequest, logits: Array) -> DecoderResponse:
    """Filter the logits and choose from them: logits (R, positions wanted, V)."""
    probability = math.nan
    with error_context(request.where):
        if request.probe is not None:  # before the filters, which suppress the no-speech token
            probability = float(to_numpy(softmax(logits[:, 0])[0, request.probe.token]))
            check_finite([probability], "the probability of no speech")
        last = logits[:, -1]
        if len(last) < len(request.candidates):
            last = array_module(logits).repeat(last, len(request.candidates), axis=0)  # (R, V), a row per candidate
        for logit_filter in request.logit_filters:
            last = logit_filter(last, [candidate.tokens for candidate in request.candidates])
        likely: Sequence[Sequence[Alternative]] = ()
        if request.alternatives:
            likely = [
                [Alternative(token, value) for token, value in zip(tokens, values, strict=True) if value > -math.inf]
                for tokens, values in zip(*top_tokens(last, request.alternatives), strict=True)
            ]
        return DecoderResponse(request.sampler.choose(last, request.candidates), probability, likely)


@runtime_checkable
class ChoosingEngine(Protocol):
    """An engine that also chooses the tokens."""

    def choose_batch(self, requests: Sequence[tuple[DecoderRequest, Any]]) -> list[tuple[DecoderResponse, Any]]:
        """Take a step of several searches, as the function ``choose_batch`` does."""


def choose_batch(engine: Engine, requests: Sequence[tuple[DecoderRequest, Any]]) -> list[tuple[DecoderResponse, Any]]:
    """Take a step of several searches: each request with its cache -> the response and the new cache."""
    recording = any(request.alternatives for request, _ in requests)  # needs the logits
    if isinstance(engine, ChoosingEngine) and not recording:
        return engine.choose_batch(requests)
    decoded = engine.decode_batch([DecoderInput(request.tokens, cache, request.wanted) for request, cache in requests])
    return [
        (choose_tokens(request, logits), new) for (request, _), (logits, new) in zip(requests, decoded, strict=True)
    ]


class SearchBatch:
    """Running searches, one per window, that take their steps together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[int, tuple[Search, DecoderRequest, KVCache]] = {}
        self._count = 0

    def add(self, search: Search, features: Array) -> int:
        """Start a search on a window's features (1, T, D); return its number."""
        self._running[self._count] = search, next(search), self._engine.new_cache(features)
        self._count += 1
        return self._count - 1

    def step(self) -> list[tuple[int, SearchResult]]:
        """Take one step in every search; return the numbers and results of those that finish."""
        numbers = list(self._running)
        requests = [(request, cache.reorder(request.rows)) for _, request, cache in self._running.values()]
        ended = []
        for number, (response, cache) in zip(numbers, choose_batch(self._engine, requests), strict=True):
            search = self._running.pop(number)[0]
            try:
                self._running[number] = search, search.send(response), cache
            except StopIteration as end:
                ended.append((number, end.value))
        return ended


def run_search(search: Search, features: Array, engine: Engine) -> SearchResult:
    """Run a single search to its end, on a window's features (1, T, D)."""
    batch = SearchBatch(engine)
    batch.add(search, features)
    while not (ended := batch.step()):
        pass
    return ended[0][1]


def best_candidate(candidates: Sequence[Candidate], length_penalty: float | None = None) -> Candidate:
    """Return the candidate with the highest log-probability for its length.

    A longer text is less likely because it has more tokens. By default the sum is divided by the number of tokens.
    With a penalty α the divisor is ((5 + length) / 6)^α (Wu et al., 2016, equation 14): 0 leaves the sum as it is.
    """

    def score(candidate: Candidate) -> float:
        length = len(candidate.tokens)
        divisor = max(length, 1) if length_penalty is None else ((5 + length) / 6) ** length_penalty
        return candidate.sum_logprob / divisor

    return max(candidates, key=score)


# ------------------------------------------------------------------------------------------ three samplers


def greedy(logits: Array, candidates: Sequence[Candidate]) -> list[Choice]:
    """Greedy search: continue each candidate with its most likely token. logits (R, V)."""
    return _choices_of(logits, candidates, logits.argmax(axis=-1))


def sample(
    logits: Array, candidates: Sequence[Candidate], *, temperature: float, generator: np.random.Generator
) -> list[Choice]:
    """Sample the next token of each candidate from softmax(logits / temperature). logits (R, V).

    Each candidate takes one uniform number from 0 to 1; its token is the first at which the cumulative probability
    exceeds that number.
    """
    xp = array_module(logits)
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)  # at most 0: exp cannot overflow
    with np.errstate(over="ignore"):  # at a temperature near 0, -inf is as good
        shifted /= temperature
    cumulative = xp.cumsum(softmax(shifted), axis=-1)
    uniform = generator.random(len(candidates)).tolist()
    # The last sum is 1 up to rounding.
    tokens = [(row > number * row[-1]).argmax() for row, number in zip(cumulative, uniform, strict=True)]
    return _choices_of(logits, candidates, xp.stack(tokens))


def beam_step(logits: Array, candidates: Sequence[Candidate], *, beam_size: int, eot: int) -> list[Choice]:
    """Beam search: the ``beam_size`` best continuations of all candidates, and the ends ranked among them.

    logits (R, V). Only the ``beam_size`` + 1 best tokens of each candidate can be chosen, since one may be the end.
    """
    return select_beam(*top_tokens(logits, beam_size + 1), candidates, beam_size=beam_size, eot=eot)


def top_tokens(logits: Array, count: int) -> tuple[list[list[int]], list[list[float]]]:
    """Return the most likely tokens and their log-probabilities, the best first: logits (R, V) -> (R, count) both."""
    xp = array_module(logits)
    logprobs = log_softmax(logits)  # (R, V)
    tokens, values = [], []
    for _ in range(min(count, logprobs.shape[-1])):  # the best, then the best of the rest: faster than sorting
        tokens.append(logprobs.argmax(axis=-1)[:, None])
        values.append(xp.take_along_axis(logprobs, tokens[-1], axis=-1))
        xp.put_along_axis(logprobs, tokens[-1], -math.inf, axis=-1)
    return _to_lists(xp.concatenate(tokens, axis=-1), xp.concatenate(values, axis=-1))


def select_beam(
    tokens: Sequence[Sequence[int]],
    logprobs: Sequence[Sequence[float]],
    candidates: Sequence[Candidate],
    *,
    beam_size: int,
    eot: int,
) -> list[Choice]:
    """Choose the next beam from each candidate's best tokens and their log-probabilities, (R, beam_size + 1) both."""
    choices = [
        Choice(row, int(token), candidate.sum_logprob + logprob)
        for row, candidate in enumerate(candidates)
        for token, logprob in zip(tokens[row], logprobs[row], strict=True)
        if logprob != -math.inf
    ]
    choices.sort(key=lambda choice: choice.sum_logprob, reverse=True)
    beam: list[Choice] = []
    unfinished = 0
    for choice in choices:
        beam.append(choice)
        unfinished += choice.token != eot
        if unfinished == beam_size:
            break
    return beam


def one_choice_each(
    tokens: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]], candidates: Sequence[Candidate]
) -> list[Choice]:
    """Continue each candidate with its only token, given that token's log-probability: (R, 1) both."""
    return [
        Choice(row, int(token), candidate.sum_logprob + logprob)
        for row, (candidate, (token,), (logprob,)) in enumerate(zip(candidates, tokens, logprobs, strict=True))
    ]


def _choices_of(logits: Array, candidates: Sequence[Candidate], tokens: Array) -> list[Choice]:
    """Continue each candidate with its token (R,), and add that token's log-probability. logits (R, V)."""
    column = tokens[:, None]
    logprobs = array_module(logits).take_along_axis(log_softmax(logits), column, axis=-1)
    return one_choice_each(*_to_lists(column, logprobs), candidates)


def _to_lists(tokens: Array, logprobs: Array) -> tuple[list[list[int]], list[list[float]]]:
    """Return tokens and their log-probabilities as lists, copied from a GPU in a single transfer.

    A float32 represents integers exactly up to 2²⁴; token ids are below 2¹⁶. Raises ``NumericalError`` for
    NaN: a row of logits with NaN or +inf anywhere has NaN as its log-probabilities.
    """
    both = to_numpy(array_module(logprobs).stack([tokens.astype(logprobs.dtype), logprobs]))
    check_finite(both[1].ravel().tolist(), "the log-probability of a token")
    return both[0].astype(int).tolist(), both[1].tolist()
