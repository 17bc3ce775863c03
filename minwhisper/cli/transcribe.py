"""The command ``minwhisper transcribe``: files to text, shown segment by segment, and to files of text.

What is finished stays: a bad file does not stop the others, and an interruption keeps the segments that were found.
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
from ..errors import OUT_OF_MEMORY, AudioError, MinWhisperError, OptionError, is_out_of_memory
from ..fast.cpu.threads import blas_threads
from ..printable import printable
from ..tokenizer.languages import LANGUAGES
from ..transcription.segments import Segment
from ..transcription.transcribe import Transcription
from ..transcription.windows import check_options
from ..whisper import Whisper, load_model
from ..writers.files import write_transcript
from ..writers.render import format_timestamp
from .interrupts import Stopped, interruption
from .request import Outputs, Request, check_arguments, output_name, unwritable


def run(options: argparse.Namespace, console: Console) -> int:
    """Transcribe the files, and return the exit status: 2 if one of them failed.

    Raises a :class:`MinWhisperError` for what makes the whole command impossible.
    """
    request = check_arguments(options)
    if options.model_dir is not None:
        keep_models_in(options.model_dir)
    refused = unwritable(options.files, request.outputs)
    for file, error in refused.items():
        console.note(f"{printable(file)}: {error}")
    files = [file for file in options.files if file not in refused]
    if not any(map(is_there, files)):  # a model may be gigabytes, to be fetched for nothing
        complain_of(files, console)
        return 2
    with blas_threads(options.threads):
        model = _load(options, request, console)
        job = _Job(options, request, model, console)
        together = options.batch_size > 1 and len(files) > 1
        failed = job.transcribe_together(files) if together else job.transcribe_in_turn(files)
    return 2 if failed or refused else 0


def _load(options: argparse.Namespace, request: Request, console: Console) -> Whisper:
    """The model, which can do what is asked."""
    name = options.model
    if name is None:
        name, reason = default_model()
        knows = ", English only" if name.endswith(".en") else ""
        console.note(f"model {name}{knows}: {reason}; --model chooses another")
    with ThreadPoolExecutor(1) as meanwhile:
        meanwhile.submit(import_module, "minwhisper.audio.reader")  # which the first file will want
        model = load_model(name, options.device, request.dtype, threads=options.threads, plain=options.plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come again with the first file
        check_options(request.checked, model)
    return model


def is_there(file: str) -> bool:
    """Whether there is something by the name, or standard input is meant."""
    return file == "-" or os.path.exists(file)


def complain_of(files: Sequence[str], console: Console) -> None:
    """Say of each file why it cannot be opened."""
    for file in files:
        try:
            open_audio(file).close()
        except AudioError as error:
            console.note(error)


def keep_models_in(folder: str) -> None:
    """Make the folder the hub's cache. Raises :class:`OptionError` where there can be none."""
    try:
        path = Path(folder).expanduser().absolute()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, ValueError) as error:  # no home of that user; a NUL in the name
        raise OptionError(
            f"model_dir {folder!r}: expected a folder, or a place for one, but the system says "
            f"{str(getattr(error, 'strerror', None) or error)!r}; name another"
        ) from error
    os.environ["HF_HUB_CACHE"] = str(path)  # huggingface_hub looks there when it is imported, which is later


