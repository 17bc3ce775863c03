"""``minwhisper transcribe`` with ``--batch_size``, ``--threads`` and ``--plain``."""

import numpy as np
import pytest

from audio_files import wav_bytes
from command_line import GREEDY, assert_refused, run_command
from conftest import DATA, LJ
from minwhisper.cli import transcribe as transcribe_command
from minwhisper.errors import OptionError
from scripted import GAP, RATE

SHORT, OTHER, JFK = str(DATA / "LJ001-0008.wav"), str(DATA / "LJ001-0002.wav"), str(DATA / "jfk.flac")
TOGETHER = ("--batch_size", "4", "--model", "tiny.en", *GREEDY)
SURPASSED, MODERN = "has never been surpassed.", "in being comparatively modern."


@pytest.fixture(autouse=True)
def _needs_weights(tiny_en):
    """Skip this module where the weights are not installed."""


@pytest.fixture
def command(capfd):
    """Run the command in this process: exit status, standard output, standard error."""
    return lambda *arguments: run_command(capfd, "transcribe", *arguments)


# ------------------------------------------------------------------------------------------ several files


def test_files_in_a_batch_give_the_same_text_as_one_by_one(command, tmp_path):
    asked = ("--verbose", "True", "-o")
    files = [JFK, SHORT, OTHER]
    together = command(*files, *asked, tmp_path / "together", *TOGETHER)
    in_turn = command(*files, *asked, tmp_path / "in_turn", "--model", "tiny.en", *GREEDY)
    assert (together.status, together.out) == (0, in_turn.out)
    assert together.err == in_turn.err.replace("in_turn", "together")
    assert [line for line in together.out.splitlines() if line in {f"{file}:" for file in files}] == [
        f"{file}:" for file in files
    ]
    names = sorted(path.name for path in (tmp_path / "in_turn").iterdir())
    assert len(names) == 15
    assert sorted(path.name for path in (tmp_path / "together").iterdir()) == names
    for name in names:
        if not name.endswith("json"):  # which has probabilities with all digits
            assert (tmp_path / "together" / name).read_text() == (tmp_path / "in_turn" / name).read_text()


def test_a_bad_file_in_a_batch_does_not_stop_the_others(command, tmp_path):
    missing = tmp_path / "missing.wav"
    result = command(SHORT, missing, OTHER, "-f", "txt", "-o", tmp_path / "out", *TOGETHER)
    assert result.out.splitlines() == [f"{SHORT}:", SURPASSED, f"{OTHER}:", MODERN]
    assert_refused(result, "missing.wav", "no such file")
    assert result.err.count("missing.wav") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["LJ001-0002.txt", "LJ001-0008.txt"]
    assert (tmp_path / "out" / "LJ001-0002.txt").read_text() == f"{MODERN}\n"


def test_an_error_about_clips_names_the_file(command):
    result = command(SHORT, JFK, "--clip_timestamps", "4,5", *TOGETHER)
    assert result.status == 2
    assert result.err.startswith(f"minwhisper: {SHORT}: clip_timestamps: ")
    assert result.out.startswith(f"{JFK}:\n")


def test_an_error_in_writing_names_the_file_and_does_not_stop_the_others(command, tmp_path, monkeypatch):
    real = transcribe_command.write_transcript
    calls = []

    def write(*given):
        calls.append(given)
        if len(calls) == 1:
            raise OptionError("no space")
        return real(*given)

    monkeypatch.setattr(transcribe_command, "write_transcript", write)
    result = command(SHORT, OTHER, "-f", "txt", "-o", tmp_path, *TOGETHER)
    assert_refused(result, f"minwhisper: {SHORT}: no space")
    assert result.out.splitlines() == [f"{SHORT}:", SURPASSED, f"{OTHER}:", MODERN]
    assert (tmp_path / "LJ001-0002.txt").read_text() == f"{MODERN}\n"


def test_a_prompt_that_is_too_long_gives_one_warning(command, tmp_path):
    result = command("missing.wav", tmp_path, "--initial_prompt", "so " * 300, *TOGETHER)
    told, *errors = result.err.splitlines()
    assert told.startswith("minwhisper: warning: initial_prompt: only the last 223 of its 3")
    missing, folder = errors
    assert "'missing.wav': no such file; " in missing
    assert f"'{tmp_path}': a folder; " in folder


def test_without_text_only_files_are_written(command, tmp_path):
    result = command(SHORT, OTHER, "--verbose", "False", "-f", "srt", "-o", tmp_path, *TOGETHER)
    assert (result.status, result.out, result.err) == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LJ001-0002.srt", "LJ001-0008.srt"]


def test_an_interruption_keeps_finished_files(command, tmp_path, monkeypatch):
    model_kind = transcribe_command.Whisper
    stream_many = model_kind.stream_many

    def interrupted(*given, **options):
        yield next(iter(stream_many(*given, **options)))
        raise KeyboardInterrupt

    monkeypatch.setattr(model_kind, "stream_many", interrupted)
    result = command(SHORT, OTHER, "-f", "txt", "-o", tmp_path, *TOGETHER)
    assert (result.status, result.out) == (130, f"{SHORT}:\n{SURPASSED}\n")
    assert result.err == "minwhisper: interrupted after 1 of 2 files\n"
    assert [path.name for path in tmp_path.iterdir()] == ["LJ001-0008.txt"]


# ------------------------------------------------------------------------------------------ one file


def test_one_file_of_one_window(command):
    assert command(SHORT, *TOGETHER).out == f"{SURPASSED}\n"


def test_one_long_file_gives_the_text_of_the_library(command, tiny_en, tmp_path, speech):
    sound = np.concatenate([part for path in LJ[4:9] for part in (speech[path.name], GAP)])
    (tmp_path / "page.wav").write_bytes(wav_bytes(np.round(sound[:, None] * 32768).astype(np.int32)))
    result = command(tmp_path / "page.wav", "-f", "txt", "-o", tmp_path, *TOGETHER)
    expected = tiny_en.transcribe(sound, batch_size=4)
    assert sound.size > 30 * RATE
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [segment["text"].strip() for segment in expected["segments"]]
    assert (tmp_path / "page.txt").read_text() == result.out


def test_threads_and_plain_reach_the_model_and_give_the_same_text(command, monkeypatch):
    real, loaded = transcribe_command.load_model, []

    def load(*given, **options):
        loaded.append(real(*given, **options))
        return loaded[-1]

    monkeypatch.setattr(transcribe_command, "load_model", load)
    for given in (("--threads", "2"), ("--plain",)):
        result = command(SHORT, *given, "--model", "tiny.en", *GREEDY)
        assert (result.status, result.out, result.err) == (0, f"{SURPASSED}\n", "")
    assert [model.plain for model in loaded] == [False, True]
    assert loaded[0].threads == 2


# ------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--batch_size", "0", "batch_size: expected"),
        ("--batch_size", "-2", "batch_size: expected"),
        ("--batch_size", "many", "expected a whole number, got 'many'"),
        ("--batch_size", "None", "expected a whole number, got 'None'"),
        ("--threads", "-1", "threads: expected a whole number, 0 or more, got -1"),
        ("--threads", "1.5", "expected a whole number or None, got '1.5'"),
    ],
)
@pytest.mark.parametrize("files", [["a.wav"], ["a.wav", "b.wav"]], ids=["one", "two"])
def test_invalid_numbers_are_refused_before_anything_is_loaded(command, monkeypatch, option, value, message, files):
    monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: pytest.fail("loaded"))
    result = command(*files, option, value)
    assert_refused(result, message)
    assert result.out == ""
