"""``minwhisper transcribe``: its output and files, in order, and what is kept after Ctrl-C or an error."""

import errno
import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from audio_files import wav_bytes
from command_line import GREEDY, assert_refused, run_command
from conftest import DATA
from hub_server import HubServer, Repository
from minwhisper import TranscriptionOptions
from minwhisper.cli import transcribe as transcribe_command
from minwhisper.cli.main import main
from minwhisper.errors import OUT_OF_MEMORY, AudioError, OptionError
from minwhisper.fast.cpu import threads
from minwhisper.writers.files import write_transcript
from minwhisper.writers.render import FORMATS, render
from screen import use_screen

SHORT, OTHER = str(DATA / "LJ001-0008.wav"), str(DATA / "LJ001-0002.wav")
JFK = str(DATA / "jfk.flac")


@pytest.fixture(autouse=True)
def _needs_weights(tiny_en):
    """Skip this module where the weights are not installed."""


@pytest.fixture
def command(capfd):
    """Run the command in this process: exit status, standard output, standard error."""
    return lambda *arguments: run_command(capfd, "transcribe", *arguments)


# ------------------------------------------------------------------------------------------ with a real model


def test_standard_output_has_only_the_text(command):
    result = command(JFK, "--model", "tiny.en", *GREEDY)
    first = "And so my fellow Americans ask not what your country can do for you"
    assert (result.status, result.out, result.err) == (0, f"{first}\nask what you can do for your country\n", "")


def test_the_default_model_is_named_in_one_line(command):
    result = command(SHORT, *GREEDY)
    assert result.out == "has never been surpassed.\n"
    assert result.err.startswith("minwhisper: model tiny.en, English only: it is installed")
    assert result.err.count("\n") == 1


def test_several_files_are_labelled_and_a_bad_one_does_not_stop_the_others(command, tmp_path):
    missing = tmp_path / "missing.wav"
    result = command(SHORT, missing, OTHER, *GREEDY)
    texts = ["has never been surpassed.", "in being comparatively modern."]
    assert result.out.splitlines() == [f"{SHORT}:", texts[0], f"{OTHER}:", texts[1]]
    assert_refused(result, "missing.wav", "no such file")


def test_no_model_is_loaded_if_all_files_are_missing(command, monkeypatch, tmp_path):
    monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: pytest.fail("loaded"))
    result = command(tmp_path / "missing.wav", tmp_path / "too.wav")
    assert (result.status, result.out) == (2, "")
    first, second = result.err.splitlines()
    assert "missing.wav': no such file; " in first
    assert "too.wav': no such file; " in second


def test_verbose_shows_times(command):
    result = command(JFK, "--verbose", "True", "--model", "tiny.en", *GREEDY)
    first, second = result.out.splitlines()
    assert first.startswith("[00:00.000 --> 00:07.740]  And so")
    assert second.startswith("[00:07.740 --> 00:10.740]  ask what")


def test_standard_input(command, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((DATA / "LJ001-0008.wav").read_bytes())))
    assert command("-", "-f", "txt", "-o", tmp_path, *GREEDY).out == "has never been surpassed.\n"
    assert (tmp_path / "stdin.txt").read_text() == "has never been surpassed.\n"


def test_language_and_task(command, base):
    french = DATA / "french.aiff"
    detected = command(french, "--model", "base", "--verbose", "True", *GREEDY)
    assert "dictée" in detected.out
    assert detected.err.startswith(f"minwhisper: {french}: detected language French, probability ")
    assert 0.5 < float(detected.err.split()[-1]) <= 1
    given = command(french, "--model", "base", "--verbose", "True", "--language", "French", *GREEDY)
    assert (given.out, given.err) == (detected.out, "")
    translated = command(french, "--model", "base", "--task", "translate", *GREEDY)
    assert "dictation" in translated.out.lower()
    assert translated.err == ""


