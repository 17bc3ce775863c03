"""The options of ``minwhisper transcribe``: openai-whisper's names, meanings and defaults, and a few more.

:func:`add_arguments` declares them. :mod:`minwhisper.cli.request` checks them.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from ..decoding.options import DecodingOptions
from ..model.weights import DTYPES
from ..printable import short_repr
from ..transcription.options import TranscriptionOptions
from ..writers.render import FORMATS

CANDIDATES = 5  # what beam_size and best_of are, each where it has a meaning
DEFAULTS = {field.name: field.default for kind in (DecodingOptions, TranscriptionOptions) for field in fields(kind)}


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
    _add(group, name, kind, help, DEFAULTS[name], **more)


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
        raise argparse.ArgumentTypeError(f"expected True or False, got {short_repr(text)}")
    return flag


def whole_number(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {short_repr(text)}") from None


def count_or_none(text: str) -> int | None:
    """A whole number, or None."""
    try:
        return None if text.lower() == "none" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number or None, got {short_repr(text)}") from None


def number_or_none(text: str) -> float | None:
    """A number, or None."""
    try:
        return None if text.lower() == "none" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number or None, got {short_repr(text)}") from None


_METAVARS: Mapping[Callable[[str], Any], str] = {
    str: "TEXT",
    float: "X",
    true_or_false: "True|False",
    whole_number: "N",
    count_or_none: "N",
    number_or_none: "X",
}
