"""Splitting the tokens of a window into segments."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.transcription.segments import TimedTokens, WindowSplit, split_window

FIRST = 100  # the id of <|0.00|> in the hand-made tokens; below it is text


def time(step: int) -> int:
    return FIRST + step


A, B, C = 1, 2, 3


def part(start: int, end: int, tokens: tuple[int, ...]) -> TimedTokens:
    """Tokens with start and end in frames."""
    return TimedTokens(pytest.approx(start / 100, abs=1e-9), pytest.approx(end / 100, abs=1e-9), tokens)


CUTS = {
    "one segment, closed": ([time(0), A, time(100)], [part(0, 200, (time(0), A, time(100)))], 3000, True),
    # A single segment starts with the window, as in openai-whisper.
    "one segment, opened late": ([time(30), A, time(100)], [part(0, 200, (time(30), A, time(100)))], 3000, True),
    "one segment, left open": ([time(0), A, B], [part(0, 3000, (time(0), A, B))], 3000, False),
    "one segment, opened late, left open": ([time(30), A], [part(0, 60, (time(30), A))], 3000, False),
    "an opening alone": ([time(0)], [part(0, 3000, (time(0),))], 3000, False),
    "a late time alone": ([time(30)], [part(0, 60, (time(30),))], 3000, False),
    "nothing": ([], [part(0, 3000, ())], 3000, False),
    "one token of text": ([A], [part(0, 3000, (A,))], 3000, False),
    "text without times": ([A, B, C], [part(0, 3000, (A, B, C))], 3000, False),
    "text and an end": ([A, B, time(100)], [part(0, 200, (A, B, time(100)))], 3000, True),
    "two segments, closed": (
        [time(0), A, time(100), time(100), B, C, time(150)],
        [part(0, 200, (time(0), A, time(100))), part(200, 300, (time(100), B, C, time(150)))],
        3000,
        True,
    ),
    "two segments and a pause between them": (
        [time(5), A, time(100), time(120), B, time(150)],
        [part(10, 200, (time(5), A, time(100))), part(240, 300, (time(120), B, time(150)))],
        3000,
        True,
    ),
    "text before the first timestamp": ([A, B, time(100), time(100), C], [part(0, 200, (A, B, time(100)))], 200, False),
    "the second left open": (
        [time(0), A, time(100), time(100), B, C],
        [part(0, 200, (time(0), A, time(100)))],
        200,
        False,
    ),
    "the second only opened": ([time(0), A, time(100), time(120)], [part(0, 200, (time(0), A, time(100)))], 200, False),
    "the third left open": (
        [time(0), A, time(100), time(110), B, time(150), time(160), C],
        [part(0, 200, (time(0), A, time(100))), part(220, 300, (time(110), B, time(150)))],
        300,
        False,
    ),
    "up to the last time of the window": (
        [time(0), A, time(1500), time(1500)],
        [part(0, 3000, (time(0), A, time(1500)))],
        3000,
        False,
    ),
    "three times in a row": (
        [time(0), A, time(100), time(110), time(120), B],
        [part(0, 200, (time(0), A, time(100))), part(220, 220, (time(110),))],
        220,
        False,
    ),
}


@pytest.mark.parametrize(("tokens", "parts", "advance", "single_timestamp_ending"), CUTS.values(), ids=CUTS)
def test_a_window_is_split_between_two_timestamps(tokens, parts, advance, single_timestamp_ending):
    assert split_window(tokens, FIRST, 3000) == WindowSplit(parts, advance, single_timestamp_ending)


@pytest.mark.parametrize("size", [1, 2, 19, 20, 965])
def test_a_segment_without_an_end_lasts_to_the_end_of_the_audio(size):
    # A window shorter than 30 s can have an odd number of frames; a timestamp step has two.
    assert split_window([time(0), A], FIRST, size) == WindowSplit([part(0, size, (time(0), A))], size, False)


def test_a_timestamp_beyond_the_audio_is_kept_but_the_advance_is_limited():
    # The model may place an end in the padding; openai-whisper keeps it, too.
    tokens = [time(0), A, time(100), time(100), B]
    assert split_window(tokens, FIRST, 20) == WindowSplit([part(0, 200, (time(0), A, time(100)))], 20, False)


@pytest.mark.parametrize(("size", "advance"), [(3000, 2), (1, 1)])
def test_the_advance_is_at_least_one_frame(size, advance):
    # The filters suppress such tokens; without filters they must not cause an endless loop.
    assert split_window([time(0), time(0), A], FIRST, size).advance == advance


@st.composite
def allowed_tokens(draw: st.DrawFn) -> list[int]:
    """Tokens that follow the timestamp rules: segments in order, the last one in any state."""
    tokens: list[int] = []
    text = st.lists(st.integers(0, FIRST - 1), min_size=1, max_size=3)
    now = 0
    for _ in range(draw(st.integers(0, 4))):
        opening = draw(st.integers(now, 1499))
        now = draw(st.integers(opening + 1, 1500))
        tokens += [time(opening), *draw(text), time(now)]
        if now == 1500:
            break
    if draw(st.booleans()):
        tokens.append(time(draw(st.integers(now, 1500))))
        if draw(st.booleans()):
            tokens += draw(text)
    return tokens


@settings(deadline=None, max_examples=300)
@given(tokens=allowed_tokens(), size=st.integers(1, 3000))
def test_tokens_that_follow_the_rules_give_segments_in_order(tokens, size):
    parts, advance, single_timestamp_ending = split_window(tokens, FIRST, size)
    assert 1 <= advance <= size
    assert single_timestamp_ending == (len(tokens) > 1 and tokens[-1] >= FIRST > tokens[-2])
    assert not single_timestamp_ending or advance == size
    used = [token for part in parts for token in part.tokens]
    assert used == tokens[: len(used)]
    left = tokens[len(used) :]
    assert not left or advance == min(round(100 * parts[-1].end), size)  # the rest is in the next window
    assert parts[0].start >= 0
    for part in parts:
        assert part.start < part.end
    for earlier, later in pairwise(parts):
        assert earlier.end <= later.start


@settings(deadline=None, max_examples=300)
@given(
    tokens=st.lists(st.integers(0, FIRST - 1) | st.integers(FIRST, FIRST + 1500), max_size=12),
    size=st.integers(1, 3000),
)
def test_arbitrary_tokens_give_an_advance(tokens, size):
    # With without_timestamps no filter orders the timestamps that a model may still generate.
    parts, advance, single_timestamp_ending = split_window(tokens, FIRST, size)
    assert 1 <= advance <= size
    assert not single_timestamp_ending or advance == size
    used = [token for part in parts for token in part.tokens]
    assert used == tokens[: len(used)]
    assert parts
    assert all(0 <= part.start <= 30.0001 and 0 <= part.end <= 30.0001 for part in parts)
