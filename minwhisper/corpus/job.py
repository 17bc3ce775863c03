"""What to do with each recording of a corpus, and what came of it: the values that travel between client and workers."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import minwhisper

from ..checkpoints.checksums import sha256_of
from ..checkpoints.files import CheckpointFiles
from ..decoding.keywords import TranscriptionKeywords
from ..writers.subtitles import DEFAULT_SUBTITLES, SubtitleOptions
from .manifest import Outcome


@dataclass(frozen=True)
class Job:
    """Everything that a worker has to know to transcribe a recording."""

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
    share_weights: bool = True
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


class Setup(NamedTuple):
    """A worker, ready to transcribe."""

    worker: str  # its address
    device: str
    model: str  # its name
    weights: str  # sha256


class Result(NamedTuple):
    """What became of a recording on a worker."""

    output: str  # of its ``Recording``
    outcome: Outcome
    setup: Setup
    seconds: float  # that it took
    error: str = ""
    files: tuple[tuple[str, bytes], ...] = ()  # format and content of each output file
    facts: dict[str, Any] = {}  # for the manifest  # noqa: RUF012 (never modified)


def weights_sha256(files: CheckpointFiles) -> str:
    """Return the sha256 of a checkpoint's weights: a known one, which loading verifies, else that of the files."""
    if files.sha256 is not None:
        return files.sha256
    known = dict(files.checksums)
    if len(files.weights) == 1 and files.weights[0] in known:
        return known[files.weights[0]]
    return sha256_of(files.weights)
