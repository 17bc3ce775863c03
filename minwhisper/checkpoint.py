"""Chapter 5. From a file of tensors to the nested weights of the layers, with nothing missing and nothing left over.

A loader that skips what it does not know leaves a model that runs and talks nonsense. So the configuration says
which tensors there must be (:mod:`minwhisper.names`), and every tensor of the file is either one of them, a known
setting, or an error with its name in it.

Walkthrough: section 7.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from .backend import Array, reserve, synchronize, to_device, to_numpy
from .checkpoint_files import CheckpointFiles
from .config import WhisperConfig
from .encoder import sinusoids
from .errors import ConfigError, WeightsError
from .layers import Weights
from .names import Shape, expected_shapes, from_ctranslate2, from_hugging_face, nest
from .sources import verify_sha256
from .tensor_files import TensorFile, open_tensors
from .weights import Room, check_dtype, empty_weights, fill, pool_bytes

_IS_CONFIG = "is config.json that of this model?"


class LoadReport(NamedTuple):
    """What did not match when a checkpoint was read: both empty unless ``strict=False`` let it pass."""

    missing: tuple[str, ...]  # in this package's names; such a weight is zero
    unexpected: tuple[str, ...]  # in the file's own names


class Checkpoint(NamedTuple):
    """A model's numbers, read and checked."""

    config: WhisperConfig
    weights: Weights
    alignment_heads: tuple[tuple[int, int], ...]  # (decoder block, head) that follow the sound; empty if not named
    report: LoadReport


def load_checkpoint(
    files: CheckpointFiles,
    device: str = "cpu",
    dtype: str = "float32",
    strict: bool = True,
    room: Room | None = None,
) -> Checkpoint:
    """Read and check a checkpoint, converting tensor by tensor straight from the mapped file.

    ``strict=False`` turns missing and unexpected tensors into a warning and lists them in the report; a missing one
    is filled with zeros, never left to chance. A misshapen tensor, a damaged file or a wrong sha256 is an error
    either way. ``room`` makes the places on the CPU that the tensors are read into, :func:`empty_weights` by default.
    Raises :class:`WeightsError`, :class:`ConfigError` and, for ``dtype``, :class:`OptionError`.
    """
    check_dtype(dtype)
    with ThreadPoolExecutor(1) as meanwhile:
        verified = meanwhile.submit(verify_sha256, files)
        try:
            with open_tensors(files) as tensors:
                config = _config_of(files, tensors)
                alignment_heads = _alignment_heads(files, config)
                translate = from_ctranslate2 if files.format == "ctranslate2" else from_hugging_face
                shapes = expected_shapes(config)
                flat, report = _read_all(tensors, translate, shapes, device, dtype, room or empty_weights)
        finally:
            try:
                verified.result()  # a wrong sum explains whatever else was wrong
            finally:
                del verified  # its error's traceback leads to here: a reference cycle, which would keep the weights
    if "encoder.positions" not in report.missing:
        _check_positions(to_numpy(flat["encoder.positions"]), files.label)
    problems = []
    if report.missing:
        problems.append(f"missing tensors ({len(report.missing)}): {_some(report.missing)}")
    if report.unexpected:
        problems.append(f"unexpected tensors ({len(report.unexpected)}): {_some(report.unexpected)}")
    if problems:
        message = f"{files.label}: {'; '.join(problems)}"
        if strict:
            raise WeightsError(f"{message}; {_IS_CONFIG} (load_model with strict=False loads it anyway)")
        warnings.warn(f"{message}; what is missing is zero", stacklevel=3)  # at the line that calls load_model
    return Checkpoint(config, nest(flat), alignment_heads, report)


def read_config(files: CheckpointFiles) -> WhisperConfig:
    """The configuration of a checkpoint alone; its weights are not read, nor their sha256 checked.

    Raises :class:`WeightsError` and :class:`ConfigError`.
    """
    with open_tensors(files) as tensors:
        return _config_of(files, tensors)


