"""The command ``minwhisper``: its subcommands and its exit status.

Text goes to standard output, messages to standard error. Invalid input gives a one-line message and exit status 2; if
there are several files, the others are still transcribed. Ctrl-C ends with status 130 and SIGTERM with 143; both keep
what is finished.
"""

import argparse
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import minwhisper

from ..common.console import Console, OutputClosedError, OutputError, prepare_streams
from ..errors import OUT_OF_MEMORY, MinWhisperError, is_out_of_memory
from ..printable import printable
from . import align, completion, info, transcribe
from .arguments import (
    add_arguments,
    add_batch_size,
    add_corpus_arguments,
    add_device,
    add_dtype,
    add_language,
    add_outputs,
    add_threads,
)
from .help import Parser, examples
from .interrupts import Stopped, interruption

EXAMPLES = (
    examples(
        ("minwhisper transcribe talk.mp3", "text to the terminal"),
        ("minwhisper transcribe talk.mp3 -f srt", "subtitles to talk.srt"),
        ("minwhisper transcribe talk.mp3 -f html", "a page to hear and correct it"),
        ("minwhisper info turbo --device cuda", "does it fit into my GPU?"),
        ("minwhisper score spoken.txt talk.srt", "how many words are wrong?"),
        ("minwhisper walkthrough --html out.html", "the tutorial as a web page"),
    )
    + "\n\nRun 'minwhisper COMMAND --help' for the options of a command."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return the exit status."""
    prepare_streams()
    console = Console()
    with interruption.watched(), warnings.catch_warnings():
        warnings.showwarning = console.warn
        try:
            return _run(arguments, console)
        except Stopped:
            return interruption.status
        except KeyboardInterrupt:
            console.note("interrupted")
            return interruption.status
        except OutputClosedError:
            return 1
        except Exception as error:
            message = _message(error)
            if message is None:
                raise
        console.note(message)  # outside of the handler: the error keeps arrays alive, and memory may be short
        return 2


def _run(arguments: Sequence[str] | None, console: Console) -> int:
    options = make_parser().parse_args(arguments)
    status: int = options.run(options, console)
    return status


def _message(error: Exception) -> str | None:
    """Return the message for an error, or None for a bug in the program."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, MinWhisperError | OutputError):
        return str(error)
    if isinstance(error, OSError):
        what = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return printable(f"{what}the system reports {str(error.strerror or error)!r}")
    return None


# ------------------------------------------------------------------------------------------ the subcommands


def make_parser() -> argparse.ArgumentParser:
    """Declare the subcommands and their options."""
    parser = Parser(
        prog="minwhisper",
        usage="%(prog)s [OPTIONS] COMMAND",
        description="Speech recognition with OpenAI's Whisper, written from scratch in NumPy.",
        epilog=EXAMPLES,
    )
    version = f"minwhisper {minwhisper.__version__}"
    parser.add_argument("--version", action="version", version=version, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", prog="minwhisper", required=True, metavar="COMMAND")

    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description)
        return made

    command = add("transcribe", "transcribe or translate audio and video files", "")
    add_arguments(command)
    command.set_defaults(run=transcribe.run)

    command = add("corpus", "transcribe many recordings, on one machine or many", "")
    add_corpus_arguments(command)
    command.set_defaults(run=_corpus, verbose=None)

    description = (
        "Make a web page from a transcript, to read, hear and correct it: one HTML file, which needs no network. "
        "'minwhisper transcribe -f html' makes it directly."
    )
    command = add("view", "make a page to read, hear and correct a transcript", description)
    command.epilog = examples(("minwhisper view talk.json --audio talk.mp3", "the page is talk.html"))
    help = "transcript in JSON, from 'minwhisper transcribe -f json' or openai-whisper"
    command.add_argument("transcript", type=Path, metavar="TRANSCRIPT.json", help=help)
    help = "the recording, to be embedded in the page (default: a page without audio)"
    command.add_argument("--audio", type=Path, metavar="AUDIO", help=help)
    help = "file to write (default: TRANSCRIPT.html)"
    command.add_argument("-o", "--output", type=Path, metavar="OUT.html", help=help)
    help = "largest size of the page in megabytes; a recording that does not fit is linked (default: 15)"
    command.add_argument("--max_size", type=float, metavar="MB", default=15.0, help=help)
    command.set_defaults(run=_view)

    description = "Find when each word of a known text was said, and which words were not."
    command = add("align", "find when each word of a known text was said", f"{description}\n\n{align.DESCRIPTION}")
    command.epilog = examples(
        ("minwhisper align talk.mp3 talk.txt", "each sentence with its times"),
        ("minwhisper align talk.mp3 talk.txt -f srt", "write talk.srt"),
        ("minwhisper align a.mp3 a.txt --language de", "in German"),
    )
    command.add_argument("audio", metavar="AUDIO", help="audio or video file; - for standard input")
    command.add_argument("text", metavar="TEXT.txt", type=Path, help="file with the text that was said, in UTF-8")
    add_outputs(command, timed=True)
    _add_model(command)
    add_language(command)
    add_batch_size(command)
    add_device(command)
    command.set_defaults(run=align.run, **align.OUTPUT_DEFAULTS)

    model = "published name, hub id or folder with a checkpoint"
    description = "Show a model's configuration, parameters and memory; with --device cuda, which models fit a GPU."
    command = add("info", "show a model's configuration, parameters and memory", description)
    command.add_argument("model", metavar="MODEL", help=model)
    add_device(command)
    command.set_defaults(run=info.run)

    description = "Run the tutorial, from a waveform to words: an executable document, with pictures."
    command = add("walkthrough", "run the tutorial, from a waveform to words", description)
    help = "show only this section; the earlier ones run silently"
    command.add_argument("--section", type=int, metavar="N", help=f"{help} (default: all)")
    help = "tiny.en, or base, whose outputs are not compared (default: tiny.en)"
    command.add_argument("--model", default="tiny.en", metavar="MODEL", help=help)
    help = "also write a web page with pictures, formulas and audio"
    command.add_argument("--html", type=Path, metavar="OUT.html", help=f"{help} (default: none)")
    help = "also write a notebook for Jupyter, VS Code or Colab, executed"
    command.add_argument("--notebook", type=Path, metavar="OUT.ipynb", help=f"{help} (default: none)")
    help = "rewrite the document's outputs, listings and pictures (default: compare the outputs)"
    command.add_argument("--update", action="store_true", help=help)
    add_device(command)
    command.set_defaults(run=_walkthrough)

    description = (
        "List the tutorial's exercises, print one, write the code to start from, or check your answer, which then runs "
        "inside the real model. With --all, transcribe with all of your answers together."
    )
    command = add("exercise", "list, print and check the tutorial's exercises", description)
    command.epilog = examples(
        ("minwhisper exercise 1 --start softmax.py", "write the code to start from"),
        ("minwhisper exercise 1 softmax.py", "check it"),
        ("minwhisper exercise --all . --audio me.wav", "a Whisper of your own"),
    )
    command.add_argument("number", nargs="?", type=int, metavar="N", help="the exercise to print (default: list all)")
    command.add_argument("file", nargs="?", type=Path, metavar="FILE.py", help="the answer to check")
    command.add_argument("--start", type=Path, metavar="FILE.py", help="write the code to start from (default: none)")
    help = "check all answers in this folder, and transcribe with them (default: none)"
    command.add_argument("--all", type=Path, dest="folder", metavar="FOLDER", help=help)
    help = "with --all, the recording to transcribe (default: 11 s of a speech, from the package)"
    command.add_argument("--audio", type=Path, metavar="AUDIO", help=help)
    command.set_defaults(run=_exercise)

    description = "Compare every stage of a model, from spectrogram to logits, with stored float64 reference values."
    command = add("parity", "compare every stage with exact reference values", description)
    command.add_argument("model", metavar="MODEL", help="tiny.en or base; with PyTorch installed, any model")
    add_device(command)
    add_dtype(command, "float32")
    command.set_defaults(run=_parity)

    description = (
        "Write the value of every stage for the first 30 s of a recording: the exact values for other implementations."
    )
    command = add("trace", "write the exact value of every stage to a file", description)
    command.add_argument("audio", metavar="AUDIO", type=Path, help="audio or video file")
    help = "file to write: safetensors, or NumPy's format if its name ends in .npz"
    command.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help=help)
    _add_model(command)
    help = "precision of the arithmetic and of the values (default: float64)"
    command.add_argument("--dtype", choices=("float64", "float32"), default="float64", metavar="DTYPE", help=help)
    help = "stages to write, such as 'encoder.*,*.attention.weights' (default: all but attention's scores and weights)"
    command.add_argument("--stages", action="append", metavar="PATTERN,...", help=help)
    _add_tokens(command)
    help = "names of the stages: minwhisper, or hf for those of Transformers' modules (default: minwhisper)"
    command.add_argument("--names", choices=("minwhisper", "hf"), default="minwhisper", metavar="NAMES", help=help)
    command.add_argument("--npz", action="store_true", help="write NumPy's format (default: only if FILE ends in .npz)")
    command.set_defaults(run=_trace)

    description = (
        "Compare the values of another implementation with the exact ones, stage by stage, find the first stage that "
        "is wrong, and name the mistake. The exit status is 1 if a stage differs by more than float32's rounding."
    )
    command = add("compare", "find the mistake in another implementation", description)
    command.epilog = examples(
        ("minwhisper compare theirs.npz --model base", "which mistake is it?"),
        ("minwhisper compare theirs.npz --map names.json", "other names"),
    )
    help = "their arrays by name: safetensors or .npz; names as in Transformers, openai-whisper or 'minwhisper trace'"
    command.add_argument("theirs", type=Path, metavar="FILE", help=help)
    _add_model(command)
    help = 'JSON file for names that are not recognised: {"their name": "our name"} (default: none)'
    command.add_argument("--map", type=Path, metavar="NAMES.json", help=help)
    help = "the recording, if the file has neither samples nor a spectrogram (default: none)"
    command.add_argument("--audio", type=Path, metavar="AUDIO", help=help)
    _add_tokens(command)
    command.add_argument("--json", action="store_true", help="print the report as JSON (default: as text)")
    command.set_defaults(run=_compare)

    description = (
        "Compare a transcript with the text that was spoken: the word and character error rates (WER, CER), and the "
        "substituted (S), deleted (D) and inserted (I) words. Only the text of .json, .jsonl, .srt, .vtt and .tsv "
        "files counts."
    )
    command = add("score", "word and character error rates of a transcript", description)
    command.epilog = examples(
        ("minwhisper score spoken.txt talk.srt", "how many words are wrong?"),
        ("minwhisper score spoken.txt talk.srt --alignment", "which ones?"),
        ("minwhisper score spoken/ transcripts/", "files of the same names"),
    )
    help = "the text that was spoken: a file, or a folder of files"
    command.add_argument("reference", type=Path, metavar="REFERENCE", help=help)
    help = "the transcript: a file, or a folder of files with the same names"
    command.add_argument("hypothesis", type=Path, metavar="HYPOTHESIS", help=help)
    help = "openai-whisper's normalisation of texts: english, basic for other languages, or none"
    shown = "english, unless a .json file states another language"
    command.add_argument("--normalize", choices=("english", "basic", "none"), help=f"{help} (default: {shown})")
    help = "count and align characters (default: words)"
    command.add_argument("--cer", action="store_true", help=help)
    command.add_argument("--alignment", action="store_true", help="also show both texts word by word, errors marked")
    command.add_argument("--json", action="store_true", help="print the result as JSON (default: as a table)")
    command.set_defaults(run=_score)

    description = "Time every stage of a model on this machine's CPU, and compare with the lowest possible time."
    command = add("bench", "time every stage on this machine's CPU", description)
    command.add_argument("model", metavar="MODEL", nargs="?", default="tiny.en", help=f"{model} (default: tiny.en)")
    add_threads(command)
    command.set_defaults(run=_bench)

    description = "Print a shell completion script."
    command = add("completion", "print a shell completion script", description)
    command.epilog = examples(
        ('eval "$(minwhisper completion bash)"', "in ~/.bashrc"),
        ('eval "$(minwhisper completion zsh)"', "in ~/.zshrc, after compinit"),
        ("minwhisper completion fish | source", "in ~/.config/fish/config.fish"),
    )
    command.add_argument("shell", choices=completion.SHELLS, metavar="SHELL", help="bash, zsh or fish")
    command.set_defaults(run=partial(completion.run, parser=parser))
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    help = "published name, hub id or folder (default: tiny.en if it is installed, else tiny)"
    command.add_argument("--model", metavar="MODEL", help=help)


