"""The model on a GPU, through CuPy, in float32 with weights in float32 or float16."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from ..backend import Array, on_device, reserve
from ..config import WhisperConfig
from ..engine import Feed
from ..layers import Weights
from . import gpu_decoder, gpu_encoder
from .cache import Cache
from .gpu_kernels import MOST_SIZE, load_kernels
from .gpu_layers import Layers
from .gpu_memory import device_memory


class GpuEngine:
    """An :class:`~minwhisper.engine.Engine` for weights on a GPU."""

    def __init__(self, weights: Weights, config: WhisperConfig, device: str) -> None:
        """``device`` is where the weights are, as :func:`~minwhisper.devices.resolve_device` names it."""
        self.config, self.device = config, device
        self._encoder, self._decoder = weights["encoder"], weights["decoder"]
        with on_device(device):
            stored = self._decoder["token_embedding"].dtype
            needed = device_memory(config, stored)
            reserve(needed.peak - needed.weights, device)
            kernels = load_kernels(stored)
            self._layers = Layers(kernels)
            size = config.d_model // config.decoder_attention_heads
            fitting = size % 4 == 0 and size <= MOST_SIZE
            self._steps = gpu_decoder.Steps(self._decoder, config, kernels) if kernels and fitting else None

    def at_work(self) -> AbstractContextManager[Any]:
        """The device of the weights is CuPy's current one."""
        return on_device(self.device)

    def encode(self, mel: Array) -> Array:
        """See :class:`~minwhisper.engine.Engine`."""
        with on_device(self.device):
            return gpu_encoder.encode(mel, self._encoder, self.config, self._layers)

    def new_cache(self, features: Array) -> Cache:
        """See :class:`~minwhisper.engine.Engine`."""
        with on_device(self.device):
            return gpu_decoder.new_cache(features, self._decoder, self.config)

    def decode_together(self, feeds: Sequence[Feed]) -> list[tuple[Array, Cache]]:
        """See :class:`~minwhisper.engine.Engine`: texts that go on by one token together, prompts one by one."""
        with on_device(self.device):
            found: dict[int, tuple[Array, Cache]] = {}
            stepping = [number for number, feed in enumerate(feeds) if self._steps and _is_step(feed)]
            if self._steps and stepping:
                steps = self._steps.decode_together([feeds[number] for number in stepping])
                found.update(zip(stepping, steps, strict=True))
            for number, feed in enumerate(feeds):
                if number not in found:
                    found[number] = gpu_decoder.decode_cached(feed, self._decoder, self.config, self._layers)
            return [found[number] for number in range(len(feeds))]


def _is_step(feed: Feed) -> bool:
    """Whether each text goes on by one token, whose logits are wanted."""
    return all(len(row) == 1 for row in feed.tokens) and (feed.wanted is None or list(feed.wanted) == [0])
