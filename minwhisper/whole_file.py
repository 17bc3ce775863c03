"""A file that is there whole or not at all, whatever happens while it is written."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary_file(folder: Path) -> Iterator[Path]:
    """A path that nobody else uses; what is there in the end is removed, whatever happens."""
    path = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        yield path
    finally:
        with suppress(OSError):  # gone already, or never made; and what went wrong before is what matters
            path.unlink()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file: until the new one is complete, the old one stays. Raises OSError where the system refuses."""
    with temporary_file(path.parent) as temporary:
        with temporary.open("xb") as file:  # with the permissions of any new file
            if path.exists():
                shutil.copymode(path, temporary)  # a private file stays private
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # on the disk before it gets the name: there may be a power cut
        os.replace(temporary, path)
