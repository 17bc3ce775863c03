"""The command ``minwhisper parity``: compare every stage of a model with exact reference values."""

import argparse

from ..checkpoints.sources import short_name
from ..common.console import Console
from ..parity import comparison
from ..whisper import load_model


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the errors of every stage, and return the exit status: 1 if one of them is too large."""
    comparison.check_comparable(short_name(options.model) or options.model)  # before any download
    model = load_model(options.model, options.device, options.dtype)
    lines, verdicts = comparison.compare(model, model.name)
    console.text(f"{model.name} on 11 s of speech, weights in {model.dtype}, {model.device}")
    console.text("largest, relative: difference from the stored float64 values; PyTorch: its own relative difference")
    columns = ["largest", "relative", "PyTorch"]
    if any(line.from_pytorch is not None for line in lines):
        columns.append("ours-PyTorch")
        console.text("ours-PyTorch: relative difference between the two, computed now, over the whole stage")
    console.text(f"\n{'stage':<18} {'shape':<16} " + " ".join(f"{column:>12}" for column in columns))
    for line in lines:
        values = (line.max_error, line.relative_error, line.pytorch_error, line.from_pytorch)[: len(columns)]
        figures = " ".join(f"{'-' if value is None else format(value, '.2e'):>12}" for value in values)
        console.text(f"{line.stage:<18} {'×'.join(map(str, line.shape)):<16} {figures}")
    for reference, equal in verdicts:
        console.text(f"{'tokens':<18} {'equal to' if equal else 'DIFFER from'} {reference}")
    # Judged by the exact values if there are any: PyTorch's own errors may add to ours.
    errors = {line.stage: line.from_pytorch if line.relative_error is None else line.relative_error for line in lines}
    failed = [stage for stage, error in errors.items() if error is not None and error > comparison.TOLERANCE]
    for stage in failed:
        console.text(f"{stage} is off by more than {comparison.TOLERANCE:g}")
    return 1 if failed or not all(equal for _, equal in verdicts) else 0