def _some(names: tuple[str, ...], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read_all(
    tensors: TensorFile,
    translate: Callable[[str], tuple[str, ...]],
    expected: Mapping[str, Shape],
    device: str,
    dtype: str,
    room: Room,
) -> tuple[dict[str, Any], LoadReport]:
    """Every expected tensor under this package's name, and what did not match."""
    # Whisper's keys have no bias, but a file may have one where key and value lie in one stack: it has to be zero.
    keys = [name.removesuffix(".weight") for name in expected if name.endswith(".key.weight")]
    known = {**expected, **{f"{key}.bias": expected[f"{key}.weight"][:1] for key in keys}}
    stacks, unexpected = _match(tensors, translate, known)
    parts = []  # (its name, the file's name, the row of the file's tensor with which it begins)
    for names, theirs in stacks.items():
        first_row = 0
        for name in names:
            if name in expected:
                parts.append((name, theirs, first_row))
            elif np.split(tensors.read(theirs, dtype), len(names))[names.index(name)].any():
                raise WeightsError(
                    f"{tensors.label}: {name}: expected zeros, the file has other numbers (in {theirs}): the keys of "
                    "a Whisper have no bias; fetch or convert the model again"
                )
            first_row += known[name][0]
    on_cpu = device == "cpu"
    reserve(pool_bytes(expected, dtype), device)
    places = room(expected, dtype) if on_cpu else {}

    def place(name: str) -> Any:  # a GPU's are row by row, as its kernels read them, and here only for a moment
        return places[name] if on_cpu else np.empty(expected[name], dtype)

    def read(part: tuple[str, str, int]) -> Any:
        name, theirs, row = part
        array = place(name)
        fill(array, lambda out, first: tensors.fill(theirs, out, row + first))
        if dtype == "float16" and not np.isfinite(array).all():
            raise WeightsError(
                f"{tensors.label}: {name}: expected numbers up to 65504 for dtype 'float16', the file has "
                "larger ones (or none); take dtype 'float32'"
            )
        return array if on_cpu else to_device(array, device)

    with ThreadPoolExecutor(os.cpu_count() if on_cpu else 1) as several:  # NumPy converts on as many cores as there are
        found = dict(zip([name for name, _, _ in parts], several.map(read, parts), strict=True))
    missing = tuple(name for name in expected if name not in found)
    for name in missing:
        zeros = place(name)
        fill(zeros, lambda out, _: out.fill(0))
        found[name] = zeros if on_cpu else to_device(zeros, device)
    synchronize(device)
    return {name: found[name] for name in expected}, LoadReport(missing, unexpected)


def _match(
    tensors: TensorFile, translate: Callable[[str], tuple[str, ...]], known: Mapping[str, Shape]
) -> tuple[dict[tuple[str, ...], str], tuple[str, ...]]:
    """Where to find what: the file's name of each tensor or stack of tensors, and its names that mean nothing.

    Raises :class:`WeightsError` for a tensor of the wrong shape, and for one that is there twice and not the same.
    """
    stacks: dict[tuple[str, ...], str] = {}
    unexpected = []
    for theirs, shape in tensors.shapes().items():
        names = translate(theirs)
        if not all(name in known for name in names):
            unexpected.append(theirs)
        elif names:
            rows, *others = known[names[0]]
            stacked = (len(names) * rows, *others)
            if shape != stacked:
                raise WeightsError(
                    f"{tensors.label}: {names[0]}: expected {stacked}, the file has {shape} (as {theirs}); {_IS_CONFIG}"
                )
            first = stacks.setdefault(names, theirs)
            if not tensors.same(first, theirs):
                raise WeightsError(
                    f"{tensors.label}: {names[0]}: expected {first} and {theirs} to be the same (tied), the file has "
                    "two that differ; was this model trained with tie_word_embeddings off?"
                )
    return stacks, tuple(unexpected)


def _check_positions(table: Array, label: str) -> None:
    """The checkpoint's position table must be the sines it is supposed to be, as exactly as it was stored.

    Published tables went through float16 (spacing 2⁻¹¹ just below 1) even where the file is float32, and those that
    did not were computed with float32 angles of up to 1,500 radians, which have no more to offer than 2e-4. A table
    in bfloat16 has a spacing of 2⁻⁸.
    """
    off = sinusoids(*table.shape)
    off -= table
    error = float(np.abs(off, out=off).max())
    if error <= 2**-11:
        return
    bfloat16 = bool((table.astype(np.float32).view(np.uint32) & 0xFFFF == 0).all())
    if not (bfloat16 and error <= 2**-8):
        raise WeightsError(
            f"{label}: encoder.positions: expected Whisper's sines, the file is off by up to {error:.2g}; "
            "is it damaged, or a model with positions of its own?"
        )


def _alignment_heads(files: CheckpointFiles, config: WhisperConfig) -> tuple[tuple[int, int], ...]:
    """The heads that follow the sound, if the checkpoint names them: (decoder block, head) pairs."""
    listed = files.config.get("alignment_heads") or ()
    try:
        pairs = tuple((int(layer), int(head)) for layer, head in listed)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{files.label}: alignment_heads: expected pairs [block, head], got {listed!r}; {_IS_CONFIG}"
        ) from None
    for layer, head in pairs:
        if not (0 <= layer < config.decoder_layers and 0 <= head < config.decoder_attention_heads):
            raise ConfigError(
                f"{files.label}: alignment_heads: expected heads of {config.decoder_layers} blocks with "
                f"{config.decoder_attention_heads} heads each, got head {head} of block {layer}; {_IS_CONFIG}"
            )
    return pairs


