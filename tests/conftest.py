"""Fixtures and options of the tests: audio, real models, simulated GPUs."""

import os

# With pytest-xdist, one BLAS thread per process is fastest: more would compete for the cores. BLAS libraries read
# these variables when NumPy is imported.

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minwhisper
import pretended_cuda
import refusing_cupy
from inputs import SPEECH, real_model
from minwhisper.common import backend
from minwhisper.fast import devices
from minwhisper.fast.gpu import engine as gpu
from minwhisper.parity.comparison import clip_samples, pytorch_model
from minwhisper.transcription import transcribe
from minwhisper.walkthrough.page import page
from minwhisper.walkthrough.text import parse
from minwhisper.walkthrough.widgets import WidgetData, compute
from numpy_kernels import NumPyKernels
from opened_page import CHROMIUM, QUIET
from widget_sample import small_data


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[refusing_cupy.Ledger]:
    """Simulate two GPUs with kernels, and return the ledger of transfers and of arrays on them."""
    ledger = refusing_cupy.Ledger()
    monkeypatch.setattr(refusing_cupy, "LEDGER", ledger)
    monkeypatch.setitem(sys.modules, "cupy", refusing_cupy.make(gpus=2))
    monkeypatch.setattr(devices, "_working", set())
    monkeypatch.setattr(gpu, "load_kernels", NumPyKernels)
    backend._device_constant.cache_clear()
    yield ledger
    backend._device_constant.cache_clear()  # its arrays are on the simulated GPU


def pytest_configure(config: pytest.Config) -> None:
    """Start the simulated GPU for ``-m cupy``, before any imported test file looks for a real one.

    With ``-n``, each process gets consecutive tests, so that few fixtures are set up in more than one.
    """
    if config.getoption("dist", "no") == "load":
        config.option.dist = "worksteal"
    if config.getoption("markexpr") == "cupy" and not pretended_cuda.why_not():
        pretended_cuda.start()


@pytest.fixture(scope="session")
def pretended_cuda_started(request: pytest.FixtureRequest) -> pretended_cuda.PretendedGpu:
    """Start the GPU of ``pretended_cuda``; it changes CuPy for the whole process."""
    if request.config.getoption("markexpr") != "cupy":
        pytest.skip("it changes CuPy for the whole process: run pytest -m cupy")
    if why := pretended_cuda.why_not():
        pytest.skip(f"no GPU can be simulated: {why}")
    return pretended_cuda.start()


@pytest.fixture
def pretended_gpu(pretended_cuda_started: pretended_cuda.PretendedGpu) -> Iterator[pretended_cuda.PretendedGpu]:
    """Return a large simulated GPU, and fail a test that does what CUDA does not allow."""
    pretended_cuda_started.card(80 << 30, capability=90)
    pretended_cuda_started.forget_counts()
    yield pretended_cuda_started
    violations = pretended_cuda_started.violations
    pretended_cuda_started.forgive()
    assert not violations


@pytest.fixture(scope="session")
def tiny_en() -> minwhisper.Whisper:
    return real_model("tiny.en")


@pytest.fixture(scope="session")
def base() -> minwhisper.Whisper:
    return real_model("base")


@pytest.fixture(scope="session", params=["tiny.en", "base"])
def model(request: pytest.FixtureRequest) -> minwhisper.Whisper:
    """Return each real model in turn."""
    return request.getfixturevalue(request.param.replace(".", "_"))


@pytest.fixture(scope="session")
def speech() -> dict[str, np.ndarray]:
    """Load the samples of each English clip, by file name."""
    return {path.name: minwhisper.load_audio(path) for path in SPEECH}


@pytest.fixture(scope="session")
def pytorch() -> Callable[[minwhisper.Whisper], Any]:
    """Return a function that builds openai-whisper's model with the weights of ours, once per model."""
    built: dict[str, Any] = {}

    def get(model: minwhisper.Whisper) -> Any:
        if model.name not in built:
            built[model.name] = pytorch_model(model)
        return built[model.name]

    return get


@pytest.fixture(scope="session")
def widget_data(tiny_en: minwhisper.Whisper) -> WidgetData:
    """Compute the values of the page's interactive figures with a real model."""
    return compute(tiny_en, clip_samples())


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start Chromium; skip the test if Chromium or playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def sample_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of the sample; the values of its figures are made up."""
    from page_sample import CLIP_BYTES, PICTURES, SAMPLE  # this import needs the libraries of the page

    file = tmp_path_factory.mktemp("sample") / "sample.html"
    file.write_text(page(parse(SAMPLE), PICTURES, CLIP_BYTES, small_data()), encoding="utf-8")
    return file


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that collects the audio that transcriptions open from now on."""
    found: list[Any] = []
    open_audio = transcribe.open_audio
    monkeypatch.setattr(
        transcribe, "open_audio", lambda *audio, **how: found.append(open_audio(*audio, **how)) or found[-1]
    )
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked ``grid`` unless ``--grid`` is given, and begin with those marked ``longest``.

    With ``-n``, other processes then run the rest in the meantime.
    """
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)
    if not config.getoption("grid"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("grid")])
        items[:] = [item for item in items if not item.get_closest_marker("grid")]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--grid`` and ``--fuzz``."""
    help = "compare every clip in every mode with openai-whisper; this takes hours"
    parser.addoption("--grid", action="store_true", help=help)
    parser.addoption(
        "--fuzz",
        type=float,
        default=0.0,
        help="seconds for which each fuzzer runs; by default it tries a small fixed number of cases",
    )
