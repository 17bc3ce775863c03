"""Chapter 5: load a checkpoint's tensors into the nested weights of the layers, and check them.

A loader that skips unknown tensors can produce a model that runs but outputs nonsense. Here the configuration
determines the expected tensors (``model.weight_names``). A tensor of the file that is neither one of them nor a known
setting is an error that names it. All values must be finite.

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
    """A model's weights, read and checked, with its configuration."""

    config: WhisperConfig
    weights: Weights
    alignment_heads: AlignmentHeads  # (decoder block, head) pairs that follow the audio; empty if unknown
    report: LoadReport


def load_checkpoint(
    files: CheckpointFiles,
    device: str = "cpu",
    dtype: str = "float32",
    strict: bool = True,
    layout: WeightLayout | None = None,
) -> Checkpoint:
    """Read and check a checkpoint, one tensor at a time.

    ``strict=False`` turns missing and unexpected tensors into a warning and lists them in the report; missing tensors
    are filled with zeros. A wrong shape, a value that is not finite, a damaged file and a wrong sha256 are errors
    either way. ``layout`` allocates the arrays on the CPU, ``empty_weights`` by default. Warnings point to the line
    that calls ``load_model``. Raises ``WeightsError``, ``ConfigError`` and, for ``dtype``,
    ``OptionError``.
    """
    checkpoint, problems = read_checkpoint(files, device, dtype, strict, layout)
    for problem in problems:
        warn_about(files.label, problem, stacklevel=3)
    return checkpoint


def read_checkpoint(
    files: CheckpointFiles,
    device: str = "cpu",
    dtype: str = "float32",
    strict: bool = True,
    layout: WeightLayout | None = None,
) -> tuple[Checkpoint, tuple[str, ...]]:
    """Read and check a checkpoint like ``load_checkpoint``, but return its warnings instead of issuing them."""
    check_dtype(dtype)
    with ThreadPoolExecutor(1) as background:
        verified = background.submit(verify_checksums, files)
        try:
            with open_tensors(files) as tensors:
                config = checkpoint_config(files, tensors)
                alignment_heads, heads_problem = read_alignment_heads(files, config)
                translate = from_ctranslate2 if files.format == "ctranslate2" else from_hugging_face
                shapes = expected_shapes(config)
                matched = match_tensors(tensors, translate, shapes, strict)
                flat = _read_weights(tensors, matched, shapes, device, dtype, layout or empty_weights)
        finally:
            try:
                verified.result()  # raised in place of other errors, which a wrong checksum explains
            finally:
                del verified  # its error's traceback refers to this frame: a cycle that would keep the weights alive
    report, positions_problem = matched.report, ""
    if "encoder.positions" not in report.missing:
        positions_problem = check_positions(to_numpy(flat["encoder.positions"]), files.label, strict)
    zeros = f"{report}; missing tensors are filled with zeros" if report.missing else str(report)
    problems = tuple(filter(None, (zeros, positions_problem, heads_problem)))
    return Checkpoint(config, nest(flat), alignment_heads, report), problems


def _read_weights(
    tensors: TensorFile,
    matched: MatchedTensors,
    expected: Mapping[str, Shape],
    device: str,
    dtype: str,
    layout: WeightLayout,
) -> dict[str, Any]:
    """Return every expected tensor by this package's name; missing ones are zero."""
    _check_zero_biases(tensors, matched, dtype)
    on_cpu = device == "cpu"
    reserve(pool_bytes(expected, dtype), device)
    buffers = layout(expected, dtype, np.empty) if on_cpu else {}

    def buffer(name: str) -> Any:  # for a GPU: row-major, as its kernels read it, and temporary
        return buffers[name] if on_cpu else np.empty(expected[name], dtype)

    def read(part: TensorSlice) -> Any:
        array = buffer(part.name)
        finite: list[bool] = []
        load_into(
            array, lambda out, first: finite.append(tensors.read_into(part.stored_name, out, part.first_row + first))
        )
        if not all(finite):
            raise _not_finite(tensors, part, dtype)
        return array if on_cpu else to_device(array, device)

    with ThreadPoolExecutor(os.cpu_count() if on_cpu else 1) as threads:  # NumPy converts in parallel
        found = dict(zip([part.name for part in matched.parts], threads.map(read, matched.parts), strict=True))
    for name in matched.report.missing:
        zeros = buffer(name)
        load_into(zeros, lambda out, _: out.fill(0))
        found[name] = zeros if on_cpu else to_device(zeros, device)
    synchronize(device)
    return {name: found[name] for name in expected}


def _check_zero_biases(tensors: TensorFile, matched: MatchedTensors, dtype: str) -> None:
    """Raise ``WeightsError`` if a stacked bias has values other than zero for the keys."""
    for part in matched.key_biases:
        bias = np.empty(matched.shapes[part.name], dtype)
        tensors.read_into(part.stored_name, bias, part.first_row)
        if bias.any():
            raise WeightsError(
                f"{tensors.label}: {part.name}: expected zeros, the file has other values (in {part.stored_name}): "
                "Whisper's key projections have no bias; download or convert the model again"
            )


def _not_finite(tensors: TensorFile, part: TensorSlice, dtype: str) -> WeightsError:
    """Return the error for a tensor with NaN or infinity, in the file or only after conversion to ``dtype``."""
    if tensors.is_finite(part.stored_name):
        largest = float(np.finfo(dtype).max)
        return WeightsError(
            f"{tensors.label}: {part.name}: expected values up to {largest:.6g} for dtype {dtype!r}, the file has "
            "larger ones; load it with dtype 'float32' or 'float64'"
        )
    return WeightsError(
        f"{tensors.label}: {part.name}: expected finite values, the file has NaN or infinity (in {part.stored_name}): "
        "training or conversion failed, or the file is damaged; download or convert the model again"
    )