def test_the_files_are_those_of_the_library(command, tiny_en, tmp_path):
    asked = ("--word_timestamps", "True", "--max_words_per_line", "2", "--fp16", "False")
    result = command(OTHER, "-o", tmp_path / "new", *asked, *GREEDY, "--verbose", "True")
    transcript = tiny_en.transcribe(OTHER, word_timestamps=True)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(f"LJ001-0002.{x}" for x in FORMATS)
    for format in ("txt", "tsv", "json"):
        assert (tmp_path / "new" / f"LJ001-0002.{format}").read_text() == render(transcript, format)
    words = len(transcript["segments"][0]["words"])
    assert (tmp_path / "new" / "LJ001-0002.srt").read_text().count(" --> ") == (words + 1) // 2
    assert result.err.splitlines()[-1] == f"minwhisper: wrote {tmp_path}/new/LJ001-0002.{{txt,vtt,srt,tsv,json}}"


def test_one_format_is_written_to_the_current_folder(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(SHORT, "-f", "srt", "--verbose", "False", "--model", "tiny.en", *GREEDY)
    assert (result.status, result.out, result.err) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["LJ001-0008.srt"]
    assert "has never been surpassed." in (tmp_path / "LJ001-0008.srt").read_text()


def test_fp16_stores_the_weights_in_float16(command, monkeypatch):
    loaded = []
    real = transcribe_command.load_model
    monkeypatch.setattr(
        transcribe_command, "load_model", lambda *given, **how: loaded.append(real(*given, **how)) or loaded[-1]
    )
    assert command(SHORT, "--fp16", "True", *GREEDY).out == "has never been surpassed.\n"
    assert (loaded[0].dtype, loaded[0].device) == ("float16", "cpu")


def test_an_error_about_clips_names_the_file(command):
    result = command(SHORT, JFK, "--clip_timestamps", "4,5", *GREEDY)
    assert result.status == 2
    assert f"minwhisper: {SHORT}: clip_timestamps: " in result.err
    assert result.out.startswith(f"{JFK}:\n")  # the other one is long enough


def test_a_prompt_that_is_too_long_gives_one_warning(command):
    result = command(SHORT, OTHER, "--initial_prompt", "so " * 300, *GREEDY)
    lines = [line for line in result.err.splitlines() if ": model " not in line]
    assert len(lines) == 1
    assert lines[0].startswith("minwhisper: warning: initial_prompt: only the last 223 of its 3")


# ------------------------------------------------------------------------------------------ with a scripted one


def segment(number, text):
    """Return the segment from 10 · number to 10 · number + 10 seconds."""
    return {
        "id": number,
        "seek": 0,
        "start": 10.0 * number,
        "end": 10.0 * number + 10,
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": -0.5,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }


class Script:
    """A transcription that yields the given texts; functions among them are called, exceptions raised."""

    language, language_probs, seconds, audio_track = "en", None, 40.0, None

    def __init__(self, events, progress=None):
        self.events, self.progress, self.segments, self.closed = events, progress, [], False

    @property
    def transcript(self):
        return {"text": "".join(s["text"] for s in self.segments), "segments": self.segments, "language": "en"}

    def __iter__(self):
        for event in self.events:
            if isinstance(event, type):
                raise event
            if callable(event):
                event()
                continue
            self.segments.append(segment(len(self.segments), event))
            yield self.segments[-1]
            if self.progress:
                self.progress(self.segments[-1]["end"], self.seconds)

    def add_held(self):
        return []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True


class Scripted:
    """A model that follows a script for each file, and records its calls."""

    def __init__(self, model, scripts):
        self.scripts, self.calls, self.running = scripts, [], []
        self.tokenizer, self.config, self.name = model.tokenizer, model.config, model.name
        self.alignment_heads = model.alignment_heads

    def stream(self, audio, *, progress, generator, batch_size, **options):
        draws = generator.random(4).tolist()
        self.calls.append(SimpleNamespace(audio=audio, draws=draws, batch_size=batch_size, options=options))
        events = self.scripts.get(audio, [" words"])
        if events and isinstance(events[0], Exception):
            raise events[0]
        self.running.append(Script(events, progress))
        return self.running[-1]


@pytest.fixture
def scripted(monkeypatch, tiny_en):
    """Make the command load a model that follows these scripts, by file name."""

    def install(scripts=None):
        model = Scripted(tiny_en, scripts or {})
        monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: model)
        monkeypatch.setattr(transcribe_command, "exists", lambda file: True)  # the file need not exist
        return model

    return install


def test_every_segment_is_shown_before_the_next_is_computed(command, scripted, capfd):
    seen = []
    look = lambda: seen.append(capfd.readouterr().out)  # noqa: E731
    scripted({"a.wav": [look, " one", look, "", " ", look, " two\nlines ", look], "b.wav": [look]})
    assert command("a.wav", "b.wav").out == ""
    assert seen == ["a.wav:\n", "one\n", "", "two lines\n", "b.wav:\n"]


def test_names_are_printed_on_one_line(command, scripted):
    scripted()
    assert command("a\n\x1b.wav", "b.wav").out == "a\\n\\x1b.wav:\nwords\nb.wav:\nwords\n"


def test_without_text_there_are_no_file_names_either(command, scripted, tmp_path):
    scripted()
    result = command("a.wav", "b.wav", "--verbose", "False", "-o", tmp_path, "--model", "tiny.en")
    assert (result.status, result.out, result.err) == (0, "", "")
    assert len(list(tmp_path.iterdir())) == 2 * len(FORMATS)


def test_the_options_reach_the_transcription(command, scripted):
    model = scripted()
    given = "--beam_size 2 --patience 1.5 --temperature_increment_on_fallback 0.5 --logprob_threshold None"
    command("a.wav", *given.split(), "--word_timestamps", "True", "--initial_prompt", "Dear all")
    expected = TranscriptionOptions.named(
        beam_size=2,
        patience=1.5,
        best_of=5,
        temperature=(0.0, 0.5, 1.0),
        logprob_threshold=None,
        word_timestamps=True,
        initial_prompt="Dear all",
    )
    assert [call.audio for call in model.calls] == ["a.wav"]
    assert TranscriptionOptions.named(**model.calls[0].options) == expected


def test_each_file_begins_with_the_same_random_numbers(command, scripted):
    model = scripted()
    command("a.wav", "b.wav")
    command("b.wav", "--seed", "7")
    draws = [call.draws for call in model.calls]
    assert draws[0] == draws[1] == np.random.default_rng(0).random(4).tolist()
    assert draws[2] == np.random.default_rng(7).random(4).tolist()


def test_device_and_dtype_reach_the_model(command, scripted, monkeypatch):
    model, asked = scripted(), []
    monkeypatch.setattr(transcribe_command, "load_model", lambda *given, **how: asked.append((*given, how)) or model)
    command("a.wav", "--model", "base", "--device", "cuda:1", "--dtype", "float16")
    command("a.wav", "--model", "base", "--threads", "3", "--plain", "--batch_size", "4")
    assert asked == [
        ("base", "cuda:1", "float16", {"threads": 0, "plain": False}),
        ("base", "cpu", "float32", {"threads": 3, "plain": True}),
    ]
    assert [call.batch_size for call in model.calls] == [1, 4]


def test_options_that_the_model_does_not_support_are_refused_before_any_file(command, scripted):
    model = scripted()
    assert_refused(
        command("a.wav", "b.wav", "--suppress_tokens", "999999"), "minwhisper: suppress_tokens: expected ids", "999999"
    )
    assert model.calls == []


def test_nothing_is_loaded_for_invalid_options(command, monkeypatch, tmp_path):
    monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: pytest.fail("loaded"))
    assert_refused(command("a.wav", "--beam_size", "0"), "beam_size")
    assert_refused(command("a.wav", "--verbose", "False"), "--output_format")
    assert_refused(command("x/a.wav", "a.mp3", "-f", "srt"), "'x/a.wav'", "'a.mp3'", "a.srt")
    assert_refused(command("a.wav", "--threads", "-1"), "threads: expected a whole number, 0 or more, got -1")


