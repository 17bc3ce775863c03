"""Logit filters, each on hand-made logits."""

from functools import partial

import numpy as np
import pytest

from minwhisper.decoding.logit_filters import (
    allow_eot_if_all_suppressed,
    suppress_blank,
    suppress_tokens,
    timestamp_rules,
)

# A vocabulary of 32: ten text tokens, the end token, three special tokens, "no timestamps", and 17 timestamps.
TEXT = range(10)
EOT, SPECIAL, NO_TIMESTAMPS, FIRST, SIZE = 10, range(11, 14), 14, 15, 32
TIMES = range(FIRST, SIZE)
MAX_INITIAL = 3
rules = partial(
    timestamp_rules, eot=EOT, no_timestamps=NO_TIMESTAMPS, timestamp_begin=FIRST, max_initial_index=MAX_INITIAL
)
FILTERS = {
    "suppress_tokens": partial(suppress_tokens, ids=(2, 4)),
    "suppress_blank": partial(suppress_blank, ids=(3, EOT)),
    "timestamp_rules": rules,
    "allow_eot_if_all_suppressed": partial(allow_eot_if_all_suppressed, eot=EOT),
}


def time(step: int) -> int:
    return FIRST + step


TOKENS = [[], [time(1)], [time(1), 5], [time(1), 5, time(4)], [time(1), 5, time(4), time(4)]]


def allowed(tokens: list[int], logits: np.ndarray | None = None) -> set[int]:
    """Return the tokens that are allowed next; by default text is more likely than all timestamps together."""
    if logits is None:
        logits = np.zeros((1, SIZE), np.float32)
        logits[:, :FIRST] = 20.0
    return set(np.flatnonzero(rules(logits, [tokens])[0] > -np.inf).tolist())


# ------------------------------------------------------------------------------------------ all filters


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_only_suppresses_and_treats_rows_independently(name, dtype, rng):
    logit_filter = FILTERS[name]
    logits = (3 * rng.standard_normal((5, SIZE))).astype(dtype)
    before, tokens = logits.copy(), [list(row) for row in TOKENS]
    logits.flags.writeable = False
    result = logit_filter(logits, tokens)
    assert (result.dtype, result.shape) == (dtype, logits.shape)
    assert not np.shares_memory(result, logits)
    np.testing.assert_array_equal(logits, before)
    assert tokens == TOKENS
    np.testing.assert_array_equal(result, [logit_filter(logits[i : i + 1], tokens[i : i + 1])[0] for i in range(5)])
    kept = result > -np.inf
    np.testing.assert_array_equal(result[kept], logits[kept])
    assert kept.all() == (name == "allow_eot_if_all_suppressed")
    assert name != "timestamp_rules" or not kept[:, NO_TIMESTAMPS].any()


def test_suppress_blank_applies_only_to_rows_without_tokens():
    result = suppress_blank(np.zeros((2, SIZE), "float32"), [[7], []], ids=(3, EOT))
    assert (result[0] == 0).all()
    assert np.flatnonzero(result[1] == -np.inf).tolist() == [3, EOT]


def test_the_end_is_allowed_only_in_rows_without_another_token():
    logits = np.full((3, SIZE), -np.inf, np.float32)
    logits[1] = 1.0
    logits[2, 5] = -7.0
    result = allow_eot_if_all_suppressed(logits, [[], [], []], eot=EOT)
    assert result[0, EOT] == 0
    assert np.isinf(np.delete(result[0], EOT)).all()
    np.testing.assert_array_equal(result[1:], logits[1:])


# ------------------------------------------------------------------------------------------ order of timestamps


TEXT_OR_END = {*TEXT, EOT, *SPECIAL}
NEXT = {  # tokens, allowed next
    "at first": ([], {*range(FIRST, time(MAX_INITIAL + 1))}),
    # The end after the first timestamp means that the window has no speech: <|0.00|><|endoftext|>.
    "after an opening timestamp": ([time(0)], TEXT_OR_END),
    "after a later opening timestamp": ([time(0), 5, time(4), time(6)], TEXT_OR_END),
    # The next segment may open at the same time.
    "after a closing timestamp": ([time(0), 5, time(4)], {EOT, *SPECIAL, *range(time(4), SIZE)}),
    # A segment closes later than it opened, and max_initial_index no longer applies.
    "after text": ([time(2), 5], TEXT_OR_END | {*range(time(3), SIZE)}),
    "after the second text": ([time(0), 5, time(2), time(2), 5], TEXT_OR_END | {*range(time(3), SIZE)}),
    # Tokens that go back from 9 to 4: the last timestamp counts.
    "after going back": ([time(9), 5, time(4), 5], TEXT_OR_END | {*range(time(5), SIZE)}),
    "after the last timestamp": ([time(0), 5, time(16)], {EOT, *SPECIAL, time(16)}),
    "in a segment opened at the last timestamp": ([time(0), 5, time(16), time(16), 5], TEXT_OR_END),
}


@pytest.mark.parametrize(("tokens", "expected"), NEXT.values(), ids=NEXT)
def test_timestamps_come_in_pairs_and_never_go_back(tokens, expected):
    assert allowed(tokens) == expected


# ------------------------------------------------------------------------------------------ probability of timestamps

PREFERRED = {  # logits of some tokens, allowed in the middle of a segment
    # No timestamp alone is more likely than the text, but 3 × exp(1.0) > exp(2.0).
    "together more likely": ({7: 2.0, time(4): 1.0, time(5): 1.0, time(6): 1.0}, {time(4), time(5), time(6)}),
    "together less likely": ({7: 2.0, time(4): 1.0, time(5): 1.0}, {7, time(4), time(5)}),
    "a tie": ({7: 2.0, time(4): 2.0}, {7, time(4)}),
    # All text together is more likely, but only the best text token counts.
    "suppressed timestamps do not count": ({7: 2.0, time(0): 9.0, time(4): 1.0}, {7, time(4)}),
    "than any text token": (dict.fromkeys(TEXT, 2.0) | {time(4): 1.5, time(5): 1.5}, {time(4), time(5)}),
    "more likely than the end": ({EOT: 2.0, time(4): 3.0}, {time(4)}),
    "no text left": ({time(4): -50.0}, {time(4)}),
    "nothing left": ({}, set()),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])  # exp overflows unless the maximum is subtracted first
@pytest.mark.parametrize(("logits_of", "expected"), PREFERRED.values(), ids=PREFERRED)
def test_text_is_suppressed_if_all_timestamps_together_are_more_likely(logits_of, expected, shift):
    logits = np.full((1, SIZE), -np.inf, "float32")
    for token, value in logits_of.items():
        logits[0, token] = value + shift
    assert allowed([time(0), 5], logits) == expected


# ------------------------------------------------------------------------------------------ grammar
