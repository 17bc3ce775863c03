"""The kernels of ``gpu_kernels.cu``, compiled for weights of one dtype, each a method that takes arrays.

They compute what layers compute (:mod:`minwhisper.layers`), in fewer launches and without allocating anything, so
that a step of the decoder can be captured as a CUDA graph. Shapes are by the letters of that chapter; R is the number
of rows, which are texts while decoding. All arrays are contiguous: "numbers" are float32, "weights", and what is
remembered, of the dtype compiled for. A kernel trusts its arguments, so the methods look at them.
"""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Array
from ..devices import is_full
from ..layers import GELU_COEFFICIENTS, GELU_LIMIT

SOURCE = Path(__file__).with_name("gpu_kernels.cu")
THREADS = 256  # of a block: four fill a processor of Turing, which has room for 1,024
TEXTS = 8  # rows that share the reading of a matrix, or of a window's keys and values
OUTPUTS = 2  # of a product, that a warp computes at a time: each number of x is read from shared memory for all
STAGED = 4096  # numbers of x that wait in shared memory: 16 KiB a block, so that four have room
CHUNK = 128  # positions of audio that a block looks at
MOST_SIZE = 64  # K, which it is in all published sizes
MOST_BLOCKS = 1024  # of a product: with more, each would fetch the same x for fewer outputs
FLOAT_BYTES = 4
WARPS = THREADS // 32
NULL = np.uintp(0)  # a null pointer, in any version of CuPy
NAMES = (
    "layer_norm",
    "bias_gelu",
    "softmax",
    "embed",
    "matvec",
    "attend_text",
    "attend_audio",
    "combine_audio",
)


def source() -> str:
    """The CUDA C++ of the kernels, the constants it shares with Python first."""
    whole = {
        "THREADS": THREADS,
        "TEXTS": TEXTS,
        "OUTPUTS": OUTPUTS,
        "STAGED": STAGED,
        "CHUNK": CHUNK,
        "MOST_SIZE": MOST_SIZE,
    }
    lines = [f"constexpr int {name} = {value};" for name, value in whole.items()]
    coefficients = ", ".join(f"{coefficient!r}f" for coefficient in GELU_COEFFICIENTS)
    lines += [f"constexpr float GELU_LIMIT = {GELU_LIMIT!r}f;", f"#define GELU_COEFFICIENTS {{{coefficients}}}"]
    return "\n".join(lines) + "\n" + SOURCE.read_text("utf-8")


def options(dtype: Any) -> tuple[str, ...]:
    """What the compiler is told for weights of this dtype. Raises :class:`TypeError` for one there is no kernel for."""
    if np.dtype(dtype) == np.float32:
        return ()
    if np.dtype(dtype) == np.float16:
        return ("-DHALF",)
    raise TypeError(f"kernels for weights in {np.dtype(dtype)}: expected float32 or float16")


def load_kernels(dtype: Any) -> "Kernels | None":
    """The kernels for weights of this dtype on CuPy's current device; None, with a warning, where they do not compile.

    The first time takes seconds; CuPy keeps the result on disk. Raises what CuPy raises if the GPU's memory is full.
    """
    try:
        return Kernels(dtype)
    except Exception as error:  # CuPy raises its own types, the compiler's and the driver's
        if is_full(error):
            raise
        why = (str(error) or repr(error)).strip().splitlines()[0]
        warnings.warn(f"the GPU's kernels do not compile here, so it is slower: {why}", stacklevel=2)
        return None


