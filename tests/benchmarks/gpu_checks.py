"""Rows of gpu.py that run the GPU tests, and the kernels under compute-sanitizer, in separate processes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_path import ROOT
from gpu_report import Cells, at_most, row

TESTS = ROOT / "tests" / "test_on_gpu.py"
RESULT = re.compile(r"(?P<test>\S+::.+?) (?P<result>PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
MEMCHECK = Path(__file__).parent / "gpu_memcheck.py"
LIMIT = "40"  # seconds for compute-sanitizer, per dtype
ERRORS = re.compile(r"ERROR SUMMARY: (\d+) error")


def output_of(command: list[str]) -> Iterator[str]:
    """Run a command; yield its lines as they come, printing them to standard error, and last its exit status."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ
        | {
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        },
    ) as process:
        try:
            for line in process.stdout or ():
                print(line, end="", file=sys.stderr, flush=True)
                yield line
        finally:
            process.kill()
    yield f"exit {process.returncode}"


@row("checks", "tests/test_on_gpu.py", "test", "result", "passed")
def suite(_: Any) -> Iterator[Cells]:
    """Run the GPU tests. A skipped test counts as a failure."""
    last, count = "", 0
    for last in output_of([sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-m", "gpu", str(TESTS)]):
        if found := RESULT.match(last):
            count += 1
            test = found["test"].partition("::")[2]
            yield test, found["result"].lower(), found["result"] == "PASSED"
    yield f"{count} tests", last, count > 0 and last == "exit 0"


@row("checks", "compute-sanitizer, memcheck", "weights", "errors|d", "result")
def memcheck(_: Any) -> Iterator[Cells]:
    """Run encoder, prompts, steps and beams of a small model with every memory access checked."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    for dtype in ("float32", "float16"):
        errors, last = None, ""
        for last in output_of(["timeout", LIMIT, tool, "--tool", "memcheck", sys.executable, str(MEMCHECK), dtype]):
            if found := ERRORS.search(last):
                errors = int(found[1])
        yield dtype, at_most(None if last != "exit 0" else errors, 0), last
