"""Values that travel between client and workers: the job, its tasks, and their results."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

import minwhisper

from ..checkpoints.checksums import sha256_of
from ..checkpoints.files import CheckpointFiles
from ..decoding.keywords import TranscriptionKeywords
from ..transcription.segments import Transcript
from ..writers.subtitles import DEFAULT_SUBTITLES, SubtitleOptions
from .manifest import Outcome


@dataclass(frozen=True)
class Job:
    """The model, the options and the formats of a run: all that a worker needs besides the recordings."""

    model: str
    keywords: TranscriptionKeywords
    formats: str = "json"
    subtitles: SubtitleOptions = DEFAULT_SUBTITLES
    device: str = "cpu"
    dtype: str = "float32"
    plain: bool = False
    batch_size: int = 1
    seed: int = 0
    split: float | None = None  # minutes of audio per part, None to leave recordings whole
    threads: int | None = None  # of each worker; None for those that Dask gives it
    folder: str = ""  # where the outputs will be: a page links to the recording from there
    version: str = minwhisper.__version__

    def digest(self, weights: str) -> str:
        """Return the sha256 of all that the outputs depend on. ``weights`` is the sha256 of the model's weights.

        The device, the number of threads and the release are not part of it: they change the last digits at most.
        """
        what = {
            "weights": weights,
            "options": self.keywords,
            "formats": self.formats,
            "subtitles": asdict(self.subtitles),
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "split": self.split,
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=list).encode()).hexdigest()


class Recording(NamedTuple):
    """A recording of the corpus."""

    path: str  # or address
    output: str  # path of its outputs within the output folder, without the format
    size: int | None = None  # bytes
    modified: str | None = None  # when it was modified, or another sign of its version


class Part(NamedTuple):
    """A part of a recording."""

    number: int
    start: float  # seconds
    end: float


class Plan(NamedTuple):
    """The parts into which a recording is cut."""

    seconds: float  # duration of the recording
    language: str  # a code, the same for all parts
    parts: tuple[Part, ...]


class Task(NamedTuple):
    """A unit of work: transcribe a recording, several together, or a part of one; or plan its parts."""

    recordings: tuple[Recording, ...]
    plan: bool = False
    part: Part | None = None
    language: str | None = None  # of a part

    @property
    def labels(self) -> tuple[str, ...]:
        """Names for what is transcribed, in messages between worker and client."""
        if self.part is not None:
            return (f"{self.recordings[0].output}#{self.part.number}",)
        return tuple(recording.output for recording in self.recordings)


class Setup(NamedTuple):
    """A worker, ready to transcribe."""

    worker: str  # its address
    device: str
    model: str  # its name
    weights: str  # sha256


class Result(NamedTuple):
    """The result of a recording, or of a part, on a worker."""

    outcome: Outcome
    setup: Setup
    seconds: float  # of work
    error: str = ""
    facts: Mapping[str, Any] | None = None  # for the manifest
    files: tuple[tuple[str, bytes], ...] = ()  # format and content of each output file
    transcript: Transcript | None = None  # of a part
    plan: Plan | None = None


def facts_about(transcript: Transcript, seconds: float) -> dict[str, Any]:
    """Return the fields of the manifest for a transcript of a recording of this duration in seconds."""
    segments = transcript["segments"]
    found: dict[str, Any] = {
        "duration": round(seconds, 3),
        "language": transcript["language"],
        "words": len(transcript["text"].split()),
    }
    if segments:
        tokens = np.array([len(segment["tokens"]) + 1 for segment in segments])
        scores = np.array([segment["avg_logprob"] for segment in segments])
        found["mean_logprob"] = round(float((scores * tokens).sum() / tokens.sum()), 4)
        found["lowest_logprob"] = round(float(scores.min()), 4)
        found["compression_ratio"] = round(max(segment["compression_ratio"] for segment in segments), 4)
    return found


def weights_sha256(files: CheckpointFiles) -> str:
    """Return the sha256 of a checkpoint's weights: a known one, which loading verifies, else that of the files."""
    if files.sha256 is not None:
        return files.sha256
    known = dict(files.checksums)
    if len(files.weights) == 1 and files.weights[0] in known:
        return known[files.weights[0]]
    return sha256_of(files.weights)
