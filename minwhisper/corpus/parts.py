"""Long recordings in parts: cut at silence, transcribed by several workers, and merged again.

Each part is transcribed as a recording of its own, so a transcript of parts is not that of the whole recording: as with
``batch_size``, a part is not prompted with the text before it. Finished parts are kept in the output folder until the
last one is finished, so that an interrupted run can continue within a recording.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from ..transcription.segments import Segment, Transcript
from ..transcription.sequential import clamp_segment
from .job import Part, Plan, Recording

FOLDER = ".parts"  # in the output folder
SHORTEST = 2 / 3  # of the requested length: as with batching, a part is cut in its last third


def merged(plan: Plan, transcripts: Sequence[Transcript]) -> Transcript:
    """Merge the transcripts of the parts of a recording into its transcript."""
    segments: list[Segment] = []
    windows: list[Any] = []
    for part, transcript in zip(plan.parts, transcripts, strict=True):
        last = part.number == len(plan.parts) - 1
        for segment in transcript["segments"]:
            moved = shifted(segment, part.start)
            moved = moved if last else clamp_segment(moved, part.end)  # the next part starts there
            moved["id"] = len(segments)
            segments.append(moved)
        windows += [window | {"seek": window["seek"] + frames(part.start)} for window in transcript.get("windows", [])]
    found: Transcript = {
        "text": "".join(transcript["text"] for transcript in transcripts),  # also of segments that were cleared
        "segments": segments,
        "language": plan.language,
    }
    if windows:
        found["windows"] = windows
    return found


def shifted(segment: Segment, seconds: float) -> Segment:
    """Return a segment with its times, and those of its words, moved later by ``seconds``."""

    def later(timed: Any) -> Any:
        return timed | {"start": round(timed["start"] + seconds, 3), "end": round(timed["end"] + seconds, 3)}

    moved = later(segment) | {"seek": segment["seek"] + frames(seconds)}
    if "words" in segment:
        moved["words"] = [later(word) for word in segment["words"]]
    return cast(Segment, moved)


def frames(seconds: float) -> int:
    """Convert seconds to a number of frames of 10 ms."""
    return round(100 * seconds)


class PartStore:
    """The finished parts of a recording, in a file of the output folder: a line of JSON for each."""

    def __init__(self, folder: Path, recording: Recording, digest: str) -> None:
        """``digest`` is that of the run: parts of another model, or with other options, are not used."""
        what = [recording.output, recording.size, recording.modified, digest]
        name = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        self._path = folder / FOLDER / f"{name}.jsonl"

    def read(self, plan: Plan) -> dict[int, Transcript]:
        """Return the transcripts that are stored, by the number of their part."""
        found: dict[int, Transcript] = {}
        for line in self._lines():
            try:
                stored = json.loads(line)
                part = Part(*stored["part"])
            except (ValueError, KeyError, TypeError):  # cut off
                continue
            if part in plan.parts:
                found[part.number] = stored["transcript"]
        return found

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                yield from file
        except FileNotFoundError:
            return

    def write(self, part: Part, transcript: Transcript) -> None:
        """Store a part. Raises OSError if the file cannot be written."""
        self._path.parent.mkdir(exist_ok=True)
        line = json.dumps({"part": part, "transcript": transcript})
        with self._path.open("ab") as file:
            file.write(f"\n{line}\n".encode())  # the first line break ends a line that was cut off

    def remove(self) -> None:
        """Remove the file, when the recording is finished, and the folder if it was the last one."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):  # there are others, or none was stored
            self._path.parent.rmdir()
