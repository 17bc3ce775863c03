"""A Dask preload module: setup of the worker processes on this machine."""

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes: the client ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
