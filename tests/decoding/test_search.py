"""The search: each sampler on a made-up decoder, compared with a plain search that ranks every sequence."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.decoding.logit_filters import allow_eot_if_all_suppressed, suppress_tokens
from minwhisper.decoding.search import (
    Candidate,
    Sampler,
    beam_step,
    best_candidate,
    greedy,
    run_search,
    sample,
    search,
)
from minwhisper.errors import NumericalError

# A vocabulary of seven: four text tokens, the end token, and two tokens that are always suppressed.
TEXT = (0, 1, 2, 3)
EOT, SOT, NO_SPEECH, SIZE = 4, 5, 6, 7
SPECIAL = SimpleNamespace(eot=EOT, sot=SOT, no_speech=NO_SPEECH)
FILTERS = (partial(suppress_tokens, ids=(SOT, NO_SPEECH)),)

LogitsOf = Callable[[tuple[int, ...]], np.ndarray]  # prompt and generated tokens -> logits (V,) of the next token


class FakeCache(NamedTuple):
    """A cache that holds the decoded tokens in place of their keys and values."""

    texts: tuple[tuple[int, ...], ...]

    def reorder(self, rows: list[int]) -> "FakeCache":
        return FakeCache(tuple(self.texts[row] for row in rows))


class Decoder:
    """A decoder whose logits are a function of the tokens so far. It records its inputs."""

    def __init__(self, logits_of: LogitsOf) -> None:
        self.logits_of, self.fed = logits_of, []

    def new_cache(self, features) -> FakeCache:
        return FakeCache(((),) * len(features))

    def decode_batch(self, inputs):
        return [self.decode(*decoder_input) for decoder_input in inputs]

    def decode(self, tokens, cache, wanted):
        self.fed.append(tokens)
        texts = [text + tuple(new) for text, new in zip(cache.texts, tokens, strict=True)]
        past = len(cache.texts[0])
        logits = [[self.logits_of(text[: past + position + 1]) for position in wanted] for text in texts]
        return np.array(logits, np.float32), FakeCache(tuple(texts))


def random_logits(seed: int, spread: float = 2.0) -> LogitsOf:
    """Return a function that gives random logits, always the same for the same tokens."""
    return lambda text: spread * np.random.default_rng([seed, *text]).standard_normal(SIZE)


def run(
    logits_of: LogitsOf, sampler: Sampler, *, max_tokens: int = 4, prompt=(SOT,), filters=FILTERS, positions: int = 50
):
    """Run a search; return its candidates, the no-speech probability, and the inputs of the decoder."""
    decoder = Decoder(logits_of)
    begun = search(prompt, positions, sampler=sampler, logit_filters=filters, tokenizer=SPECIAL, max_tokens=max_tokens)
    candidates, no_speech, _ = run_search(begun, np.zeros((1, 3, 8), np.float32), decoder)
    return candidates, no_speech, decoder.fed


def beam(size: int, max_finished: int | None = None) -> Sampler:
    return Sampler(partial(beam_step, beam_size=size, eot=EOT), group_size=size, max_finished=max_finished or size)


def sampling(count: int, temperature: float = 1.0) -> Sampler:
    choose = partial(sample, temperature=temperature, generator=np.random.default_rng(0))
    return Sampler(choose, initial_size=count, group_size=count, max_finished=count)


EVERY_SAMPLER = pytest.mark.parametrize(
    "sampler", [Sampler(greedy), beam(3), sampling(3)], ids=["greedy", "beam of 3", "sampling"]
)


def logprobs_after(logits_of: LogitsOf, text: tuple[int, ...]) -> np.ndarray:
    """Return the log-probabilities (V,) of the next token in float64, computed independently of the package."""
    row = np.array(logits_of((SOT, *text)), np.float32).astype(np.float64)
    row[[SOT, NO_SPEECH]] = -np.inf
    return row - np.log(np.exp(row).sum())


def plain_beam_search(logits_of: LogitsOf, size: int, max_finished: int, max_tokens: int):
    """Rank every token after every candidate at each step; return sequences and their sums, and the number of steps."""
    active, finished, steps = {(): 0.0}, {}, 0
    while len(finished) < max_finished and active and steps < max_tokens:
        steps += 1
        sums = {
            (*text, token): total + logprob
            for text, total in active.items()
            for token, logprob in enumerate(logprobs_after(logits_of, text))
            if logprob > -np.inf
        }
        active = {}
        for text in sorted(sums, key=sums.__getitem__, reverse=True):
            if text[-1] != EOT:
                active[text] = sums[text]
            elif len(finished) < max_finished:
                finished[text[:-1]] = sums[text]
            if len(active) == size:
                break
    unfinished = sorted(active.items(), key=lambda item: item[1], reverse=True)
    return [*finished.items(), *unfinished[: max(0, size - len(finished))]], steps


# ------------------------------------------------------------------------------------------ the three samplers


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0, 1, 2, 3, 5, 7, 50]),  # 0: greedy search, which is a beam of one
    patience=st.sampled_from([0.4, 1.0, 1.5, 3.0]),
    max_tokens=st.integers(1, 6),
    end=st.sampled_from([-2.0, 0.0, 2.0]),
)
def test_greedy_and_beam_search_equal_a_plain_search(seed, size, patience, max_tokens, end):
    def logits_of(text):
        return random_logits(seed)(text) + end * (np.arange(SIZE) == EOT)

    max_finished = max(1, round(size * patience))
    max_tokens = min(max_tokens, 3) if size == 50 else max_tokens  # a beam of 50 has nearly all sequences of three
    found, _, fed = run(logits_of, beam(size, max_finished) if size else Sampler(greedy), max_tokens=max_tokens)
    expected, steps = plain_beam_search(logits_of, max(size, 1), max_finished, max_tokens)
    assert [candidate.tokens for candidate in found] == [tokens for tokens, _ in expected]
    assert [candidate.sum_logprob for candidate in found] == pytest.approx([total for _, total in expected], abs=1e-4)
    assert len(fed) == steps


def test_finished_samples_leave_the_batch_and_come_first():
    candidates, _, fed = run(random_logits(3, spread=0.5), sampling(12), max_tokens=3)
    lengths = [len(candidate.tokens) for candidate in candidates]
    assert [len(step) for step in fed] == [1, *(sum(length >= step for length in lengths) for step in (1, 2))]
    assert not any(EOT in row for step in fed for row in step)
    unfinished = [candidate.sum_logprob for candidate in candidates if len(candidate.tokens) == 3]
    assert 2 <= len(unfinished) < 12
    assert lengths[-len(unfinished) :] == [3] * len(unfinished)
    assert unfinished == sorted(unfinished, reverse=True)


# ------------------------------------------------------------------------------------------ inputs of the decoder


@pytest.mark.parametrize(
    ("max_tokens", "positions", "generated"), [(3, 50, 3), (100, 5, 4), (100, 2, 1), (4, 5, 4), (1, 2, 1)]
)
def test_max_tokens_and_max_context_limit_the_tokens(max_tokens, positions, generated):
    # The last token needs no position: it is never fed back.
    candidates, _, fed = run(
        lambda text: np.eye(SIZE)[1], Sampler(greedy), max_tokens=max_tokens, prompt=(0, SOT), positions=positions
    )
    assert [candidate.tokens for candidate in candidates] == [(1,) * generated]
    assert len(fed) == generated


# ------------------------------------------------------------------------------------------ logits of -inf and NaN


@EVERY_SAMPLER
def test_the_end_follows_if_everything_is_suppressed(sampler):
    """The filter then allows only the end token, with a log-probability of 0."""

    def after_two_tokens(logits, tokens):
        return np.where([[len(generated) == 2] for generated in tokens], -np.float32(np.inf), logits)

    filters = (*FILTERS, after_two_tokens, partial(allow_eot_if_all_suppressed, eot=EOT))
    row = np.array([5.0, 1.0, 0.0, 0.0, -20.0, 0.0, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for candidate in run(lambda text: row, sampler, filters=filters, max_tokens=9)[0]:
            assert len(candidate.tokens) == 2
            total = sum(logprobs_after(lambda text: row, ())[[*candidate.tokens]])
            assert candidate.sum_logprob == pytest.approx(total, abs=1e-4)


@EVERY_SAMPLER
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_logits_that_are_not_finite_raise_an_error(sampler, bad):
    """The logits of a single hypothesis count too: it must not silently drop out of the beam."""
    for spoiled, what in (
        (lambda text: len(text) == 1, "the probability of no speech"),
        (lambda text: len(text) == 2, "the log-probability of a token"),
        (lambda text: text[1:] == (1,), "the log-probability of a token"),
    ):

        def logits_of(text, spoiled=spoiled):
            return np.array([2.9, bad if spoiled(text) else 3.0, 0, 0, 0, 0, 0])

        message = rf"^a window: {what}: expected a finite value, the model computed nan; .*load it"
        with pytest.raises(NumericalError, match=message):
            run(logits_of, sampler)


# ------------------------------------------------------------------------------------------ single steps


def empty(count: int) -> list[Candidate]:
    return [Candidate((), 0.0)] * count


@pytest.mark.parametrize("temperature", [0.3, 3.0])
def test_a_sample_is_the_first_token_whose_cumulative_probability_exceeds_the_random_number(temperature, rng):
    logits = rng.standard_normal((2000, SIZE)).astype(np.float32)
    logits[:, 3] = -math.inf
    choices = sample(logits, empty(2000), temperature=temperature, generator=np.random.default_rng(9))
    numbers = np.random.default_rng(9).random(2000)
    weights = np.exp(logits.astype(np.float64) / temperature)
    cumulative = weights.cumsum(axis=-1) / weights.sum(axis=-1, keepdims=True)
    expected = (cumulative <= numbers[:, None]).sum(axis=-1).tolist()
    assert [(choice.row, choice.token) for choice in choices] == list(enumerate(expected))
    assert all(type(part) in (int, float) for choice in choices for part in choice)


@pytest.mark.parametrize(("number", "token"), [(0.0, 1), (1 - 2**-53, 5)])
def test_extreme_random_numbers_sample_no_suppressed_token(number, token, rng):
    logits = rng.standard_normal((200, SIZE)).astype(np.float32)
    logits[:, [0, 6]] = -math.inf
    weights = np.exp(logits.astype(np.float64))
    assert ((weights / weights.sum(axis=-1, keepdims=True)).cumsum(axis=-1)[:, -1] < 1).any()  # the last sum misses 1
    generator = SimpleNamespace(random=lambda shape: np.full(shape, number))
    choices = sample(logits, empty(200), temperature=1.0, generator=generator)
    assert {choice.token for choice in choices} == {token}


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1.0, 1e308])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e37])
def test_no_temperature_overflows_or_samples_a_suppressed_token(temperature, scale, rng):
    logits = (scale * rng.standard_normal((40, SIZE))).astype(np.float32)
    logits[:, [0, 2, 6]] = -math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choices = sample(logits, empty(40), temperature=temperature, generator=rng)
    assert {choice.token for choice in choices} <= {1, 3, 4, 5}
    if temperature < 1:
        assert choices == greedy(logits, empty(40))


# ------------------------------------------------------------------------------------------ the best candidate


BEST = {  # (length, sum of log-probabilities) of two candidates, the penalty, the index of the better one
    "by the mean per token": ([(2, -2.0), (4, -3.0)], None, 1),
    "the first of equals": ([(2, -2.0), (3, -3.0)], None, 0),
    "an empty text counts as one token": ([(1, -1.6), (0, -1.5)], None, 1),
    # The divisor of seven tokens is 2^α times that of one: (5 + 7) / 6 is 2.
    "0 leaves the sum as it is": ([(7, -1.001), (1, -1.0)], 0.0, 1),
    "0.5, a little too unlikely": ([(7, -1.416), (1, -1.0)], 0.5, 1),  # the root of 2 is 1.4142
    "0.5, just likely enough": ([(1, -1.0), (7, -1.412)], 0.5, 1),
    "1, an empty text counts as none": ([(1, -1.5), (0, -1.26)], 1.0, 0),  # 1.5 × 5 / 6 is 1.25
}


@pytest.mark.parametrize(("candidates", "penalty", "best"), BEST.values(), ids=BEST)
def test_the_best_candidate_has_the_highest_log_probability_for_its_length(candidates, penalty, best):
    given_ones = [Candidate((1,) * length, total) for length, total in candidates]
    assert best_candidate(given_ones, penalty) is given_ones[best]