# ------------------------------------------------------------------------------------------ Ctrl-C


def test_an_interruption_keeps_finished_segments(command, scripted, tmp_path):
    model = scripted({"a.wav": [" a1", " a2"], "b.wav": [" b1", " b2", KeyboardInterrupt, " b3"]})
    result = command("a.wav", "b.wav", "c.wav", "-o", tmp_path, "-f", "srt", "--model", "tiny.en")
    assert result.status == 130
    assert result.out == "a.wav:\na1\na2\nb.wav:\nb1\nb2\n"
    assert result.err == (
        f"minwhisper: interrupted at 20.0 of 40.0 s of b.wav; the segments so far are in {tmp_path}/b.srt\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.srt", "b.srt"]
    for name in ("a", "b"):
        expected = {"text": "", "segments": [segment(0, f" {name}1"), segment(1, f" {name}2")], "language": "en"}
        assert (tmp_path / f"{name}.srt").read_text() == render(expected, "srt")
    assert [call.audio for call in model.calls] == ["a.wav", "b.wav"]
    assert all(running.closed for running in model.running)


def test_an_interruption_before_the_first_segment_writes_nothing(command, scripted, tmp_path):
    (tmp_path / "a.txt").write_text("of an earlier day")
    scripted({"a.wav": [KeyboardInterrupt]})
    result = command("a.wav", "-o", tmp_path, "-f", "txt", "--model", "tiny.en")
    assert (result.status, result.err) == (130, "minwhisper: interrupted at 0.0 of 40.0 s of a.wav\n")
    assert (tmp_path / "a.txt").read_text() == "of an earlier day"


