"""The values in files, and how they become arrays.

A checkpoint is a table of contents and a long run of bytes. Both formats that minwhisper reads come down to one
:class:`TensorInfo` for each name: what is stored, at which offset, in which shape. :class:`Storage` turns that into
an array: it reads the bytes a block at a time and converts them straight into the array that is handed out.

The files are read and not mapped into memory. If a mapped file is truncated by another process, touching what is gone
kills the process (SIGBUS); a read that comes back short is an error that can be reported.

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
    "bfloat16": "<u2",  # NumPy has no such type: the bits are read as integers and widened in _decode
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint8": "|u1",
    "bool": "|b1",
}
"""The types a tensor can be stored in, with NumPy's code for the bytes (both formats are little-endian)."""

_BLOCK = 1 << 18  # numbers converted at a time: 1 MB of float32, so that temporaries stay in the cache


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: ``offset`` counts from the first byte of the first file."""

    shape: tuple[int, ...]
    dtype: str  # a key of DTYPES
    offset: int

    @property
    def nbytes(self) -> int:
        """How many bytes it fills."""
        return prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


class Storage:
    """One or several files as one run of bytes; nothing is joined on disk or in memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Open the files, in order. Raises :class:`WeightsError` naming a file that cannot be opened."""
        self.paths = tuple(paths)
        self.name = " + ".join(str(path) for path in paths)  # for messages
        self.starts = [0]  # of each file in the run; the last entry is the size of the run
        self._files: list[BufferedReader] = []
        self._lock = threading.Lock()  # threads share the files, and a file has one position
        for path in self.paths:
            try:
                file = path.open("rb")
                self._files.append(file)
                self.starts.append(self.starts[-1] + file.seek(0, 2))
            except OSError as error:
                self.close()
                raise _unreadable(path, error) from error

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return self.starts[-1]

    def read_bytes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the bytes from ``start`` up to ``stop``, fewer if the files end before.

        Raises :class:`WeightsError` for a file that cannot be read, or that has become shorter since it was opened.
        """
        if not self._files:
            raise ValueError(f"{self.name}: closed already; read inside the with statement")
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
                    raise _unreadable(path, error) from error
                if count != last - first:
                    raise WeightsError(
                        f"{path}: has become shorter while it was read; replace a model by renaming the new file, and "
                        "load it again"
                    )
        return found

    def read(self, tensor: TensorInfo, dtype: str) -> Array:
        """Return a fresh, C-contiguous array of the tensor's values in the wanted dtype."""
        out = np.empty(tensor.shape, dtype)
        self.read_into(tensor, out)
        return out

    def read_into(self, tensor: TensorInfo, out: Array, first_row: int = 0) -> bool:
        """Write the tensor's values into an array of its shape, or the rows from ``first_row`` on into a shorter one.

        Returns whether all of them are finite in the dtype of the array, which may have any order in memory. The values
        are converted block by block, so nothing larger than a block exists beside it.
        """
        finite = True
        rows = np.atleast_1d(out)
        width = prod(rows.shape[1:])
        start = first_row * width
        rows_a_block = max(1, _BLOCK // max(width, 1))
        for first in range(0, len(rows), rows_a_block):
            part = rows[first : first + rows_a_block]
            numbers = self._numbers(tensor, start + first * width, start + first * width + part.size)
            # Converted in their order, then copied: two contiguous passes are faster than one strided pass.
            with np.errstate(over="ignore", invalid="ignore"):
                numbers = numbers.astype(out.dtype, casting="same_kind", copy=False)
            finite = finite and all_finite(numbers)
            np.copyto(part, numbers.reshape(part.shape))
        return finite

    def is_finite(self, tensor: TensorInfo) -> bool:
        """Return whether all values of a tensor are finite in the type in which they are stored."""
        return all(map(all_finite, self._blocks(tensor)))

    def equal(self, one: TensorInfo, other: TensorInfo) -> bool:
        """Whether two tensors hold the same numbers in the same shape, each in a type of its own if need be."""
        return one == other or (
            one.shape == other.shape
            and all(np.array_equal(*pair) for pair in zip(self._blocks(one), self._blocks(other), strict=True))
        )

    def _blocks(self, tensor: TensorInfo) -> Iterator[Array]:
        """The tensor's numbers in their order, a block at a time."""
        size = prod(tensor.shape)
        for first in range(0, size, _BLOCK):
            yield self._numbers(tensor, first, min(first + _BLOCK, size))

    def _numbers(self, tensor: TensorInfo, first: int, last: int) -> Array:
        """The numbers of a tensor from one place in their order up to another."""
        width = np.dtype(DTYPES[tensor.dtype]).itemsize
        return _decode(self.read_bytes(tensor.offset + first * width, tensor.offset + last * width), tensor.dtype)

    def close(self) -> None:
        """Close the files. Arrays that were read stay valid: they own their values."""
        for file in self._files:
            file.close()
        self._files.clear()


def _unreadable(path: Path, error: OSError) -> WeightsError:
    return WeightsError(f"{path}: cannot be read ({error.strerror or error}); expected a file of weights")


def _decode(raw: NDArray[np.uint8], dtype: str) -> Array:
    """The numbers in a block of bytes."""
    numbers = raw.view(DTYPES[dtype])
    if dtype != "bfloat16":
        return numbers
    # bfloat16 is the upper half of a float32: the lower half is filled with zeros, and nothing is rounded.
    return (numbers.astype(np.uint32) << 16).view(np.float32)


def guess_file_type(head: bytes) -> str:
    """What a file that should hold weights seems to be instead, by its first bytes.

    >>> guess_file_type(b"PK" + bytes([3, 4]))
    'a PyTorch file (a zip of pickles)'
    """
    looks = [
        (head.startswith(b"PK\x03\x04"), "a PyTorch file (a zip of pickles)"),
        (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), "a PyTorch file (a pickle)"),
        (head[8:9] == b"{", "a safetensors file"),
        (head.startswith(b"version https://git-lfs"), "a Git LFS pointer: the weights themselves were not fetched"),
        (head.lstrip()[:1] == b"<", "a web page"),
        (head.startswith(b"lmgg"), "a whisper.cpp (ggml) file"),
        (head[4:].startswith(b"\x0c\0WhisperSpec"), "a CTranslate2 file"),
        (not head, "an empty file"),
    ]
    return next((what for seen, what in looks if seen), f"something else: it begins with {head[:8].hex(' ')}")
