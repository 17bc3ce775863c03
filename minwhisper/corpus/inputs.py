"""The recordings to transcribe: files, folders and lists of files → each file with the name of its outputs.

Files of a folder keep their places: the output of ``talks/a/x.wav`` from the folder ``talks`` is ``a/x.json`` in the
output folder, so a repeated run finds the outputs of the previous one, and nothing is written outside that folder.
"""

import os
import sys
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ..errors import OptionError
from ..printable import printable

_ENDINGS = """
3g2 3gp aac ac3 adts aif aifc aiff amr ape asf au avi caf divx dts eac3 f4v flac flv gsm m2ts m4a m4b m4v mka
mkv mov mp2 mp3 mp4 mpe mpeg mpg mpga mts mxf nist oga ogg ogm ogv opus ra rm rmvb snd sph spx tak ts tta vob
w64 wav wave weba webm wma wmv wv
"""
ENDINGS = frozenset(_ENDINGS.split())
"""The endings of files that are taken from a folder: audio and video in formats that FFmpeg reads."""


@dataclass(frozen=True)
class Input:
    """A recording, and the name of its outputs."""

    path: str  # as given, or found in a given folder; "-" for standard input
    output: str  # within the output folder, without the format; folders are separated by "/"


@dataclass(frozen=True)
class _File:
    """A file that was given, or found in a given folder."""

    path: str
    folder: str  # the real path of the folder that it is in; "" for standard input
    inner: str  # its path within the given folder; the name of a file that was itself given
    given: str | None = None  # the given folder


def find_inputs(given: Iterable[str], *, recursive: bool = False, formats: Sequence[str] = ()) -> list[Input]:
    """Return the recordings that files and folders stand for, in their order, and sorted within a folder.

    From a folder, the files with one of ``ENDINGS`` are taken, with ``recursive`` also those in its subfolders. Hidden
    files and folders are left out. A linked folder is followed, but no folder is searched twice, so loops do no harm. A
    file that is given or found twice is taken once, at its first place.

    No two recordings have the same output file in one of the ``formats``, if that is possible. A name is the path
    within the given folder, without the ending; of a file that was itself given, it is the name of the file. If two are
    the same, these rules apply, in this order:

    - Two files in a folder, ``x.wav`` and ``x.mp3``, keep their endings: ``x.wav.json``, ``x.mp3.json``. An error
      would stop a whole collection for one pair of files. Other names do not change.
    - Files from several folders that were themselves given mirror their folders: ``a/x.json``, ``b/x.json``.
    - Files of several given folders begin with the name of the folder.
    - All files mirror their folders below the folder that they have in common.

    Raises ``OptionError`` for a folder that has no recordings or cannot be read. A subfolder that cannot be read gives
    a warning. Files are not opened; one that does not exist is returned, too.
    """
    found: dict[tuple[str, str], _File] = {}
    real_paths: dict[str, str] = {}
    for path in given:
        for file in _folder_files(path, recursive) if os.path.isdir(path) else [_given_file(path, real_paths)]:
            found.setdefault((file.folder, os.path.basename(file.path)), file)
    files = [*found.values()]
    outputs = _choose_outputs(files, formats)
    return [Input(file.path, output.replace(os.sep, "/")) for file, output in zip(files, outputs, strict=True)]


