"""The files that this process has open."""

import os
from pathlib import Path

import pytest

OPEN_FILES = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system has no list of open files")


def temporary_files(folder: Path) -> list[str]:
    """Return the files in a folder that this process has open, including those without a name."""
    links = []
    for link in OPEN_FILES.iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:  # the entry of the listing itself
            continue
    return [link for link in links if link.startswith(f"{folder}{os.sep}")]
