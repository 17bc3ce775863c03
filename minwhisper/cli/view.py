"""The command ``minwhisper view``: make the page of a transcript that was saved as JSON."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..audio.load import load_audio
from ..common.atomic_write import check_replaceable, replace_file
from ..common.console import Console
from ..errors import OptionError
from ..printable import printable
from ..writers.html import PageOptions, read_transcript, transcript_page

MB = 1_000_000


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn a system error into one that names the file."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"{printable(str(target))}: cannot be written ({reason}); choose another with -o") from None


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the page, print its path, and return the exit status."""
    source: Path = options.transcript
    target: Path = options.output or source.with_suffix(".html")
    if not 0 < options.max_size < 1e6:
        raise OptionError(f"max_size: expected megabytes, more than 0, got {options.max_size:g}")
    transcript = read_transcript(source)
    with _writing(target):
        check_replaceable(target)
    samples, link, title = None, "", source.stem
    if options.audio is not None:
        samples, title = load_audio(options.audio), options.audio.name
        try:
            link = Path(os.path.relpath(options.audio, target.parent)).as_posix()
        except ValueError:  # on another Windows drive
            link = options.audio.absolute().as_uri()
    page = transcript_page(
        transcript, title, samples=samples, audio_link=link, options=PageOptions(max_bytes=round(options.max_size * MB))
    )
    with _writing(target):
        replace_file(target, page.encode("utf-8", "replace"))
    console.text(f"{printable(str(target))}: {len(page.encode()) / MB:.1f} MB")
    return 0
