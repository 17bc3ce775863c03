"""The kernels of ``kernels.cu``, compiled for weights of one dtype. Each is a method that takes arrays.

They compute the layers of ``model.layers`` in fewer launches and without allocating memory, so a decoder step can be
captured as a CUDA graph. Shapes use the letters of that module; R is the number of rows (see ``fast.gpu.table``), N any
number of rows. All arrays are contiguous. Activations are float32; weights, keys and values have the dtype that the
kernels were compiled for. A kernel cannot check its arguments, so the methods do.
"""

import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...common.backend import Array
from ...model.layers import Weights
from ...model.numerics import GELU_COEFFICIENTS, GELU_LIMIT
from ..devices import is_gpu_out_of_memory
from .table import HEADER, ROWS_PER_PASS, Field, HeaderAt, Kind, RowTable

SOURCE = Path(__file__).with_name("kernels.cu")
THREADS = 256  # per block: four blocks fill a multiprocessor of Turing
SLICES = 32  # blocks per choice of a token, each with a slice of the vocabulary
MAX_TOP = 32  # maximum number of tokens that a choice returns
ROW_COUNTS = 1, 2, 5, ROWS_PER_PASS  # `linear` is compiled for each of these
OUTPUTS_PER_WARP = 2  # outputs of a product that a warp computes at a time: they share each read of x
MAX_STAGED = 10_240  # maximum number of values of x in shared memory: 40 KiB, eight rows of the largest model
CHUNK = 64  # positions per block of attention
MAX_HEAD_WIDTH = 64  # K; it is 64 in all published models
LINEAR_BLOCKS = 2  # per multiprocessor: more blocks would each load the same x for fewer outputs
FLOAT_BYTES = 4
WARP = 32
WARPS = THREADS // WARP
NULL = np.uintp(0)  # a null pointer, in any version of CuPy
EPSILON = np.float32(1e-5)
KERNEL_NAMES = (
    "layer_norm",
    "epilogue",
    "softmax",
    "im2col",
    "add_bias_cast",
    "widen_weight",
    "embed",
    "write_kv",
    "linear",
    "self_attention",
    "cross_attention",
    "choose_tokens",
)


def source() -> str:
    """Return the CUDA C++ of the kernels, preceded by the constants that it shares with Python."""
    constants = {
        "THREADS": THREADS,
        "SLICES": SLICES,
        "MAX_TOP": MAX_TOP,
        "ROWS_PER_PASS": ROWS_PER_PASS,
        "OUTPUTS_PER_WARP": OUTPUTS_PER_WARP,
        "LINEAR_BLOCKS": LINEAR_BLOCKS,
        "CHUNK": CHUNK,
        "MAX_HEAD_WIDTH": MAX_HEAD_WIDTH,
        "HEADER": HEADER,
        "FIELDS": len(Field),
    }
    constants |= {one.name: int(one) for enumeration in (HeaderAt, Field, Kind) for one in enumeration}
    lines = [f"constexpr int {name} = {value};" for name, value in constants.items()]
    coefficients = ", ".join(f"{coefficient!r}f" for coefficient in GELU_COEFFICIENTS)
    lines += [f"constexpr float GELU_LIMIT = {GELU_LIMIT!r}f;", f"#define GELU_COEFFICIENTS {{{coefficients}}}"]
    return "\n".join(lines) + "\n" + SOURCE.read_text("utf-8")


def options(dtype: Any) -> tuple[str, ...]:
    """Return the compiler's options for weights of this dtype. Raises ``TypeError`` for an unsupported one."""
    if np.dtype(dtype) == np.float32:
        return ()
    if np.dtype(dtype) == np.float16:
        return ("-DHALF",)
    raise TypeError(f"GPU kernels: expected weights in float32 or float16, got {np.dtype(dtype)}")


def load_kernels(dtype: Any) -> "Kernels | None":
    """Return the kernels for weights of this dtype on CuPy's current device; None, with a warning, if that fails.

    Compiling takes a few seconds the first time; CuPy caches the result on disk. CuPy's out-of-memory errors are
    raised.
    """
    try:
        return Kernels(dtype)
    except Exception as error:  # CuPy raises its own types, the compiler's and the driver's
        if is_gpu_out_of_memory(error):
            raise
        why = (str(error) or repr(error)).strip().splitlines()[0]
        warnings.warn(f"cannot compile the GPU kernels, so computing is slower: {why}", stacklevel=2)
        return None


class Norm(NamedTuple):
    """The weights of a layer norm that a product first applies to its input."""

    weight: Array  # (I,)
    bias: Array  # (I,)


