"""Chapter 5: read and check a checkpoint's configuration, alignment heads and encoder positions.

Checkpoints of Transformers have a ``config.json``. Those of CTranslate2 do not need one: the configuration follows from
the shapes of their tensors.

Walkthrough: section 7.
"""

import warnings
from collections.abc import Sequence

import numpy as np

from ..common.backend import Array
from ..common.untrusted import check_integer
from ..errors import ConfigError, WeightsError
from ..model.config import LIMITS, WhisperConfig
from ..model.encoder import sinusoids
from ..printable import printable, short_repr
from .files import CheckpointFiles
from .tensor_files import TensorFile, open_tensors

AlignmentHeads = tuple[tuple[int, int], ...]

CONFIG_HINT = "does config.json belong to this model?"
MAX_HEADS = 10_000  # length of a list of alignment heads; published models have at most 23
WINDOW_POSITIONS = 1500  # encoder positions of the 30 s window that transcription uses
FLOAT16_ROUNDING = 2**-11  # of values just below 1
BFLOAT16_ROUNDING = 2**-8
MAX_TRAINED_RMS = 0.1  # root mean square difference from the sinusoids that training can explain


def read_config(files: CheckpointFiles) -> WhisperConfig:
    """Return the configuration of a checkpoint without reading its weights or verifying their sha256.

    Raises ``WeightsError`` and ``ConfigError``.
    """
    with open_tensors(files) as tensors:
        return checkpoint_config(files, tensors)


def checkpoint_config(files: CheckpointFiles, tensors: TensorFile) -> WhisperConfig:
    """Return the configuration of an open checkpoint. Raises ``ConfigError`` and ``WeightsError``."""
    try:
        if files.format == "ctranslate2":
            return _infer_config(tensors)
        return WhisperConfig.from_dict(files.config)
    except ConfigError as error:
        raise ConfigError(f"{files.label}: {error}") from None


def _infer_config(tensors: TensorFile) -> WhisperConfig:
    """Infer the configuration of a CTranslate2 model from the shapes of its tensors."""
    shapes = tensors.shapes()

    def shape_of(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise WeightsError(
                f"{tensors.label}: expected a tensor {name}, the file has none; is this a Whisper model?"
            )
        return shapes[name]

    def dimension(name: str, axis: int) -> int:
        shape = shape_of(name)
        if axis >= len(shape):
            raise WeightsError(
                f"{tensors.label}: {name}: expected at least {axis + 1} dimensions, the file has {shape}; is this a "
                "Whisper model?"
            )
        return shape[axis]

    def layers(half: str) -> int:
        numbers = [name.split("/")[1] for name in shapes if name.startswith(f"{half}/layer_")]
        return len({layer for layer in numbers if layer != "layer_norm"})

    def heads(half: str) -> int:
        name = f"{half}/num_heads"
        if shape_of(name) != ():
            raise WeightsError(f"{tensors.label}: {name}: expected a scalar, the file has shape {shape_of(name)}")
        count = float(tensors.read(name, "float64"))
        whole = int(count) if count.is_integer() else count  # False for NaN and infinity
        return check_integer(name, whole, 1, LIMITS[f"{half}_attention_heads"])

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


def read_alignment_heads(files: CheckpointFiles, config: WhisperConfig) -> tuple[AlignmentHeads, str]:
    """Return the alignment heads as (decoder block, head) pairs, and a warning if they cannot be used.

    A distilled model may list its teacher's heads, some of which it does not have. The remaining ones may not follow
    the audio either, so none is returned: the model works, but without word timestamps. Raises ``ConfigError`` if
    the checkpoint does not list pairs.
    """
    listed = files.config.get("alignment_heads") or ()
    if (
        not isinstance(listed, Sequence)
        or len(listed) > MAX_HEADS
        or not all(isinstance(pair, list) and len(pair) == 2 for pair in listed)
    ):
        raise ConfigError(
            f"{files.label}: alignment_heads: expected pairs [block, head], got {short_repr(listed)}; {CONFIG_HINT}"
        )
    heads = tuple(
        (
            check_integer(f"{files.label}: alignment_heads: block", block, 0, LIMITS["decoder_layers"] - 1),
            check_integer(f"{files.label}: alignment_heads: head", head, 0, LIMITS["decoder_attention_heads"] - 1),
        )
        for block, head in listed
    )
    blocks, per_block = config.decoder_layers, config.decoder_attention_heads
    foreign = [(block, head) for block, head in heads if block >= blocks or head >= per_block]
    if foreign:
        block, head = foreign[0]
        return (), (
            f"alignment_heads lists head {head} of block {block}, the model has {blocks} blocks of {per_block} heads; "
            "the list seems to belong to another model and is ignored, so word_timestamps is not available"
        )
    if len(heads) > blocks * per_block:
        raise ConfigError(
            f"{files.label}: alignment_heads: expected at most the {blocks * per_block} heads of the decoder, got "
            f"{len(heads)}; {CONFIG_HINT}"
        )
    return heads, ""


def short_window_limits(config: WhisperConfig) -> str:
    """Describe the limits of a model whose window is shorter than 30 s; return an empty string for other models."""
    positions = config.max_source_positions
    if positions >= WINDOW_POSITIONS:
        return ""
    return (
        f"the encoder has {positions} positions, {positions / 50:g} s of audio, where Whisper has {WINDOW_POSITIONS}: "
        f"encode, decode and logits take up to {2 * positions} frames, transcribe is not available"
    )


def check_positions(table: Array, label: str, strict: bool) -> str:
    """Compare the encoder's position table (T, D) with the sinusoids; return a warning, or "" if they agree.

    Most published tables were rounded to float16 (spacing 2⁻¹¹ just below 1), even in float32 files. The others were
    computed from float32 angles of up to 1,500 radians, which limits them to 2e-4. In bfloat16 the spacing is 2⁻⁸.
    Early releases of Transformers trained the table with the weights, which moves it by 1e-4 to 1e-2; the trained
    values are then used.

    A table that is far from the sinusoids was probably stored in another layout. With ``strict`` it raises
    ``WeightsError``.
    """
    difference = sinusoids(*table.shape)
    difference -= table
    rms = float(np.sqrt(np.square(difference).mean()))
    error = float(np.abs(difference, out=difference).max())
    if error <= FLOAT16_ROUNDING:
        return ""
    if error <= BFLOAT16_ROUNDING and bool((table.astype(np.float32).view(np.uint32) & 0xFFFF == 0).all()):
        return ""
    problem = f"encoder.positions: expected Whisper's sinusoids, the file differs by up to {error:.2g}"
    if rms <= MAX_TRAINED_RMS:
        return f"{problem}, more than rounding: the table was probably trained, and is used as it is"
    if strict:
        raise WeightsError(
            f"{label}: {problem}; is the file damaged, or does the model use another encoding? "
            "(load_model with strict=False loads it anyway)"
        )
    return f"{problem}; it is used as it is"


def warn_about(label: str, problem: str, stacklevel: int) -> None:
    """Issue a warning about a checkpoint unless ``problem`` is empty, ``stacklevel`` calls above the caller."""
    if problem:
        warnings.warn(printable(f"{label}: {problem}"), stacklevel=stacklevel + 1)
