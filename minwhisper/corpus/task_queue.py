"""The tasks of a run on a Dask cluster: submit them, and yield their results.

The scheduler gets no more tasks at a time than it handles well. Results of short tasks are fetched together. An error
that concerns the whole run is raised here: a cluster that is gone, or workers that cannot load the model.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError

from ..errors import CorpusError, MinWhisperError
from . import worker
from .job import Job, Result, Setup, Task

IN_FLIGHT = 1000  # tasks submitted at a time, beyond two for each thread of the cluster
WORKERS_SECONDS = 10.0  # between two checks of the workers of the cluster
MANY = 8  # if this many tasks end at once, they are short
FETCH_SECONDS = 30.0  # until a result counts as lost
WAIT_SECONDS = 0.5  # longest time without looking after the connection
REGISTER_ATTEMPTS = 4  # at giving the plugin to the workers


class TaskQueue:
    """The tasks of one run: those to submit, and those that the cluster has. It is a context manager."""

    def __init__(self, client: Client, job: Job, tell: Callable[[str], object]) -> None:
        """Use a cluster, with messages for the user to ``tell``."""
        self.name = f"minwhisper-{uuid4().hex}"
        """The name of the run: of the plugin that loads its model, and of the topic of the workers' messages."""
        self._client, self._job, self._tell = client, job, tell
        self._topics: list[str] = []
        self._pending: deque[Task] = deque()  # to submit
        self._tasks: dict[str, tuple[Future, Task]] = {}  # submitted ones, by key
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._counted, self._threads = time.monotonic(), -1  # when the threads of the cluster were counted

    def __enter__(self) -> "TaskQueue":
        """Register the plugin with all workers, present and future, even if one dies at this moment."""
        for attempt in range(1, REGISTER_ATTEMPTS + 1):
            try:
                self._client.register_plugin(worker.ModelPlugin(self._job, self.name), name=self.name)
                break
            except OSError:  # the connection to a worker
                self.check_connection()
                if attempt == REGISTER_ATTEMPTS:
                    raise
                time.sleep(WAIT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the tasks that are left, and free the models of the workers."""
        if self._client.status != "running":
            return
        futures = [future for future, _ in self._tasks.values()]
        self._tasks.clear()
        if futures:
            self._client.cancel(futures, force=True)
        for topic in self._topics:
            self._client.unsubscribe_topic(topic)
        with suppress(OSError):  # a worker that dies at this moment
            self._client.unregister_worker_plugin(self.name)

    def __bool__(self) -> bool:
        """Return whether there are tasks whose results have not been returned."""
        return bool(self._pending or self._tasks)

    def subscribe(self, topic: str, handle: Callable[[tuple[float, Any]], object]) -> None:
        """Call ``handle``, in another thread, with each message of a topic until the run ends."""
        self._client.subscribe_topic(topic, handle)
        self._topics.append(topic)

    def add(self, tasks: Iterable[Task], *, first: bool = False) -> None:
        """Add tasks at the end, or before all that are not submitted yet."""
        if first:
            self._pending.extendleft(reversed(list(tasks)))
        else:
            self._pending.extend(tasks)

    def prepare(self) -> Setup:
        """Load the model on one worker, so that an error in its name or in an option comes before any work."""
        future = self._client.submit(worker.prepare, self.name, key=f"{self.name}-prepare", pure=False)
        future.add_done_callback(self._ended.put)
        while True:
            try:
                self._ended.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                self.check_connection()
            if future.status == "pending":
                continue
            try:
                setup: Setup = self._result(future)
                return setup
            except TimeoutError:  # the worker died afterwards
                continue
            except KilledWorker:
                raise CorpusError(
                    f"the workers died while they loaded {self._job.model}, probably for a lack of memory: start fewer "
                    "of them on a machine, or use a smaller model"
                ) from None

    def results(self) -> Iterator[tuple[Task, list[Result] | None]]:
        """Submit what the cluster has room for, wait a moment, and yield each task that has ended with its results.

        They are None if the workers that had the task died.
        """
        self._submit()
        ended = [future for future in self._wait() if future.key in self._tasks]
        fetched = self._fetch(ended)
        for future in ended:
            _, task = self._tasks.pop(str(future.key))
            results: list[Result] | None
            try:
                results = fetched[future.key] if future.key in fetched else self._result(future)
            except KilledWorker:
                results = None
            except TimeoutError:  # the worker died afterwards, and the task is run again
                self.check_connection()
                self._tasks[str(future.key)] = future, task
                future.add_done_callback(self._ended.put)
                continue
            yield task, results

    def _submit(self) -> None:
        """Submit more tasks if the cluster may soon run out of them."""
        if not self._pending or len(self._tasks) > IN_FLIGHT // 2:
            return
        limit = IN_FLIGHT + 2 * self._count_threads()
        tasks = [self._pending.popleft() for _ in range(min(limit - len(self._tasks), len(self._pending)))]
        keys = [f"{self.name}-{uuid4().hex}" for _ in tasks]
        futures = self._client.map(worker.run, tasks, name=self.name, key=keys, pure=False, batch_size=100)
        for future, task in zip(futures, tasks, strict=True):
            self._tasks[future.key] = future, task
            future.add_done_callback(self._ended.put)

    def _wait(self) -> list[Future]:
        """Return the tasks that have ended; wait for the first one for a moment."""
        ended = []
        try:
            ended.append(self._ended.get(timeout=WAIT_SECONDS))
            while True:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            return ended

    def check_connection(self) -> None:
        """Raise ``CorpusError`` if the scheduler is gone; tell the user when no worker is left, and when one comes."""
        if self._client.status not in ("running", "connecting"):
            raise self._lost()
        if time.monotonic() - self._counted < WORKERS_SECONDS:
            return
        self._counted, before = time.monotonic(), self._threads
        self._threads = self._count_threads()
        if not self._threads and before != 0:
            self._tell("the cluster has no workers; waiting for one")
        elif self._threads and before == 0:
            self._tell("the cluster has workers again")

    def _count_threads(self) -> int:
        """Return the number of threads of the cluster."""
        try:
            return sum(self._client.nthreads().values())
        except OSError:
            raise self._lost() from None

    def _lost(self) -> CorpusError:
        return CorpusError(
            "the connection to the scheduler was lost; finished work is kept: start the cluster again, and then run "
            "the same command, which continues from there"
        )

    def _fetch(self, ended: Sequence[Future[Any]]) -> dict[Any, list[Result]]:
        """Return the results of many tasks by their keys, fetched together, which is three times as fast as one by one.

        Nothing is fetched for a few tasks, which may be long: if a result were lost with its worker, the others would
        wait until it was computed again.
        """
        finished = [future for future in ended if future.status == "finished"]
        if len(finished) < MANY:
            return {}
        with suppress(Exception):  # then they are fetched one by one, which shows whose error it is
            return dict(zip((future.key for future in finished), self._client.gather(finished), strict=True))
        return {}

    def _result(self, future: Future) -> Any:
        """Return a task's result. Raises ``KilledWorker``, or a ``MinWhisperError`` that concerns the whole run.

        Raises ``TimeoutError`` if the result was lost with its worker.
        """
        try:
            return future.result(timeout=FETCH_SECONDS)
        except (KilledWorker, MinWhisperError, TimeoutError):
            raise
        except FutureCancelledError:
            raise self._lost() from None
        except ModuleNotFoundError as error:
            raise CorpusError(
                f"a worker lacks {error.name}: install the client's release of minwhisper[cluster] on all workers"
            ) from error
        except OSError as error:  # the connection, while the result was fetched
            raise self._lost() from error
