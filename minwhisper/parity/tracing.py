"""A trace: every stage of the model for one window of a recording, from samples to the next tokens.

In float64, the default, it is the exact answer for another implementation. ``trace`` computes one, and ``save_trace``
writes it to a file for safetensors or ``numpy.load``.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.atomic_write import check_replaceable, replace_file
from ..common.backend import Array, to_numpy
from ..decoding.options import DecodingOptions
from ..errors import OptionError, ShapeError
from ..model.weight_names import flatten
from ..printable import printable, short_repr
from ..whisper import Whisper
from .graph import Place, Stage, needed, network, run
from .names import hugging_face_name
from .recording import Recording

DTYPES = ("float64", "float32")
NAMES = ("minwhisper", "hf")

AudioInput = str | os.PathLike[str] | NDArray[np.float32]


def trace(
    model: Whisper,
    audio: AudioInput,
    *,
    tokens: Any = None,
    stages: Sequence[str] | None = None,
    dtype: str = "float64",
) -> dict[str, Array]:
    """Compute every stage for the first 30 s of a recording: {name: array}, in the order of computation.

    Args:
        model: the model; its weights are converted to ``dtype`` as they are needed.
        audio: a file, or samples (N,) at 16 kHz.
        tokens: the input of the decoder, (S,) or (B, S); by default the start-of-transcript sequence and the text that
            greedy search finds, without timestamps. They are in the result, as "tokens", if they are given or a stage
            needs them.
        stages: the names to compute, or patterns such as ``"encoder.blocks.0.*"``; by default all, without attention's
            scores and weights over all positions. Those have to be named, as in ``"*.attention.weights"``.
        dtype: "float64", the exact answer, or "float32".

    ``parity.graph`` has the stages. Raises ``OptionError`` for a name that no stage has, and ``ShapeError`` for tokens
    that do not fit the model.
    """
    if dtype not in DTYPES:
        raise OptionError(f"dtype {short_repr(dtype)}: expected one of {', '.join(DTYPES)}")
    graph = network(model.config)
    wanted = choose_stages(graph, stages)
    given: dict[str, Any] = {"recording": Recording(audio)}
    found: dict[str, Array] = {}
    if tokens is not None:
        found["tokens"] = check_token_ids(tokens, model)
    elif any("tokens" in stage.inputs for stage in needed(graph, wanted, ("recording", "tokens"))):
        found["tokens"] = generate(model, given["recording"])
    given |= found
    for name, value in run(graph, wanted, given, place(model), convert=lambda array: to_numpy(array).astype(dtype)):
        found[name] = np.ascontiguousarray(value)
    return found


def place(model: Whisper) -> Place:
    """Return the context that the stages of a model need apart from their inputs."""
    return Place(model.config, model.weights, model.tokenizer)


def generate(model: Whisper, recording: Recording) -> NDArray[np.int64]:
    """Return the start-of-transcript sequence and the text that greedy search finds in the first window: (1, S)."""
    ((_, mel),) = run(network(model.config), ["mel"], {"recording": recording}, place(model))
    result = model.decode(mel[0].astype(np.float32), DecodingOptions(without_timestamps=True))
    prompt = model.tokenizer.sot_sequence(result.language, "transcribe", timestamps=False)
    return np.array([[*prompt, *result.tokens]], np.int64)


def choose_stages(graph: dict[str, Stage], patterns: Sequence[str] | None) -> list[str]:
    """Return the names of the stages that a pattern matches. Raises ``OptionError`` for a pattern that matches none."""
    if patterns is None:
        return [name for name, stage in graph.items() if not stage.large]
    chosen: set[str] = set()
    for pattern in patterns:
        matching = [name for name in graph if fnmatchcase(name, pattern)]
        if not matching:
            raise OptionError(
                f"stages: no stage matches {printable(pattern, 60)!r}; expected names such as 'mel', 'encoder.stem' or "
                "'decoder.blocks.0.mlp.*'"
            )
        last_part = pattern.rpartition(".")[2]  # a large stage must be named by it
        chosen.update(name for name in matching if not graph[name].large or name.endswith(f".{last_part}"))
    return [name for name in graph if name in chosen]


def check_token_ids(tokens: Any, model: Whisper) -> NDArray[np.int64]:
    """Return the tokens as an array (B, S). Raises ``ShapeError`` if they do not fit the model."""
    ids = np.atleast_2d(np.asarray(tokens))
    most, vocabulary = model.config.max_target_positions, model.config.vocab_size
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or not 1 <= ids.shape[1] <= most:
        raise ShapeError(f"tokens: expected 1 to {most} whole numbers, got {ids.dtype} of shape {ids.shape}")
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise ShapeError(f"tokens: expected ids from 0 to {vocabulary - 1}, got {ids.min()} to {ids.max()}")
    return ids.astype(np.int64)


# --- Files --------------------------------------------------------------------------------------------------------


def metadata(model: Whisper, audio: AudioInput, dtype: str) -> dict[str, str]:
    """Return the metadata of a trace: the model, the sha256 of its weights and of the audio, and the axes by stage."""
    from .. import __version__

    weights = hashlib.sha256()
    for name, array in flatten(model.weights):
        weights.update(name.encode())
        weights.update(to_numpy(array).astype("<f4").tobytes())
    content = np.ascontiguousarray(audio).tobytes() if isinstance(audio, np.ndarray) else Path(audio).read_bytes()
    shapes = {name: stage.shape for name, stage in network(model.config).items()} | {"tokens": "B S"}
    return {
        "format": "minwhisper trace 1",
        "version": __version__,
        "model": model.name,
        "weights_sha256": weights.hexdigest(),
        "audio_sha256": hashlib.sha256(content).hexdigest(),
        "dtype": dtype,
        "shapes": json.dumps(shapes),
    }


def save_trace(path: Path, arrays: dict[str, Array], facts: dict[str, str], names: str = "minwhisper") -> None:
    """Write a trace to a file: ``.npz``, or else safetensors.

    With ``names="hf"``, a stage that is the output of a module of Transformers has that module's name. The file is
    complete or absent. Raises ``OSError`` if it cannot be written.
    """
    if names == "hf":
        arrays = {hugging_face_name(name): array for name, array in arrays.items()}
    check_replaceable(path)
    if path.suffix == ".npz":
        buffer = BytesIO()
        np.savez(buffer, **{**arrays, "metadata": np.array(json.dumps(facts))})  # type: ignore[arg-type]
        replace_file(path, buffer.getvalue())
        return
    from safetensors.numpy import save

    replace_file(path, save(arrays, facts))
