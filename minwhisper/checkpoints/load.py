"""Chapter 5. Load a checkpoint: from a file of tensors to the nested weights of the layers, checked on the way.

A loader that skips what it does not know leaves a model that runs and writes nonsense. So the configuration says
which tensors there must be (:mod:`minwhisper.model.weight_names`), and every tensor of the file is either one of
them, a known setting, or an error with its name in it. Every value has to be a finite number.

Walkthrough: section 7.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..common.backend import reserve, synchronize, to_device, to_numpy
from ..errors import WeightsError
from ..model.config import WhisperConfig
from ..model.layers import Weights
from ..model.weight_names import Shape, expected_shapes, from_ctranslate2, from_hugging_face, nest
from ..model.weights import WeightLayout, check_dtype, empty_weights, load_into, pool_bytes
from .checksums import verify_checksums
from .configuration import AlignmentHeads, check_positions, checkpoint_config, read_alignment_heads, warn_about
from .files import CheckpointFiles
from .tensor_files import TensorFile, open_tensors
from .tensor_matching import LoadReport, MatchedTensors, TensorSlice, match_tensors


class Checkpoint(NamedTuple):
    """The weights of a model, read and checked."""

    config: WhisperConfig
    weights: Weights
    alignment_heads: AlignmentHeads  # (decoder block, head) that follow the audio; empty if not named
    report: LoadReport


def load_checkpoint(
    files: CheckpointFiles,
    device: str = "cpu",
    dtype: str = "float32",
    strict: bool = True,
    layout: WeightLayout | None = None,
) -> Checkpoint:
    """Read and check a checkpoint, converting tensor by tensor straight from the file.

    ``strict=False`` turns missing and unexpected tensors into a warning and lists them in the report; a missing one
    is filled with zeros, never left to chance. A misshapen tensor, a value that is not finite, a damaged file or a
    wrong sha256 is an error either way. ``layout`` allocates the arrays on the CPU that the tensors are read into,
    :func:`empty_weights` by default. Warnings name the line that calls :func:`minwhisper.load_model`.
    Raises :class:`WeightsError`, :class:`ConfigError` and, for ``dtype``, :class:`OptionError`.
    """
    check_dtype(dtype)
    with ThreadPoolExecutor(1) as meanwhile:
        verified = meanwhile.submit(verify_checksums, files)
        try:
            with open_tensors(files) as tensors:
                config = checkpoint_config(files, tensors)
                alignment_heads, foreign_heads = read_alignment_heads(files, config)
                translate = from_ctranslate2 if files.format == "ctranslate2" else from_hugging_face
                shapes = expected_shapes(config)
                matched = match_tensors(tensors, translate, shapes, strict)
                flat = _read_all(tensors, matched, shapes, device, dtype, layout or empty_weights)
        finally:
            try:
                verified.result()  # a wrong sum explains whatever else was wrong
            finally:
                del verified  # its error's traceback leads to here: a reference cycle, which would keep the weights
    report, positions = matched.report, ""
    if "encoder.positions" not in report.missing:
        positions = check_positions(to_numpy(flat["encoder.positions"]), files.label, strict)
    zeros = f"{report}; missing tensors are filled with zeros" if report.missing else str(report)
    for problem in (zeros, positions, foreign_heads):
        warn_about(files.label, problem, stacklevel=3)
    return Checkpoint(config, nest(flat), alignment_heads, report)


def _read_all(
    tensors: TensorFile,
    matched: MatchedTensors,
    expected: Mapping[str, Shape],
    device: str,
    dtype: str,
    layout: WeightLayout,
) -> dict[str, Any]:
    """Read every expected tensor, under this package's name; missing ones are zero."""
    _check_zeros(tensors, matched, dtype)
    on_cpu = device == "cpu"
    reserve(pool_bytes(expected, dtype), device)
    places = layout(expected, dtype) if on_cpu else {}

    def place(name: str) -> Any:  # a GPU's are row by row, as its kernels read them, and here only for a moment
        return places[name] if on_cpu else np.empty(expected[name], dtype)

    def read(part: TensorSlice) -> Any:
        array = place(part.name)
        finite: list[bool] = []
        load_into(array, lambda out, first: finite.append(tensors.read_into(part.theirs, out, part.first_row + first)))
        if not all(finite):
            raise _not_finite(tensors, part, dtype)
        return array if on_cpu else to_device(array, device)

    with ThreadPoolExecutor(os.cpu_count() if on_cpu else 1) as several:  # NumPy converts on as many cores as there are
        found = dict(zip([part.name for part in matched.parts], several.map(read, matched.parts), strict=True))
    for name in matched.report.missing:
        zeros = place(name)
        load_into(zeros, lambda out, _: out.fill(0))
        found[name] = zeros if on_cpu else to_device(zeros, device)
    synchronize(device)
    return {name: found[name] for name in expected}


def _check_zeros(tensors: TensorFile, matched: MatchedTensors, dtype: str) -> None:
    """Raise :class:`WeightsError` for a bias of keys in a stack that is not zero."""
    for part in matched.zeros:
        bias = np.empty(matched.known[part.name], dtype)
        tensors.read_into(part.theirs, bias, part.first_row)
        if bias.any():
            raise WeightsError(
                f"{tensors.label}: {part.name}: expected zeros, the file has other numbers (in {part.theirs}): the "
                "keys of a Whisper have no bias; fetch or convert the model again"
            )


def _not_finite(tensors: TensorFile, part: TensorSlice, dtype: str) -> WeightsError:
    """Return the error for a tensor with values that are NaN or infinite, in the file or only in ``dtype``."""
    if tensors.is_finite(part.theirs):
        largest = float(np.finfo(dtype).max)
        return WeightsError(
            f"{tensors.label}: {part.name}: expected numbers up to {largest:.6g} for dtype {dtype!r}, the file has "
            "larger ones; load it with a wider dtype, 'float32' or 'float64'"
        )
    return WeightsError(
        f"{tensors.label}: {part.name}: expected finite numbers, the file has NaN or infinity (in {part.theirs}): the "
        "training or a conversion went wrong, or the file is damaged; fetch or convert the model again"
    )
