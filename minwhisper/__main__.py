"""The process of the command: ``minwhisper``, or ``python -m minwhisper``."""

import atexit
import gc
import sys
from typing import NoReturn

from .cli import main


def run() -> NoReturn:
    """Run the command with the process's arguments, and end the process."""
    atexit.register(gc.freeze)  # spares Python's last search for reference cycles, 0.04 s
    sys.exit(main())


if __name__ == "__main__":
    run()
