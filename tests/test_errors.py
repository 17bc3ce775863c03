"""Errors go from one process to another: message, attributes and class survive pickling."""

import pickle

import pytest

from minwhisper import errors
from minwhisper.errors import AudioError, MinWhisperError, NumericalError, OutOfMemoryError, SomeFailedError

PLAIN = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MinWhisperError) and kind not in (NumericalError, SomeFailedError)
]
ALL = [
    *(kind("'a.wav': two\nlines; rename it") for kind in PLAIN),
    NumericalError("NaN in the logits", "tiny.en: window 3"),
    NumericalError("NaN in the logits"),
    SomeFailedError({1: AudioError("b"), 2: OutOfMemoryError("c")}, [{"text": "a"}, None, None]),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error):
    error.add_note("on worker 3")
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), found.args) == (type(error), str(error), error.args)
    assert {name: repr(value) for name, value in vars(found).items()} == {k: repr(v) for k, v in vars(error).items()}
    assert pickle.loads(pickle.dumps(found)).args == error.args  # as often as needed
