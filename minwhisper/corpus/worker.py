"""The side of the workers: one model per process, one recording at a time.

The model never travels: a worker gets its name, and loads it when its first recording comes. Recordings and transcripts
do not pass through the scheduler's memory for longer than a message takes, and what a worker returns is the content of
the output files, which the client writes.
"""

import io
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

import minwhisper

from ..audio.load import AudioSource
from ..checkpoints.sources import find_checkpoint
from ..errors import OUT_OF_MEMORY, AudioError, CorpusError, DeviceMemoryError, MinWhisperError, is_out_of_memory
from ..printable import printable
from ..transcription.options import TranscriptionOptions
from ..transcription.segments import Transcript
from ..transcription.transcribe import Transcription
from ..transcription.windows import check_options
from ..whisper import Whisper, load_model
from ..writers.files import transcript_files
from .addresses import is_address, read_address
from .job import Job, Recording, Result, Setup, weights_sha256

REPORT_SECONDS = 5.0  # between two messages about the progress within a recording


class ModelPlugin(WorkerPlugin):
    """Holds the model of a worker, from the first recording to the end of the run."""

    idempotent = True

    def __init__(self, job: Job, name: str) -> None:
        """``name`` is that of the run: the plugin is registered under it, and messages go to a topic of this name."""
        self.job, self.name = job, name

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to a worker: never a model."""
        return {"job": self.job, "name": self.name}

    def setup(self, worker: Worker) -> None:
        """Prepare a worker; the model is loaded later, by the thread that needs it."""
        self._worker = worker
        self._turn = threading.Lock()
        self._loaded: tuple[Whisper, Setup] | None = None

    def teardown(self, worker: Worker) -> None:
        """Free the model at the end of the run, also on a cluster that goes on."""
        self._loaded = None

    def loaded(self) -> tuple[Whisper, Setup]:
        """Return the model, loaded on the first call. Raises a ``MinWhisperError`` if that fails."""
        if self._loaded is None:
            job, worker = self.job, self._worker
            if job.version != minwhisper.__version__:
                raise CorpusError(
                    f"worker {worker.address}: has minwhisper {minwhisper.__version__}, the client {job.version}; "
                    "install the same release everywhere"
                )
            threads = worker.state.nthreads if job.threads is None else job.threads
            model = load_model(job.model, job.device, job.dtype, threads=threads, plain=job.plain)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about options: the client has shown them
                check_options(TranscriptionOptions.named(**job.keywords), model)
            weights = weights_sha256(find_checkpoint(job.model, local_only=True))
            self._loaded = model, Setup(worker.address, model.device, model.name, weights)
        return self._loaded

    def prepare(self) -> Setup:
        """Load the model, and return what this worker computes with."""
        with self._turn:
            return self.loaded()[1]

    def transcribe(self, recordings: Sequence[Recording]) -> list[Result]:
        """Transcribe recordings: one, or several whose windows are decoded together.

        Threads of a worker take turns: the model uses all of them for one task. Raises a ``MinWhisperError`` only for
        what concerns the whole run; what concerns a recording is in its result.
        """
        with self._turn:
            model, setup = self.loaded()
            self._tell("start", [recording.output for recording in recordings])
            if len(recordings) > 1:
                return self._together(recordings, model, setup)
            return [self._one(recording, model, setup) for recording in recordings]

    def _tell(self, action: str, outputs: Sequence[str], **more: float) -> None:
        self._worker.log_event(self.name, {"action": action, "worker": self._worker.address, "outputs": outputs, **more})

    def _one(self, recording: Recording, model: Whisper, setup: Setup) -> Result:
        """Transcribe a recording as ``minwhisper transcribe`` does."""
        job, told = self.job, time.monotonic()

        def progress(done: float, total: float) -> None:
            nonlocal told
            if time.monotonic() - told > REPORT_SECONDS:
                told = time.monotonic()
                self._tell("progress", [recording.output], done=done, total=total)

        def run() -> Finished:
            generator = np.random.default_rng(job.seed)
            with model.stream(
                source(recording), progress=progress, generator=generator, batch_size=job.batch_size, **job.keywords
            ) as running:
                for _ in running:
                    pass
                return Finished.of(running)

        return self._result(recording, model, setup, run)

    def _together(self, recordings: Sequence[Recording], model: Whisper, setup: Setup) -> list[Result]:
        """Transcribe several recordings as ``minwhisper transcribe --batch_size`` does."""
        job, results = self.job, []
        sources = [_opened(recording) for recording in recordings]
        readable = [one for one in sources if not isinstance(one, MinWhisperError)]
        started = time.monotonic()
        running = model.stream_many(readable, batch_size=job.batch_size, seed=job.seed, **job.keywords)
        for recording, opened in zip(recordings, sources, strict=True):

            def run(opened: AudioSource | MinWhisperError = opened) -> Finished:
                found = opened if isinstance(opened, MinWhisperError) else next(running)
                if isinstance(found, MinWhisperError):
                    raise found
                return Finished.of(found)

            results.append(self._result(recording, model, setup, run))
        share = (time.monotonic() - started) / len(recordings)
        return [result._replace(seconds=share) for result in results]

    def _result(self, recording: Recording, model: Whisper, setup: Setup, run: Any) -> Result:
        """Run a transcription and return what became of it, whatever it is."""
        started = time.monotonic()

        def failed(outcome: Any, error: str) -> Result:
            return Result(recording.output, outcome, setup, time.monotonic() - started, error, facts=facts(caught))

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                finished: Finished = run()
                files = tuple(self._files(recording, finished.transcript, model))
            except DeviceMemoryError as error:
                return failed("out_of_memory", str(error))
            except MinWhisperError as error:
                if is_out_of_memory(error):
                    return failed("out_of_memory", OUT_OF_MEMORY)
                return failed("failed", _message(recording, error))
            except Exception as error:  # a bug, on a recording that nobody has seen: the others go on
                if is_out_of_memory(error):
                    return failed("out_of_memory", OUT_OF_MEMORY)
                traceback.print_exc(file=sys.stderr)
                return failed("failed", f"{printable(recording.path)}: unexpected {type(error).__name__}: {error}")
        seconds = time.monotonic() - started
        return Result(recording.output, "done", setup, seconds, files=files, facts=facts(caught) | finished.facts())

    def _files(self, recording: Recording, transcript: Transcript, model: Whisper) -> list[tuple[str, bytes]]:
        """Return the formats and contents of the output files."""
        job, output = self.job, PurePosixPath(recording.output)
        audio = None if is_address(recording.path) else recording.path
        contents = transcript_files(
            transcript,
            Path(job.folder, output.parent),
            output.name,
            job.formats,
            job.subtitles,
            audio=audio,
            model=model.name,
        )
        return [(path.name.removeprefix(f"{output.name}."), content) for path, content in contents.items()]


class Finished(NamedTuple):
    """A finished transcription."""

    transcript: Transcript
    seconds: float  # of audio

    @classmethod
    def of(cls, running: Transcription) -> "Finished":
        """Return what is kept of a transcription that has ended."""
        return cls(running.transcript, running.seconds)

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says about it."""
        segments = self.transcript["segments"]
        found: dict[str, Any] = {
            "duration": round(self.seconds, 3),
            "language": self.transcript["language"],
            "words": len(self.transcript["text"].split()),
        }
        if segments:
            tokens = np.array([len(segment["tokens"]) + 1 for segment in segments])
            scores = np.array([segment["avg_logprob"] for segment in segments])
            found["mean_logprob"] = round(float((scores * tokens).sum() / tokens.sum()), 4)
            found["lowest_logprob"] = round(float(scores.min()), 4)
            found["compression_ratio"] = round(max(segment["compression_ratio"] for segment in segments), 4)
        return found


