"""The process of the command: ``minwhisper``, or ``python -m minwhisper``."""

import atexit
import gc
import os
import sys
from typing import NoReturn

from .cli.interrupts import exit_at_once, handle_signals, interruption
from .errors import OUT_OF_MEMORY, is_out_of_memory


def run() -> NoReturn:
    """Run the command with the process's arguments, and end the process."""
    handle_signals(exit_at_once)  # importing the libraries takes a while, and so does the end of the process
    atexit.register(gc.freeze)  # spares Python's last search for reference cycles, 0.04 s
    try:
        from .cli.main import main

        status = main()
    except KeyboardInterrupt:  # another one, while the first was reported
        os._exit(interruption.status)
    except Exception as error:  # of the import
        if not is_out_of_memory(error):
            raise
        print(f"minwhisper: {OUT_OF_MEMORY}", file=sys.stderr)
        status = 2
    sys.exit(status)


if __name__ == "__main__":
    run()
