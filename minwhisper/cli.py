"""The command: transcribe files, describe a model, prove it, and learn from it.

Text goes to standard output, everything else to standard error. A bad input is one line and exit status 2; with
several files the others are still transcribed. Ctrl-C ends with status 130.
"""

import argparse
import re
import sys
import warnings
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NoReturn

import minwhisper

from . import transcribe_command
from .checkpoint_config import read_config
from .config import ALIASES, PUBLISHED, WhisperConfig
from .console import Console, drop_output, prepare_streams
from .devices import describe_device, resolve_device
from .errors import DeviceError, MinWhisperError
from .fast.gpu_memory import GPU_DTYPES, T400, Card, device_memory, measure_card
from .model import load_model
from .names import expected_shapes
from .sources import find_checkpoint, short_name
from .transcribe_arguments import CANDIDATES, add_arguments, add_device, add_place, add_threads
from .transcribe_command import INTERRUPTED
from .weights import DTYPES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default); returns the exit status."""
    prepare_streams()
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = console.warn
            status: int = options.run(options, console)
        sys.stdout.flush()
    except MinWhisperError as error:
        console.note(error)
        return 2
    except KeyboardInterrupt:
        console.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        drop_output()
        return 1
    except OSError as error:  # a full disk
        drop_output()
        console.note(f"cannot write: {error.strerror or error}; is there space left?")
        return 2
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and where to read more."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="minwhisper", description="Whisper, written from scratch in NumPy.")
    parser.add_argument("--version", action="version", version=f"minwhisper {minwhisper.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    transcribe = commands.add_parser("transcribe", help="turn speech into text")
    add_arguments(transcribe)
    transcribe.set_defaults(run=transcribe_command.run)

    info = commands.add_parser("info", help="the configuration, parameters and memory of a model")
    info.add_argument("model", metavar="MODEL", help="a published name, or a folder or hub id with a checkpoint")
    add_device(info)
    info.set_defaults(run=_info)

    parity = commands.add_parser("parity", help="how exact the layers are, stage by stage")
    parity.add_argument("model", metavar="MODEL", help="tiny.en and base have a stored reference")
    add_place(parity, dtype="float32")
    parity.set_defaults(run=_parity)

    bench = commands.add_parser("bench", help="where the time goes on this machine's CPU, stage by stage")
    bench.add_argument("model", metavar="MODEL", nargs="?", default="tiny.en", help="tiny.en by default")
    add_threads(bench)
    bench.set_defaults(run=_bench)

    walkthrough = commands.add_parser("walkthrough", help="the tutorial, from a waveform to words")
    add_device(walkthrough)
    walkthrough.add_argument("--section", type=int, metavar="N", help="show only this one; those before it run unseen")
    walkthrough.add_argument("--model", default="tiny.en", help="tiny.en, or base; its outputs are not compared")
    walkthrough.add_argument("--html", type=Path, metavar="OUT.html", help="also write a page with everything in it")
    walkthrough.add_argument("--update", action="store_true", help="rewrite the text's outputs, listings and pictures")
    walkthrough.set_defaults(run=_walkthrough)

    exercise = commands.add_parser("exercise", help="the exercises of the tutorial: list, show and check them")
    exercise.add_argument("number", nargs="?", type=int, metavar="N", help="show this one")
    exercise.add_argument("file", nargs="?", type=Path, metavar="FILE.py", help="check the function in this file")
    exercise.set_defaults(run=_exercise)
    return parser


# ------------------------------------------------------------------------------------------ info


def _info(options: argparse.Namespace, _console: Console) -> int:
    name = ALIASES.get(options.model, options.model)
    known = PUBLISHED.get(short_name(name))  # a published one needs no checkpoint
    config = known or read_config(find_checkpoint(name))
    lines = describe(name, config)
    if options.device != "cpu":
        lines += _on_gpu(options.device, config)
    print("\n".join(lines))
    return 0


def _on_gpu(device: str, config: WhisperConfig) -> list[str]:
    """The lines about a GPU: its own memory where there is one, and a small card's where there is none."""
    try:
        place = resolve_device(device)
        if place == "cpu":  # which is what "auto" has come to
            return []
        card, facts = measure_card(place), describe_device(place)
    except DeviceError as error:
        if not re.fullmatch(r"cuda(:\d+)?", device):
            raise
        card, context = T400, "the context: driver, CUDA's libraries (a guess)"
        lines = [str(error)]
        whose = f"a card of {card.total >> 20:,} MiB, for example"
    else:
        context = "outside of it: the context, and other processes' use"
        major, minor = facts.compute_capability
        lines = [
            f"{place}: {facts.name}, compute capability {major}.{minor}, {facts.total >> 20:,} MiB, "
            f"of which {facts.free >> 20:,} are free"
        ]
        if card.limit:
            lines.append(f"CuPy's pool is limited to {card.limit >> 20:,} MiB")
        whose = f"the {card.total >> 20:,} MiB of this GPU"
    return ["", *lines, "", *describe_on_gpu(config, card, context), "", *describe_fitting(card, whose)]


