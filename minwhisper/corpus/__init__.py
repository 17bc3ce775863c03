"""Transcribe a corpus over many processes and machines, on Dask.

Todo:
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ..decoding.keywords import TranscriptionKeywords
from ..errors import MissingExtraError, OptionError
from ..writers.subtitles import DEFAULT_SUBTITLES, SubtitleOptions

if TYPE_CHECKING:
    from .progress import Progress, Summary

__all__ = ["transcribe"]


def transcribe(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    client: Any = None,
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    model: str | os.PathLike[str] | None = None,
    formats: str = "json",
    subtitles: SubtitleOptions = DEFAULT_SUBTITLES,
    device: str = "cpu",
    dtype: str = "float32",
    plain: bool = False,
    batch_size: int = 1,
    seed: int = 0,
    split: float | None = None,
    retry_failed: bool = False,
    progress: "Callable[[Progress], object] | None" = None,
    message: Callable[[str], object] | None = None,
    **options: Unpack[TranscriptionKeywords],
) -> "Summary":
    """Transcribe recordings with the workers of a Dask cluster, and write their output files into a folder.

    Args:
        files: a file, a folder, a pattern such as ``"talks/**/*.mp3"``, an address such as ``"s3://bucket/talks"``,
            or several of these.
        folder: the output folder. Its ``manifest.jsonl`` says what became of each recording; what is done and has not
            changed is left out.
        client: a Dask client that is connected to a cluster; by default one is made for this call.
        scheduler: without ``client``, the address of a Dask scheduler; by default a cluster is started on this machine.
        workers: number of processes of that cluster; by default one for each core, or for each GPU.
        threads: number of threads of a worker; by default its share of this machine's cores, or what its cluster gives it.
        model: as for ``load_model``; the workers load it, so a folder has to exist where they are.
        formats: of the output files; several with commas.
        subtitles: their layout.
        device: ``"auto"`` takes a GPU where a worker has one.
        dtype: storage type of the weights.
        plain: compute with the readable layers.
        batch_size: with more than 1, so many recordings are decoded together, as by ``transcribe_many``.
        seed: of the random numbers of each recording.
        split: cut recordings at silence into parts of at most so many minutes, which several workers can transcribe.
        retry_failed: try again what failed in an earlier run.
        progress: called about twice per second.
        message: called with a line about each recording that fails.
        options: those of ``Whisper.transcribe``.

    A recording that cannot be transcribed does not stop the others; it is in the summary's ``failed``. Raises a
    ``MinWhisperError`` for what concerns all of them; what is finished is kept.

    >>> summary = minwhisper.corpus.transcribe("talks", "out", model="base", language="de")  # doctest: +SKIP
    >>> summary.done, [entry["error"] for entry in summary.failed]  # doctest: +SKIP
    (211, ["'talks/empty.mp3': empty, 0 bytes; expected an audio file; copy or record it again"])
    """
    from ..checkpoints.sources import default_model
    from ..common.option_checks import check_count, check_number, check_seed
    from ..fast.cpu.threads import check_threads
    from ..transcription.options import TranscriptionOptions
    from ..writers.files import check_writable
    from ..writers.render import parse_formats
    from .job import Job
    from .recordings import find_recordings

    check_installed()
    from .cluster import connected, has_dashboard
    from .run import run

    checked = TranscriptionOptions.named(**options)
    check_count("batch_size", batch_size, optional=False)
    check_count("workers", workers)
    check_seed(seed)
    check_threads(threads)
    if split is not None:
        check_number("split", split, "minutes, 1 or more", minimum=1)
        if checked.clip_timestamps != "0":
            raise OptionError("split: it does not go with clip_timestamps; omit one of them")
    if workers is not None and (client, scheduler) != (None, None):
        raise OptionError("workers: a cluster that is given has its own; omit workers, or the cluster")
    given = [files] if isinstance(files, str | os.PathLike) else files
    recordings = find_recordings([os.fspath(one) for one in given], parse_formats(formats))
    check_writable(folder)
    job = Job(
        model=os.fspath(default_model().name if model is None else model),
        keywords=options,
        formats=formats,
        subtitles=subtitles,
        device=device,
        dtype=dtype,
        plain=plain,
        batch_size=batch_size,
        seed=seed,
        split=split,
        threads=threads,
        folder=os.path.abspath(folder),
    )
    report, tell = progress or (lambda progress: None), message or (lambda message: None)

    def start(client: Any) -> "Summary":
        return run(client, recordings, Path(folder), job, retry_failed=retry_failed, report=report, tell=tell)

    if client is not None:
        return start(client)
    with connected(scheduler, workers, threads, device=device) as client:
        if has_dashboard():
            tell(f"Dask's dashboard: {client.dashboard_link}")
        return start(client)


def check_installed() -> None:
    """Raise ``MissingExtraError`` unless Dask is installed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "a corpus needs Dask, which is not installed: run pip install 'minwhisper[cluster]'"
        ) from None
