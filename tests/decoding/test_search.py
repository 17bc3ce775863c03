"""The search: each sampler against all possible sequences, on a made-up decoder; greedy search on real models."""

import math
import warnings
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper import DecodingOptions
from minwhisper.decoding.decode import logit_filters_for
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
from minwhisper.model.layers import log_softmax, softmax
from minwhisper.parity.comparison import clip_samples, load_reference, window_mel

# A vocabulary of seven: four text tokens, the end, and two tokens that are always suppressed.
TEXT = (0, 1, 2, 3)
EOT, SOT, NO_SPEECH, SIZE = 4, 5, 6, 7
SPECIAL = SimpleNamespace(eot=EOT, sot=SOT, no_speech=NO_SPEECH)
FILTERS = (partial(suppress_tokens, ids=(SOT, NO_SPEECH)),)


class FakeCache(NamedTuple):
    """A cache that holds the decoded texts in place of their keys and values."""

    texts: tuple[tuple[int, ...], ...]

    def reorder(self, rows: list[int]) -> "FakeCache":
        return FakeCache(tuple(self.texts[row] for row in rows))


class Decoder:
    """A decoder whose logits (V,) are a function of the text. It records its inputs."""

    def __init__(self, logits_of) -> None:
        self.logits_of, self.fed = logits_of, []

    def new_cache(self, features) -> FakeCache:
        return FakeCache(((),) * features.shape[0])

    def decode_batch(self, inputs):
        return [
            self.decode(np.asarray(decoder_input.tokens), decoder_input.cache, decoder_input.wanted)
            for decoder_input in inputs
        ]

    def decode(self, tokens, cache, wanted):
        assert tokens.shape[0] == len(cache.texts)
        self.fed.append(tokens.tolist())
        texts = []
        logits = np.empty((*tokens.shape, SIZE), np.float32)
        for row, (text, new) in enumerate(zip(cache.texts, tokens.tolist(), strict=True)):
            for position, token in enumerate(new):
                text = (*text, token)
                logits[row, position] = self.logits_of(text)
            texts.append(text)
        return logits[:, wanted], FakeCache(tuple(texts))


def random_logits(seed: int, spread: float = 2.0):
    """Return a function of a text that gives random logits, the same for the same text."""
    return lambda text: spread * np.random.default_rng([seed, *text]).standard_normal(SIZE)


def run(logits_of, sampler: Sampler, *, max_tokens: int = 4, prompt=(SOT,), filters=FILTERS, positions: int = 50):
    """Run a search; return its candidates, the probability of no speech, and the inputs of the decoder."""
    decoder = Decoder(logits_of)
    begun = search(prompt, positions, sampler=sampler, logit_filters=filters, tokenizer=SPECIAL, max_tokens=max_tokens)
    candidates, no_speech = run_search(begun, np.zeros((1, 3, 8), np.float32), decoder)
    return candidates, no_speech, decoder.fed


def beam(size: int, max_finished: int | None = None) -> Sampler:
    return Sampler(partial(beam_step, beam_size=size, eot=EOT), group_size=size, max_finished=max_finished or size)


def sampling(count: int, temperature: float = 1.0, seed: int = 0) -> Sampler:
    choose = partial(sample, temperature=temperature, generator=np.random.default_rng(seed))
    return Sampler(choose, initial_size=count, group_size=count, max_finished=count)


def logprobs_after(logits_of, text) -> np.ndarray:
    """Return the log-probabilities (V,) of the token after a text in float64, computed independently of the package."""
    row = np.array(logits_of((SOT, *text)), np.float32).astype(np.float64)
    row[[SOT, NO_SPEECH]] = -np.inf
    return row - np.log(np.exp(row).sum())


def logprob_of(logits_of, tokens, finished: bool) -> float:
    """Return the log-probability of tokens, and of the end after them if finished."""
    generated = (*tokens, EOT) if finished else tuple(tokens)
    return sum(logprobs_after(logits_of, generated[:place])[token] for place, token in enumerate(generated))


def all_sequences(logits_of, max_tokens: int) -> dict[tuple[int, ...], float]:
    """Return all sequences with their log-probabilities: those that end, and those cut at ``max_tokens``."""
    return {
        tokens: logprob_of(logits_of, tokens, finished=length < max_tokens)
        for length in range(max_tokens + 1)
        for tokens in product(TEXT, repeat=length)
    }


