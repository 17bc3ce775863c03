"""Out-of-memory messages: the memory that a model needs, the free memory, and models that would fit."""

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any, NamedTuple

from ...common.backend import Array, on_device
from ...decoding.search import DecoderRequest, DecoderResponse, choose_batch
from ...errors import DeviceMemoryError
from ...model.config import PUBLISHED, WhisperConfig
from ...model.engine import DecoderInput, Engine
from ...model.layers import Weights
from ..devices import FREE_MEMORY, is_gpu_out_of_memory
from .memory import GPU_DTYPES, device_memory, measure_card, memory_pool, models_for

_MAX_NAMED = 4  # models named in a message
_SMALLER_BATCH = "one sequence of one window would fit: use a smaller batch_size, beam_size or best_of"


class MemoryGuard(NamedTuple):
    """A guard that turns a model's out-of-memory errors into a ``DeviceMemoryError`` that suggests what to do."""

    device: str
    name: str
    dtype: str
    plain: bool  # True if the readable layers are used
    config: Callable[[], WhisperConfig]  # called only for a message

    @property
    def predicted(self) -> bool:
        """True if ``device_memory`` applies: not to the readable layers, which also compute in float64."""
        return not self.plain and self.dtype in GPU_DTYPES

    def loading(self) -> AbstractContextManager[None]:
        """Return a context for loading the weights: see ``at``."""
        return nullcontext() if self.device == "cpu" else self._raising("loading", loaded=False)

    def at(self, doing: str) -> AbstractContextManager[None]:
        """Return a context that raises ``DeviceMemoryError`` if the GPU's memory runs out; on the CPU, it does nothing.

        ``doing`` completes the message: "ran out of memory while …". The memory of the failed work is freed at once.
        Otherwise the error's traceback would hold every array, and the caller could not load a smaller model while
        handling the error.
        """
        return nullcontext() if self.device == "cpu" else self._raising(f"{doing} with", loaded=True)

    @contextmanager
    def _raising(self, doing: str, loaded: bool) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            nested = isinstance(error, DeviceMemoryError)  # raised by a context inside this one
            if not nested and not is_gpu_out_of_memory(error):
                raise
            if not nested:  # keep the location in the code, since the traceback is cut
                error.add_note("".join(traceback.format_tb(error.__traceback__)))
            with on_device(self.device):
                _release(error)
            if nested:
                raise
            raise DeviceMemoryError(self._message(doing, loaded)) from error

    def _message(self, doing: str, loaded: bool) -> str:
        config, card = self.config(), measure_card(self.device)
        with on_device(self.device):
            held = memory_pool().used_bytes()
        free = max(0, card.available - held)
        available = card.available if loaded else free  # in place of the loaded model, or beside other arrays
        needed = device_memory(config, self.dtype)
        needs = f"it needs {_mib(needed.peak)}" if self.predicted else f"its weights alone need {_mib(needed.weights)}"
        found = f"{_mib(free)} were free"
        if held:
            found += f" beside {_mib(held)} of CuPy's arrays"
        if card.limit:
            found += f" (CuPy's pool is limited to {_mib(card.limit)})"
        one_fits = loaded and self.predicted and needed.peak <= available
        remedy = _SMALLER_BATCH if one_fits else self._suggestion(config, available, loaded)
        return f"{self.device} ran out of memory while {doing} {self.name} in {self.dtype}: {needs}, {found}; {remedy}"

    def _suggestion(self, config: WhisperConfig, available: int, loaded: bool) -> str:
        """Suggest models that could be loaded."""
        fitting = [
            f"{self.name} in {dtype}" + (" without plain=True" if dtype == self.dtype else "")
            for dtype in GPU_DTYPES
            if (self.plain or dtype != self.dtype) and device_memory(config, dtype).peak <= available
        ][:1] + [
            f"{name} in {dtype}"
            for name, dtype in models_for(available, config.is_multilingual)
            if PUBLISHED[name] != config
        ]
        if not fitting:
            return f"no model fits: {FREE_MEMORY}, or use device 'cpu'"
        which = "models that fit in its place" if loaded else "models that fit"
        return f"{which}: {', '.join(fitting[:_MAX_NAMED])}; load one of them, or {FREE_MEMORY}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _release(error: BaseException | None) -> None:
    """Free the arrays in the frames of an error's traceback, and the blocks that CuPy's pool keeps for reuse.

    A traceback holds the frames and their variables for as long as the error is handled. So it is cut down to the
    frames that are still running.
    """
    running = set()
    frame: FrameType | None = sys._getframe(1)  # not this one, which would hold itself
    while frame is not None:
        running.add(frame)
        frame = frame.f_back
    while error is not None:
        last = error.__traceback__
        if last is not None and last.tb_frame not in running:
            error.__traceback__ = None
        while last is not None:  # cut at the first frame that has ended: others may hold the beginning
            following = last.tb_next
            if following is not None and following.tb_frame not in running:
                last.tb_next = following = None
            last = following
        error = error.__context__
    memory_pool().free_all_blocks()


class GuardedEngine:
    """An ``Engine`` on a GPU that explains out-of-memory errors."""

    def __init__(self, engine: Engine, guard: MemoryGuard) -> None:
        """``engine`` computes; ``guard`` explains its errors."""
        self._engine, self._guard = engine, guard

    @property
    def config(self) -> WhisperConfig:
        """The model's hyperparameters."""
        return self._engine.config

    @property
    def decoder_weights(self) -> Weights:
        """See ``Engine``."""
        return self._engine.decoder_weights

    @contextmanager
    def session(self) -> Iterator[None]:
        """See ``Engine``."""
        with self._engine.session(), self._guard.at("computing"):
            yield

    def encode(self, mel: Array) -> Array:
        """See ``Engine``."""
        with self._guard.at("encoding a window"):
            return self._engine.encode(mel)

    def new_cache(self, features: Array) -> Any:
        """See ``Engine``."""
        with self._guard.at("computing a window's keys and values"):
            return self._engine.new_cache(features)

    def decode_batch(self, inputs: Sequence[DecoderInput]) -> list[tuple[Array, Any]]:
        """See ``Engine``."""
        with self._guard.at("decoding"):
            return self._engine.decode_batch(inputs)

    def choose_batch(self, requests: Sequence[tuple[DecoderRequest, Any]]) -> list[tuple[DecoderResponse, Any]]:
        """See ``decoding.search.choose_batch``."""
        with self._guard.at("decoding"):
            return choose_batch(self._engine, requests)
