"""The other commands, and invalid input: one line on standard error and exit status 2."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from audio_files import encode_audio
from command_line import GREEDY, assert_refused, run_command
from inputs import DATA
from minwhisper.audio.load import load_audio
from minwhisper.checkpoints import sources
from minwhisper.cli import parity
from minwhisper.fast import devices
from minwhisper.model.config import PUBLISHED
from minwhisper.parity.comparison import StageComparison

SHORT = str(DATA / "LJ001-0008.wav")


@pytest.fixture
def command(capfd):
    """Return a function that runs the command in this process: exit status, standard output, standard error."""
    return lambda *arguments: run_command(capfd, *arguments)


# ------------------------------------------------------------------------------------------ info


def test_info_knows_published_models_without_their_weights_and_reads_a_folder(command, tiny_en):
    out = command("info", "turbo").out
    assert out.startswith("large-v3-turbo: 808.9 million parameters, multilingual\n")
    assert "decoder      4 blocks, 20 heads" in out
    assert "mel bins     128" in out
    for name, other in (
        ("large", "openai/whisper-large-v3"),
        ("tiny.en", sources.packaged_model("tiny.en").folder),
    ):
        published, read = command("info", name).out, command("info", other).out
        assert read.splitlines()[1:] == published.splitlines()[1:]
    assert "float32             144 MiB" in read


def rows_of(text):
    """Return the figures of each row of the tables, by the text before them."""
    found = (re.fullmatch(r"  (\S.*?) {2,}([\d,]+( +([\d,]+|yes|no))+)", line) for line in text.splitlines())
    return {row[1]: row[2].split() for row in found if row}


def test_info_lists_the_models_that_fit_on_a_gpu(command, gpus):
    gpus.outside = 187 << 20
    here, there = command("info", "small").out, command("info", "small", "--device", "cuda")
    assert (there.status, there.err) == (0, "")
    assert there.out.startswith(f"{here}\ncuda:0: NumPy behind glass, compute capability 7.5, 2,048 MiB, of which 1,")
    assert "which models fit into the 2,048 MiB of this GPU, with greedy decoding: " in there.out
    rows = rows_of(there.out.removeprefix(here))
    assert rows["peak of CuPy's pool: weights, buffers, the larger of the two"] == ["1,087", "565"]
    assert rows["outside of the pool: context, other processes"] == ["187", "187"]
    assert rows["total"] == ["1,274", "752"]
    assert set(PUBLISHED) <= set(rows)
    gpus.outside, gpus.pool_limit = 500 << 20, 1400 << 20
    limited = command("info", "small", "--device", "auto").out
    assert "\nCuPy's pool is limited to 1,400 MiB\n" in limited
    assert rows_of(limited)["medium"] == ["3,316", "3,816", "no", "1,691", "2,191", "no"]


def test_info_without_a_gpu_takes_a_small_one_as_an_example(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    monkeypatch.setattr(devices, "_working", set())
    here, there = command("info", "small").out, command("info", "small", "--device", "cuda").out
    assert there.startswith(f"{here}\ndevice 'cuda': CuPy")
    assert "which models fit into a card of 2,048 MiB, for example, with greedy decoding: " in there
    rows = rows_of(there.removeprefix(here))
    assert rows["context: driver, CUDA's libraries (estimated)"] == ["256", "256"]
    assert rows["medium"] == ["3,316", "3,572", "no", "1,691", "1,947", "yes"]
    assert command("info", "small", "--device", "auto").out == here
    assert_refused(command("info", "small", "--device", "gpu"), "unknown device 'gpu'", "'cuda'")


# ------------------------------------------------------------------------------------------ parity


def test_parity_shows_every_stage(command, tiny_en, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    result = command("parity", "tiny.en")
    assert result.status == 0
    stages = [line.split()[0] for line in result.out.splitlines() if "×" in line]
    blocks = {stack: [f"{stack}.blocks.{number}" for number in range(4)] for stack in ("encoder", "decoder")}
    assert stages == ["mel", "stem", *blocks["encoder"], "encoder", *blocks["decoder"], "logits"]
    assert result.out.splitlines()[-1] == "tokens             equal to the stored ones"


EXACT = (1e-7, 1e-6, 2e-6, 9.9)  # the difference from PyTorch does not matter here


@pytest.mark.parametrize(
    ("errors", "tokens_equal", "status", "last"),
    [
        (EXACT, True, 0, "tokens             equal to PyTorch's"),
        (EXACT, False, 1, "tokens             DIFFER from PyTorch's"),
        ((1e-3, 2e-5, 2e-6, None), True, 1, "stem is off by more than 1e-05"),
        ((None, None, None, 2e-5), True, 1, "stem is off by more than 1e-05"),
    ],
)
def test_parity_fails_for_a_model_that_is_not_exact(command, monkeypatch, errors, tokens_equal, status, last):
    comparison = StageComparison("stem", (1, 1500, 384), *errors)
    model = SimpleNamespace(name="tiny.en", dtype="float32", device="cpu")
    monkeypatch.setattr(parity, "load_model", lambda *_: model)
    monkeypatch.setattr(parity.comparison, "compare", lambda *_: ([comparison], [("PyTorch's", tokens_equal)]))
    result = command("parity", "tiny.en")
    assert (result.status, result.out.splitlines()[-1]) == (status, last)
    assert ("ours-PyTorch" in result.out) == (errors[3] is not None)
    shown = ["-" if error is None else f"{error:.2e}" for error in errors]
    assert f"stem 1×1500×384 {' '.join(shown)}".removesuffix(" -") in " ".join(result.out.split())


# ------------------------------------------------------------------------------------------ invalid input


def test_an_interruption_of_any_command_ends_with_status_130(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("minwhisper.cli.info.describe", interrupted)
    result = command("info", "base")
    assert (result.status, result.out, result.err) == (130, "", "minwhisper: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["COMMAND", "--help"]),
        (["trancribe", SHORT], ["unknown command 'trancribe': did you mean transcribe?"]),
        (["info", "bass"], ["'bass'", "'base'"]),
        (["transcribe"], ["FILE"]),
        (["transcribe", SHORT, "--device", "gpu"], ["'gpu'", "'cuda'"]),
        (["transcribe", SHORT, "--language", "fr"], ["'fr'", "English only", "'base'"]),
        (["transcribe", DATA.parent / "cli"], [f"'{DATA.parent / 'cli'}': a folder without recordings; "]),
        (["completion", "tcsh"], ["SHELL", "'tcsh'", "bash"]),
        (["bench", "--threads", "-1"], ["threads: expected a whole number"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_invalid_arguments_are_refused(command, tiny_en, arguments, parts):
    assert_refused(command(*arguments), *parts)


def test_a_model_too_large_for_the_gpu_is_one_line_per_file(command, gpus, tiny_en):
    place = ("--model", "tiny.en", "--device", "cuda")
    gpus.limit = 120 << 20
    what = "cuda:0 ran out of memory while loading tiny.en in float32: it needs 181 MiB, 120 MiB were free; "
    assert_refused(command("transcribe", SHORT, *place), what, "models that fit: tiny.en in float16; load one of them")
    gpus.limit = 150 << 20
    while_encoding = ".wav: cuda:0 ran out of memory while encoding a window with tiny.en in float32: "
    for files in ([SHORT], [SHORT, DATA / "LJ001-0002.wav"]):
        result = command("transcribe", *files, *place, "--batch_size", len(files))
        assert (result.status, result.err.count("\n"), result.err.count(while_encoding)) == (2, len(files), len(files))


def test_truncated_audio_and_files_that_are_not_audio_are_refused(command, tmp_path, tiny_en):
    pcm = np.round(load_audio(DATA / "jfk.flac") * 32768).astype(np.int16)
    whole = encode_audio(pcm, "mp3", "libmp3lame")
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.wav").write_text("This is not audio. " * 100)
    for name, message in (("cut.mp3", "5.44 of 11.00 seconds"), ("text.wav", "not an audio file")):
        assert_refused(command("transcribe", tmp_path / name, *GREEDY), name, message)