def as_dict(candidates) -> dict[tuple[int, ...], float]:
    assert len({candidate.tokens for candidate in candidates}) == len(candidates)
    return {candidate.tokens: pytest.approx(candidate.sum_logprob, abs=1e-4) for candidate in candidates}


# ------------------------------------------------------------------------------------------ greedy search


@pytest.mark.parametrize("seed", range(10))
def test_greedy_follows_the_best_token_to_the_end(seed):
    logits_of = random_logits(seed)
    (candidate,), _, _ = run(logits_of, Sampler(greedy), max_tokens=6)
    expected: list[int] = []
    while len(expected) < 6 and (token := int(logprobs_after(logits_of, expected).argmax())) != EOT:
        expected.append(token)
    assert list(candidate.tokens) == expected
    assert candidate.sum_logprob == pytest.approx(logprob_of(logits_of, expected, finished=len(expected) < 6), abs=1e-5)


def test_the_decoder_gets_the_prompt_and_then_single_tokens_without_the_end():
    next_token = {(): 2, (2,): 0, (2, 0): 1, (2, 0, 1): EOT}
    (candidate,), _, fed = run(
        lambda text: 9.0 * (np.arange(SIZE) == next_token.get(text[3:])),
        Sampler(greedy),
        prompt=(1, SOT, 3),
        max_tokens=10,
    )
    assert candidate.tokens == (2, 0, 1)
    assert fed == [[[1, SOT, 3]], [[2]], [[0]], [[1]]]


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


def test_no_speech_prob_is_from_the_unfiltered_logits_of_the_start():
    logits_of = random_logits(5)
    for prompt in ((SOT,), (1, 2, SOT, 3, 0)):
        _, no_speech, _ = run(logits_of, Sampler(greedy), prompt=prompt)
        row = np.exp(logits_of(prompt[: prompt.index(SOT) + 1]))
        assert no_speech == pytest.approx(row[NO_SPEECH] / row.sum(), rel=1e-5)
        assert type(no_speech) is float


def test_filters_get_the_tokens_of_each_candidate_without_the_prompt():
    seen = []

    def watching(logits, tokens):
        seen.append(sorted(tuple(generated) for generated in tokens))
        assert len(tokens) == logits.shape[0]
        return logits

    run(random_logits(0), beam(2), prompt=(3, SOT), filters=(*FILTERS, watching), max_tokens=3)
    assert seen[0] == [()]
    assert [len(generated[0]) for generated in seen] == [0, 1, 2]
    assert [len(generated) for generated in seen] == [1, 2, 2]


# ------------------------------------------------------------------------------------------ beam search


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_wide_enough_finds_every_sequence(seed):
    logits_of = random_logits(seed)
    candidates, _, _ = run(logits_of, beam(1000), max_tokens=3)
    all_there_are = all_sequences(logits_of, 3)
    assert len(all_there_are) == 1 + 4 + 16 + 64
    assert as_dict(candidates) == all_there_are
    for penalty in (None, 0.0, 0.6, 1.0):
        best = max(all_there_are, key=lambda tokens: all_there_are[tokens] / divisor(len(tokens), penalty))
        assert best_candidate(candidates, penalty).tokens == best


def divisor(length: int, penalty: float | None) -> float:
    return max(length, 1) if penalty is None else ((5 + length) / 6) ** penalty


def plain_beam_search(logits_of, size: int, max_finished: int, max_tokens: int) -> list[tuple[tuple[int, ...], float]]:
    """Return a plain beam search: rank every token after every candidate at each step."""
    active, finished = {(): 0.0}, {}
    for _ in range(max_tokens):
        sums = {
            (*text, token): total + logprobs_after(logits_of, text)[token]
            for text, total in active.items()
            for token in range(SIZE)
        }
        ranked = sorted((text for text in sums if sums[text] > -np.inf), key=sums.__getitem__, reverse=True)
        active = {}
        for text in ranked:
            if text[-1] == EOT and len(finished) < max_finished:
                finished[text[:-1]] = sums[text]
            elif text[-1] != EOT:
                active[text] = sums[text]
                if len(active) == size:
                    break
        if len(finished) >= max_finished:
            break
    unfinished = sorted(active.items(), key=lambda item: item[1], reverse=True)
    return [*finished.items(), *unfinished[: max(0, size - len(finished))]]


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 7),
    patience=st.sampled_from([0.4, 1.0, 1.5, 3.0]),
    max_tokens=st.integers(1, 6),
    end=st.sampled_from([-2.0, 0.0, 2.0]),
)
def test_beam_search_equals_a_plain_one(seed, size, patience, max_tokens, end):
    def logits_of(text):
        return random_logits(seed)(text) + end * (np.arange(SIZE) == EOT)

    max_finished = max(1, round(size * patience))
    found, _, _ = run(logits_of, beam(size, max_finished), max_tokens=max_tokens)
    expected = plain_beam_search(logits_of, size, max_finished, max_tokens)
    assert [candidate.tokens for candidate in found] == [tokens for tokens, _ in expected]
    assert [candidate.sum_logprob for candidate in found] == pytest.approx([total for _, total in expected], abs=1e-4)


