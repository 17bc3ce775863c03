"""The cluster: an existing one by the address of its scheduler, or processes on this machine."""

import asyncio
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster, Status

from ..errors import CorpusError
from ..fast.cpu.threads import usable_cores
from ..printable import printable

CONNECT_SECONDS = 20
START_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 10.0)  # seconds before another attempt to start a worker process
MAX_DEATHS = 3  # a recording whose worker died this often is given up

SETTINGS = {
    "distributed.scheduler.allowed-failures": MAX_DEATHS - 1,  # Dask counts those after which it tries again
    "distributed.worker.daemon": True,  # no worker outlives its nanny
    "distributed.worker.memory.spill": False,  # a worker's memory holds nothing worth spilling to disk
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,
}
"""Dask's settings for a cluster on this machine; any other cluster has its own."""


@contextmanager
def connected(
    scheduler: str | None, workers: int | None = None, threads: int | None = None, *, device: str = "cpu"
) -> Iterator[Client]:
    """Connect to a scheduler, or start a cluster of ``workers`` processes on this machine, each with ``threads``.

    By default there is a process for each core, or for each GPU if the device is ``"cuda"``, and each has its share of
    the cores. Raises ``CorpusError`` if there is no scheduler at the address, or no worker can be started.
    """
    with ExitStack() as stack:
        if scheduler is None:
            stack.enter_context(dask.config.set(SETTINGS))
            cluster = stack.enter_context(local_cluster(workers, threads, device))
            client = stack.enter_context(Client(cluster))
        else:
            stack.enter_context(quiet())
            client = stack.enter_context(connect(scheduler))
        yield client


def connect(scheduler: str) -> Client:
    """Connect to the scheduler at an address, such as ``tcp://10.0.0.1:8786``."""
    try:
        return Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:  # also Dask's and asyncio's timeouts
        raise CorpusError(
            f"scheduler {printable(scheduler)}: cannot be reached; expected the address that 'dask scheduler' prints, "
            "such as tcp://10.0.0.1:8786"
        ) from error


@contextmanager
def local_cluster(workers: int | None, threads: int | None, device: str) -> Iterator[SpecCluster]:
    """Start a scheduler in this process, and workers in others, which are restarted if they die."""
    environments = worker_environments(workers, threads, device)
    threads = threads or max(1, usable_cores() // len(environments))
    options: dict[str, Any] = {
        "nthreads": threads,
        "memory_limit": 0,
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
        "preload": ["minwhisper.corpus.preload"],
    }
    specification = {
        number: {"cls": LastingNanny, "options": options | {"env": environment}}
        for number, environment in enumerate(environments)
    }
    address = "127.0.0.1:8787" if has_bokeh() else None
    service = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "port": 0,
            "dashboard": address is not None,
            "dashboard_address": address or ":0",
        },
    }
    with quiet():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Port 8787 is already in use")  # another port is used then
                cluster = SpecCluster(workers=specification, scheduler=service, silence_logs=logging.CRITICAL)
        except (RuntimeError, OSError) as error:
            raise CorpusError(
                f"the {len(environments)} worker processes cannot be started ({_first_line(error)}); try fewer with "
                "--workers, or close other programs"
            ) from error
        with cluster:
            yield cluster


class LastingNanny(Nanny):  # type: ignore[misc]
    """A nanny that tries again if its worker dies while starting; Dask's own gives up then and closes itself."""

    async def instantiate(self) -> Status:
        """Start the worker process, with several attempts. Raises the error of the last one."""
        for pause in START_PAUSES:
            with suppress(Exception):
                if await super().instantiate() == Status.running:
                    return Status.running
            if self.status in (Status.closing, Status.closed, Status.closing_gracefully):
                return self.status
            await asyncio.sleep(pause)
        return await super().instantiate()

    async def close(self, timeout: float = 5, reason: str = "nanny-close") -> Any:
        """Close the nanny and its worker, but not because an attempt to start one has failed."""
        if reason.startswith("nanny-instantiate"):
            return "OK"
        return await super().close(timeout=timeout, reason=reason)


def worker_environments(workers: int | None, threads: int | None, device: str) -> list[dict[str, str]]:
    """Return the environment variables of each worker process. Every GPU belongs to one of them.

    Raises ``CorpusError`` for more workers than GPUs.
    """
    if not device.startswith("cuda"):
        return [{} for _ in range(workers or max(1, usable_cores() // (threads or 1)))]
    gpus = visible_gpus()
    if device != "cuda":
        number = device.removeprefix("cuda:")
        if not number.isdecimal() or int(number) >= len(gpus):
            raise CorpusError(f"device {printable(device)}: expected cuda, or cuda:0 to cuda:{len(gpus) - 1}")
        gpus = [gpus[int(number)]]
    if workers is not None and workers > len(gpus):
        raise CorpusError(f"workers: expected at most {len(gpus)}, one for each GPU, got {workers}")
    return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:workers]]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; the first if unknown."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given:
        return [name.strip() for name in given.split(",")]
    try:
        from cupy.cuda.runtime import getDeviceCount

        return [str(number) for number in range(getDeviceCount())]
    except Exception:  # loading the model reports the reason
        return ["0"]


def has_bokeh() -> bool:
    """Return whether a scheduler on this machine can show Dask's dashboard, which needs bokeh."""
    return importlib.util.find_spec("bokeh") is not None


def has_dashboard(client: Client) -> bool:
    """Return whether the scheduler of a client shows a dashboard; one in this process needs bokeh for it."""
    if isinstance(client.cluster, SpecCluster):
        return has_bokeh()
    return "dashboard" in client.scheduler_info(n_workers=0).get("services", {})


def _first_line(error: BaseException) -> str:
    """Return the first line of the innermost cause of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return printable(f"{type(error).__name__}: {error}".splitlines()[0])


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Dask's log within the block: the run itself reports what matters, such as workers that die."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
