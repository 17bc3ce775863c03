"""Check the options of ``minwhisper transcribe`` before a file is read or a model loaded."""

import argparse
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import numpy as np

from ..common.option_checks import check_count, check_number, check_seed
from ..corpus.inputs import Input, find_inputs, read_list
from ..decoding.keywords import TranscriptionKeywords
from ..errors import LanguageError, OptionError
from ..fast.cpu.threads import check_threads
from ..printable import printable, short_repr
from ..tokenizer.languages import TO_LANGUAGE_CODE
from ..transcription.options import TranscriptionOptions
from ..writers.files import check_file_names, check_writable
from ..writers.render import PAGE, parse_formats
from ..writers.subtitles import SubtitleOptions
from ..writers.words import NEED_WORDS
from .arguments import CANDIDATES, DEFAULTS

_SUBTITLE_OPTIONS = tuple(field.name for field in fields(SubtitleOptions))


@dataclass(frozen=True)
class Outputs:
    """The files to write."""

    folder: str
    format: str  # a format, several separated by commas, or "all"
    subtitles: SubtitleOptions

    def paths(self, name: str) -> str:
        """Return the paths for a transcript of this name; several formats in braces, as in shells."""
        formats = parse_formats(self.format)
        endings = formats[0] if len(formats) == 1 else f"{{{','.join(formats)}}}"
        return printable(f"{Path(self.folder, name)}.{endings}")

    def place(self, file: Input) -> tuple[Path, str]:
        """Return the folder of a recording's outputs, and their name without the format."""
        inner, name = os.path.split(file.output)
        return Path(self.folder, inner), name

    def exist(self, file: Input) -> bool:
        """Return whether a recording has all of its outputs."""
        return all(os.path.isfile(f"{Path(self.folder, file.output)}.{one}") for one in parse_formats(self.format))


@dataclass(frozen=True)
class TranscribeRequest:
    """Validated command-line options."""

    keywords: TranscriptionKeywords  # for Whisper.stream
    checked: TranscriptionOptions  # made from the keywords
    outputs: Outputs | None
    dtype: str
    inputs: list[Input]


def check_arguments(options: argparse.Namespace) -> TranscribeRequest:
    """Check all options of ``minwhisper transcribe``, find the inputs, and create the output folder.

    Raises ``OptionError`` and ``LanguageError`` for options that are invalid with every model.
    """
    request = check_values(options)
    outputs = request.outputs
    if options.skip_existing and outputs is None:
        raise OptionError("skip_existing: no files are written; give --output_format or --output_dir too")
    formats = () if outputs is None else parse_formats(outputs.format)
    inputs = find_inputs(given_files(options), recursive=options.recursive, formats=formats)
    if outputs is not None:
        check_distinct(inputs, outputs)
        check_writable(outputs.folder)
    return replace(request, inputs=inputs)


def check_values(options: argparse.Namespace) -> TranscribeRequest:
    """Check the options that do not concern the inputs; the request has no inputs yet.

    Raises ``OptionError`` and ``LanguageError`` for options that are invalid with every model.
    """
    if PAGE in parse_formats(options.output_format or "all"):
        options.word_timestamps = options.record = True
    keywords = transcription_keywords(options)
    checked = TranscriptionOptions.named(**keywords)
    if options.language is not None:
        check_language(options.language)
    check_seed(options.seed)
    check_count("batch_size", options.batch_size, optional=False)
    check_threads(options.threads)
    return TranscribeRequest(keywords, checked, outputs_for(options), dtype_for(options), [])


def given_files(options: argparse.Namespace) -> list[str]:
    """Return the files and folders given as arguments and in a list. Raises ``OptionError`` if there are none."""
    if options.files_from is None:
        if not options.files:
            raise OptionError(
                "FILE: expected audio or video files, folders of them, or --files_from with a list of them "
                "(see minwhisper transcribe --help)"
            )
        return list(options.files)
    if options.files_from == "-" and "-" in options.files:
        raise OptionError("files_from -: standard input cannot be a recording, too; save one of them to a file")
    return [*options.files, *read_list(options.files_from)]


def transcription_keywords(options: argparse.Namespace) -> TranscriptionKeywords:
    """Return the options that ``Whisper.stream`` takes, by name."""
    given = vars(options)
    names = set(DEFAULTS) & set(given)
    fallback = temperatures(options.temperature, options.temperature_increment_on_fallback)
    # Each default applies only if there is a temperature for the option; a value given without one is an error.
    candidates = {
        "beam_size": given.get("beam_size", CANDIDATES if 0 in fallback else None),
        "best_of": given.get("best_of", CANDIDATES if any(fallback) else None),
    }
    keywords = {name: given[name] for name in sorted(names)} | candidates | {"temperature": fallback}
    return cast(TranscriptionKeywords, keywords)