def test_the_best_first_token_need_not_lead_to_the_best_text():
    # After 0 nothing is likely; after 1 the end is nearly certain.
    def logits_of(text):
        row = np.full(SIZE, -9.0)
        if text == (SOT,):
            row[[0, 1]] = 1.0, 0.9
        elif text == (SOT, 1):
            row[EOT] = 9.0
        else:
            row[[*TEXT, EOT]] = 0.0
        return row

    assert run(logits_of, Sampler(greedy), max_tokens=5)[0][0].tokens[0] == 0
    assert best_candidate(run(logits_of, beam(2), max_tokens=5)[0]).tokens == (1,)


@pytest.mark.parametrize("max_finished", [1, 2, 3, 5, 8])
def test_the_search_ends_with_max_finished(max_finished):
    # The end is always second best, so each step finishes at least one candidate.
    def logits_of(text):
        return np.array([3.0, 1.0, 0.5, 0.0, 2.0, 0, 0])

    size = 3
    candidates, _, fed = run(logits_of, beam(size, max_finished), max_tokens=30)
    finished = [
        c
        for c in candidates
        if c.sum_logprob == pytest.approx(logprob_of(logits_of, c.tokens, finished=True), abs=1e-4)
    ]
    assert len(finished) == max_finished
    assert candidates[:max_finished] == finished
    assert len(candidates) == max(size, max_finished)  # the most likely unfinished ones fill up
    rest = [c.sum_logprob for c in candidates[max_finished:]]
    assert rest == sorted(rest, reverse=True)
    assert len(fed) <= max_finished  # well before max_tokens


# ------------------------------------------------------------------------------------------ sampling


def test_finished_candidates_leave_the_batch():
    candidates, _, fed = run(random_logits(1), sampling(6), max_tokens=12)
    assert len(candidates) == 6
    rows = [len(step) for step in fed]
    assert rows[0] == 1  # the prompt, once
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[1] <= 6
    assert rows[-1] < rows[1]
    assert not any(token == EOT for step in fed for row in step for token in row)
    lengths = sorted(len(candidate.tokens) for candidate in candidates)
    assert rows[1:] == [sum(length >= step for length in lengths) for step in range(1, lengths[-1] + 1)]


@pytest.mark.parametrize("seed", range(5))
def test_sum_logprob_does_not_depend_on_the_temperature(seed):
    logits_of = random_logits(seed)
    for temperature in (0.3, 1.0, 5.0):
        candidates, _, _ = run(logits_of, sampling(4, temperature, seed), max_tokens=5)
        for candidate in candidates:
            finished = len(candidate.tokens) < 5
            assert candidate.sum_logprob == pytest.approx(logprob_of(logits_of, candidate.tokens, finished), abs=1e-4)


def test_the_seed_determines_the_samples():
    def sampled(seed):
        return run(random_logits(2, spread=0.5), sampling(5, seed=seed), max_tokens=8)[0]

    assert sampled(3) == sampled(3)
    assert sampled(3) != sampled(4)


def test_unfinished_candidates_come_last_the_most_likely_first():
    candidates, _, _ = run(random_logits(3, spread=0.5), sampling(12), max_tokens=3)
    lengths = [len(candidate.tokens) for candidate in candidates]
    unfinished = [c.sum_logprob for c in candidates if len(c.tokens) == 3]
    assert 2 <= len(unfinished) < 12
    assert lengths[-len(unfinished) :] == [3] * len(unfinished)
    assert unfinished == sorted(unfinished, reverse=True)


