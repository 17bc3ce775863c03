"""The engine for a CPU: float32 on several cores."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from ...common.backend import Array
from ...model.config import WhisperConfig
from ...model.engine import DecoderInput
from ...model.layers import Weights
from . import decoder as cpu_decoder
from . import encoder as cpu_encoder
from .cache import CpuCache
from .panels import packed, unpacked
from .threads import Pool, one_blas_thread, usable_cores


def uses_cpu_engine(device: str, dtype: str, plain: bool) -> bool:
    """Return whether this engine computes a model with these options."""
    return device == "cpu" and dtype == "float32" and not plain


class CpuEngine:
    """An ``Engine`` for float32 weights on the CPU."""

    def __init__(self, weights: Weights, config: WhisperConfig, threads: int | None = None) -> None:
        """Use ``threads`` threads; None or 0 for all cores that the process may use.

        Weights in the layout of ``empty_weights`` are used as they are; others are copied.
        """
        self.config = config
        self.pool = Pool(threads or usable_cores())
        weights = packed(weights)
        self._packed = packed(weights["decoder"])
        self.encoder = cpu_encoder.EncoderWeights.of(packed(weights["encoder"]))
        self.decoder = cpu_decoder.DecoderWeights.of(self._packed)

    @property
    def decoder_weights(self) -> Weights:
        """See ``Engine``: copies that this engine does not keep.

        The token embedding, which is used at both ends, is copied once, and a block's matrices when the block is used.
        """
        return dict(unpacked(self._packed))

    def session(self) -> AbstractContextManager[Any]:
        """Return a context in which BLAS uses one thread: switching once is faster than at every call."""
        return one_blas_thread()

    def encode(self, mel: Array) -> Array:
        """See ``Engine``."""
        with one_blas_thread():
            return cpu_encoder.encode(mel, self.encoder, self.config, self.pool)

    def new_cache(self, features: Array) -> CpuCache:
        """See ``Engine``."""
        with one_blas_thread():
            return cpu_decoder.new_cache(features, self.decoder, self.config, self.pool)

    def decode_batch(self, inputs: Sequence[DecoderInput]) -> list[tuple[Array, CpuCache]]:
        """See ``Engine``."""
        with one_blas_thread():
            return cpu_decoder.decode_batch(inputs, self.decoder, self.config, self.pool)
