"""The same command line for ``minwhisper transcribe`` and openai-whisper gives the same options and the same files."""

import json
import shutil
import sys

import pytest

import minwhisper
from inputs import DATA
from minwhisper.cli import transcribe as transcribe_command
from minwhisper.cli.main import main
from minwhisper.writers.render import FORMATS

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
theirs = sys.modules["whisper.transcribe"]  # "import whisper.transcribe" would give the function


@pytest.fixture
def openai_command(monkeypatch):
    """Return a function that runs openai-whisper's command in this process with a given model, on our samples."""

    def run(model, *arguments):
        monkeypatch.setattr(whisper, "load_model", lambda *_, **__: model)
        monkeypatch.setattr(whisper.audio, "load_audio", lambda path: minwhisper.load_audio(path))
        monkeypatch.setattr(sys, "argv", ["whisper", *map(str, arguments)])
        theirs.cli()

    return run


class Called(Exception):
    """Raised in place of a transcription."""


@pytest.mark.parametrize(
    "options",
    [
        "--clip_timestamps 1,2",
        "--temperature 0.4",
        "--temperature_increment_on_fallback None --beam_size 2 --patience 2 --length_penalty 0.5",
        "--task transcribe --initial_prompt Hello --carry_initial_prompt True --condition_on_previous_text False",
        "--compression_ratio_threshold None --logprob_threshold -2 --no_speech_threshold 0.3 --suppress_tokens 1,2",
        "--word_timestamps True --hallucination_silence_threshold 2 --prepend_punctuations ( --append_punctuations )",
    ],
)
def test_the_options_are_the_same(openai_command, tiny_en, monkeypatch, tmp_path, options):
    requests = []

    def note(*_, **given):
        requests.append(given)
        raise Called

    monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: tiny_en)
    monkeypatch.setattr(type(tiny_en), "stream", note)
    monkeypatch.setattr(theirs, "transcribe", note)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").touch()  # must exist, but is not opened
    arguments = ["a.wav", "--model", "tiny.en", "--fp16", "False", *options.split()]
    with pytest.raises(Called):
        main(["transcribe", *arguments])
    openai_command(object(), *arguments)  # its command continues after an error
    ours, expected = requests
    for added in ("progress", "generator", "batch_size"):
        ours.pop(added)
    for option_of_ours in ("language_detection_windows", "audio_track", "vad_filter", "record"):
        ours.pop(option_of_ours)
    # Options of printing, and those given to load_model here. An English-only model needs no language.
    for other in ("verbose", "fp16"):
        expected.pop(other)
    assert (ours.pop("language"), expected.pop("language")) == (None, "en")
    expected["temperature"] = tuple(map(float, expected["temperature"]))
    # openai-whisper drops options that have no meaning at a temperature only later.
    if 0 not in expected["temperature"]:
        assert (ours.pop("beam_size"), expected.pop("beam_size")) == (None, 5)
    if not any(expected["temperature"]):
        assert (ours.pop("best_of"), expected.pop("best_of")) == (None, 5)
    assert ours == expected


def parsed(content, number):
    """Parse JSON: objects become lists of pairs in their order, integers become text, so that 0 and 0.0 differ."""
    return json.loads(content, object_pairs_hook=list, parse_int=str, parse_float=lambda text: number(float(text)))


def nearly(number):
    return pytest.approx(number, abs=1e-3)


def test_the_same_files_are_written(openai_command, tiny_en, pytorch, monkeypatch, tmp_path, capfd):
    shutil.copy(DATA / "LJ001-0002.wav", tmp_path / "a talk.of.mine.wav")
    monkeypatch.setattr(transcribe_command, "load_model", lambda *_, **__: tiny_en)
    options = "--model tiny.en --fp16 False --language en --verbose True --output_format all --word_timestamps True "
    options += "--beam_size None --max_line_width 20 --max_line_count 2 --highlight_words True"
    arguments = [str(tmp_path / "a talk.of.mine.wav"), *options.split()]
    assert main(["transcribe", *arguments, "--output_dir", str(tmp_path / "ours")]) == 0
    shown = capfd.readouterr().out
    openai_command(pytorch(tiny_en), *arguments, "--output_dir", tmp_path / "theirs")
    assert capfd.readouterr().out == shown
    written = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    assert sorted(written) == sorted(f"a talk.of.mine.{format}" for format in FORMATS)
    for name, content in written.items():
        ours = (tmp_path / "ours" / name).read_bytes()
        if name.endswith(".json"):
            assert parsed(ours, float) == parsed(content, nearly)
        else:
            assert ours == content, name
    assert b" --> " in written["a talk.of.mine.srt"]
