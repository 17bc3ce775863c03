"""Errors say in one line what is wrong, and survive the pickling that takes them from one process to another."""

import pickle

import pytest

from minwhisper import errors
from minwhisper.printable import MAX_MESSAGE

ODD = (errors.NumericalError, errors.SomeFailedError)
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
ALL = [
    *(kind("'a.wav': two\nlines; rename it") for kind in KINDS if kind not in ODD),
    errors.NumericalError("NaN in the logits", "tiny.en: window 3"),
    errors.SomeFailedError({1: errors.AudioError("b"), 2: errors.OutOfMemoryError("c")}, [{"text": "a"}, None, None]),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("tblib", [False, pytest.param(True, marks=pytest.mark.cluster)], ids=["", "on a cluster"])
def test_an_error_survives_pickling(error, tblib):
    if tblib:  # Dask also installs it for all exceptions
        pytest.importorskip("tblib.pickling_support").install()
    error.add_note("on worker 3")
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), found.args) == (type(error), str(error), error.args)
    assert {name: repr(value) for name, value in vars(found).items()} == {k: repr(v) for k, v in vars(error).items()}
    assert pickle.loads(pickle.dumps(found)).args == error.args  # a second pickling


def test_every_error_is_one_of_the_package_with_a_one_line_message():
    for kind in KINDS:
        assert issubclass(kind, errors.MinWhisperError)
        if kind is not errors.SomeFailedError:
            message = str(kind("folder \x1b[31mred\r\n\u202edetrever\x00: damaged; fetch it again"))
            assert message.isprintable()
            assert message.endswith("damaged; fetch it again")
            assert len(str(kind("x" * 10**6))) <= MAX_MESSAGE
    assert isinstance(errors.DownloadError("a"), OSError)
    assert isinstance(errors.MissingExtraError("a"), ImportError)
    assert isinstance(errors.NumericalError("a"), ArithmeticError)
