"""The command ``minwhisper bench``: time every stage on a CPU, and compare with the lowest possible time.

A stage cannot be faster than its multiplications at the machine's matmul rate, nor than reading its data at the
machine's memory bandwidth. Both rates are measured here, with the model's number of threads. Each stage is timed
separately, on the data of a real recording.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..audio.load import pad_or_trim
from ..audio.mel import log_mel_spectrogram
from ..common.backend import Array
from ..common.console import Console
from ..decoding.decode import logit_filters_for
from ..decoding.options import DecodingOptions
from ..decoding.search import Candidate, greedy
from ..errors import OptionError
from ..fast.cpu import decoder as cpu_decoder
from ..fast.cpu import encoder as cpu_encoder
from ..fast.cpu.engine import CpuEngine
from ..fast.cpu.layers import attend, gelu, layer_norm, linear, matmul, tiles, weighted_sum, workspace
from ..fast.cpu.threads import blas_libraries, one_blas_thread
from ..model.engine import DecoderInput
from ..parity.comparison import clip_samples
from ..whisper import Whisper, load_model

TOKENS = 100  # tokens before the decoder step that is timed
ROUNDS = 7


class Rates(NamedTuple):
    """The machine's rates."""

    multiplications: float  # per second, in matmuls of the encoder's size
    bytes: float  # per second, read from memory


class Stage(NamedTuple):
    """A stage of the model, timed."""

    name: str
    seconds: float  # per window, or per decoder step
    floor: float  # the lowest possible time in seconds; 0 if unknown


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the time of every stage; returns the exit status."""
    model = load_model(options.model, threads=options.threads)
    engine = cpu_engine(model)
    rates = measure_rates(engine)
    console.text(f"{model.name} on {describe_machine(engine)}")
    console.text(f"products: {2 * rates.multiplications / 1e9:.0f} GFLOP/s; memory: {rates.bytes / 1e9:.0f} GB/s")
    console.text("floor: the stage's multiplications and memory reads at these rates; times are medians\n")
    for title, stages in (
        ("a window of 30 s", encoder_stages(model, engine, rates)),
        (f"a step after {TOKENS} tokens", decoder_stages(model, engine, rates)),
    ):
        console.text(f"{title:<32} {'ms':>8} {'floor ms':>9} {'times':>6}")
        for name, seconds, floor in stages:
            ratio = f"{1e3 * floor:>9.2f} {seconds / floor:>6.1f}" if floor else ""
            console.text(f"{name:<32} {1e3 * seconds:>8.2f} {ratio}".rstrip())
        console.text("")
    return 0


def cpu_engine(model: Whisper) -> CpuEngine:
    """Return the engine to time. Raises ``OptionError`` for a model with another engine."""
    if not isinstance(model.engine, CpuEngine):
        raise OptionError(f"{model.name}: expected a float32 model on the CPU, got {model!r}")
    return model.engine


def describe_machine(engine: CpuEngine) -> str:
    """Describe the machine in one line."""
    libraries = ", ".join(f"{name} {version}" for name, version in blas_libraries()) or "an unknown library"
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {engine.pool.count} threads; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, products by {libraries}"
    )


def median_seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median time of several calls, after a warm-up call."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure_rates(engine: CpuEngine) -> Rates:
    """Measure the rates: multiply matrices of the encoder's size, and read more memory than any cache holds."""
    width, length = engine.config.d_model, engine.config.max_source_positions
    x, weight = np.ones((length, width), np.float32), np.ones((width, 4 * width), np.float32)
    out = np.empty((length, 4 * width), np.float32)
    large = np.ones((64, 500_000), np.float32)  # 128 MB
    with one_blas_thread():
        multiply = median_seconds(lambda: engine.pool.run(lambda r: np.matmul(x[r], weight, out=out[r]), tiles(length)))
        read = median_seconds(lambda: engine.pool.run(lambda row: np.maximum.reduce(row), large))
    return Rates(length * width * 4 * width / multiply, large.nbytes / read)


