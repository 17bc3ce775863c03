"""The exceptions of this package, each with a one-line message.

Every message names the input, what was expected and what to do. The command prints that line and exits with status 2.
A program can catch ``MinWhisperError`` for all of them, or the usual ``ValueError``, ``OSError`` and so on.

Walkthrough: section 1.
"""

import errno
from collections.abc import Mapping, Sequence
from typing import Any

from .printable import printable

OUT_OF_MEMORY = "out of memory; close other programs, or use a smaller model, batch_size, beam_size or best_of"
_OUT_OF_MEMORY_SIGNS = (
    "can't start new thread",
    "annot allocate memory",
    "failed to map segment from shared object",
)


class MinWhisperError(Exception):
    """Base class of all errors that this package raises for invalid input.

    The message is always one printable line, even if it quotes text from a file: see ``printable``. Errors can be
    pickled, to be passed between processes; their causes are left out.
    """

    def __init__(self, *args: object) -> None:
        """Make every string among the arguments printable; the first argument is the message."""
        super().__init__(*(printable(arg) if isinstance(arg, str) else arg for arg in args))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the class and the arguments to unpickle it with.

        Without this, an ``OutOfMemoryError`` could not be unpickled if Dask has loaded tblib, which would create it
        with ``MemoryError.__new__``.
        """
        return type(self), self.args, self.__dict__


class AudioError(MinWhisperError, ValueError):
    """An audio file that cannot be read, or an array that is not valid audio."""


class ConfigError(MinWhisperError, ValueError):
    """A model configuration that is incomplete or contradicts itself."""


class WeightsError(MinWhisperError, ValueError):
    """A checkpoint that is damaged, or lacks the tensors that its configuration requires."""


class ModelNotFoundError(MinWhisperError, ValueError):
    """A model name, hub id or folder without a checkpoint."""


class DownloadError(MinWhisperError, OSError):
    """A checkpoint that could not be downloaded."""


class ShapeError(MinWhisperError, ValueError):
    """An array whose shape, dtype or token ids do not fit the model."""


class TokenizerError(MinWhisperError, ValueError):
    """A tokenizer file that cannot be read, or a token that the vocabulary does not have."""


class LanguageError(MinWhisperError, ValueError):
    """A language that is unknown, or that the model's vocabulary lacks."""


class DeviceError(MinWhisperError, RuntimeError):
    """A device that is unknown, missing or unusable."""


class DeviceMemoryError(DeviceError):
    """Too little GPU memory for a model or a request."""


class NumericalError(MinWhisperError, ArithmeticError):
    """A value computed by a model that is NaN or infinite."""

    def __init__(self, problem: str, where: str = "") -> None:
        """Describe the value in ``problem``; ``where`` names the model and the window."""
        super().__init__(f"{where}: {problem}" if where else problem)
        self.problem = problem  # a pickle restores it after __init__, which then gets the whole message


class OptionError(MinWhisperError, ValueError):
    """An option with an invalid value."""


class OutOfMemoryError(MinWhisperError, MemoryError):
    """Too little main memory for a model or a request."""


class MissingExtraError(MinWhisperError, ImportError):
    """A missing library that an optional feature needs."""


class TextError(MinWhisperError, ValueError):
    """A text to score that cannot be found or read, or a reference without words."""


class WalkthroughError(MinWhisperError, ValueError):
    """A walkthrough that cannot be found, read or updated."""


class ExerciseError(MinWhisperError, ValueError):
    """A solution to an exercise that cannot be loaded."""


class CorpusError(MinWhisperError, RuntimeError):
    """A corpus whose cluster or output folder cannot be used."""


class SomeFailedError(MinWhisperError):
    """Some of several audio files could not be transcribed.

    ``errors`` maps their indices to their errors; ``transcripts`` has the other transcripts, and None for these.
    """

    def __init__(self, errors: Mapping[int, MinWhisperError], transcripts: Sequence[Any]) -> None:
        """Compose a message from the number of errors and the first one."""
        first = min(errors)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(
            f"{len(errors)} of {len(transcripts)} audio files could not be transcribed: number {first + 1}: "
            f"{errors[first]}{more}; the error's .transcripts has the others"
        )
        self.errors, self.transcripts = dict(errors), list(transcripts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the class and its arguments; by default, Python would pass the message to ``__init__``."""
        return type(self), (self.errors, self.transcripts), self.__dict__


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error, or one of its causes, is due to a lack of main memory.

    Python raises ``MemoryError`` and the system reports ``ENOMEM``. A thread that cannot be started and a library that
    cannot be loaded raise other errors, recognised by their messages. A lack of GPU memory is a ``DeviceMemoryError``
    and does not count.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DeviceMemoryError):
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM:
            return True
        if any(sign in str(cause) for sign in _OUT_OF_MEMORY_SIGNS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
