"""Write a transcript to files: one per format, each complete or absent.

Walkthrough: section 13.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..common.atomic_write import check_replaceable, remove_stale_files, replace_file, temporary_file
from ..errors import AudioError, OptionError
from ..printable import printable
from ..transcription.segments import Transcript
from .render import PAGE, parse_formats, render
from .subtitles import DEFAULT_SUBTITLES, SubtitleOptions


def write_transcript(
    transcript: Transcript,
    folder: str | os.PathLike[str],
    name: str,
    format: str = "all",
    options: SubtitleOptions = DEFAULT_SUBTITLES,
    *,
    audio: str | os.PathLike[str] | None = None,
    model: str = "",
    recording: str | None = None,
) -> list[Path]:
    """Write ``folder/name.format`` for each format, and return the paths.

    ``format`` is the name of a format, several separated by commas, or "all" for those of openai-whisper: txt, vtt,
    srt, tsv and json. Only html uses ``audio``, the audio file, and ``model``, the name of the model. jsonl and ctm
    contain ``recording``, a name that distinguishes it from others, by default ``name``.

    Files are UTF-8 with line feeds on every platform. An existing file is replaced only when the new one is complete.
    The folder is created if necessary. If a file cannot be written, the others are still written. Raises
    ``OptionError`` for an unknown format, for a transcript without the words that a format needs, for a name that is
    not a file name, and for files that cannot be written.
    """
    # Render all formats before writing any: an error must not leave half of a set.
    contents = transcript_files(
        transcript, folder, name, format, options, audio=audio, model=model, recording=recording
    )
    write_files(contents, folder)
    return [*contents]


def transcript_files(
    transcript: Transcript,
    folder: str | os.PathLike[str],
    name: str,
    format: str = "all",
    options: SubtitleOptions = DEFAULT_SUBTITLES,
    *,
    audio: str | os.PathLike[str] | None = None,
    model: str = "",
    recording: str | None = None,
) -> dict[Path, bytes]:
    """Return what ``write_transcript`` writes: the content of each file by its path.

    Arguments and errors are the same.
    """
    return {
        # "replace": half of a surrogate pair cannot be encoded in UTF-8 and becomes "?".
        path: (
            _page(transcript, path, audio, model)
            if one == PAGE
            else render(transcript, one, options, recording or name)
        ).encode("utf-8", "replace")
        for one, path in _paths(folder, name, format).items()
    }


def write_files(contents: Mapping[Path, bytes], folder: str | os.PathLike[str]) -> None:
    """Write files into a folder, which is created if necessary; each is complete or absent.

    If one cannot be written, the others are still written. Raises ``OptionError`` then.
    """
    with _created(folder):
        _for_each(contents, lambda path: replace_file(path, contents[path]), folder)


def _page(transcript: Transcript, path: Path, audio: str | os.PathLike[str] | None, model: str) -> str:
    """Return the page of a transcript that will be written to a path, with the recording in it if it can be read."""
    from ..audio.load import load_audio
    from .html import transcript_page

    if audio is None:
        return transcript_page(transcript, path.stem, model=model)
    try:
        samples = load_audio(audio)
    except AudioError as error:
        warnings.warn(f"{printable(path.name)}: without audio, because {error}", stacklevel=3)
        samples = None
    try:
        link = Path(os.path.relpath(audio, path.parent)).as_posix()
    except ValueError:  # on another Windows drive
        link = Path(audio).absolute().as_uri()
    return transcript_page(transcript, Path(audio).name, samples=samples, audio_link=link, model=model)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Check a folder before hours of work: create it if necessary, and write and remove a file in it.

    Temporary files of killed processes are removed. Raises ``OptionError`` if the folder cannot be written to.
    """
    with _created(folder):
        remove_stale_files(Path(folder))
        with temporary_file(Path(folder)) as trial:
            trial.write(b"\n")


def check_file_names(folder: str | os.PathLike[str], name: str, format: str) -> None:
    """Raise ``OptionError`` if ``write_transcript`` could not create or replace one of its files."""
    _for_each(_paths(folder, name, format).values(), check_replaceable, folder)


def _paths(folder: str | os.PathLike[str], name: str, format: str) -> dict[str, Path]:
    """Return the path of each format's file."""
    formats = parse_formats(format)
    if not name or Path(name).name != name:
        raise OptionError(f"name: expected a file name without folder and format, got {name!r}")
    return {one: Path(folder, f"{name}.{one}") for one in formats}


def _for_each(paths: Iterable[Path], action: Callable[[Path], object], folder: str | os.PathLike[str]) -> None:
    """Call ``action`` with every path, even if one fails; then raise one error for all that failed."""
    reasons: dict[str, list[str]] = {}  # file names by the system's error message
    for path in paths:
        try:
            action(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reasons.setdefault(str(getattr(error, "strerror", None) or error), []).append(repr(path.name))
    if reasons:
        failed = "; ".join(f"{' and '.join(names)}: {reason}" for reason, names in reasons.items())
        raise OptionError(
            f"output_dir {os.fspath(folder)!r}: cannot write {failed}; free some space there, rename what "
            "is in the way, or choose another folder"
        )


@contextmanager
def _created(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Create the folder, and turn system errors, here and in the block, into an ``OptionError``."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OptionError):  # which is a ValueError
            raise
        raise OptionError(
            f"output_dir {os.fspath(folder)!r}: expected a writable folder, but the system reports "
            f"{str(getattr(error, 'strerror', None) or error)!r}; free some space there, or choose another folder"
        ) from error
