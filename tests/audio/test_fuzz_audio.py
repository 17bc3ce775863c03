"""Damaged audio files: samples or an AudioError, without a crash, a long wait or much memory.

``pytest tests/audio/test_fuzz_audio.py --fuzz 60 -s`` runs for a minute and prints the number of cases.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("resource")  # peak memory; not on Windows

import audio_fuzzing

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "support")])}
FEW, MANY = 750, 10**9
TIME_LIMIT = 60.0  # seconds for the few, enough on a slow machine


def test_damaged_files_give_samples_or_an_error(pytestconfig: pytest.Config) -> None:
    seconds = pytestconfig.getoption("fuzz")
    numbers = map(str, (0, MANY if seconds else FEW, seconds or TIME_LIMIT))
    command = [sys.executable, str(TESTS / "support" / "audio_fuzzing.py"), *numbers]
    limit = (seconds or TIME_LIMIT) + 60
    child = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=limit)
    loaded = child.stdout.split()
    print(f"{len(loaded)} damaged audio files")
    assert child.returncode == 0, f"ended with {child.returncode} at case {loaded[-1:]}: {child.stderr[-3000:]}"
    assert child.stderr == ""  # FFmpeg and PyAV print nothing
    assert len(loaded) >= (FEW if not seconds else 1)


@pytest.mark.parametrize(
    ("problem", "report"),
    [
        (lambda: {}["x"], "KeyError: 'x'"),
        (lambda: np.ones(20 << 20), "MiB of memory"),
        (lambda: sum(range(10**6)), " s"),
    ],
    ids=["another error", "much memory", "much time"],
)
def test_the_fuzzer_finds_each_kind_of_problem(problem, report, monkeypatch) -> None:
    monkeypatch.setattr(audio_fuzzing, "load_audio", lambda *_args, **_options: problem())
    monkeypatch.setattr(audio_fuzzing, "HANG", 0.001 if report == " s" else 60)
    allowed = audio_fuzzing.peak_memory() + (50 << 20) if report != "MiB of memory" else 0
    assert report in audio_fuzzing._problem(0, allowed)
