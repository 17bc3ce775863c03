"""The options of ``minwhisper transcribe``: openai-whisper's defaults, every option, and clear errors."""

import argparse
from dataclasses import fields
from itertools import cycle

import pytest

from command_line import assert_refused, run_command
from minwhisper import DecodingOptions, TranscriptionOptions
from minwhisper.cli.arguments import add_arguments
from minwhisper.cli.help import arguments, subcommands
from minwhisper.cli.main import make_parser
from minwhisper.cli.request import check_arguments
from minwhisper.errors import OptionError
from minwhisper.writers.subtitles import SubtitleOptions


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
    parsed = request_for("")
    # Exactly the temperatures of openai-whisper's command, including their rounding errors.
    temperatures = (0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0)
    assert parsed.checked == TranscriptionOptions.named(beam_size=5, best_of=5, temperature=temperatures)
    assert (parsed.outputs, parsed.dtype) == (None, "float32")


WORDS = "--word_timestamps True"
OPTIONS = (  # all options of the library, with values other than their defaults
    "--task translate --language German --beam_size 3 --best_of 4 --patience 2 --length_penalty 0.5 "
    "--suppress_tokens=-1,2 --language_detection_windows 3 --audio_track 2 --clip_timestamps 1,2 "
    "--vad_filter Silero --initial_prompt Hello --carry_initial_prompt true --condition_on_previous_text FALSE "
    "--compression_ratio_threshold 3 --logprob_threshold -2.5 --no_speech_threshold 0.5 "
    f"{WORDS} --hallucination_silence_threshold 2 --prepend_punctuations ( --append_punctuations ) "
    "--temperature_increment_on_fallback 1 --record True"
)
VALUES = (
    {"task": "translate", "language": "German", "beam_size": 3, "best_of": 4, "patience": 2.0, "length_penalty": 0.5}
    | {"suppress_tokens": "-1,2", "language_detection_windows": 3, "audio_track": "2", "clip_timestamps": "1,2"}
    | {"vad_filter": "silero", "initial_prompt": "Hello", "carry_initial_prompt": True}
    | {"condition_on_previous_text": False}
    | {"compression_ratio_threshold": 3.0, "logprob_threshold": -2.5, "no_speech_threshold": 0.5}
    | {"word_timestamps": True, "hallucination_silence_threshold": 2.0, "temperature": (0.0, 1.0)}
    | {"prepend_punctuations": "(", "append_punctuations": ")", "record": True}
)


def test_every_option_of_the_library_is_passed_on(request_for, parser):
    parsed = request_for(OPTIONS)
    assert {name: repr(value) for name, value in parsed.keywords.items()} == {k: repr(v) for k, v in VALUES.items()}
    assert parsed.checked == TranscriptionOptions.named(**VALUES)
    only_there = {"decoding_options", "prompt", "prefix", "sample_len", "suppress_blank", "without_timestamps"}
    library = {field.name for kind in (DecodingOptions, TranscriptionOptions) for field in fields(kind)}
    assert library - only_there - {"max_initial_timestamp"} == set(VALUES)


def test_none_turns_an_option_off(request_for):
    names = ("beam_size", "best_of", "compression_ratio_threshold", "logprob_threshold", "no_speech_threshold")
    parsed = request_for(" ".join(f"--{name} {none}" for name, none in zip(names, cycle(["None", "NONE", "none"]))))
    assert [parsed.keywords[name] for name in names] == [None] * 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--temperature_increment_on_fallback 0.5", (0.0, 0.5, 1.0)),
        ("--temperature_increment_on_fallback None", (0.0,)),
        ("--temperature 1.5 --temperature_increment_on_fallback None", (1.5,)),
        ("--temperature 1", (1.0,)),
    ],
)
def test_the_increment_gives_the_fallback_temperatures(request_for, options, expected):
    decoding_options = request_for(options).checked.decoding_options
    assert [attempt.temperature for attempt in decoding_options] == pytest.approx(expected)
    for attempt in decoding_options:  # defaults that have no meaning at this temperature are dropped
        search = (attempt.beam_size, attempt.best_of)
        assert search == ((5, None) if attempt.temperature == 0 else (None, 5))


def test_fp16_selects_a_dtype_and_must_not_contradict_it(request_for):
    for options, dtype in (("--fp16 True", "float16"), ("--fp16 False", "float32"), ("--dtype float64", "float64")):
        assert request_for(options).dtype == request_for(f"{options} --dtype {dtype}").dtype == dtype
    for options in ("--fp16 True --dtype float32", "--fp16 False --dtype float16"):
        with pytest.raises(OptionError, match=r"fp16 (True|False): it means --dtype float\d\d, but got --dtype"):
            request_for(options)


# ------------------------------------------------------------------------------------------ outputs


