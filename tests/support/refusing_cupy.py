"""A simulated CuPy, built on NumPy, that rejects hidden transfers between CPU and GPU.

CuPy transfers silently: ``float(x)``, ``if x:`` and ``x.tolist()`` download values and wait for the GPU, and an index
that is a list is uploaded. Results are right, but time is lost, and no test without a GPU notices. The arrays of this
module reject all of this, and also NumPy arrays and arrays of another GPU as operands. They record each transfer
through ``common.backend.to_device`` and ``to_numpy``. Like CuPy's memory
pool, they count the allocated bytes and can run out of memory.

Only functions that CuPy has are available: ``FUNCTIONS`` was checked with CuPy 14.
"""

import ctypes
import operator
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

import cuda_on_cpu

FUNCTIONS = """
    add arange argmax argmin ascontiguousarray concatenate cumsum empty empty_like exp expand_dims full full_like log
    matmul max maximum mean min minimum multiply ones pad put_along_axis repeat reshape sqrt stack sum take_along_axis
    tanh transpose triu where zeros zeros_like
"""
METHODS = (
    "all any argmax argmin astype copy cumsum fill max mean min ravel repeat reshape squeeze sum swapaxes transpose"
)
OPERATORS = "add sub mul truediv floordiv mod pow matmul and or xor lt le gt ge eq ne"
CONSTANTS = {name: getattr(np, name) for name in ("float16", "float32", "float64", "int32", "int64", "newaxis", "inf")}
POOL_BLOCK = 512  # bytes: the pool allocates multiples of it


class Transfer(NamedTuple):
    """A transfer between CPU and GPU."""

    up: bool  # to the GPU
    shape: tuple[int, ...]
    nbytes: int
    whose: str  # the calling module


TOTAL = 2 << 30  # bytes of a GPU
MULTIPROCESSORS = 16  # the number of an attribute


class OutOfMemoryError(MemoryError):
    """Like CuPy's error of this name."""


class Device:
    """A GPU, which is the current one inside the context."""

    current = 0

    def __init__(self, number: int | None = None) -> None:
        self.id = Device.current if number is None else number
        self._before: list[int] = []

    def __enter__(self) -> "Device":
        self._before.append(Device.current)
        Device.current = self.id
        return self

    def __exit__(self, *_: object) -> None:
        Device.current = self._before.pop()

    def synchronize(self) -> None: ...


