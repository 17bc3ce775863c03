"""The command: transcribe files, describe a model, prove it.

Text goes to standard output, everything else to standard error. A bad input is one line and exit status 2; with
several files the others are still transcribed. Ctrl-C ends with status 130.
"""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, NoReturn

import minwhisper

from .checkpoint import DTYPES, read_config
from .config import ALIASES, PUBLISHED, WhisperConfig
from .errors import MinWhisperError
from .model import Whisper, load_model
from .names import expected_shapes
from .sources import default_model, find_checkpoint, short_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default); returns the exit status."""
    _prepare_streams()
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status: int = options.run(options)
        sys.stdout.flush()
    except MinWhisperError as error:
        print(f"minwhisper: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minwhisper: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        _drop_output()
        return 1
    except OSError as error:  # a full disk
        _drop_output()
        print(f"minwhisper: cannot write: {error.strerror or error}; is there space left?", file=sys.stderr)
        return 2
    return status


def _prepare_streams() -> None:
    """What the terminal's encoding lacks is escaped and not a crash; a closed stream swallows what it is given."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Send what is still to be written nowhere, lest Python tries again when it ends, and complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as a line, without the place in the code that it came from."""
    print(f"minwhisper: warning: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and where to read more."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="minwhisper", description="Whisper, written from scratch in NumPy.")
    parser.add_argument("--version", action="version", version=f"minwhisper {minwhisper.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    transcribe = commands.add_parser("transcribe", help="turn speech into text")
    transcribe.add_argument("files", nargs="+", metavar="FILE", help="anything that holds sound; - for standard input")
    transcribe.add_argument("--language", help="code or English name; if not given, a multilingual model hears it")
    transcribe.add_argument(
        "--task", choices=("transcribe", "translate"), default="transcribe", help="translate: to English"
    )
    transcribe.add_argument("--timestamps", action="store_true", help="a line a segment, with its times")
    transcribe.add_argument(
        "--model", help="published name, hub id or folder (default: tiny.en or tiny, by what is at hand)"
    )
    _place_options(transcribe)
    transcribe.set_defaults(run=_transcribe)

    info = commands.add_parser("info", help="the configuration, parameters and memory of a model")
    info.add_argument("model", metavar="MODEL", help="a published name, or a folder or hub id with a checkpoint")
    info.set_defaults(run=_info)

    parity = commands.add_parser("parity", help="how exact the layers are, stage by stage")
    parity.add_argument("model", metavar="MODEL", help="tiny.en and base have a stored reference")
    _place_options(parity)
    parity.set_defaults(run=_parity)
    return parser


def _place_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …, or auto (default: cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="how weights are stored (default: float32)")


# ------------------------------------------------------------------------------------------ transcribe


def _transcribe(options: argparse.Namespace) -> int:
    name = options.model
    if name is None:
        name, reason = default_model()
        knows = ", English only" if name.endswith(".en") else ""
        print(f"minwhisper: model {name}{knows}: {reason}; --model chooses another", file=sys.stderr)
    model = load_model(name, options.device, options.dtype)
    if options.language is not None or options.task != "transcribe":
        model.tokenizer.prompt(options.language or "en", options.task, timestamps=True)  # refuse before any work
    status = 0
    for file in options.files:
        try:
            _transcribe_file(model, file, options)
        except MinWhisperError as error:
            print(f"minwhisper: {error}", file=sys.stderr)
            status = 2
    return status


def _transcribe_file(model: Whisper, file: str, options: argparse.Namespace) -> None:
    with _progress_bar(file) as progress:
        result = model.transcribe(file, language=options.language, task=options.task, progress=progress)
    several = len(options.files) > 1
    if options.timestamps:
        if several:
            print(f"{_printable(file)}:")
        for segment in result["segments"]:
            print(f"[{_clock(segment['start'])} --> {_clock(segment['end'])}] {segment['text'].strip()}")
    else:
        text = result["text"].strip()
        print(f"{_printable(file)}: {text}" if several else text)
    sys.stdout.flush()


def _printable(name: str) -> str:
    """A file's name on one line, with what is no visible character escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)


def _clock(seconds: float) -> str:
    """Seconds as minutes, seconds and milliseconds, with hours where there are any.

    >>> _clock(7.74), _clock(3725.5)
    ('00:07.740', '01:02:05.500')
    """
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours:02d}:" if hours else "") + f"{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


@contextmanager
def _progress_bar(title: str, width: int = 30) -> Iterator[Any]:
    """A callback that draws a bar in seconds of sound on standard error; None if that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return

    def draw(done: float, total: float) -> None:
        filled = round(width * done / total) if total else width
        bar = "█" * filled + "░" * (width - filled)
        print(f"\r{title[:40]} {bar} {done:.1f} of {total:.1f} s", end="", file=sys.stderr, flush=True)

    print(f"\r{title[:40]} …", end="", file=sys.stderr, flush=True)
    try:
        yield draw
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)  # the bar gives way to what comes next


# ------------------------------------------------------------------------------------------ info


def _info(options: argparse.Namespace) -> int:
    name = ALIASES.get(options.model, options.model)
    known = PUBLISHED.get(short_name(name))  # a published one needs no checkpoint
    config = known or read_config(find_checkpoint(name))
    print("\n".join(describe(name, config)))
    return 0


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


def _parity(options: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