def _add_tokens(command: argparse.ArgumentParser) -> None:
    help = "token ids, the decoder's input (default: the prompt, and the text that greedy search finds)"
    command.add_argument("--tokens", metavar="ID,...", help=help)


# Imported only when they are used: transcribing needs none of them.


def _corpus(options: argparse.Namespace, console: Console) -> int:
    from .corpus import run

    return run(options, console)


def _parity(options: argparse.Namespace, console: Console) -> int:
    from .parity import run

    return run(options, console)


def _trace(options: argparse.Namespace, console: Console) -> int:
    from .doctor import run_trace

    return run_trace(options, console)


def _compare(options: argparse.Namespace, console: Console) -> int:
    from .doctor import run_compare

    return run_compare(options, console)


def _score(options: argparse.Namespace, console: Console) -> int:
    from .score import run

    return run(options, console)


def _bench(options: argparse.Namespace, console: Console) -> int:
    from .bench import run

    return run(options, console)


def _view(options: argparse.Namespace, console: Console) -> int:
    from .view import run

    return run(options, console)


def _walkthrough(options: argparse.Namespace, console: Console) -> int:
    from ..walkthrough.command import command

    return command(options, console)


def _exercise(options: argparse.Namespace, console: Console) -> int:
    from ..exercises.command import command

    return command(
        options.number, options.file, console, start=options.start, folder=options.folder, audio=options.audio
    )
