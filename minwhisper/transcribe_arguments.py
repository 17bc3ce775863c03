"""The options of ``minwhisper transcribe``: openai-whisper's names, meanings and defaults, and a few more.

:func:`add_arguments` declares them. :func:`check_arguments` makes of what was given what the library takes, and
refuses what makes no sense before a file is read or a model loaded.
"""

import argparse
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from .console import printable
from .errors import LanguageError, OptionError
from .fast.threads import check_threads
from .languages import CODES
from .options import DecodingOptions, TranscriptionOptions, check_count, check_number
from .weights import DTYPES
from .writers import FORMATS, SubtitleOptions, check_writable

CANDIDATES = 5  # what beam_size and best_of are, each where it has a meaning
_DEFAULTS = {field.name: field.default for kind in (DecodingOptions, TranscriptionOptions) for field in fields(kind)}
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
    """What the options come to."""

    options: Mapping[str, Any]  # by the names of TranscriptionOptions and DecodingOptions
    checked: TranscriptionOptions  # the same
    outputs: Outputs | None
    dtype: str


# ------------------------------------------------------------------------------------------ declared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options, in the groups in which ``--help`` shows them."""
    parser.usage = "%(prog)s [option …] FILE …"
    parser.add_argument("files", nargs="+", metavar="FILE", help="anything that holds sound; - for standard input")
    _add_what(parser.add_argument_group("what to transcribe"))
    _add_decoding(parser.add_argument_group("how to decode a window of 30 s"))
    _add_fallback(parser.add_argument_group("when to decode it again (a threshold of None: never for this reason)"))
    _add_words(parser.add_argument_group("words and subtitles (all but the first need --word_timestamps True)"))
    _add_output(parser.add_argument_group("output"))
    machine = parser.add_argument_group("machine")
    add_place(machine, dtype=None)
    _add(machine, "fp16", true_or_false, "True is --dtype float16, False float32", None, shown="neither")
    help = "windows decoded together: of several files, or of one that is cut in pauses for it"
    _add(machine, "batch_size", whole_number, help, 1)
    add_threads(machine)
    help = "compute with the layers as they are written: slower, to compare with (default: as fast as it can)"
    machine.add_argument("--plain", action="store_true", help=help)
    _add(
        machine,
        "model_dir",
        str,
        "folder in which downloaded models are kept",
        None,
        shown="the hub's cache",
        metavar="FOLDER",
    )


def add_place(group: "argparse._ActionsContainer", dtype: str | None) -> None:
    """Declare where the model is to run, and as what its weights are stored."""
    add_device(group)
    help = "how weights are stored; arithmetic is float32, or float64 if they are"
    _add(group, "dtype", str, help, dtype, shown="float32", choices=DTYPES)


def add_device(group: "argparse._ActionsContainer") -> None:
    """Declare where the model is to run."""
    _add(group, "device", str, "cpu, cuda, cuda:1 …, or auto", "cpu", metavar="NAME")


def add_threads(group: "argparse._ActionsContainer") -> None:
    """Declare how many threads a CPU is to compute with."""
    _add(group, "threads", count_or_none, "threads of a CPU; 0: as many as there are cores to use", 0)


def _add_what(group: "argparse._ActionsContainer") -> None:
    _add(
        group,
        "model",
        str,
        "published name, hub id or folder",
        None,
        shown="tiny.en or tiny, by what is here",
        metavar="NAME",
    )
    _add_default(group, "task", str, "translate: say it in English", choices=("transcribe", "translate"))
    _add(
        group,
        "language",
        str,
        "code or English name of what is spoken",
        None,
        shown="the model hears it",
        metavar="NAME",
    )
    _add_default(group, "language_detection_windows", whole_number, "windows in which the language is heard")
    _add(
        group,
        "clip_timestamps",
        str,
        "parts of the sound, in seconds; the last end may be missing",
        "0",
        metavar="START,END,…",
    )
    help = "audio track of a file with several: a number from 1, or a language"
    _add_default(group, "audio_track", str, help, shown="as the ffmpeg command chooses", metavar="N|LANGUAGE")
    _add_default(
        group, "initial_prompt", str, "text before the first window, for names, spelling and style", shown="none"
    )
    _add_default(group, "carry_initial_prompt", true_or_false, "put that text before every window")
    _add_default(group, "condition_on_previous_text", true_or_false, "tell a window the text of those before it")


def _add_decoding(group: "argparse._ActionsContainer") -> None:
    _add(group, "temperature", float, "0: the likeliest words; above: drawn at random, more wildly", 0.0, shown="0")
    # Not in the result unless given: which of the two has a meaning, the temperatures decide.
    help = "texts that a search at temperature 0 keeps; None: the likeliest token each time"
    _add(group, "beam_size", count_or_none, help, argparse.SUPPRESS, shown=str(CANDIDATES))
    help = "texts drawn above temperature 0, of which the best counts"
    _add(group, "best_of", count_or_none, help, argparse.SUPPRESS, shown=str(CANDIDATES))
    help = "a search ends with beam_size times this many texts"
    _add_default(group, "patience", number_or_none, help, shown="1")
    help = "0 favours short texts, 1 long ones"
    _add_default(group, "length_penalty", number_or_none, help, shown="a token's mean log-probability decides")
    _add_default(
        group, "suppress_tokens", str, "ids never to say, as in =-1,50; -1: whatever is not spoken", metavar="IDS"
    )
    _add(group, "seed", whole_number, "where the random numbers of each file start", 0)


