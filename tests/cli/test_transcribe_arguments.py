"""The options of ``minwhisper transcribe``: openai-whisper's defaults, every option, and clear errors."""

import argparse
import warnings
from dataclasses import fields

import pytest

from command_line import run_command
from minwhisper import DecodingOptions, TranscriptionOptions
from minwhisper.cli.arguments import add_arguments
from minwhisper.cli.help import arguments, subcommands
from minwhisper.cli.main import make_parser
from minwhisper.cli.request import check_arguments
from minwhisper.errors import LanguageError, OptionError
from minwhisper.writers.render import SubtitleOptions


@pytest.fixture
def parser(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    made = argparse.ArgumentParser("minwhisper transcribe")
    add_arguments(made)
    return made


@pytest.fixture
def request_for(parser):
    """Return a function that parses and checks options, given as one string or several."""

    def check(*options, files=("a.wav",)):
        words = options[0].split() if len(options) == 1 else options
        return check_arguments(parser.parse_args([*files, *words]))

    return check


# ------------------------------------------------------------------------------------------ values


def test_the_defaults_are_those_of_the_library_except_for_the_search(request_for):
    asked = request_for("")
    # Rounding errors included: exactly the temperatures of openai-whisper's command.
    temperatures = (0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0)
    assert asked.checked == TranscriptionOptions.named(beam_size=5, best_of=5, temperature=temperatures)
    assert (asked.outputs, asked.dtype) == (None, "float32")


WORDS = "--word_timestamps True"
# Each option with a value that is not its default.
OF_A_WINDOW = [
    ("--task translate", "task", "translate"),
    ("--language German", "language", "German"),
    ("--beam_size 3", "beam_size", 3),
    ("--beam_size NONE", "beam_size", None),
    ("--patience 2", "patience", 2.0),
    ("--length_penalty 0.5", "length_penalty", 0.5),
    ("--suppress_tokens 1,2", "suppress_tokens", "1,2"),
    ("--suppress_tokens=-1,2", "suppress_tokens", "-1,2"),
]
OF_THE_WHOLE = [
    ("--language_detection_windows 3", "language_detection_windows", 3),
    ("--audio_track 2", "audio_track", 2),
    ("--clip_timestamps 1,2", "clip_timestamps", "1,2"),
    ("--initial_prompt Hello", "initial_prompt", "Hello"),
    ("--initial_prompt Hello --carry_initial_prompt true", "carry_initial_prompt", True),
    ("--condition_on_previous_text FALSE", "condition_on_previous_text", False),
    ("--compression_ratio_threshold 3", "compression_ratio_threshold", 3.0),
    ("--compression_ratio_threshold None", "compression_ratio_threshold", None),
    ("--logprob_threshold -2.5", "logprob_threshold", -2.5),
    ("--logprob_threshold none", "logprob_threshold", None),
    ("--no_speech_threshold 0.5", "no_speech_threshold", 0.5),
    ("--no_speech_threshold None", "no_speech_threshold", None),
    (WORDS, "word_timestamps", True),
    (f"{WORDS} --hallucination_silence_threshold 2", "hallucination_silence_threshold", 2.0),
    ("--prepend_punctuations (", "prepend_punctuations", "("),
    ("--append_punctuations )", "append_punctuations", ")"),
]
OF_SUBTITLES = [
    (f"{WORDS} --highlight_words True", "highlight_words", True),
    (f"{WORDS} --max_line_width 30", "max_line_width", 30),
    (f"{WORDS} --max_line_width 30 --max_line_count 2", "max_line_count", 2),
    (f"{WORDS} --max_words_per_line 4", "max_words_per_line", 4),
]


@pytest.mark.parametrize(("options", "name", "value"), OF_A_WINDOW)
def test_options_of_a_window(request_for, options, name, value):
    checked = request_for(options).checked
    assert getattr(checked.decoding_options[0], name) == value
    assert type(getattr(checked.decoding_options[0], name)) is type(value)


@pytest.mark.parametrize(("options", "name", "value"), OF_THE_WHOLE)
def test_options_of_the_whole(request_for, options, name, value):
    checked = request_for(options).checked
    assert getattr(checked, name) == value
    assert type(getattr(checked, name)) is type(value)


@pytest.mark.parametrize(("options", "name", "value"), OF_SUBTITLES)
def test_options_of_subtitles(request_for, tmp_path, options, name, value):
    outputs = request_for(*options.split(), "-o", tmp_path.as_posix()).outputs
    assert getattr(outputs.subtitles, name) == value


def test_these_tests_cover_every_option(parser):
    tested = {name for _, name, _ in (*OF_A_WINDOW, *OF_THE_WHOLE, *OF_SUBTITLES)}
    elsewhere = {"help", "files", "temperature", "temperature_increment_on_fallback", "best_of", "dtype", "fp16"}
    elsewhere |= {
        "verbose",
        "output_dir",
        "output_format",
        "seed",
        "threads",
        "model",
        "model_dir",
        "device",
        "batch_size",
        "plain",
    }
    assert {action.dest for action in parser._actions} == tested | elsewhere
    library = {field.name for kind in (DecodingOptions, TranscriptionOptions) for field in fields(kind)}
    only_there = {"decoding_options", "prompt", "prefix", "sample_len", "suppress_blank", "without_timestamps"}
    assert library - only_there - {"max_initial_timestamp"} <= tested | elsewhere


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--temperature 0.5", (0.5, 0.7, 0.9)),
        ("--temperature_increment_on_fallback 0.5", (0.0, 0.5, 1.0)),
        ("--temperature_increment_on_fallback None", (0.0,)),
        ("--temperature 1.5 --temperature_increment_on_fallback None", (1.5,)),
        ("--temperature 1", (1.0,)),
    ],
)
def test_temperatures(request_for, options, expected):
    decoding_options = request_for(options).checked.decoding_options
    assert [attempt.temperature for attempt in decoding_options] == pytest.approx(expected)
    for attempt in decoding_options:  # what their defaults would be without a meaning for is not asked for
        search = (attempt.beam_size, attempt.best_of)
        assert search == ((5, None) if attempt.temperature == 0 else (None, 5))


