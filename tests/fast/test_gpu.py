"""The GPU engine on simulated GPUs: the values of the CPU, transfers, captured graphs and memory.

Arrays are those of tests/support/refusing_cupy.py, which reject every hidden transfer. Unless stated otherwise, NumPy
replaces the kernels; test_gpu_kernels.py runs the real ones.
"""

from collections import Counter

import numpy as np
import pytest

import minwhisper
from conftest import DATA, SMALL, SPEECH, real_model
from engine_pair import EnginePair
from minwhisper.cli.main import main
from minwhisper.common.backend import to_device, to_numpy
from minwhisper.fast.gpu import graph as gpu_graph
from minwhisper.fast.gpu.memory import MARGIN, device_memory
from minwhisper.model.config import PUBLISHED
from minwhisper.model.engine import DecoderInput, PlainEngine
from minwhisper.parity import comparison as parity

JFK = DATA / "jfk.flac"
SHORT = DATA / "LJ001-0008.wav"


@pytest.fixture
def there(gpus):
    return real_model("tiny.en", device="cuda")


@pytest.fixture(scope="module")
def mel():
    return parity.window_mel(parity.clip_samples(), 80)


def tokens(transcript) -> list[list[int]]:
    return [segment["tokens"] for segment in transcript["segments"]]


def close(mine, exact, bound=1e-5) -> None:
    assert parity.relative_difference(to_numpy(mine), exact) < bound


# ------------------------------------------------------------------------------------------ the same values


def test_forked_sequences_and_batched_windows_equal_the_readable_layers(there, tiny_en, mel):
    engines = EnginePair(there.engine, PlainEngine(tiny_en.weights, tiny_en.config), 1e-5, there.device)
    text = [tiny_en.tokenizer.sot, *parity.load_reference("tiny.en").tokens]
    features = engines.theirs.encode(mel)
    close(there.encode(mel), features, 2e-6)
    first, second = engines.new_cache(features), engines.new_cache(features[:, ::-1].copy())
    first, second = engines.decode(([text[:5]], first, [0, 4]), ([text[:3]], second))
    for rows, new, others, tokens in (
        ([0], [[text[5]]], [0], [[7]]),
        ([0, 0, 0], [[523], [616], [11]], [0], [[7, 8, 9]]),
        ([2, 0], [[1], [2]], [0], [[8]]),
        ([1, 1], [[3], [4]], [0, 0], [[9], [10]]),
    ):
        first, second = engines.decode((new, first.reorder(rows)), (tokens, second.reorder(others)))


def test_tokens_and_words_of_a_beam_equal_the_cpus(tiny_en, there):
    here, away = (model.transcribe(SHORT, beam_size=3, word_timestamps=True)["segments"] for model in (tiny_en, there))
    for mine, exact in zip(away, here, strict=True):
        assert mine["tokens"] == exact["tokens"]
        assert [word["start"] for word in mine["words"]] == [word["start"] for word in exact["words"]]


@pytest.mark.parametrize(
    "name", [SHORT.name, *(pytest.param(path.name, marks=pytest.mark.grid) for path in SPEECH if path != SHORT)]
)
@pytest.mark.parametrize("size", ["tiny.en", pytest.param("base", marks=pytest.mark.grid)])
@pytest.mark.parametrize("dtype", ["float16", pytest.param("float32", marks=pytest.mark.grid)])
def test_float16_gives_the_same_tokens(size, dtype, name, gpus, speech):
    here, there = real_model(size), real_model(size, device="cuda", dtype=dtype)
    transcripts = [model.transcribe(speech[name], language="en", temperature=0.0) for model in (here, there)]
    assert tokens(transcripts[1]) == tokens(transcripts[0])


def test_language_detection(gpus, base):
    mel = parity.window_mel(parity.clip_samples(), 80)[0]
    token, probabilities = real_model("base", device="cuda").detect_language(mel)
    expected_token, expected = base.detect_language(mel)
    assert token == expected_token
    assert probabilities == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_models_on_the_cpu_and_two_gpus_in_one_process(gpus):
    here, first, second = (minwhisper.Whisper.random(SMALL, seed=3, device=d) for d in ("cpu", "cuda:0", "cuda:1"))
    mel = np.random.default_rng(0).standard_normal((1, 8, 300)).astype(np.float32)
    features = here.encode(mel)
    for model in (second, first, second):
        found = model.encode(mel)
        assert f"cuda:{found.device.id}" == model.device
        close(found, features, 2e-6)
        close(model.logits([[1, 2]], found), here.logits([[1, 2]], features))