def _add_fallback(group: "argparse._ActionsContainer") -> None:
    help = "how much the temperature rises each time, up to 1; None: decode once"
    _add(group, "temperature_increment_on_fallback", number_or_none, help, 0.2)
    _add_default(group, "compression_ratio_threshold", number_or_none, "its text repeats itself more than this")
    _add_default(group, "logprob_threshold", number_or_none, "the mean log-probability of its tokens is below this")
    help = "but an improbable text is silence if that is likelier than this"
    _add_default(group, "no_speech_threshold", number_or_none, help)


def _add_words(group: "argparse._ActionsContainer") -> None:
    _add_default(group, "word_timestamps", true_or_false, "find when each word is said")
    _add_default(group, "prepend_punctuations", str, "marks that go with the word after them", metavar="MARKS")
    _add_default(group, "append_punctuations", str, "marks that go with the word before them", metavar="MARKS")
    help = "skip a longer silence around doubtful words, in seconds"
    _add_default(group, "hallucination_silence_threshold", number_or_none, help, shown="none is skipped")
    _add(group, "highlight_words", true_or_false, "underline the word that is being said (vtt, srt)", False)
    _add(group, "max_line_width", count_or_none, "characters a line (vtt, srt)", None, shown="any number")
    help = "lines a subtitle, with --max_line_width"
    _add(group, "max_line_count", count_or_none, help, None, shown="any number")
    help = "words a subtitle, without --max_line_width"
    _add(group, "max_words_per_line", count_or_none, help, None, shown="any number")


def _add_output(group: "argparse._ActionsContainer") -> None:
    formats = (*FORMATS, "all")
    help = f"write files: {', '.join(formats)}"
    shown = "all if --output_dir is given"
    _add(group, "output_format", str, help, None, short="-f", shown=shown, choices=formats, metavar="FORMAT")
    help = "write files into this folder"
    shown = "the current one if --output_format is given"
    _add(group, "output_dir", str, help, None, short="-o", shown=shown, metavar="FOLDER")
    help = "True: text with times; False: no text, only a bar"
    _add(group, "verbose", true_or_false, help, None, shown="text without times")


def _add_default(
    group: "argparse._ActionsContainer", name: str, kind: Callable[[str], Any], help: str, **more: Any
) -> None:
    """Declare an option whose default is the library's."""
    _add(group, name, kind, help, _DEFAULTS[name], **more)


def _add(
    group: "argparse._ActionsContainer",
    name: str,
    kind: Callable[[str], Any],
    help: str,
    default: Any,
    *,
    short: str | None = None,
    shown: str | None = None,
    choices: Iterable[str] | None = None,
    metavar: str | None = None,
) -> None:
    """Declare an option; ``shown`` is what the help says of its default, where that is not the value itself."""
    flags = [f"--{name}", *([short] if short else [])]
    help = f"{help} (default: {default if shown is None else shown})"
    metavar = metavar or (None if choices else _METAVARS[kind])
    group.add_argument(*flags, type=kind, default=default, choices=choices, metavar=metavar, help=help)


# ------------------------------------------------------------------------------------------ values


def true_or_false(text: str) -> bool:
    """A flag, in any case of letters."""
    flag = {"true": True, "false": False}.get(text.lower())
    if flag is None:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return flag


def whole_number(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def count_or_none(text: str) -> int | None:
    """A whole number, or None."""
    try:
        return None if text.lower() == "none" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number or None, got {text!r}") from None


def number_or_none(text: str) -> float | None:
    """A number, or None."""
    try:
        return None if text.lower() == "none" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number or None, got {text!r}") from None


_METAVARS: Mapping[Callable[[str], Any], str] = {
    str: "TEXT",
    float: "X",
    true_or_false: "True|False",
    whole_number: "N",
    count_or_none: "N",
    number_or_none: "X",
}

# ------------------------------------------------------------------------------------------ checked


def check_arguments(options: argparse.Namespace) -> Request:
    """What was asked for. The folder for outputs is made and tried.

    Raises :class:`OptionError` and :class:`LanguageError` for what makes no sense, whichever the model.
    """
    wanted = transcription_options(options)
    checked = TranscriptionOptions.named(**wanted)
    if options.language is not None:
        check_language(options.language)
    check_number("seed", options.seed, "a whole number, 0 or more", least=0)
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
    names = set(_DEFAULTS) & set(given)
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
    check_number("temperature", first, "0, or above for sampling", least=0)
    if increment is None:
        return (first,)
    expected = "a number, 0.01 or more, or None for a single temperature"
    check_number("temperature_increment_on_fallback", increment, expected, least=0.01)
    if first > 1:
        raise OptionError(
            f"temperature: expected at most 1, up to which it is raised, got {first:g}; "
            "or give --temperature_increment_on_fallback None"
        )
    return tuple(np.arange(first, 1.0 + 1e-6, increment).tolist())


def check_language(language: str) -> None:
    """Raise :class:`LanguageError` for a language that no model knows; what this model knows, its tokenizer says."""
    called = language.strip().lower()
    if called not in CODES:
        near = get_close_matches(called, CODES) or [called[:2]] * (called[:2] in CODES)  # "fr-FR" means "fr"
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise LanguageError(
            f"language {language!r}: expected a code or an English name, such as 'de' or 'german'{hint}"
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