def read_list(source: str) -> list[str]:
    """Return the paths in a list of files, one per line; ``"-"`` reads it from standard input.

    Blank lines are ignored. A list with NULs, such as that of ``find -print0``, is split at these, so that names can
    have line breaks. Raises ``OptionError`` for a list that is empty or cannot be read.
    """
    name = "standard input" if source == "-" else printable(repr(source))
    try:
        if source == "-":
            content = sys.stdin.buffer.read() if sys.stdin is not None else b""
        else:
            with open(source, "rb") as file:
                content = file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise OptionError(
            f"files_from {name}: cannot be read ({reason}); expected a file with a path per line, or - for standard "
            "input"
        ) from None
    if b"\0" in content:
        lines = [line for line in content.split(b"\0") if line]
    else:
        lines = [line.removesuffix(b"\r") for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
        lines = [line for line in lines if line.strip()]
    if not lines:
        raise OptionError(f"files_from {name}: expected a path per line, but the list is empty; add paths to it")
    paths = map(os.fsdecode, lines)
    return [os.path.join(os.curdir, path) if path == "-" else path for path in paths]  # not standard input again


# ------------------------------------------------------------------------------------------ files


def _given_file(path: str, real_paths: dict[str, str]) -> _File:
    """Return a file that was itself given; ``real_paths`` is a cache of the real paths of folders."""
    if path == "-":
        return _File(path, "", "stdin")
    folder = os.path.dirname(path)
    if folder not in real_paths:
        try:
            real_paths[folder] = os.path.realpath(folder)
        except ValueError:  # a NUL in the name
            real_paths[folder] = folder
    return _File(path, real_paths[folder], os.path.basename(path))


def _folder_files(given: str, recursive: bool) -> list[_File]:
    """Return the recordings in a folder, sorted by their paths."""
    found = sorted(_walk(given, recursive), key=lambda file: file.inner.split(os.sep))
    if not found:
        more = "" if recursive else "; --recursive searches its subfolders, too"
        raise OptionError(
            f"{printable(repr(given))}: a folder without recordings; expected audio or video files, with endings such "
            f"as .mp3, .wav or .mp4{more}; give files with other endings one by one"
        )
    return found


def _walk(given: str, recursive: bool) -> Iterator[_File]:
    """Yield the recordings in a folder; a folder that is also linked is searched in its own place."""
    seen: set[str] = set()
    folders, linked = deque([""]), deque[str]()  # paths within the given folder
    while folders or linked:
        inner = (folders or linked).popleft()
        place = os.path.join(given, inner) if inner else given
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(place) as entries:
                found = list(entries)
        except OSError as error:
            message = f"{printable(repr(place))}: a folder that cannot be read ({error.strerror or error})"
            if not inner:
                raise OptionError(f"{message}; change its permissions, or give the files one by one") from None
            warnings.warn(f"{message}; its files are left out", stacklevel=4)
            continue
        for entry in found:
            if entry.name.startswith("."):
                continue
            path, is_link = os.path.join(inner, entry.name), entry.is_symlink()
            # isdir: entry.is_dir() raises OSError for a link that leads to itself.
            if os.path.isdir(entry.path) if is_link else entry.is_dir():
                if recursive:
                    (linked if is_link else folders).append(path)
            elif _is_recording(entry.name) and (is_link or entry.is_file()):  # a broken link is reported when opened
                yield _File(os.path.join(given, path), real, path, given)


def _is_recording(name: str) -> bool:
    return os.path.splitext(name)[1][1:].lower() in ENDINGS


# ------------------------------------------------------------------------------------------ names of outputs


def _choose_outputs(files: Sequence[_File], formats: Sequence[str]) -> list[str]:
    """Return the names of the outputs, from the first layout in which no two are the same, or else from the last."""
    # One of srt and json shows all conflicts. With vtt and words.vtt, talk.words.vtt can come from talk or talk.words.
    nested = any(one.endswith(f".{other}") for one, other in product(formats, formats))
    endings = formats if nested else formats[:1]
    outputs: list[str] = []
    for paths in _layouts(files):
        outputs = _without_endings(paths, files, endings)
        written = Counter(f"{output}.{ending}" for output in outputs for ending in endings)
        if max(written.values(), default=1) == 1:
            break
    return outputs


def _layouts(files: Sequence[_File]) -> Iterator[list[str]]:
    """Yield the paths of the outputs with the endings of the files, in one layout after the other."""
    yield [file.inner for file in files]
    mirrored = _mirrored(file for file in files if file.given is None)
    prefixed = {
        file.path: os.path.join(os.path.basename(os.path.abspath(file.given)), file.inner)
        for file in files
        if file.given is not None
    }
    for changes in (mirrored, prefixed, mirrored | prefixed):
        yield [changes.get(file.path, file.inner) for file in files]
    everything = _mirrored(files)
    yield [everything.get(file.path, file.inner) for file in files]


def _mirrored(files: Iterable[_File]) -> dict[str, str]:
    """Return the place of each file, except standard input, below the folder that they have in common."""
    places = {file.path: os.path.abspath(file.path) for file in files if file.path != "-"}
    try:
        common = os.path.commonpath({os.path.dirname(place) for place in places.values()})
    except ValueError:  # no files, or on different drives of Windows
        return {}
    return {path: place[len(common) :].lstrip(os.sep) for path, place in places.items()}


def _without_endings(paths: Sequence[str], files: Sequence[_File], endings: Sequence[str]) -> list[str]:
    """Remove the endings of the files, except where two files in a folder would have the same outputs."""

    def names(number: int) -> Iterator[tuple[str, str]]:
        return ((files[number].folder, f"{outputs[number]}.{ending}") for ending in endings)

    kept: set[int] = set()
    while True:
        outputs = [path if i in kept else os.path.splitext(path)[0] for i, path in enumerate(paths)]
        counts = Counter(name for i in range(len(files)) for name in names(i))
        same = {i for i in range(len(files)) if any(counts[name] > 1 for name in names(i))} - kept
        if not same:
            return outputs
        kept |= same
