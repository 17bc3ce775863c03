"""Chapter 5. The configuration of a checkpoint, and what else it states of itself: alignment heads, positions.

Transformers' checkpoints have a ``config.json``; CTranslate2's do not need one, since the shapes of their tensors tell.

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

CONFIG_HINT = "is config.json that of this model?"
MAX_HEADS = 10_000  # that a list may name; a published one names 23 at most
WINDOW_POSITIONS = 1500  # of the 30 s of audio that transcription encodes at a time
FLOAT16_ROUNDING = 2**-11  # of positions below 1 in float16
BFLOAT16_ROUNDING = 2**-8
MAX_TRAINED_RMS = 0.1  # root mean square of the differences, above which a table is not Whisper's sines after training


def read_config(files: CheckpointFiles) -> WhisperConfig:
    """Return the configuration of a checkpoint alone; its weights are not read, nor their sha256 checked.

    Raises :class:`WeightsError` and :class:`ConfigError`.
    """
    with open_tensors(files) as tensors:
        return checkpoint_config(files, tensors)


def checkpoint_config(files: CheckpointFiles, tensors: TensorFile) -> WhisperConfig:
    """Return the configuration of an open checkpoint. Raises :class:`ConfigError` and :class:`WeightsError`."""
    try:
        if files.format == "ctranslate2":
            return _infer_config(tensors)
        return WhisperConfig.from_dict(files.config)
    except ConfigError as error:
        raise ConfigError(f"{files.label}: {error}") from None


def _infer_config(tensors: TensorFile) -> WhisperConfig:
    """Read the configuration of a CTranslate2 file off the shapes of its tensors."""
    shapes = tensors.shapes()

    def shape_of(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise WeightsError(f"{tensors.label}: there is no {name} in it: is this a Whisper model?")
        return shapes[name]

    def dimension(name: str, axis: int) -> int:
        shape = shape_of(name)
        if axis >= len(shape):
            raise WeightsError(
                f"{tensors.label}: {name}: expected {axis + 1} dimensions or more, the file has {shape}: is this a "
                "Whisper model?"
            )
        return shape[axis]

    def layers(half: str) -> int:
        numbers = [name.split("/")[1] for name in shapes if name.startswith(f"{half}/layer_")]
        return len({layer for layer in numbers if layer != "layer_norm"})

    def heads(half: str) -> int:
        name = f"{half}/num_heads"
        if shape_of(name) != ():
            raise WeightsError(f"{tensors.label}: {name}: expected a single number, the file has {shape_of(name)}")
        count = float(tensors.read(name, "float64"))
        whole = int(count) if count.is_integer() else count  # NaN and infinity are not
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


# --- What works with it -----------------------------------------------------------------------------------------------


def read_alignment_heads(files: CheckpointFiles, config: WhisperConfig) -> tuple[AlignmentHeads, str]:
    """Return the heads that follow the audio, (decoder block, head) pairs, and what is wrong with them if anything is.

    A distilled model may list its teacher's heads, some of which it does not have. Those that it has need not follow
    the audio either, so that none is returned; such a model works, without the times of words.
    Raises :class:`ConfigError` for what is not a list of pairs.
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
    most = LIMITS["decoder_layers"] - 1, LIMITS["decoder_attention_heads"] - 1
    heads = tuple(
        (
            check_integer(f"{files.label}: alignment_heads: block", block, 0, most[0]),
            check_integer(f"{files.label}: alignment_heads: head", head, 0, most[1]),
        )
        for block, head in listed
    )
    blocks, per_block = config.decoder_layers, config.decoder_attention_heads
    foreign = [(block, head) for block, head in heads if block >= blocks or head >= per_block]
    if foreign:
        block, head = foreign[0]
        return (), (
            f"alignment_heads names head {head} of block {block}, the model has {blocks} blocks with {per_block} heads "
            "each: the list seems to be another model's and is not used, so that word_timestamps is refused"
        )
    if len(heads) > blocks * per_block:
        raise ConfigError(
            f"{files.label}: alignment_heads: expected at most the {blocks * per_block} heads of the decoder, got "
            f"{len(heads)}; {CONFIG_HINT}"
        )
    return heads, ""


def short_window_limits(config: WhisperConfig) -> str:
    """Say what a model of another window length can do; nothing for one that takes 30 s of audio or more."""
    positions = config.max_source_positions
    if positions >= WINDOW_POSITIONS:
        return ""
    return (
        f"its windows have {positions} positions, {positions / 50:g} s of audio, where Whisper has {WINDOW_POSITIONS}: "
        f"encode, decode and logits work with up to {2 * positions} frames, transcribe is refused"
    )


def check_positions(table: Array, label: str, strict: bool) -> str:
    """Compare the encoder's positions (T, D) with Whisper's sines; return what differs, as a warning, if anything does.

    Published tables went through float16 (spacing 2⁻¹¹ just below 1) even if the file is float32, and those that did
    not were computed with float32 angles of up to 1,500 radians, which are no more exact than 2e-4. A table in bfloat16
    has a spacing of 2⁻⁸. Early releases of Transformers trained the table along with the weights, which moves it by
    1e-4 to 1e-2: the trained values are the right ones, and are used.

    A table that is far from the sines was probably stored in another layout. With ``strict`` it raises
    :class:`WeightsError`.
    """
    off = sinusoids(*table.shape)
    off -= table
    mean = float(np.sqrt(np.square(off).mean()))
    error = float(np.abs(off, out=off).max())
    if error <= FLOAT16_ROUNDING:
        return ""
    if error <= BFLOAT16_ROUNDING and bool((table.astype(np.float32).view(np.uint32) & 0xFFFF == 0).all()):
        return ""
    problem = f"encoder.positions: expected Whisper's sines, the file is off by up to {error:.2g}"
    if mean <= MAX_TRAINED_RMS:
        return f"{problem}, which is more than rounding: the table was trained, and is used as it is"
    if strict:
        raise WeightsError(
            f"{label}: {problem}; is it damaged, or a model with positions of its own? "
            "(load_model with strict=False loads it anyway)"
        )
    return f"{problem}; it is used as it is"


def warn_about(label: str, problem: str, stacklevel: int) -> None:
    """Warn of a problem of a checkpoint, if there is one, at the line of code ``stacklevel`` calls above the caller."""
    if problem:
        warnings.warn(printable(f"{label}: {problem}"), stacklevel=stacklevel + 1)
