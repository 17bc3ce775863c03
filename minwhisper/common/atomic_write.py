"""Atomic writing: a file is complete or absent, whatever happens while it is written."""

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
except ImportError:  # Windows, where a file that is open cannot be removed: that is lock enough
    fcntl = None  # type: ignore[assignment]

_PREFIX, _SUFFIX = ".minwhisper-", ".tmp"


@contextmanager
def temporary_file(folder: Path) -> Iterator[BinaryIO]:
    """Create a file of its own name in the folder, open for writing; it is removed at the end if it is still there.

    The file is locked as long as it is open. The system gives the lock back when the process ends, even if it is
    killed: that is how :func:`remove_stale_files` tells a file that is left over from one that is being written.
    """
    path, file = _create(folder)
    try:
        with file:
            yield file
    finally:
        with suppress(OSError):  # after os.replace it is not there; and an earlier error matters more
            path.unlink()


def _create(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        file = path.open("xb")  # with the permissions of any new file
        _lock(file, wait=True)
        if os.fstat(file.fileno()).st_nlink or fcntl is None:
            return path, file
        file.close()  # another process has removed it, between its creation and the lock


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock an open file; return False if another process has the lock."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: there only the process that writes a file removes it
            return wait
    return True


def remove_stale_files(folder: Path) -> None:
    """Remove the temporary files in the folder that processes left behind when they were killed."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError), path.open("ab") as file:
            if _lock(file, wait=False):
                path.unlink()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file: until the new one is complete, the old one stays. Raises OSError if the system refuses."""
    with temporary_file(path.parent) as file:
        if path.exists():
            shutil.copymode(path, file.name)  # a private file stays private
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # on the disk before it gets the name: there may be a power cut
        if fcntl is None:
            file.close()  # Windows renames only what is closed
        os.replace(file.name, path)


def check_replaceable(path: Path) -> None:
    """Raise OSError if :func:`replace_file` could not give a file this name, as far as can be told without writing."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", str(path))
    folder = path.parent.stat()
    sticky = hasattr(os, "geteuid") and folder.st_mode & stat.S_ISVTX  # as /tmp: only the owner may replace a file
    if sticky and os.geteuid() not in (0, there.st_uid, folder.st_uid):
        raise PermissionError(errno.EPERM, "a file of another user", str(path))
