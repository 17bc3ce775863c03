"""Chapter 5. From a file of tensors to the nested weights of the layers, with nothing missing and nothing left over.

A loader that skips what it does not know leaves a model that runs and talks nonsense. So the configuration says
which tensors there must be (:mod:`minwhisper.names`), and every tensor of the file is either one of them, a known
setting, or an error with its name in it.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .backend import Array, to_device
from .config import WhisperConfig
from .encoder import sinusoids
from .errors import ConfigError, WeightsError
from .layers import Weights
from .names import (
    CTRANSLATE2_SETTINGS,
    Shape,
    expected_shapes,
    flatten,
    from_ctranslate2,
    from_hugging_face,
    nest,
)
from .sources import CheckpointFiles, verify_sha256
from .tensor_files import TensorFile, open_tensors

DTYPES = ("float16", "float32", "float64")
"""What weights may be stored as. Arithmetic is float32 for the first two, float64 for the last."""


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
    files: CheckpointFiles, device: str = "cpu", dtype: str = "float32", strict: bool = True
) -> Checkpoint:
    """Read and check a checkpoint, converting tensor by tensor straight from the mapped file.

    ``strict=False`` turns missing and unexpected tensors into a warning and lists them in the report; a missing one
    is filled with zeros, never left to chance. A misshapen tensor, a damaged file or a wrong sha256 is an error
    either way. Raises :class:`WeightsError` and :class:`ConfigError`.
    """
    if dtype not in DTYPES:
        raise WeightsError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if files.sha256 is not None:
        verify_sha256(files)
    with open_tensors(files) as tensors:
        if files.format == "ctranslate2":
            config = config_of_ctranslate2(tensors)
        else:
            try:
                config = WhisperConfig.from_dict(files.config)
            except ConfigError as error:
                raise ConfigError(f"{files.label}: {error}") from None
        flat, report = _read_all(tensors, config, device, dtype)
        _check_positions(flat["encoder.positions"], config, tensors.label, report)
    problems = []
    if report.missing:
        problems.append(f"{len(report.missing)} tensors are missing: {_some(report.missing)}")
    if report.unexpected:
        problems.append(f"{len(report.unexpected)} tensors are unexpected: {_some(report.unexpected)}")
    if problems:
        message = f"{tensors.label}: {'; '.join(problems)}"
        if strict:
            raise WeightsError(f"{message}; is config.json that of this model? (strict=False loads it anyway)")
        warnings.warn(f"{message}; what is missing is zero", stacklevel=2)
    return Checkpoint(config, nest(flat), _alignment_heads(files.config, config), report)


def _some(names: tuple[str, ...], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read_all(
    tensors: TensorFile, config: WhisperConfig, device: str, dtype: str
) -> tuple[dict[str, Array], LoadReport]:
    """Every expected tensor under this package's name, and what did not match."""
    expected = expected_shapes(config)
    is_ctranslate2 = "encoder/conv1/weight" in tensors.shapes()
    translate = from_ctranslate2 if is_ctranslate2 else from_hugging_face
    found: dict[str, Array] = {}
    unexpected = []
    for theirs, shape in tensors.shapes().items():
        names = translate(theirs)
        key_biases = [name for name in names if name.endswith(".key.bias")]
        if is_ctranslate2 and CTRANSLATE2_SETTINGS.fullmatch(theirs):
            continue
        if theirs in ("proj_out.weight", "decoder/projection/weight"):
            _check_tied(tensors, theirs)
            continue
        if not all(name in expected for name in names if name not in key_biases):
            unexpected.append(theirs)
            continue
        if len(key_biases) == len(names):
            unexpected.append(theirs)  # Whisper's keys have no bias
            continue
        stacked = _stacked_shape(names, expected)
        if shape != stacked:
            raise WeightsError(
                f"{tensors.label}: {names[0]}: expected {stacked}, the file has {shape} (as {theirs}); "
                "is config.json that of this model?"
            )
        array = tensors.read(theirs, dtype)
        rows = shape[0] // len(names)
        for i, name in enumerate(names):
            part = array[i * rows : (i + 1) * rows] if len(names) > 1 else array
            if name not in key_biases:
                found[name] = to_device(part, device)
            elif part.any():
                raise WeightsError(f"{tensors.label}: {name}: expected zeros (a key has no bias), got other numbers")
    missing = tuple(name for name in expected if name not in found)
    for name in missing:
        found[name] = to_device(np.zeros(expected[name], dtype), device)
    return {name: found[name] for name in expected}, LoadReport(missing, tuple(unexpected))


