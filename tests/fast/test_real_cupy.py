"""The whole GPU path with the real CuPy, on a simulated GPU: see tests/support/pretended_cuda.

Kernels are compiled from the same source as for a GPU and run on the CPU; streams run as late as CUDA allows. So this
tests everything but speed: kernels, products, graphs, copies, and their order.
"""

import threading
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

import minwhisper
from engine_pair import EnginePair
from inputs import DATA, SMALL, real_model
from minwhisper.common.backend import to_device, to_numpy
from minwhisper.fast.gpu import encoder as gpu_encoder
from minwhisper.fast.gpu.engine import GpuEngine, gpu_engine
from minwhisper.model.engine import DecoderInput, PlainEngine
from minwhisper.parity import comparison as parity
from vocabularies import made_up_tokenizer

pytestmark = [pytest.mark.cupy, pytest.mark.usefixtures("pretended_gpu")]

SHORT, SHORTER = DATA / "LJ001-0002.wav", DATA / "LJ001-0008.wav"
# Full length and a real vocabulary, but otherwise small, so that kernels on a CPU take about a second.
NARROW = replace(SMALL, vocab_size=51864, num_mel_bins=80)


def tokens(transcript) -> list[list[int]]:
    return [segment["tokens"] for segment in transcript["segments"]]


def small_mel(seed=0, bins=8, frames=300):
    return np.random.default_rng(seed).standard_normal((1, bins, frames)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny_en_on_gpu(pretended_cuda_started):
    """Return a model that encodes each window only once, since this takes seconds on a CPU."""
    original, kept = gpu_encoder.encode, {}

    def encode(mel, weights, *rest):
        key = to_numpy(mel).tobytes(), id(weights)
        if key not in kept:
            kept[key] = weights, original(mel, weights, *rest)
        return kept[key][1].copy()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gpu_encoder, "encode", encode)
        yield real_model("tiny.en", device="cuda")


def narrow(**where) -> minwhisper.Whisper:
    tokenizer = made_up_tokenizer(NARROW.vocab_size)
    return replace(minwhisper.Whisper.random(NARROW, seed=4, **where), tokenizer=tokenizer)


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float16", 1e-3)])  # also rounds keys and values
@pytest.mark.parametrize("backward", [False, True])
def test_features_prompts_and_steps_equal_the_readable_layers(backward, dtype, bound, pretended_gpu):
    on_cpu = minwhisper.Whisper.random(SMALL, seed=3, dtype=dtype)
    on_gpu = minwhisper.Whisper.random(SMALL, seed=3, dtype=dtype, device="cuda")
    engines = EnginePair(on_gpu.engine, PlainEngine(on_cpu.weights, SMALL), bound, on_gpu.device)
    with pretended_gpu.backward() if backward else nullcontext():
        exact = engines.theirs.encode(small_mel())
        assert parity.relative_difference(to_numpy(on_gpu.encode(small_mel())), exact) < 1e-5
        caches = engines.new_cache(exact)
        for new in ([1, 2, 3, 4], [5], [6], [7, 8, 9], list(range(20)), [10]):  # few rows, and many
            caches = engines.step([new], caches)


def test_a_graph_gives_the_same_bits_as_single_launches(pretended_gpu):
    on_gpu = minwhisper.Whisper.random(SMALL, seed=3, device="cuda")
    found = []
    for use_graph in (True, False):
        engine = gpu_engine(on_gpu.weights, on_gpu.config, on_gpu.device)
        assert isinstance(engine, GpuEngine)
        engine.runner.use_graph = use_graph
        pretended_gpu.forget_counts()
        cache = engine.new_cache(engine.encode(to_device(small_mel(), on_gpu.device)))
        steps = []
        for new in ([[1, 2]], [[3]], [[4], [5], [6]], [[7], [8], [9]]):
            cache = cache.reorder([0] * len(new)) if cache.rows < len(new) else cache
            ((logits, cache),) = engine.decode_batch([DecoderInput(new, cache, [len(new[0]) - 1])])
            steps.append(to_numpy(logits))
        assert pretended_gpu.count("cudaGraphLaunch").calls == 3 * use_graph
        found.append(steps)
    for replayed, launched in zip(*found, strict=True):
        np.testing.assert_array_equal(replayed, launched)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"sample_len": 9}, id="greedy"),
        pytest.param({"beam_size": 3, "patience": 1.5, "sample_len": 5}, id="beam"),
        pytest.param({"temperature": 0.7, "best_of": 2, "sample_len": 4}, id="sampled"),
    ],
)
def test_tokens_of_an_untrained_model_equal_the_cpus(options, pretended_gpu):
    mels = np.concatenate([small_mel(seed, 80, 3000) for seed in range(2)])
    on_cpu, on_gpu = (
        narrow(**where).decode(mels, generator=np.random.default_rng(1), **options)
        for where in ({}, {"device": "cuda"})
    )
    assert [result.tokens for result in on_gpu] == [result.tokens for result in on_cpu]
    for mine, exact in zip(on_gpu, on_cpu, strict=True):
        assert mine.avg_logprob == pytest.approx(exact.avg_logprob, rel=1e-4)
        assert mine.no_speech_prob == pytest.approx(exact.no_speech_prob, rel=1e-3)


