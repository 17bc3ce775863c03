"""The options of ``minwhisper transcribe``: openai-whisper's names, meanings and defaults, and a few more.

``add_arguments`` declares them; ``cli.request`` checks their values.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

from ..decoding.options import DecodingOptions
from ..model.weights import DTYPES
from ..printable import short_repr
from ..transcription.options import TranscriptionOptions
from ..writers.render import FORMATS
from ..writers.words import WORD_FORMATS
from .help import examples

CANDIDATES = 5  # the default of beam_size at temperature 0, and of best_of above
DEFAULTS = {field.name: field.default for kind in (DecodingOptions, TranscriptionOptions) for field in fields(kind)}

Group: TypeAlias = "argparse._ActionsContainer"


# ------------------------------------------------------------------------------------------ options

DESCRIPTION = """\
Transcribe audio and video files, or translate them to English.

The text goes to standard output, segment by segment. Files are written only with --output_format or --output_dir. Those
of a folder mirror its subfolders: talks/a/x.mp3 from the folder talks gives a/x.srt.
Option names, meanings and defaults are those of openai-whisper: the same options give the same text.
"""
EXAMPLES = examples(
    ("minwhisper transcribe talk.mp3", "print the text"),
    ("minwhisper transcribe talk.mp3 --verbose True", "with times"),
    ("minwhisper transcribe talk.mp3 -f srt", "write talk.srt"),
    ("minwhisper transcribe rede.mp3 --model base --task translate", "to English"),
    ("minwhisper transcribe *.mp3 -f txt --batch_size 8", "8 at a time"),
    ("minwhisper transcribe talks --recursive -f json -o out", "a folder"),
    ("cat talk.mp3 | minwhisper transcribe -", "from a pipe"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options in the groups that ``--help`` shows."""
    parser.usage = "%(prog)s [OPTIONS] FILE..."
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    help = "audio or video file in any format that FFmpeg reads, or a folder of them; - for standard input"
    parser.add_argument("files", nargs="*", metavar="FILE", help=help)
    group = parser.add_argument_group("input")
    _add_files(group)
    _add_speech(group)
    _add_output(parser.add_argument_group("output"))
    _add_decoding(parser.add_argument_group("decoding"))
    _add_fallback(parser.add_argument_group("temperature fallback (None turns an option off)"))
    _add_words(parser.add_argument_group("words and subtitles (all but the first need --word_timestamps True)"))
    group = parser.add_argument_group("machine")
    _add_machine(group)
    add_threads(group)
    _add(group, "model_dir", str, "folder for downloaded models", None, shown="the hub's cache", metavar="FOLDER")


CORPUS_DESCRIPTION = """\
Transcribe many recordings with the workers of a Dask cluster: the processes of this machine, or of many machines.

Each recording's files appear when it is finished. The same command, run again, continues where it stopped. A recording
that fails does not stop the others, but the exit status is 1; OUT/manifest.jsonl has the outcome of each recording.
"""
CORPUS_EXAMPLES = examples(
    ("minwhisper corpus talks -o out -f json,srt", "on all cores"),
    ("minwhisper corpus 'talks/*.mp3' -o out --model base", "a pattern"),
    ("minwhisper corpus s3://b -o out --scheduler tcp://m:8786", "a cluster"),
)


