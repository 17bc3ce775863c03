"""Chapter 10, together: several transcriptions under way, whose windows are decoded in step.

A step of the decoder reads all of its weights to say one token. Texts that are said side by side share the reading, so
eight of them take little longer than one. Whichever window has ended leaves, and the next one takes its place.

Walkthrough: section 13.
"""

from collections.abc import Generator, Iterable
from typing import TypeAlias

from ..common.finite import error_context
from ..decoding.decode import DecodingBatch, DecodingResult, WindowRequest
from ..model.engine import Engine
from ..tokenizer.tokenizer import Tokenizer
from .model import SpeechModel
from .segments import Segment
from .sequential import TranscriptionJob

NumberedSegments: TypeAlias = Generator[tuple[int, Segment | None], None, None]
"""Segments with the number of the job that they are from; None for its end."""


def run_batched(
    jobs: Iterable[TranscriptionJob], engine: Engine, tokenizer: Tokenizer, batch_size: int
) -> NumberedSegments:
    """Run the jobs, up to ``batch_size`` at a time: yields their segments as they come, with the number of the job.

    After the last one of a job comes None. Jobs are taken from ``jobs`` when there is room for them.
    """
    decoding = DecodingBatch(engine, tokenizer)
    waiting = enumerate(jobs)
    pending: dict[int, tuple[int, TranscriptionJob]] = {}  # by the number of the window that is being decoded

    def advance(number: int, job: TranscriptionJob, answer: DecodingResult | None = None) -> NumberedSegments:
        """Up to the next request or the end."""
        try:
            item = next(job) if answer is None else job.send(answer)
            while not isinstance(item, WindowRequest):
                yield number, item
                item = next(job)
            pending[decoding.add(item)] = number, job
        except StopIteration:
            yield number, None
        except BaseException:  # also where nobody wants to hear more
            job.close()
            raise

    try:
        while True:
            while len(pending) < batch_size:
                number, job = next(waiting, (None, None))
                if job is None or number is None:
                    break
                yield from advance(number, job)
            if not pending:
                return
            for window, result in decoding.step():
                yield from advance(*pending.pop(window), result)
    finally:
        for _, job in pending.values():
            job.close()


def in_order(
    found: Iterable[tuple[int, Segment | None]], held: dict[int, list[Segment]]
) -> Generator[Segment, None, None]:
    """Yield the segments of :func:`run_batched`, those of an earlier job first.

    ``held`` is empty at first. It contains the segments that wait for an earlier job, by job, at any time.
    """
    ended: set[int] = set()
    turn = 0  # the job whose segments are passed on as they come
    for number, segment in found:
        if segment is None:
            ended.add(number)
        elif number == turn:
            yield segment
        else:
            held.setdefault(number, []).append(segment)
        while turn in ended:
            turn += 1
            yield from held.pop(turn, [])


def run_sequential(steps: TranscriptionJob, model: SpeechModel) -> Generator[Segment, None, None]:
    """The segments of a single job, whose windows are decoded by :meth:`Whisper.decode`."""
    try:
        item = next(steps)
        while True:
            if isinstance(item, WindowRequest):
                with error_context(item.where):
                    result = model.decode(item.features[0], item.options, generator=item.generator)
                item = steps.send(result)
            else:
                yield item
                item = next(steps)
    except StopIteration:
        return
    finally:
        steps.close()
