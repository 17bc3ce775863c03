"""Launches, transfers, device memory and registers of the GPU path, with the real CuPy on a simulated GPU.

Only the kernel that chooses tokens runs here, so the largest models are as fast as the smallest.
"""

import gc
from itertools import product

import numpy as np
import pytest

import minwhisper
from minwhisper.common.backend import reserve, to_device
from minwhisper.errors import DeviceMemoryError
from minwhisper.fast.gpu.decoder import Decoder
from minwhisper.fast.gpu.kernels import KERNEL_NAMES, LINEAR_BLOCKS, THREADS, options, source
from minwhisper.fast.gpu.memory import device_memory, measure_card, memory_pool, tile_bytes
from minwhisper.model.config import PUBLISHED
from minwhisper.model.weight_names import expected_shapes, nest
from minwhisper.model.weights import pool_bytes
from pretended_cuda import MIB
from pretended_cuda.build import headers
from pretended_cuda.cubin import resources
from vocabularies import made_up_tokenizer

pytestmark = [pytest.mark.cupy, pytest.mark.usefixtures("pretended_gpu")]

CARD = 2048 * MIB
PAGES = 3 * 2 * MIB  # weights, the other buffers and one more array each end inside a page
PROMPT = list(range(300))  # longer than the half of the context that is used
REGISTERS = 65536  # of a multiprocessor
# Bytes of local memory that these kernels may use; others may use none. linear uses all registers available to it,
# and each release of NVRTC from 13.0 to 13.5 spills up to 16 bytes of it for other GPUs. An array would take hundreds.
STACK = {"choose_tokens": 32, "linear": 16}


def hollow(name: str, dtype: str = "float32") -> minwhisper.Whisper:
    """Return a model with uninitialised weights, which takes no time to create."""
    import cupy

    config = PUBLISHED[name]
    expected = expected_shapes(config)
    reserve(pool_bytes(expected, dtype), "cuda:0")
    weights = nest({name: cupy.empty(shape, dtype) for name, shape in expected.items()})
    tokenizer = made_up_tokenizer(config.vocab_size)
    return minwhisper.Whisper(config, weights, tokenizer=tokenizer, device="cuda:0", dtype=dtype)


def silence(model, *windows: int) -> np.ndarray:
    return np.zeros((*windows, model.config.num_mel_bins, 3000), np.float32)


def decode(model, *windows: int, **options):
    language = {"language": "en"} if model.config.is_multilingual else {}
    return model.decode(silence(model, *windows), **{"sample_len": 4, **language, **options})


@pytest.fixture
def choosing(pretended_gpu, monkeypatch):
    """Return the simulated GPU with an empty pool, where only choose_tokens runs; all tokens are equally likely."""
    gc.collect()
    memory_pool().free_all_blocks()
    original = Decoder.logits

    def logits(self, rows, out, *rest):
        original(self, rows, out, *rest)
        out.data.memset_async(0, out.nbytes)  # runs, because it is not a kernel

    monkeypatch.setattr(Decoder, "logits", logits)
    with pretended_gpu.without_computing(but="choose_tokens"):
        yield pretended_gpu


@pytest.fixture
def small_card(choosing):
    """Limit the GPU to 2 GiB, of which CUDA's context takes 256 MiB."""
    assert choosing.taken == 0, "a failed test still holds its model"
    choosing.card(CARD)
    return choosing


# ------------------------------------------------------------------------------------------ launches and transfers


@pytest.mark.parametrize(("name", "encoder", "step"), [("tiny", 71, 35), ("base", 103, 51), ("small", 199, 99)])
def test_the_encoder_and_a_step_launch_no_more_kernels_than_counted_here(name, encoder, step, choosing):
    model = hollow(name)
    mel = to_device(silence(model, 1), model.device)
    choosing.forget_counts()
    model.engine.encode(mel)
    assert choosing.count("launch").calls <= encoder
    decode(model)
    assert choosing.count("captured launch").calls <= step


def cost_of_a_token(gpu, model, *windows: int, **options) -> dict[str, tuple[float, float]]:
    """Return calls and bytes per token, by the kind of call, for calls that are made for each token."""
    found = []
    decode(model, *windows, **options)  # do first what is done only once
    for length in (4, 8):
        gpu.forget_counts()
        decode(model, *windows, sample_len=length, **options)
        found.append(gpu.counts())
    short, long = found
    none = (0, 0)
    costs = {name: [(long[name][i] - short.get(name, none)[i]) / 4 for i in (0, 1)] for name in long}
    return {name: tuple(cost) for name, cost in costs.items() if cost != [0, 0] and "Event" not in name}


