"""The command ``minwhisper transcribe``: print the text of audio files segment by segment, and write output files.

Finished work is kept: a file that fails does not stop the others, and after Ctrl-C the segments so far are written.
"""

import argparse
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..audio.load import open_audio
from ..checkpoints.sources import default_model
from ..common.console import Console
from ..corpus.inputs import Input
from ..errors import OUT_OF_MEMORY, AudioError, MinWhisperError, OptionError, is_out_of_memory
from ..fast.cpu.threads import blas_threads
from ..printable import printable
from ..tokenizer.languages import LANGUAGES
from ..transcription.segments import Segment, Transcript
from ..transcription.transcribe import Transcription
from ..transcription.windows import check_options
from ..whisper import Whisper, load_model
from ..writers.files import write_transcript
from ..writers.subtitles import format_timestamp
from .interrupts import Stopped, interruption
from .request import Outputs, TranscribeRequest, check_arguments, find_unwritable


def run(options: argparse.Namespace, console: Console) -> int:
    """Transcribe the files, and return the exit status: 2 if one of them failed.

    Raises a ``MinWhisperError`` for an error that concerns the whole command.
    """
    request = check_arguments(options)
    if options.model_dir is not None:
        set_model_dir(options.model_dir)
    files = _without_finished(request, console) if options.skip_existing else request.inputs
    if not files:
        return 0
    unwritable = find_unwritable(files, request.outputs)
    for file, error in unwritable.items():
        console.note(f"{printable(file.path)}: {error}")
    files = [file for file in files if file not in unwritable]
    if not any(exists(file.path) for file in files):  # do not download a model, possibly gigabytes, for nothing
        report_unreadable([file.path for file in files], console)
        return 2
    with blas_threads(options.threads):
        model = _load(options, request, console)
        job = _Job(options, request, model, console)
        batched = options.batch_size > 1 and len(files) > 1
        failed = job.transcribe_batched(files) if batched else job.transcribe_sequentially(files)
    return 2 if failed or unwritable else 0


def _without_finished(request: TranscribeRequest, console: Console) -> list[Input]:
    """Return the files that lack an output, with a message about the others."""
    outputs, inputs = request.outputs, request.inputs
    files = [file for file in inputs if outputs is None or not outputs.exist(file)]
    if len(files) < len(inputs):
        console.note(f"skipped {len(inputs) - len(files):,} of {len(inputs):,} files, which have all their outputs")
    return files


def _load(options: argparse.Namespace, request: TranscribeRequest, console: Console) -> Whisper:
    """Load the model and check that it supports the options."""
    name = choose_model(options.model, console)
    with ThreadPoolExecutor(1) as background:
        background.submit(import_module, "minwhisper.audio.reader")  # the first file needs it
        model = load_model(name, options.device, request.dtype, threads=options.threads, plain=options.plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first file repeats them
        check_options(request.checked, model)
    return model


def choose_model(name: str | None, console: Console) -> str:
    """Return the requested model's name, or the default one's, with a message."""
    if name is None:
        name, reason = default_model()
        languages = ", English only" if name.endswith(".en") else ""
        console.note(f"model {name}{languages}: {reason}; --model chooses another")
    return name


def write_outputs(file: Input, transcript: Transcript, outputs: Outputs, model: str) -> str:
    """Write the transcript of a file, made by the model of this name, and return the paths."""
    folder, name = outputs.place(file)
    audio = None if file.path == "-" else file.path
    write_transcript(
        transcript,
        folder,
        name,
        outputs.format,
        outputs.subtitles,
        audio=audio,
        model=model,
        recording=file.output,
    )
    return outputs.paths(file.output)


def exists(file: str) -> bool:
    """Return whether a file exists, or is standard input."""
    return file == "-" or os.path.exists(file)


def report_unreadable(files: Sequence[str], console: Console) -> None:
    """Print for each file why it cannot be opened."""
    for file in files:
        try:
            open_audio(file).close()
        except AudioError as error:
            console.note(error)


def set_model_dir(folder: str) -> None:
    """Use the folder as the hub's cache. Raises ``OptionError`` if it cannot be created."""
    try:
        path = Path(folder).expanduser().absolute()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, ValueError) as error:  # no home folder of that user; a NUL in the name
        raise OptionError(
            f"model_dir {folder!r}: expected a folder that exists or can be created, but the system reports "
            f"{str(getattr(error, 'strerror', None) or error)!r}; choose another"
        ) from error
    os.environ["HF_HUB_CACHE"] = str(path)  # read by huggingface_hub when it is imported, later


