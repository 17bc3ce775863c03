"""The model on a GPU, through CuPy, in float32 with weights in float32 or float16."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from ...common.backend import Array, on_device, reserve
from ...decoding.search import DecoderRequest, DecoderResponse
from ...model.config import WhisperConfig
from ...model.engine import DecoderInput, Engine, PlainEngine
from ...model.layers import Weights
from . import encoder as gpu_encoder
from .cache import GpuCache
from .choices import Choices
from .decoder import Decoder
from .kernels import MAX_HEAD, Kernels, load_kernels
from .layers import Layers
from .memory import ROUNDED, device_memory, measure_card, pool, tile_bytes
from .products import Products
from .steps import Steps


def gpu_engine(weights: Weights, config: WhisperConfig, device: str) -> Engine:
    """Return an engine for weights on a GPU: :class:`GpuEngine`, or, with a warning, the readable layers.

    Those compute where the kernels do not compile, and for heads that the kernels are not made for.
    ``device`` is where the weights are, as :func:`~minwhisper.fast.devices.resolve_device` names it.
    """
    heads = {
        (config.d_model // config.encoder_attention_heads),
        (config.d_model // config.decoder_attention_heads),
    }
    if any(size % 4 or size > MAX_HEAD for size in heads):
        warnings.warn(
            f"heads of width {max(heads)}: the GPU's kernels are made for multiples of 4 up to {MAX_HEAD}, so the "
            "readable layers compute, more slowly",
            stacklevel=2,
        )
        return PlainEngine(weights, config, device)
    with on_device(device):
        kernels = load_kernels(weights["decoder"]["token_embedding"].dtype)
    return PlainEngine(weights, config, device) if kernels is None else GpuEngine(weights, config, device, kernels)


class GpuEngine:
    """An :class:`~minwhisper.model.engine.Engine` for weights on a GPU, which chooses tokens, too."""

    def __init__(self, weights: Weights, config: WhisperConfig, device: str, kernels: Kernels) -> None:
        """See :func:`gpu_engine`."""
        self.config, self.device = config, device
        self._encoder, decoder = weights["encoder"], weights["decoder"]
        with on_device(device):
            stored = decoder["token_embedding"].dtype
            self._tile = tile_bytes(config, stored, measure_card(device).room - pool().used_bytes())
            needed = device_memory(config, stored, tile=self._tile)
            reserve(needed.peak - needed.weights + ROUNDED, device)
            width = config.d_model // config.encoder_attention_heads
            self._layers = Layers(kernels, Products.for_heads(width))
            choices = Choices(config, kernels, decoder["token_embedding"])
            self.steps = Steps(Decoder(decoder, config, self._layers), choices)
            self.steps.reserve()

    def session(self) -> AbstractContextManager[Any]:
        """Return a context in which the device of the weights is CuPy's current one."""
        return on_device(self.device)

    def encode(self, mel: Array) -> Array:
        """See :class:`~minwhisper.model.engine.Engine`."""
        with on_device(self.device):
            return gpu_encoder.encode(mel, self._encoder, self.config, self._layers, self._tile)

    def new_cache(self, features: Array) -> GpuCache:
        """See :class:`~minwhisper.model.engine.Engine`; of one window."""
        with on_device(self.device):
            return self.steps.new_cache(features)

    def decode_batch(self, feeds: Sequence[DecoderInput]) -> list[tuple[Array, GpuCache]]:
        """Run the sequences that go on by one token together, prompts one by one: see :class:`.Engine`."""
        with on_device(self.device):
            return self.steps.decode_batch(feeds)

    def choose_batch(
        self, requests: Sequence[tuple[DecoderRequest, GpuCache]]
    ) -> list[tuple[DecoderResponse, GpuCache]]:
        """See :func:`minwhisper.decoding.search.choose_batch`."""
        with on_device(self.device):
            return self.steps.choose_batch(requests)