@pytest.mark.parametrize("windows", [(), (5,)], ids=["one window", "a batch"])
def test_a_greedy_token_is_one_launch_and_eight_bytes_per_window(windows, choosing):
    assert cost_of_a_token(choosing, hollow("tiny.en"), *windows) == {
        "cudaGraphLaunch": (1, 0),
        "download": (1, 8 * sum(windows or (1,))),
        "cudaStreamSynchronize": (1, 0),
    }


@pytest.mark.parametrize("options", [{"beam_size": 2}, {"temperature": 0.5, "best_of": 3}], ids=["beam", "samples"])
def test_beams_and_samples_upload_a_table_and_launch_once_per_token(options, choosing):
    cost = cost_of_a_token(choosing, hollow("tiny.en"), generator=np.random.default_rng(0), **options)
    assert cost["cudaGraphLaunch"] == (1, 0)
    assert cost["upload"][0] == cost["download"][0] == 1
    assert cost["upload"][1] < 4 * 8 * (448 + 32)  # the slot addresses of four rows, and the fields
    assert set(cost) == {"cudaGraphLaunch", "download", "upload", "cudaStreamSynchronize"}


def test_a_window_uploads_its_mel_and_its_prompt(choosing):
    model = hollow("tiny.en")
    decode(model, prompt=PROMPT)
    choosing.forget_counts()
    decode(model, prompt=PROMPT)
    uploads, mel = choosing.count("upload"), silence(model).nbytes
    assert uploads.calls <= 3  # the mel, the tables of the prompt and of the first step
    assert mel < uploads.bytes < mel + 100_000
    assert choosing.count("download").bytes < 200
    assert choosing.count("cudaMalloc").calls == 0


# ------------------------------------------------------------------------------------------ memory

FITTING = [
    *product(("tiny", "base", "small"), ("float32", "float16")),
    *(("medium", "float16"), ("large-v3-turbo", "float16")),
]


def predicted(name: str, dtype: str, texts: int = 1) -> int:
    """Return the predicted peak, with the tiles that the engine uses on this card."""
    config = PUBLISHED[name]
    weights = device_memory(config, dtype).weights
    tile = tile_bytes(config, dtype, measure_card("cuda:0").available + memory_pool().used_bytes() - weights)
    return device_memory(config, dtype, texts, tile).peak


@pytest.mark.parametrize(("name", "dtype"), FITTING)
def test_memory_of_windows_and_of_a_beam_is_as_predicted(name, dtype, small_card):
    config, expected = PUBLISHED[name], predicted(name, dtype)
    assert expected < CARD - 256 * MIB
    model = hollow(name, dtype)
    for _ in range(3):
        decode(model, prompt=PROMPT)
    assert 0.97 * expected <= small_card.peak <= 1.02 * expected + PAGES
    assert memory_pool().total_bytes() <= 1.03 * expected
    if name == "medium":  # a beam does not fit
        return
    held = []
    for _ in range(3):
        decode(model, prompt=PROMPT, beam_size=5)
        held.append(memory_pool().total_bytes())
    assert held[1:] == held[-1:] * 2  # no growth after the second window
    # Step buffers split the reserved block. If the card has enough memory, all scores get a block of their own.
    expected = predicted(name, dtype, 5)
    scores = 4 * config.encoder_attention_heads * config.max_source_positions**2
    assert held[-1] <= 1.03 * expected + (scores if 2 * expected < CARD else 0)


def test_a_beam_that_does_not_fit_is_an_error_and_the_next_window_works(small_card):
    assert predicted("medium", "float16", 5) > CARD - 256 * MIB
    model = hollow("medium", "float16")
    with pytest.raises(DeviceMemoryError, match="beam_size"):
        decode(model, beam_size=5)
    assert len(decode(model).tokens) == 4


# ------------------------------------------------------------------------------------------ compilation


@pytest.mark.parametrize(("dtype", "capability"), [("float32", 75), ("float16", 75), ("float16", 90)])
def test_kernels_compile_for_old_and_new_gpus_without_spilling(dtype, capability):
    from cupy.cuda.compiler import compile_using_nvrtc

    flags = ("-std=c++17", *options(dtype), *(f"-I{folder}" for folder in headers()))
    cubin, _ = compile_using_nvrtc(source(), flags, str(capability), "kernels.cu")
    needed = resources(cubin)
    assert set(needed) == set(KERNEL_NAMES)
    for name, (registers, stack) in needed.items():
        assert registers * THREADS <= REGISTERS
        assert stack <= STACK.get(name, 0), f"{name}: {stack} bytes of local memory"
    assert needed["linear"].registers * LINEAR_BLOCKS * THREADS <= REGISTERS
