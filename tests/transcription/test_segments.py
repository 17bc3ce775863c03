"""Cutting a window's tokens into segments, on hand-made ones: one window at a time."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.transcription.segments import TimedTokens, WindowSplit, split_window

FIRST = 100  # the id of <|0.00|> in the hand-made tokens; below it is text


def time(step: int) -> int:
    return FIRST + step


A, B, C = 1, 2, 3


def piece(start: int, end: int, tokens: tuple[int, ...]) -> TimedTokens:
    """A piece by its place in frames."""
    return TimedTokens(pytest.approx(start / 100, abs=1e-9), pytest.approx(end / 100, abs=1e-9), tokens)


CUTS = {
    "one segment, closed": ([time(0), A, time(100)], [piece(0, 200, (time(0), A, time(100)))], 3000, True),
    # With one segment only, openai-whisper lets it begin with the window, and so does this.
    "one segment, opened late": ([time(30), A, time(100)], [piece(0, 200, (time(30), A, time(100)))], 3000, True),
    "one segment, left open": ([time(0), A, B], [piece(0, 3000, (time(0), A, B))], 3000, False),
    "one segment, opened late, left open": ([time(30), A], [piece(0, 60, (time(30), A))], 3000, False),
    "an opening alone": ([time(0)], [piece(0, 3000, (time(0),))], 3000, False),
    "a late time alone": ([time(30)], [piece(0, 60, (time(30),))], 3000, False),
    "nothing": ([], [piece(0, 3000, ())], 3000, False),
    "one token of text": ([A], [piece(0, 3000, (A,))], 3000, False),
    "text without times": ([A, B, C], [piece(0, 3000, (A, B, C))], 3000, False),
    "text and an end": ([A, B, time(100)], [piece(0, 200, (A, B, time(100)))], 3000, True),
    "two segments, closed": (
        [time(0), A, time(100), time(100), B, C, time(150)],
        [piece(0, 200, (time(0), A, time(100))), piece(200, 300, (time(100), B, C, time(150)))],
        3000,
        True,
    ),
    "two segments and a pause between them": (
        [time(5), A, time(100), time(120), B, time(150)],
        [piece(10, 200, (time(5), A, time(100))), piece(240, 300, (time(120), B, time(150)))],
        3000,
        True,
    ),
    "the second left open": (
        [time(0), A, time(100), time(100), B, C],
        [piece(0, 200, (time(0), A, time(100)))],
        200,
        False,
    ),
    "the second only opened": (
        [time(0), A, time(100), time(120)],
        [piece(0, 200, (time(0), A, time(100)))],
        200,
        False,
    ),
    "the third left open": (
        [time(0), A, time(100), time(110), B, time(150), time(160), C],
        [piece(0, 200, (time(0), A, time(100))), piece(220, 300, (time(110), B, time(150)))],
        300,
        False,
    ),
    "up to the last time of the window": (
        [time(0), A, time(1500), time(1500)],
        [piece(0, 3000, (time(0), A, time(1500)))],
        3000,
        False,
    ),
    "three times in a row": (
        [time(0), A, time(100), time(110), time(120), B],
        [piece(0, 200, (time(0), A, time(100))), piece(220, 220, (time(110),))],
        220,
        False,
    ),
}


@pytest.mark.parametrize(("tokens", "pieces", "advance", "single_timestamp_ending"), CUTS.values(), ids=CUTS)
def test_a_window_is_split_between_two_timestamps(tokens, pieces, advance, single_timestamp_ending):
    assert split_window(tokens, FIRST, 3000) == WindowSplit(pieces, advance, single_timestamp_ending)


@pytest.mark.parametrize("size", [1, 2, 19, 20, 965])
def test_a_segment_without_an_end_lasts_to_the_end_of_the_audio(size):
    # A window that is shorter than 30 s can have an odd number of frames, half of a timestamp's step.
    assert split_window([time(0), A], FIRST, size) == WindowSplit([piece(0, size, (time(0), A))], size, False)


def test_a_timestamp_beyond_the_audio_is_kept_but_the_advance_is_limited():
    # The model hears zeros there and may place an end in them; openai-whisper reports it as it is.
    tokens = [time(0), A, time(100), time(100), B]
    assert split_window(tokens, FIRST, 20) == WindowSplit([piece(0, 200, (time(0), A, time(100)))], 20, False)


@pytest.mark.parametrize(("size", "advance"), [(3000, 2), (1, 1)])
def test_the_advance_is_at_least_one_frame(size, advance):
    # The rules allow no such tokens; without rules they must not mean an endless loop.
    assert split_window([time(0), time(0), A], FIRST, size).advance == advance


def test_text_before_the_first_timestamp_starts_with_the_window():
    pieces = split_window([A, B, time(100), time(100), C], FIRST, 3000).parts
    assert pieces == [piece(0, 200, (A, B, time(100)))]


@st.composite
def allowed_tokens(draw: st.DrawFn) -> list[int]:
    """What the timestamp rules let through: segments in order, the last one in any state."""
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
    pieces, advance, single_timestamp_ending = split_window(tokens, FIRST, size)
    assert 1 <= advance <= size
    assert single_timestamp_ending == (len(tokens) > 1 and tokens[-1] >= FIRST > tokens[-2])
    assert not single_timestamp_ending or advance == size
    said = [token for piece in pieces for token in piece.tokens]
    assert said == tokens[: len(said)]
    left = tokens[len(said) :]
    assert not left or advance == min(round(100 * pieces[-1].end), size)  # what is not said now is heard again
    assert pieces[0].start >= 0
    for piece in pieces:
        assert piece.start < piece.end
    for earlier, later in pairwise(pieces):
        assert earlier.end <= later.start


@settings(deadline=None, max_examples=300)
@given(
    tokens=st.lists(st.integers(0, FIRST - 1) | st.integers(FIRST, FIRST + 1500), max_size=12),
    size=st.integers(1, 3000),
)
def test_arbitrary_tokens_give_an_advance(tokens, size):
    # Without timestamps no rule holds the times back, should the model say some.
    pieces, advance, single_timestamp_ending = split_window(tokens, FIRST, size)
    assert 1 <= advance <= size
    assert not single_timestamp_ending or advance == size
    said = [token for piece in pieces for token in piece.tokens]
    assert said == tokens[: len(said)]
    assert pieces
    assert all(0 <= piece.start <= 30.0001 and 0 <= piece.end <= 30.0001 for piece in pieces)
