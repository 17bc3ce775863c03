"""What the command shows: lines of text on standard output, everything else on standard error, and a bar.

The bar stands on the last line of a terminal. It gives way to every line that is printed and is drawn again below it,
so that the two never mix.
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

from ..printable import printable as printable

BAR_WIDTH = 30  # columns of the bar where there is room for it
MIN_BAR_WIDTH = 10  # with fewer it says nothing, and is left out
NAME_WIDTH = 40  # columns of the name before it
MIN_NAME_WIDTH = 8
ERASE = "\r\033[K"  # to the start of the line, and clear it


class OutputError(Exception):
    """Standard output cannot be written to. The work ends: nobody would see the text."""


class OutputClosedError(OutputError):
    """The reader of standard output has gone, as ``head`` does when it has enough."""


def prepare_streams() -> None:
    """Escape what the terminal's encoding lacks instead of failing; let a closed stream swallow its output."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_text(text: str) -> None:
    """Write text on standard output, at once.

    Raises :class:`OutputError` if that fails. Then the text is dropped: Python would try again when the process ends.
    """
    try:
        print(text, end="", flush=True)
    except OSError as error:
        _drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise OutputClosedError from error
        reason = error.strerror or error
        raise OutputError(f"cannot write the text: {reason}; is there space left?") from error


def write_message(text: str) -> None:
    """Write a message on standard error, at once. If that fails it is lost: it must not stop the text."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Send what the stream still holds, and what is written to it from now on, nowhere."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


class Console:
    """The two streams and the bar."""

    def __init__(self) -> None:
        """Without a bar at first."""
        self._bar: str | None = None  # the line it is, while there is one

    def text(self, line: str) -> None:
        """Write a line of what was asked for, at once: there may be a reader at the other end of a pipe."""
        with self._bar_aside():
            write_text(f"{line}\n")

    def note(self, message: object) -> None:
        """Write a line about the work: an error, or what was done."""
        with self._bar_aside():
            write_message(f"minwhisper: {printable(message)}\n")

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Show a warning as a line, without the place in the code it came from; for ``warnings.showwarning``."""
        self.note(f"warning: {message}")

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[float, float], None] | None]:
        """A callback that draws a bar of (seconds done, seconds in all); None if standard error is no terminal."""
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

        self._bar = truncate(title, max(1, columns() - 1))  # the sound has to be read first
        try:
            self._draw()
            yield update
        finally:  # also after Ctrl-C: what comes next starts on a clean line
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


# ------------------------------------------------------------------------------------------ the bar


def bar_line(title: str, done: float, total: float, elapsed: float, columns: int) -> str:
    """The bar as a line of fewer than ``columns`` columns: name, bar, seconds of sound, how fast, how much longer.

    ``done`` and ``total`` are seconds of sound, ``elapsed`` those of the clock. Where room is short, the name is cut,
    then the bar goes, then the name, and the figures come last.
    """
    figures = f"{done:.1f} of {total:.1f} s"
    if done > 0 and elapsed > 0:
        left = max(0.0, total - done) * elapsed / done
        figures += f", {done / elapsed:.1f}x, {format_duration(left)} left"
    columns -= 1  # a full line would make some terminals begin a new one
    full, empty = ("█", "░") if _as_encoded("█░") == "█░" else ("#", "-")
    room = columns - len(figures) - 2  # for the name and the bar, with a space after each
    if room >= MIN_NAME_WIDTH + MIN_BAR_WIDTH:
        name = truncate(title, min(NAME_WIDTH, room - MIN_BAR_WIDTH))
        width = min(BAR_WIDTH, room - display_width(name))
        filled = round(width * min(1.0, done / total)) if total else width
        return f"{name} {full * filled}{empty * (width - filled)} {figures}"
    if room + 1 >= MIN_NAME_WIDTH:
        return f"{truncate(title, room + 1)} {figures}"
    return figures[: max(0, columns)]


def format_duration(seconds: float) -> str:
    """A duration for people.

    >>> format_duration(65.4), format_duration(3725)
    ('1:05', '1:02:05')
    """
    whole_minutes, rest = divmod(round(seconds), 60)
    hours, whole_minutes = divmod(whole_minutes, 60)
    return f"{hours}:{whole_minutes:02}:{rest:02}" if hours else f"{whole_minutes}:{rest:02}"


def truncate(text: str, room: int) -> str:
    """The text in at most ``room`` columns, with a mark at the end if some of it is left out.

    >>> truncate("interview.mp3", 10)
    'interview…'
    """
    if display_width(text) <= room:
        return text
    mark = "…" if _as_encoded("…") == "…" else "~"
    while display_width(text) > room - 1:
        text = text[:-1]
    return text + mark


def display_width(text: str) -> int:
    """How many columns a terminal takes for a text: two for most East Asian characters, none for a combining one.

    >>> display_width("talk"), display_width("講演"), display_width("e\u0301")
    (4, 4, 1)
    """
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _as_encoded(text: str) -> str:
    """What a text becomes in standard error's encoding, where what it lacks is escaped and so takes more columns."""
    encoding = sys.stderr.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
