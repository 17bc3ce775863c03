"""The command: transcribe files, describe a model, prove it, and learn from it.

Text goes to standard output, everything else to standard error. A bad input is one line and exit status 2; with
several files the others are still transcribed. Ctrl-C ends with status 130, SIGTERM with 143, and both keep what is
finished.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import minwhisper

from ..checkpoints.sources import short_name
from ..common.console import (
    Console,
    OutputClosedError,
    OutputError,
    prepare_streams,
    write_message,
    write_text,
)
from ..errors import OUT_OF_MEMORY, MinWhisperError, is_out_of_memory
from ..printable import printable
from ..whisper import load_model
from . import info as info_command
from . import transcribe as transcribe_command
from .arguments import add_arguments, add_device, add_place, add_threads
from .interrupts import Stopped, interruption


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default); returns the exit status."""
    prepare_streams()
    console = Console()
    with interruption.watched(), warnings.catch_warnings():
        warnings.showwarning = console.warn
        try:
            return _run(arguments, console)
        except Stopped:
            return interruption.status
        except KeyboardInterrupt:
            console.note("interrupted")
            return interruption.status
        except OutputClosedError:
            return 1
        except Exception as error:
            message = _message_of(error)
            if message is None:
                raise
        console.note(message)  # outside of the handler, whose error holds the memory that is missing
        return 2


def _run(arguments: Sequence[str] | None, console: Console) -> int:
    options = _parser().parse_args(arguments)
    status: int = options.run(options, console)
    return status


def _message_of(error: Exception) -> str | None:
    """Return the line that reports an error, or None for a fault of the program."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, MinWhisperError | OutputError):
        return str(error)
    if isinstance(error, OSError):
        what = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return printable(f"{what}the system reports {str(error.strerror or error)!r}")
    return None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Show one line, and the way to the help; then exit."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            (write_text if file is sys.stdout else write_message)(message)


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
    info.set_defaults(run=info_command.run)

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


# ------------------------------------------------------------------------------------------ parity


def _parity(options: argparse.Namespace, console: Console) -> int:
    from ..parity import comparison as parity

    parity.check_comparable(short_name(options.model) or options.model)  # before any download
    model = load_model(options.model, options.device, options.dtype)
    lines, verdicts = parity.compare(model, model.name)
    console.text(f"{model.name} on 11 s of speech, weights in {model.dtype}, {model.device}")
    console.text("largest, relative: difference from the stored float64 values; PyTorch: its own relative difference")
    columns = ["largest", "relative", "PyTorch"]
    if any(line.from_pytorch is not None for line in lines):
        columns.append("ours-PyTorch")
        console.text("ours-PyTorch: relative difference between the two, computed here, over the whole stage")
    console.text(f"\n{'stage':<18} {'shape':<16} " + " ".join(f"{column:>12}" for column in columns))
    for line in lines:
        values = (line.max_error, line.relative_error, line.pytorch_error, line.from_pytorch)[: len(columns)]
        figures = " ".join(f"{'-' if value is None else format(value, '.2e'):>12}" for value in values)
        console.text(f"{line.stage:<18} {'×'.join(map(str, line.shape)):<16} {figures}")
    for whom, equal in verdicts:
        console.text(f"{'tokens':<18} {'equal to' if equal else 'DIFFER from'} {whom}")
    # Judged by the exact values where there are any: PyTorch's own errors may add to ours.
    errors = {line.stage: line.from_pytorch if line.relative_error is None else line.relative_error for line in lines}
    far = [stage for stage, error in errors.items() if error is not None and error > parity.TOLERANCE]
    for stage in far:
        console.text(f"{stage} is off by more than {parity.TOLERANCE:g}")
    return 1 if far or not all(equal for _, equal in verdicts) else 0


# ------------------------------------------------------------------------------------------ bench


def _bench(options: argparse.Namespace, console: Console) -> int:
    from . import bench

    model = load_model(options.model, threads=options.threads)
    engine = bench.check_benchable(model)
    rates = bench.measure_rates(engine)
    console.text(f"{model.name} on {bench.machine(engine)}")
    console.text(f"products: {2 * rates.multiplications / 1e9:.0f} GFLOP/s; memory: {rates.bytes / 1e9:.0f} GB/s")
    console.text("floor: what the stage multiplies and reads, at those rates; medians\n")
    for title, stages in (
        ("a window of 30 s", bench.encoder_stages(model, engine, rates)),
        (f"a step, {bench.TOKENS} tokens in", bench.decoder_stages(model, engine, rates)),
    ):
        console.text(f"{title:<32} {'ms':>8} {'floor ms':>9} {'times':>6}")
        for name, seconds, floor in stages:
            least = f"{1e3 * floor:>9.2f} {seconds / floor:>6.1f}" if floor else ""
            console.text(f"{name:<32} {1e3 * seconds:>8.2f} {least}".rstrip())
        console.text("")
    return 0


# ------------------------------------------------------------------------------------------ the tutorial


def _walkthrough(options: argparse.Namespace, console: Console) -> int:
    from ..walkthrough.command import command

    return command(options, console)


def _exercise(options: argparse.Namespace, console: Console) -> int:
    from ..exercises import command

    return command(options.number, options.file, console)
