"""A checkpoint's tensors by name, whatever the format of its files.

:func:`open_tensors` gives a :class:`TensorFile` for the files that :mod:`minwhisper.checkpoints.sources` found; what
differs
between the formats is only how their table of contents is read. The one of safetensors is here: eight bytes with the
length of a JSON header, the header (name → type, shape, first and last byte), then the data.

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
"""Tensors that one checkpoint may have; the largest Whisper has 1,259."""

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
    """Named tensors in files: what is there at no cost, and the numbers when they are asked for.

    To be used in a ``with`` statement, or closed by hand.
    """

    def __init__(self, label: str, source: Storage, tensors: Mapping[str, TensorInfo]) -> None:
        """``tensors`` says where in ``source`` each name lies; ``label`` is what messages call the checkpoint."""
        self.label = label
        self._source = source
        self._tensors = tensors

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, by name."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def dtype(self, name: str) -> str:
        """The type in which a tensor is stored, ``"float16"`` or ``"bfloat16"`` for example."""
        return self._find(name).dtype

    def read(self, name: str, dtype: str) -> Array:
        """The tensor as an array of that dtype: fresh, writable, C-contiguous, converted straight from the file.

        Raises :class:`WeightsError` for a name that is not there.
        """
        return self._source.read(self._find(name), dtype)

    def read_into(self, name: str, out: Array, first_row: int = 0) -> bool:
        """Write the tensor into an array of its shape, or the rows from ``first_row`` on into a shorter one.

        Returns whether all values are finite in the array. Raises :class:`WeightsError` for a name that is not there.
        """
        return self._source.read_into(self._find(name), out, first_row)

    def is_finite(self, name: str) -> bool:
        """Return whether all values of a tensor are finite as they are stored."""
        return self._source.is_finite(self._find(name))

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return self._source.size

    def nbytes(self, name: str) -> int:
        """The bytes that a tensor fills."""
        return self._find(name).nbytes

    def equal(self, name: str, other: str) -> bool:
        """Whether two names stand for the same numbers in the same shape; nothing is read if one is an alias."""
        return self._source.equal(self._find(name), self._find(other))

    def close(self) -> None:
        """Let go of the files. Arrays that were read stay valid."""
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
        hint = f"is it {near[0]}?" if near else f"it has {len(self._tensors)} others"
        raise WeightsError(f"{self.label}: no tensor is called {printable(name, 80)}; {printable(hint, 100)}")


def open_tensors(files: CheckpointFiles) -> TensorFile:
    """Open a checkpoint's weights, in one file or several.

    Raises :class:`WeightsError` naming the file, and the tensor where one is to blame, if they cannot be read.
    """
    source = Storage(files.weights)
    try:
        index = index_ctranslate2 if files.format == "ctranslate2" else index_safetensors
        return TensorFile(files.label, source, index(source))
    except WeightsError:
        source.close()
        raise


def index_safetensors(source: Storage) -> dict[str, TensorInfo]:
    """Return every tensor of a safetensors file, or of the shards of one, by name.

    Raises :class:`WeightsError` for another kind of file, a damaged one, and one whose table of contents is longer than
    that of any model.
    """
    tensors: dict[str, TensorInfo] = {}
    for number, path in enumerate(source.paths):
        start, end = source.starts[number : number + 2]
        length = _validate(source, number)
        header = parse_json(source.read_bytes(start + 8, start + 8 + length).tobytes(), str(path))
        header.pop("__metadata__", None)
        if len(tensors) + len(header) > MAX_TENSORS:
            raise WeightsError(
                f"{path}: expected the tensors of a Whisper model, at most {MAX_TENSORS:,}, there are more; fetch the "
                "file again"
            )
        for name, entry in header.items():
            shown = printable(name, 80)
            if name in tensors:
                raise WeightsError(f"{path}: {shown} is in another shard too; the shards are not of one checkpoint")
            dtype = _SAFETENSORS_TYPES.get(entry["dtype"])
            if dtype is None or (dtype.endswith(("int8", "int16")) and len(entry["shape"]) > 1):
                raise WeightsError(
                    f"{path}: {shown} is stored as {printable(entry['dtype'], 40)}, expected F16, BF16 or F32; "
                    "quantised weights are not read here: take the checkpoint that they were made from"
                )
            offset = start + 8 + length + entry["data_offsets"][0]
            tensors[name] = TensorInfo(tuple(entry["shape"]), dtype, offset)
            if offset + tensors[name].nbytes > end:  # the library has checked it, unless the file was replaced since
                raise WeightsError(f"{path}: {shown} ends behind the file; load it again")
    return tensors


def _validate(source: Storage, number: int) -> int:
    """Return the length of a file's header after the safetensors library has judged that header.

    The library checks that the header is whole, and that shapes and types add up to exactly the bytes there are. Its
    own arrays are not used: for bfloat16 they need another package, and to float32 they would come by a copy more.
    """
    from safetensors import SafetensorError, safe_open

    path, start, end = source.paths[number], *source.starts[number : number + 2]
    head = source.read_bytes(start, min(start + 64, end)).tobytes()
    look = guess_file_type(head)
    if look != "a safetensors file":
        raise WeightsError(f"{path}: expected a safetensors file, this is {look}; fetch the file again")
    length = int.from_bytes(head[:8], "little")
    if length > MAX_TEXT_BYTES:
        raise WeightsError(
            f"{path}: the safetensors file is incomplete or damaged (it states a header of {length:,} bytes, expected "
            f"at most {MAX_TEXT_BYTES:,}); fetch the file again"
        )
    try:
        with safe_open(path, framework="numpy"):
            return length
    except (SafetensorError, OSError, ValueError) as error:
        problem = printable(" ".join(str(error).split()), 300)
        raise WeightsError(
            f"{path}: the safetensors file is incomplete or damaged ({problem}); fetch the file again"
        ) from error
