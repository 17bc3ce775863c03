"""The command ``minwhisper exercise``: list, print, start, check, and all answers together."""

import ast
import shutil
import threading
import warnings

import pytest

from minwhisper.cli.main import main
from minwhisper.common.console import Console
from minwhisper.errors import AudioError, ExerciseError, OptionError
from minwhisper.exercises import EXERCISES, child, real_model
from minwhisper.exercises import command as commands
from minwhisper.exercises.command import command
from minwhisper.exercises.loading import load_functions
from minwhisper.exercises.process import Ending
from wrong_answers import FOLDER, changed

ATTENTION = EXERCISES[4]
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.functions[0])


@pytest.fixture
def in_this_process(monkeypatch):
    """Check answers in this process, which takes less time; ``test_process.py`` tests the other.

    One at a time, though ``--all`` has two threads: the guard hides the package from the whole process.
    """
    one_at_a_time = threading.Lock()

    class Channel:
        def __init__(self, on_event):
            self.on_event = on_event

        def report(self, event, **fields):
            self.on_event({"event": event, **fields})

        def start_step(self, doing, seconds):
            pass

        def end_step(self):
            pass

    def run(task, files, on_event):
        with one_at_a_time, warnings.catch_warnings():
            child.check_answer(Channel(on_event), **{key: value for key, value in task.items() if key != "task"})
        return Ending(None, "")

    monkeypatch.setattr(commands, "run_in_process", run)


def test_the_command_lists_them(capsys):
    assert command(None, None, Console()) == 0
    shown = capsys.readouterr().out
    for exercise in EXERCISES:
        functions = ", ".join(exercise.functions)
        assert f"{exercise.number:2}  {exercise.title} (section {exercise.section}): {functions}\n" in shown


@each
def test_the_command_shows_one_and_writes_its_start(exercise, capsys, tmp_path):
    assert command(exercise.number, None, Console()) == 0
    assert exercise.task in capsys.readouterr().out
    path = tmp_path / "mine.py"
    assert command(exercise.number, None, Console(), start=path) == 0
    assert f"{path} is written. Check it with: minwhisper exercise {exercise.number} {path}" in capsys.readouterr().out
    assert len(load_functions(path, exercise)) == len(exercise.functions)


def test_a_file_is_not_overwritten_by_a_start(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("precious")
    with pytest.raises(ExerciseError, match="the file exists and is not overwritten"):
        command(1, None, Console(), start=path)
    assert path.read_text() == "precious"
    with pytest.raises(ExerciseError, match="cannot be written"):
        command(1, None, Console(), start=tmp_path / "missing" / "mine.py")


def test_the_command_shows_each_step_and_what_whisper_writes(tiny_en, capfd):
    """In a process of its own, as for a reader."""
    assert main(["exercise", "5", str(FOLDER / "attention.py")]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown[: len(ATTENTION.cases)] == [f"passed: {case.title}" for case in ATTENTION.cases]
    assert shown[len(ATTENTION.cases) :] == [
        "Exercise 5 is solved.",
        "Now inside the real model …",
        "With your attention, Whisper writes: And so my fellow Americans ask not what your country can do for you ask "
        "what you can do for your country.",
    ]


def test_without_weights_the_command_says_so(in_this_process, monkeypatch, capsys):
    monkeypatch.setattr(real_model, "NAME", "a/name-that-is-in-no-cache")
    real_model.real_model.cache_clear()
    try:
        assert command(5, FOLDER / "attention.py", Console()) == 0
    finally:
        real_model.real_model.cache_clear()
    shown = capsys.readouterr().out
    assert f"skipped: {ATTENTION.cases[-1].title}\nExercise 5 is solved.\n" in shown
    assert "are not on this machine: pip install" in shown


def test_the_command_rejects_options_that_do_not_fit_together(tmp_path):
    for arguments, options, words in [
        ((0, None), {}, "exercise 0: expected a number from 1 to 12"),
        ((None, None), {"start": tmp_path}, "--start: expected the number"),
        ((1, tmp_path), {"start": tmp_path}, "--start: expected one file"),
        ((1, None), {"folder": tmp_path}, "--all: expected a folder alone"),
        ((1, None), {"audio": tmp_path}, "--audio: it goes with --all"),
    ]:
        with pytest.raises(OptionError, match=words):
            command(*arguments, Console(), **options)
    with pytest.raises(AudioError):
        command(None, None, Console(), folder=FOLDER, audio=tmp_path / "missing.wav")


def test_all_lists_what_is_there_and_right(in_this_process, tmp_path, capsys):
    for name in ("softmax", "conv1d"):
        shutil.copy(FOLDER / f"{name}.py", tmp_path)
    (tmp_path / "mine.py").write_text(changed(ATTENTION, (" / np.sqrt(queries.shape[-1])", "")))
    (tmp_path / "older.py").write_text("def conv1d(x, weight, bias, stride):\n    return x\n")
    assert command(None, None, Console(), folder=tmp_path) == 1
    shown = capsys.readouterr().out
    assert " 1  softmax, log_softmax: right (softmax.py)\n 2  log_mel_spectrogram: missing\n" in shown
    assert " 3  conv1d: right (conv1d.py)\n 4  layer_norm, gelu: missing\n 5  attention: not yet (mine.py)\n" in shown
    assert "Exercise 5, 3 queries and 5 keys in 2 heads, no mask: " in shown
    assert "not divided by the square root of K" in shown
    assert "2 of 12 are right. With all of them, your own Whisper transcribes." in shown


def test_all_solutions_together_print_the_transcript_of_the_clip(tiny_en, tmp_path, capfd):
    files = {}
    for exercise in EXERCISES:
        module = exercise.solutions[0].__module__.rpartition(".")[2]
        source = (FOLDER.parents[1] / "minwhisper" / "exercises" / f"{module}.py").read_text(encoding="utf-8")
        files[exercise.number] = tmp_path / f"{exercise.functions[0]}.py"
        files[exercise.number].write_text(alone(source, exercise), encoding="utf-8")
    assert commands.transcribe_all(files, None, Console()) == 0
    shown = capfd.readouterr().out
    assert "[0.00 to 8.00] And so, my fellow Americans ask not what your country can do for you\n" in shown
    assert "[8.00 to 11.00] ask what you can do for your country.\n" in shown
    assert "0.00 And 0.74 so, " in shown
    assert "Your own Whisper took " in shown
    assert " s for 11.0 s of audio, the package " in shown


def alone(source: str, exercise) -> str:
    """Return the functions of an exercise's solution, which need nothing of the package."""
    end = source[: source.index("\nMISTAKES = {")].count("\n")
    parts = [
        ast.get_source_segment(source, node)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno < end and not node.name.startswith("_")
    ]
    if exercise.number in (6, 8, 12):  # these share softmax with others
        parts.insert(0, (FOLDER / "softmax.py").read_text(encoding="utf-8"))
    imports = """import math, zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
"""
    return "\n\n\n".join([imports, *parts]) + "\n"
