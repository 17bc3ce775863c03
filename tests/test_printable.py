"""Untrusted text in messages is escaped and limited in length."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.common.console import Console
from minwhisper.printable import MAX_MESSAGE, printable, short_repr

HOSTILE = "\x1b]0;title\x07\x1b[31mred\r\n\u202edetrever\x00\udc80"


@settings(max_examples=50)
@given(st.text() | st.text("\x1b\n\u202e", min_size=50), st.integers(16, 300))
def test_printable_is_one_line_within_the_limit(text, limit):
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    if text.isprintable() and len(text) <= limit:
        assert shown == text


def test_both_ends_of_a_long_message_are_kept():
    shown = printable("folder/" + "x" * 10**6 + "; fetch the file again")
    assert shown.startswith("folder/xxx")
    assert shown.endswith("; fetch the file again")
    assert len(shown) == MAX_MESSAGE


def test_short_repr_of_a_long_deep_or_hostile_value_is_printable():
    deep = functools.reduce(lambda inner, _: [inner], range(100_000), [])
    for value in (HOSTILE, [1] * 10**6, deep, "y" * 10**7, 10**6000, {"\x1b": 1}, float("nan"), b"\x1b"):
        assert short_repr(value).isprintable()
        assert 2 <= len(short_repr(value)) <= 80


def test_messages_and_warnings_of_the_console_are_printable_lines(capsys):
    Console().note(HOSTILE)
    Console().warn(UserWarning(HOSTILE))
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
