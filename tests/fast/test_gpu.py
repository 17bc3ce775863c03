"""The GPU engine on simulated GPUs: values equal to the CPU's, transfers, captured graphs and memory.

Arrays are those of tests/support/refusing_cupy.py, which reject every hidden transfer. Unless stated otherwise, NumPy
replaces the kernels; test_gpu_kernels.py runs the real ones.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import minwhisper
from inputs import DATA, SMALL, SPEECH, real_model
from minwhisper.common.backend import to_device, to_numpy
from minwhisper.fast.gpu import graph as gpu_graph
from minwhisper.fast.gpu.memory import MARGIN, device_memory
from minwhisper.model.config import PUBLISHED
from minwhisper.parity import comparison as parity
from vocabularies import made_up_tokenizer

SHORT = DATA / "LJ001-0008.wav"


@pytest.fixture
def on_gpu(gpus):
    return real_model("tiny.en", device="cuda")


@pytest.fixture
def features(rng):
    """Return made-up features of a window for tiny.en: to encode one would take seconds."""
    return rng.standard_normal((1, 1500, 384), np.float32)


def tokens(transcript) -> list[list[int]]:
    return [segment["tokens"] for segment in transcript["segments"]]


def close(mine, exact, bound=1e-5) -> None:
    assert parity.relative_difference(to_numpy(mine), exact) < bound


# ------------------------------------------------------------------------------------------ the same values


def test_tokens_and_words_of_a_beam_equal_the_cpus(tiny_en, on_gpu):
    on_cpu, found = (
        model.transcribe(SHORT, beam_size=3, word_timestamps=True)["segments"] for model in (tiny_en, on_gpu)
    )
    for mine, exact in zip(found, on_cpu, strict=True):
        assert mine["tokens"] == exact["tokens"]
        assert [word["start"] for word in mine["words"]] == [word["start"] for word in exact["words"]]


@pytest.mark.parametrize(
    "name", [SHORT.name, *(pytest.param(path.name, marks=pytest.mark.grid) for path in SPEECH if path != SHORT)]
)
def test_float16_gives_the_same_tokens(name, gpus, tiny_en, speech):
    on_gpu = real_model("tiny.en", device="cuda", dtype="float16")
    transcripts = [model.transcribe(speech[name], language="en", temperature=0.0) for model in (tiny_en, on_gpu)]
    assert tokens(transcripts[1]) == tokens(transcripts[0])


def test_language_probabilities_equal_the_cpus(gpus):
    config = replace(SMALL, vocab_size=51865, num_mel_bins=80)
    on_cpu, on_gpu = (
        replace(minwhisper.Whisper.random(config, device=device), tokenizer=made_up_tokenizer(51865))
        for device in ("cpu", "cuda")
    )
    mel = np.random.default_rng(0).standard_normal((80, 3000), np.float32)
    (token, probabilities), (expected_token, expected) = on_gpu.detect_language(mel), on_cpu.detect_language(mel)
    assert token == expected_token
    assert probabilities == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_models_on_the_cpu_and_two_gpus_in_one_process(gpus):
    on_cpu, first, second = (minwhisper.Whisper.random(SMALL, seed=3, device=d) for d in ("cpu", "cuda:0", "cuda:1"))
    mel = np.random.default_rng(0).standard_normal((1, 8, 300)).astype(np.float32)
    features = on_cpu.encode(mel)
    for model in (second, first, second):
        found = model.encode(mel)
        assert f"cuda:{found.device.id}" == model.device
        close(found, features, 2e-6)
        close(model.logits([[1, 2]], found), on_cpu.logits([[1, 2]], features))


# ------------------------------------------------------------------------------------------ transfers


def test_weights_are_uploaded_one_by_one_and_stored_once(gpus):
    model = real_model("tiny.en", device="cuda", dtype="float16")
    crossed = Counter(transfer.up for transfer in gpus.transfers)
    assert crossed == {True: 167, False: 3}  # downloads: the results of the probe, and the positions, which are checked
    numbers = sum(transfer.nbytes for transfer in gpus.transfers if transfer.up)
    assert numbers <= gpus.alive <= numbers + 512 * 167
    assert gpus.peak <= gpus.alive + 512
    assert model.dtype == "float16"


# ------------------------------------------------------------------------------------------ captured graphs


def test_a_step_is_captured_once_for_all_windows(on_gpu, features, monkeypatch):
    captured, capture = [], gpu_graph._capture
    monkeypatch.setattr(gpu_graph, "_capture", lambda launch: captured.append(launch) or capture(launch))
    features = to_device(features, on_gpu.device)
    for _ in range(2):
        on_gpu.decode(features[0], sample_len=3)
    assert len(captured) == 1
    on_gpu.decode(features[0], beam_size=3, sample_len=3)
    on_gpu.decode(features.repeat(3, axis=0), sample_len=3)
    assert len(captured) == 2  # one more, for up to four rows: the beam and the three windows share it


def test_steps_run_without_graphs_if_the_capture_fails(on_gpu, tiny_en, features, monkeypatch):
    def fails(_):
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    monkeypatch.setattr(gpu_graph, "_capture", fails)
    with pytest.warns(UserWarning, match="cannot capture a CUDA graph on this GPU.*StreamCaptureUnsupported") as caught:
        found = on_gpu.decode(to_device(features[0], on_gpu.device), sample_len=4)
    assert found.tokens == tiny_en.decode(features[0], sample_len=4).tokens
    assert len(caught) == 1


# ------------------------------------------------------------------------------------------ memory


def test_memory_is_reserved_in_one_piece(gpus):
    model = minwhisper.Whisper.random("tiny", device="cuda", dtype="float16")
    assert gpus.alive == device_memory(PUBLISHED["tiny"], "float16").weights
    predicted = device_memory(PUBLISHED["tiny"], "float16", tile=model.engine._engine._tile)
    assert predicted.weights < gpus.alive <= predicted.weights + predicted.buffers + 4096  # allocated with the engine
    assert 0 <= gpus.peak - predicted.peak - MARGIN < 512  # sizes are rounded up
