"""Files, folders, patterns and addresses → recordings, each with size, version and the place of its outputs."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from glob import glob, has_magic

from ..errors import OptionError
from ..printable import printable
from .addresses import find_at_address, is_address
from .inputs import find_inputs
from .job import Recording


def find_recordings(given: Iterable[str], formats: Sequence[str] = ("json",)) -> list[Recording]:
    """Return the recordings that files, folders, patterns and addresses stand for, each once.

    Folders are searched with all their subfolders. A pattern, such as ``talks/**/*.mp3``, is expanded here if no file
    has this name. Outputs are named as ``find_inputs`` says; those of an address, after its path below the folder or
    the pattern. Raises ``OptionError`` or ``CorpusError`` if there is nothing to find.
    """
    local: list[str] = []
    addresses: list[str] = []
    for one in given:
        if one == "-":
            raise OptionError("-: a corpus cannot be standard input; give files, or a list of them with --files_from -")
        if is_address(one):
            addresses.append(one)
        else:
            local += _expanded(one)
    found = [
        _with_version(Recording(one.path, one.output)) for one in find_inputs(local, recursive=True, formats=formats)
    ]
    remote = {recording.path: (recording, inner) for one in addresses for recording, inner in find_at_address(one)}
    taken = {recording.output for recording in found}
    return found + _named([*remote.values()], taken)


def _expanded(path: str) -> list[str]:
    """Return the files that match a pattern, or the path itself if it is not a pattern."""
    if not has_magic(path) or os.path.lexists(path):
        return [path]
    found = sorted(one for one in glob(path, recursive=True) if not os.path.isdir(one))
    if not found:
        raise OptionError(f"{printable(repr(path))}: no file matches this pattern; check it")
    return found


def _with_version(recording: Recording) -> Recording:
    """Return a local recording with its size and modification time, if it exists."""
    try:
        found = os.stat(recording.path)
    except (OSError, ValueError):  # the worker reports what is wrong
        return recording
    return recording._replace(size=found.st_size, modified=str(found.st_mtime_ns))


def _named(remote: Sequence[tuple[Recording, str]], taken: set[str]) -> list[Recording]:
    """Give recordings at addresses the names of their outputs, the shortest by which all differ."""
    outputs: list[str] = []
    for layout in (
        [os.path.splitext(inner)[0] for _, inner in remote],
        [inner for _, inner in remote],
        [recording.path.partition("://")[2] for recording, _ in remote],
    ):
        outputs = [_inside(path) for path in layout]
        counts = Counter(outputs)
        if max(counts.values(), default=1) == 1 and not counts.keys() & taken:
            break
    return [recording._replace(output=output) for (recording, _), output in zip(remote, outputs, strict=True)]


def _inside(path: str) -> str:
    """Return a path that stays in the folder in which it is used.

    >>> _inside("../a//./b.mp3")
    'a/b.mp3'
    """
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")) or "recording"
