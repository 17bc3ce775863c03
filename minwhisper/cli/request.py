"""Checked options of ``minwhisper transcribe``: all are checked before a file is read or a model loaded."""

import argparse
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ..common.option_checks import check_count, check_number, check_seed
from ..errors import LanguageError, OptionError
from ..fast.cpu.threads import check_threads
from ..printable import printable, short_repr
from ..tokenizer.languages import TO_LANGUAGE_CODE
from ..transcription.options import TranscriptionOptions
from ..writers.files import check_file_names, check_writable
from ..writers.render import FORMATS, SubtitleOptions
from .arguments import CANDIDATES, DEFAULTS

_WORDS = tuple(field.name for field in fields(SubtitleOptions))


@dataclass(frozen=True)
class Outputs:
    """The files to write."""

    folder: str
    format: str  # one of FORMATS, or "all"
    subtitles: SubtitleOptions

    def paths(self, name: str) -> str:
        """Where the transcript of this name goes; several formats as a shell would understand them."""
        endings = f"{{{','.join(FORMATS)}}}" if self.format == "all" else self.format
        return printable(f"{Path(self.folder, name)}.{endings}")


@dataclass(frozen=True)
class Request:
    """Validated command-line options."""

    options: Mapping[str, Any]  # by the names of TranscriptionOptions and DecodingOptions
    checked: TranscriptionOptions  # the same
    outputs: Outputs | None
    dtype: str


def check_arguments(options: argparse.Namespace) -> Request:
    """What was asked for. The folder for outputs is made and tried.

    Raises :class:`OptionError` and :class:`LanguageError` for what makes no sense, whichever the model.
    """
    wanted = transcription_options(options)
    checked = TranscriptionOptions.named(**wanted)
    if options.language is not None:
        check_language(options.language)
    check_seed(options.seed)
    check_count("batch_size", options.batch_size, optional=False)
    check_threads(options.threads)
    request = Request(wanted, checked, outputs_for(options), dtype_for(options))
    if request.outputs is not None:
        check_distinct(options.files, request.outputs)
        check_writable(request.outputs.folder)
    return request


def transcription_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options that are the library's, by their names there."""
    given = vars(options)
    names = set(DEFAULTS) & set(given)
    wanted = temperatures(options.temperature, options.temperature_increment_on_fallback)
    # Their defaults hold where they have a meaning; a number that was given without one is an error.
    candidates = {
        "beam_size": given.get("beam_size", CANDIDATES if 0 in wanted else None),
        "best_of": given.get("best_of", CANDIDATES if any(wanted) else None),
    }
    return {name: given[name] for name in sorted(names)} | candidates | {"temperature": wanted}


def temperatures(first: float, increment: float | None) -> tuple[float, ...]:
    """The temperatures to try one after another, from the first one up to 1.

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
            f"temperature: expected at most 1, up to which it is raised, got {first:g}; "
            "or give --temperature_increment_on_fallback None"
        )
    return tuple(np.arange(first, 1.0 + 1e-6, increment).tolist())


def check_language(language: str) -> None:
    """Raise :class:`LanguageError` for a language that no model knows; what this model knows, its tokenizer says."""
    called = language.strip().lower()
    if called not in TO_LANGUAGE_CODE:
        near = get_close_matches(called, TO_LANGUAGE_CODE) or [called[:2]] * (
            called[:2] in TO_LANGUAGE_CODE
        )  # "fr-FR" means "fr"
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise LanguageError(
            f"language {short_repr(language)}: expected a code or an English name, such as 'de' or 'german'{hint}"
        )


def outputs_for(options: argparse.Namespace) -> Outputs | None:
    """The files to write, if any. Warns of an option of subtitles that others make useless."""
    subtitles = SubtitleOptions(**{name: getattr(options, name) for name in _WORDS})
    asked = [name for name in _WORDS if getattr(options, name) not in (None, False)]
    if asked and not options.word_timestamps:
        raise OptionError(f"{asked[0]}: it goes by the words' times; give --word_timestamps True too")
    if options.max_line_count is not None and options.max_line_width is None:
        warnings.warn("max_line_count: without --max_line_width it changes nothing", stacklevel=2)
    if options.max_words_per_line is not None and options.max_line_width is not None:
        warnings.warn("max_words_per_line: with --max_line_width it changes nothing", stacklevel=2)
    if options.output_dir is None and options.output_format is None:
        if options.verbose is False:
            raise OptionError(
                "verbose False: no text is shown, so have it written; give --output_format or --output_dir"
            )
        return None
    folder = "." if options.output_dir is None else options.output_dir
    return Outputs(folder, options.output_format or "all", subtitles)


def dtype_for(options: argparse.Namespace) -> str:
    """How the weights are to be stored."""
    given: str | None = options.dtype
    if options.fp16 is None:
        return given or "float32"
    meant = "float16" if options.fp16 else "float32"
    if given not in (None, meant):
        raise OptionError(f"fp16 {options.fp16}: it means --dtype {meant}, but there is --dtype {given}; leave one out")
    return meant


def output_name(file: str) -> str:
    """The name of a file's outputs, without folder and format.

    >>> output_name("talks/first.day.mp3"), output_name("-")
    ('first.day', 'stdin')
    """
    return "stdin" if file == "-" else os.path.splitext(os.path.basename(file))[0]


def check_distinct(files: Iterable[str], outputs: Outputs) -> None:
    """Raise :class:`OptionError` if one file's outputs would replace another's."""
    owners: dict[str, str] = {}
    for file in files:
        name = output_name(file)
        if name in owners:
            raise OptionError(
                f"{owners[name]!r} and {file!r} would both be written to {outputs.paths(name)}; "
                "rename one, or give them to two commands with an --output_dir each"
            )
        owners[name] = file


def unwritable(files: Iterable[str], outputs: Outputs | None) -> dict[str, OptionError]:
    """Return the files whose outputs could not be written under their names, with the reason."""
    found: dict[str, OptionError] = {}
    if outputs is None:
        return found
    for file in files:
        try:
            check_file_names(outputs.folder, output_name(file), outputs.format)
        except OptionError as error:
            found[file] = error
    return found
