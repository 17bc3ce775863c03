"""The layers on a GPU for many positions at once: products by cuBLAS, everything around them by kernels.

A GPU's small operations cost what it takes to launch them and to read and write their arrays, and a softmax or a norm
written with array operations does that five times; so each is one kernel (:mod:`minwhisper.fast.gpu.kernels`).
"""

from ...common.backend import Array, array_module
from .cublas import Cublas
from .kernels import Kernels


class Layers:
    """The layers for weights of one dtype and heads of one width."""

    def __init__(self, kernels: Kernels, cublas: Cublas) -> None:
        self.kernels, self.cublas = kernels, cublas

    def layer_norm(self, x: Array, weight: Array, bias: Array, out: Array | None = None) -> Array:
        """:func:`minwhisper.model.layers.layer_norm`. (N, D) -> (N, D), into ``out`` if there is one."""
        out = array_module(x).empty(x.shape, x.dtype) if out is None else out
        self.kernels.layer_norm(x, weight, bias, out)
        return out

    def linear(
        self, x: Array, weight: Array, bias: Array | None = None, *, out: Array | None = None, gelu: bool = False
    ) -> Array:
        """Apply :func:`minwhisper.model.layers.linear`, and a GELU if asked: (N, I) -> (N, O), into ``out``, if any."""
        out = array_module(x).empty((len(x), len(weight)), x.dtype) if out is None else out
        self.cublas.linear(x, self.widened(weight), out)
        if gelu or bias is not None:
            self.kernels.epilogue(out, bias, gelu=gelu)
        return out

    def add_linear(self, x: Array, weight: Array, bias: Array, *, to: Array) -> None:
        """What :func:`minwhisper.model.layers.linear` returns is added: x (N, I), to (N, O)."""
        self.cublas.linear(x, self.widened(weight), to, add=True)
        self.kernels.epilogue(to, bias)

    def widened(self, weight: Array) -> Array:
        """The weight in float32: itself if it is, else a copy."""
        if weight.dtype == "float32":
            return weight
        wide = array_module(weight).empty(weight.shape, "float32")
        self.kernels.widen_weight(weight, wide)
        return wide
