"""Signals that end the command: Ctrl-C (SIGINT), SIGTERM and SIGHUP.

``docker stop``, systemd and ``timeout`` send SIGTERM; closing a terminal sends SIGHUP. During the work each raises
``KeyboardInterrupt``, so that finished segments are kept. Before and after it, the process exits immediately.
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
REPEATED = 1.0  # seconds; a second signal within them is ignored: ``timeout`` sends it to a process and to its group


class Stopped(KeyboardInterrupt):
    """An interruption that has been reported, with the finished segments saved."""


class Interruption:
    """The signal that interrupted the work, if any."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._first = 0.0  # when it came

    @property
    def status(self) -> int:
        """The exit status of a process that a signal ended, as in shells: 130 for Ctrl-C."""
        return 128 + (signal.SIGINT if self._signal is None else self._signal)

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if a signal came.

        The exception that the signal raised may be lost: it cannot leave a Python function that a C library calls.
        """
        if self._signal is not None:
            raise KeyboardInterrupt

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raise ``KeyboardInterrupt`` when a signal comes, within the block."""
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
        """Suppress Python's message about a lost interruption, which is recorded, and about a lack of memory."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._signal = signal.SIGINT if self._signal is None else self._signal
        elif not isinstance(unraisable.exc_value, MemoryError):
            sys.__unraisablehook__(unraisable)


interruption = Interruption()
"""The interruption of this process."""


def exit_at_once(number: int, _frame: FrameType | None) -> None:
    """Handle a signal before and after the work, when there is nothing to save: exit without a message."""
    os._exit(128 + number)


def handle_signals(handler: Handler) -> dict[int, Any]:
    """Install a handler for the signals, and return the previous handlers.

    Ignored signals stay ignored: ``nohup`` and shells that start a background command rely on it.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # other threads cannot set handlers
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    return before
