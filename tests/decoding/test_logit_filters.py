"""What may not be said: each rule on hand-made scores, and the grammar of whatever gets past the timestamp rules."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.decoding.logit_filters import (
    allow_eot_if_all_suppressed,
    suppress_blank,
    suppress_tokens,
    timestamp_rules,
)

# A vocabulary of 32: ten pieces of text, the end, three special tokens, "no timestamps", and 17 times.
TEXT = range(10)
EOT, SPECIAL, NO_TIMESTAMPS, FIRST, SIZE = 10, range(11, 14), 14, 15, 32
TIMES = range(FIRST, SIZE)
LATEST = 3
times_in_pairs = partial(
    timestamp_rules, eot=EOT, no_timestamps=NO_TIMESTAMPS, timestamp_begin=FIRST, max_initial_index=LATEST
)
RULES = {
    "suppress_tokens": partial(suppress_tokens, ids=(2, 4)),
    "suppress_blank": partial(suppress_blank, ids=(3, EOT)),
    "timestamp_rules": times_in_pairs,
    "allow_eot_if_all_suppressed": partial(allow_eot_if_all_suppressed, eot=EOT),
}


def time(step: int) -> int:
    return FIRST + step


def text_first(dtype: str = "float32") -> np.ndarray:
    """Scores in which text is likelier than all times together, so that only the order of tokens forbids: (1, V)."""
    scores = np.zeros((1, SIZE), dtype)
    scores[:, :FIRST] = 20.0
    return scores


def allowed(said: list[int], scores: np.ndarray | None = None, rule=times_in_pairs) -> set[int]:
    """The tokens that may follow."""
    row = rule(text_first() if scores is None else scores, [said])[0]
    return set(np.flatnonzero(row > -np.inf).tolist())


# ------------------------------------------------------------------------------------------ all rules


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("said", [[], [time(1)], [time(1), 5], [time(1), 5, time(4)]])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_filter_is_pure_and_keeps_the_dtype(rule, said, dtype, rng):
    logits = rng.standard_normal((1, SIZE)).astype(dtype)
    before = logits.copy()
    logits.flags.writeable = False
    tokens = [list(said)]
    result = rule(logits, tokens)
    assert result.dtype == dtype
    assert result.shape == logits.shape
    assert not np.shares_memory(result, logits)
    np.testing.assert_array_equal(logits, before)
    assert tokens == [said]


@pytest.mark.parametrize("rule", [rule for name, rule in RULES.items() if name != "allow_eot_if_all_suppressed"])
def test_a_filter_suppresses_and_changes_no_other_logit(rule, rng):
    logits = rng.standard_normal((4, SIZE)).astype("float32")
    result = rule(logits, [[], [time(1)], [time(1), 5], [time(1), 5, time(4)]])
    kept = result > -np.inf
    assert not kept.all()
    np.testing.assert_array_equal(result[kept], logits[kept])


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rows_of_a_batch_are_independent(rule, rng):
    logits = (3 * rng.standard_normal((5, SIZE))).astype("float32")
    said = [[], [time(1)], [time(1), 5], [time(1), 5, time(4)], [time(1), 5, time(4), time(4)]]
    together = rule(logits, said)
    apart = [rule(logits[i : i + 1], said[i : i + 1])[0] for i in range(5)]
    np.testing.assert_array_equal(together, apart)


def test_suppress_tokens_suppresses_everywhere():
    rule = RULES["suppress_tokens"]
    assert allowed([], rule=rule) == allowed([1, 2], rule=rule) == set(range(SIZE)) - {2, 4}


def test_suppress_tokens_without_ids_changes_nothing():
    assert allowed([], rule=partial(suppress_tokens, ids=())) == set(range(SIZE))


def test_suppress_blank_applies_only_at_the_beginning():
    rule = RULES["suppress_blank"]
    assert allowed([], rule=rule) == set(range(SIZE)) - {3, EOT}
    assert allowed([5], rule=rule) == set(range(SIZE))


def test_suppress_blank_applies_only_to_rows_without_tokens():
    result = suppress_blank(np.zeros((2, SIZE), "float32"), [[7], []], ids=(3, EOT))
    assert (result[0] == 0).all()
    assert np.flatnonzero(result[1] == -np.inf).tolist() == [3, EOT]


# ------------------------------------------------------------------------------------------ times, clause by clause


@pytest.mark.parametrize("latest", [0, 3, 16, 500])
def test_the_first_token_is_a_timestamp_up_to_max_initial_index(latest):
    rule = partial(times_in_pairs, max_initial_index=latest)
    assert allowed([], rule=rule) == set(TIMES[: latest + 1])


def test_the_first_token_is_any_timestamp_without_max_initial_index():
    assert allowed([], rule=partial(times_in_pairs, max_initial_index=None)) == set(TIMES)


def test_max_initial_index_applies_to_the_first_segment_only():
    after = allowed([time(1), 5, time(9)])
    assert set(range(time(9), SIZE)) <= after


def test_no_timestamps_is_suppressed_everywhere():
    for said in ([], [time(1)], [time(1), 5], [time(1), 5, time(4)], [time(1), 5, time(4), time(4)]):
        assert NO_TIMESTAMPS not in allowed(said)


def test_text_or_the_end_follows_an_opening_timestamp():
    # The end is how a model says that it hears nothing: <|0.00|><|endoftext|>.
    assert allowed([time(0)]) == {*TEXT, EOT, *SPECIAL}


def test_text_or_the_end_follows_a_later_opening_timestamp():
    assert allowed([time(0), 5, time(4), time(6)]) == {*TEXT, EOT, *SPECIAL}


def test_an_opening_timestamp_or_the_end_follows_a_closing_one():
    # It may open at the very time, and the end may come without another opening; text may not.
    assert allowed([time(0), 5, time(4)]) == {EOT, *SPECIAL, *range(time(4), SIZE)}


@pytest.mark.parametrize("said", [[time(2), 5], [time(2), 5, 5, 5], [time(0), 5, time(2), time(2), 5]])
def test_a_segment_closes_later_than_it_opened(said):
    assert allowed(said) == {*TEXT, EOT, *SPECIAL, *range(time(3), SIZE)}


def test_a_timestamp_is_compared_with_the_last_one():
    # Hand-made tokens that go back from 9 to 4: what follows is held to 4.
    assert allowed([time(9), 5, time(4), 5]) == {*TEXT, EOT, *SPECIAL, *range(time(5), SIZE)}


def test_after_the_last_timestamp_of_a_window_a_segment_opens_there_or_the_end_follows():
    assert allowed([time(0), 5, time(16)]) == {EOT, *SPECIAL, time(16)}


def test_a_segment_opened_at_the_last_timestamp_cannot_close():
    assert allowed([time(0), 5, time(16), time(16), 5]) == {*TEXT, EOT, *SPECIAL}


# ------------------------------------------------------------------------------------------ times, by probability


def in_text(best_text: float, times: dict[int, float]) -> set[int]:
    """What may be said in the middle of a text, given the scores of one text token and of some times."""
    scores = np.full((1, SIZE), -np.inf, "float32")
    scores[0, 7] = best_text
    for step, score in times.items():
        scores[0, time(step)] = score
    return allowed([time(0), 5], scores)


def test_text_is_suppressed_if_all_timestamps_together_are_more_likely():
    # No single time is likelier than the text, but 3 × exp(1.0) > exp(2.0).
    assert in_text(2.0, {4: 1.0, 5: 1.0, 6: 1.0}) == {time(4), time(5), time(6)}


def test_text_is_allowed_if_all_timestamps_together_are_less_likely():
    assert in_text(2.0, {4: 1.0, 5: 1.0}) == {7, time(4), time(5)}


def test_timestamps_are_compared_with_the_best_text_token_only():
    scores = np.full((1, SIZE), -np.inf, "float32")
    scores[0, :10] = 2.0  # ten pieces of text, together far likelier than the times
    scores[0, [time(4), time(5)]] = 1.5
    assert allowed([time(0), 5], scores) == {time(4), time(5)}


def test_the_end_counts_as_text():
    scores = np.full((1, SIZE), -np.inf, "float32")
    scores[0, EOT], scores[0, time(4)] = 2.0, 1.0
    assert allowed([time(0), 5], scores) == {EOT, time(4)}
    scores[0, time(4)] = 3.0
    assert allowed([time(0), 5], scores) == {time(4)}


def test_a_tie_leaves_text_allowed():
    assert in_text(2.0, {4: 2.0}) == {7, time(4)}


def test_suppressed_timestamps_do_not_count():
    # Times 1 and 2 have passed: they must be forbidden before the rest is weighed against the text.
    scores = np.full((1, SIZE), -np.inf, "float32")
    scores[0, [7, time(1), time(2), time(4)]] = 2.0, 9.0, 9.0, 1.0
    assert allowed([time(2), 5], scores) == {7, time(4)}


def test_text_is_allowed_if_no_timestamp_is_left():
    assert in_text(-50.0, {}) == {7}


def test_timestamps_are_allowed_if_no_text_is_left():
    assert in_text(-math.inf, {4: -50.0}) == {time(4)}


@pytest.mark.filterwarnings("error")
def test_suppressing_everything_is_not_an_error():
    assert in_text(-math.inf, {}) == set()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_a_constant_added_to_the_logits_changes_nothing(shift):
    # Large scores would overflow in exp() if the largest were not taken off first.
    assert in_text(2.0 + shift, {4: 1.0 + shift, 5: 1.0 + shift, 6: 1.0 + shift}) == {time(4), time(5), time(6)}
    assert in_text(2.0 + shift, {4: 1.0 + shift}) == {7, time(4)}


# ------------------------------------------------------------------------------------------ grammar


def say(seed: int, spread: float, steps: int, latest: int | None) -> list[int]:
    """Greedy decoding of random scores under all rules; stops at the end or after so many steps."""
    random = np.random.default_rng(seed)
    rules = [
        partial(suppress_blank, ids=(3, EOT)),
        partial(suppress_tokens, ids=(2, *SPECIAL)),
        partial(times_in_pairs, max_initial_index=latest),
    ]
    said: list[int] = []
    for _ in range(steps):
        scores = (spread * random.standard_normal((1, SIZE))).astype("float32")
        for rule in rules:
            scores = rule(scores, [said])
        assert scores.max() > -np.inf, f"nothing may follow {said}"
        said.append(int(scores.argmax()))
        if said[-1] == EOT:
            break
    return said


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.0, 0.5, 3.0, 30.0]),
    latest=st.none() | st.integers(0, len(TIMES)),
)
def test_random_tokens_form_segments_in_order(seed, spread, latest):
    said = say(seed, spread, 40, latest)
    ended = said[-1] == EOT
    body = said[:-1] if ended else said
    assert all(token in TEXT or token in TIMES for token in body)
    assert body
    assert body[0] in TIMES
    assert latest is None or body[0] <= time(latest)

    times = [token for token in body if token in TIMES]
    assert times == sorted(times)

    # Alternately an opening time and a run of text up to its closing time.
    position = 0
    while position < len(body):
        opening = body[position]
        assert opening in TIMES
        position += 1
        start = position
        while position < len(body) and body[position] in TEXT:
            position += 1
        if position == len(body):
            break  # the last segment may be left open
        closing = body[position]
        assert position > start, f"a segment without text in {body}"
        assert closing > opening, f"a segment without length in {body}"
        position += 1


# ------------------------------------------------------------------------------------------ allow_eot_if_all_suppressed


def test_the_end_is_allowed_only_in_rows_without_another_token():
    scores = np.full((3, SIZE), -np.inf, np.float32)
    scores[1] = 1.0
    scores[2, 5] = -7.0
    result = allow_eot_if_all_suppressed(scores, [[], [], []], eot=EOT)
    assert result[0, EOT] == 0
    assert np.isinf(np.delete(result[0], EOT)).all()
    np.testing.assert_array_equal(result[1:], scores[1:])
