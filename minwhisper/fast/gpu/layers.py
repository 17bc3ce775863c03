"""The layers on a GPU for many positions at once: cuBLAS computes the products, our kernels everything else.

The cost of a small operation on a GPU is launching it and reading and writing its arrays. A softmax or a norm made of
array operations pays that five times, so each is one kernel here (``fast.gpu.kernels``).
"""

from ...common.backend import Array, array_module
from .cublas import Cublas
from .kernels import Kernels


class Layers:
    """The layers for weights of one dtype and heads of one width."""

    def __init__(self, kernels: Kernels, cublas: Cublas) -> None:
        self.kernels, self.cublas = kernels, cublas

    def layer_norm(self, x: Array, weight: Array, bias: Array, out: Array | None = None) -> Array:
        """Compute ``model.layers.layer_norm``. (N, D) -> (N, D), into ``out`` if given."""
        out = array_module(x).empty(x.shape, x.dtype) if out is None else out
        self.kernels.layer_norm(x, weight, bias, out)
        return out

    def linear(
        self, x: Array, weight: Array, bias: Array | None = None, *, out: Array | None = None, gelu: bool = False
    ) -> Array:
        """Compute ``model.layers.linear``, then optionally a GELU: (N, I) -> (N, O), or into ``out``."""
        out = array_module(x).empty((len(x), len(weight)), x.dtype) if out is None else out
        self.cublas.linear(x, self.widened(weight), out)
        if gelu or bias is not None:
            self.kernels.epilogue(out, bias, gelu=gelu)
        return out

    def add_linear(self, x: Array, weight: Array, bias: Array, *, to: Array) -> None:
        """Add the result of ``model.layers.linear``: x (N, I), to (N, O)."""
        self.cublas.linear(x, self.widened(weight), to, add=True)
        self.kernels.epilogue(to, bias)

    def widened(self, weight: Array) -> Array:
        """Return the weight in float32: itself, or a copy."""
        if weight.dtype == "float32":
            return weight
        wide = array_module(weight).empty(weight.shape, "float32")
        self.kernels.widen_weight(weight, wide)
        return wide
