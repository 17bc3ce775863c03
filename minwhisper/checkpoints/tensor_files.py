"""Chapter 5: read a checkpoint's tensors by name, from either format.

``open_tensors`` returns a ``TensorFile`` for the files that ``checkpoints.sources`` found. The
formats differ only in their table of contents. That of safetensors is read here: eight bytes with the length of a JSON
header, the header (name → dtype, shape, first and last byte), then the data.

Walkthrough: section 7.
"""

import difflib
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ..common.backend import Array
from ..common.untrusted import MAX_TEXT_BYTES, parse_json
from ..errors import WeightsError
from ..printable import printable
from .ctranslate2 import index_ctranslate2
from .files import CheckpointFiles
from .storage import Storage, TensorInfo, guess_file_type

MAX_TENSORS = 20_000
"""The largest number of tensors in a checkpoint; the largest Whisper has 1,259."""

_SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


class TensorFile:
    """The tensors of a checkpoint by name; values are read on request.

    Use it in a ``with`` statement, or call ``close``.
    """

    def __init__(self, label: str, source: Storage, tensors: Mapping[str, TensorInfo]) -> None:
        """Wrap the ``tensors`` stored in ``source``; ``label`` names the checkpoint in messages."""
        self.label = label
        self._source = source
        self._tensors = tensors

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by name."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def dtype(self, name: str) -> str:
        """Return the dtype a tensor is stored in, such as ``"float16"`` or ``"bfloat16"``."""
        return self._find(name).dtype

    def read(self, name: str, dtype: str) -> Array:
        """Return the tensor as a new C-contiguous array of the given dtype.

        Raises ``WeightsError`` if there is no tensor of this name.
        """
        return self._source.read(self._find(name), dtype)

    def read_into(self, name: str, out: Array, first_row: int = 0) -> bool:
        """Read the tensor into ``out``, an array of the same shape, or of fewer rows starting at ``first_row``.

        Returns True if all values in ``out`` are finite. Raises ``WeightsError`` if there is no tensor of this
        name.
        """
        return self._source.read_into(self._find(name), out, first_row)

    def is_finite(self, name: str) -> bool:
        """Return True if all stored values of a tensor are finite."""
        return self._source.is_finite(self._find(name))

    @property
    def size(self) -> int:
        """The total size of all files in bytes."""
        return self._source.size

    def nbytes(self, name: str) -> int:
        """Return the size of a stored tensor in bytes."""
        return self._find(name).nbytes

    def equal(self, name: str, other: str) -> bool:
        """Return True if two tensors have the same shape and values; aliases are equal without reading."""
        return self._source.equal(self._find(name), self._find(other))

    def close(self) -> None:
        """Close the files. Arrays that were read remain valid."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, name: str) -> TensorInfo:
        if name in self._tensors:
            return self._tensors[name]
        near = difflib.get_close_matches(name, self._tensors, n=1)
        hint = f"did you mean {near[0]}?" if near else "the file has none with a similar name"
        raise WeightsError(f"{self.label}: no tensor is named {printable(name, 80)}; {printable(hint, 100)}")


def open_tensors(files: CheckpointFiles) -> TensorFile:
    """Open a checkpoint's weights, in one file or several.

    Raises ``WeightsError``, which names the file and the tensor, if they cannot be read.
    """
    source = Storage(files.weights)
    try:
        index = index_ctranslate2 if files.format == "ctranslate2" else index_safetensors
        return TensorFile(files.label, source, index(source))
    except WeightsError:
        source.close()
        raise


def index_safetensors(source: Storage) -> dict[str, TensorInfo]:
    """Return all tensors of one or several safetensors files by name.

    Raises ``WeightsError`` for another type of file, a damaged one, or an implausibly long header.
    """
    tensors: dict[str, TensorInfo] = {}
    for number, path in enumerate(source.paths):
        start, end = source.starts[number : number + 2]
        length = _header_length(source, number)
        header = parse_json(source.read_bytes(start + 8, start + 8 + length).tobytes(), str(path))
        header.pop("__metadata__", None)
        if len(tensors) + len(header) > MAX_TENSORS:
            raise WeightsError(
                f"{path}: expected at most {MAX_TENSORS:,} tensors, as in a Whisper model, the file has more; download "
                "the file again"
            )
        for name, entry in header.items():
            shown = printable(name, 80)
            if name in tensors:
                raise WeightsError(f"{path}: {shown} is also in another shard; are the shards of one checkpoint?")
            dtype = _SAFETENSORS_TYPES.get(entry["dtype"])
            if dtype is None or (dtype.endswith(("int8", "int16")) and len(entry["shape"]) > 1):
                raise WeightsError(
                    f"{path}: {shown} is stored as {printable(entry['dtype'], 40)}, expected F16, BF16 or F32; "
                    "quantised weights are not supported: use the checkpoint before quantisation"
                )
            offset = start + 8 + length + entry["data_offsets"][0]
            tensors[name] = TensorInfo(tuple(entry["shape"]), dtype, offset)
            if offset + tensors[name].nbytes > end:  # False after the library's check, unless the file was replaced
                raise WeightsError(f"{path}: {shown} ends after the end of the file; load it again")
    return tensors


def _header_length(source: Storage, number: int) -> int:
    """Return the length of a file's header, after validating the file with the safetensors library.

    The library checks that the header is complete, and that the shapes and dtypes match the size of the file. Its
    arrays are not used: bfloat16 would need another package, and a conversion to float32 another copy.
    """
    from safetensors import SafetensorError, safe_open

    path, start, end = source.paths[number], *source.starts[number : number + 2]
    head = source.read_bytes(start, min(start + 64, end)).tobytes()
    found = guess_file_type(head)
    if found != "a safetensors file":
        raise WeightsError(f"{path}: expected a safetensors file, this is {found}; download the file again")
    length = int.from_bytes(head[:8], "little")
    if length > MAX_TEXT_BYTES:
        raise WeightsError(
            f"{path}: the safetensors file is incomplete or damaged (its header has {length:,} bytes, expected at "
            f"most {MAX_TEXT_BYTES:,}); download the file again"
        )
    try:
        with safe_open(path, framework="numpy"):
            return length
    except (SafetensorError, OSError, ValueError) as error:
        problem = printable(" ".join(str(error).split()), 300)
        raise WeightsError(
            f"{path}: the safetensors file is incomplete or damaged ({problem}); download the file again"
        ) from error
