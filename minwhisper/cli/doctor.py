"""The commands ``minwhisper trace`` and ``minwhisper compare``: the exact value of every stage, and what differs."""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from ..checkpoints.sources import default_model
from ..common.console import Console
from ..errors import OptionError
from ..parity.doctor import Report, StageReport, diagnose
from ..parity.theirs import open_theirs
from ..parity.tracing import metadata, save_trace, trace
from ..printable import printable
from ..whisper import Whisper, load_model


def run_trace(options: argparse.Namespace, console: Console) -> int:
    """Write a trace to a file, and return the exit status."""
    model = _model(options.model)
    patterns = options.stages and [pattern for group in options.stages for pattern in group.split(",")]
    arrays = trace(model, options.audio, tokens=_tokens(options.tokens), stages=patterns, dtype=options.dtype)
    path: Path = options.output
    if options.npz and path.suffix != ".npz":
        path = path.with_name(f"{path.name}.npz")
    save_trace(path, arrays, metadata(model, options.audio, options.dtype), options.names)
    size = sum(array.nbytes for array in arrays.values()) / 2**20
    console.text(f"{printable(str(path))}: {len(arrays)} arrays of {model.name} in {options.dtype}, {size:,.0f} MiB")
    return 0


def run_compare(options: argparse.Namespace, console: Console) -> int:
    """Print the comparison of another implementation's arrays; return 1 if one differs by more than rounding."""
    theirs = open_theirs(options.theirs)  # before the model: it may be unreadable
    names = {} if options.map is None else _read_map(options.map)
    model = _model(options.model)
    found = diagnose(model, theirs, names=names, audio=options.audio, tokens=_tokens(options.tokens))
    if options.json:
        console.text(as_json(found))
    else:
        for line in as_lines(found):
            console.text(line)
    return 0 if found.first_wrong is None else 1


def _model(name: str | None) -> Whisper:
    return load_model(name or default_model().name, plain=True)


def _tokens(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(token) for token in text.replace(",", " ").split()]
    except ValueError:
        raise OptionError(f"tokens: expected ids separated by commas, such as 50258,50259, got {text!r}") from None


def _read_map(path: Path) -> dict[str, str]:
    """Return the stage of each name in a JSON file. Raises ``OptionError`` for any other content."""
    wanted = 'expected {"their name": "our name", …} as JSON'
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise OptionError(f"{path}: cannot be read ({error.strerror or error}); {wanted}") from None
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path}: {wanted}, got something else ({error})") from None
    if not isinstance(content, dict) or not all(isinstance(stage, str) for stage in content.values()):
        raise OptionError(f"{path}: {wanted}, got another structure")
    return content


# --- The report ---------------------------------------------------------------------------------------------------


def as_lines(report: Report) -> list[str]:
    """Return the report as lines of text: a row for each stage, then what is wrong and how to fix it."""
    width = max(len(stage.stage) for stage in report.stages)
    lines = [
        f"compared with {report.model} in float64",
        "largest, relative: difference from the exact values; own: relative difference from the exact result for their",
        "own arrays before the stage",
        "",
        f"{'stage':<{width}} {'shape':<16} {'largest':>9} {'relative':>9} {'own':>9}  looks like",
    ]
    lines += [_row(stage, width) for stage in report.stages]
    if report.taken:
        lines += ["", "taken as given, because their inputs are missing: " + ", ".join(map(printable, report.taken))]
    if report.unmatched:
        lines += ["", "names that match no stage (see --map): " + ", ".join(map(printable, report.unmatched))]
    lines += ["", *_conclusion(report)]
    return lines


def _row(stage: StageReport, width: int) -> str:
    figures = " ".join(f"{_figure(value):>9}" for value in (stage.largest, stage.relative, stage.own))
    looks = ", ".join(stage.mistakes) or stage.verdict
    notes = "; ".join(filter(None, (stage.axes, stage.remark)))
    shape = "×".join(map(str, stage.shape))
    return f"{stage.stage:<{width}} {shape:<16} {figures}  {looks}" + (f" ({notes})" if notes else "")


def _figure(value: float) -> str:
    return "-" if math.isinf(value) else f"{value:.1e}"


def _conclusion(report: Report) -> list[str]:
    first = report.first_wrong
    lines = []
    for name, hint in report.hints.items():
        places = [stage.stage for stage in report.stages if name in stage.mistakes]
        shown = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        lines += [f"{name}, in {shown}:", f"    {hint}"]
    unknown = [stage for stage in report.stages if stage.verdict == "wrong"]
    for stage in unknown[:6]:
        lines += [f"{stage.stage}: no known mistake gives these values; {stage.remark}"]
    if first is None:
        return [*lines, "All stages agree up to float32's rounding."]
    if lines and (first.mistakes or first.verdict == "wrong"):
        return [f"The first stage that is wrong is {first.stage}.", *lines]
    return [*lines, f"Nothing is wrong except the precision: {report.precision}."]


def as_json(report: Report) -> str:
    """Return the report as JSON; a difference without a value, such as that of another shape, is null."""

    def plain(value: object) -> object:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    first = report.first_wrong
    content = {
        "model": report.model,
        "first_wrong": first and first.stage,
        "precision": report.precision,
        "stages": [{key: plain(value) for key, value in asdict(stage).items()} for stage in report.stages],
        "mistakes": report.hints,
        "taken": report.taken,
        "unmatched": report.unmatched,
    }
    return json.dumps(content, indent=2, ensure_ascii=False)