def test_candidates_without_a_meaning_at_these_temperatures_are_refused(request_for):
    with pytest.raises(OptionError, match="best_of: sampling needs a temperature above 0"):
        request_for("--best_of 5 --temperature_increment_on_fallback None")
    with pytest.raises(OptionError, match="beam_size: beam search needs temperature 0"):
        request_for("--beam_size 5 --temperature 0.5")
    with pytest.raises(OptionError, match=r"patience: .*beam_size"):
        request_for("--beam_size None --patience 2")
    assert request_for("--best_of 3").checked.decoding_options[1].best_of == 3


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ("", "float32"),
        ("--fp16 True", "float16"),
        ("--fp16 False", "float32"),
        ("--dtype float64", "float64"),
        ("--dtype float16 --fp16 True", "float16"),
    ],
)
def test_dtypes(request_for, options, dtype):
    assert request_for(options).dtype == dtype


@pytest.mark.parametrize("options", ["--fp16 True --dtype float32", "--fp16 False --dtype float16"])
def test_dtypes_that_contradict_each_other(request_for, options):
    with pytest.raises(OptionError, match=r"fp16 (True|False): it means --dtype float\d\d, but got --dtype"):
        request_for(options)


# ------------------------------------------------------------------------------------------ outputs


def test_output_files(request_for, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = request_for("--output_format srt").outputs
    assert (asked.folder, asked.format, asked.subtitles) == (".", "srt", SubtitleOptions())
    asked = request_for("--output_dir sub/folder").outputs
    assert (asked.folder, asked.format) == ("sub/folder", "all")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["folder"]  # created before any work, and empty
    assert asked.paths("talk") == "sub/folder/talk.{txt,vtt,srt,tsv,json}"
    assert request_for("-f json -o sub").outputs.paths("talk") == "sub/talk.json"


def test_a_folder_that_cannot_be_written_to(request_for, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match=r"output_dir .*file"):
        request_for("-o", f"{tmp_path}/file")


@pytest.mark.parametrize("files", [("a/talk.wav", "b/talk.mp3"), ("-", "stdin.wav"), ("talk.wav", "talk.wav")])
def test_outputs_that_would_replace_each_other(request_for, tmp_path, files):
    folder = tmp_path / "out"
    with pytest.raises(OptionError) as caught:
        request_for("-o", f"{folder}", "-f", "srt", files=files)
    assert str(caught.value).startswith(f"{files[0]!r} and {files[1]!r} would both be written to {folder}/")
    assert not folder.exists()  # refused before anything is made
    request_for("", files=files)  # without outputs there is no conflict


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--temperature -1", "temperature: expected 0, or above"),
        ("--temperature nan", "temperature: expected 0, or above"),
        ("--temperature 1.5", "at most 1.* got 1.5.*temperature_increment_on_fallback None"),
        ("--temperature_increment_on_fallback 0", "temperature_increment_on_fallback: .*0.01 or more, or None"),
        ("--seed -1", "seed: expected a whole number, 0 or more, got -1"),
        ("--no_speech_threshold inf", "no_speech_threshold: expected a number, or None"),
        ("--clip_timestamps 5,2", "clip_timestamps: .*5 to 2"),
        ("--beam_size 0", "beam_size: expected a whole number, at least 1"),
        ("--language_detection_windows 0", "language_detection_windows"),
        ("--audio_track 0", "audio_track"),
        ("--carry_initial_prompt True", "carry_initial_prompt: give initial_prompt too"),
        ("--hallucination_silence_threshold 2", "hallucination_silence_threshold: .*word_timestamps"),
        ("--highlight_words True", "highlight_words: .*--word_timestamps True"),
        ("--max_line_width 30", "max_line_width: .*--word_timestamps True"),
        ("--max_line_count 2", "max_line_count: .*--word_timestamps True"),
        ("--max_words_per_line 2", "max_words_per_line: .*--word_timestamps True"),
        (f"{WORDS} --max_line_width 0", "max_line_width: expected a whole number, at least 1"),
        ("--verbose False", "verbose False: .*--output_format or --output_dir"),
    ],
)
def test_invalid_options_are_refused(request_for, options, message):
    with pytest.raises(OptionError, match=message):
        request_for(options)