@pytest.mark.longest
def test_a_beams_transcript_and_word_timestamps_equal_the_cpus(tiny_en, tiny_en_on_gpu):
    options = {"temperature": 0.0, "beam_size": 2, "word_timestamps": True}
    on_cpu, on_gpu = (model.transcribe(SHORTER, **options) for model in (tiny_en, tiny_en_on_gpu))
    assert tokens(on_gpu) == tokens(on_cpu)
    assert len(tokens(on_cpu)[0]) > 5
    for mine, exact in zip(on_gpu["segments"], on_cpu["segments"], strict=True):
        assert mine["avg_logprob"] == pytest.approx(exact["avg_logprob"], abs=1e-4)
        assert mine["no_speech_prob"] == pytest.approx(exact["no_speech_prob"], rel=1e-3, abs=1e-9)
        assert [word["word"] for word in mine["words"]] == [word["word"] for word in exact["words"]]
        for name in ("start", "end"):
            assert [word[name] for word in mine["words"]] == pytest.approx([word[name] for word in exact["words"]])


def test_batched_greedy_transcripts_equal_the_cpus(tiny_en, tiny_en_on_gpu):
    clips = [SHORTER, SHORT]
    on_cpu, on_gpu = (
        model.transcribe_many(clips, batch_size=2, temperature=0.0) for model in (tiny_en, tiny_en_on_gpu)
    )
    assert [tokens(one) for one in on_gpu] == [tokens(one) for one in on_cpu]


# ------------------------------------------------------------------------------------------ streams


def test_streams_wait_for_earlier_work(pretended_gpu):
    import cupy

    on_gpu = minwhisper.Whisper.random(SMALL, seed=3, device="cuda")
    engine = on_gpu.engine
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    cache = engine.new_cache(on_gpu.encode(small_mel()))
    ((_, cache),) = engine.decode_batch([DecoderInput([[1, 2, 3]], cache)])
    expected = [to_numpy(engine.decode_batch([DecoderInput([[token]], cache)])[0][0]) for token in (4, 5)]
    cupy.cuda.runtime.deviceSynchronize()
    found = []
    with pretended_gpu.log() as log:
        for stream, token in zip(streams, (4, 5), strict=True):
            with stream:
                found.append(engine.decode_batch([DecoderInput([[token]], cache)])[0][0])
        for stream, logits, exact in reversed(list(zip(streams, found, expected, strict=True))):
            with stream:
                np.testing.assert_array_equal(to_numpy(logits), exact)  # the later result is read first
    order = [line.split()[0] if line.startswith("stream") else line.split(" event")[0] for line in log]
    first = order.index("record")  # work on the first stream
    waits = [place for place, word in enumerate(order) if word == "stream" and place > first]
    second = [place for place, line in enumerate(log) if "graph" in line][1]
    assert any(first < place < second for place in waits)


def test_threads_share_a_model(pretended_gpu):
    import cupy

    on_gpu = narrow(device="cuda")
    mels = [small_mel(seed, 80, 3000) for seed in (0, 1)]
    options = [{"sample_len": 4}, {"sample_len": 3, "beam_size": 2}]
    expected = [on_gpu.decode(mel[0], **how).tokens for mel, how in zip(mels, options, strict=True)]
    found = [[], []]

    def work(number):
        with cupy.cuda.Stream(non_blocking=True):
            for _ in range(2):
                found[number].append(on_gpu.decode(mels[number][0], **options[number]).tokens)

    threads = [threading.Thread(target=work, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[one, one] for one in expected]
