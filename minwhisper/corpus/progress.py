"""The progress of a run, and its summary."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .manifest import Entry


@dataclass
class WorkerState:
    """The work that a worker has done, and its present recordings."""

    recordings: int = 0
    audio: float = 0.0  # seconds
    busy: float = 0.0  # seconds of work
    device: str = ""
    running: tuple[str, ...] = ()  # labels of the recordings
    within: float = 0.0  # seconds of audio done of these


@dataclass
class Progress:
    """The progress of a run."""

    total: int  # recordings to do
    total_bytes: int  # of those whose size is known
    skipped: int = 0  # done by an earlier run
    done: int = 0
    failed: int = 0
    audio: float = 0.0  # seconds that are done
    done_bytes: int = 0
    started: float = field(default_factory=time.monotonic)
    workers: dict[str, WorkerState] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def audio_so_far(self) -> float:
        """Seconds of audio done, parts of recordings included."""
        return self.audio + sum(one.within for one in self.workers.values())

    @property
    def expected_audio(self) -> float | None:
        """Seconds of audio in all recordings, estimated by their size; None before the first is done."""
        if not self.done_bytes or not self.audio:
            return None
        return max(self.audio_so_far, self.audio * self.total_bytes / self.done_bytes)


@dataclass(frozen=True)
class Summary:
    """The result of a run."""

    done: int  # recordings transcribed now
    skipped: int  # transcribed by an earlier run, and unchanged
    failed: tuple[Entry, ...]  # the entries of the manifest for those that could not be transcribed, old ones too
    audio: float  # seconds of audio transcribed now
    seconds: float  # duration of the run
    workers: Mapping[str, WorkerState]  # by address
    manifest: Path