@pytest.mark.grid
def test_the_command_line_on_a_gpu(gpus, capsys):
    arguments = ["transcribe", str(JFK), "--model", "tiny.en", "--device", "cuda:1", "--fp16", "True"]
    assert main([*arguments, "--beam_size", "2"]) == 0
    assert "ask what you can do for your country" in capsys.readouterr().out
    assert (1, 80, 3000) in [crossed.shape for crossed in gpus.transfers if crossed.up]


# ------------------------------------------------------------------------------------------ transfers


def test_a_greedy_token_downloads_eight_bytes_and_uploads_nothing(there, gpus):
    there.transcribe(SHORT)  # sends the filters, once
    gpus.transfers.clear()
    generated = [token for one in there.transcribe(SHORT, temperature=0.0)["segments"] for token in one["tokens"]]
    up = [(crossed.shape, crossed.nbytes) for crossed in gpus.transfers if crossed.up]
    down = Counter(crossed.nbytes for crossed in gpus.transfers if not crossed.up)
    assert up[0] == ((1, 80, 3000), 960_000)
    assert len(up) == 3  # the mel, the tables of the prompt and of the first step
    assert all(size < 40_000 for _, size in up[1:])
    # The prompt's choice comes with the probability of no speech; the last token is the end.
    assert down == {16: 1, 8: len(generated)}


def test_a_beam_step_uploads_one_table_and_downloads_its_best_tokens(there, gpus):
    there.transcribe(SHORT)
    gpus.transfers.clear()
    there.transcribe(SHORT, temperature=0.0, beam_size=3)
    up = [crossed.nbytes for crossed in gpus.transfers if crossed.up]
    down = [crossed.nbytes for crossed in gpus.transfers if not crossed.up]
    assert len(up) == 1 + len(down)  # a mel, and a table per download
    assert max(up[1:]) < 40_000
    assert down[0] == 2 * 4 * 8  # four tokens, and the probability of no speech
    assert set(down[1:]) <= {rows * 4 * 8 for rows in (1, 2, 3)}


def test_weights_are_uploaded_one_by_one_and_stored_once(gpus):
    model = real_model("tiny.en", device="cuda", dtype="float16")
    crossed = Counter(transfer.up for transfer in gpus.transfers)
    assert crossed == {True: 167, False: 3}  # the results of the probe, and the positions, which are checked
    numbers = sum(transfer.nbytes for transfer in gpus.transfers if transfer.up)
    assert numbers <= gpus.alive <= numbers + 512 * 167
    assert gpus.peak <= gpus.alive + 512
    assert model.dtype == "float16"


HIDDEN = [
    *(lambda x: float(x.sum()), lambda x: bool(x.max() > 0), lambda x: x.tolist(), lambda x: x.get()),
    *(lambda x: np.asarray(x), lambda x: x + np.ones(3, np.float32), lambda x: np.ones(3, np.float32) * x),
    *(lambda x: x[[0, 2]], lambda x: x[x > 0], lambda x: x.__setitem__(slice(None), np.ones(3)), np.exp),
]


def test_the_simulated_gpu_rejects_hidden_transfers(gpus):
    x = to_device(np.arange(3, dtype=np.float32), "cuda:0")
    for hidden in HIDDEN:
        with pytest.raises(TypeError):
            hidden(x)
    assert to_numpy(x * np.float32(2) + 1).tolist() == [1.0, 3.0, 5.0]
    with pytest.raises(ValueError, match="must be same as the current device"):
        to_device(np.zeros(3), "cuda:1") + 1


# ------------------------------------------------------------------------------------------ captured graphs


