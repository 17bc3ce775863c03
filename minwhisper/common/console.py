"""The command's output: text on standard output, messages on standard error, and a progress bar in a terminal.

The bar is on the last line of the terminal. It is cleared before a line is printed and drawn again below it, so that
the two never mix.
"""

import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ..printable import printable

BAR_WIDTH = 30  # columns


class OutputError(Exception):
    """Standard output cannot be written to. The command stops, since its text would be lost."""


class OutputClosedError(OutputError):
    """The reader of standard output has closed it, as ``head`` does after its last line."""


def prepare_streams() -> None:
    """Escape characters that the terminal's encoding lacks, and discard what is written to a closed stream."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_text(text: str) -> None:
    """Write text on standard output and flush it.

    Raises ``OutputError`` if that fails, and drops the text: otherwise Python would try again when it exits.
    """
    try:
        print(text, end="", flush=True)
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise OutputClosedError from error
        reason = error.strerror or error
        raise OutputError(f"cannot write to standard output: {reason}; is the disk full?") from error


def write_message(text: str) -> None:
    """Write a message on standard error and flush it. A failure is ignored: it must not stop the text output."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Redirect a stream, and the text in its buffer, to the null device."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


class _Messages:
    """Standard error as a file for the bar; failures to write are ignored, as for other messages."""

    def write(self, text: str) -> None:
        write_message(text)

    def flush(self) -> None:
        pass


class Console:
    """The two output streams and the progress bar."""

    def __init__(self) -> None:
        """Start without a bar."""
        self._bar: Any = None  # a tqdm

    def text(self, line: str) -> None:
        """Write a line of text on standard output, flushed: a program may be reading it from a pipe."""
        with self._bar_cleared():
            write_text(f"{line}\n")

    def note(self, message: object) -> None:
        """Write a message on standard error: an error, or what was done."""
        with self._bar_cleared():
            write_message(f"minwhisper: {printable(message)}\n")

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Write a warning without its location in the code; a replacement for ``warnings.showwarning``."""
        self.note(f"warning: {message}")

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[float, float], None] | None]:
        """Show a bar, and yield a callback for (seconds done, total seconds); None if there is no terminal."""
        if not sys.stderr.isatty():
            yield None
            return
        from threading import RLock

        from tqdm import tqdm  # imported only here: it takes as long as the rest of this module and its imports

        tqdm.monitor_interval = 0  # no thread, and no lock that other processes could share
        tqdm.set_lock(RLock())
        started = time.monotonic()
        title = _as_shown(printable(title))
        marks = "░█" if _as_shown("░█") == "░█" else "-#"
        layout = f"{{desc}} {{bar:{BAR_WIDTH}}} {title.replace('{', '{{').replace('}', '}}')}"

        def columns() -> int:
            return max(1, shutil.get_terminal_size().columns - 1)  # a full line would wrap in some terminals

        def update(done: float, total: float) -> None:
            bar.desc, bar.bar_format = progress_figures(done, total, time.monotonic() - started), layout
            bar.n, bar.total = (min(done, total), total) if total else (1.0, 1.0)
            bar.ncols = columns()
            bar.refresh()

        # Only the title, while the audio is opened.
        bar = tqdm(desc=title, bar_format="{desc}", file=_Messages(), ncols=columns(), ascii=marks, leave=False)
        self._bar = bar
        try:
            yield update
        finally:  # also after Ctrl-C: the next output starts on a clean line
            self._bar = None
            bar.close()

    @contextmanager
    def _bar_cleared(self) -> Iterator[None]:
        if self._bar is not None:
            self._bar.clear()
        yield
        if self._bar is not None:
            self._bar.refresh()


def progress_figures(done: float, total: float, elapsed: float) -> str:
    """Describe the progress: seconds of audio done and in total, the speed, and the time left.

    They come before the bar and the file name, so that a narrow terminal cuts off the latter two first.

    >>> progress_figures(37.0, 3700.0, 2.5)
    '37.0 of 3700.0 s, 14.8x, 04:07 left'
    """
    figures = f"{done:.1f} of {total:.1f} s"
    if done > 0 and elapsed > 0:
        from tqdm import tqdm

        left = tqdm.format_interval(max(0.0, total - done) * elapsed / done)
        figures += f", {done / elapsed:.1f}x, {left} left"
    return figures


def _as_shown(text: str) -> str:
    """Return a text as standard error shows it: characters that its encoding lacks are escaped, and so wider."""
    encoding = sys.stderr.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