def _stacked_shape(names: tuple[str, ...], expected: Mapping[str, Shape]) -> Shape:
    """The shape of tensors of equal shape one above the other; a key's absent bias counts as a row of zeros."""
    first = expected[names[0]] if names[0] in expected else expected[names[-1]]
    return (first[0] * len(names), *first[1:])


def _check_tied(tensors: TensorFile, name: str) -> None:
    """The output projection must be the token embedding: Whisper has one table for both."""
    for table in ("model.decoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder/embeddings/weight"):
        if table in tensors.shapes():
            same = tensors.shapes()[name] == tensors.shapes()[table] and np.array_equal(
                tensors.read(name, "float32"), tensors.read(table, "float32")
            )
            if not same:
                raise WeightsError(
                    f"{tensors.label}: {name} differs from {table}: expected one table for both (tied); "
                    "was this model trained with tie_word_embeddings off?"
                )


def _check_positions(table: Array, config: WhisperConfig, label: str, report: LoadReport) -> None:
    """The checkpoint's position table must be the sines it is supposed to be, as exactly as it was stored.

    Published tables went through float16 (spacing 2⁻¹¹ just below 1) even where the file is float32, and those that
    did not were computed with float32 angles of up to 1,500 radians, which have no more to offer than 2e-4. A table
    in bfloat16 has a spacing of 2⁻⁸.
    """
    if "encoder.positions" in report.missing:
        return
    error = float(abs(table - sinusoids(*expected_shapes(config)["encoder.positions"])).max())
    bfloat16 = bool((np.asarray(table, np.float32).view(np.uint32) & 0xFFFF == 0).all())
    if not error <= (2**-8 if bfloat16 else 2**-11):
        raise WeightsError(
            f"{label}: encoder.positions is off by up to {error:.2g} from the sines that Whisper has; is it damaged?"
        )


def _alignment_heads(config_json: Mapping[str, Any], config: WhisperConfig) -> tuple[tuple[int, int], ...]:
    """The heads that follow the sound, if the checkpoint names them: (decoder block, head) pairs."""
    pairs = tuple((int(layer), int(head)) for layer, head in config_json.get("alignment_heads") or ())
    for layer, head in pairs:
        if not (0 <= layer < config.decoder_layers and 0 <= head < config.decoder_attention_heads):
            raise ConfigError(
                f"alignment_heads names head {head} of block {layer}, but there are "
                f"{config.decoder_layers} blocks of {config.decoder_attention_heads} heads"
            )
    return pairs


def config_of_ctranslate2(tensors: TensorFile) -> WhisperConfig:
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


def random_weights(config: WhisperConfig, seed: int = 0, dtype: str = "float32", device: str = "cpu") -> Weights:
    """Weights of an untrained model, for touring the architecture without a download.

    Matrices are normal with standard deviation 0.02, biases 0, norms 1 and 0, the encoder's positions its sines.
    The same seed gives the same model.
    """
    rng = np.random.default_rng(seed)
    flat = {}
    for name, shape in expected_shapes(config).items():
        if name == "encoder.positions":
            array = sinusoids(*shape)
        elif name.endswith("norm.weight"):
            array = np.ones(shape)
        elif name.endswith(".bias"):
            array = np.zeros(shape)
        else:
            array = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        flat[name] = to_device(array.astype(dtype), device)
    return nest(flat)


def count_parameters(weights: Weights) -> int:
    """How many numbers there are in (a branch of) the weights."""
    return sum(array.size for _, array in flatten(weights))
