"""The process of the command: ``minwhisper``, or ``python -m minwhisper``."""

import atexit
import gc
import sys
from typing import NoReturn

from .cli import main


def run() -> NoReturn:
    """Run the command with the process's arguments, and end the process."""
    atexit.register(gc.freeze)  # or Python looks once more at every object for circles, which takes 0.04 s
    sys.exit(main())


if __name__ == "__main__":
    run()