class _Job:
    """The work on all files, with one model and one set of options."""

    def __init__(
        self, options: argparse.Namespace, request: TranscribeRequest, model: Whisper, console: Console
    ) -> None:
        self._request, self._outputs = request, request.outputs
        self._verbose: bool | None = options.verbose
        self._seed: int = options.seed
        self._batch_size: int = options.batch_size
        self._several = len(request.inputs) > 1
        self._keep_partial: bool = not options.skip_existing  # or the next command would skip the file
        self._model, self._console = model, console

    def transcribe_sequentially(self, files: Sequence[Input]) -> int:
        """Transcribe one file after another, and return the number of failures.

        Raises ``Stopped`` after an interruption.
        """
        failed = 0
        for file in files:
            reason = None
            try:
                self.transcribe(file)
            except Exception as error:
                interruption.check()  # a signal may have interrupted reading, so that the file looks damaged
                reason = self._reason(file, error)
            if reason is not None:  # outside of the handler: the error keeps the file's arrays alive
                self._console.note(reason)
                failed += 1
        return failed

    def transcribe_batched(self, files: Sequence[Input]) -> int:
        """Transcribe several files at a time, and return the number of failures.

        Each is shown and written when it is finished. Raises ``Stopped`` after an interruption.
        """
        failed = done = 0
        checked = (_unless_interrupted(file.path) for file in files)
        results = self._model.stream_many(
            checked, batch_size=self._batch_size, seed=self._seed, **self._request.keywords
        )
        try:
            for file, result in zip(files, results, strict=True):
                interruption.check()
                try:
                    if isinstance(result, MinWhisperError):
                        raise result
                    self._show_header(file, result)
                    for segment in result.segments:
                        self._show(segment)
                    self._output(file, result)
                except MinWhisperError as error:
                    self._console.note(self._reason(file, error))
                    failed += 1
                done += 1
        except KeyboardInterrupt:
            self._console.note(f"interrupted after {done} of {len(files)} files")
            raise Stopped from None
        return failed

    def _reason(self, file: Input, error: Exception) -> str:
        """Return the message for a file that failed; an ``AudioError`` names the file itself.

        Raises the error if it does not concern the file.
        """
        if is_out_of_memory(error):
            return f"{'standard input' if file.path == '-' else printable(file.path)}: {OUT_OF_MEMORY}"
        if not isinstance(error, MinWhisperError):
            raise error
        return str(error) if isinstance(error, AudioError) else f"{printable(file.path)}: {error}"

    def transcribe(self, file: Input) -> None:
        """Show a file's text and write its outputs.

        If it fails or is interrupted, write the segments so far, and raise the error or ``Stopped``.
        """
        # A generator per file: the text does not depend on the files before it.
        generator = np.random.default_rng(self._seed)
        title = "standard input" if file.path == "-" else os.path.basename(file.path)
        with (
            self._console.progress(title) as progress,
            self._model.stream(
                file.path,
                progress=progress,
                generator=generator,
                batch_size=self._batch_size,
                **self._request.keywords,
            ) as running,
        ):
            try:
                interruption.check()
                self._show_header(file, running)
                if progress is not None:
                    clips = self._request.checked.clips(running.seconds)
                    progress(0.0, sum(end - start for start, end in clips))
                for segment in running:
                    self._show(segment)
                    interruption.check()
            except KeyboardInterrupt:
                self._stop(file, running)
            except Exception:
                with suppress(MinWhisperError):  # report the first error
                    for place in self._save_partial(file, running):
                        self._console.note(f"{printable(file.path)}: the segments so far are in {place}")
                raise
            try:
                self._output(file, running)
            except KeyboardInterrupt:
                self._stop(file, running)

    def _output(self, file: Input, running: Transcription) -> None:
        """Write the outputs of a finished file, if there are any."""
        if self._outputs is not None:
            paths = self._write(file, running, self._outputs)
            if self._verbose:
                self._console.note(f"wrote {paths}")

    def _show_header(self, file: Input, running: Transcription) -> None:
        """Print a file's audio track, its language, and, if there are several files, its name."""
        if running.audio_track is not None and self._verbose is not False:
            self._console.note(f"{printable(file.path)}: {running.audio_track}")
        if self._verbose and running.language_probs is not None:
            probability = running.language_probs[running.language]
            name = LANGUAGES[running.language].title()
            self._console.note(f"{printable(file.path)}: detected language {name}, probability {probability:.2f}")
        if self._several and self._verbose is not False:
            self._console.text(f"{printable(file.path)}:")

    def _show(self, segment: Segment) -> None:
        text = " ".join(line.strip() for line in segment["text"].strip().splitlines())
        if self._verbose is False or not text:
            return
        if self._verbose:
            text = f"[{format_timestamp(segment['start'])} --> {format_timestamp(segment['end'])}]  {text}"
        self._console.text(text)

    def _write(self, file: Input, running: Transcription, outputs: Outputs) -> str:
        """Write the segments so far, and return the paths."""
        return write_outputs(file, running.transcript, outputs, self._model.name)

    def _stop(self, file: Input, running: Transcription) -> NoReturn:
        """Handle an interruption: write the segments so far, and print where. A second interruption stops this."""
        reached = min(running.segments[-1]["end"], running.seconds) if running.segments else 0.0
        for segment in running.add_held():
            self._show(segment)
        line = f"interrupted at {reached:.1f} of {running.seconds:.1f} s of {printable(file.path)}"
        try:
            for place in self._save_partial(file, running):
                line += f"; the segments so far are in {place}"
        except MinWhisperError as error:
            line += f"; {error}"
        if not self._keep_partial:
            line += "; with --skip_existing none of its outputs is written"
        self._console.note(line)
        raise Stopped

    def _save_partial(self, file: Input, running: Transcription) -> list[str]:
        """Write the segments so far, if there are any and there are outputs, and return the paths."""
        running.add_held()
        if self._outputs is None or not running.segments or not self._keep_partial:
            return []
        return [self._write(file, running, self._outputs)]


def _unless_interrupted(file: str) -> str:
    """Return the file, or raise ``KeyboardInterrupt`` if a signal came while the last file was read."""
    interruption.check()
    return file
