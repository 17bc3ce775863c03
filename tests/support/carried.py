"""Models and clips for GPU tests and benchmarks, from a folder copied to this machine or from packages.

The environment variable MINWHISPER_MODELS names the folder, which ``python tests/benchmarks/gpu.py --prepare`` creates.
It has the layout of Python's site-packages and is searched after them: it may contain packages of weights,
openai-whisper and PyAV. It also contains the clips as samples, for a machine without PyAV, and the CPU's tokens.
"""

import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import minwhisper
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.parity.comparison import clip_samples

VARIABLE = "MINWHISPER_MODELS"
DATA = Path(__file__).parents[1] / "data"
CLIPS, TOKENS = "clips.npz", "expected_tokens.json"
REFERENCE = "reference clip"  # the name in CLIPS of the package's own clip
PIECE = re.compile(r"(?P<file>.+)\.piece(?P<number>\d+)of(?P<count>\d+)")  # of a file that was cut
INT16 = 32768


def models_folder() -> Path | None:
    """Return the folder that the environment names, and add it to the path."""
    named = os.environ.get(VARIABLE)
    if named and named not in sys.path:
        sys.path.append(named)
    return Path(named) if named else None


def find_weights(name: str) -> str | Path | None:
    """Return the argument for ``load_model``: a folder DIR/<name>, or the name if a package has the weights."""
    folder = models_folder()
    if folder and (folder / name).is_dir():
        return folder / name
    return name if packaged_model(name) else None


def why_no_weights(name: str) -> str:
    """Say why ``find_weights`` finds nothing."""
    folder = models_folder()
    if folder is None:
        return f"the weights of {name} are not installed, and {VARIABLE} names no folder that has them"
    lacking = missing_pieces(folder)
    return f"the weights of {name} are not in {folder}" + (f", where {'; '.join(lacking)}" if lacking else "")


def missing_pieces(folder: Path) -> list[str]:
    """List the files that lack some pieces, with their counts."""
    found: dict[str, list[re.Match[str]]] = {}
    for path in sorted(folder.rglob("*.piece*")):
        if match := PIECE.fullmatch(path.relative_to(folder).as_posix()):
            found.setdefault(match["file"], []).append(match)
    return [f"{file} has {len(them)} of {them[0]['count']} pieces" for file, them in found.items()]


def load_model(name: str, device: str = "cpu", dtype: str = "float32", **how: Any) -> minwhisper.Whisper:
    """Load a model with its own weights, or raise a ``LookupError`` that says what is missing."""
    source = find_weights(name)
    if source is None:
        raise LookupError(why_no_weights(name))
    return minwhisper.load_model(source, device, dtype, **how)


def carried_clips() -> dict[str, np.ndarray]:
    """Return the samples in the folder by the name of the clip; empty if there is no folder."""
    folder = models_folder()
    if folder is None or not (folder / CLIPS).is_file():
        return {}
    with np.load(folder / CLIPS) as stored:
        return {name: stored[name].astype(np.float32) / INT16 for name in stored.files}


def reference_clip() -> np.ndarray:
    """Return the samples of the package's own clip, from the folder if it has them."""
    clips = carried_clips()
    if REFERENCE in clips:
        return clips[REFERENCE]
    if find_spec("av") is None:
        raise LookupError(f"PyAV is not installed, and no folder in {VARIABLE} has the reference clip as samples")
    return clip_samples()


def expected_tokens() -> dict[str, dict[str, dict[str, list[int]]]]:
    """Return precomputed tokens of the CPU, by model, decoding options and clip."""
    folder = models_folder()
    path = folder and folder / TOKENS
    return json.loads(path.read_text("utf-8")) if path and path.is_file() else {}
