"""Numbers that lie in files, and how they become arrays.

A checkpoint is a table of contents and a long run of bytes. Both formats that minwhisper reads come down to one
:class:`StoredTensor` for each name: what is stored, where it begins, in which shape. :class:`ByteMap` turns that
into an array. It maps the files into memory instead of reading them, so opening costs nothing, only the pages of the
tensor asked for are touched, and the numbers go from the map straight into the array that is handed out.

Walkthrough: section 7.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .backend import Array
from .errors import WeightsError

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
class StoredTensor:
    """Where a tensor lies: ``offset`` counts from the first byte of the first file."""

    shape: tuple[int, ...]
    dtype: str  # a key of DTYPES
    offset: int

    @property
    def nbytes(self) -> int:
        """How many bytes it fills."""
        return prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


class ByteMap:
    """One or several files as one run of bytes, mapped read-only; nothing is joined on disk or in memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Map the files, in order. Raises :class:`WeightsError` naming a file that cannot be opened."""
        self.paths = tuple(paths)
        self.name = " + ".join(str(path) for path in paths)  # for messages
        self.starts = [0]  # of each file in the run; the last entry is the size of the run
        self._maps: list[NDArray[np.uint8]] = []
        self._views: list[mmap.mmap] = []
        for path in self.paths:
            try:
                with path.open("rb") as file:
                    # A file without bytes cannot be mapped; its table of contents will be missed soon enough.
                    empty = path.stat().st_size == 0
                    view = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                mapped = np.frombuffer(view, np.uint8)
            except OSError as error:
                raise WeightsError(f"{path}: cannot be read ({error.strerror}); expected a file of weights") from error
            self._maps.append(mapped)
            if isinstance(view, mmap.mmap):
                self._views.append(view)
            self.starts.append(self.starts[-1] + mapped.size)

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return self.starts[-1]

    def bytes(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The bytes from ``start`` up to ``stop``, fewer if the files end before.

        A view of the map where they lie in one file, and a copy where they straddle several.
        """
        pieces = [
            mapped[max(start - first, 0) : stop - first]
            for mapped, first in zip(self._maps, self.starts[:-1], strict=True)
            if first < stop and start < first + mapped.size
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.uint8), *pieces])

    def read(self, tensor: StoredTensor, dtype: str) -> Array:
        """A fresh, C-contiguous array of the tensor's numbers in the wanted dtype."""
        out = np.empty(tensor.shape, dtype)
        self.fill(tensor, out)
        return out

    def fill(self, tensor: StoredTensor, out: Array, first_row: int = 0) -> None:
        """Write the tensor's numbers into an array of its shape, or the rows from ``first_row`` on into a shorter one.

        The array may lie in memory in any order. The numbers are converted block by block, so nothing larger than a
        block exists beside it.
        """
        rows = np.atleast_1d(out)
        width = prod(rows.shape[1:])
        start = first_row * width
        rows_a_block = max(1, _BLOCK // max(width, 1))
        for first in range(0, len(rows), rows_a_block):
            part = rows[first : first + rows_a_block]
            numbers = self._numbers(tensor, start + first * width, start + first * width + part.size)
            # Converted as they lie, then put where they belong: two simple passes take less time than one crooked one.
            np.copyto(part, numbers.astype(out.dtype, casting="same_kind", copy=False).reshape(part.shape))
        if out.size > _BLOCK and hasattr(mmap, "MADV_DONTNEED"):
            # What has been read would count as this process's memory until the system wants it back.
            for view in self._views:
                view.madvise(mmap.MADV_DONTNEED)

    def same(self, one: StoredTensor, other: StoredTensor) -> bool:
        """Whether two tensors hold the same numbers in the same shape, each in a type of its own if need be."""
        return one == other or (
            one.shape == other.shape
            and all(np.array_equal(*pair) for pair in zip(self._blocks(one), self._blocks(other), strict=True))
        )

    def _blocks(self, tensor: StoredTensor) -> Iterator[Array]:
        """The tensor's numbers in their order, a block at a time."""
        size = prod(tensor.shape)
        for first in range(0, size, _BLOCK):
            yield self._numbers(tensor, first, min(first + _BLOCK, size))

    def _numbers(self, tensor: StoredTensor, first: int, last: int) -> Array:
        """The numbers of a tensor from one place in their order up to another."""
        if not self._maps:
            raise ValueError(f"{self.name}: closed already; read inside the with statement")
        width = np.dtype(DTYPES[tensor.dtype]).itemsize
        return _decode(self.bytes(tensor.offset + first * width, tensor.offset + last * width), tensor.dtype)

    def close(self) -> None:
        """Let go of the files. Arrays that were read stay valid: they own their numbers."""
        self._maps.clear()
        self._views.clear()


def _decode(raw: NDArray[np.uint8], dtype: str) -> Array:
    """The numbers in a block of bytes."""
    numbers = raw.view(DTYPES[dtype])
    if dtype != "bfloat16":
        return numbers
    # bfloat16 is the upper half of a float32: the lower half is filled with zeros, and nothing is rounded.
    return (numbers.astype(np.uint32) << 16).view(np.float32)


def describe_bytes(head: bytes) -> str:
    """What a file that should hold weights seems to be instead, by its first bytes.

    >>> describe_bytes(b"PK" + bytes([3, 4]))
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
