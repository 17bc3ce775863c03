"""The setting of the rows of gpu.py: the GPU, models on it and their peers, clips."""

import dataclasses
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

import bench_path  # noqa: F401 (first, so that this checkout is measured)
import carried
import minwhisper
from gpu_device import Gpu, Rates
from gpu_peer import Peer
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.common.backend import reserve, to_device
from minwhisper.errors import MinWhisperError
from minwhisper.fast.devices import describe_device
from minwhisper.model.config import PUBLISHED, WhisperConfig
from minwhisper.model.weight_names import expected_shapes, nest
from minwhisper.model.weights import pool_bytes
from minwhisper.parity.comparison import window_mel
from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.whisper import NO_TOKENIZER

RATE = 16_000
MIB = 1 << 20
LARGE = 20 << 30  # bytes of GPU memory that hold all models and their peers at once
FIRST = "jfk.flac"  # the clip that comes first


class Size(NamedTuple):
    """A model whose speed or memory is measured."""

    name: str
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype}"


@dataclasses.dataclass
class Lab:
    """The setting that every row of gpu.py gets."""

    device: str
    gpu: Gpu
    clips: dict[str, np.ndarray]  # samples by the name of the clip
    names: Sequence[str] = ("tiny.en", "base")  # models that have their own weights, if these are here
    sizes: Sequence[Size] = (Size("tiny.en"), Size("base"), Size("small"))
    larger: Sequence[Size] = (Size("medium", "float16"), Size("large-v3-turbo", "float16"))  # only for memory
    configs: dict[str, WhisperConfig] = dataclasses.field(default_factory=lambda: dict(PUBLISHED))
    rounds: int = 7
    windows: int = 100
    batch: int = 8
    peer_device: str | None = None  # where PyTorch computes, if not on the same GPU
    notes: list[str] = dataclasses.field(default_factory=list)  # remarks for the reader of a row
    rates: Rates | None = None
    begun: int = 0  # bytes of the device outside CuPy's pool at the start
    _pairs: dict[Size, tuple[Any, Peer | None]] = dataclasses.field(default_factory=dict)

    def model(self, name: str, dtype: str = "float32", device: str = "cpu") -> Any:
        """Return a model with its own weights if they are here, else with random ones, equal on every device."""
        source = carried.find_weights(name)
        try:
            if source is not None:
                return minwhisper.load_model(source, device, dtype)
            why = carried.why_no_weights(name)
        except MinWhisperError as error:
            why = f"the weights of {name} cannot be loaded: {error}"
        self.note(f"{why}; so they are random")
        return minwhisper.Whisper.random(self.configs[name], device=device, dtype=dtype)

    def hollow_model(self, size: Size) -> Any:
        """Return a model of zeros on the GPU, which is quick to create: only for measuring memory."""
        expected = expected_shapes(self.configs[size.name])
        reserve(pool_bytes(expected, size.dtype), self.device)
        arrays = {name: to_device(np.zeros(shape, size.dtype), self.device) for name, shape in expected.items()}
        return minwhisper.Whisper(self.configs[size.name], nest(arrays), device=self.device, dtype=size.dtype)

    def trained(self, row: str) -> list[str]:
        """Return the names of the models whose own weights are here; note the others."""
        for name in self.names:
            if carried.find_weights(name) is None:
                self.note(f"{row} needs a model's own weights: {carried.why_no_weights(name)}")
        return [name for name in self.names if carried.find_weights(name) is not None]

    def note(self, text: str) -> None:
        """Add a note to the row, unless it is there."""
        if text not in self.notes:
            self.notes.append(text)

    def mel(self, model: Any) -> np.ndarray:
        """Return a window (1, M, 2 T): the first clip's for a model of 80 or 128 bins, noise for others."""
        bins = model.config.num_mel_bins
        if bins in (80, 128) and self.clips:
            return window_mel(next(iter(self.clips.values())), bins)
        frames = 2 * model.config.max_source_positions
        return np.random.default_rng(0).standard_normal((1, bins, frames)).astype(np.float32)

    def pair(self, size: Size) -> tuple[Any, Peer | None]:
        """Return a model on the GPU, and its peer there if it can be built; both are kept until ``forget``."""
        if size not in self._pairs:
            if describe_device(self.device).total < LARGE:
                self._pairs.clear()
            model, peer = self.model(size.name, size.dtype, self.device), None
            try:
                peer = Peer(model, self.peer_device or self.device)
            except Exception as error:  # whatever the installation lacks
                self.note(f"no peer for {size}: {type(error).__name__}: {error}")
            self._pairs[size] = model, peer
        return self._pairs[size]

    def forget(self) -> None:
        """Release the models that are kept."""
        self._pairs.clear()


def borrowed_tokenizer(config: WhisperConfig) -> Tokenizer:
    """Return the tokenizer of an available model with the same vocabulary, for a model with random weights."""
    for name in ("tiny.en", "base"):
        files = packaged_model(name)
        if files and PUBLISHED[name].vocab_size == config.vocab_size:
            return Tokenizer.from_folder(files.folder, config.vocab_size)
    return NO_TOKENIZER


def read_clips(names: Sequence[str] | None = None) -> tuple[dict[str, np.ndarray], str]:
    """Return the clips' samples at 16 kHz by name, beginning with ``FIRST``, and how they were read."""
    paths = [carried.DATA / FIRST, *sorted(carried.DATA.glob("LJ*.wav"))]
    if stored := carried.carried_clips():
        found, how = {path.name: stored[path.name] for path in paths if path.name in stored}, "carried"
    elif find_spec("av") is None:
        return {}, "none, because PyAV is not installed and none were carried"
    else:
        found, how = {path.name: minwhisper.load_audio(path) for path in paths}, "read with PyAV"
    return {name: its for name, its in found.items() if not names or name in names}, how