def test_an_interruption_without_outputs(command, scripted):
    scripted({"a.wav": [" one", KeyboardInterrupt]})
    result = command("a.wav", "--model", "tiny.en")
    assert (result.status, result.out) == (130, "one\n")
    assert result.err == "minwhisper: interrupted at 10.0 of 40.0 s of a.wav\n"


def test_after_an_interruption_during_writing_the_outputs_are_written(command, scripted, tmp_path, monkeypatch):
    calls = []

    def write(*given):
        calls.append(given)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return write_transcript(*given)

    monkeypatch.setattr(transcribe_command, "write_transcript", write)
    scripted({"a.wav": [" one", " two", " three", " four"]})
    result = command("a.wav", "-o", tmp_path, "--model", "tiny.en")
    assert result.status == 130
    assert result.err.startswith("minwhisper: interrupted at 40.0 of 40.0 s of a.wav; the segments so far are in ")
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\nthree\nfour\n"
    assert len(json.loads((tmp_path / "a.json").read_text())["segments"]) == 4


def test_a_second_interruption_ends_at_once(command, scripted, tmp_path, monkeypatch):
    def write(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(transcribe_command, "write_transcript", write)
    scripted({"a.wav": [" one", KeyboardInterrupt]})
    result = command("a.wav", "b.wav", "-o", tmp_path, "--model", "tiny.en")
    assert (result.status, result.err) == (130, "minwhisper: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_on_a_full_disk(command, scripted, tmp_path, monkeypatch):
    def write(*_):
        raise OptionError("no space")

    monkeypatch.setattr(transcribe_command, "write_transcript", write)
    scripted({"a.wav": [" one", KeyboardInterrupt]})
    result = command("a.wav", "-o", tmp_path, "--model", "tiny.en")
    assert (result.status, result.err) == (130, "minwhisper: interrupted at 10.0 of 40.0 s of a.wav; no space\n")


def test_an_interruption_of_a_real_transcription(command, tiny_en, tmp_path, monkeypatch, speech):
    book = np.concatenate([speech[f"LJ001-{number:04}.wav"] for number in range(1, 7)])
    (tmp_path / "book.wav").write_bytes(wav_bytes(np.round(book[:, None] * 32768)))
    windows = []

    def encode(model, mel):
        windows.append(mel)
        if len(windows) == 2:
            raise KeyboardInterrupt
        return real(model, mel)

    real = type(tiny_en).encode
    monkeypatch.setattr(type(tiny_en), "encode", encode)
    result = command(tmp_path / "book.wav", "-f", "txt", "-o", tmp_path / "out", "--model", "tiny.en", *GREEDY)
    assert result.status == 130
    assert result.out.startswith("Printing, in the only sense")
    assert (tmp_path / "out" / "book.txt").read_text() == result.out
    assert f"of {len(book) / 16000:.1f} s of {tmp_path}/book.wav; the segments so far" in result.err
    assert 10 < float(result.err.split()[3]) <= 30


# ------------------------------------------------------------------------------------------ errors


def test_a_name_that_cannot_be_written_is_refused_before_any_work(command, scripted, tmp_path):
    model = scripted()
    (tmp_path / "a.txt").mkdir()
    long = f"{'n' * 251}.wav"  # of its five output files, only the name of the .json file is too long
    result = command("x/a.wav", "b.wav", long, "-o", tmp_path, "--model", "tiny.en")
    first, second = result.err.splitlines()
    assert first.startswith(f"minwhisper: x/a.wav: output_dir '{tmp_path}': cannot write 'a.txt': there is a folder")
    assert f"cannot write '{long[:-4]}.json': File name too long; " in second
    assert [call.audio for call in model.calls] == ["b.wav"]  # the others must be renamed first
    assert (result.status, result.out) == (2, "b.wav:\nwords\n")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(f"b.{x}" for x in FORMATS)


def test_nothing_is_loaded_if_no_output_can_be_written(command, monkeypatch, tmp_path):
    monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "LJ001-0008.vtt").mkdir()
    result = command(SHORT, "-o", tmp_path, "-f", "all")
    assert (result.status, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert "LJ001-0008.vtt" in result.err


def test_an_error_in_writing_names_the_file_and_does_not_stop_the_others(command, scripted, tmp_path):
    scripted(
        {"x/a.wav": [(tmp_path / "a.txt").mkdir, " words"]}
    )  # created during the work, in the place of the output file
    result = command("x/a.wav", "b.wav", "-o", tmp_path, "--model", "tiny.en")
    assert_refused(result, "minwhisper: x/a.wav: output_dir", str(tmp_path), "cannot write 'a.txt': ")
    assert result.out == "x/a.wav:\nwords\nb.wav:\nwords\n"
    there = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert there == sorted({f"{name}.{x}" for name in "ab" for x in FORMATS} - {"a.txt"})


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="there is no such file")
@pytest.mark.parametrize("batch", [1, 2])
def test_a_file_that_fails_while_it_is_read_does_not_stop_the_others(command, tmp_path, batch):
    asked = ("--batch_size", batch, "-f", "txt", "-o", tmp_path, "--model", "tiny.en", *GREEDY)
    result = command(SHORT, "/proc/self/mem", OTHER, *asked)
    assert_refused(result, "minwhisper: '/proc/self/mem': cannot be read (")
    assert result.out.splitlines()[::2] == [f"{SHORT}:", f"{OTHER}:"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LJ001-0002.txt", "LJ001-0008.txt"]


def test_a_system_error_while_loading_is_one_line(command, scripted, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ESTALE, "Stale file handle", "/share/models")

    scripted()
    monkeypatch.setattr(transcribe_command, "load_model", fail)
    result = command("a.wav", "--model", "tiny.en")
    assert (result.status, result.out) == (2, "")
    assert result.err == "minwhisper: /share/models: the system reports 'Stale file handle'\n"


@pytest.mark.parametrize("error", [AudioError("'a.wav': the disk is sick"), MemoryError()], ids=["audio", "memory"])
def test_an_error_in_the_middle_keeps_the_segments_so_far_and_the_other_files(command, scripted, tmp_path, error):
    def fail():
        raise error

    scripted({"a.wav": [" one", fail, " two"]})
    result = command("a.wav", "b.wav", "-o", tmp_path, "-f", "txt", "--model", "tiny.en")
    kept, reason = result.err.splitlines()
    assert kept == f"minwhisper: a.wav: the segments so far are in {tmp_path}/a.txt"
    expected = OUT_OF_MEMORY if isinstance(error, MemoryError) else "the disk is sick"
    assert "a.wav" in reason
    assert expected in reason
    assert (result.status, result.out) == (2, "a.wav:\none\nb.wav:\nwords\n")
    assert (tmp_path / "a.txt").read_text() == "one\n"
    assert (tmp_path / "b.txt").read_text() == "words\n"


def test_after_a_closed_pipe_the_files_are_still_written(command, scripted, tmp_path, monkeypatch):
    class Closed(io.StringIO):
        def flush(self):
            if "two" in self.getvalue():
                raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    scripted({"a.wav": [" one", " two", " three"]})
    assert main(["transcribe", "a.wav", "-o", str(tmp_path), "-f", "txt", "--model", "tiny.en"]) == 1
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"


def test_an_audio_error_names_the_file_once(command, scripted):
    scripted({"a.wav": [AudioError("'a.wav': empty")]})
    result = command("a.wav", "b.wav", "--model", "tiny.en")
    assert (result.status, result.out, result.err) == (2, "b.wav:\nwords\n", "minwhisper: 'a.wav': empty\n")


# ------------------------------------------------------------------------------------------ the bar


def test_the_bar_is_below_the_text_and_cleared_at_the_end(scripted, monkeypatch):
    screen, rows = use_screen(monkeypatch), []
    look = lambda: rows.append(screen.rows())  # noqa: E731
    scripted({"x/a.wav": [look, " one", look, KeyboardInterrupt]})
    assert main(["transcribe", "x/a.wav", "--model", "tiny.en"]) == 130
    assert rows[0] == [f"0.0 of 40.0 s {'░' * 30} a.wav"]
    assert rows[1][0] == "one"
    assert rows[1][1].startswith("10.0 of 40.0 s, ")
    assert rows[1][1].endswith(f" {'█' * 7}{'░' * 23} a.wav")
    assert screen.rows() == ["one", "minwhisper: interrupted at 10.0 of 40.0 s of x/a.wav", ""]


def test_the_bar_counts_only_the_clips(scripted, monkeypatch):
    screen, rows = use_screen(monkeypatch), []
    scripted({"a.wav": [lambda: rows.append(screen.rows())]})
    main(["transcribe", "a.wav", "--model", "tiny.en", "--clip_timestamps", "5,10,30"])
    assert rows[0][0].startswith("0.0 of 15.0 s ")


# ------------------------------------------------------------------------------------------ machine


def blas_threads():
    found = {library.filepath for library in threads._controller().lib_controllers}  # others may have been loaded since
    return [pool["num_threads"] for pool in threadpool_info() if pool["filepath"] in found]


def test_threads_limits_blas_during_the_command(command, scripted):
    with threadpool_limits(3, user_api="blas"):
        before, during = blas_threads(), []
        scripted({"a.wav": [lambda: during.append(blas_threads())]})
        command("a.wav", "--threads", "2")
        command("a.wav", "--threads", "0")
        command("a.wav", "--threads", "None")
        assert during == [[2] * len(before), before, before]
        assert blas_threads() == before != [2] * len(before)


def test_downloads_go_to_the_model_folder(tmp_path):
    repository = Repository({"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"no weights"})
    with HubServer({"some/model": repository}) as hub:
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("HF_", "HTTP"))}
        environment = {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        arguments = [sys.executable, "-m", "minwhisper", "transcribe", SHORT]
        arguments += ["--model", "some/model", "--model_dir", str(tmp_path / "new" / "models")]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)  # the weights are invalid
    found = sorted(path.name for path in (tmp_path / "new" / "models").glob("models--some--model/snapshots/*/*"))
    assert found == ["config.json", "model.safetensors", "tokenizer.json"]
    assert not list((tmp_path / "home").rglob("config.json"))


def test_a_model_folder_that_cannot_be_created(command, scripted, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", "unchanged")
    scripted()
    (tmp_path / "file").touch()
    assert_refused(
        command("a.wav", "--model_dir", tmp_path / "file" / "models"), "minwhisper: model_dir", "choose another"
    )
    assert os.environ["HF_HUB_CACHE"] == "unchanged"

    assert command("a.wav", "--model_dir", tmp_path / "models").status == 0
    assert os.environ["HF_HUB_CACHE"] == str(tmp_path / "models")
