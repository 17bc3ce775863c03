"""A transcript in files: one for each format, each complete or absent.

Walkthrough: section 13.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..common.atomic_write import check_replaceable, remove_stale_files, replace_file, temporary_file
from ..errors import OptionError
from ..transcription.segments import Transcript
from .render import FORMATS, SEGMENTS_AS_THEY_ARE, SubtitleOptions, check_format, render


def write_transcript(
    transcript: Transcript,
    folder: str | os.PathLike[str],
    name: str,
    format: str = "all",
    options: SubtitleOptions = SEGMENTS_AS_THEY_ARE,
) -> list[Path]:
    """Write ``folder/name.format``, for "all" in each of :data:`FORMATS`, and return the paths of the files.

    The text is UTF-8 and a line ends in a line feed, on every platform. A file is complete or absent: until the new one
    is complete, the old one stays. The folder is made if it does not exist. If a file cannot be written, the others
    still are. Raises :class:`OptionError` for another format, for a name that is not a file's, and for each file that
    could not be written.
    """
    check_format(format, (*FORMATS, "all"))
    paths = _paths(folder, name, format)
    # All of them before the first is written: what cannot be rendered must not leave half of a set.
    contents = {path: render(transcript, path.suffix[1:], options) for path in paths}
    with _made(folder):
        # Half of a surrogate pair, which UTF-8 cannot hold, becomes "?" and does not cost the transcript.
        _each(paths, lambda path: replace_file(path, contents[path].encode("utf-8", "replace")), folder)
    return paths


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make the folder if it does not exist, and a file in it that is removed again: to know before hours of work.

    Temporary files of processes that were killed are removed. Raises :class:`OptionError` if the folder cannot be
    written to.
    """
    with _made(folder):
        remove_stale_files(Path(folder))
        with temporary_file(Path(folder)) as trial:
            trial.write(b"\n")


def check_file_names(folder: str | os.PathLike[str], name: str, format: str) -> None:
    """Raise :class:`OptionError` if a file that :func:`write_transcript` would write could not get its name."""
    _each(_paths(folder, name, format), check_replaceable, folder)


def _paths(folder: str | os.PathLike[str], name: str, format: str) -> list[Path]:
    if not name or Path(name).name != name:
        raise OptionError(f"name: expected that of a file, without folder and format, got {name!r}")
    return [Path(folder, f"{name}.{one}") for one in (FORMATS if format == "all" else (format,))]


def _each(paths: Iterable[Path], work: Callable[[Path], object], folder: str | os.PathLike[str]) -> None:
    """Call ``work`` on each path, on the others also if it fails; then raise one error for all that failed."""
    reasons: dict[str, list[str]] = {}  # names by what the system says
    for path in paths:
        try:
            work(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reasons.setdefault(str(getattr(error, "strerror", None) or error), []).append(repr(path.name))
    if reasons:
        failed = "; ".join(f"{' and '.join(names)}: {reason}" for reason, names in reasons.items())
        raise OptionError(
            f"output_dir {os.fspath(folder)!r}: cannot write {failed}; make room there, rename what is in the way, or "
            "name another folder"
        )


@contextmanager
def _made(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Make the folder; whatever the system refuses in it from then on becomes an :class:`OptionError`."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OptionError):  # which is a ValueError
            raise
        raise OptionError(
            f"output_dir {os.fspath(folder)!r}: expected a folder that can be written to, but the system says "
            f"{str(getattr(error, 'strerror', None) or error)!r}; make room there, or name another folder"
        ) from error
