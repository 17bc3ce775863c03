"""Recordings that are not local files: ``s3://…``, ``https://…``, ``sftp://…`` and others, read with fsspec.

fsspec comes with Dask. A protocol may need another package, such as s3fs for ``s3://``; credentials are those of that
package: its environment variables and files.
"""

import time
from posixpath import splitext
from typing import Any

from ..errors import AudioError, CorpusError
from ..printable import printable
from .inputs import ENDINGS
from .job import Recording

PAUSES = (1.0, 5.0)  # seconds before another attempt: networks fail now and then
FINAL = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ImportError, ValueError)
"""Errors for which another attempt is useless."""


def is_address(path: str) -> bool:
    """Return whether a path is an address, such as ``s3://bucket/talk.mp3``."""
    return "://" in path


def read_address(address: str) -> bytes:
    """Return the content of a file. Raises ``AudioError`` if it cannot be read, even at a third attempt."""
    import fsspec

    for pause in (*PAUSES, None):
        try:
            with fsspec.open(address, "rb") as file:
                content: bytes = file.read()
                return content
        except MemoryError:
            raise
        except Exception as error:  # each file system has its own kinds
            if pause is None or isinstance(error, FINAL):
                raise AudioError(f"{printable(address)}: {_reason(error)}") from error
            time.sleep(pause)
    raise AssertionError("unreachable")


def find_at_address(address: str) -> list[tuple[Recording, str]]:
    """Return the recordings of an address: a file, a folder, or a pattern such as ``s3://bucket/**/*.mp3``.

    Each comes with its path within the folder, or below the fixed part of the pattern. From a folder, the files with
    one of ``ENDINGS`` are taken. Raises ``CorpusError`` if there are none, or if the address cannot be read.
    """
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(address)
        if any(mark in path for mark in "*?["):
            root = path[: min(path.index(mark) for mark in "*?[" if mark in path)].rpartition("/")[0]
            found = files.glob(path, detail=True)
            found = {name: info for name, info in found.items() if info.get("type") != "directory"}
        else:
            root, found = path.rpartition("/")[0], {path: files.info(path)}
            if found[path].get("type") == "directory":
                root, found = path.rstrip("/"), files.find(path, detail=True)
                found = {name: info for name, info in found.items() if splitext(name)[1][1:].lower() in ENDINGS}
    except FileNotFoundError:
        return [(Recording(address, ""), address.rpartition("/")[2])]  # the worker reports it, and the others continue
    except Exception as error:
        raise CorpusError(f"{printable(address)}: {_reason(error)}") from error
    if not found:
        raise CorpusError(f"{printable(address)}: no recordings there; expected files in a format such as mp3 or wav")
    return [
        (_recording(files.unstrip_protocol(name), info), name[len(root) :].lstrip("/"))
        for name, info in sorted(found.items())
    ]


def _recording(address: str, info: dict[str, Any]) -> Recording:
    """Return a recording, with the version that its file system reports."""
    signs = (
        info.get(name) for name in ("ETag", "etag", "md5", "md5Hash", "mtime", "LastModified", "modified", "created")
    )
    version = next((str(sign) for sign in signs if sign is not None), None)
    size = info.get("size")
    return Recording(address, "", size if isinstance(size, int) else None, version)


def _reason(error: Exception) -> str:
    """Return why an address cannot be read, and what to do."""
    if isinstance(error, FileNotFoundError):
        return "no such file; check the spelling"
    if isinstance(error, ImportError | ValueError):  # fsspec names the missing package, or the unknown protocol
        return f"{error}; install what this protocol needs on the client and on all workers"
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return f"cannot be read ({text}); check the address, the network and the credentials, and try again"
