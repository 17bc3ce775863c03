"""Damaged audio files: samples or an AudioError, without a crash, a long wait or much memory.

``pytest tests/audio/test_fuzz_audio.py --fuzz 60 -s`` runs for a minute and prints the number of cases.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av")
pytest.importorskip("resource")  # peak memory; not on Windows

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "support")])}
FEW, MANY = 1500, 10**9
TIME_LIMIT = 60.0  # seconds for the few, enough on a slow machine


def fuzz(first: int, count: int, seconds: float) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(TESTS / "support" / "audio_fuzzing.py"), *map(str, (first, count, seconds))]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=seconds + 60)


def test_damaged_files_give_samples_or_an_error(pytestconfig: pytest.Config) -> None:
    seconds = pytestconfig.getoption("fuzz")
    child = fuzz(0, MANY if seconds else FEW, seconds or TIME_LIMIT)
    numbers = child.stdout.split()
    print(f"{len(numbers)} damaged audio files")
    last = numbers[-1] if numbers else "none"
    assert child.returncode == 0, f"ended with {child.returncode} at case {last}: {child.stderr[-3000:]}"
    assert child.stderr == ""  # FFmpeg and PyAV print nothing
    assert len(numbers) >= (FEW if not seconds else 1)


def test_the_fuzzer_finds_each_kind_of_problem() -> None:
    """Another error, much memory, much time and the end of the process are all failures."""
    breaking = {  # statement: the report, and the time limit in seconds
        "raise KeyError(1)": ("KeyError: 1", 60),
        "np.ones(20 << 20)": ("MiB of memory", 60),
        "sum(range(10**7))": (" s", 0.01),
        "os.abort()": ("", 60),
    }
    for statement, (report, hang) in breaking.items():
        code = (
            f"import os, numpy as np, audio_fuzzing as f; f.HANG, f.MEMORY = {hang}, 50 << 20\n"
            f"def broken(content, **options): {statement}\n"
            "f.FORMATS, first = f.FORMATS[:1], iter([None])\n"
            "f.load_audio = lambda *a, **o: next(first, 0) is None or broken(*a, **o)\n"
            "f.main(0, 3, 60)"
        )
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
        assert child.returncode != 0, statement
        assert report in child.stderr, f"{statement}: {child.returncode}, {child.stderr}"