class Ledger:
    """A record of transfers and memory."""

    def __init__(self) -> None:
        self.transfers: list[Transfer] = []
        self.alive = self.peak = 0
        self.kept = 0  # bytes that the pool holds, including blocks for reuse
        self.limit: float = float("inf")  # bytes of the whole memory
        self.pool_limit = 0
        self.outside = 0  # bytes used outside the pool
        self._roots: dict[int, weakref.finalize[Any, Any]] = {}

    def own(self, numbers: np.ndarray) -> None:
        """Count the memory behind an array, once."""
        root = numbers
        while isinstance(root.base, np.ndarray):
            root = root.base
        if id(root) in self._roots:
            return
        if Stream.capturing is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: memory is allocated during a capture")
        size = -(-root.nbytes // POOL_BLOCK) * POOL_BLOCK
        limit = min(self.limit, self.pool_limit or self.limit)
        if self.alive + size > limit:
            raise OutOfMemoryError(
                f"Out of memory allocating {size:,} bytes (allocated so far: {self.alive:,} bytes, "
                f"limit set to: {limit:,} bytes)."
            )
        self.alive += size
        self.peak, self.kept = max(self.peak, self.alive), max(self.kept, self.alive)
        self._roots[id(root)] = weakref.finalize(root, self._release, id(root), size)

    def _release(self, key: int, size: int) -> None:
        del self._roots[key]
        self.alive -= size

    def free_all_blocks(self) -> None:
        """Free the blocks that no array uses, as if each block had the size of its array."""
        self.kept = self.alive

    def free(self) -> int:
        """Return the free bytes, as the driver counts them."""
        return max(0, int(min(self.limit, TOTAL - self.outside)) - self.kept)

    def note(self, up: bool, array: np.ndarray, function: str) -> None:
        """Record a transfer, which only the backend's functions may request."""
        frame = sys._getframe(2)
        caller = f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"
        if caller != f"minwhisper.common.backend.{function}":
            raise TypeError(f"a hidden transfer by {caller}: it has to go through minwhisper.common.backend.{function}")
        while frame.f_globals["__name__"] == "minwhisper.common.backend":
            assert frame.f_back is not None
            frame = frame.f_back
        self.transfers.append(Transfer(up, array.shape, array.nbytes, frame.f_globals["__name__"]))


class Event:
    """An event, which is always complete: nothing here is asynchronous."""

    def __init__(self, disable_timing: bool = False) -> None: ...

    def record(self, stream: "Stream") -> None: ...

    def synchronize(self) -> None: ...


class Stream:
    """A stream that can capture launches: see ``launch``."""

    capturing: list[Callable[[], Any]] | None = None

    def __init__(self, non_blocking: bool = False) -> None:
        self._non_blocking = non_blocking

    def record(self, event: Event) -> Event:
        return event

    def wait_event(self, event: Event) -> None: ...

    def synchronize(self) -> None: ...

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin_capture(self) -> None:
        assert self._non_blocking, "the default stream cannot be captured"
        Stream.capturing = []

    def end_capture(self) -> "Graph":
        recorded, Stream.capturing = Stream.capturing, None
        assert recorded is not None
        return Graph(recorded)


class Graph(NamedTuple):
    """A captured graph."""

    launches: list[Callable[[], Any]]

    def launch(self) -> None:
        for one in self.launches:
            one()


def launch(kernel: Callable[[], Any]) -> None:
    """Run a kernel, or capture it; a replay uses the same addresses."""
    if Stream.capturing is None:
        kernel()
    else:
        Stream.capturing.append(kernel)


LEDGER = Ledger()


def _open(value: Any, device: int) -> Any:
    """Return NumPy's array for an argument. Raises if it is not on this GPU."""
    if isinstance(value, ndarray):
        if value.device.id != device:
            raise ValueError(f"Array device must be same as the current device: {value.device.id}, {device}")
        return value._numbers
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, list | tuple):
        return type(value)(_open(item, device) for item in value)
    return value


def _wrap(value: Any, device: int) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(np.asarray(value), device)
    if isinstance(value, list | tuple):
        return type(value)(_wrap(item, device) for item in value)
    return value


def _on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **how: Any) -> Any:
        device = Device.current
        given = how.get("out")
        with np.errstate(all="ignore"):  # a GPU does not warn
            result = function(*_open(args, device), **{name: _open(value, device) for name, value in how.items()})
        return given if given is not None else _wrap(result, device)

    return call


def _index(index: Any, reading: bool) -> Any:
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        if isinstance(part, list | np.ndarray):
            raise TypeError(f"an index that would have to be uploaded to the GPU: {part!r}")
        if isinstance(part, ndarray) and part.dtype == bool and reading:
            raise TypeError("a boolean index: the number of true values would have to be downloaded")
        assert part is None or part is Ellipsis or isinstance(part, int | np.integer | slice | ndarray), part
    return _open(index, Device.current)


