"""The engine for a GPU: float32 arithmetic through CuPy, with weights in float32 or float16."""

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
from .cublas import Cublas
from .decoder import Decoder
from .kernels import MAX_HEAD_WIDTH, Kernels, load_kernels
from .layers import Layers
from .memory import MARGIN, device_memory, measure_card, memory_pool, tile_bytes
from .runner import DecoderRunner
from .sampling import GpuSampler


def gpu_engine(weights: Weights, config: WhisperConfig, device: str) -> Engine:
    """Return the engine for weights on a GPU: a ``GpuEngine``, or a ``PlainEngine`` with a warning.

    The latter, with the readable layers, is used if the kernels do not compile or do not support the width of the
    heads. ``device`` is that of the weights, in the form that ``resolve_device`` returns.
    """
    heads = {config.d_model // config.encoder_attention_heads, config.d_model // config.decoder_attention_heads}
    if any(size % 4 or size > MAX_HEAD_WIDTH for size in heads):
        warnings.warn(
            f"heads of width {max(heads)}: the GPU kernels support multiples of 4 up to {MAX_HEAD_WIDTH}; using the "
            "readable layers instead, which are slower",
            stacklevel=2,
        )
        return PlainEngine(weights, config, device)
    with on_device(device):
        kernels = load_kernels(weights["decoder"]["token_embedding"].dtype)
    return PlainEngine(weights, config, device) if kernels is None else GpuEngine(weights, config, device, kernels)


class GpuEngine:
    """An ``Engine`` for weights on a GPU. It also chooses the tokens on the GPU."""

    def __init__(self, weights: Weights, config: WhisperConfig, device: str, kernels: Kernels) -> None:
        """See ``gpu_engine``."""
        self.config, self.device = config, device
        self._encoder, self.decoder_weights = weights["encoder"], weights["decoder"]
        decoder = self.decoder_weights
        with on_device(device):
            stored = decoder["token_embedding"].dtype
            self._tile = tile_bytes(config, stored, measure_card(device).available - memory_pool().used_bytes())
            needed = device_memory(config, stored, tile=self._tile)
            reserve(needed.peak - needed.weights + MARGIN, device)
            width = config.d_model // config.encoder_attention_heads
            self._layers = Layers(kernels, Cublas.for_heads(width))
            sampler = GpuSampler(config, kernels, decoder["token_embedding"])
            self.runner = DecoderRunner(Decoder(decoder, config, self._layers), sampler)
            self.runner.reserve()

    def session(self) -> AbstractContextManager[Any]:
        """Return a context in which the device of the weights is CuPy's current device."""
        return on_device(self.device)

    def encode(self, mel: Array) -> Array:
        """See ``Engine``."""
        with on_device(self.device):
            return gpu_encoder.encode(mel, self._encoder, self.config, self._layers, self._tile)

    def new_cache(self, features: Array) -> GpuCache:
        """See ``Engine``. ``features`` are those of one window."""
        with on_device(self.device):
            return self.runner.new_cache(features)

    def decode_batch(self, inputs: Sequence[DecoderInput]) -> list[tuple[Array, GpuCache]]:
        """See ``Engine``. Steps run together, prompts one by one."""
        with on_device(self.device):
            return self.runner.decode_batch(inputs)

    def choose_batch(
        self, requests: Sequence[tuple[DecoderRequest, GpuCache]]
    ) -> list[tuple[DecoderResponse, GpuCache]]:
        """See ``decoding.search.choose_batch``."""
        with on_device(self.device):
            return self.runner.choose_batch(requests)