@pytest.mark.parametrize(
    ("language", "hint"), [("Germann", "'german'"), ("fr-FR", "did you mean 'fr'"), ("klingon", "such as 'de'")]
)
def test_an_unknown_language_gets_a_suggestion(request_for, language, hint):
    with pytest.raises(LanguageError, match=f"language '{language}': .*{hint}"):
        request_for("--language", language)


@pytest.mark.parametrize("language", ["de", "German", " MANDARIN", "yue"])
def test_languages_are_accepted_by_code_and_by_name(request_for, language):
    assert request_for("--language", language).keywords["language"] == language


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--word_timestamps yes", "argument --word_timestamps: expected True or False, got 'yes'"),
        ("--verbose 1", "argument --verbose: expected True or False, got '1'"),
        ("--best_of 2.5", "argument --best_of: expected a whole number or None, got '2.5'"),
        ("--logprob_threshold low", "argument --logprob_threshold: expected a number or None, got 'low'"),
        ("--seed None", "argument --seed: expected a whole number, got 'None'"),
        ("--task sing", "argument --task: invalid choice: 'sing'"),
        ("--output_format docx", "invalid choice: 'docx'"),
        ("--timestamps", "unrecognized arguments: --timestamps"),
    ],
)
def test_values_of_another_type_are_refused(request_for, capsys, options, message):
    with pytest.raises(SystemExit) as leave:
        request_for(options)
    assert leave.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ("--max_line_count 2", ["max_line_count: it has no effect without --max_line_width"]),
        ("--max_line_width 9 --max_words_per_line 2", ["max_words_per_line: it has no effect with --max_line_width"]),
        ("--max_line_width 9 --max_line_count 2", []),
        ("--max_words_per_line 2", []),
    ],
)
def test_options_without_an_effect_give_a_warning(request_for, options, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        request_for(f"{WORDS} {options}")
    assert [str(warning.message) for warning in caught] == warned


# ------------------------------------------------------------------------------------------ help


def test_the_help_fits_a_narrow_terminal_and_shows_every_default(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run_command(capfd, "transcribe", "--help").out
    assert max(map(len, text.splitlines())) <= 80
    groups = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    for group in ("arguments", "input", "output", "decoding", "temperature fallback", "words", "machine", "examples"):
        assert any(line.startswith(group) for line in groups), group
    words = " ".join(text.split())
    for action in arguments(subcommands(make_parser())["transcribe"]):
        if action.dest not in ("help", "files"):
            assert action.help.count("(default: ") == 1, action.dest
            assert action.help in words, action.dest
    for part in ("--beam_size N ", "-f, --output_format FORMAT ", "(default: 5)", "(default: 2.4)", "(default: -1.0)"):
        assert part in words


@pytest.mark.parametrize("columns", [80, 120])
def test_every_help_page_fits_its_terminal(capfd, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in ("", *subcommands(make_parser())):
        text = run_command(capfd, *command.split(), "--help").out
        assert text.startswith(f"usage: minwhisper {command}".rstrip())
        assert max(map(len, text.splitlines())) <= min(columns, 102), command
    summaries = [line.split(maxsplit=1) for line in run_command(capfd, "--help").out.splitlines()]
    assert {line[0] for line in summaries if len(line) == 2} >= set(subcommands(make_parser()))
