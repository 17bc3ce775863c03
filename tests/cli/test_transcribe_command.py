"""``minwhisper transcribe``: its output and files, their order, and what is kept after Ctrl-C or an error."""

import errno
import io
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from command_line import GREEDY, assert_refused, run_command
from hub_server import HubServer, Repository
from inputs import DATA
from minwhisper import TranscriptionOptions
from minwhisper.cli import transcribe as transcribe_command
from minwhisper.errors import OUT_OF_MEMORY, AudioError, MinWhisperError, OptionError
from minwhisper.fast.cpu import threads
from minwhisper.writers.files import write_transcript
from minwhisper.writers.render import FORMATS, render
from minwhisper.writers.subtitles import SubtitleOptions
from screen import use_screen

SHORT, OTHER = str(DATA / "LJ001-0008.wav"), str(DATA / "LJ001-0002.wav")
SURPASSED, MODERN = "has never been surpassed.", "in being comparatively modern."
QUICK = ("--model", "tiny.en", *GREEDY)
BATCHED = pytest.mark.parametrize("batch", [1, 4], ids=["one by one", "batched"])


@pytest.fixture(autouse=True)
def folder(tiny_en, tmp_path, monkeypatch):
    """Change to an empty folder. Skip the test if the weights are not installed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capfd):
    """Return a function that runs the command in this process: exit status, standard output, standard error."""
    return lambda *arguments: run_command(capfd, "transcribe", *arguments)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


# ------------------------------------------------------------------------------------------ with a real model


def test_standard_output_has_only_the_text_and_one_line_names_the_default_model(command):
    result = command(DATA / "jfk.flac", *GREEDY)
    first = "And so my fellow Americans ask not what your country can do for you"
    assert (result.status, result.out) == (0, f"{first}\nask what you can do for your country\n")
    assert result.err.startswith("minwhisper: model tiny.en, English only: it is installed")
    assert result.err.count("\n") == 1


def test_the_files_equal_those_that_the_library_renders(command, tiny_en, folder):
    options = ("--word_timestamps", "True", "--max_words_per_line", "2", "--verbose", "True", *QUICK)
    result = command(OTHER, "-o", "out", *options)
    assert (result.status, result.err) == (0, "minwhisper: wrote out/LJ001-0002.{txt,vtt,srt,tsv,json}\n")
    assert names(folder / "out") == sorted(f"LJ001-0002.{format}" for format in FORMATS)
    transcript = tiny_en.transcribe(OTHER, word_timestamps=True)
    for format in FORMATS:
        written = (folder / f"out/LJ001-0002.{format}").read_text()
        assert written == render(transcript, format, SubtitleOptions(max_words_per_line=2))


def test_bad_files_do_not_stop_the_others_and_a_batch_gives_the_same(command, folder, monkeypatch):
    fails = "/proc/self/mem" if os.path.exists("/proc/self/mem") else "too.wav"  # fails while it is read
    for batch in (1, 4):
        content = io.BytesIO((DATA / "LJ001-0008.wav").read_bytes())
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=content))
        result = command("-", "missing.wav", fails, OTHER, "-f", "txt", "--batch_size", batch, *QUICK)
        assert result.out.splitlines() == ["-:", SURPASSED, f"{OTHER}:", MODERN]
        missing, failing = result.err.splitlines()
        assert missing.startswith("minwhisper: 'missing.wav': no such file; ")
        assert failing.startswith(f"minwhisper: '{fails}': ")
        assert result.status == 2
        assert names(folder) == ["LJ001-0002.txt", "stdin.txt"]
        assert (folder / "stdin.txt").read_text() == f"{SURPASSED}\n"
        assert (folder / "LJ001-0002.txt").read_text() == f"{MODERN}\n"


@BATCHED
def test_a_prompt_that_is_too_long_gives_one_warning(command, folder, batch):
    (folder / "empty.wav").touch()
    result = command("missing.wav", "empty.wav", "--initial_prompt", "so " * 300, "--batch_size", batch, *QUICK)
    warned, missing, empty = result.err.splitlines()
    assert warned.startswith("minwhisper: warning: initial_prompt: only the last 223 of its 3")
    assert "'missing.wav': no such file; " in missing
    assert "'empty.wav': empty, 0 bytes; " in empty


# ------------------------------------------------------------------------------------------ with a scripted model


def segment(number, text):
    """Return the segment from 10 · number to 10 · number + 10 seconds."""
    return {"id": number, "start": 10.0 * number, "end": 10.0 * number + 10, "text": text}


def transcript(*texts):
    return {"text": "".join(texts), "segments": list(map(segment, range(len(texts)), texts)), "language": "en"}


def failing(error):
    """Return a function that raises this error."""

    def fail(*_, **__):
        raise error

    return fail


INTERRUPT = failing(KeyboardInterrupt)


class Script:
    """A transcription whose events are texts to yield and functions to call. Texts after an error are held back."""

    language, language_probs, seconds, audio_track, closed = "en", None, 40.0, None, False

    def __init__(self, events, progress):
        self.events, self.progress, self.segments = iter(events), progress, []

    @property
    def transcript(self):
        return transcript(*(segment["text"] for segment in self.segments))

    def __iter__(self):
        for event in self.events:
            if callable(event):
                event()
                continue
            yield self.add(event)
            if self.progress:
                self.progress(self.segments[-1]["end"], self.seconds)

    def add(self, text):
        self.segments.append(segment(len(self.segments), text))
        return self.segments[-1]

    def add_held(self):
        return [self.add(text) for text in self.events if isinstance(text, str)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True


class Scripted:
    """A model that follows a script for each file, or fails at once, and records its calls."""

    def __init__(self, model, scripts):
        self.scripts, self.calls, self.running = scripts, [], []
        self.tokenizer, self.config, self.name = model.tokenizer, model.config, model.name
        self.alignment_heads = model.alignment_heads

    def stream(self, audio, *, progress=None, **options):
        self.calls.append((audio, options))
        events = self.scripts.get(audio, [" words"])
        if isinstance(events, Exception):
            raise events
        self.running.append(Script(events, progress))
        return self.running[-1]

    def stream_many(self, audios, **options):
        for audio in audios:
            try:
                list(self.stream(audio, **options))
                yield self.running[-1]
            except MinWhisperError as error:
                yield error

    @property
    def files(self):
        return [audio for audio, _ in self.calls]


@pytest.fixture
def scripted(monkeypatch, tiny_en):
    """Return a function that makes the command load a model with these scripts, by file name."""

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


def test_verbose_adds_times_language_and_track_and_names_are_printed_on_one_line(command, scripted, monkeypatch):
    monkeypatch.setattr(Script, "language", "fr")
    monkeypatch.setattr(Script, "language_probs", {"en": 0.1, "fr": 0.876})
    monkeypatch.setattr(Script, "audio_track", "reading audio track 2 of 2")
    scripted({"b.wav": [" one", " two"]})
    track = "minwhisper: b.wav: reading audio track 2 of 2\n"
    result = command("b.wav", "--verbose", "True", "--model", "base")
    assert result.out == "[00:00.000 --> 00:10.000]  one\n[00:10.000 --> 00:20.000]  two\n"
    assert result.err == f"{track}minwhisper: b.wav: detected language French, probability 0.88\n"
    result = command("a\n\x1b.wav", "b.wav", "--model", "base")
    assert result.out == "a\\n\\x1b.wav:\nwords\nb.wav:\none\ntwo\n"
    assert result.err.endswith(track)
    assert "language" not in result.err


def test_characters_that_the_terminal_lacks_are_escaped(scripted, monkeypatch, capfd):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    scripted({"a.wav": [" dictée"]})
    assert run_command(capfd, "transcribe", "a.wav").status == 0
    assert shown.getvalue() == b"dict\\xe9e\n"


@BATCHED
def test_without_text_no_file_names_are_printed(command, scripted, folder, batch, monkeypatch):
    monkeypatch.setattr(Script, "audio_track", "reading audio track 2 of 2")
    scripted()
    options = ("--verbose", "False", "-f", "srt", "--batch_size", batch, "--model", "tiny.en")
    result = command("a.wav", "x/b.wav", *options)
    assert (result.status, result.out, result.err) == (0, "", "")
    assert names(folder) == ["a.srt", "b.srt"]  # in the current folder
    assert (folder / "b.srt").read_text() == render(transcript(" words"), "srt")


def test_the_options_reach_the_model_and_each_file_begins_with_the_same_random_numbers(command, scripted, monkeypatch):
    model, loaded = scripted(), []
    monkeypatch.setattr(transcribe_command, "load_model", lambda *given, **how: loaded.append((*given, how)) or model)
    given = "--beam_size 2 --temperature_increment_on_fallback 0.5 --word_timestamps True --device cuda:1"
    command("a.wav", "b.wav", "--model", "base", "--dtype", "float16", *given.split())
    command("a.wav", "b.wav", "--batch_size", "3", "--seed", "7", "--model", "base", "--threads", "3", "--plain")
    command("b.wav", "--seed", "7", "--batch_size", "4", "--model", "base")
    assert loaded[:2] == [
        ("base", "cuda:1", "float16", {"threads": 0, "plain": False}),
        ("base", "cpu", "float32", {"threads": 3, "plain": True}),
    ]
    (first, options), second, (_, batched), _, third = model.calls
    draws = [one["generator"].random() for one in (options, second[1], third[1])]
    assert draws == [np.random.default_rng(seed).random() for seed in (0, 0, 7)]
    assert (first, options.pop("batch_size")) == ("a.wav", 1)
    del options["generator"]
    assert TranscriptionOptions.named(**options) == TranscriptionOptions.named(
        beam_size=2, best_of=5, temperature=(0.0, 0.5, 1.0), word_timestamps=True
    )
    assert (batched["batch_size"], batched["seed"], third[1]["batch_size"]) == (3, 7, 4)


def test_options_that_the_model_does_not_support_are_refused_before_any_file(command, scripted):
    model = scripted()
    refused = command("a.wav", "b.wav", "--suppress_tokens", "999999")
    assert_refused(refused, "minwhisper: suppress_tokens: expected ids", "999999")
    assert model.calls == []


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ("a.wav --threads -1", ["threads: expected a whole number, 0 or more, got -1"]),
        ("a.wav --batch_size 0", ["batch_size: expected"]),
        ("- stdin.wav -f srt", ["'-' and 'stdin.wav' would both be written to stdin.srt"]),
        ("x -f srt", ["'x': a folder without recordings; "]),
        ("--files_from x/list", ["files_from 'x/list': expected a path per line, but the list is empty"]),
        ("missing.wav too.wav", ["'missing.wav': no such file; ", "'too.wav': no such file; "]),
        ("a.wav -f json", ["a.wav: output_dir '.': cannot write 'a.json': there is a folder"]),
    ],
)
def test_invalid_arguments_are_refused_before_the_model_is_loaded(command, monkeypatch, folder, arguments, messages):
    monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: pytest.fail("loaded"))
    (folder / "a.wav").touch()
    (folder / "a.json").mkdir()
    (folder / "x").mkdir()
    (folder / "x" / "list").touch()
    result = command(*arguments.split())
    assert (result.status, result.out) == (2, "")
    for message, line in zip(messages, result.err.splitlines(), strict=True):
        assert message in line


# ------------------------------------------------------------------------------------------ folders


@pytest.fixture
def talks(folder):
    """Create a folder of recordings, ``talks/a/x.wav``, ``talks/b/x.wav`` and ``talks/y.mp3``, and two other files."""
    for name in ("a/x.wav", "b/x.wav", "y.mp3", "y.txt", "a/.hidden.wav"):
        path = folder / "talks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder / "talks"


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@BATCHED
def test_outputs_mirror_the_folder(command, scripted, folder, talks, batch):
    written = []
    look = lambda: written.append(sorted(path.name for path in (folder / "out").iterdir()))  # noqa: E731
    scripted({"talks/a/x.wav": [look, " one"], "talks/y.mp3": [look, " two"]})
    options = ("-f", "jsonl,txt", "-o", "out", "--batch_size", batch, "--model", "tiny.en")
    result = command("talks", "--recursive", *options)
    assert (result.status, result.err) == (0, "")
    assert result.out == "talks/a/x.wav:\none\ntalks/b/x.wav:\nwords\ntalks/y.mp3:\ntwo\n"
    assert written == [[], ["a", "b"]]  # a folder is created when a file is written to it
    assert tree(folder / "out") == [f"{name}.{format}" for name in ("a/x", "b/x", "y") for format in ("jsonl", "txt")]
    assert (folder / "out/b/x.jsonl").read_text().startswith('{"file": "b/x", ')
    assert command("talks", *options).out == "two\n"


def test_files_that_have_all_outputs_are_skipped(command, scripted, folder, talks, monkeypatch):
    options = ("talks", "--recursive", "--skip_existing", "-f", "txt,srt", "-o", "out", "--model", "tiny.en")
    for name in ("a/x.txt", "a/x.srt", "b/x.txt"):  # an output of b/x is missing
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_text("old")
    model = scripted({"talks/y.mp3": [" one", INTERRUPT]})
    result = command(*options)
    assert model.files == ["talks/b/x.wav", "talks/y.mp3"]
    skipped, interrupted = result.err.splitlines()
    assert skipped == "minwhisper: skipped 1 of 3 files, which have all their outputs"
    assert interrupted.endswith("s of talks/y.mp3; with --skip_existing none of its outputs is written")
    assert (folder / "out/a/x.txt").read_text() == "old"
    assert (folder / "out/b/x.txt").read_text() == "words\n"
    scripted({"talks/y.mp3": [" one", failing(AudioError("'talks/y.mp3': damaged")), " two"]})
    assert command(*options).status == 2
    assert not (folder / "out/y.txt").exists()  # otherwise the next command would skip it as finished
    scripted()
    assert command(*options).out == "talks/y.mp3:\nwords\n"
    monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: pytest.fail("loaded"))
    last = command(*options)
    assert (last.status, last.out) == (0, "")
    assert last.err == "minwhisper: skipped 3 of 3 files, which have all their outputs\n"


def test_names_that_cannot_be_written_are_refused_before_any_work_and_stop_no_other_files(
    command, scripted, folder, talks
):
    model = scripted()
    (folder / "out/y.txt").mkdir(parents=True)
    (folder / "out/a").touch()
    long = f"{'n' * 251}.wav"  # of its five outputs, only the name of the .json file is too long
    result = command("talks", long, "--recursive", "-o", "out", "--model", "tiny.en")
    first, second, third = result.err.splitlines()
    assert first.startswith("minwhisper: talks/a/x.wav: output_dir 'out/a': cannot write 'x.txt' and ")
    assert ": Not a directory; " in first
    assert second.startswith("minwhisper: talks/y.mp3: output_dir 'out': cannot write 'y.txt': there is a folder")
    assert f"cannot write '{long[:-4]}.json': File name too long; " in third
    assert model.files == ["talks/b/x.wav"]  # the others must be renamed first
    assert (result.status, result.out) == (2, "talks/b/x.wav:\nwords\n")
    assert tree(folder / "out") == ["a", *sorted(f"b/x.{format}" for format in FORMATS)]


# ------------------------------------------------------------------------------------------ Ctrl-C


def test_an_interruption_keeps_finished_segments(command, scripted, folder):
    model = scripted({"a.wav": [" a1", " a2"], "b.wav": [" b1", " b2", INTERRUPT, " decoded before"]})
    result = command("a.wav", "b.wav", "c.wav", "-f", "srt", "--model", "tiny.en")
    assert result.status == 130
    assert result.out == "a.wav:\na1\na2\nb.wav:\nb1\nb2\ndecoded before\n"
    assert result.err == "minwhisper: interrupted at 20.0 of 40.0 s of b.wav; the segments so far are in b.srt\n"
    assert names(folder) == ["a.srt", "b.srt"]
    assert (folder / "a.srt").read_text() == render(transcript(" a1", " a2"), "srt")
    assert (folder / "b.srt").read_text() == render(transcript(" b1", " b2", " decoded before"), "srt")
    assert model.files == ["a.wav", "b.wav"]
    assert all(running.closed for running in model.running)


def test_an_interrupted_batch_keeps_its_finished_files_and_overwrites_no_others(command, scripted, folder):
    scripted({"b.wav": [" b1", INTERRUPT]})
    (folder / "b.txt").write_text("of an earlier day")
    result = command("a.wav", "b.wav", "-f", "txt", "--batch_size", "2", "--model", "tiny.en")
    assert (result.status, result.out) == (130, "a.wav:\nwords\n")
    assert result.err == "minwhisper: interrupted after 1 of 2 files\n"
    scripted({"b.wav": [INTERRUPT]})
    result = command("b.wav", "-f", "txt", "--model", "tiny.en")
    assert (result.status, result.err) == (130, "minwhisper: interrupted at 0.0 of 40.0 s of b.wav\n")
    assert (folder / "a.txt").read_text() == "words\n"
    assert (folder / "b.txt").read_text() == "of an earlier day"


@pytest.mark.parametrize(
    ("events", "writing", "message"),
    [
        ([" one", " two"], [INTERRUPT, write_transcript], " at 20.0 of 40.0 s of a.wav; the segments so far are in"),
        ([" one", INTERRUPT, " two"], [INTERRUPT], "\n"),
        ([" one", INTERRUPT], [failing(OptionError("no space"))], " at 10.0 of 40.0 s of a.wav; no space\n"),
    ],
    ids=["while writing: written again", "a second one: ends at once", "on a full disk: says why"],
)
def test_an_interrupted_write_is_repeated_unless_it_fails_again(
    command, scripted, folder, monkeypatch, events, writing, message
):
    tries = iter(writing)
    monkeypatch.setattr(transcribe_command, "write_transcript", lambda *given, **how: next(tries)(*given, **how))
    scripted({"a.wav": events})
    result = command("a.wav", "b.wav", "-f", "txt", "--model", "tiny.en")
    assert result.status == 130
    assert result.err.startswith(f"minwhisper: interrupted{message}")
    assert (folder / "a.txt").read_text() == "one\ntwo\n" if write_transcript in writing else not names(folder)


# ------------------------------------------------------------------------------------------ errors


@BATCHED
def test_an_error_names_the_file_once(command, scripted, batch):
    scripted({"a.wav": AudioError("'a.wav': empty"), "b.wav": OptionError("clips: too late")})
    result = command("a.wav", "b.wav", "c.wav", "--batch_size", batch, "--model", "tiny.en")
    assert (result.status, result.out) == (2, "c.wav:\nwords\n")
    assert result.err == "minwhisper: 'a.wav': empty\nminwhisper: b.wav: clips: too late\n"


@BATCHED
def test_an_error_in_writing_names_the_file_and_does_not_stop_the_others(command, scripted, folder, batch):
    scripted({"x/a.wav": [(folder / "a.txt").mkdir, " words"]})  # created during the work
    result = command("x/a.wav", "b.wav", "-o", ".", "--batch_size", batch, "--model", "tiny.en")
    assert_refused(result, "minwhisper: x/a.wav: output_dir '.': cannot write 'a.txt': ")
    assert result.out == "x/a.wav:\nwords\nb.wav:\nwords\n"
    assert names(folder) == sorted({f"{name}.{x}" for name in "ab" for x in FORMATS} - {"a.txt"})


def test_a_system_error_while_loading_is_one_line(command, scripted, monkeypatch):
    scripted()
    error = OSError(errno.ESTALE, "Stale file handle", "/share/models")
    monkeypatch.setattr(transcribe_command, "load_model", failing(error))
    result = command("a.wav", "--model", "tiny.en")
    assert (result.status, result.out) == (2, "")
    assert result.err == "minwhisper: /share/models: the system reports 'Stale file handle'\n"


def test_an_error_in_the_middle_keeps_all_segments_and_the_other_files(command, scripted, folder):
    sick = AudioError("'a.wav': the disk is sick")
    scripted({"a.wav": [" one", failing(sick), " decoded before"], "b.wav": [" one", failing(MemoryError())]})
    result = command("a.wav", "b.wav", "c.wav", "-f", "txt", "--model", "tiny.en")
    assert (result.status, result.out) == (2, "a.wav:\none\nb.wav:\none\nc.wav:\nwords\n")
    for name, message in (("a", sick), ("b", f"b.wav: {OUT_OF_MEMORY}")):
        note = f"minwhisper: {name}.wav: the segments so far are in {name}.txt\nminwhisper: {message}\n"
        assert note in result.err
    assert (folder / "a.txt").read_text() == "one\ndecoded before\n"
    assert (folder / "c.txt").read_text() == "words\n"


def test_after_a_closed_pipe_the_files_are_still_written(scripted, folder, monkeypatch, capfd):
    class Closed(io.StringIO):
        def flush(self):
            if "two" in self.getvalue():
                raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    scripted({"a.wav": [" one", " two", failing(AssertionError("went on"))]})
    assert run_command(capfd, "transcribe", "a.wav", "-f", "txt", "--model", "tiny.en").status == 1
    assert (folder / "a.txt").read_text() == "one\ntwo\n"


# ------------------------------------------------------------------------------------------ the bar


def test_the_bar_is_below_the_text_counts_only_the_clips_and_is_cleared_at_the_end(scripted, monkeypatch, capfd):
    screen, rows = use_screen(monkeypatch), []
    look = lambda: rows.append(screen.rows())  # noqa: E731
    scripted({"x/a.wav": [look, " one", look, INTERRUPT]})
    options = ("--model", "tiny.en", "--clip_timestamps", "5,10,30")
    assert run_command(capfd, "transcribe", "x/a.wav", *options).status == 130
    assert rows[0] == [f"0.0 of 15.0 s {'░' * 30} a.wav"]
    assert rows[1][0] == "one"
    assert rows[1][1].startswith("10.0 of 40.0 s, ")  # as the model reports
    assert rows[1][1].endswith(f" {'█' * 7}{'░' * 23} a.wav")
    assert screen.rows() == ["one", "minwhisper: interrupted at 10.0 of 40.0 s of x/a.wav", ""]


# ------------------------------------------------------------------------------------------ machine


def blas_threads():
    found = {library.filepath for library in threads._controller().lib_controllers}  # others may have been loaded since
    return [pool["num_threads"] for pool in threadpool_info() if pool["filepath"] in found]


def test_threads_limits_blas_during_the_command(command, scripted):
    with threadpool_limits(3, user_api="blas"):
        before, during = blas_threads(), []
        scripted({"a.wav": [lambda: during.append(blas_threads())]})
        for count in ("2", "0", "None"):
            command("a.wav", "--threads", count)
        assert during == [[2] * len(before), before, before]
        assert blas_threads() == before != [2] * len(before)


def test_downloads_go_to_the_model_folder(folder):
    repository = Repository({"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"no weights"})
    with HubServer({"some/model": repository}) as hub:
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("HF_", "HTTP"))}
        hub_only = {"HF_ENDPOINT": hub.url, "HF_HOME": "home", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        arguments = ["transcribe", SHORT, "--model", "some/model", "--model_dir", "new/models"]
        command = [sys.executable, "-m", "minwhisper", *arguments]
        done = subprocess.run(command, env=kept | hub_only, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)  # the weights are invalid
    found = sorted(path.name for path in folder.glob("new/models/models--some--model/snapshots/*/*"))
    assert found == ["config.json", "model.safetensors", "tokenizer.json"]
    assert not list((folder / "home").rglob("config.json"))


def test_a_model_folder_that_cannot_be_created_is_refused(command, scripted, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", "unchanged")
    scripted()
    (folder / "file").touch()
    refused = command("a.wav", "--model_dir", "file/models")
    assert_refused(refused, "minwhisper: model_dir 'file/models': ", "'Not a directory'; choose another")
    assert os.environ["HF_HUB_CACHE"] == "unchanged"
    assert command("a.wav", "--model_dir", "models").status == 0
    assert os.environ["HF_HUB_CACHE"] == str(folder / "models")