def _config_of(files: CheckpointFiles, tensors: TensorFile) -> WhisperConfig:
    """The configuration of an open checkpoint."""
    try:
        if files.format == "ctranslate2":
            return _config_of_ctranslate2(tensors)
        return WhisperConfig.from_dict(files.config)
    except ConfigError as error:
        raise ConfigError(f"{files.label}: {error}") from None


def _config_of_ctranslate2(tensors: TensorFile) -> WhisperConfig:
    """The configuration of a CTranslate2 file, which has none beside it: read off the shapes of its tensors."""
    shapes = tensors.shapes()

    def dimension(name: str, axis: int) -> int:
        if name not in shapes or axis >= len(shapes[name]):
            raise WeightsError(f"{tensors.label}: there is no {name} in it: is this a Whisper model?")
        return shapes[name][axis]

    def layers(half: str) -> int:
        numbers = [name.split("/")[1] for name in shapes if name.startswith(f"{half}/layer_")]
        return len({layer for layer in numbers if layer != "layer_norm"})

    def heads(half: str) -> int:
        if f"{half}/num_heads" not in shapes:
            raise WeightsError(f"{tensors.label}: there is no {half}/num_heads in it: is this a Whisper model?")
        return int(tensors.read(f"{half}/num_heads", "float32"))

    return WhisperConfig(
        vocab_size=dimension("decoder/embeddings/weight", 0),
        num_mel_bins=dimension("encoder/conv1/weight", 1),
        d_model=dimension("encoder/conv1/weight", 0),
        encoder_layers=layers("encoder"),
        encoder_attention_heads=heads("encoder"),
        encoder_ffn_dim=dimension("encoder/layer_0/ffn/linear_0/weight", 0),
        decoder_layers=layers("decoder"),
        decoder_attention_heads=heads("decoder"),
        decoder_ffn_dim=dimension("decoder/layer_0/ffn/linear_0/weight", 0),
        max_source_positions=dimension("encoder/position_encodings/encodings", 0),
        max_target_positions=dimension("decoder/position_encodings/encodings", 0),
    )
