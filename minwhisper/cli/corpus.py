"""The command ``minwhisper corpus``: transcribe many recordings with the workers of a Dask cluster."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ..common.console import Console
from ..corpus import check_installed, check_split
from ..corpus.inputs import read_list
from ..corpus.job import Job
from ..corpus.recordings import find_recordings
from ..errors import OptionError
from ..fast.cpu.threads import usable_cores
from ..printable import printable
from ..writers.render import parse_formats
from .request import check_arguments
from .transcribe import choose_model

LINE_SECONDS = 60.0  # between two lines about the progress
SHOWN_WORKERS = 8  # workers in a line
SHOWN_FAILURES = 10


def run(options: argparse.Namespace, console: Console) -> int:
    """Transcribe the corpus, and return the exit status: 1 if a recording failed.

    Raises a ``MinWhisperError`` for what concerns all recordings; what is finished is kept.
    """
    check_installed()
    from ..corpus.cluster import connected, has_dashboard
    from ..corpus.run import run

    options.verbose = None
    request = check_arguments(options)
    check_split(options.split, request.checked)
    assert request.outputs is not None
    given = [*options.inputs, *(read_list(options.files_from) if options.files_from else ())]
    if not given:
        raise OptionError("no recordings: expected files, folders, patterns or addresses, or --files_from")
    recordings = find_recordings(given, parse_formats(request.outputs.format))
    if options.workers is not None and options.scheduler is not None:
        raise OptionError("workers: it does not go with --scheduler, whose cluster has its own; omit one of them")
    folder = Path(request.outputs.folder)
    job = Job(
        model=choose_model(options.model, console),
        keywords=request.keywords,
        formats=request.outputs.format,
        subtitles=request.outputs.subtitles,
        device=options.device,
        dtype=request.dtype,
        plain=options.plain,
        batch_size=options.batch_size,
        seed=options.seed,
        split=options.split,
        threads=worker_threads(options),
        folder=str(folder.absolute()),
    )
    with connected(options.scheduler, options.workers, device=options.device) as client:
        if options.scheduler is not None or has_dashboard():
            console.note(f"dashboard: {client.dashboard_link}")
        else:
            console.note("Dask's dashboard needs bokeh: pip install bokeh")
        with console.progress(f"{len(recordings):,} recordings") as bar:
            shown = Display(console, bar)
            summary = run(
                client,
                recordings,
                folder,
                job,
                retry_failed=options.retry_failed,
                report=shown.report,
                tell=console.note,
            )
    for line in summary_lines(summary, shown.last):
        console.text(line)
    if options.report is not None:
        write_report(options.report, folder, recordings)
        console.note(f"wrote {printable(str(options.report))}")
    return 1 if summary.failed else 0
