"""Chapter 10, batching: several transcriptions whose windows are decoded together.

A step of the decoder reads all of its weights to generate one token. Windows that are decoded together share the
reading, so eight of them take little longer than one. When a window ends, the next one takes its place.

Walkthrough: section 13.
"""

from collections.abc import Generator, Iterable
from typing import TypeAlias

from ..decoding.decode import DecodingBatch, DecodingResult, WindowRequest
from ..model.engine import Engine
from ..tokenizer.tokenizer import Tokenizer
from .model import SpeechModel
from .segments import Segment
from .sequential import TranscriptionJob

NumberedSegments: TypeAlias = Generator[tuple[int, Segment | None], None, None]
"""Segments with the number of their job; None for the end of a job."""


def run_batched(
    jobs: Iterable[TranscriptionJob], engine: Engine, tokenizer: Tokenizer, batch_size: int
) -> NumberedSegments:
    """Run up to ``batch_size`` jobs at a time; yield the number of a job with each of its segments, then with None.

    A job is taken from ``jobs`` only when a place in the batch is free.
    """
    batch = DecodingBatch(engine, tokenizer)
    queue = enumerate(jobs)
    pending: dict[int, tuple[int, TranscriptionJob]] = {}  # jobs that wait for a window, by the number of the window

    def advance(number: int, job: TranscriptionJob, result: DecodingResult | None = None) -> NumberedSegments:
        """Run a job up to its next request or its end."""
        try:
            item = next(job) if result is None else job.send(result)
            while not isinstance(item, WindowRequest):
                yield number, item
                item = next(job)
            pending[batch.add(item)] = number, job
        except StopIteration:
            yield number, None
        except BaseException:  # also when the caller closes this generator
            job.close()
            raise

    try:
        while True:
            while len(pending) < batch_size:
                number, job = next(queue, (None, None))
                if job is None or number is None:
                    break
                yield from advance(number, job)
            if not pending:
                return
            for window, result in batch.step():
                yield from advance(*pending.pop(window), result)
    finally:
        for _, job in pending.values():
            job.close()


def in_order(
    segments: Iterable[tuple[int, Segment | None]], held: dict[int, list[Segment]]
) -> Generator[Segment, None, None]:
    """Yield the segments of ``run_batched`` in the order of their jobs.

    ``held`` is empty at first. At any time it contains the segments that wait for an earlier job, by job.
    """
    ended: set[int] = set()
    turn = 0  # the job whose segments are yielded at once
    for number, segment in segments:
        if segment is None:
            ended.add(number)
        elif number == turn:
            yield segment
        else:
            held.setdefault(number, []).append(segment)
        while turn in ended:
            turn += 1
            yield from held.pop(turn, [])


def run_sequential(job: TranscriptionJob, model: SpeechModel) -> Generator[Segment, None, None]:
    """Run a single job, whose windows ``model`` decodes one by one; yield its segments."""
    try:
        item = next(job)
        while True:
            if isinstance(item, WindowRequest):
                item = job.send(model.decode_window(item))
            else:
                yield item
                item = next(job)
    except StopIteration:
        return
    finally:
        job.close()
