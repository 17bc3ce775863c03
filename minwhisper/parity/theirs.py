"""The arrays of another implementation, in a safetensors or NumPy file, or in memory."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..checkpoints.storage import Storage, guess_file_type
from ..checkpoints.tensor_files import index_safetensors
from ..common.backend import Array
from ..errors import WeightsError
from ..printable import printable


class Theirs:
    """Named arrays that are read when they are needed."""

    def __init__(self, label: str, shapes: Mapping[str, tuple[int, ...]], read: Any) -> None:
        """Take the shape of each array by name, and ``read``, a function from name to array."""
        self.label = label
        self._shapes, self._read = shapes, read

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Self:
        """Return arrays that are in memory."""
        return cls("the arrays", {name: np.shape(array) for name, array in arrays.items()}, arrays.__getitem__)

    def names(self) -> list[str]:
        """Return the names in the order of the file."""
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array."""
        return self._shapes[name]

    def read(self, name: str) -> Array:
        """Return an array: float64, or int64 for whole numbers. Raises ``WeightsError`` for NaN and other types."""
        array = np.asarray(self._read(name))
        if array.dtype.kind in "iub":
            return array.astype(np.int64)
        if array.dtype.kind != "f":
            raise WeightsError(f"{self.label}: {printable(name, 80)} is of {array.dtype}, expected real numbers")
        if np.isnan(array).any():
            places = np.argwhere(np.isnan(array))
            raise WeightsError(
                f"{self.label}: {printable(name, 80)} has {len(places):,} values that are NaN, the first at "
                f"{places[0].tolist()}; find the operation that made it (often 0 / 0, or inf - inf) and compare again"
            )
        return array.astype(np.float64)


def open_theirs(path: Path) -> Theirs:
    """Open a file of arrays, ``.npz`` or safetensors.

    Raises ``WeightsError`` if it is neither, damaged or empty.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); expected a file of arrays") from None
    theirs = _open_npz(path) if head.startswith(b"PK") else _open_safetensors(path, head)
    if not theirs.names():
        raise WeightsError(f"{path}: no arrays; expected the values of stages by name")
    return theirs


def _open_safetensors(path: Path, head: bytes) -> Theirs:
    if head[8:9] != b"{":
        raise WeightsError(f"{path}: expected safetensors or .npz, this is {guess_file_type(head)}")
    source = Storage([path])
    tensors = index_safetensors(source)

    def read(name: str) -> Array:
        tensor = tensors[name]
        return source.read(tensor, "float32" if tensor.dtype == "bfloat16" else tensor.dtype)

    return Theirs(str(path), {name: tensor.shape for name, tensor in tensors.items()}, read)


def _open_npz(path: Path) -> Theirs:
    try:
        stored = np.load(path, allow_pickle=False)
        shapes: dict[str, tuple[int, ...]] = {}
        for name in stored.files:
            with stored.zip.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                read_header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(file)
                if dtype.kind in "fiub":
                    shapes[name] = shape
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: not a complete .npz file of arrays ({printable(str(error), 100)})") from None

    def read(name: str) -> Array:
        try:
            return stored[name]
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path}: {printable(name, 80)} is damaged ({printable(str(error), 100)})") from None

    return Theirs(str(path), shapes, read)
