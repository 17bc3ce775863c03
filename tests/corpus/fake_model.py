"""A worker without a model, to test what happens to recordings when workers, clients and schedulers die."""

import os
import time
from pathlib import Path

from minwhisper.corpus.job import Part, Plan, Result, Setup
from minwhisper.corpus.worker import ModelPlugin


class FakePlugin(ModelPlugin):
    """A worker's plugin without a model: the name of a recording's outputs says what to do with it.

    The worker processes import this module, and no other module of the tests.
    """

    def loaded(self):
        return None, Setup(self._worker.address, "cpu", "fake", "0" * 64)

    def run(self, task):
        with self._turn:
            self._tell("start", task.labels)
            return [self.fake(task._replace(recordings=(one,))) for one in task.recordings]

    def fake(self, task):
        output, setup = task.recordings[0].output, self.loaded()[1]
        file = Path(self.job.folder, f"{task.labels[0].replace('/', '-')}.attempts")
        with file.open("a") as attempts:
            attempts.write("x")
        if task.plan:
            return Result("done", setup, 0.1, plan=Plan(90.0, "en", (Part(0, 0.0, 50.0), Part(1, 50.0, 90.0))))
        if task.part is not None:
            time.sleep(1.5 * task.part.number)  # the first part is finished long before
            text = f" Part {task.part.number}."
            return Result("done", setup, 0.1, transcript={"text": text, "segments": [], "language": "en"})
        if output in ("killer", "hungry"):
            if output == "hungry":  # as Dask's nanny does before it ends a worker
                self._worker.log_event("worker-restart-memory", {"worker": self._worker.address})
            time.sleep(0.2)
            os._exit(1)
        if output == "broken":
            return Result("failed", setup, 0.1, "broken: not an audio file")
        if output == "large" or (output == "large-once" and file.read_text() == "x"):
            return Result("out_of_memory", setup, 0.1, "too large")
        if output == "stranger":
            setup = setup._replace(weights="1" * 64)
        time.sleep(0.3 if output.startswith("slow") else 0.05)
        return Result("done", setup, 0.1, facts={"duration": 1.0}, files=(("json", b"ok"),))
