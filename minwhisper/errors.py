"""What can go wrong for a user, as exceptions whose message is one line to act on.

Every message names what was given, what was expected and the way out. The command line prints that line and
exits with status 2; a program can catch :class:`MinWhisperError` for all of them, or ``ValueError`` as usual.

Walkthrough: section 1.
"""

import errno
from collections.abc import Mapping, Sequence
from typing import Any

from .printable import printable

OUT_OF_MEMORY = "out of memory; end other programs, or take a smaller model, batch_size, beam_size or best_of"
_OUT_OF_MEMORY_SIGNS = (
    "can't start new thread",
    "annot allocate memory",
    "failed to map segment from shared object",
)


class MinWhisperError(Exception):
    """Base of every error that this package raises for a bad input.

    The message is one printable line, whatever text of files is quoted in it: see :mod:`minwhisper.printable`.
    """

    def __init__(self, *args: object) -> None:
        """``args`` are those of any exception; the first one is the message."""
        super().__init__(*(printable(arg) if isinstance(arg, str) else arg for arg in args))


class AudioError(MinWhisperError, ValueError):
    """A sound that cannot be read, or an array that cannot be sound."""


class ConfigError(MinWhisperError, ValueError):
    """A model configuration that is incomplete or contradicts itself."""


class WeightsError(MinWhisperError, ValueError):
    """A checkpoint that is damaged, or does not hold the tensors its configuration asks for."""


class ModelNotFoundError(MinWhisperError, ValueError):
    """A model name, hub id or folder that leads to no checkpoint."""


class DownloadError(MinWhisperError, OSError):
    """A checkpoint that exists, or may exist, but could not be fetched."""


class ShapeError(MinWhisperError, ValueError):
    """An array whose shape, dtype or ids do not fit the model it is given to."""


class TokenizerError(MinWhisperError, ValueError):
    """A tokenizer file that cannot be read, or a token that the vocabulary does not have."""


class LanguageError(MinWhisperError, ValueError):
    """A language that is unknown, or that this model's vocabulary lacks."""


class DeviceError(MinWhisperError, RuntimeError):
    """A device that is unknown, absent or unusable."""


class DeviceMemoryError(DeviceError):
    """A GPU whose memory does not suffice for a model, or for what it was asked to do."""


class NumericalError(MinWhisperError, ArithmeticError):
    """A value that a model computed and that is NaN or infinite."""

    def __init__(self, problem: str, where: str = "") -> None:
        """``problem`` says which value it is, ``where`` names the model and the window."""
        super().__init__(f"{where}: {problem}" if where else problem)
        self.problem = problem


class OptionError(MinWhisperError, ValueError):
    """An option whose value makes no sense."""


class OutOfMemoryError(MinWhisperError, MemoryError):
    """The computer's memory does not suffice for what was asked."""


class MissingExtraError(MinWhisperError, ImportError):
    """A library that something optional needs, and that is not installed."""


class WalkthroughError(MinWhisperError, ValueError):
    """A walkthrough that cannot be read, found or rewritten."""


class ExerciseError(MinWhisperError, ValueError):
    """An answer to an exercise that cannot be loaded."""


class SomeFailedError(MinWhisperError):
    """Some of several sounds could not be transcribed; the others could.

    ``errors`` says what went wrong, by their places; ``transcripts`` has None for those, and the others' transcripts.
    """

    def __init__(self, errors: Mapping[int, MinWhisperError], transcripts: Sequence[Any]) -> None:
        """The message names the first error and how many there are."""
        first = min(errors)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(
            f"{len(errors)} of {len(transcripts)} sounds could not be transcribed: number {first + 1}: "
            f"{errors[first]}{more}; the error's .transcripts has the others"
        )
        self.errors, self.transcripts = dict(errors), list(transcripts)


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error, or one that led to it, comes from a lack of the computer's memory.

    Python raises ``MemoryError`` and the system says ``ENOMEM``; a thread that cannot be started and a library that
    cannot be loaded have errors of their own. A lack of a GPU's memory is a :class:`DeviceMemoryError` and not meant.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DeviceMemoryError):
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM:
            return True
        if any(sign in str(cause) for sign in _OUT_OF_MEMORY_SIGNS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
