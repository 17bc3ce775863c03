"""Signals that end the command: Ctrl-C, and SIGTERM and SIGHUP, which are treated like it.

``docker stop``, systemd and ``timeout`` send SIGTERM, a terminal that is closed SIGHUP. During the work each becomes a
:class:`KeyboardInterrupt`, so that what was found is kept; before and after it the process ends at once and quietly.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], None]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
REPEATED = 1.0  # seconds within which another signal is the same: ``timeout`` sends it to a process and to its group


class Stopped(KeyboardInterrupt):
    """An interruption after which everything has been kept and reported."""


class Interruption:
    """The signal that ended the work, if one came."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._first = 0.0  # when it came

    @property
    def status(self) -> int:
        """The exit status that shells give to a process that a signal has ended: 130 for Ctrl-C."""
        return 128 + (signal.SIGINT if self._signal is None else self._signal)

    def check(self) -> None:
        """Raise :class:`KeyboardInterrupt` if a signal came.

        The one that the signal raised may have been lost: in a function that a C library calls, it cannot get out.
        """
        if self._signal is not None:
            raise KeyboardInterrupt

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raise :class:`KeyboardInterrupt` when a signal comes, until the end of the block."""
        self._signal = None
        hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        before = handle_signals(self._interrupt)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            sys.unraisablehook = hook

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signal is not None and now - self._first < REPEATED:
            return
        self._signal, self._first = number, now
        raise KeyboardInterrupt

    def _unraisable(self, unraisable: Any) -> None:
        """Be silent about what is reported otherwise: an interruption that was lost, and a lack of memory."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._signal = signal.SIGINT if self._signal is None else self._signal
        elif not isinstance(unraisable.exc_value, MemoryError):
            sys.__unraisablehook__(unraisable)


interruption = Interruption()
"""The one of this process, whose signals it is about."""


def exit_at_once(number: int, _frame: FrameType | None) -> None:
    """Handle a signal before and after the work, when there is nothing to keep: end the process, quietly."""
    os._exit(128 + number)


def handle_signals(handler: Handler) -> dict[int, Any]:
    """Have the signals handled so from now on, and return how they were before.

    Those that are ignored stay ignored, as ``nohup`` and shells that start a command in the background want it.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    return before
