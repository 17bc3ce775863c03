"""Run the command in this process, and check its errors; run a helper as a program."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from minwhisper.cli.main import main

SUPPORT = Path(__file__).parent
GREEDY = ("--beam_size", "None", "--best_of", "None")  # faster than the default beam search


def run_command(capfd, *arguments):
    """Run the command, and return the exit status and both outputs."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as leave:  # raised by argparse
        status = leave.code
    out, err = capfd.readouterr()
    return SimpleNamespace(status=status, out=out, err=err)


def assert_refused(result, *parts):
    """Assert exit status 2, and one line on standard error, below any about the model, that contains all parts."""
    assert result.status == 2
    *before, line = result.err.splitlines()
    assert all(": model " in other for other in before)  # the message about the default model
    assert "Traceback" not in result.err
    for part in parts:
        assert part in line


def run_helper(name, *arguments, timeout):
    """Run a file of this folder as a program in a child process, which may crash, and return what became of it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (SUPPORT.parents[1], SUPPORT)))}
    command = [sys.executable, str(SUPPORT / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)
