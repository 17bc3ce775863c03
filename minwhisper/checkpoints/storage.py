"""Chapter 5: read tensors from the bytes of one or several files.

A checkpoint is a table of contents followed by the values of all tensors. Reading the table gives one
``TensorInfo`` per name: shape, dtype and offset. ``Storage`` turns that into an array: it reads block by
block and converts each block straight into the result.

The files are read, not memory-mapped. If another process truncates a mapped file, the next access kills this process
(SIGBUS); a read that comes back short is an error that can be reported.

Walkthrough: section 7.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.backend import Array
from ..common.finite import all_finite
from ..errors import WeightsError

DTYPES: dict[str, str] = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",  # NumPy has no bfloat16: the bits are read as integers and widened in _decode
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint8": "|u1",
    "bool": "|b1",
}
"""The dtypes a tensor can be stored in, and NumPy's type code for each (both formats are little-endian)."""

_BLOCK = 1 << 18  # values converted at a time: 1 MB of float32, so that temporaries stay in the CPU's cache


@dataclass(frozen=True)
class TensorInfo:
    """The shape, dtype and position of a stored tensor."""

    shape: tuple[int, ...]
    dtype: str  # a key of DTYPES
    offset: int  # in bytes, from the start of the first file

    @property
    def nbytes(self) -> int:
        """The size of the stored tensor in bytes."""
        return prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


class Storage:
    """The bytes of one or several files, addressed as if they were concatenated."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Open the files, in order. Raises ``WeightsError`` if one cannot be opened."""
        self.paths = tuple(paths)
        self.name = " + ".join(str(path) for path in paths)  # for messages
        self.starts = [0]  # the offset of each file; the last entry is the total size
        self._files: list[BufferedReader] = []
        self._lock = threading.Lock()  # threads share the files, and each file has a single position
        for path in self.paths:
            try:
                file = path.open("rb")
                self._files.append(file)
                self.starts.append(self.starts[-1] + file.seek(0, 2))
            except OSError as error:
                self.close()
                raise _read_error(path, error) from error

    @property
    def size(self) -> int:
        """The total size of all files in bytes."""
        return self.starts[-1]

    def read_bytes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the bytes from ``start`` up to ``stop``, or fewer if the files end before that.

        Raises ``WeightsError`` if a file cannot be read or has become shorter since it was opened.
        """
        if not self._files:
            raise ValueError(f"{self.name}: already closed; read it inside the with statement")
        stop = min(stop, self.size)
        found = np.empty(max(0, stop - start), np.uint8)
        for number, (path, file) in enumerate(zip(self.paths, self._files, strict=True)):
            first, last = max(start, self.starts[number]), min(stop, self.starts[number + 1])
            if first < last:
                try:
                    with self._lock:
                        file.seek(first - self.starts[number])
                        count = file.readinto(found[first - start : last - start].data)
                except OSError as error:
                    raise _read_error(path, error) from error
                if count != last - first:
                    raise WeightsError(
                        f"{path}: the file became shorter while it was being read; load the model again (to replace a "
                        "model in use, write the new file beside it and rename it)"
                    )
        return found

    def read(self, tensor: TensorInfo, dtype: str) -> Array:
        """Return the tensor as a new C-contiguous array of the given dtype."""
        out = np.empty(tensor.shape, dtype)
        self.read_into(tensor, out)
        return out

    def read_into(self, tensor: TensorInfo, out: Array, first_row: int = 0) -> bool:
        """Read the tensor into ``out``, an array of the same shape, or of fewer rows starting at ``first_row``.

        ``out`` may have any memory layout; the values are converted to its dtype block by block, so the only temporary
        is one block. Returns True if all converted values are finite.
        """
        finite = True
        rows = np.atleast_1d(out)
        width = prod(rows.shape[1:])
        start = first_row * width
        block_rows = max(1, _BLOCK // max(width, 1))
        for first in range(0, len(rows), block_rows):
            block = rows[first : first + block_rows]
            values = self._values(tensor, start + first * width, start + first * width + block.size)
            # First convert, then copy: two contiguous passes are faster than one strided pass.
            with np.errstate(over="ignore", invalid="ignore"):
                values = values.astype(out.dtype, casting="same_kind", copy=False)
            finite = finite and all_finite(values)
            np.copyto(block, values.reshape(block.shape))
        return finite

    def is_finite(self, tensor: TensorInfo) -> bool:
        """Return True if all values of a tensor are finite in the dtype they are stored in."""
        return all(map(all_finite, self._blocks(tensor)))

    def equal(self, one: TensorInfo, other: TensorInfo) -> bool:
        """Return True if two tensors have the same shape and values; their dtypes may differ."""
        return one == other or (
            one.shape == other.shape
            and all(np.array_equal(*pair) for pair in zip(self._blocks(one), self._blocks(other), strict=True))
        )

    def _blocks(self, tensor: TensorInfo) -> Iterator[Array]:
        """Yield the tensor's values in order, one block at a time."""
        size = prod(tensor.shape)
        for first in range(0, size, _BLOCK):
            yield self._values(tensor, first, min(first + _BLOCK, size))

    def _values(self, tensor: TensorInfo, first: int, last: int) -> Array:
        """Return the values ``first`` up to ``last`` of the flattened tensor."""
        width = np.dtype(DTYPES[tensor.dtype]).itemsize
        return _decode(self.read_bytes(tensor.offset + first * width, tensor.offset + last * width), tensor.dtype)

    def close(self) -> None:
        """Close the files. Arrays that were read remain valid."""
        for file in self._files:
            file.close()
        self._files.clear()


def _read_error(path: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"{path}: cannot be read ({error.strerror or error}); expected a weights file: check that it exists, and its "
        "permissions"
    )


def _decode(raw: NDArray[np.uint8], dtype: str) -> Array:
    """Return the values of a block of bytes."""
    values = raw.view(DTYPES[dtype])
    if dtype != "bfloat16":
        return values
    # bfloat16 is the upper half of a float32. Filling the lower half with zeros is exact.
    return (values.astype(np.uint32) << 16).view(np.float32)


def guess_file_type(head: bytes) -> str:
    """Return a description of a file's type from its first bytes.

    >>> guess_file_type(b"PK" + bytes([3, 4]))
    'a PyTorch file (a zip of pickles)'
    """
    types = [
        (head.startswith(b"PK\x03\x04"), "a PyTorch file (a zip of pickles)"),
        (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), "a PyTorch file (a pickle)"),
        (head[8:9] == b"{", "a safetensors file"),
        (head.startswith(b"version https://git-lfs"), "a Git LFS pointer, not the weights themselves"),
        (head.lstrip()[:1] == b"<", "a web page"),
        (head.startswith(b"lmgg"), "a whisper.cpp (ggml) file"),
        (head[4:].startswith(b"\x0c\0WhisperSpec"), "a CTranslate2 file"),
        (not head, "an empty file"),
    ]
    return next((name for matches, name in types if matches), f"an unknown file that begins with {head[:8].hex(' ')}")