def add_corpus_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``minwhisper corpus``: those of ``transcribe`` that apply, and those of the run."""
    parser.usage = "%(prog)s [OPTIONS] INPUT... -o OUT"
    parser.description, parser.epilog = CORPUS_DESCRIPTION, CORPUS_EXAMPLES
    help = "file, folder with its subfolders, pattern such as 'talks/**/*.mp3', or address such as s3://bucket/talks"
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help=help)
    _add_run(parser.add_argument_group("the run"))
    _add_speech(parser.add_argument_group("input"))
    group = parser.add_argument_group("output")
    add_outputs(group, format="json")
    _add_record(group)
    _add_decoding(parser.add_argument_group("decoding"))
    _add_fallback(parser.add_argument_group("temperature fallback (None turns an option off)"))
    _add_words(parser.add_argument_group("words and subtitles (all but the first need --word_timestamps True)"))
    group = parser.add_argument_group("workers")
    _add_machine(group)
    help = "CPU threads of each worker"
    _add(group, "threads", optional_integer, help, None, shown="its share of the cores, or what its cluster gives it")


def _add_run(group: Group) -> None:
    help = "file with a list of more inputs, one per line; - for standard input"
    _add(group, "files_from", str, help, None, shown="none", metavar="FILE")
    help = "address of a Dask scheduler, such as tcp://10.0.0.1:8786"
    _add(group, "scheduler", str, help, None, shown="a cluster on this machine", metavar="ADDRESS")
    help = "number of processes of the cluster on this machine"
    _add(group, "workers", integer, help, None, shown="one per core, or per GPU")
    help = "cut recordings at silence into parts of at most this many minutes, for several workers"
    _add(group, "split", float, help, None, shown="whole recordings", metavar="MINUTES")
    _add_flag(group, "retry_failed", "try recordings again that failed in an earlier run")
    _add(group, "report", Path, "also write a web page about the run", None, shown="none", metavar="REPORT.html")


def add_device(group: Group) -> None:
    """Declare ``--device``."""
    _add(group, "device", str, "cpu, cuda, cuda:1 ..., or auto", "cpu", metavar="DEVICE")


def add_dtype(group: Group, default: str | None) -> None:
    """Declare ``--dtype``."""
    help = "storage type of the weights; arithmetic is float32, or float64 for float64"
    _add(group, "dtype", str, help, default, shown="float32", choices=DTYPES)


def add_threads(group: Group) -> None:
    """Declare ``--threads``."""
    _add(group, "threads", optional_integer, "CPU threads; 0: all cores that the process may use", 0)


def add_language(group: Group) -> None:
    """Declare ``--language``."""
    help = "spoken language: a code or an English name"
    _add(group, "language", str, help, None, shown="detected", metavar="LANGUAGE")


def add_batch_size(group: Group) -> None:
    """Declare ``--batch_size``."""
    help = "number of windows decoded together: of several files, or of one that is cut at silence"
    _add(group, "batch_size", integer, help, 1)


def add_outputs(group: Group, format: str | None = None, *, timed: bool = False) -> None:
    """Declare ``--output_format`` and ``--output_dir``; with a default format, a folder has to be given.

    ``timed``: the transcripts always have times of words.
    """
    turned_on = "" if timed else ", which turns on --word_timestamps and --record"
    needed = "" if timed else ", with --word_timestamps True,"
    help = (
        f"write files: {', '.join(FORMATS)}, or all of these; jsonl, a line per segment, to load as a table; html, a "
        f"page to hear and correct the text{turned_on}; or{needed} {', '.join(WORD_FORMATS)}; several separated by "
        "commas, as in srt,ctm"
    )
    shown = format or "all with --output_dir, else none"
    _add(group, "output_format", str, help, format, short="-f", shown=shown, metavar="FORMAT")
    if format is not None:
        help = "folder to write the files and the manifest to"
        group.add_argument("-o", "--output_dir", required=True, metavar="OUT", help=help)
        return
    help, shown = "folder to write files to", "the current one with --output_format"
    _add(group, "output_dir", str, help, None, short="-o", shown=shown, metavar="FOLDER")


def _add_files(group: Group) -> None:
    _add_flag(group, "recursive", "also transcribe the files in subfolders")
    help = "file with a list of more files, one per line or from find -print0; - for standard input"
    _add(group, "files_from", str, help, None, shown="none", metavar="FILE")


def _add_speech(group: Group) -> None:
    help, shown = "published name, hub id or folder", "tiny.en if it is installed, else tiny"
    _add(group, "model", str, help, None, shown=shown, metavar="MODEL")
    help = "transcribe in the spoken language, or translate to English"
    _add_default(group, "task", str, help, choices=("transcribe", "translate"))
    add_language(group)
    _add_default(group, "language_detection_windows", integer, "number of 30 s windows to detect the language from")
    help = "parts to transcribe, in seconds; the last END may be omitted"
    _add(group, "clip_timestamps", str, help, "0", metavar="START,END,...")
    help = "skip parts without speech; silero: find them with Silero's network, from minwhisper[vad]"
    _add_default(group, "vad_filter", boolean_or_silero, help)
    help = "audio track of a file with several: a number from 1, or a language"
    _add_default(group, "audio_track", str, help, shown="ffmpeg's choice", metavar="TRACK")
    help = "text that prompts the first window: names, spelling, style"
    _add_default(group, "initial_prompt", str, help, shown="none")
    _add_default(group, "carry_initial_prompt", boolean, "prompt every window with --initial_prompt")
    _add_default(group, "condition_on_previous_text", boolean, "prompt each window with the previous text")


def _add_output(group: Group) -> None:
    add_outputs(group)
    help = "skip files that have all their outputs; a file that fails or is interrupted then gets no outputs"
    _add_flag(group, "skip_existing", help)
    _add_record(group)
    help = "True: show text with timestamps; False: show only a progress bar"
    _add(group, "verbose", boolean, help, None, shown="text without timestamps")


def _add_record(group: Group) -> None:
    help = "also write to json how each window was decoded: alternative tokens, attempts, attention"
    _add_default(group, "record", boolean, help)


def _add_decoding(group: Group) -> None:
    help = "0: most likely tokens; above 0: sampled tokens, higher is more random"
    _add(group, "temperature", float, help, 0.0, shown="0")
    # Suppressed defaults: which of the two options applies depends on the temperatures.
    help = "number of beams at temperature 0; None: greedy search"
    _add(group, "beam_size", optional_integer, help, argparse.SUPPRESS, shown=str(CANDIDATES))
    help = "number of sequences to sample above temperature 0; the best one is kept"
    _add(group, "best_of", optional_integer, help, argparse.SUPPRESS, shown=str(CANDIDATES))
    help = "end a beam search when beam_size times this many sequences are finished"
    _add_default(group, "patience", optional_number, help, shown="1")
    help = "0 favours short sequences, 1 long ones"
    _add_default(group, "length_penalty", optional_number, help, shown="rank by mean log-probability")
    help = "token ids to suppress, as in =-1,50; -1: symbols that are not speech"
    _add_default(group, "suppress_tokens", str, help, metavar="IDS")
    _add(group, "seed", integer, "seed of the random numbers of each file", 0)


def _add_fallback(group: Group) -> None:
    help = "raise the temperature by this for each new attempt, up to 1"
    _add(group, "temperature_increment_on_fallback", optional_number, help, 0.2)
    help = "decode again if the text repeats itself: compression ratio above this"
    _add_default(group, "compression_ratio_threshold", optional_number, help)
    help = "decode again if the mean log-probability of the tokens is below this"
    _add_default(group, "logprob_threshold", optional_number, help)
    help = "skip a window as silent if its no-speech probability is above this and its text is improbable"
    _add_default(group, "no_speech_threshold", optional_number, help)


def _add_words(group: Group) -> None:
    _add_default(group, "word_timestamps", boolean, "find the start and end of each word")
    _add_default(group, "prepend_punctuations", str, "marks to merge with the next word", metavar="MARKS")
    _add_default(group, "append_punctuations", str, "marks to merge with the previous word", metavar="MARKS")
    help = "skip silence of more than this many seconds around a possible hallucination"
    _add_default(group, "hallucination_silence_threshold", optional_number, help, shown="off")
    _add(group, "highlight_words", boolean, "underline each word while it is spoken (vtt, srt)", False)
    _add(group, "max_line_width", optional_integer, "characters per line (vtt, srt)", None, shown="no limit")
    help = "lines per subtitle, with --max_line_width"
    _add(group, "max_line_count", optional_integer, help, None, shown="no limit")
    help = "words per subtitle, without --max_line_width"
    _add(group, "max_words_per_line", optional_integer, help, None, shown="no limit")


def _add_machine(group: Group) -> None:
    add_device(group)
    add_dtype(group, None)
    _add(group, "fp16", boolean, "True: --dtype float16; False: --dtype float32", None, shown="not set")
    add_batch_size(group)
    _add_flag(group, "plain", "compute with the readable layers: slower, for comparison")


def _add_default(group: Group, name: str, kind: Callable[[str], Any], help: str, **more: Any) -> None:
    """Declare an option with the library's default."""
    _add(group, name, kind, help, DEFAULTS[name], **more)