# ------------------------------------------------------------------------------------------ suppressing everything


def suppress_all_after(*texts):
    """Return a filter that suppresses everything after these texts."""

    def logit_filter(logits, tokens):
        filtered = logits.copy()
        for row, generated in enumerate(tokens):
            if tuple(generated) in texts:
                filtered[row] = -math.inf
        return filtered

    return logit_filter


ALLOW_EOT = partial(allow_eot_if_all_suppressed, eot=EOT)


@pytest.mark.parametrize("sampler", [Sampler(greedy), beam(3), sampling(3)], ids=["greedy", "beam", "sampling"])
def test_the_end_follows_if_everything_is_suppressed(sampler):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        candidates, no_speech, fed = run(random_logits(0), sampler, filters=(suppress_all_after(()), ALLOW_EOT))
        assert set(candidates) == {Candidate((), 0.0)}
        assert 0 < no_speech < 1
        assert len(fed) == 1

        row = np.array([5.0, 1.0, 0.0, 0.0, -20.0, 0.0, 0.0])
        filters = (*FILTERS, suppress_all_after(*product(TEXT, repeat=2)), ALLOW_EOT)
        for candidate in run(lambda text: row, sampler, filters=filters, max_tokens=9)[0]:
            assert len(candidate.tokens) == 2
            assert candidate.sum_logprob == pytest.approx(
                logprob_of(lambda text: row, candidate.tokens, False), abs=1e-4
            )


def test_one_candidate_without_tokens_does_not_stop_the_others():
    row = np.array([2.0, 2.0, -30.0, -30.0, -30.0, 0.0, 0.0])  # 0 or 1 forever
    for sampler in (beam(2), sampling(8)):
        filters = (*FILTERS, suppress_all_after((0,)), ALLOW_EOT)
        candidates, _, _ = run(lambda text: row, sampler, filters=filters, max_tokens=3)
        assert {c.tokens for c in candidates if len(c.tokens) < 3} == {(0,)}  # which finished there
        assert {c.tokens[0] for c in candidates if len(c.tokens) == 3} == {1}


@pytest.mark.parametrize("sampler", [Sampler(greedy), beam(2), beam(1), sampling(2)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_logits_that_are_not_finite_raise_an_error(sampler, bad, everywhere):
    for length, what in ((1, "the probability of no speech"), (2, "the log-probability of a token")):

        def logits_of(text, length=length):
            row = random_logits(1)(text)
            if len(text) == length:
                row[slice(None) if everywhere else 1] = bad
            return row

        with pytest.raises(
            NumericalError, match=rf"^a window: {what}: expected a finite value, the model computed nan; .*load it"
        ):
            run(logits_of, sampler)


def test_suppressed_logits_of_the_model_are_accepted():
    for sampler in (Sampler(greedy), beam(4), sampling(2)):
        assert run(lambda text: np.where(np.arange(SIZE) == 2, 0.0, -np.inf), sampler, max_tokens=2)[0]


def test_a_single_row_that_is_not_finite_raises_an_error():
    """A hypothesis with NaN as its log-probabilities must not just drop out of the beam."""

    def logits_of(text):
        return np.full(SIZE, np.nan) if text[1:] == (1,) else np.array([3.0, 2.9, 0, 0, 0, 0, 0])

    with pytest.raises(NumericalError), np.errstate(all="ignore"):
        run(logits_of, beam(2))


# ------------------------------------------------------------------------------------------ single steps


def empty(count: int, total: float = 0.0) -> list[Candidate]:
    return [Candidate((), total)] * count


def test_greedy_takes_the_most_likely_token_of_each_row():
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], np.float32)) + 3.0
    choices = greedy(logits, [Candidate((7,), -1.0), Candidate((8,), -2.0)])
    assert [(c.row, c.token) for c in choices] == [(0, 0), (1, 2)]
    assert [c.sum_logprob for c in choices] == pytest.approx([-1 + math.log(0.5), -2 + math.log(0.8)], abs=1e-5)
    assert all(type(part) in (int, float) for choice in choices for part in choice)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_samples_follow_the_distribution(temperature):
    count = 20_000
    logits = np.array([1.0, 0.0, -0.5, -math.inf, 2.0, 1.0, -3.0], np.float32)
    choices = sample(
        np.tile(logits, (count, 1)),
        empty(count),
        temperature=temperature,
        generator=np.random.default_rng(1),
    )
    assert [choice.row for choice in choices] == list(range(count))
    seen = np.bincount([choice.token for choice in choices], minlength=SIZE)
    wide = np.exp(logits.astype(np.float64) / temperature)
    expected = count * wide / wide.sum()
    assert seen[3] == 0
    chances = expected > 0
    chi_square = ((seen - expected)[chances] ** 2 / expected[chances]).sum()
    assert chi_square < 20.5  # one in a thousand exceeds this at five degrees of freedom


