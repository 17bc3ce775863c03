"""openai-whisper's ``whisper.utils``: transcripts to files, and small helpers."""

import os
from collections.abc import Mapping
from typing import Any, TextIO

from ..decoding.decode import compression_ratio
from ..errors import OptionError
from ..transcription.segments import Transcript
from ..writers.files import write_transcript
from ..writers.render import parse_formats, render
from ..writers.subtitles import SubtitleOptions, format_timestamp

__all__ = [
    "ResultWriter",
    "WriteJSON",
    "WriteSRT",
    "WriteTSV",
    "WriteTXT",
    "WriteVTT",
    "compression_ratio",
    "exact_div",
    "format_timestamp",
    "get_writer",
    "optional_float",
    "optional_int",
    "str2bool",
]


def exact_div(x: int, y: int) -> int:
    """Divide two whole numbers. Raises ``ValueError`` if a remainder is left."""
    quotient, remainder = divmod(x, y)
    if remainder:
        raise OptionError(f"exact_div: {x} is not a multiple of {y}")
    return quotient


def str2bool(string: str) -> bool:
    """Return the value of "True" or "False". Raises ``ValueError`` for anything else."""
    if string not in ("True", "False"):
        raise OptionError(f"expected True or False, got {string!r}")
    return string == "True"


def optional_int(string: str) -> int | None:
    """Return the whole number in a text, or None for "None"."""
    return None if string == "None" else int(string)


def optional_float(string: str) -> float | None:
    """Return the number in a text, or None for "None"."""
    return None if string == "None" else float(string)


class ResultWriter:
    """A callable that writes a transcript to ``output_dir``, in a file named after the audio file."""

    extension = "all"

    def __init__(self, output_dir: str) -> None:
        self.output_dir = output_dir

    def __call__(
        self, result: Transcript, audio_path: Any, options: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        """Write the file. The options are those of ``SubtitleOptions``."""
        name = os.path.splitext(os.path.basename(audio_path))[0]
        write_transcript(result, self.output_dir, name, self.extension, _subtitle_options(options, more))

    def write_result(
        self, result: Transcript, file: TextIO, options: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        """Write the transcript to an open file."""
        file.write(render(result, self.extension, _subtitle_options(options, more)))


def _subtitle_options(options: Mapping[str, Any] | None, more: Mapping[str, Any]) -> SubtitleOptions:
    given = {**(options or {}), **{name: value for name, value in more.items() if value}}
    names = ("max_line_width", "max_line_count", "highlight_words", "max_words_per_line")
    return SubtitleOptions(**{name: given[name] for name in names if given.get(name)})


class WriteTXT(ResultWriter):
    """A writer of plain text, one line per segment."""

    extension = "txt"


class WriteVTT(ResultWriter):
    """A writer of WebVTT subtitles."""

    extension = "vtt"


class WriteSRT(ResultWriter):
    """A writer of SubRip subtitles."""

    extension = "srt"


class WriteTSV(ResultWriter):
    """A writer of a table of start, end and text."""

    extension = "tsv"


class WriteJSON(ResultWriter):
    """A writer of the transcript as JSON."""

    extension = "json"


def get_writer(output_format: str, output_dir: str) -> ResultWriter:
    """Return the writer of a format, of several separated by commas, or, for "all", of openai-whisper's five."""
    parse_formats(output_format)
    for writer in (WriteTXT, WriteVTT, WriteSRT, WriteTSV, WriteJSON):
        if writer.extension == output_format:
            return writer(output_dir)
    other = ResultWriter(output_dir)
    other.extension = output_format
    return other