def _add_flag(group: Group, name: str, help: str) -> None:
    """Declare an option without a value."""
    group.add_argument(f"--{name}", action="store_true", help=f"{help} (default: off)")


def _add(
    group: Group,
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
    """Declare an option; ``shown`` replaces the default in the help."""
    flags = [f"--{name}", *([short] if short else [])]
    help = f"{help} (default: {default if shown is None else shown})"
    metavar = metavar or (None if choices else _METAVARS[kind])
    group.add_argument(*flags, type=kind, default=default, choices=choices, metavar=metavar, help=help)


# ------------------------------------------------------------------------------------------ values


def boolean(text: str) -> bool:
    """Read True or False, in upper or lower case."""
    flag = {"true": True, "false": False}.get(text.lower())
    if flag is None:
        raise argparse.ArgumentTypeError(f"expected True or False, got {short_repr(text)}")
    return flag


def boolean_or_silero(text: str) -> bool | str:
    """Read True, False or silero, in upper or lower case."""
    if text.lower() == "silero":
        return "silero"
    try:
        return boolean(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected True, False or silero, got {short_repr(text)}") from None


def integer(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {short_repr(text)}") from None


def optional_integer(text: str) -> int | None:
    """Read a whole number or None."""
    try:
        return None if text.lower() == "none" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number or None, got {short_repr(text)}") from None


def optional_number(text: str) -> float | None:
    """Read a number or None."""
    try:
        return None if text.lower() == "none" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number or None, got {short_repr(text)}") from None


_METAVARS: Mapping[Callable[[str], Any], str] = {
    str: "TEXT",
    float: "X",
    boolean: "True|False",
    boolean_or_silero: "True|False|silero",
    integer: "N",
    optional_integer: "N",
    optional_number: "X",
}