def facts(caught: Sequence[warnings.WarningMessage]) -> dict[str, Any]:
    """Return the warnings for the manifest, each once."""
    messages = list(Counter(printable(str(one.message)) for one in caught))
    return {"warnings": messages} if messages else {}


def source(recording: Recording) -> AudioSource:
    """Return the path of a recording, or its content if it has an address. Raises ``AudioError`` if that fails."""
    if not is_address(recording.path):
        return recording.path
    content = NamedBytes(read_address(recording.path))
    content.name = recording.path
    return content


class NamedBytes(io.BytesIO):
    """The content of a file, with a name for messages."""

    name: str


def _opened(recording: Recording) -> AudioSource | MinWhisperError:
    try:
        return source(recording)
    except AudioError as error:
        return error


def _message(recording: Recording, error: MinWhisperError) -> str:
    """Return a message that names the recording; an ``AudioError`` names it itself."""
    return str(error) if isinstance(error, AudioError) else f"{printable(recording.path)}: {error}"


# ------------------------------------------------------------------------------------------ the tasks


def prepare(name: str) -> Setup:
    """Task: load the model of a run, and return what the worker computes with."""
    return _plugin(name).prepare()


def transcribe(recordings: Sequence[Recording], name: str) -> list[Result]:
    """Task: transcribe recordings with the model of a run."""
    return _plugin(name).transcribe(recordings)


def _plugin(name: str) -> ModelPlugin:
    plugin = get_worker().plugins[name]
    assert isinstance(plugin, ModelPlugin)
    return plugin