def encoder_stages(model: Whisper, engine: CpuEngine, rates: Rates) -> Iterator[Stage]:
    """Time the stages of one window, from samples to features, and the encoder as a whole."""
    config, pool, weights = model.config, engine.pool, engine.encoder
    T, D, F, H = config.max_source_positions, config.d_model, config.encoder_ffn_dim, config.encoder_attention_heads
    layers = config.encoder_layers
    samples = pad_or_trim(clip_samples())
    mel = log_mel_spectrogram(samples, config.num_mel_bins)
    block = weights.blocks[0]

    def floor(multiplications: float, values: float) -> float:
        return max(multiplications / rates.multiplications, 4 * values / rates.bytes)

    def timed(name: str, work: Callable[[slice], object], multiplications: float, values: float) -> Stage:
        """Time a stage of every block, tile by tile."""
        taken = median_seconds(lambda: pool.run(work, tiles(T)))
        return Stage(name, layers * taken, layers * floor(multiplications, values))

    with one_blas_thread():
        x = np.empty((T, D), np.float32)
        yield Stage("mel", median_seconds(lambda: log_mel_spectrogram(samples, config.num_mel_bins), 3), 0.0)
        stem = 2 * T * 3 * config.num_mel_bins * D + T * 3 * D * D
        yield Stage("stem", median_seconds(lambda: cpu_encoder.stem(mel, weights, x, pool)), floor(stem, 3 * T * D))
        qkv = cpu_encoder.QKV.empty("bench", T, D, H)
        pool.run(lambda rows: cpu_encoder.project_qkv(x, rows, block, qkv), tiles(T))
        hidden, out = np.empty((T, F), np.float32), np.empty((T, D), np.float32)
        query_key_value = np.empty((T, 3 * D), np.float32)

        def attention(rows: slice, whole: bool) -> None:
            for head, values in enumerate(qkv.values):
                its = slice(head * D // H, (head + 1) * D // H)
                queries, keys = qkv.queries[rows, its], qkv.keys[its]
                if whole:
                    attend(queries, keys, values, out=out[rows, its], max_score=0.0)
                else:
                    scores = matmul(queries, keys, workspace("scores", len(queries), T))
                    weighted_sum(scores, values, out[rows, its])

        def norms(rows: slice) -> None:
            layer_norm(x[rows], **block.attention_norm, out=out[rows])
            layer_norm(x[rows], **block.mlp_norm, out=out[rows])

        yield timed("layer norms", norms, 0, 4 * T * D)

        def projections(rows: slice) -> None:
            linear(x[rows], *block.query_key_value, out=query_key_value[rows])
            linear(x[rows], *block.out, out=out[rows])

        yield timed("query, key, value and output", projections, 4 * T * D * D, 6 * T * D + 4 * D * D)
        products = timed("attention, products", lambda r: attention(r, whole=False), 2 * T * T * D, 4 * T * D)
        yield products
        both = timed("", lambda r: attention(r, whole=True), 0, 0)
        yield Stage("attention, softmax", max(both.seconds - products.seconds, 0.0), 0.0)

        def mlp(rows: slice) -> None:
            linear(x[rows], *block.fc1, out=hidden[rows])
            linear(hidden[rows], *block.fc2, out=out[rows])

        yield timed("MLP, products", mlp, 2 * T * D * F, 2 * T * (D + F) + 2 * D * F)
        yield timed("GELU", lambda r: gelu(hidden[r]), 0, 2 * T * F)
    whole = stem + layers * (4 * T * D * D + 2 * T * T * D + 2 * T * D * F)
    yield Stage("encoder, whole", median_seconds(lambda: engine.encode(mel[None])), whole / rates.multiplications)


def decoder_stages(model: Whisper, engine: CpuEngine, rates: Rates) -> Iterator[Stage]:
    """Time the stages of one decoder step, and the preparation of a window for the first step."""
    config, tokenizer = model.config, model.tokenizer
    T, D, F, V = config.max_source_positions, config.d_model, config.decoder_ffn_dim, config.vocab_size
    features = engine.encode(log_mel_spectrogram(pad_or_trim(clip_samples()), config.num_mel_bins)[None])
    layers = config.decoder_layers
    with engine.session():
        least = 2 * layers * T * D * D / rates.multiplications
        yield Stage("cross-attention keys and values", median_seconds(lambda: engine.new_cache(features)), least)
        text = [tokenizer.sot, *[tokenizer.encode(" the")[0]] * (TOKENS - 1)]
        before = engine.new_cache(features)
        [(_, cache)] = engine.decode_batch([DecoderInput([text], before, [0])])
        token = [[text[-1]]]

        def step() -> Array:
            # The buffer is shared by all continuations of these tokens: release the position that this step took.
            [(logits, _)] = engine.decode_batch([DecoderInput(token, cache)])
            cache.self_attention.filled = cache.length
            return logits

        logits = step()[0]
        matrices = layers * (6 * D * D + 2 * D * F)
        cached = 2 * layers * (T + TOKENS) * D
        yield Stage("decoder step", median_seconds(step, 30), 4 * (matrices + cached + V * D) / rates.bytes)
        x = np.ones((1, D), np.float32)
        taken = median_seconds(lambda: cpu_decoder.unembed(x.copy(), engine.decoder, engine.pool), 30)
        yield Stage("  of which the logits", taken, 4 * V * D / rates.bytes)
        filters, sequences = logit_filters_for(DecodingOptions(), tokenizer), [tuple(text[1:])]

        def choose() -> object:
            scores = logits
            for logit_filter in filters:
                scores = logit_filter(scores, sequences)
            return greedy(scores, [Candidate(sequences[0], 0.0)])

        yield Stage("logit filters and greedy choice", median_seconds(choose, 30), 0.0)
    yield Stage("tokenizer: 100 tokens to text", median_seconds(lambda: tokenizer.decode(text)), 0.0)
