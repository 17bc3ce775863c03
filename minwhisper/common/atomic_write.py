"""Write files atomically: a file is complete or absent, whatever happens while it is written."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be removed, so no lock is needed
    fcntl = None  # type: ignore[assignment]

_PREFIX, _SUFFIX = ".minwhisper-", ".tmp"


@contextmanager
def temporary_file(folder: Path) -> Iterator[BinaryIO]:
    """Create a file with a unique name in the folder, open to read and write; at the end, remove it if it still exists.

    The file is locked while it is open. The system releases the lock when the process ends, even if it is killed, so
    ``remove_stale_files`` can tell a leftover file from one that is being written.
    """
    path, file = _create(folder)
    try:
        with file:
            yield file
    finally:
        with suppress(OSError):  # it is gone after os.replace, and an earlier error matters more
            path.unlink()


def _create(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        file = path.open("x+b")  # with the permissions of any new file
        _lock(file, wait=True)
        if os.fstat(file.fileno()).st_nlink or fcntl is None:
            return path, file
        file.close()  # another process removed it before it was locked


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock an open file, or return False if another process holds the lock."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: only the process that writes a file removes it
            return wait
    return True


def remove_stale_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left in the folder."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError), path.open("ab") as file:
            if _lock(file, wait=False):
                path.unlink()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, keeping the old one until the new one is complete. Raises OSError if the system refuses."""
    with temporary_file(path.parent) as file:
        if path.exists():
            shutil.copymode(path, file.name)  # a private file stays private
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # on disk before it gets its name, in case of a power failure
        if fcntl is None:
            file.close()  # Windows renames only closed files
        os.replace(file.name, path)


def check_replaceable(path: Path) -> None:
    """Raise OSError if ``replace_file`` would fail at this path, as far as it can be checked without writing."""
    try:
        existing = path.lstat()
    except FileNotFoundError:
        return
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", str(path))
    folder = path.parent.stat()
    sticky = hasattr(os, "geteuid") and folder.st_mode & stat.S_ISVTX  # like /tmp: only the owner may replace a file
    if sticky and os.geteuid() not in (0, existing.st_uid, folder.st_uid):
        raise PermissionError(errno.EPERM, "the file belongs to another user", str(path))