def temperatures(first: float, increment: float | None) -> tuple[float, ...]:
    """Return the fallback temperatures: from the first one up to 1.

    >>> temperatures(0.5, 0.25), temperatures(0.5, None)
    ((0.5, 0.75, 1.0), (0.5,))
    """
    check_number("temperature", first, "0, or above for sampling", minimum=0)
    if increment is None:
        return (first,)
    expected = "a number, 0.01 or more, or None for a single temperature"
    check_number("temperature_increment_on_fallback", increment, expected, minimum=0.01)
    if first > 1:
        raise OptionError(
            f"temperature: expected at most 1, the limit of the fallback, got {first:g}; "
            "or give --temperature_increment_on_fallback None"
        )
    return tuple(np.arange(first, 1.0 + 1e-6, increment).tolist())


def check_language(language: str) -> None:
    """Raise ``LanguageError`` for a language that no model has. The tokenizer checks those of the chosen model."""
    name = language.strip().lower()
    if name not in TO_LANGUAGE_CODE:
        near = get_close_matches(name, TO_LANGUAGE_CODE)
        near = near or [code for code in (name[:2],) if code in TO_LANGUAGE_CODE]  # "fr-FR" means "fr"
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise LanguageError(
            f"language {short_repr(language)}: expected a code or an English name, such as 'de' or 'german'{hint}"
        )


def outputs_for(options: argparse.Namespace) -> Outputs | None:
    """Return the files to write, if any. Warn about subtitle options that have no effect.

    A word-level format without word timestamps is an error and does not turn them on, because they change where windows
    begin, and so the text.
    """
    format = "all" if options.output_format is None else options.output_format
    for one in parse_formats(format):
        if one in NEED_WORDS and not options.word_timestamps:
            raise OptionError(f"output_format {one}: it needs word timestamps; give --word_timestamps True too")
    subtitles = SubtitleOptions(**{name: getattr(options, name) for name in _SUBTITLE_OPTIONS})
    given = [name for name in _SUBTITLE_OPTIONS if getattr(options, name) not in (None, False)]
    if given and not options.word_timestamps:
        raise OptionError(f"{given[0]}: it needs word timestamps; give --word_timestamps True too")
    if options.max_line_count is not None and options.max_line_width is None:
        warnings.warn("max_line_count: it has no effect without --max_line_width", stacklevel=2)
    if options.max_words_per_line is not None and options.max_line_width is not None:
        warnings.warn("max_words_per_line: it has no effect with --max_line_width", stacklevel=2)
    if options.output_dir is None and options.output_format is None:
        if options.verbose is False:
            raise OptionError(
                "verbose False: the text would be neither shown nor written; give --output_format or --output_dir"
            )
        return None
    folder = "." if options.output_dir is None else options.output_dir
    return Outputs(folder, format, subtitles)


def dtype_for(options: argparse.Namespace) -> str:
    """Return the storage type of the weights."""
    given: str | None = options.dtype
    if options.fp16 is None:
        return given or "float32"
    dtype = "float16" if options.fp16 else "float32"
    if given not in (None, dtype):
        raise OptionError(f"fp16 {options.fp16}: it means --dtype {dtype}, but got --dtype {given}; omit one of them")
    return dtype


def output_name(file: str) -> str:
    """Return the name of a file's outputs, without folder and format.

    >>> output_name("talks/first.day.mp3"), output_name("-")
    ('first.day', 'stdin')
    """
    return "stdin" if file == "-" else os.path.splitext(os.path.basename(file))[0]


def check_distinct(inputs: Iterable[Input], outputs: Outputs) -> None:
    """Raise ``OptionError`` if two files would be written to the same place; ``find_inputs`` avoids most cases."""
    owners: dict[str, str] = {}  # by the name of the output
    for file in inputs:
        for ending in parse_formats(outputs.format):  # talk.words.vtt is an output of talk.mp3 and of talk.words.mp3
            output = f"{file.output}.{ending}"
            if output in owners:
                raise OptionError(
                    f"{owners[output]!r} and {file.path!r} would both be written to "
                    f"{printable(str(Path(outputs.folder, output)))}; "
                    "rename one, or run two commands with different --output_dir"
                )
            owners[output] = file.path


def find_unwritable(inputs: Iterable[Input], outputs: Outputs | None) -> dict[Input, OptionError]:
    """Return the files whose outputs could not be written, with the reason.

    A subfolder of the output folder is created when a file is written to it; the folder that it will be in is checked.
    """
    found: dict[Input, OptionError] = {}
    if outputs is None:
        return found
    checked = {Path(outputs.folder)}
    for file in inputs:
        folder, name = outputs.place(file)
        try:
            check_file_names(folder, name, outputs.format)
            while not os.path.lexists(folder):
                folder = folder.parent
            if folder not in checked:
                check_writable(folder)
                checked.add(folder)
        except OptionError as error:
            found[file] = error
    return found
