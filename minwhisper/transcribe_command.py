"""The command ``minwhisper transcribe``: files to text, shown segment by segment, and to files of text.

What is finished stays: a bad file does not stop the others, and Ctrl-C keeps the segments that were found.
"""

import argparse
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np

from .audio import open_sound
from .console import Console, printable
from .errors import AudioError, MinWhisperError, OptionError
from .fast.threads import blas_threads
from .languages import LANGUAGES
from .model import Whisper, load_model
from .segments import Segment
from .sources import default_model
from .transcribe import Transcription
from .transcribe_arguments import Outputs, Request, check_arguments, output_name
from .windows import check_options
from .writers import clock, write_transcript

INTERRUPTED = 130  # the exit status that shells give to what Ctrl-C has ended


def run(options: argparse.Namespace, console: Console) -> int:
    """Transcribe the files, and return the exit status: 2 if one of them failed.

    Raises a :class:`MinWhisperError` for what makes the whole command impossible.
    """
    request = check_arguments(options)
    if options.model_dir is not None:
        keep_models_in(options.model_dir)
    if not any(map(is_there, options.files)):  # a model may be gigabytes, to be fetched for nothing
        complain_of(options.files, console)
        return 2
    with blas_threads(options.threads):
        model = _load(options, request, console)
        job = _Job(options, request, model, console)
        try:
            together = options.batch_size > 1 and len(options.files) > 1
            failed = job.transcribe_together(options.files) if together else job.transcribe_in_turn(options.files)
        except _Interrupted:
            return INTERRUPTED
    return 2 if failed else 0


def _load(options: argparse.Namespace, request: Request, console: Console) -> Whisper:
    """The model, which can do what is asked."""
    name = options.model
    if name is None:
        name, reason = default_model()
        knows = ", English only" if name.endswith(".en") else ""
        console.note(f"model {name}{knows}: {reason}; --model chooses another")
    with ThreadPoolExecutor(1) as meanwhile:
        meanwhile.submit(import_module, "minwhisper.sound_file")  # which the first file will want
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
            open_sound(file).close()
        except AudioError as error:
            console.note(error)


def keep_models_in(folder: str) -> None:
    """Make the folder the hub's cache. Raises :class:`OptionError` where there can be none."""
    path = Path(folder).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"model_dir {folder!r}: expected a folder, or a place for one, but the system says "
            f"{str(error.strerror or error)!r}; name another"
        ) from error
    os.environ["HF_HUB_CACHE"] = str(path)  # huggingface_hub looks there when it is imported, which is later


class _Interrupted(Exception):
    """Ctrl-C came, and what there was to keep is kept."""


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
        """One file after the other; returns how many failed. Raises :class:`_Interrupted` after Ctrl-C."""
        failed = 0
        for file in files:
            try:
                self.transcribe(file)
            except MinWhisperError as error:
                self._complain(file, error)
                failed += 1
        return failed

    def transcribe_together(self, files: Sequence[str]) -> int:
        """Several files at a time, each shown and written when it is finished; returns how many failed.

        Raises :class:`_Interrupted` after Ctrl-C; what is shown by then is written.
        """
        failed = done = 0
        finished = self._model.stream_many(files, batch_size=self._batch_size, seed=self._seed, **self._request.options)
        try:
            for file, one in zip(files, finished, strict=True):
                try:
                    if isinstance(one, MinWhisperError):
                        raise one
                    self._announce(file, one)
                    for segment in one.segments:
                        self._show(segment)
                    self._output(file, one)
                except MinWhisperError as error:
                    self._complain(file, error)
                    failed += 1
                done += 1
        except KeyboardInterrupt:
            self._console.note(f"interrupted after {done} of {len(files)} files")
            raise _Interrupted from None
        return failed

    def _complain(self, file: str, error: MinWhisperError) -> None:
        """Say why a file failed; an :class:`AudioError` begins with its name."""
        self._console.note(error if isinstance(error, AudioError) else f"{printable(file)}: {error}")

    def transcribe(self, file: str) -> None:
        """Show a file's text and write its outputs.

        Raises :class:`MinWhisperError`, and :class:`_Interrupted` after Ctrl-C.
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
                self._announce(file, running)
                if progress is not None:
                    clips = self._request.checked.clips(running.seconds)
                    progress(0.0, sum(end - start for start, end in clips))
                for segment in running:
                    self._show(segment)
                self._output(file, running)
            except KeyboardInterrupt:
                self._keep(file, running)
                raise _Interrupted from None

    def _output(self, file: str, running: Transcription) -> None:
        """Write a finished file's outputs, if any are asked for."""
        if self._outputs is not None:
            paths = self._write(file, running, self._outputs)
            if self._verbose:
                self._console.note(f"wrote {paths}")

    def _announce(self, file: str, running: Transcription) -> None:
        """Before the lines of a file: which one it is, where there are several, and which language it is in."""
        if running.audio_track is not None:
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
        times = f"[{clock(segment['start'])} --> {clock(segment['end'])}]  " if self._verbose else ""
        self._console.text(times + text)

    def _write(self, file: str, running: Transcription, outputs: Outputs) -> str:
        """Write what was found so far, and say where."""
        name = output_name(file)
        write_transcript(running.transcript, outputs.folder, name, outputs.format, outputs.subtitles)
        return outputs.paths(name)

    def _keep(self, file: str, running: Transcription) -> None:
        """After Ctrl-C: write the segments so far, if any, and say so. Another Ctrl-C ends that."""
        reached = min(running.segments[-1]["end"], running.seconds) if running.segments else 0.0
        line = f"interrupted at {reached:.1f} of {running.seconds:.1f} s of {printable(file)}"
        if self._outputs is not None and running.segments:
            try:
                line += f"; the segments so far are in {self._write(file, running, self._outputs)}"
            except MinWhisperError as error:
                line += f"; {error}"
        self._console.note(line)