@given(
    temperature=st.one_of(st.floats(5e-324, 1e308), st.sampled_from([1e-310, 1e-30, 1e300])),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-3, 1.0, 1e4, 1e37]),
)
def test_suppressed_tokens_are_never_sampled(temperature, seed, scale):
    rng = np.random.default_rng(seed)
    logits = (scale * rng.standard_normal((40, SIZE))).astype(np.float32)
    logits[:, [0, 2, 6]] = -math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choices = sample(logits, empty(40), temperature=temperature, generator=rng)
    assert {choice.token for choice in choices} <= {1, 3, 4, 5}


def test_a_tiny_temperature_is_greedy_and_a_huge_one_uniform(rng):
    logits = rng.standard_normal((3000, 4)).astype(np.float32)
    for temperature in (5e-324, 1e-300, 1e-9):
        assert sample(logits, empty(3000), temperature=temperature, generator=rng) == greedy(logits, empty(3000))
    sampled = [c.token for c in sample(100 * logits, empty(3000), temperature=1e9, generator=rng)]
    assert (np.abs(np.bincount(sampled, minlength=4) - 750) < 100).all()


@pytest.mark.parametrize(
    ("number", "token"), [(0.0, 1), (0.2499, 1), (0.2501, 3), (0.7499, 3), (0.7501, 4), (1 - 2**-53, 4)]
)
def test_a_sample_is_the_first_token_whose_cumulative_probability_exceeds_the_number(number, token):
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([[0, 0.25, 0, 0.5, 0.25, 0, 0]], np.float32))
    generator = SimpleNamespace(random=lambda shape: np.full(shape, number))
    assert sample(logits, empty(1), temperature=1.0, generator=generator)[0].token == token


def test_the_largest_number_samples_the_last_token_despite_rounding(rng):
    logits = rng.standard_normal((200, SIZE)).astype(np.float32)
    logits[:, [0, 6]] = -math.inf
    reached = softmax(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)).cumsum(axis=-1)[:, -1]
    assert (reached < 1).any()
    generator = SimpleNamespace(random=lambda shape: np.full(shape, 1 - 2**-53))
    sampled = [choice.token for choice in sample(logits, empty(200), temperature=1.0, generator=generator)]
    assert set(sampled) == {5}


def test_each_row_is_sampled_with_its_own_number():
    logits = np.zeros((5, 10), np.float32)
    choices = sample(logits, empty(5), temperature=1.0, generator=np.random.default_rng(9))
    numbers = np.random.default_rng(9).random(5)
    assert [choice.token for choice in choices] == (numbers * 10).astype(int).tolist()


def beam_choices(probabilities, totals, size) -> list[tuple[int, int]]:
    logits = np.log(np.asarray(probabilities, np.float32))
    choices = beam_step(logits, [Candidate((), total) for total in totals], beam_size=size, eot=EOT)
    for row, token, total in choices:
        assert total == pytest.approx(totals[row] + math.log(probabilities[row][token]), abs=1e-5)
    return [(row, token) for row, token, _ in choices]


def test_beam_step_keeps_the_best_continuations_and_the_ends_among_them():
    first = [0.4, 0.05, 0.05, 0.1, 0.3, 0.05, 0.05]
    second = [0.02, 0.6, 0.1, 0.05, 0.2, 0.02, 0.01]
    # ranked: (0, 0) .4, (0, EOT) .3; of the second, at half: (1, 1) .3, (0, 3) .1, (1, EOT) .1, (1, 2) .05 …
    half = [0.0, math.log(0.45)]
    assert beam_choices([first, second], half, 1) == [(0, 0)]
    assert beam_choices([first, second], half, 2) == [(0, 0), (0, EOT), (1, 1)]
    assert beam_choices([first, second], half, 3) == [(0, 0), (0, EOT), (1, 1), (0, 3)]
    assert beam_choices([first, second], [math.log(0.45), 0.0], 2) == [(1, 1), (1, EOT), (0, 0)]