class Kernels:
    """The kernels for weights of one dtype. Each runs on CuPy's current stream."""

    def __init__(self, dtype: Any) -> None:
        """Compile the kernels for CuPy's current device. Raises CuPy's own errors if that fails."""
        import cupy

        self.dtype = np.dtype(dtype)
        module = cupy.RawModule(code=source(), options=options(dtype))
        self._functions = {name: module.get_function(name) for name in KERNEL_NAMES}  # the first call compiles all
        attribute = cupy.cuda.runtime.cudaDevAttrMultiProcessorCount
        self.multiprocessors = int(cupy.cuda.runtime.deviceGetAttribute(attribute, cupy.cuda.Device().id))

    # -------------------------------------------------------------------------------------- around large products

    def layer_norm(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        """Compute ``model.layers.layer_norm`` of rows: x (N, D), weight, bias (D,) -> out (N, D)."""
        width = x.shape[-1]
        check_arrays(np.float32, x, out)
        check_arrays(self.dtype, weight, bias)
        assert out.shape == x.shape
        assert weight.shape == bias.shape == (width,)
        arguments = (x, weight, bias, out, np.int32(width), EPSILON)
        self._launch("layer_norm", (x.size // width,), arguments, shared=WARPS)

    def epilogue(
        self, x: Array, bias: Array | None = None, *, gelu: bool = False, residual: Array | None = None
    ) -> None:
        """Compute x = gelu(x + bias) + residual in place: x (…, F), bias (F,), residual of x's shape.

        The residual has the weights' dtype.
        """
        check_arrays(np.float32, x)
        check_arrays(self.dtype, *_present(bias, residual))
        assert bias is None or bias.shape == x.shape[-1:]
        assert residual is None or residual.shape == x.shape
        arguments = (x, _or_null(bias), _or_null(residual), np.int32(gelu), np.int32(x.shape[-1]))
        self._launch_per_value("epilogue", x.size, arguments)

    def softmax(self, scores: Array) -> None:
        """Compute ``model.layers.softmax`` in place: scores (…, T)."""
        columns = scores.shape[-1]
        check_arrays(np.float32, scores)
        self._launch("softmax", (scores.size // columns,), (scores, np.int32(columns)), shared=WARPS)

    def im2col(self, x: Array, columns: Array, stride: int) -> None:
        """Copy the inputs of each output of a convolution: x (T, I), of any strides -> columns (⌈T / stride⌉, I, 3)."""
        length, channels = x.shape
        assert x.dtype == np.float32
        check_arrays(np.float32, columns)
        assert columns.shape == (-(-length // stride), channels, 3)
        steps = (np.int32(apart // FLOAT_BYTES) for apart in x.strides)
        shape = np.int32(length), np.int32(channels), np.int32(stride)
        self._launch_per_value("im2col", columns.size, (x, columns, *shape, *steps))

    def add_bias_cast(self, x: Array, bias: Array | None, out: Array) -> None:
        """Add a bias and convert to the weights' dtype: x (…, F), bias (F,) -> out of x's shape."""
        check_arrays(np.float32, x)
        check_arrays(self.dtype, out, *_present(bias))
        assert out.shape == x.shape
        assert bias is None or bias.shape == x.shape[-1:]
        self._launch_per_value("add_bias_cast", x.size, (x, _or_null(bias), out, np.int32(x.shape[-1])))

    def widen_weight(self, weight: Array, out: Array) -> None:
        """Convert a weight to float32: out of the weight's shape."""
        check_arrays(self.dtype, weight)
        check_arrays(np.float32, out)
        assert weight.shape == out.shape
        self._launch_per_value("widen_weight", weight.size, (weight, out))

    # -------------------------------------------------------------------------------------- rows

    def embed(self, table: RowTable, tokens: Array, positions: Array, x: Array) -> None:
        """Compute ``model.decoder.embed``: tokens (V, D), positions (P, D) -> x (R, D).

        The caller has to check that the table's tokens and positions are in range.
        """
        check_arrays(np.float32, x)
        check_arrays(self.dtype, tokens, positions)
        rows, width = x.shape
        assert rows <= table.capacity
        assert tokens.shape[1] == positions.shape[1] == width
        arguments = (table.device_array, np.int32(table.capacity), tokens, positions, x, np.int32(width))
        self._launch("embed", (rows,), arguments)

    def write_kv(self, table: RowTable, keys: Array, values: Array, bias: Array, layer: int) -> None:
        """Write the rows' keys (R, D) and values (R, D), plus a bias (D,) of the values, to their slots."""
        check_arrays(np.float32, keys, values)
        check_arrays(self.dtype, bias)
        width = keys.shape[1]
        assert keys.shape == values.shape
        assert bias.shape == (width,)
        where = np.int32(layer), np.int32(table.slot_addresses.shape[1]), np.int32(width)
        arguments = (table.device_array, np.int32(table.capacity), keys, values, bias, *where)
        self._launch("write_kv", (len(keys),), arguments)

    def linear(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        y: Array,
        *,
        table: RowTable | None = None,
        norm: Norm | None = None,
        residual: Array | None = None,
        gelu: bool = False,
    ) -> None:
        """Compute ``model.layers.linear`` for few rows: y = gelu(norm(x) Wᵀ + b) + residual.

        x (R, I), weight (O, I), bias (O,), residual (R, O) -> y (R, O), which may be the residual but not x. The norm,
        the GELU and the residual are optional. Without a table there is one row. A weight is read once for eight rows,
        and 16 bytes at a time if its rows are aligned to 16 bytes.
        """
        rows, inner = x.shape
        outer = len(weight)
        check_arrays(np.float32, x, y, *_present(residual))
        check_arrays(self.dtype, weight, *_present(bias), *(norm or ()))
        assert weight.shape == (outer, inner)
        assert y.shape == (rows, outer)
        assert rows <= (table.capacity if table else 1)
        assert bias is None or bias.shape == (outer,)
        assert residual is None or residual.shape == y.shape
        assert norm is None or norm.weight.shape == norm.bias.shape == (inner,)
        (split, blocks), staged = self._grid(inner, outer), _staged(rows, inner)
        where = (table.device_array, np.int32(table.capacity)) if table else (NULL, np.int32(0))
        arguments = (
            *(x, weight, _or_null(bias), *(norm or (NULL, NULL)), _or_null(residual), y, *where),
            *(np.int32(inner), np.int32(outer), np.int32(gelu), np.int32(split), np.int32(staged), EPSILON),
            *(NULL, NULL, NULL, np.int32(0), np.int32(0)),
        )
        self._launch("linear", (blocks, math.ceil(rows / ROWS_PER_PASS)), arguments, shared=staged + _LINEAR_SHARED)

    def project_qkv(self, table: RowTable, x: Array, weights: Weights, norm: Norm, queries: Array, layer: int) -> None:
        """Project norm(x) for self-attention: x (R, D) -> queries (R, D); keys and values go to their slots."""
        query, key, value = (weights[name]["weight"] for name in ("query", "key", "value"))
        query_bias, value_bias = weights["query"]["bias"], weights["value"]["bias"]
        rows, width = x.shape
        check_arrays(np.float32, x, queries)
        check_arrays(self.dtype, query, key, value, query_bias, value_bias, *norm)
        assert query.shape == key.shape == value.shape == (width, width)
        assert query_bias.shape == value_bias.shape == norm.weight.shape == norm.bias.shape == (width,)
        assert queries.shape == x.shape
        assert rows <= table.capacity
        (split, blocks), staged = self._grid(width, width, 3), _staged(rows, width)
        arguments = (
            *(x, query, query_bias, *norm, NULL, queries, table.device_array, np.int32(table.capacity)),
            *(np.int32(width), np.int32(width), np.int32(0), np.int32(split), np.int32(staged), EPSILON),
            *(key, value, value_bias, np.int32(layer), np.int32(table.slot_addresses.shape[1])),
        )
        self._launch("linear", (blocks, math.ceil(rows / ROWS_PER_PASS), 3), arguments, shared=staged + _LINEAR_SHARED)

    @staticmethod
    def partial_shape(rows: int, heads: int, positions: int, size: int) -> tuple[int, int, int, int]:
        """Return the shape of attention's partial results: (R, H, chunks of the positions, K + 2)."""
        return rows, heads, math.ceil(positions / CHUNK), size + 2

    def self_attention(
        self, table: RowTable, queries: Array, partial: Array, counters: Array, out: Array, heads: int, layer: int
    ) -> None:
        """Let rows attend to their sequences up to themselves: queries (R, D), not scaled -> out (R, D).

        ``partial`` is uninitialised, of ``partial_shape`` or larger; ``counters`` (R · H,), int32, are 0 before
        and after. K is a multiple of 4, at most 64.
        """
        self._attend(
            "self_attention", table, queries, partial, counters, out, heads, layer, table.slot_addresses.shape[1]
        )

    def cross_attention(
        self,
        table: RowTable,
        queries: Array,
        partial: Array,
        counters: Array,
        out: Array,
        heads: int,
        layer: int,
        positions: int,
    ) -> None:
        """Let rows attend to their windows of T ``positions``; otherwise like ``self_attention``."""
        self._attend("cross_attention", table, queries, partial, counters, out, heads, layer, positions)

    def _attend(
        self,
        name: str,
        table: RowTable,
        queries: Array,
        partial: Array,
        counters: Array,
        out: Array,
        heads: int,
        layer: int,
        positions: int,
    ) -> None:
        rows, width = queries.shape
        size = width // heads
        check_arrays(np.float32, queries, partial, out)
        check_arrays(np.int32, counters)
        assert size % 4 == 0, f"the width of a head: expected a multiple of 4, got {size}"
        assert size <= MAX_HEAD_WIDTH, f"the width of a head: expected at most {MAX_HEAD_WIDTH}, got {size}"
        assert rows <= table.capacity
        assert out.shape == queries.shape == (rows, heads * size)
        needed = self.partial_shape(rows, heads, positions, size)
        assert partial.size >= math.prod(needed)
        assert counters.size >= rows * heads
        arguments = (
            *(queries, table.device_array, np.int32(table.capacity), partial, counters, out),
            *(np.int32(heads), np.int32(size), np.int32(layer), np.int32(positions)),
        )
        rows_together = 1 if name == "self_attention" else min(rows, ROWS_PER_PASS)
        # AttentionBuffers in kernels.cu divides it.
        shared = rows_together * size + 2 * ROWS_PER_PASS + 4 * THREADS + rows_together * CHUNK
        self._launch(name, (needed[2], heads, rows), arguments, shared=shared)

    @staticmethod
    def slices_shape(choices: int) -> tuple[int, int, int]:
        """Return the shape of the partial results of ``choose_tokens``, int32: see Slice in kernels.cu."""
        return choices, SLICES, 12 + 4 * MAX_TOP

    def choose_tokens(
        self, table: RowTable, logits: Array, slices: Array, counters: Array, out: Array, choices: int
    ) -> None:
        """Choose tokens as the table specifies: logits (N, V) -> out (choices, top, 2), tokens and log-probabilities.

        ``slices`` is uninitialised, of ``slices_shape`` or larger; ``counters`` (choices,) are 0 before and after.
        Log-probabilities are float32, stored in int32.
        """
        check_arrays(np.float32, logits)
        check_arrays(np.int32, slices, counters, out)
        assert choices <= table.capacity
        assert slices.size >= math.prod(self.slices_shape(choices))
        assert counters.size >= choices
        assert out.size >= 2 * choices
        arguments = (
            logits,
            table.device_array,
            np.int32(table.capacity),
            np.int32(logits.shape[1]),
            slices,
            counters,
            out,
        )
        self._launch("choose_tokens", (SLICES, choices), arguments, shared=2 * THREADS + 8)

    # -------------------------------------------------------------------------------------- launching

    def _grid(self, inner: int, outer: int, matrices: int = 1) -> tuple[int, int]:
        """Return the number of warps that share each output of a product, and the number of blocks per matrix.

        More warps per output make more blocks, and a large GPU needs hundreds of them to be busy.
        """
        max_blocks, split = LINEAR_BLOCKS * self.multiprocessors, 1
        while (
            2 * split <= WARPS
            and 4 * WARP * 2 * split <= inner
            and matrices * math.ceil(outer * 2 * split / (WARPS * OUTPUTS_PER_WARP)) <= max_blocks
        ):
            split *= 2
        return split, min(max(1, max_blocks // matrices), math.ceil(outer * split / (WARPS * OUTPUTS_PER_WARP)))

    def _launch_per_value(self, name: str, size: int, arguments: tuple[Any, ...]) -> None:
        """Launch a kernel with one thread per value and their number as its last argument."""
        assert size < 2**31
        self._launch(name, (math.ceil(size / THREADS),), (*arguments, np.int32(size)))

    def _launch(self, name: str, grid: tuple[int, ...], arguments: tuple[Any, ...], *, shared: int = 0) -> None:
        """Launch a kernel with ``shared`` floats of shared memory per block. An empty grid launches nothing."""
        if 0 not in grid:
            self._functions[name](grid, (THREADS,), arguments, shared_mem=shared * FLOAT_BYTES)


# Floats of shared memory beside x: see `linear_rows` in kernels.cu.
_LINEAR_SHARED = 2 * ROWS_PER_PASS + WARPS * OUTPUTS_PER_WARP * ROWS_PER_PASS


def _staged(rows: int, inner: int) -> int:
    """Return the number of values of x kept in shared memory: those of up to eight rows, if they fit.

    The kernel is compiled for several numbers of rows (``ROW_COUNTS``) and needs the memory for the next of them, not
    just for ``rows``: with less, it would loop forever.
    """
    whole = 8 * WARP * math.ceil(inner / (8 * WARP))  # what a warp loads at a time
    return min(MAX_STAGED, next(count for count in ROW_COUNTS if count >= min(rows, ROWS_PER_PASS)) * whole)


def _present(*arrays: Array | None) -> list[Array]:
    return [array for array in arrays if array is not None]


def _or_null(array: Array | None) -> Any:
    return NULL if array is None else array


def check_arrays(dtype: Any, *arrays: Array) -> None:
    """Check the dtype and the layout of arrays, because a kernel or cuBLAS gets only their addresses."""
    for array in arrays:
        assert array.dtype == dtype, f"expected {np.dtype(dtype)}, got {array.dtype}"
        assert array.flags.c_contiguous, f"expected a contiguous array, got strides {array.strides}"
