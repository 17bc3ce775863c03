"""The console: lines and a progress bar that never mix on the terminal."""

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minwhisper.common import console
from minwhisper.common.console import (
    Console,
    OutputClosedError,
    OutputError,
    bar_line,
    display_width,
    format_duration,
    truncate,
)
from screen import Screen, look_at


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by one that the test sets."""
    now = [50.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_lines_are_printed_above_the_bar(monkeypatch, clock):
    screen = look_at(monkeypatch)
    shown = Console()
    with shown.progress("talk.mp3") as progress:
        assert screen.rows() == ["talk.mp3"]
        clock[0] += 2
        progress(20.0, 60.0)
        bar = "talk.mp3 ██████████░░░░░░░░░░░░░░░░░░░░ 20.0 of 60.0 s, 10.0x, 0:04 left"
        assert screen.rows() == [bar]
        shown.text("the first words")
        assert screen.rows() == ["the first words", bar]
        shown.note("a remark")
        shown.warn(UserWarning("take care"))
        assert screen.rows() == ["the first words", "minwhisper: a remark", "minwhisper: warning: take care", bar]
        progress(6.0, 60.0)  # a shorter line replaces a longer one completely
        assert screen.rows()[-1].endswith(" 6.0 of 60.0 s, 3.0x, 0:18 left")
    assert screen.rows()[3:] == [""]
    shown.text("after it")
    assert screen.rows()[3:] == ["after it", ""]


def test_the_bar_is_erased_after_an_interruption(monkeypatch):
    screen = look_at(monkeypatch)
    shown = Console()

    def work():
        with shown.progress("talk.mp3") as progress:
            progress(1.0, 2.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert screen.rows() == [""]
    shown.note("interrupted")
    assert screen.rows() == ["minwhisper: interrupted", ""]


def test_a_line_is_flushed_before_the_bar_is_drawn_again(monkeypatch):
    order = []
    out, err = Screen(), Screen()
    out.flush = lambda: order.append("line")
    err.flush = lambda: order.append("bar")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    shown = Console()
    with shown.progress("talk.mp3") as progress:
        progress(1.0, 2.0)
        order.clear()
        shown.text("words")
        assert order == ["bar", "line", "bar"]


def test_no_bar_without_a_terminal(capfd):
    shown = Console()
    with shown.progress("talk.mp3") as progress:
        assert progress is None
        shown.text("words")
    assert capfd.readouterr() == ("words\n", "")


def test_a_long_name_is_truncated(monkeypatch):
    screen = look_at(monkeypatch)
    monkeypatch.setenv("COLUMNS", "20")
    with Console().progress("a long name of a file.wav"):
        assert screen.rows() == ["a long name of a f…"]


def test_ascii_terminal(monkeypatch):
    screen = look_at(monkeypatch)
    monkeypatch.setattr(screen, "encoding", "ascii", raising=False)
    with Console().progress("dictée\n.wav") as progress:
        progress(30.0, 60.0)
        assert screen.rows()[0].startswith("dict\\xe9e\\n.wav ###############--------------- 30.0 of 60.0 s")
        assert truncate("interview.mp3", 10) == "interview~"


class Broken(Screen):
    """A stream on which every write fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")])
def test_an_error_of_standard_error_does_not_stop_the_text(monkeypatch, error):
    out = Screen()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", Broken(error))
    shown = Console()
    with shown.progress("talk.mp3") as progress:
        progress(1.0, 2.0)
        shown.note("a remark")
        shown.text("words")
    assert out.rows() == ["words", ""]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(OSError(28, "No space left"), OutputError), (BrokenPipeError(32, "Broken pipe"), OutputClosedError)],
)
def test_an_error_of_standard_output(monkeypatch, error, kind):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    with pytest.raises(OutputError) as caught:
        Console().text("words")
    assert caught.type is kind


@pytest.mark.parametrize(
    ("done", "elapsed", "figures"),
    [
        (0.0, 3.0, "0.0 of 3700.0 s"),  # the speed is not known yet
        (37.0, 3.0, "37.0 of 3700.0 s, 12.3x, 4:57 left"),
        (10.0, 20.0, "10.0 of 3700.0 s, 0.5x, 2:03:00 left"),
        (3700.0, 100.0, "3700.0 of 3700.0 s, 37.0x, 0:00 left"),
    ],
)
def test_speed_and_time_left(done, elapsed, figures):
    assert bar_line("talk", done, 3700.0, elapsed, 200).endswith(f" {figures}")


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (60, "interview-with-a-… █████░░░░░ 3.0 of 6.0 s, 1.0x, 0:03 left"),
        (50, "intervi… █████░░░░░ 3.0 of 6.0 s, 1.0x, 0:03 left"),
        (40, "intervie… 3.0 of 6.0 s, 1.0x, 0:03 left"),
        (30, "3.0 of 6.0 s, 1.0x, 0:03 left"),
        (10, "3.0 of 6."),
    ],
)
def test_bar_in_a_narrow_terminal(columns, line):
    assert bar_line("interview-with-a-long-name.mp3", 3.0, 6.0, 3.0, columns) == line


NAMES = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Cf", "Cn", "Co"]), max_size=60)


@given(NAMES, st.just(0.0) | st.floats(0.01, 1e6), st.floats(0, 1e6), st.floats(0, 1e5), st.integers(1, 200))
@example("講演" * 30, 1.0, 2.0, 1.0, 81)
def test_the_bar_never_fills_the_line(name, done, total, elapsed, columns):
    assert display_width(bar_line(name, done, total, elapsed, columns)) <= columns - 1


def test_filled_part_of_the_bar():
    filled = [bar_line("a", done, 8.0, 1.0, 120).count("█") for done in (0.0, 2.0, 4.0, 8.0, 9.0)]
    assert filled == [0, 8, 15, 30, 30]
    assert bar_line("a", 0.0, 0.0, 1.0, 120).count("█") == 30  # full for empty audio


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (36000, "10:00:00")])
def test_durations(seconds, shown):
    assert format_duration(seconds) == shown


def test_wide_characters_count_two_columns():
    assert truncate("講演.mp3", 8) == "講演.mp3"
    assert truncate("講演.mp3", 4) == "講…"
    assert truncate("講演.mp3", 1) == "…"
