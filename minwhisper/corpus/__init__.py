"""A corpus: folders of recordings → transcripts, by the processes of one machine or of many, on Dask.

The engine is Dask: its scheduler distributes the work, its workers transcribe, and this package adds what else a corpus
needs. Each recording is one task, and its files are byte for byte those of ``minwhisper transcribe`` on one machine. A
worker loads the model once, and the workers of a machine share its weights. The client writes the files of a recording,
each complete or absent, then a line in ``manifest.jsonl``. So whatever is killed, finished work is kept, and the same
command continues from there. A recording that cannot be transcribed gets a line in the manifest, too, and so does one
during which three workers died.

Install the same release of minwhisper[cluster] on all machines: ``pip install 'minwhisper[cluster]'``.

**On one machine**, with a process for each core::

    minwhisper corpus talks -o out -f json,srt --report out/report.html

Or in Python, where the script needs ``if __name__ == "__main__":`` as for any program that starts processes::

    import minwhisper.corpus
    summary = minwhisper.corpus.transcribe("talks", "out", formats="json,srt", language="en")

**On several machines**, over SSH: a scheduler, and workers that are given its address. The recordings must be readable
where the workers are, in a shared folder or at an address; output files are written by the client. One process for each
core is fastest. ``dask ssh``, which needs asyncssh, starts all of them at once::

    dask ssh --nworkers 8 --nthreads 1 machine-1 machine-2 machine-3     # prints the address of the scheduler
    minwhisper corpus /shared/talks -o out --scheduler tcp://machine-1:8786

**With SLURM**, and in the same way PBS, LSF or SGE, after ``pip install dask-jobqueue``. When jobs end and start again,
only the recordings that they were working on are begun anew::

    from dask.distributed import Client
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(cores=16, processes=16, memory="32GB", walltime="04:00:00", account="speech")
    cluster.adapt(minimum=0, maximum=640)  # workers
    minwhisper.corpus.transcribe("/shared/talks", "out", client=Client(cluster), model="base")

**On Kubernetes**, after ``pip install dask-kubernetes`` and the installation of its operator
(``helm install --repo https://helm.dask.org --generate-name dask-kubernetes-operator``),
with an image that has minwhisper[cluster] and the model::

    from dask_kubernetes.operator import KubeCluster

    cluster = KubeCluster(name="whisper", image="registry.example.org/minwhisper:latest", n_workers=40,
                          resources={"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}})
    minwhisper.corpus.transcribe("s3://bucket/talks", "out", client=cluster.get_client(), model="base")

**GPUs.** On one machine, ``--device cuda`` starts one worker for each GPU. In a cluster, start one worker for each GPU,
which sees only that one: ``CUDA_VISIBLE_DEVICES=0 dask worker ADDRESS --nthreads 1``, or ``dask cuda worker`` of
dask-cuda. With ``--device auto``, workers with a GPU use it and the others do not.

**The recipe without this chapter.** Dask alone does it in twenty lines. They load the model once per worker, and a bad
file does not stop the others::

    import sys
    from pathlib import Path
    import minwhisper
    from dask.distributed import Client, WorkerPlugin, as_completed, get_worker

    class Model(WorkerPlugin):
        def setup(self, worker):
            worker.model = minwhisper.load_model("tiny.en", threads=1)

    def transcribe(path):
        return get_worker().model.transcribe(path)

    if __name__ == "__main__":
        client = Client(n_workers=2, threads_per_worker=1)
        client.register_plugin(Model())
        futures = {client.submit(transcribe, path): path for path in sys.argv[2:]}
        for future in as_completed(futures):
            path = futures[future]
            if future.status == "error":
                print(path, future.exception(), file=sys.stderr)
            else:
                minwhisper.write_transcript(future.result(), sys.argv[1], Path(path).stem, "json")

What it lacks: continuing after the client was killed; distinguishing a lack of memory from a broken file; giving up a
file that kills its workers without blaming the files that waited there; weights in memory once per machine; distinct
outputs for files of the same name in two folders; more files than the scheduler can handle at a time; recordings at
addresses; parts of long recordings; progress, and a report on what to check.

**Cost estimate.** Core-hours per hour of speech, one window after another in float32, as in
tests/benchmarks/RESULTS.md, and for 10,000 and 1,000,000 hours, at 0.04 dollars per core-hour, which is about the price
of a rented one:

    ============== =========== ====================== ======================
    size           1 hour      10,000 hours           1,000,000 hours
    ============== =========== ====================== ======================
    tiny           0.11           1,070, $     43       107,000, $   4,280
    base           0.21           2,120, $     85       212,000, $   8,480
    small          0.67           6,720, $    269       672,000, $  26,880
    medium         1.86          18,650, $    746     1,865,000, $  74,600
    large-v3-turbo 2.28          22,800, $    912     2,280,000, $  91,200
    ============== =========== ====================== ======================

With ``--batch_size 8`` and ``without_timestamps`` it is half of that. A worker needs the weights of the model once per
machine (tiny 0.15 GB, base 0.3, small 1, medium 3.1, turbo 3.2) and 0.1 to 0.5 GB of its own. Recordings at 64 kbit/s
are 29 MB per hour: 0.3 TB for 10,000 hours, 29 TB for 1,000,000; a thousand cores with tiny read 75 MB/s. Transcripts
in JSON are 0.4 MB per hour, 4 GB and 400 GB, and a line of the manifest is 0.5 kB.

The scheduler and the client, in one process, take 1.6 ms of CPU per task, and passed on 436 tasks per second in a run
of 100,000. With tiny, a recording of five minutes takes 32 core-seconds, so they keep 14,000 cores busy; one of five
seconds takes about 1.5, so they keep 650 cores busy. Beyond that, ``--batch_size`` makes larger tasks, and the
recordings can be divided between several runs, each with a scheduler and an output folder of its own.

Walkthrough: section 13.
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
        folder: the output folder. Its ``manifest.jsonl`` records the outcome of each recording; those that are done and
            have not changed are skipped.
        client: a Dask client that is connected to a cluster; by default one is made for this call.
        scheduler: without ``client``, the address of a Dask scheduler; by default a cluster is started on this machine.
        workers: number of processes of that cluster; by default one for each core, or for each GPU.
        threads: number of threads of a worker; by default what its cluster gives it, here its share of the cores.
        model: as for ``load_model``; the workers load it, so a folder has to exist where they are.
        formats: of the output files; several separated by commas.
        subtitles: their layout.
        device: ``"auto"`` uses a GPU on the workers that have one.
        dtype: storage type of the weights.
        plain: compute with the readable layers.
        batch_size: with more than 1, this many recordings are decoded together, as by ``transcribe_many``.
        seed: of the random numbers of each recording.
        split: cut recordings at silence into parts of at most this many minutes, which several workers can transcribe.
        retry_failed: try recordings again that failed in an earlier run.
        progress: called about twice per second.
        message: called with a line about each recording that fails.
        options: those of ``Whisper.transcribe``.

    A recording that cannot be transcribed does not stop the others; it is in the summary's ``failed``. Raises a
    ``MinWhisperError`` for a problem that concerns all of them; finished work is kept.

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
            raise OptionError("split: cannot be combined with clip_timestamps; omit one of them")
    local = (client, scheduler) == (None, None)
    if workers is not None and not local:
        raise OptionError("workers: an existing cluster has its own; omit workers, or the cluster")
    given = [files] if isinstance(files, str | os.PathLike) else files
    recordings = find_recordings([os.fspath(one) for one in given], parse_formats(formats))
    check_writable(folder)
    job = Job(
        model=os.fspath(default_model().name if model is None else model),
        keywords=options,
        formats=formats,
        subtitles=subtitles,
        device="cuda" if local and device.startswith("cuda") else device,  # a worker sees its own GPU only
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
        if has_dashboard(client):
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
