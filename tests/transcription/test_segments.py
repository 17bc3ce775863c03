"""Splitting the tokens of a window into segments."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.transcription.segments import TimedTokens, WindowSplit, split_window

FIRST = 100  # the id of <|0.00|> in the hand-made tokens; below it is text


def time(step: int) -> int:
    return FIRST + step


A, B, C = 1, 2, 3


def part(start: int, end: int, tokens: tuple[int, ...]) -> TimedTokens:
    """Return timed tokens, with start and end given in frames."""
    return TimedTokens(pytest.approx(start / 100, abs=1e-9), pytest.approx(end / 100, abs=1e-9), tokens)


ONE = (time(0), A, time(100))  # a closed segment of two seconds
TWO = (time(110), B, time(150))
CUTS = {
    "one segment, closed": (ONE, [part(0, 200, ONE)], 3000, True),
    # A single segment starts with the window, as in openai-whisper.
    "one segment, opened late": ((time(30), A, time(100)), [part(0, 200, (time(30), A, time(100)))], 3000, True),
    "one segment, left open": ((time(0), A, B), [part(0, 3000, (time(0), A, B))], 3000, False),
    "one segment, opened late, left open": ((time(30), A), [part(0, 60, (time(30), A))], 3000, False),
    "an opening alone": ((time(0),), [part(0, 3000, (time(0),))], 3000, False),
    "text without times": ((A, B, C), [part(0, 3000, (A, B, C))], 3000, False),
    "two segments and a pause between them": ((*ONE, *TWO), [part(0, 200, ONE), part(220, 300, TWO)], 3000, True),
    "text before the first timestamp": ((*ONE[1:], time(100), C), [part(0, 200, ONE[1:])], 200, False),
    "the second left open": ((*ONE, time(100), B, C), [part(0, 200, ONE)], 200, False),
    "the third left open": ((*ONE, *TWO, time(160), C), [part(0, 200, ONE), part(220, 300, TWO)], 300, False),
    "three times in a row": (
        (*ONE, time(110), time(120), B), [part(0, 200, ONE), part(220, 220, (time(110),))], 220, False
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tokens", "parts", "advance", "single_timestamp_ending"), CUTS.values(), ids=CUTS)
def test_a_window_is_split_between_two_timestamps(tokens, parts, advance, single_timestamp_ending):
    assert split_window([*tokens], FIRST, 3000) == WindowSplit(parts, advance, single_timestamp_ending)


def test_a_short_window_lasts_to_the_end_of_its_audio():
    # Its number of frames can be odd; a timestamp step is two frames.
    for size in (1, 2, 965):
        assert split_window([time(0), A], FIRST, size) == WindowSplit([part(0, size, (time(0), A))], size, False)
    # The model may place an end in the padding. Like openai-whisper, we keep it, but limit the advance.
    assert split_window([*ONE, time(100), B], FIRST, 20) == WindowSplit([part(0, 200, ONE)], 20, False)


@settings(deadline=None, max_examples=300)
@given(
    tokens=st.lists(st.integers(0, FIRST + 1500), max_size=12) | st.lists(st.integers(90, 110), max_size=12),
    size=st.integers(1, 3000),
)
def test_arbitrary_tokens_always_advance_the_window(tokens, size):
    parts, advance, single_timestamp_ending = split_window(tokens, FIRST, size)
    assert 1 <= advance <= size
    assert single_timestamp_ending == (len(tokens) > 1 and tokens[-1] >= FIRST > tokens[-2])
    assert not single_timestamp_ending or advance == size
    used = [token for part in parts for token in part.tokens]
    assert used == tokens[: len(used)]
    assert parts
    assert all(0 <= part.start <= 30.0001 and 0 <= part.end <= 30.0001 for part in parts)
    # The remaining audio is decoded in the next window, unless times go backwards or repeat.
    assert len(used) == len(tokens) or advance == min(max(2, round(100 * parts[-1].end)), size)