def describe_on_gpu(config: WhisperConfig, card: Card, context: str) -> list[str]:
    """What a model takes on a GPU, in lines; ``context`` says what is taken outside of CuPy's pool."""
    needed = [device_memory(config, dtype) for dtype in GPU_DTYPES]
    beams = [device_memory(config, dtype, texts=CANDIDATES).peak for dtype in GPU_DTYPES]

    def line(title: str, sizes: Sequence[int]) -> str:
        return f"  {title:<54}" + "".join(f"{size / 2**20:>10,.0f}" for size in sizes)

    return [
        f"{'memory on a GPU, MiB':<56}" + "".join(f"{dtype:>10}" for dtype in GPU_DTYPES),
        line("weights", [one.weights for one in needed]),
        line("while a window is encoded: activations", [one.encoder for one in needed]),
        line("while it is decoded: keys and values", [one.cache for one in needed]),
        line("                     activations", [one.decoder for one in needed]),
        line("peak of CuPy's pool: weights, and the larger of both", [one.peak for one in needed]),
        line(context, [card.outside for _ in needed]),
        line("together", [one.peak + card.outside for one in needed]),
        line(f"and with a beam of {CANDIDATES}, at most", [size + card.outside for size in beams]),
    ]


def describe_fitting(card: Card, whose: str) -> list[str]:
    """What each published model takes in all, and whether it fits: in lines."""
    columns = f"{'pool':>10}{'in all':>8}{'fits':>6}"
    lines = [
        f"which models fit into {whose}, decoding greedily: MiB in the pool, and with what is outside of it",
        f"  {'':<14}" + "".join(f"{dtype:>24}" for dtype in GPU_DTYPES),
        f"  {'':<14}" + columns * len(GPU_DTYPES),
    ]
    for name, config in PUBLISHED.items():
        line = f"  {name:<14}"
        for dtype in GPU_DTYPES:
            peak = device_memory(config, dtype).peak
            fits = "yes" if peak <= card.room else "no"
            line += f"{peak / 2**20:>10,.0f}{(peak + card.outside) / 2**20:>8,.0f}{fits:>6}"
        lines.append(line)
    return lines


def describe(name: str, config: WhisperConfig) -> list[str]:
    """A model in lines: its configuration, where its parameters are, and its memory at each dtype."""
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
        f"  decoder      {sizes['decoder']:>13,}  of these {embedding:,} the token embedding, which is also the output",
        f"  together     {total:>13,}",
        "memory of the weights",
    ]
    lines += [f"  {dtype:<12} {total * int(dtype[5:]) // 8 / 2**20:>10,.0f} MiB" for dtype in DTYPES]
    # While decoding: keys and values, for each decoder block those of the sound and of all text positions.
    positions = c.max_source_positions + c.max_target_positions
    cache = 2 * c.decoder_layers * positions * c.d_model * 4
    lines.append(f"key-value cache of a window, full, float32: {cache / 2**20:,.0f} MiB")
    return lines


# ------------------------------------------------------------------------------------------ parity


def _parity(options: argparse.Namespace, _console: Console) -> int:
    from . import parity

    parity.check_comparable(short_name(options.model) or options.model)  # before any download
    model = load_model(options.model, options.device, options.dtype)
    lines, verdicts = parity.compare(model, model.name)
    print(f"{model.name} on 11 s of speech, weights in {model.dtype}, {model.device}")
    print("largest, relative: difference from the float64 values that are stored; PyTorch: its own relative difference")
    columns = ["largest", "relative", "PyTorch"]
    if any(line.from_pytorch is not None for line in lines):
        columns.append("ours-PyTorch")
        print("ours-PyTorch: relative difference between the two, computed here, over the whole stage")
    print(f"\n{'stage':<18} {'shape':<16} " + " ".join(f"{column:>12}" for column in columns))
    for line in lines:
        values = (line.largest, line.relative, line.pytorch, line.from_pytorch)[: len(columns)]
        figures = " ".join(f"{'-' if value is None else format(value, '.2e'):>12}" for value in values)
        print(f"{line.stage:<18} {'×'.join(map(str, line.shape)):<16} {figures}")
    for whom, equal in verdicts:
        print(f"{'tokens':<18} {'equal to' if equal else 'DIFFER from'} {whom}")
    # Judged by the exact values where there are any: PyTorch's own errors may add to ours.
    errors = {line.stage: line.from_pytorch if line.relative is None else line.relative for line in lines}
    far = [stage for stage, error in errors.items() if error is not None and error > parity.TOLERANCE]
    for stage in far:
        print(f"{stage} is off by more than {parity.TOLERANCE:g}")
    return 1 if far or not all(equal for _, equal in verdicts) else 0


# ------------------------------------------------------------------------------------------ bench


def _bench(options: argparse.Namespace, _console: Console) -> int:
    from . import bench

    model = load_model(options.model, threads=options.threads)
    engine = bench.check_benchable(model)
    rates = bench.measure_rates(engine)
    print(f"{model.name} on {bench.machine(engine)}")
    print(f"products: {2 * rates.multiplications / 1e9:.0f} GFLOP/s; memory: {rates.bytes / 1e9:.0f} GB/s")
    print("floor: what the stage multiplies and reads, at those rates; medians\n")
    for title, stages in (
        ("a window of 30 s", bench.encoder_stages(model, engine, rates)),
        (f"a step, {bench.TOKENS} tokens in", bench.decoder_stages(model, engine, rates)),
    ):
        print(f"{title:<32} {'ms':>8} {'floor ms':>9} {'times':>6}")
        for name, seconds, floor in stages:
            least = f"{1e3 * floor:>9.2f} {seconds / floor:>6.1f}" if floor else ""
            print(f"{name:<32} {1e3 * seconds:>8.2f} {least}".rstrip())
        print()
    return 0


# ------------------------------------------------------------------------------------------ the tutorial


def _walkthrough(options: argparse.Namespace, console: Console) -> int:
    from .walkthrough.command import command

    return command(options, console)


def _exercise(options: argparse.Namespace, console: Console) -> int:
    from .exercises import command

    return command(options.number, options.file, console)
