"""The command ``minwhisper align``: print when the sentences of a known text were said, and write output files."""

import argparse
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ..common.console import Console
from ..common.option_checks import check_count
from ..corpus.inputs import Input
from ..decoding.keywords import TranscriptionKeywords
from ..errors import OptionError
from ..printable import printable
from ..transcription.known_text import check_text, comparable
from ..transcription.segments import Segment, Word
from ..whisper import load_model
from ..writers.files import check_writable
from ..writers.subtitles import format_timestamp
from .request import check_language, find_unwritable, output_name, outputs_for
from .transcribe import choose_model, exists, report_unreadable, write_outputs

DESCRIPTION = """\
Each line and each sentence of the text is printed with its times. Words that were probably not said are shown
[? like this ?]. Files are written only with --output_format or --output_dir.
"""
DOUBTFUL = 0.02  # a word of lower probability was probably not said

# Options of ``minwhisper transcribe`` that the output files need.
OUTPUT_DEFAULTS = {
    "word_timestamps": True,
    "verbose": None,
    "max_line_width": None,
    "max_line_count": None,
    "max_words_per_line": None,
    "highlight_words": False,
}


def run(options: argparse.Namespace, console: Console) -> int:
    """Align the text with the recording, and return the exit status: 2 if the recording cannot be read.

    Raises a ``MinWhisperError`` for other invalid input, before any work.
    """
    keywords: TranscriptionKeywords = {}
    if options.language is not None:
        check_language(options.language)
        keywords["language"] = options.language
    check_count("batch_size", options.batch_size, optional=False)
    outputs, audio = outputs_for(options), Input(options.audio, output_name(options.audio))
    if outputs is not None:
        check_writable(outputs.folder)
        for error in find_unwritable([audio], outputs).values():
            raise error
    text = read_text(options.text)
    if not exists(options.audio):
        report_unreadable([options.audio], console)
        return 2
    model = load_model(choose_model(options.model, console), options.device)
    title = "standard input" if options.audio == "-" else os.path.basename(options.audio)
    with console.progress(title) as progress:
        transcript = model.align(options.audio, text, progress=progress, batch_size=options.batch_size, **keywords)
        for segment in transcript["segments"]:
            console.text(line(segment))
    words = [word for segment in transcript["segments"] for word in segment["words"]]
    doubtful = sum(map(is_doubtful, words))
    if doubtful:
        console.note(f"{doubtful:,} of {len(words):,} words are doubtful: they were probably not said")
    if outputs is not None:
        write_outputs(audio, transcript, outputs, model.name)
    return 0


def read_text(path: Path) -> str:
    """Return the text of a file. Raises ``OptionError`` if it is not UTF-8, or empty."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"expected text in UTF-8, but byte {error.start} is not; convert the file"
        raise OptionError(f"{printable(str(path))}: {problem}") from None
    try:
        check_text(text)
    except OptionError as error:
        raise OptionError(f"{printable(str(path))}: {error}") from None
    return text


def line(segment: Segment) -> str:
    """Return a sentence with its times and with its doubtful words marked."""
    shown = "".join(
        marked(list(words)) if doubtful else "".join(word["word"] for word in words)
        for doubtful, words in groupby(segment["words"], is_doubtful)
    )
    times = f"{format_timestamp(segment['start'])} --> {format_timestamp(segment['end'])}"
    return f"[{times}]  {shown.strip()}"


def marked(words: Sequence[Word]) -> str:
    """Return words with a mark around them, and with the space before them."""
    text = "".join(word["word"] for word in words)
    bare = text.lstrip()
    return f"{text[: len(text) - len(bare)]}[? {bare} ?]"


def is_doubtful(word: Word) -> bool:
    """Return whether a word was probably not said; False for marks, which are not spoken."""
    return word["probability"] < DOUBTFUL and comparable(word["word"]) != ""