class Kernels:
    """The kernels for weights of one dtype. Each runs on CuPy's current stream."""

    def __init__(self, dtype: Any) -> None:
        """Compile them for CuPy's current device. Raises what CuPy raises if that fails."""
        import cupy

        self.dtype = np.dtype(dtype)
        module = cupy.RawModule(code=source(), options=options(dtype))
        self._functions = {name: module.get_function(name) for name in NAMES}  # the first compiles all

    def layer_norm(self, x: Array, weight: Array, bias: Array, out: Array, eps: float = 1e-5) -> None:
        """:func:`minwhisper.layers.layer_norm`: x (…, D), weight (D,), bias (D,) -> out (…, D), which may be x."""
        width = x.shape[-1]
        _check(np.float32, x, out)
        _check(self.dtype, weight, bias)
        assert out.shape == x.shape
        assert weight.shape == bias.shape == (width,)
        arguments = (x, weight, bias, out, np.int32(width), np.float32(eps))
        self._launch("layer_norm", (x.size // width,), arguments, shared=WARPS)

    def bias_gelu(self, x: Array, bias: Array) -> None:
        """In place, x = gelu(x + bias): x (…, F), bias (F,)."""
        _check(np.float32, x)
        _check(self.dtype, bias)
        assert bias.shape == x.shape[-1:]
        assert x.size < 2**31
        self._launch("bias_gelu", (math.ceil(x.size / THREADS),), (x, bias, np.int32(bias.size), np.int32(x.size)))

    def softmax(self, scores: Array, past: int | None = None) -> None:
        """:func:`minwhisper.layers.softmax` in place: scores (…, S, T).

        With ``past``, that of :func:`minwhisper.layers.causal_mask`, row i sees the columns up to ``past`` + i only,
        and the others become 0.
        """
        length, columns = scores.shape[-2:]
        _check(np.float32, scores)
        assert past is None or past >= 0
        arguments = (scores, np.int32(columns), np.int32(length), np.int32(-1 if past is None else past))
        self._launch("softmax", (scores.size // columns,), arguments, shared=WARPS)

    def embed(self, tokens: Array, table: Array, positions: Array, position: Array, x: Array) -> None:
        """:func:`minwhisper.decoder.embed` of one token a text.

        tokens (R,) int32, table (V, D), positions (S, D), position (1,) int32, how many tokens came before -> x
        (R, D). Nothing checks that the tokens are in the table and the position among the positions.
        """
        rows, width = x.shape
        _check(np.int32, tokens, position)
        _check(self.dtype, table, positions)
        _check(np.float32, x)
        assert tokens.shape == (rows,)
        assert position.size == 1
        assert table.shape[1:] == positions.shape[1:] == (width,)
        self._launch("embed", (rows,), (tokens, table, positions, position, x, np.int32(width)))

    def matvec(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        y: Array,
        *,
        residual: Array | None = None,
        gelu: bool = False,
    ) -> None:
        """:func:`minwhisper.layers.linear` for few rows, and what follows it.

        x (R, I), weight (O, I), bias (O,), residual (R, O) -> y (R, O), which may be the residual but not x:
        y = gelu(x Wᵀ + b) + residual. A weight is read once for every eight rows. It is read four numbers at a
        time if I is a multiple of 4 and it begins at a multiple of 16 bytes.
        """
        rows, inner = x.shape
        outer = len(weight)
        _check(np.float32, x, y, *(() if residual is None else (residual,)))
        _check(self.dtype, weight, *(() if bias is None else (bias,)))
        assert weight.shape == (outer, inner)
        assert y.shape == (rows, outer)
        assert bias is None or bias.shape == (outer,)
        assert residual is None or residual.shape == y.shape
        arguments = (
            *(x, weight, NULL if bias is None else bias, NULL if residual is None else residual, y),
            *(np.int32(rows), np.int32(inner), np.int32(outer), np.int32(gelu)),
        )
        blocks = min(MOST_BLOCKS, math.ceil(outer / (WARPS * OUTPUTS)))
        self._launch("matvec", (blocks, math.ceil(rows / TEXTS)), arguments, shared=STAGED)

    def attend_text(self, query_key_value: Array, keys: Array, values: Array, position: Array, out: Array) -> None:
        """New tokens look at their text up to themselves; their keys and values are written into the cache first.

        query_key_value (3, R, D), not scaled, contiguous in the last axis only; keys, values (R, H, room, K); position
        (1,) int32, how many tokens came before -> out (R, D). K is a multiple of 4, at most 64. If there is no room
        nothing happens.
        """
        rows, heads, room, size = keys.shape
        _check(np.float32, query_key_value[0, 0], out)
        _check(self.dtype, keys, values)
        _check(np.int32, position)
        _check_size(size)
        assert values.shape == keys.shape
        assert query_key_value.shape == (3, rows, heads * size)
        assert out.shape == (rows, heads * size)
        assert position.size == 1
        arguments = (
            *(query_key_value, *(np.int32(apart // FLOAT_BYTES) for apart in query_key_value.strides[:2])),
            *(keys, values, position, out),
            *(np.int32(heads), np.int32(size), np.int32(room)),
        )
        self._launch("attend_text", (heads, rows), arguments, shared=_look(1, size, room))

    @staticmethod
    def partial_shape(rows: int, heads: int, positions: int, size: int) -> tuple[int, int, int, int]:
        """The shape of what :meth:`attend_audio` needs to compute in: (R, H, chunks of T, K + 2)."""
        return rows, heads, math.ceil(positions / CHUNK), size + 2

    def attend_audio(self, queries: Array, keys: Array, values: Array, partial: Array, out: Array) -> None:
        """New tokens look at their window, one that all of them hear.

        queries (R, D), not scaled; keys, values (H, T, K); partial, whatever is in it, of :meth:`partial_shape` or
        larger -> out (R, D). K is a multiple of 4, at most 64. What is heard is read once for every eight texts.
        """
        rows = len(queries)
        heads, positions, size = keys.shape
        _check(np.float32, queries, partial, out)
        _check(self.dtype, keys, values)
        _check_size(size)
        assert values.shape == keys.shape
        assert queries.shape == out.shape == (rows, heads * size)
        needed = self.partial_shape(rows, heads, positions, size)
        assert partial.size >= math.prod(needed)
        chunks = needed[2]
        shape = (np.int32(heads), np.int32(size))
        arguments = (queries, keys, values, partial, np.int32(rows), *shape, np.int32(positions))
        together = min(rows, TEXTS)
        grid = (chunks, heads, math.ceil(rows / TEXTS))
        self._launch("attend_audio", grid, arguments, shared=_look(together, size, together * CHUNK))
        self._launch("combine_audio", (heads, rows), (partial, out, *shape, np.int32(chunks)), threads=MOST_SIZE)

    def _launch(
        self, name: str, grid: tuple[int, ...], arguments: tuple[Any, ...], *, shared: int = 0, threads: int = THREADS
    ) -> None:
        """Run a kernel with so many numbers of shared memory a block. An empty array needs none."""
        if 0 not in grid:
            self._functions[name](grid, (threads,), arguments, shared_mem=shared * FLOAT_BYTES)


def _look(texts: int, size: int, scores: int) -> int:
    """Numbers of shared memory that attention takes, see ``Look`` in the source."""
    return texts * size + 2 * TEXTS + 4 * THREADS + scores


def _check(dtype: Any, *arrays: Array) -> None:
    """The kernels see addresses only: another dtype or layout would be read as numbers that are not there."""
    for array in arrays:
        assert array.dtype == dtype, f"expected {np.dtype(dtype)}, got {array.dtype}"
        assert array.flags.c_contiguous, f"expected a contiguous array, got strides {array.strides}"


def _check_size(size: int) -> None:
    assert size % 4 == 0, f"the width of a head: expected a multiple of 4, got {size}"
    assert size <= MOST_SIZE, f"the width of a head: expected at most {MOST_SIZE}, got {size}"
