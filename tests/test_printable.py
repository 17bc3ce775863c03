"""Untrusted text in messages: it is escaped and of limited length."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwhisper import errors
from minwhisper.common.console import Console
from minwhisper.errors import DownloadError, MinWhisperError, MissingExtraError, NumericalError, WeightsError
from minwhisper.printable import MAX_MESSAGE, printable, short_repr

HOSTILE = "\x1b]0;title\x07\x1b[31mred\r\n\u202edetrever\x00\udc80"


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


@pytest.mark.parametrize(
    "value",
    [HOSTILE, [1] * 10**6, {"a": [[[[[[[[1]]]]]]]]}, "y" * 10**7, 10**6000, {"\x1b": 1}, float("nan"), b"\x1b"],
    ids=["text", "long", "deep", "long text", "digits", "mapping", "nan", "bytes"],
)
def test_short_repr(value):
    assert short_repr(value).isprintable()
    assert 2 <= len(short_repr(value)) <= 80


def test_short_repr_of_a_deeply_nested_value():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert short_repr(value).startswith("[[[[")


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not errors.SomeFailedError])
def test_every_error_has_a_one_line_message(kind):
    assert issubclass(kind, MinWhisperError)
    message = str(kind(f"folder {HOSTILE}: damaged; fetch it again"))
    assert message.isprintable()
    assert message.endswith("damaged; fetch it again")
    assert len(str(kind("x" * 10**6))) <= MAX_MESSAGE


def test_base_classes_and_pickling_of_errors():
    assert isinstance(DownloadError("a"), OSError)
    assert isinstance(MissingExtraError("a"), ImportError)
    assert isinstance(NumericalError("a"), ArithmeticError)
    for error in (WeightsError("a: b"), DownloadError("a\nb"), NumericalError("b", "a")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))


def test_messages_and_warnings_of_the_console(capsys):
    Console().note(HOSTILE)
    Console().warn(UserWarning(HOSTILE))
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