class ndarray:
    """An array on a GPU."""

    __array_ufunc__ = None  # NumPy arrays leave operators to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, numbers: np.ndarray, device: int) -> None:
        self._numbers, self.device = numbers, Device(device)
        LEDGER.own(numbers)

    shape = property(lambda self: self._numbers.shape)
    dtype = property(lambda self: self._numbers.dtype)
    ndim = property(lambda self: self._numbers.ndim)
    size = property(lambda self: self._numbers.size)
    nbytes = property(lambda self: self._numbers.nbytes)
    strides = property(lambda self: self._numbers.strides)
    flags = property(lambda self: self._numbers.flags)
    itemsize = property(lambda self: self._numbers.itemsize)
    T = property(lambda self: _wrap(self._numbers.T, self.device.id))

    def __repr__(self) -> str:
        return f"<{self.dtype} {self.shape} on GPU {self.device.id}>"

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator["ndarray"]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: Any) -> "ndarray":
        return _wrap(_open(self, Device.current)[_index(index, True)], self.device.id)

    def __setitem__(self, index: Any, value: Any) -> None:
        _open(self, Device.current)[_index(index, False)] = _open(value, Device.current)

    def __getattr__(self, name: str) -> Any:
        if name == "data":  # its address
            return types.SimpleNamespace(ptr=self._numbers.ctypes.data)
        raise AttributeError(name)

    def set(self, numbers: np.ndarray, stream: Stream) -> None:
        """Upload from pinned memory."""
        assert numbers.shape == self.shape
        assert numbers.dtype == self.dtype
        LEDGER.note(True, numbers, "send")
        self._numbers[...] = numbers

    def get(self) -> np.ndarray:
        """Download."""
        LEDGER.note(False, self._numbers, "to_numpy")
        return self._numbers.copy()

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"a hidden transfer: {self!r} would have to be downloaded")

    __array__ = __bool__ = __float__ = __int__ = __index__ = __complex__ = tolist = item = tobytes = _refuse


for _name in METHODS.split():

    def _method(self: ndarray, *args: Any, _name: str = _name, **how: Any) -> Any:
        return _on_gpu(lambda numbers, *a, **h: getattr(numbers, _name)(*a, **h))(self, *args, **how)

    setattr(ndarray, _name, _method)

for _name in OPERATORS.split():
    _function = getattr(operator, f"{_name}_" if _name in ("and", "or") else _name)

    def _forward(self: ndarray, other: Any, _do: Any = _function) -> Any:
        return _on_gpu(_do)(self, other)

    def _backward(self: ndarray, other: Any, _do: Any = _function) -> Any:
        return _on_gpu(_do)(other, self)

    setattr(ndarray, f"__{_name}__", _forward)
    if _name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(ndarray, f"__r{_name}__", _backward)
        _inplace = getattr(operator, f"i{_name}")

        def _into(self: ndarray, other: Any, _do: Any = _inplace) -> ndarray:
            _on_gpu(_do)(self, other)
            return self

        setattr(ndarray, f"__i{_name}__", _into)


def _matmul(self: ndarray, other: ndarray) -> ndarray:
    """Multiply as CuPy does: matrices without a copy; with more axes, non-contiguous operands are copied."""
    factors = [self, other]
    if max(self.ndim, other.ndim) > 2:
        factors = [x if x.flags.c_contiguous else _on_gpu(np.ascontiguousarray)(x) for x in factors]
    return _on_gpu(operator.matmul)(*factors)


ndarray.__matmul__ = _matmul  # type: ignore[assignment]

for _name in ("neg", "invert", "abs"):

    def _alone(self: ndarray, _name: str = _name) -> Any:
        return _on_gpu(getattr(operator, _name))(self)

    setattr(ndarray, f"__{_name}__", _alone)

ndarray.__module__ = "cupy"


def asarray(values: Any, dtype: Any = None) -> ndarray:
    """Upload values; an array that is already on the GPU is returned unchanged."""
    if isinstance(values, ndarray):
        return values if dtype is None else values.astype(dtype, copy=False)
    numbers = np.array(values, dtype)
    LEDGER.note(True, numbers, "to_device")
    return ndarray(numbers, Device.current)


class _CuPy(types.ModuleType):
    """The module ``cupy``."""

    def __getattr__(self, name: str) -> Any:
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in FUNCTIONS.split():
            return _on_gpu(getattr(np, name))
        raise AttributeError(f"cupy.{name}: not checked with CuPy yet; see tests/support/refusing_cupy.py")