def test_output_options_give_the_folder_formats_and_file_names(request_for, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parsed = request_for("--output_format srt").outputs
    assert (parsed.folder, parsed.format, parsed.subtitles) == (".", "srt", SubtitleOptions())
    parsed = request_for("--output_dir sub/folder").outputs
    assert (parsed.folder, parsed.format) == ("sub/folder", "all")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["folder"]  # created before any work, and empty
    assert parsed.paths("talk") == "sub/folder/talk.{txt,vtt,srt,tsv,json}"
    assert request_for("-f srt,labels.txt,srt").outputs.paths("talk") == "talk.{srt,labels.txt}"
    assert request_for(f"{WORDS} -f words.vtt").outputs.paths("talk") == "talk.words.vtt"


def test_outputs_that_would_overwrite_each_other_are_refused_or_renamed(request_for, tmp_path):
    options, files = ("-o", f"{tmp_path / 'out'}", "-f", "txt,labels.txt"), ("-", "stdin.wav")
    with pytest.raises(OptionError, match=f"^'-' and 'stdin.wav' would both be written to {tmp_path / 'out'}/"):
        request_for(*options, files=files)
    assert not (tmp_path / "out").exists()  # refused before any folder is created
    request_for("", files=files)  # without outputs there is no conflict
    parsed = request_for(*options, files=("a/talk.wav", "b/talk.mp3", "talk.wav", "talk.labels.mp3", "talk.wav"))
    assert [one.output for one in parsed.inputs] == ["a/talk", "b/talk", "talk.wav", "talk.labels.mp3"]


def test_inputs_are_files_folders_and_lists(request_for, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("in/b.wav", "in/sub/a.mp3"):
        (tmp_path / name).touch()
    (tmp_path / "list").write_text("list.wav\nin\n")
    request = request_for("--files_from list --recursive -f srt", files=("c.wav",))
    assert [one.path for one in request.inputs] == ["c.wav", "list.wav", "in/b.wav", "in/sub/a.mp3"]
    for options, files, message in (
        ("--files_from -", ("-",), "files_from -: standard input cannot be a recording, too"),
        ("", (), "FILE: expected audio or video files, folders of them, or --files_from"),
    ):
        with pytest.raises(OptionError, match=message):
            request_for(options, files=files)


# ------------------------------------------------------------------------------------------ refusals


REFUSED = [
    ("--temperature nan", "temperature: expected 0, or above"),
    ("--temperature 1.5", "at most 1", "got 1.5", "temperature_increment_on_fallback None"),
    ("--temperature_increment_on_fallback 0", "temperature_increment_on_fallback: ", "0.01 or more, or None"),
    ("--clip_timestamps 5,2", "clip_timestamps: ", "5 to 2"),  # as in the library
    ("--best_of 5 --temperature_increment_on_fallback None", "best_of: sampling needs a temperature above 0"),
    ("--highlight_words True", "highlight_words: ", "--word_timestamps True"),
    ("--verbose False", "verbose False: ", "--output_format or --output_dir"),
    ("-f srt,ctm", "output_format ctm: ", "--word_timestamps True"),
    ("-f textgrid", "output_format: expected one of txt, ", ", got 'textgrid'; did you mean TextGrid"),
    ("-f srt,", "output_format: expected one of txt, ", ", got ''"),
    ("--language Germann", "language 'Germann': ", "did you mean 'german'"),
    ("--language klingon", "language 'klingon': ", "such as 'de'"),
    ("--skip_existing", "skip_existing: no files are written; give --output_format or --output_dir too"),
    ("--files_from missing", "files_from 'missing': cannot be read"),
    ("--word_timestamps yes", "argument --word_timestamps: expected True or False, got 'yes'"),
    ("--best_of 2.5", "argument --best_of: expected a whole number or None, got '2.5'"),
    ("--logprob_threshold low", "argument --logprob_threshold: expected a number or None, got 'low'"),
    ("--langauge fr", "unrecognized arguments: --langauge fr: did you mean --language?"),
]


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused[0])
def test_invalid_options_are_refused(capfd, refused):
    options, *parts = refused
    assert_refused(run_command(capfd, "transcribe", "a.wav", *options.split()), *parts)


def test_languages_are_accepted_by_code_and_by_name(request_for):
    for language in ("de", "German", " MANDARIN", "yue"):
        assert request_for("--language", language).keywords["language"] == language


@pytest.mark.parametrize(
    ("options", "expected", "warned"),
    [
        ("--max_line_count 2", {"max_line_count": 2}, ["max_line_count: it has no effect without --max_line_width"]),
        (
            "--max_line_width 9 --max_words_per_line 2",
            {"max_line_width": 9, "max_words_per_line": 2},
            ["max_words_per_line: it has no effect with --max_line_width"],
        ),
        ("--max_line_width 9 --max_line_count 2", {"max_line_width": 9, "max_line_count": 2}, []),
        ("--max_words_per_line 2 --highlight_words True", {"max_words_per_line": 2, "highlight_words": True}, []),
    ],
)
def test_options_of_subtitles_are_passed_on_with_a_warning_if_they_have_no_effect(
    request_for, recwarn, tmp_path, options, expected, warned
):
    parsed = request_for(*f"{WORDS} {options} -o".split(), str(tmp_path))
    assert parsed.outputs.subtitles == SubtitleOptions(**expected)
    assert [str(warning.message) for warning in recwarn] == warned


# ------------------------------------------------------------------------------------------ help


def test_every_help_page_fits_its_terminal(capfd, monkeypatch):
    commands = subcommands(make_parser())
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        for command in ("", *commands):
            text = run_command(capfd, *command.split(), "--help").out
            assert text.startswith(f"usage: minwhisper {command}".rstrip())
            assert max(map(len, text.splitlines())) <= min(columns, 102), command
    summaries = [line.split(maxsplit=1) for line in run_command(capfd, "--help").out.splitlines()]
    assert {line[0] for line in summaries if len(line) == 2} >= set(commands)


def test_the_help_shows_every_default_and_examples_as_they_are_typed(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run_command(capfd, "transcribe", "--help").out
    for group in ("arguments", "input", "output", "decoding", "temperature fallback", "words", "machine", "examples"):
        assert f"\n{group}" in text
    words = " ".join(text.split())
    for action in arguments(subcommands(make_parser())["transcribe"]):
        if action.dest not in ("help", "files"):
            assert action.help.count("(default: ") == 1, action.dest
            assert action.help in words, action.dest
    for part in ("--beam_size N ", "-f, --output_format FORMAT ", "(default: 5)", "(default: 2.4)", "(default: -1.0)"):
        assert part in words
    assert "\n  cat talk.mp3 | minwhisper transcribe -                        # from a pipe" in text