class _Job:
    """What is the same for every file."""

    def __init__(self, options: argparse.Namespace, request: Request, model: Whisper, console: Console) -> None:
        self._request, self._outputs = request, request.outputs
        self._verbose: bool | None = options.verbose
        self._seed: int = options.seed
        self._batch_size: int = options.batch_size
        self._several = len(options.files) > 1
        self._model, self._console = model, console

    def transcribe_in_turn(self, files: Sequence[str]) -> int:
        """Transcribe one file after the other; returns the number that failed.

        Raises :class:`Stopped` after an interruption.
        """
        failed = 0
        for file in files:
            reason = None
            try:
                self.transcribe(file)
            except Exception as error:
                interruption.check()  # it may have broken off the reading of a file, which then looks damaged
                reason = self._reason(file, error)
            if reason is not None:  # outside of the handler, whose error holds what the file took of the memory
                self._console.note(reason)
                failed += 1
        return failed

    def transcribe_together(self, files: Sequence[str]) -> int:
        """Several files at a time, each shown and written when it is finished; returns how many failed.

        Raises :class:`Stopped` after an interruption; what is shown by then is written.
        """
        failed = done = 0
        taken = map(_unless_interrupted, files)
        finished = self._model.stream_many(taken, batch_size=self._batch_size, seed=self._seed, **self._request.options)
        try:
            for file, one in zip(files, finished, strict=True):
                interruption.check()
                try:
                    if isinstance(one, MinWhisperError):
                        raise one
                    self._announce(file, one)
                    for segment in one.segments:
                        self._show(segment)
                    self._output(file, one)
                except MinWhisperError as error:
                    self._console.note(self._reason(file, error))
                    failed += 1
                done += 1
        except KeyboardInterrupt:
            self._console.note(f"interrupted after {done} of {len(files)} files")
            raise Stopped from None
        return failed

    def _reason(self, file: str, error: Exception) -> str:
        """Return the line that says why a file failed; an :class:`AudioError` begins with its name.

        Raises an error that is not about the file.
        """
        if is_out_of_memory(error):
            return f"{'standard input' if file == '-' else printable(file)}: {OUT_OF_MEMORY}"
        if not isinstance(error, MinWhisperError):
            raise error
        return str(error) if isinstance(error, AudioError) else f"{printable(file)}: {error}"

    def transcribe(self, file: str) -> None:
        """Show a file's text and write its outputs.

        If the work breaks off, the segments so far are written. Raises what broke it off, :class:`Stopped` after an
        interruption.
        """
        # A generator for each file: what a file becomes does not depend on those before it.
        generator = np.random.default_rng(self._seed)
        title = "standard input" if file == "-" else os.path.basename(file)
        with (
            self._console.progress(title) as progress,
            self._model.stream(
                file, progress=progress, generator=generator, batch_size=self._batch_size, **self._request.options
            ) as running,
        ):
            try:
                interruption.check()
                self._announce(file, running)
                if progress is not None:
                    clips = self._request.checked.clips(running.seconds)
                    progress(0.0, sum(end - start for start, end in clips))
                for segment in running:
                    self._show(segment)
                    interruption.check()
            except KeyboardInterrupt:
                self._stop(file, running)
            except Exception:
                with suppress(MinWhisperError):  # the first error is the one to report
                    for place in self._keep(file, running):
                        self._console.note(f"{printable(file)}: the segments so far are in {place}")
                raise
            try:
                self._output(file, running)
            except KeyboardInterrupt:
                self._stop(file, running)

    def _output(self, file: str, running: Transcription) -> None:
        """Write a finished file's outputs, if any are asked for."""
        if self._outputs is not None:
            paths = self._write(file, running, self._outputs)
            if self._verbose:
                self._console.note(f"wrote {paths}")

    def _announce(self, file: str, running: Transcription) -> None:
        """Print the lines before those of a file: its audio track, its language, and its name if there are several."""
        if running.audio_track is not None and self._verbose is not False:
            self._console.note(f"{printable(file)}: {running.audio_track}")
        if self._verbose and running.language_probs is not None:
            sure = running.language_probs[running.language]
            name = LANGUAGES[running.language].title()
            self._console.note(f"{printable(file)}: {name} is heard, with probability {sure:.2f}")
        if self._several and self._verbose is not False:
            self._console.text(f"{printable(file)}:")

    def _show(self, segment: Segment) -> None:
        text = " ".join(line.strip() for line in segment["text"].strip().splitlines())
        if self._verbose is False or not text:
            return
        times = (
            f"[{format_timestamp(segment['start'])} --> {format_timestamp(segment['end'])}]  " if self._verbose else ""
        )
        self._console.text(times + text)

    def _write(self, file: str, running: Transcription, outputs: Outputs) -> str:
        """Write what was found so far, and say where."""
        name = output_name(file)
        write_transcript(running.transcript, outputs.folder, name, outputs.format, outputs.subtitles)
        return outputs.paths(name)

    def _stop(self, file: str, running: Transcription) -> NoReturn:
        """After an interruption: keep the segments so far and say so. Another interruption ends that."""
        reached = min(running.segments[-1]["end"], running.seconds) if running.segments else 0.0
        for segment in running.add_held():
            self._show(segment)
        line = f"interrupted at {reached:.1f} of {running.seconds:.1f} s of {printable(file)}"
        try:
            for place in self._keep(file, running):
                line += f"; the segments so far are in {place}"
        except MinWhisperError as error:
            line += f"; {error}"
        self._console.note(line)
        raise Stopped

    def _keep(self, file: str, running: Transcription) -> list[str]:
        """Write the segments so far, if there are any and files were asked for; return where they are."""
        running.add_held()
        wanted = self._outputs is not None and running.segments
        return [self._write(file, running, self._outputs)] if wanted and self._outputs is not None else []


def _unless_interrupted(file: str) -> str:
    """Return the file, or raise :class:`KeyboardInterrupt` if one was lost while the last file was read."""
    interruption.check()
    return file
