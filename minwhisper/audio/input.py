"""Chapter 1, beneath it: the bytes of an audio file, wherever they come from.

A path, bytes, an open file and standard input all become one seekable file, which FFmpeg reads through
:class:`Input`.

Walkthrough: section 2.
"""

import io
import os
import sys
from typing import BinaryIO, cast

from ..errors import AudioError


class Input:
    """An open file as FFmpeg's libraries read it: errors are kept here and never raised in the middle of FFmpeg.

    PyAV passes an exception on only after FFmpeg has tried this and that, and prints the one before it. So a read that
    fails ends the file and a seek that fails returns a negative number, as those of FFmpeg's own files do, and
    :meth:`check` raises what happened.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name, self._file = name, file
        self._failure: BaseException | None = None
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, none at the end of the file and after a failure."""
        if self._failure is None:
            try:
                return self._file.read(size)
            except (OSError, ValueError, MemoryError, KeyboardInterrupt) as error:
                self._failure = error
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, also behind the end, and return it; a negative number if there is no such position."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1
        except KeyboardInterrupt as error:
            self._failure = error
            return -1

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._file.tell()

    def at(self, position: int, size: int) -> bytes:
        """Return up to ``size`` bytes from a position."""
        return self.read(size) if self.seek(position) >= 0 else b""

    def check(self) -> None:
        """Raise :class:`AudioError` if the file could not be read; KeyboardInterrupt and MemoryError as they are."""
        if isinstance(self._failure, OSError | ValueError):
            raise _unreadable(self._name, self._failure) from self._failure
        if self._failure is not None:
            raise self._failure


def open_source(source: object) -> tuple[str, BinaryIO]:
    """Return a source's name for messages and a seekable file of its bytes, for any source that is not an array.

    Raises :class:`AudioError` for what cannot be opened or read, and for what is empty.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        name, file = f"the {len(source)} bytes given", cast(BinaryIO, io.BytesIO(source))
    elif isinstance(source, str) and source == "-":
        name, file = "standard input", io.BytesIO(_standard_input())
    elif isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        name, file = repr(path), _open_path(path)
    elif hasattr(source, "read"):
        name = f"file {getattr(source, 'name', type(source).__name__)!r}"
        try:
            content = "" if isinstance(source, io.TextIOBase) else source.read()
        except (OSError, ValueError) as error:  # opened for writing, or closed
            raise AudioError(f"{name}: cannot be read ({error}); open it with mode 'rb'") from error
        if not isinstance(content, bytes):
            raise AudioError(f"{name}: expected bytes, the file was opened as text; open it with mode 'rb'")
        file = io.BytesIO(content)
    else:
        raise AudioError(
            f"{type(source).__name__}: no sound; expected a path, bytes, a file opened with mode 'rb', "
            "'-' for standard input, or a NumPy array (numpy.asarray makes one of most things)"
        )
    try:
        size = file.seek(0, os.SEEK_END)
    except (OSError, ValueError) as error:
        file.close()
        raise _unreadable(name, error) from error
    if size == 0:
        file.close()
        raise AudioError(f"{name}: empty, 0 bytes; expected a sound file, was it copied or recorded to the end?")
    file.seek(0)
    return name, file


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise AudioError("standard input: closed; expected the bytes of a sound file")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise _unreadable("standard input", error) from error


def _open_path(path: str) -> BinaryIO:
    """Open a local file. Python opens it, not FFmpeg, to which ``concat:a.wav`` or ``-x.wav`` mean other things."""
    try:
        file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    except (FileNotFoundError, NotADirectoryError):
        hint = "expected a path to a sound file; check the spelling and the folder"
        if "://" in path:
            hint = "expected a local path; addresses are not fetched, download it first"
        raise AudioError(f"{path!r}: no such file; {hint}") from None
    except (IsADirectoryError, PermissionError) as error:
        if os.path.isdir(path):
            raise AudioError(f"{path!r}: a folder; expected one sound file, name a file in it") from None
        raise AudioError(f"{path!r}: no permission to read it; change its permissions or its owner") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path!r}: cannot be opened ({reason}); expected a path to a sound file") from error
    if file.seekable():
        return file
    with file:  # a pipe
        try:
            return io.BytesIO(file.read())
        except OSError as error:
            raise _unreadable(repr(path), error) from error


def _unreadable(name: str, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or error
    return AudioError(
        f"{name}: cannot be read ({reason}); expected an audio file: check the disk, the network share or the program "
        "that it comes from, and try again"
    )
