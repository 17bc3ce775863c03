"""The entry point of the command: ``minwhisper``, or ``python -m minwhisper``."""

import atexit
import gc
import os
import sys
from typing import NoReturn

from .cli.interrupts import exit_at_once, handle_signals, interruption
from .errors import OUT_OF_MEMORY, is_out_of_memory


def run() -> NoReturn:
    """Run the command with the process's arguments, and exit."""
    handle_signals(exit_at_once)  # importing the libraries and exiting take a while
    atexit.register(gc.freeze)  # skip the last garbage collection: 0.04 s
    try:
        from .cli.main import main

        status = main()
    except KeyboardInterrupt:  # a second one, while the first was being reported
        os._exit(interruption.status)
    except Exception as error:  # raised by the import
        if not is_out_of_memory(error):
            raise
        print(f"minwhisper: {OUT_OF_MEMORY}", file=sys.stderr)
        status = 2
    sys.exit(status)


if __name__ == "__main__":
    run()
