"""Chapter 1: a path, bytes, an open file or standard input → one seekable file.

``open_source`` opens it, and FFmpeg reads it through ``InputFile``.

Walkthrough: section 2.
"""

import io
import os
import sys
from typing import BinaryIO, cast

from ..errors import AudioError


class InputFile:
    """A file for FFmpeg that records read errors instead of raising them.

    PyAV raises an exception only after FFmpeg has gone on for a while; if a second one occurs by then, the first is
    only printed. So, as with FFmpeg's own files, a failed read returns nothing and a failed seek returns a negative
    number. Afterwards, ``raise_read_error`` raises the recorded error.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name, self._file = name, file
        self._error: BaseException | None = None
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes: none at the end of the file and after an error."""
        if self._error is None:
            try:
                return self._file.read(size)
            except (OSError, ValueError, MemoryError, KeyboardInterrupt) as error:
                self._error = error
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, possibly past the end, and return it; return a negative number if it is invalid."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1
        except KeyboardInterrupt as error:
            self._error = error
            return -1

    def tell(self) -> int:
        """Return the current position in bytes."""
        return self._file.tell()

    def read_at(self, position: int, size: int) -> bytes:
        """Read up to ``size`` bytes from a position."""
        return self.read(size) if self.seek(position) >= 0 else b""

    def raise_read_error(self) -> None:
        """Raise ``AudioError`` if a read failed; KeyboardInterrupt and MemoryError are raised unchanged."""
        if isinstance(self._error, OSError | ValueError):
            raise _read_error(self._name, self._error) from self._error
        if self._error is not None:
            raise self._error


def open_source(source: object) -> tuple[str, BinaryIO]:
    """Open any source but an array; return its name for messages and a seekable file.

    Raises ``AudioError`` if it cannot be opened or read, or is empty.
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
            raise AudioError(f"{name}: expected bytes, but it was opened in text mode; open it with mode 'rb'")
        file = io.BytesIO(content)
    else:
        raise AudioError(
            f"{type(source).__name__}: not an audio source; expected a path, bytes, a file opened with mode 'rb', "
            "'-' for standard input, or a NumPy array; numpy.asarray converts most types"
        )
    try:
        size = file.seek(0, os.SEEK_END)
    except (OSError, ValueError) as error:
        file.close()
        raise _read_error(name, error) from error
    if size == 0:
        file.close()
        raise AudioError(f"{name}: empty, 0 bytes; expected an audio file; copy or record it again")
    file.seek(0)
    return name, file


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise AudioError("standard input: closed; expected the bytes of an audio file")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise _read_error("standard input", error) from error


def _open_path(path: str) -> BinaryIO:
    """Open a local file.

    Python opens it, because FFmpeg interprets names such as ``concat:a.wav``.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    except (FileNotFoundError, NotADirectoryError):
        hint = "expected a path to an audio file; check the spelling and the folder"
        if "://" in path:
            hint = "expected a local path, not a URL; download the file first"
        raise AudioError(f"{path!r}: no such file; {hint}") from None
    except (IsADirectoryError, PermissionError) as error:
        if os.path.isdir(path):
            raise AudioError(f"{path!r}: a folder; expected one audio file; name a file in it") from None
        raise AudioError(f"{path!r}: no permission to read it; change its permissions") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path!r}: cannot be opened ({reason}); expected a path to an audio file") from error
    if file.seekable():
        return file
    with file:  # a pipe
        try:
            return io.BytesIO(file.read())
        except OSError as error:
            raise _read_error(repr(path), error) from error


def _read_error(name: str, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or error
    return AudioError(
        f"{name}: cannot be read ({reason}); expected an audio file; check the disk, network share or program that it "
        "comes from, and try again"
    )