def test_a_step_is_captured_once_for_all_windows(there, mel, monkeypatch):
    captured, capture = [], gpu_graph._capture
    monkeypatch.setattr(gpu_graph, "_capture", lambda launch: captured.append(launch) or capture(launch))
    features = there.encode(mel)
    for _ in range(2):
        there.decode(features[0], sample_len=3)
    assert len(captured) == 1
    there.decode(features[0], beam_size=3, sample_len=3)
    there.decode(features.repeat(3, axis=0), sample_len=3)
    assert len(captured) == 2  # for up to four rows: of a beam, and of three windows


def test_steps_without_graphs(there, tiny_en, monkeypatch):
    def fails(_):
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    monkeypatch.setattr(gpu_graph, "_capture", fails)
    with pytest.warns(UserWarning, match="cannot capture a CUDA graph on this GPU.*StreamCaptureUnsupported") as caught:
        assert tokens(there.transcribe(SHORT)) == tokens(tiny_en.transcribe(SHORT))
    assert len(caught) == 1


# ------------------------------------------------------------------------------------------ memory


def window_peaks(model, ledger) -> tuple[int, int]:
    """Return the peaks of encoding a window and of decoding it with the longest prompt, without the weights."""
    engine = model.engine  # reserves the predicted memory, once
    before = ledger.peak = ledger.alive
    features = model.encode(np.zeros((1, model.config.num_mel_bins, 3000), np.float32))
    encoder, ledger.peak = ledger.peak - before, ledger.alive
    with engine.session():
        cache = engine.new_cache(features)
        ((_, cache),) = engine.decode_batch([DecoderInput([[1] * 224], cache, [0, 223])])
        for _ in range(3):
            ((_, cache),) = engine.decode_batch([DecoderInput([[1]], cache, [0])])
    return encoder, ledger.peak - before


LARGER = [("base", "float16"), ("small", "float32"), ("medium", "float16")]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("tiny", "float32"), ("tiny", "float16"), *(pytest.param(*one, marks=pytest.mark.grid) for one in LARGER)],
)
def test_memory_is_as_predicted(name, dtype, gpus):
    gpus.limit = int(1.7 * 2**30)  # what a card of 2 GiB leaves for arrays
    model = minwhisper.Whisper.random(name, device="cuda", dtype=dtype)
    predicted = device_memory(PUBLISHED[name], dtype)
    assert gpus.alive == predicted.weights
    tile = model.engine._engine._tile
    smallest, predicted = predicted, device_memory(PUBLISHED[name], dtype, tile=tile)
    assert smallest.peak <= predicted.peak < gpus.limit  # tiles are larger if there is memory
    encoder, decoder = window_peaks(model, gpus)
    assert encoder == pytest.approx(predicted.encoder, rel=0.03)
    assert decoder == pytest.approx(predicted.buffers + predicted.cache + predicted.decoder, rel=0.03)


def test_predicted_memory_suffices_for_a_beam(gpus):
    model = minwhisper.Whisper.random("tiny", device="cuda", dtype="float16")
    engine, before = model.engine, gpus.alive
    predicted = device_memory(PUBLISHED["tiny"], "float16", sequences=5)
    with engine.session():
        features = model.encode(np.zeros((1, 80, 3000), np.float32))
        gpus.peak = gpus.alive
        ((_, cache),) = engine.decode_batch([DecoderInput([[1] * 250], engine.new_cache(features), [0])])
        for rows in ([0] * 5, [1, 0, 2, 4, 3], [4, 4, 0, 1, 2]):
            ((_, cache),) = engine.decode_batch([DecoderInput([[5]] * 5, cache.reorder(rows), [0])])
    assert gpus.peak - before <= predicted.cache + predicted.decoder


def test_memory_is_reserved_in_one_piece(gpus):
    model = minwhisper.Whisper.random("tiny", device="cuda", dtype="float16")
    assert gpus.alive == device_memory(PUBLISHED["tiny"], "float16").weights
    predicted = device_memory(PUBLISHED["tiny"], "float16", tile=model.engine._engine._tile)
    assert predicted.weights < gpus.alive <= predicted.weights + predicted.buffers + 4096  # allocated with the engine
    assert 0 <= gpus.peak - predicted.peak - MARGIN < 512  # sizes are rounded up
