"""The manifest of a corpus: one line of JSON per recording, with its outcome.

The manifest is appended to, never rewritten, so a process that is killed loses at most the line that it was writing.
The last line about a recording counts.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NotRequired, Self, TypedDict

from ..errors import CorpusError
from ..printable import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = "manifest.jsonl"
FLUSH_SECONDS = 1.0  # longest time until lines are forced to disk, in case of a power failure

Outcome = Literal["done", "failed", "out_of_memory", "killed"]
"""``failed``: the recording cannot be transcribed; ``out_of_memory``: not with the memory of the workers; ``killed``:
its workers died repeatedly."""


class Entry(TypedDict):
    """The outcome of a recording."""

    input: str  # path or address
    output: str  # path of its output files within the output folder, without the format
    size: int | None  # bytes of the input
    modified: str | None  # when it was modified, or another sign of its version; None if unknown
    job: str  # sha256 of the model's weights and of everything else that the text depends on
    outcome: Outcome
    error: NotRequired[str]  # unless it is done
    finished: float  # seconds since 1970
    attempts: int  # on different workers, or after a lack of memory
    worker: NotRequired[str]  # name or address
    device: NotRequired[str]
    seconds: NotRequired[float]  # of work
    warnings: NotRequired[list[str]]  # about the audio
    # The rest is present only if the recording is done.
    duration: NotRequired[float]  # seconds of audio
    language: NotRequired[str]
    words: NotRequired[int]
    parts: NotRequired[int]  # number of parts that it was cut into, with --split
    mean_logprob: NotRequired[float]  # mean log-probability of the tokens, over all segments
    lowest_logprob: NotRequired[float]  # of the least probable segment
    compression_ratio: NotRequired[float]  # of the segment that repeats itself most


class Manifest:
    """A manifest in an output folder, opened for appending; only one process may have it open."""

    def __init__(self, folder: Path) -> None:
        """Create or open the manifest. Raises ``CorpusError`` if another process has it open, OSError otherwise."""
        self.path = folder / NAME
        self._file: BinaryIO = self.path.open("ab")
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise CorpusError(
                f"{printable(str(self.path))}: another run is writing to this folder; wait until it ends, or choose "
                "another output folder"
            ) from None
        except OSError:  # a file system without locks
            pass
        self._synced, self._waiting = time.monotonic(), False
        if not _ends_with_newline(self.path):  # a line that was cut off when its process was killed
            self._file.write(b"\n")

    def append(self, entry: Entry) -> None:
        """Append a line."""
        self._file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()
        self._waiting = True
        self.sync()

    def sync(self) -> None:
        """Force lines to disk if that was not done for a while; to be called now and then."""
        if self._waiting and time.monotonic() - self._synced > FLUSH_SECONDS:
            self._force()

    def _force(self) -> None:
        os.fsync(self._file.fileno())
        self._synced, self._waiting = time.monotonic(), False

    def close(self) -> None:
        """Write what is left to disk and close the file."""
        if not self._file.closed:
            self._file.flush()
            self._force()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Return the last entry about each recording by its output; an empty mapping if there is no manifest."""
    try:
        return {entry["output"]: entry for entry in read_entries(folder / NAME)}
    except FileNotFoundError:
        return {}


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield all entries of a manifest. A line that was cut off is left out.

    Raises ``CorpusError`` for a file that is not a manifest.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
            except ValueError:  # also for bytes that are not UTF-8
                continue
            if not isinstance(entry, dict) or not {"input", "output", "job", "outcome"} <= entry.keys():
                raise CorpusError(
                    f"{printable(str(path))}: line {number} is not an entry of a manifest; choose another output folder"
                )
            yield entry  # type: ignore[misc]


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