def test_one_candidate_can_fill_the_beam():
    sure, unsure = [0.3, 0.25, 0.2, 0.1, 0.05, 0.05, 0.05], [0.9, 0.02, 0.02, 0.02, 0.02, 0.01, 0.01]
    assert beam_choices([unsure, sure], [-9.0, 0.0], 3) == [(1, 0), (1, 1), (1, 2)]


def test_a_beam_may_be_wider_than_the_vocabulary():
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([[0.5, 0, 0, 0.25, 0.25, 0, 0]], np.float32))
    for size in (3, 6, 7, 50):
        choices = beam_step(logits, empty(1), beam_size=size, eot=EOT)
        assert sorted(choice.token for choice in choices) == [0, 3, EOT]


# ------------------------------------------------------------------------------------------ the best candidate


def test_candidates_compare_by_the_mean_without_the_end():
    short, long = Candidate((1, 2), -2.0), Candidate((1, 2, 3, 4), -3.0)
    assert best_candidate([short, long]) is long
    assert best_candidate([short, Candidate((1, 2, 3), -3.0)]) is short  # the first of equals
    assert best_candidate([Candidate((1, 2, 3), -3.0), short]).tokens == (1, 2, 3)


def test_an_empty_text_counts_as_one_token():
    nothing = Candidate((), -1.5)
    assert best_candidate([nothing]) is nothing
    assert best_candidate([nothing, Candidate((1,), -1.6)]) is nothing
    assert best_candidate([nothing, Candidate((1,), -1.4)]).tokens == (1,)
    one = Candidate((1,), -1.5)
    assert best_candidate([nothing, one], 0.0) is nothing  # the first of equals
    assert best_candidate([nothing, one], 0.5) is one  # -1.5 against -1.5 / (5 / 6)^0.5
    assert best_candidate([one, Candidate((), -1.26)], 1.0) is one  # 1.5 × 5 / 6 is 1.25
    assert best_candidate([one, Candidate((), -1.24)], 1.0).tokens == ()


@pytest.mark.parametrize("penalty", [0.0, 0.3, 0.6, 1.0])
def test_the_length_penalty_follows_its_formula(penalty):
    # (5 + 7) / 6 is 2: seven tokens may have 2^α times the sum of one.
    one = Candidate((0,), -1.0)
    for nearly, expected in ((0.999, 7), (1.001, 1)):
        seven = Candidate(tuple(range(7)), -(2**penalty) * nearly)
        assert len(best_candidate([one, seven], penalty).tokens) == expected
        assert len(best_candidate([seven, one], penalty).tokens) == expected


# ------------------------------------------------------------------------------------------ real models


def decode_window(model, features, prompt, options=None, max_tokens=224) -> tuple[Candidate, float]:
    """Run a greedy search on a window; return the best candidate and the probability of no speech."""
    begun = search(
        prompt,
        model.config.max_target_positions,
        sampler=Sampler(greedy),
        logit_filters=logit_filters_for(options or DecodingOptions(), model.tokenizer),
        tokenizer=model.tokenizer,
        max_tokens=max_tokens,
    )
    candidates, no_speech = run_search(begun, features, model.engine)
    return best_candidate(candidates), no_speech


def endless(model) -> DecodingOptions:
    """Return options that suppress the end."""
    return DecodingOptions(suppress_tokens=[-1, model.tokenizer.eot], without_timestamps=True)


@pytest.fixture(scope="module")
def features_of():
    """Return a function that gives a model's features (1, T, D) of the JFK clip."""
    made = {}

    def get(model) -> np.ndarray:
        if model.name not in made:
            made[model.name] = model.encode(window_mel(clip_samples(), model.config.num_mel_bins))
            made[model.name].flags.writeable = False  # tests must not modify them
        return made[model.name]

    return get


@pytest.fixture(scope="module")
def jfk(tiny_en, features_of) -> np.ndarray:
    """tiny.en's features of the JFK clip: (1, T, D)."""
    return features_of(tiny_en)


