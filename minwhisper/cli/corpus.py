"""The command ``minwhisper corpus``: transcribe many recordings with the workers of a Dask cluster."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from ..common.console import Console
from ..corpus import transcribe
from ..corpus.inputs import read_list
from ..corpus.manifest import read_manifest
from ..corpus.progress import Progress, Summary, WorkerState
from ..errors import OptionError
from ..printable import printable
from ..writers.render import parse_formats
from .interrupts import Stopped
from .request import check_values
from .transcribe import choose_model

LINE_SECONDS = 60.0  # between two lines about the progress
SHOWN_WORKERS = 8  # workers in a line about them


def run(options: argparse.Namespace, console: Console) -> int:
    """Transcribe the corpus, and return the exit status: 1 if a recording failed.

    Raises a ``MinWhisperError`` for a problem that concerns all recordings; finished work is kept.
    """
    request = check_values(options)
    assert request.outputs is not None  # there is a folder
    given = [*options.inputs, *(read_list(options.files_from) if options.files_from else ())]
    if not given:
        raise OptionError("no recordings: expected files, folders, patterns or addresses, or --files_from")
    model = choose_model(options.model, console)
    with console.progress(request.outputs.folder) as bar:
        display = Display(console, bar)
        try:
            summary = transcribe(
                given,
                request.outputs.folder,
                scheduler=options.scheduler,
                workers=options.workers,
                threads=options.threads,
                model=model,
                formats=request.outputs.format,
                subtitles=request.outputs.subtitles,
                device=options.device,
                dtype=request.dtype,
                plain=options.plain,
                batch_size=options.batch_size,
                seed=options.seed,
                split=options.split,
                retry_failed=options.retry_failed,
                progress=display.report,
                message=console.note,
                **request.keywords,
            )
        except KeyboardInterrupt:
            if display.last is None:
                raise
            console.note(f"interrupted after {done_so_far(display.last)}; the same command continues from there")
            raise Stopped from None
    for line in summary_lines(summary):
        console.text(line)
    if options.report is not None:
        from ..corpus.report import write_report

        entries = read_manifest(Path(request.outputs.folder)).values()
        formats = [one for one in ("html", "txt", "json") if one in parse_formats(request.outputs.format)]
        write_report(options.report, entries, skipped=summary.skipped, formats=formats)
        console.note(f"wrote {printable(str(options.report))}")
    return 1 if summary.failed else 0


class Display:
    """A display of the progress: a bar in a terminal, and a line per minute."""

    def __init__(self, console: Console, bar: Callable[[float, float], None] | None) -> None:
        self._console, self._bar = console, bar
        self._lined = time.monotonic()
        self.last: Progress | None = None

    def report(self, progress: Progress) -> None:
        """Show the progress of the run."""
        self.last = progress
        expected = progress.expected_audio
        if self._bar is not None and expected is not None:
            self._bar(progress.audio_so_far, expected)
        if time.monotonic() - self._lined > LINE_SECONDS:
            self._lined = time.monotonic()
            self._console.note(progress_line(progress))


def progress_line(progress: Progress) -> str:
    """Describe the progress: recordings, audio, speed, the time that is left, and each worker."""
    line = f"{done_so_far(progress)}, {ratio(progress.audio_so_far, progress.elapsed)}"
    expected = progress.expected_audio
    if expected is not None and progress.audio_so_far:
        left = progress.elapsed * (expected - progress.audio_so_far) / progress.audio_so_far
        line += f", about {duration(left)} left"
    workers = [f"{printable(name)} {worker_line(state)}" for name, state in sorted(progress.workers.items())]
    shown = "; ".join(workers[:SHOWN_WORKERS]) + (
        f"; and {len(workers) - SHOWN_WORKERS} more" * (len(workers) > SHOWN_WORKERS)
    )
    return f"{line} ({shown})" if shown else line


def done_so_far(progress: Progress) -> str:
    """Describe what is done: ``12 of 60 recordings, 1.3 h of audio, 2 failed``."""
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    total = f"{progress.total:,} recordings"
    return f"{progress.done + progress.failed:,} of {total}, {duration(progress.audio_so_far)} of audio{failed}"


def worker_line(state: WorkerState) -> str:
    """Describe what a worker has done: ``1.3 h at 9.2x``."""
    return f"{duration(state.audio)} at {ratio(state.audio, state.busy)}"


def summary_lines(summary: Summary) -> list[str]:
    """Describe the result of the run."""
    audio = (
        f"{duration(summary.audio)} of audio in {duration(summary.seconds)}, {ratio(summary.audio, summary.seconds)}"
    )
    lines = [f"{summary.done:,} transcribed: {audio}" if summary.done else "0 transcribed"]
    if summary.skipped:
        lines.append(f"{summary.skipped:,} skipped: transcribed by an earlier run")
    if summary.failed:
        lines.append(f"{len(summary.failed):,} failed: {printable(str(summary.manifest))} has the reasons")
    if len(summary.workers) > 1:
        lines += [
            f"  {printable(name)} ({state.device}): {state.recordings:,} recordings, {worker_line(state)}"
            for name, state in sorted(summary.workers.items())
        ]
    return lines


def duration(seconds: float) -> str:
    """Describe a duration, in a unit in which it has few digits.

    >>> duration(7.25), duration(192), duration(9360)
    ('7.2 s', '3.2 min', '2.6 h')
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def ratio(audio: float, seconds: float) -> str:
    """Describe a speed, seconds of audio per second: ``9.2x``."""
    return f"{audio / seconds:.1f}x" if seconds > 0 else "0x"
