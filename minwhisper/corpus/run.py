"""The client's side: keep the workers busy, write what they return, and record the outcomes in the manifest.

Only this process writes, so that nothing is written twice: first the output files of a recording, each complete or
absent, then its line in the manifest. If the process is killed between the two, the recording is transcribed again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from distributed import Client

from ..errors import CorpusError
from ..printable import printable
from ..transcription.segments import Transcript
from ..writers.files import write_files
from ..writers.render import parse_formats
from . import worker
from .cluster import MAX_DEATHS
from .job import Job, Part, Plan, Recording, Result, Setup, Task, facts_about
from .manifest import Entry, Manifest, Outcome, read_manifest
from .parts import PartStore, merged
from .progress import Progress, Summary, WorkerState
from .task_queue import TaskQueue

MEMORY_TOPIC = "worker-restart-memory"  # Dask's nannies log there that a worker has exceeded its memory limit
MAX_ATTEMPTS = 3  # at a recording for which a worker's memory does not suffice
TICK = 0.5  # seconds between two reports


def run(
    client: Client,
    recordings: Sequence[Recording],
    folder: Path,
    job: Job,
    *,
    retry_failed: bool = False,
    report: Callable[[Progress], object] = lambda progress: None,
    tell: Callable[[str], object] = lambda message: None,
) -> Summary:
    """Transcribe recordings with a cluster's workers into a folder; skip those that its manifest records as done.

    ``report`` is called about twice per second, ``tell`` with messages for the user. Raises a ``MinWhisperError`` for
    a problem that concerns the whole run; finished work is kept.
    """
    with Manifest(folder) as manifest:
        return _Run(client, folder, job, manifest, report, tell).run(recordings, retry_failed)


@dataclass
class _Split:
    """A recording whose parts are being transcribed."""

    plan: Plan
    store: PartStore
    facts: dict[str, Any]  # warnings, when the recording was read for the plan
    parts: dict[int, Transcript] = field(default_factory=dict)
    seconds: float = 0.0  # of work


class _Run:
    """A running corpus."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        job: Job,
        manifest: Manifest,
        report: Callable[[Progress], object],
        tell: Callable[[str], object],
    ) -> None:
        self._folder, self._job, self._manifest = folder, job, manifest
        self._report, self._tell = report, tell
        self._tasks = TaskQueue(client, job, tell)
        self._digest = ""
        self._model: Setup | None = None
        self._starts: dict[str, int] = {}  # number of times that a worker started a recording or part, by label
        self._places: dict[str, str] = {}  # the last worker that started it, by label
        self._over_memory_limit: set[str] = set()  # workers that Dask killed because they exceeded their memory limit
        self._killed: dict[str, int] = {}  # number of times that Dask gave up its task, by label
        self._attempts: dict[str, int] = {}  # number of attempts that ended with a lack of memory, by label
        self._splits: dict[str, _Split] = {}  # by output
        self._failed: dict[str, Entry] = {}  # by output
        self.progress = Progress(0, 0)

    def run(self, recordings: Sequence[Recording], retry_failed: bool) -> Summary:
        """Run to the end, as the function ``run`` describes."""
        with self._tasks:
            self._tasks.subscribe(self._tasks.name, self._on_event)
            self._tasks.subscribe(MEMORY_TOPIC, lambda event: self._over_memory_limit.add(event[1]["worker"]))
            if recordings:
                self._model = self._tasks.prepare()
                self._digest = self._job.digest(self._model.weights)
            todo = self._left(recordings, retry_failed)
            sizes = [recording.size or 0 for recording in todo]
            self.progress = Progress(len(todo), sum(sizes), skipped=len(recordings) - len(todo) - len(self._failed))
            self._tasks.add(self._first_tasks(todo))
            self._loop()
        now = self.progress
        failed = tuple(self._failed[output] for output in sorted(self._failed))
        return Summary(now.done, now.skipped, failed, now.audio, now.elapsed, now.workers, self._manifest.path)

    def _left(self, recordings: Sequence[Recording], retry_failed: bool) -> list[Recording]:
        """Return the recordings to transcribe, the largest first, so that no long one is left for the end."""
        before = read_manifest(self._folder)
        formats = parse_formats(self._job.formats)
        left = []
        for recording in recordings:
            entry = before.get(recording.output)
            if entry is None or not self._same(entry, recording):
                left.append(recording)
            elif entry["outcome"] != "done":
                if retry_failed:
                    left.append(recording)
                else:
                    self._failed[recording.output] = entry
            elif not all(Path(self._folder, f"{recording.output}.{one}").exists() for one in formats):
                left.append(recording)
        return sorted(left, key=lambda recording: -(recording.size or 0))

    def _same(self, entry: Entry, recording: Recording) -> bool:
        """Return whether an entry is about this version of a recording, this model and these options."""
        return (entry["job"], entry["size"], entry["modified"]) == (self._digest, recording.size, recording.modified)

    def _first_tasks(self, recordings: Sequence[Recording]) -> Iterator[Task]:
        """Yield the first tasks, each for one recording, or for several that are decoded together."""
        if self._job.split is not None:
            yield from (Task((recording,), plan=True) for recording in recordings)
            return
        for first in range(0, len(recordings), self._job.batch_size):
            yield Task(tuple(recordings[first : first + self._job.batch_size]))

    def _loop(self) -> None:
        reported = 0.0
        while self._tasks:
            for task, results in self._tasks.results():
                if results is None:
                    self._on_killed(task)
                    continue
                for recording, result in zip(task.recordings, results, strict=True):
                    self._on_result(task, recording, result)
            if time.monotonic() - reported > TICK:
                reported = time.monotonic()
                self._report(self.progress)
                self._manifest.sync()
                self._tasks.check_connection()
        self._report(self.progress)

    # -------------------------------------------------------------------------------------- results

    def _on_result(self, task: Task, recording: Recording, result: Result) -> None:
        """Write or keep a worker's result for a recording or a part."""
        if self._model is not None and result.setup.weights != self._model.weights:
            raise CorpusError(
                f"worker {result.setup.worker}: its {self._job.model} has other weights than that of "
                f"{self._model.worker}; give all workers the same checkpoint"
            )
        state = self._worker(result.setup.worker)
        state.device, state.busy = result.setup.device, state.busy + result.seconds
        if state.running == task.labels:  # otherwise it has started the next one
            state.running, state.within = (), 0.0
        label = recording.output if task.part is None else task.labels[0]
        if result.outcome == "out_of_memory":
            self._attempts[label] = self._attempts.get(label, 0) + 1
            if self._attempts[label] < MAX_ATTEMPTS:
                self._tasks.add([task._replace(recordings=(recording,))])  # alone; perhaps with more memory
                return
        if result.outcome != "done":
            self._give_up(recording, label, result.outcome, result.error, result)
        elif result.plan is not None:
            self._split(recording, result, result.plan)
        elif task.part is not None:
            self._on_part(recording, task.part, result)
        else:
            self._write(recording, result.files)
            state.recordings += 1
            self._append(recording, self._entry(recording, "done", result, result.facts or {}))

    def _write(self, recording: Recording, files: Iterable[tuple[str, bytes]]) -> None:
        """Write the output files of a recording, each complete or absent."""
        paths = {Path(self._folder, f"{recording.output}.{format}"): content for format, content in files}
        write_files(paths, Path(self._folder, recording.output).parent)

    def _give_up(self, recording: Recording, label: str, outcome: Outcome, error: str, result: Result | None) -> None:
        """Record that a recording, or one of its parts, cannot be transcribed; its other parts are ignored."""
        if self._splits.pop(recording.output, None) is None and label != recording.output:
            return  # the result of another part after one has failed
        entry = self._entry(recording, outcome, result, (result and result.facts) or {}, label)
        entry["error"] = error
        self._append(recording, entry)

    def _append(self, recording: Recording, entry: Entry) -> None:
        """Append a line to the manifest, and count the recording."""
        self._manifest.append(entry)
        for counts in (self._starts, self._killed, self._attempts):
            counts.pop(recording.output, None)
        self._places.pop(recording.output, None)
        progress = self.progress
        progress.done_bytes += recording.size or 0
        if entry["outcome"] == "done":
            progress.done += 1
            progress.audio += entry["duration"]
            if "worker" in entry:
                self._worker(entry["worker"]).audio += entry["duration"]
        else:
            progress.failed += 1
            self._failed[recording.output] = entry
            self._tell(entry["error"])

    def _entry(
        self, recording: Recording, outcome: Outcome, result: Result | None, facts: Mapping[str, Any], label: str = ""
    ) -> Entry:
        """Return the line of the manifest about a recording."""
        label = label or recording.output
        entry: Entry = {
            "input": recording.path,
            "output": recording.output,
            "size": recording.size,
            "modified": recording.modified,
            "job": self._digest,
            "outcome": outcome,
            "finished": round(time.time(), 3),
            "attempts": max(1, self._starts.get(label, 1), self._attempts.get(label, 1)),
        }
        if result is not None:
            entry["worker"], entry["device"] = result.setup.worker, result.setup.device
            entry["seconds"] = round(result.seconds, 3)
        return cast(Entry, entry | dict(facts))

    # -------------------------------------------------------------------------------------- long recordings

    def _split(self, recording: Recording, result: Result, plan: Plan) -> None:
        """Submit the parts of a recording, except those that an earlier run has finished."""
        store = PartStore(self._folder, recording, self._digest)
        split = _Split(plan, store, dict(result.facts or {}), store.read(plan), result.seconds)
        self._splits[recording.output] = split
        left = [part for part in plan.parts if part.number not in split.parts]
        self._tasks.add((Task((recording,), part=part, language=plan.language) for part in left), first=True)
        if not left:
            self._merge(recording, split)

    def _on_part(self, recording: Recording, part: Part, result: Result) -> None:
        """Keep a part, and merge all of them after the last one."""
        split = self._splits.get(recording.output)
        if split is None or result.transcript is None:  # another part has failed
            return
        split.parts[part.number] = result.transcript
        split.seconds += result.seconds
        self._worker(result.setup.worker).audio += part.end - part.start
        if len(split.parts) < len(split.plan.parts):
            split.store.write(part, result.transcript)
        else:
            self._merge(recording, split)

    def _merge(self, recording: Recording, split: _Split) -> None:
        transcript = merged(split.plan, [split.parts[part.number] for part in split.plan.parts])
        self._write(recording, worker.output_files(transcript, recording, self._job, self._model_name))
        facts = split.facts | facts_about(transcript, split.plan.seconds) | {"seconds": round(split.seconds, 3)}
        self._append(recording, self._entry(recording, "done", None, facts | {"parts": len(split.plan.parts)}))
        split.store.remove()
        del self._splits[recording.output]

    @property
    def _model_name(self) -> str:
        return self._job.model if self._model is None else self._model.model

    # -------------------------------------------------------------------------------------- workers that die

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        """Note what a worker is doing. This runs in another thread."""
        message = event[1]
        state, labels = self._worker(message["worker"]), tuple(message["labels"])
        if message["action"] == "start":
            for label in labels:
                self._starts[label] = self._starts.get(label, 0) + 1
                self._places[label] = message["worker"]
            state.running, state.within = labels, 0.0
        elif state.running == labels:
            state.within = message["done"]

    def _worker(self, address: str) -> WorkerState:
        return self.progress.workers.setdefault(address, WorkerState())

    def _on_killed(self, task: Task) -> None:
        """Handle a task whose workers died: give up a recording if it was being transcribed each time.

        Dask also counts a worker's death against tasks that were only waiting there. Recordings that were decoded
        together are tried again one by one.
        """
        for recording in task.recordings:
            alone = task._replace(recordings=(recording,))
            (label,) = alone.labels
            if len(task.recordings) > 1:
                self._starts.pop(label, None)
                self._tasks.add([alone])
                continue
            self._killed[label] = self._killed.get(label, 0) + 1
            if self._starts.get(label, 0) < MAX_DEATHS and self._killed[label] < 2:
                self._tasks.add([alone])
                continue
            deaths = f"{printable(recording.path)}: {max(MAX_DEATHS, self._starts.get(label, 0))} workers"
            if self._places.get(label) in self._over_memory_limit:
                advice = "give the workers more memory, or use a smaller model, --split or a smaller batch_size"
                error = f"{deaths} exceeded their memory limit while they transcribed it; {advice}"
                self._give_up(recording, label, "out_of_memory", error, None)
            else:
                reason = "in a crash, or killed by the system, perhaps for a lack of memory"
                error = f"{deaths} died while they transcribed it, {reason}; try it alone, with 'minwhisper transcribe'"
                self._give_up(recording, label, "killed", error, None)
