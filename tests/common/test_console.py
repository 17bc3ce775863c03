"""Output in a terminal: lines and a bar that never mix. cli/test_command_process.py tests streams that fail."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minwhisper.common import console
from minwhisper.common.console import Console
from screen import use_screen


def test_lines_appear_above_the_bar(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    screen = use_screen(monkeypatch)
    shown = Console()
    with shown.progress("talk.mp3") as progress:
        assert screen.rows() == ["talk.mp3"]
        shown.text("before any progress")
        now[0] += 2
        progress(20.0, 60.0)
        bar = "20.0 of 60.0 s, 10.0x, 00:04 left ██████████░░░░░░░░░░░░░░░░░░░░ talk.mp3"
        assert screen.rows() == ["before any progress", bar]
        shown.text("the first words")
        shown.note("a remark")
        shown.warn(UserWarning("take care"))
        lines = ["the first words", "minwhisper: a remark", "minwhisper: warning: take care"]
        assert screen.rows()[1:] == [*lines, bar]
        progress(6.0, 60.0)  # a shorter line leaves nothing of the longer one
        assert screen.rows()[-1].startswith("6.0 of 60.0 s, 3.0x, 00:18 left ███░")
        assert screen.rows()[-1].endswith("░ talk.mp3")
    assert screen.rows()[4:] == [""]
    shown.text("after it")
    assert screen.rows()[4:] == ["after it", ""]


def test_an_interruption_clears_the_bar(monkeypatch):
    screen = use_screen(monkeypatch)
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


def test_without_a_terminal_there_is_no_bar(capfd):
    shown = Console()
    with shown.progress("talk.mp3") as progress:
        assert progress is None
        shown.text("words")
    assert capfd.readouterr() == ("words\n", "")


def test_an_encoding_without_blocks_gets_ascii(monkeypatch):
    screen = use_screen(monkeypatch)
    monkeypatch.setattr(screen, "encoding", "ascii", raising=False)
    with Console().progress("dictée {n}\n.wav") as progress:
        progress(30.0, 60.0)
        assert screen.rows()[0].startswith("30.0 of 60.0 s, ")
        assert screen.rows()[0].endswith(f" {'#' * 15}{'-' * 15} dict\\xe9e {{n}}\\n.wav")


def last_row(name, done, total, elapsed, columns):
    """Return the bar that a terminal of this width shows."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        screen = use_screen(monkeypatch)
        monkeypatch.setenv("COLUMNS", str(columns))
        now = [0.0]
        monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
        with Console().progress(name) as progress:
            now[0] = elapsed
            progress(done, total)
            return screen.getvalue().rpartition("\r")[2].rstrip()


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, "10.0 of 3700.0 s, 0.5x, 2:03:00 left ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ interview-w"),
        (50, "10.0 of 3700.0 s, 0.5x, 2:03:00 left ░░░░░░░░░░░░"),
        (10, "10.0 of 3"),
    ],
)
def test_a_narrow_terminal_cuts_off_the_name_then_the_bar_then_the_figures(columns, line):
    assert last_row("interview-with-a-long-name.mp3", 10.0, 3700.0, 20.0, columns) == line


NAMES = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Cf", "Cn", "Co"]), max_size=60)


@given(NAMES, st.just(0.0) | st.floats(0.01, 1e6), st.floats(0, 1e6), st.floats(0, 1e5), st.integers(2, 200))
@example("講演" * 30, 1.0, 2.0, 1.0, 81)
def test_the_bar_never_fills_the_line(name, done, total, elapsed, columns):
    from tqdm.utils import disp_len

    assert disp_len(last_row(name, done, total, elapsed, columns)) <= columns - 1


def test_the_bar_is_proportional_to_the_work_done():
    assert [last_row("a", done, 8.0, 1.0, 120).count("█") for done in (0.0, 2.0, 4.0, 8.0, 9.0)] == [0, 7, 15, 30, 30]
    assert last_row("a", 0.0, 0.0, 1.0, 120).count("█") == 30  # an empty recording is finished at once
