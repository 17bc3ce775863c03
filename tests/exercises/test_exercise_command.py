"""The command ``minwhisper exercise``: list, print, start, check, and all answers together."""

import shutil
import threading
import warnings
from unittest.mock import Mock

import pytest

from minwhisper.cli.main import main
from minwhisper.common.console import Console
from minwhisper.errors import AudioError, ExerciseError, OptionError
from minwhisper.exercises import EXERCISES, child, real_model
from minwhisper.exercises import command as commands
from minwhisper.exercises.command import command
from minwhisper.exercises.loading import load_functions
from minwhisper.exercises.process import Ending
from wrong_answers import FOLDER, WRONG, changed

ATTENTION = EXERCISES[4]


@pytest.fixture
def in_this_process(monkeypatch):
    """Check answers in this process, which is faster; ``test_process.py`` tests the separate process.

    Answers run one at a time, although ``--all`` has two threads: the guard hides the package from the whole process.
    """
    one_at_a_time = threading.Lock()

    def run(task, files, on_event):
        channel = Mock(report=lambda event, **fields: on_event({"event": event, **fields}))
        with one_at_a_time, warnings.catch_warnings():
            child.check_answer(channel, **{key: value for key, value in task.items() if key != "task"})
        return Ending(None, "")

    monkeypatch.setattr(commands, "run_in_process", run)


def test_the_command_lists_the_exercises(capsys):
    assert command(None, None, Console()) == 0
    shown = capsys.readouterr().out
    for exercise in EXERCISES:
        functions = ", ".join(exercise.functions)
        assert f"{exercise.number:2}  {exercise.title} (section {exercise.section}): {functions}\n" in shown


def test_the_command_shows_an_exercise_and_writes_its_skeleton_once(capsys, tmp_path):
    assert command(5, None, Console()) == 0
    assert ATTENTION.task in capsys.readouterr().out
    path = tmp_path / "mine.py"
    assert command(5, None, Console(), start=path) == 0
    assert f"{path} is written. Check it with: minwhisper exercise 5 {path}" in capsys.readouterr().out
    assert len(load_functions(path, ATTENTION)) == 1
    path.write_text("precious")
    with pytest.raises(ExerciseError, match="the file exists and is not overwritten"):
        command(1, None, Console(), start=path)
    assert path.read_text() == "precious"
    with pytest.raises(ExerciseError, match="cannot be written"):
        command(1, None, Console(), start=tmp_path / "missing" / "mine.py")


def test_the_command_shows_each_case_and_the_text_that_whisper_writes(tiny_en, capfd):
    """The answer runs in a process of its own, as it does for a reader."""
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
        ((1, None), {"audio": tmp_path}, "--audio: expected --all"),
    ]:
        with pytest.raises(OptionError, match=words):
            command(*arguments, Console(), **options)
    with pytest.raises(AudioError):
        command(None, None, Console(), folder=FOLDER, audio=tmp_path / "missing.wav")


def test_all_lists_which_answers_exist_and_which_are_right(in_this_process, tmp_path, capsys):
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


def test_all_answers_together_print_the_transcript_of_the_clip(tiny_en, tmp_path, capfd):
    files = {exercise.number: FOLDER / f"{exercise.functions[0]}.py" for exercise in EXERCISES}
    for number, changes in {1: [("max(row)", "row.max()")], 4: WRONG[4]["tanh"][0]}.items():  # faster than loops
        files[number] = tmp_path / f"{number}.py"
        files[number].write_text(changed(EXERCISES[number - 1], *changes), encoding="utf-8")
    assert commands.transcribe_all(files, None, Console()) == 0
    shown = capfd.readouterr().out
    assert "[0.00 to 8.00] And so, my fellow Americans ask not what your country can do for you\n" in shown
    assert "[8.00 to 11.00] ask what you can do for your country.\n" in shown
    assert "0.00 And 0.74 so, " in shown
    assert "Your own Whisper took " in shown
    assert " s for 11.0 s of audio, the package " in shown