def test_greedy_search_generates_the_reference_tokens(model, features_of):
    reference = load_reference(model.name)
    assert reference is not None
    generated, _ = decode_window(
        model, features_of(model), model.tokenizer.sot_sequence("en", "transcribe", timestamps=True)
    )
    assert list(generated.tokens) == reference.tokens


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("timestamps", [False, True])
def test_greedy_tokens_and_sum_follow_from_the_plain_decoder(tiny_en, jfk, timestamps, context):
    t = tiny_en.tokenizer
    options = DecodingOptions(without_timestamps=not timestamps)
    prompt = t.sot_sequence(None, "transcribe", timestamps=timestamps)
    if context:
        prompt = (t.sot_prev, *t.encode(" The president spoke."), *prompt)
    generated, no_speech = decode_window(tiny_en, jfk, prompt, options)

    logits = tiny_en.logits([[*prompt, *generated.tokens]], jfk)[0]  # all positions at once: (S, V)
    total = 0.0
    for step, token in enumerate((*generated.tokens, t.eot)):
        row = logits[None, len(prompt) - 1 + step]
        for logit_filter in logit_filters_for(options, t):
            row = logit_filter(row, [generated.tokens[:step]])
        assert row[0].argmax() == token
        total += float(log_softmax(row)[0, token])
    assert generated.sum_logprob == pytest.approx(total, abs=1e-4)
    start = softmax(logits[prompt.index(t.sot)])
    assert no_speech == pytest.approx(float(start[t.no_speech]), abs=1e-6)


@pytest.mark.parametrize("way", ["beam", "sampling"])
def test_sum_logprob_follows_from_the_plain_decoder(tiny_en, jfk, way):
    t = tiny_en.tokenizer
    sampler = (
        Sampler(partial(beam_step, beam_size=3, eot=t.eot), group_size=3, max_finished=3)
        if way == "beam"
        else sampling(2, 0.8)
    )
    prompt = t.sot_sequence(None, "transcribe", timestamps=True)
    filters = logit_filters_for(DecodingOptions(), t)
    room = tiny_en.config.max_target_positions
    begun = search(prompt, room, sampler=sampler, logit_filters=filters, tokenizer=t, max_tokens=30)
    candidates, _ = run_search(begun, jfk, tiny_en.engine)
    assert len({candidate.tokens for candidate in candidates}) == sampler.group_size
    for candidate in candidates:
        logits = tiny_en.logits([[*prompt, *candidate.tokens]], jfk)[0, len(prompt) - 1 :]
        total = 0.0
        unfinished = len(candidate.tokens) == 30
        for step, token in enumerate(candidate.tokens if unfinished else (*candidate.tokens, t.eot)):
            row = logits[None, step]
            for logit_filter in filters:
                row = logit_filter(row, [candidate.tokens[:step]])
            total += float(log_softmax(row)[0, token])
        assert candidate.sum_logprob == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("max_tokens", [1, 2, 7])
def test_max_tokens_cuts_the_text_short(tiny_en, jfk, max_tokens):
    prompt = tiny_en.tokenizer.sot_sequence(None, "transcribe", timestamps=True)
    whole, no_speech = decode_window(tiny_en, jfk, prompt)
    assert len(whole.tokens) > 7
    part, same = decode_window(tiny_en, jfk, prompt, max_tokens=max_tokens)
    assert part.tokens == whole.tokens[:max_tokens]
    assert same == no_speech
    assert whole.sum_logprob < part.sum_logprob < 0


@pytest.mark.parametrize(("prompt_length", "generated"), [(445, 4), (448, 1)])
def test_the_search_ends_when_the_positions_are_used_up(tiny_en, jfk, prompt_length, generated):
    # The last token needs no position: it is never fed back.
    t = tiny_en.tokenizer
    prompt = t.sot_sequence(None, "transcribe", timestamps=False)
    words = t.encode(" word") * prompt_length
    prompt = (t.sot_prev, *words[: prompt_length - 1 - len(prompt)], *prompt)
    assert len(prompt) == prompt_length
    assert len(decode_window(tiny_en, jfk, prompt, endless(tiny_en), max_tokens=1000)[0].tokens) == generated


def test_no_speech_is_probable_in_silence_only(model, features_of):
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=True)
    silence = model.encode(window_mel(np.zeros(160_000, np.float32), model.config.num_mel_bins))
    assert 0 <= decode_window(model, features_of(model), prompt, max_tokens=1)[1] < 0.2
    assert 0.6 < decode_window(model, silence, prompt, max_tokens=1)[1] <= 1
