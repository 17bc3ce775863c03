"""Print text to standard output, and messages and a progress bar to standard error.

The progress bar is on the last line of the terminal. It is erased before a line is printed and drawn again below it, so
that lines and bar never mix.
"""

import io
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ..printable import printable

BAR_WIDTH = 30  # columns of the bar, if they fit
MIN_BAR_WIDTH = 10  # a shorter bar is omitted
NAME_WIDTH = 40  # columns of the file name before the bar, if they fit
MIN_NAME_WIDTH = 8
ERASE = "\r\033[K"  # move to the start of the line, and clear it


class OutputError(Exception):
    """An error of standard output, which ends the command: the text would be lost."""


class OutputClosedError(OutputError):
    """A closed standard output, as after ``| head``."""


def prepare_streams() -> None:
    """Make standard output and error escape characters that their encoding lacks; discard the output of closed ones."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_text(text: str) -> None:
    """Write text to standard output and flush it.

    Raises :class:`OutputError` if that fails, and discards the text, which Python would otherwise write again at exit.
    """
    try:
        print(text, end="", flush=True)
    except OSError as error:
        _drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise OutputClosedError from error
        reason = error.strerror or error
        raise OutputError(f"cannot write to standard output: {reason}; is the disk full?") from error


def write_message(text: str) -> None:
    """Write a message to standard error and flush it. If that fails, the message is lost but the command continues."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Discard the stream's buffer and everything that is written to it from now on."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


class Console:
    """Standard output and standard error, with a progress bar."""

    def __init__(self) -> None:
        """Start without a progress bar."""
        self._bar: str | None = None  # the current line of the bar

    def text(self, line: str) -> None:
        """Write a line to standard output at once, since another program may be reading it."""
        with self._bar_aside():
            write_text(f"{line}\n")

    def note(self, message: object) -> None:
        """Write a message to standard error."""
        with self._bar_aside():
            write_message(f"minwhisper: {printable(message)}\n")

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Write a warning to standard error without its source line; a replacement for ``warnings.showwarning``."""
        self.note(f"warning: {message}")

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[float, float], None] | None]:
        """Yield a callback (seconds done, total seconds) that draws the bar; None without a terminal."""
        if not sys.stderr.isatty():
            yield None
            return
        started = time.monotonic()
        title = _as_encoded(printable(title))

        def columns() -> int:
            return shutil.get_terminal_size().columns

        def update(done: float, total: float) -> None:
            self._bar = bar_line(title, done, total, time.monotonic() - started, columns())
            self._draw()

        self._bar = truncate(title, max(1, columns() - 1))  # until the audio has been read
        try:
            self._draw()
            yield update
        finally:  # also after Ctrl-C, so that the next message starts on a clean line
            self._bar = None
            write_message(ERASE)

    @contextmanager
    def _bar_aside(self) -> Iterator[None]:
        if self._bar is not None:
            write_message(ERASE)
        yield
        self._draw()

    def _draw(self) -> None:
        if self._bar is not None:
            write_message(ERASE + self._bar)


def bar_line(title: str, done: float, total: float, elapsed: float, columns: int) -> str:
    """Return a progress bar of fewer than ``columns`` columns: file name, bar, seconds of audio, speed, time left.

    ``done`` and ``total`` are seconds of audio, ``elapsed`` is in seconds. In a narrow terminal the name is truncated
    first, then the bar is omitted, then the name.
    """
    figures = f"{done:.1f} of {total:.1f} s"
    if done > 0 and elapsed > 0:
        left = max(0.0, total - done) * elapsed / done
        figures += f", {done / elapsed:.1f}x, {format_duration(left)} left"
    columns -= 1  # some terminals start a new line after a full one
    full, empty = ("█", "░") if _as_encoded("█░") == "█░" else ("#", "-")
    available = columns - len(figures) - 2  # for the name and the bar, with a space after each
    if available >= MIN_NAME_WIDTH + MIN_BAR_WIDTH:
        name = truncate(title, min(NAME_WIDTH, available - MIN_BAR_WIDTH))
        width = min(BAR_WIDTH, available - display_width(name))
        filled = round(width * min(1.0, done / total)) if total else width
        return f"{name} {full * filled}{empty * (width - filled)} {figures}"
    if available + 1 >= MIN_NAME_WIDTH:
        return f"{truncate(title, available + 1)} {figures}"
    return figures[: max(0, columns)]


def format_duration(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if there are any.

    >>> format_duration(65.4), format_duration(3725)
    ('1:05', '1:02:05')
    """
    whole_minutes, rest = divmod(round(seconds), 60)
    hours, whole_minutes = divmod(whole_minutes, 60)
    return f"{hours}:{whole_minutes:02}:{rest:02}" if hours else f"{whole_minutes}:{rest:02}"


def truncate(text: str, columns: int) -> str:
    """Shorten a text to at most ``columns`` columns; an ellipsis shows that some of it is omitted.

    >>> truncate("interview.mp3", 10)
    'interview…'
    """
    if display_width(text) <= columns:
        return text
    mark = "…" if _as_encoded("…") == "…" else "~"
    while display_width(text) > columns - 1:
        text = text[:-1]
    return text + mark


def display_width(text: str) -> int:
    """Return the columns of a text in a terminal: two per wide East Asian character, none per combining character.

    >>> display_width("talk"), display_width("講演"), display_width("e\u0301")
    (4, 4, 1)
    """
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _as_encoded(text: str) -> str:
    """Return a text as standard error shows it, with the characters that its encoding lacks escaped."""
    encoding = sys.stderr.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
