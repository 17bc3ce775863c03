"""What is said where a GPU's memory does not suffice: what was needed, what was free, and what would fit."""

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
from ..devices import is_out_of_memory
from .memory import GPU_DTYPES, device_memory, measure_card, memory_pool, models_for

_MAX_NAMED = 4  # models that a message names
_SMALLER_BATCH = "which would do for one text about one window: take a smaller batch_size, beam_size or best_of"


class MemoryGuard(NamedTuple):
    """A model that is to live on a device."""

    device: str
    name: str
    dtype: str
    plain: bool  # whether the readable layers were asked for
    config: Callable[[], WhisperConfig]  # asked for only where there is something to tell

    @property
    def predicted(self) -> bool:
        """Whether its memory is: not where the readable layers compute, which in float64 they always do."""
        return not self.plain and self.dtype in GPU_DTYPES

    def loading(self) -> AbstractContextManager[None]:
        """A context that tells where its weights find no room: see :meth:`at`."""
        return nullcontext() if self.device == "cpu" else self._report("loading", loaded=False)

    def at(self, doing: str) -> AbstractContextManager[None]:
        """A context in which running out of the GPU's memory is a :class:`DeviceMemoryError`; on the CPU, nothing.

        ``doing`` is what the message says was done. What failed lets go of its memory at once: not only when the error
        is forgotten, whose traceback would hold every array until then. So a smaller model can be loaded where the
        error is handled.
        """
        return nullcontext() if self.device == "cpu" else self._report(f"{doing} with", loaded=True)

    @contextmanager
    def _report(self, doing: str, loaded: bool) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            told = isinstance(error, DeviceMemoryError)  # by a context within this one
            if not told and not is_out_of_memory(error):
                raise
            if not told:  # for who looks for the place in the code
                error.add_note("".join(traceback.format_tb(error.__traceback__)))
            with on_device(self.device):
                _release(error)
            if told:
                raise
            raise DeviceMemoryError(self._message(doing, loaded)) from error

    def _message(self, doing: str, loaded: bool) -> str:
        config, card = self.config(), measure_card(self.device)
        with on_device(self.device):
            held = memory_pool().used_bytes()
        free = max(0, card.available - held)
        room = card.available if loaded else free  # instead of what is loaded, or beside it
        needed = device_memory(config, self.dtype)
        needs = f"it needs {_mib(needed.peak)}" if self.predicted else f"its weights alone take {_mib(needed.weights)}"
        there = f"{_mib(free)} were free"
        if held:
            there += f" beside {_mib(held)} of CuPy's arrays"
        if card.limit:
            there += f" (CuPy's pool is limited to {_mib(card.limit)})"
        would_do = loaded and self.predicted and needed.peak <= room
        way_out = _SMALLER_BATCH if would_do else self._suggestion(config, room, loaded)
        return f"{self.device} ran out of memory while {doing} {self.name} in {self.dtype}: {needs}, {there}; {way_out}"

    def _suggestion(self, config: WhisperConfig, room: int, loaded: bool) -> str:
        """What could be loaded instead."""
        fitting = [
            f"{self.name} in {dtype}" + (" without plain" if dtype == self.dtype else "")
            for dtype in GPU_DTYPES
            if (self.plain or dtype != self.dtype) and device_memory(config, dtype).peak <= room
        ][:1] + [
            f"{name} in {dtype}"
            for name, dtype in models_for(room, config.is_multilingual)
            if PUBLISHED[name] != config
        ]
        if not fitting:
            return "no model fits: end what else uses this GPU, which nvidia-smi lists, or use device 'cpu'"
        where = "in all of it" if loaded else "in this memory"
        return f"{where} fit: {', '.join(fitting[:_MAX_NAMED])}; load one of these, or end what else uses this GPU"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _release(error: BaseException | None) -> None:
    """Free what failed: the arrays in its frames, and the blocks that CuPy's pool keeps for reuse.

    A traceback holds the frames, with all that is in them, and is held in turn for as long as the error is handled. So
    what is left of it are the frames that still run.
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
        while last is not None:  # cut where the first frame that has ended begins: others may hold the beginning
            following = last.tb_next
            if following is not None and following.tb_frame not in running:
                last.tb_next = following = None
            last = following
        error = error.__context__
    memory_pool().free_all_blocks()


class GuardedEngine:
    """An :class:`~minwhisper.model.engine.Engine` on a GPU that says what is the matter where memory runs out."""

    def __init__(self, engine: Engine, guard: MemoryGuard) -> None:
        """``engine`` does the work."""
        self._engine, self._guard = engine, guard

    @property
    def config(self) -> WhisperConfig:
        """The model's numbers."""
        return self._engine.config

    @property
    def decoder_weights(self) -> Weights:
        """See :class:`~minwhisper.model.engine.Engine`."""
        return self._engine.decoder_weights

    @contextmanager
    def session(self) -> Iterator[None]:
        """See :class:`~minwhisper.model.engine.Engine`."""
        with self._engine.session(), self._guard.at("computing"):
            yield

    def encode(self, mel: Array) -> Array:
        """See :class:`~minwhisper.model.engine.Engine`."""
        with self._guard.at("encoding a window"):
            return self._engine.encode(mel)

    def new_cache(self, features: Array) -> Any:
        """See :class:`~minwhisper.model.engine.Engine`."""
        with self._guard.at("computing a window's keys and values"):
            return self._engine.new_cache(features)

    def decode_batch(self, feeds: Sequence[DecoderInput]) -> list[tuple[Array, Any]]:
        """See :class:`~minwhisper.model.engine.Engine`."""
        with self._guard.at("decoding"):
            return self._engine.decode_batch(feeds)

    def choose_batch(self, requests: Sequence[tuple[DecoderRequest, Any]]) -> list[tuple[DecoderResponse, Any]]:
        """See :func:`minwhisper.decoding.search.choose_batch`."""
        with self._guard.at("decoding"):
            return choose_batch(self._engine, requests)
