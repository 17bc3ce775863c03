"""Rows of gpu.py about memory."""

import gc
from collections.abc import Iterator
from typing import Any

from gpu_lab import MIB, Lab, Size
from gpu_report import Bound, Cells, at_most, row
from gpu_t400 import ROOM
from gpu_work import filler, greedy_tokens
from minwhisper.fast.gpu.memory import CONTEXT, device_memory, measure_card, tile_bytes
from minwhisper.model.engine import DecoderInput

EXACT = 0.03  # maximum relative difference between measured and predicted peak
PARTS = [f"{part} MiB|.0f" for part in ("weights", "encoder", "decoder", "peak")]
TITLE = f"Peaks, CuPy's pool limited to {ROOM / 2**30:.2f} GiB"
PREDICTED = [part.replace(" MiB", " predicted") for part in PARTS]
TWO = [title for pair in zip(PARTS, PREDICTED, strict=True) for title in pair]


@row("memory", "Memory of the device outside CuPy's pool", "when", "MiB|.0f")
def context(lab: Lab) -> Iterator[Cells]:
    """Measure the memory of the context, and that of the driver for kernels, graphs and cuBLAS."""
    yield "at the start, with cuBLAS", lab.begun / MIB
    lab.forget()
    yield "now", lab.gpu.beside_arrays() / MIB
    yield "assumed", CONTEXT / MIB


@row("memory", TITLE, "model", *TWO, "of it|.3f", "pool holds MiB|.0f")
def peak(lab: Lab) -> Iterator[Cells]:
    """Encode a window, feed the longest prompt and fifty tokens: peaks of arrays compared with predictions."""
    lab.forget()
    for size in [*lab.sizes, *(Size(size.name, "float16") for size in lab.sizes), *lab.larger]:
        gc.collect()
        with lab.gpu.pool(ROOM) as pool:
            predicted, found, held = predicted_peaks(lab, size), [None] * 4, None
            try:
                found, held = peaks(lab, size, pool), pool.held() / MIB
            except Exception as error:  # CuPy's error for a full pool, or the package's
                lab.note(f"{size}: {type(error).__name__}: {error}")
            gc.collect()
        both = [value and value / MIB for pair in zip(found, predicted, strict=True) for value in pair]
        of_it = Bound(found[3] and found[3] / predicted[3], 1 - EXACT, 1 + EXACT)
        yield str(size), *both, of_it, held


def predicted_peaks(lab: Lab, size: Size) -> list[int]:
    """Return the predicted bytes on this card: weights, encoder and decoder beside them, and the peak."""
    config, dtype = lab.configs[size.name], size.dtype
    weights = device_memory(config, dtype).weights
    its = device_memory(config, dtype, tile=tile_bytes(config, dtype, measure_card(lab.device).available - weights))
    return [weights, its.buffers + its.encoder, its.buffers + its.cache + its.decoder, its.peak]


def peaks(lab: Lab, size: Size, pool: Any) -> list[float | None]:
    """Measure the bytes of the weights, of encoder and decoder beside them, and the overall peak."""
    model = lab.hollow_model(size)
    weights = pool.used()
    engine = model.engine  # creating it reserves all predicted memory, once
    pool.peak()
    features = model.encode(lab.mel(model))
    encoder = pool.peak() - weights
    with engine.session():
        half = model.config.max_target_positions // 2
        ((_, cache),) = engine.decode_batch(
            [DecoderInput(filler(model, half), engine.new_cache(features), [0, half - 1])]
        )
        for _ in range(50):
            ((_, cache),) = engine.decode_batch([DecoderInput(filler(model, 1), cache, [0])])
    decoder = pool.peak() - weights
    return [weights, encoder, decoder, weights + max(encoder, decoder)]


WINDOWS = "after the 5th MiB|.1f", "after the last MiB|.1f", "later peaks over the 5th MiB|.1f", "pool grew MiB|.1f"


@row("memory", "Window after window", "model", "windows", *WINDOWS)
def flat(lab: Lab) -> Iterator[Cells]:
    """Decode many windows: used bytes and peaks must not grow after the fifth."""
    with lab.gpu.pool() as pool:
        model = lab.model(lab.names[0], device=lab.device)
        mel, used, highest, held = lab.mel(model), [], [], []
        for number in range(lab.windows):
            greedy_tokens(model, mel[..., ::-1].copy() if number % 2 else mel, 20)
            used.append(pool.used() / MIB)
            highest.append(pool.peak() / MIB)
            held.append(pool.held() / MIB)
        growth = max(highest[4:]) - highest[4]
        yield (
            *(lab.names[0], lab.windows, used[4], at_most(used[-1], used[4] + 0.1)),
            *(at_most(growth, 0.1), at_most(held[-1] - held[4], 0.1)),
        )
        model = None
        gc.collect()