def at(address: int, dtype: Any, *shape: int) -> np.ndarray:
    """Return the array at an address."""
    count = int(np.prod(shape))
    memory = (ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def _columns(address: int, transposed: int, rows: int, columns: int, stride: int) -> np.ndarray:
    """Return a cuBLAS matrix with ``stride`` values between its columns, or its rows if it is transposed."""
    shape, steps = (rows, columns), (4, 4 * stride)
    if transposed:
        steps = steps[::-1]
    last = sum((size - 1) * step for size, step in zip(shape, steps, strict=True)) // 4
    return as_strided(at(address, np.float32, last + 1), shape, steps)


def _sgemm(handle, a_transposed, b_transposed, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) -> None:
    _sgemm_strided_batched(
        *(handle, a_transposed, b_transposed, m, n, k, alpha),
        *(a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1),
    )


def _sgemm_strided_batched(
    handle, a_transposed, b_transposed, m, n, k, alpha, a, lda, a_step, b, ldb, b_step, beta, c, ldc, c_step, batch
) -> None:
    assert Stream.capturing is None, "cuBLAS cannot be captured"
    scale, keep = (at(factor, np.float32, 1)[0] for factor in (alpha, beta))
    for number in range(batch):
        left = _columns(a + 4 * number * a_step, a_transposed, m, k, lda)
        right = _columns(b + 4 * number * b_step, b_transposed, k, n, ldb)
        out = _columns(c + 4 * number * c_step, 0, m, n, ldc)
        product = scale * (left @ right)
        out[...] = product + keep * out if keep else product


def make(gpus: int = 2) -> types.ModuleType:
    """Return the module ``cupy`` for a machine with that many GPUs."""
    cupy = _CuPy("cupy")
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: gpus,
        memGetInfo=lambda: (LEDGER.free(), TOTAL),
        getDeviceProperties=lambda number: {"name": b"NumPy behind glass", "major": 7, "minor": 5},
        driverGetVersion=lambda: 12080,
        runtimeGetVersion=lambda: 12080,
        deviceGetAttribute=lambda attribute, number: {MULTIPROCESSORS: 6}[attribute],
        cudaDevAttrMultiProcessorCount=MULTIPROCESSORS,
    )
    memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    default = Stream()
    cupy.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        Device=Device,
        Stream=Stream,
        Event=Event,
        runtime=runtime,
        memory=memory,
        cublas=types.SimpleNamespace(sgemm=_sgemm, sgemmStridedBatched=_sgemm_strided_batched),
        device=types.SimpleNamespace(get_cublas_handle=lambda: 1),
        get_current_stream=lambda: default,
        alloc_pinned_memory=bytearray,
    )
    pool = types.SimpleNamespace(
        used_bytes=lambda: LEDGER.alive,
        total_bytes=lambda: LEDGER.kept,
        get_limit=lambda: LEDGER.pool_limit,
        set_limit=lambda size: setattr(LEDGER, "pool_limit", size),
        free_all_blocks=lambda: LEDGER.free_all_blocks(),
    )
    cupy.get_default_memory_pool = lambda: pool  # type: ignore[attr-defined]
    pinned = types.SimpleNamespace(free_all_blocks=lambda: None)
    cupy.get_default_pinned_memory_pool = lambda: pinned  # type: ignore[attr-defined]
    cupy.ndarray, cupy.asarray, cupy.RawModule = ndarray, asarray, RawModule  # type: ignore[attr-defined]
    return cupy


class RawModule(cuda_on_cpu.RawModule):
    """Kernels that run on the CPU, or are captured."""

    def get_function(self, name: str) -> Callable[..., None]:
        """Return the kernel of this name."""
        kernel = super().get_function(name)

        def call(grid: Any, block: Any, arguments: Any, *, shared_mem: int = 0) -> None:
            launch(lambda: kernel(grid, block, arguments, shared_mem=shared_mem))

        return call
