"""The workers' side: one model per process, one recording at a time.

The model is never sent: a worker gets its name, and loads it when its first recording comes. Recordings and transcripts
stay in the scheduler's memory no longer than a message takes, and a worker returns the content of the output files,
which the client writes.
"""

import io
import os
import stat
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

import minwhisper

from ..audio.load import N_SAMPLES, SAMPLE_RATE, AudioReader, AudioSource, open_audio
from ..checkpoints.sources import find_checkpoint
from ..errors import OUT_OF_MEMORY, AudioError, CorpusError, DeviceMemoryError, MinWhisperError, is_out_of_memory
from ..printable import printable
from ..transcription.chunking import cut_open_audio
from ..transcription.options import TranscriptionOptions
from ..transcription.segments import Transcript
from ..transcription.transcribe import Transcription
from ..transcription.windows import check_options
from ..whisper import Whisper, load_model
from ..writers.files import transcript_files
from .addresses import is_address, read_address
from .job import Job, Part, Plan, Recording, Result, Setup, Task, facts_about, weights_sha256
from .manifest import Outcome
from .parts import SHORTEST

PLUGIN_SECONDS = 30.0
REPORT_SECONDS = 5.0  # between two messages about the progress within a recording


class ModelPlugin(WorkerPlugin):  # type: ignore[misc]
    """A plugin that holds the model of a worker, from the first recording to the end of the run."""

    def __init__(self, job: Job, name: str) -> None:
        """``name`` is that of the run: the plugin is registered under it, and messages go to a topic of this name."""
        self.job, self.name = job, name

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that is sent to a worker: never a model."""
        return {"job": self.job, "name": self.name}

    def setup(self, worker: Worker) -> None:
        """Prepare a worker; the model is loaded later, by the thread that needs it."""
        self._worker = worker
        self._turn = threading.Lock()
        self._loaded: tuple[Whisper, Setup] | None = None
        self._opened: tuple[Recording, AudioReader] | None = None  # the last recording with a transcribed part

    def teardown(self, worker: Worker) -> None:
        """Free the model at the end of the run, since the cluster may keep running."""
        self._loaded = None
        self._close()

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
            how: Any = {"threads": threads, "plain": job.plain, "shared": weights_folder()}
            model = load_model(job.model, job.device, job.dtype, **how)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about options: the client has shown them
                check_options(TranscriptionOptions.named(**job.keywords), model)
            weights = weights_sha256(find_checkpoint(job.model, local_only=True))
            self._loaded = model, Setup(worker.address, model.device, model.name, weights)
        return self._loaded

    def prepare(self) -> Setup:
        """Load the model, and return this worker's setup."""
        with self._turn:
            return self.loaded()[1]

    def run(self, task: Task) -> list[Result]:
        """Do a task, and return a result for each of its recordings.

        Threads of a worker take turns: the model uses all of them for one task. Raises a ``MinWhisperError`` only for
        a problem that concerns the whole run; the error of a recording is in its result.
        """
        with self._turn:
            model, setup = self.loaded()
            self._tell("start", task.labels)
            if len(task.recordings) > 1:
                return self._together(task.recordings, model, setup)
            (recording,) = task.recordings
            if task.plan:
                return [_result(recording, setup, lambda: {"plan": self._plan(recording, model)})]
            if task.part is not None:
                return [_result(recording, setup, partial(self._part, task, task.part, model))]
            return [_result(recording, setup, partial(self._whole, recording, model))]

    def _tell(self, action: str, labels: Sequence[str], **more: float) -> None:
        self._worker.log_event(self.name, {"action": action, "worker": self._worker.address, "labels": labels, **more})

    def _whole(self, recording: Recording, model: Whisper) -> dict[str, Any]:
        """Transcribe a recording as ``minwhisper transcribe`` does."""
        with self._stream(source(recording), (recording.output,), model, 0) as running:
            for _ in running:
                pass
            return self._outputs(recording, running, model)

    def _stream(
        self, audio: AudioSource, labels: Sequence[str], model: Whisper, part: int, **more: Any
    ) -> Transcription:
        """Start a transcription that reports its progress to the client."""
        job, reported = self.job, time.monotonic()

        def progress(done: float, total: float) -> None:
            nonlocal reported
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                self._tell("progress", labels, done=done, total=total)

        generator = np.random.default_rng(job.seed)
        if job.split is not None:
            generator = generator.spawn(part + 1)[part]
        keywords: Any = {**job.keywords, **more}
        return model.stream(audio, progress=progress, generator=generator, batch_size=job.batch_size, **keywords)

    def _together(self, recordings: Sequence[Recording], model: Whisper, setup: Setup) -> list[Result]:
        """Transcribe several recordings as ``minwhisper transcribe --batch_size`` does."""
        job, started = self.job, time.monotonic()
        sources = [_opened(recording) for recording in recordings]
        readable = [one for one in sources if not isinstance(one, MinWhisperError)]
        running = model.stream_many(readable, batch_size=job.batch_size, seed=job.seed, **job.keywords)

        def next_one(recording: Recording, opened: AudioSource | MinWhisperError) -> dict[str, Any]:
            found = opened if isinstance(opened, MinWhisperError) else next(running)
            if isinstance(found, MinWhisperError):
                raise found
            return self._outputs(recording, found, model)

        pairs = zip(recordings, sources, strict=True)
        results = [_result(recording, setup, partial(next_one, recording, opened)) for recording, opened in pairs]
        share = (time.monotonic() - started) / len(recordings)
        return [result._replace(seconds=share) for result in results]

    def _outputs(self, recording: Recording, running: Transcription, model: Whisper) -> dict[str, Any]:
        """Return the output files of a recording, and its fields in the manifest."""
        transcript = running.transcript
        files = output_files(transcript, recording, self.job, model.name)
        return {"files": files, "facts": facts_about(transcript, running.seconds)}

    # -------------------------------------------------------------------------------------- long recordings

    def _plan(self, recording: Recording, model: Whisper) -> Plan:
        """Cut a recording at silence, and detect its language."""
        assert self.job.split is not None
        longest = 60 * self.job.split
        audio = self._open(recording)  # read piece by piece: hours of samples are gigabytes
        cuts = cut_open_audio(audio, SHORTEST * longest, longest)
        parts = tuple(Part(number, *times) for number, times in enumerate(cuts))
        language: Any = self.job.keywords.get("language")
        if language is None:
            first = round(audio.leading_silence * SAMPLE_RATE)
            windows = self.job.keywords.get("language_detection_windows", 1)
            beginning = audio.read(first, min(audio.size, first + windows * N_SAMPLES))
            with model.stream(beginning, **self.job.keywords) as running:
                language = running.language
        return Plan(audio.seconds, language, parts)

    def _part(self, task: Task, part: Part, model: Whisper) -> dict[str, Any]:
        """Transcribe a part of a recording as if it were a recording of its own."""
        audio = self._open(task.recordings[0])
        samples = audio.read(round(part.start * SAMPLE_RATE), round(part.end * SAMPLE_RATE))
        with self._stream(
            samples, task.labels, model, part.number, language=task.language, audio_track=None
        ) as running:
            for _ in running:
                pass
            return {"transcript": running.transcript}

    def _open(self, recording: Recording) -> AudioReader:
        """Open a recording, unless it is still open from its last part: decoding hours of audio takes a while."""
        if self._opened is None or self._opened[0] != recording:
            self._close()
            track = self.job.keywords.get("audio_track")
            self._opened = recording, open_audio(source(recording), timeline=True, track=track)
        return self._opened[1]

    def _close(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None


def _result(recording: Recording, setup: Setup, work: Callable[[], dict[str, Any]]) -> Result:
    """Do the work on a recording, and return its result, whatever the outcome."""
    started = time.monotonic()

    def failed(outcome: Outcome, error: str) -> Result:
        return Result(outcome, setup, time.monotonic() - started, error, facts=warned(caught))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = work()
        except DeviceMemoryError as error:
            return failed("out_of_memory", _message(recording, error))
        except Exception as error:
            if is_out_of_memory(error):
                return failed("out_of_memory", f"{printable(recording.path)}: {OUT_OF_MEMORY}")
            if isinstance(error, MinWhisperError):
                return failed("failed", _message(recording, error))
            traceback.print_exc(file=sys.stderr)  # a bug that nobody has met yet: the other recordings continue
            return failed("failed", printable(f"{recording.path}: unexpected {type(error).__name__}: {error}"))
    facts = warned(caught) | found.pop("facts", {})
    return Result("done", setup, time.monotonic() - started, facts=facts, **found)


def warned(caught: Sequence[warnings.WarningMessage]) -> dict[str, Any]:
    """Return warnings for the manifest, each once."""
    messages = list(dict.fromkeys(printable(str(one.message)) for one in caught))
    return {"warnings": messages} if messages else {}


def output_files(transcript: Transcript, recording: Recording, job: Job, model: str) -> tuple[tuple[str, bytes], ...]:
    """Return the format and content of each output file."""
    output = PurePosixPath(recording.output)
    audio = None if is_address(recording.path) else recording.path
    folder = Path(job.folder, output.parent)
    contents = transcript_files(
        transcript,
        folder,
        output.name,
        job.formats,
        job.subtitles,
        audio=audio,
        model=model,
        recording=recording.output,
    )
    return tuple((path.name.removeprefix(f"{output.name}."), content) for path, content in contents.items())


def weights_folder() -> Path | None:
    """Return a private folder on this machine for the weights that its workers share, or None if it cannot be made."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"minwhisper-{user}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return folder if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022 else None


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
    """Task: load the model of a run, and return the worker's setup."""
    return _plugin(name).prepare()


def run(task: Task, name: str) -> list[Result]:
    """Task: transcribe recordings with the model of a run."""
    return _plugin(name).run(task)


def _plugin(name: str) -> ModelPlugin:
    """Return the plugin of a run; it may reach a worker a moment after the first task."""
    deadline = time.monotonic() + PLUGIN_SECONDS
    while name not in get_worker().plugins and time.monotonic() < deadline:
        time.sleep(0.05)
    return cast(ModelPlugin, get_worker().plugins[name])
