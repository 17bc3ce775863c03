"""The command ``minwhisper info``: a model's configuration, parameters and memory."""

import argparse
import re
from collections.abc import Sequence
from math import prod

from ..checkpoints.configuration import read_config
from ..checkpoints.sources import find_checkpoint, short_name, wrap_os_errors
from ..common.console import Console
from ..errors import DeviceError
from ..fast.devices import describe_device, resolve_device
from ..fast.gpu.memory import GPU_DTYPES, T400, Card, device_memory, measure_card
from ..model.config import ALIASES, PUBLISHED, WhisperConfig
from ..model.weight_names import expected_shapes
from ..model.weights import DTYPES
from .arguments import CANDIDATES


def run(options: argparse.Namespace, console: Console) -> int:
    """Describe a model; returns the exit status."""
    name = ALIASES.get(options.model, options.model)
    known = PUBLISHED.get(short_name(name))  # published models need no checkpoint
    with wrap_os_errors(name):
        config = known or read_config(find_checkpoint(name))
    lines = describe(name, config)
    if options.device != "cpu":
        lines += _on_gpu(options.device, config)
    console.text("\n".join(lines))
    return 0


def _on_gpu(device: str, config: WhisperConfig) -> list[str]:
    """Describe the memory on a GPU: on this machine's, or, if there is none, on a small card."""
    try:
        place = resolve_device(device)
        if place == "cpu":  # "auto" without a GPU
            return []
        card, facts = measure_card(place), describe_device(place)
    except DeviceError as error:
        if not re.fullmatch(r"cuda(:\d+)?", device):
            raise
        card, context = T400, "context: driver, CUDA's libraries (estimated)"
        lines = [str(error)]
        where = f"a card of {card.total >> 20:,} MiB, for example"
    else:
        context = "outside of the pool: context, other processes"
        major, minor = facts.compute_capability
        lines = [
            f"{place}: {facts.name}, compute capability {major}.{minor}, {facts.total >> 20:,} MiB, "
            f"of which {facts.free >> 20:,} are free"
        ]
        if card.limit:
            lines.append(f"CuPy's pool is limited to {card.limit >> 20:,} MiB")
        where = f"the {card.total >> 20:,} MiB of this GPU"
    return ["", *lines, "", *describe_on_gpu(config, card, context), "", *describe_fitting(card, where)]


def describe_on_gpu(config: WhisperConfig, card: Card, context: str) -> list[str]:
    """Describe a model's memory on a GPU, in lines. ``context`` names what is used outside of CuPy's pool."""
    needed = [device_memory(config, dtype) for dtype in GPU_DTYPES]
    beams = [device_memory(config, dtype, sequences=CANDIDATES).peak for dtype in GPU_DTYPES]

    def line(title: str, sizes: Sequence[int]) -> str:
        return f"  {title:<57}" + "".join(f"{size / 2**20:>10,.0f}" for size in sizes)

    return [
        f"{'memory on a GPU, MiB':<59}" + "".join(f"{dtype:>10}" for dtype in GPU_DTYPES),
        line("weights", [one.weights for one in needed]),
        line("buffers of the decoder's steps", [one.buffers for one in needed]),
        line("encoding a window: activations", [one.encoder for one in needed]),
        line("decoding it: keys and values", [one.cache for one in needed]),
        line("             activations", [one.decoder for one in needed]),
        line("peak of CuPy's pool: weights, buffers, the larger of the two", [one.peak for one in needed]),
        line(context, [card.outside for _ in needed]),
        line("total", [one.peak + card.outside for one in needed]),
        line(f"total with {CANDIDATES} beams, at most", [size + card.outside for size in beams]),
    ]


def describe_fitting(card: Card, where: str) -> list[str]:
    """List the published models with their memory, and whether they fit."""
    columns = f"{'pool':>10}{'total':>8}{'fits':>6}"
    lines = [
        f"which models fit into {where}, with greedy decoding: MiB in CuPy's pool, and in total",
        f"  {'':<14}" + "".join(f"{dtype:>24}" for dtype in GPU_DTYPES),
        f"  {'':<14}" + columns * len(GPU_DTYPES),
    ]
    for name, config in PUBLISHED.items():
        line = f"  {name:<14}"
        for dtype in GPU_DTYPES:
            peak = device_memory(config, dtype).peak
            fits = "yes" if peak <= card.available else "no"
            line += f"{peak / 2**20:>10,.0f}{(peak + card.outside) / 2**20:>8,.0f}{fits:>6}"
        lines.append(line)
    return lines


def describe(name: str, config: WhisperConfig) -> list[str]:
    """Describe a model's configuration, parameters and memory, in lines."""
    sizes: dict[str, int] = {"encoder": 0, "decoder": 0}
    for weight, shape in expected_shapes(config).items():
        sizes[weight.partition(".")[0]] += prod(shape)
    total = sum(sizes.values())
    embedding = config.vocab_size * config.d_model
    c = config
    kind = "multilingual" if c.is_multilingual else "English only"
    lines = [
        f"{name}: {total / 1e6:.1f} million parameters, {kind}",
        f"  vocabulary   {c.vocab_size} tokens",
        f"  mel bins     {c.num_mel_bins}",
        f"  width        {c.d_model}",
        f"  encoder      {c.encoder_layers} blocks, {c.encoder_attention_heads} heads, MLP {c.encoder_ffn_dim}, "
        f"{c.max_source_positions} positions (30 s)",
        f"  decoder      {c.decoder_layers} blocks, {c.decoder_attention_heads} heads, MLP {c.decoder_ffn_dim}, "
        f"{c.max_target_positions} positions",
        "parameters",
        f"  encoder      {sizes['encoder']:>13,}",
        f"  decoder      {sizes['decoder']:>13,}  of which token embedding, also the output layer: {embedding:,}",
        f"  total        {total:>13,}",
        "memory of the weights",
    ]
    lines += [f"  {dtype:<12} {total * int(dtype[5:]) // 8 / 2**20:>10,.0f} MiB" for dtype in DTYPES]
    # Keys and values of each decoder block, for all positions of the audio and of the text.
    positions = c.max_source_positions + c.max_target_positions
    cache = 2 * c.decoder_layers * positions * c.d_model * 4
    lines.append(f"key-value cache of a window, full, float32: {cache / 2**20:,.0f} MiB")
    return lines
