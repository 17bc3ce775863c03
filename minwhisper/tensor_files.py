"""A checkpoint's tensors by name, whatever the format of its files.

:func:`open_tensors` gives a :class:`TensorFile` for the files that :mod:`minwhisper.sources` found; what differs
between the formats is only how their table of contents is read. The one of safetensors is here: eight bytes with the
length of a JSON header, the header (name → type, shape, first and last byte), then the data.

Walkthrough: section 7.
"""

import difflib
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from .backend import Array
from .byte_map import ByteMap, StoredTensor, describe_bytes
from .checkpoint_files import CheckpointFiles
from .ctranslate2 import index_ctranslate2
from .errors import WeightsError

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

    def __init__(self, label: str, source: ByteMap, tensors: Mapping[str, StoredTensor]) -> None:
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

    def fill(self, name: str, out: Array, first_row: int = 0) -> None:
        """Write the tensor into an array of its shape, or the rows from ``first_row`` on into a shorter one.

        Raises :class:`WeightsError` for a name that is not there.
        """
        self._source.fill(self._find(name), out, first_row)

    def same(self, name: str, other: str) -> bool:
        """Whether two names stand for the same numbers in the same shape; nothing is read if one is an alias."""
        return self._source.same(self._find(name), self._find(other))

    def close(self) -> None:
        """Let go of the files. Arrays that were read stay valid."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, name: str) -> StoredTensor:
        if name in self._tensors:
            return self._tensors[name]
        near = difflib.get_close_matches(name, self._tensors, n=1)
        hint = f"is it {near[0]}?" if near else f"it has {len(self._tensors)} others"
        raise WeightsError(f"{self.label}: no tensor is called {name}; {hint}")


def open_tensors(files: CheckpointFiles) -> TensorFile:
    """Open a checkpoint's weights, in one file or several.

    Raises :class:`WeightsError` naming the file, and the tensor where one is to blame, if they cannot be read.
    """
    source = ByteMap(files.weights)
    try:
        index = index_ctranslate2 if files.format == "ctranslate2" else index_safetensors
        return TensorFile(files.label, source, index(source))
    except WeightsError:
        source.close()
        raise


def index_safetensors(source: ByteMap) -> dict[str, StoredTensor]:
    """Every tensor of a safetensors file, or of the shards of one, by name."""
    tensors: dict[str, StoredTensor] = {}
    for number, path in enumerate(source.paths):
        start, end = source.starts[number : number + 2]
        _validate(source, number)
        length = int.from_bytes(source.bytes(start, start + 8).tobytes(), "little")
        header = json.loads(source.bytes(start + 8, start + 8 + length).tobytes())
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if name in tensors:
                raise WeightsError(f"{path}: {name} is in another shard too; the shards are not of one checkpoint")
            dtype = _SAFETENSORS_TYPES.get(entry["dtype"])
            if dtype is None or (dtype.endswith(("int8", "int16")) and len(entry["shape"]) > 1):
                raise WeightsError(
                    f"{path}: {name} is stored as {entry['dtype']}, expected F16, BF16 or F32; quantised weights are "
                    "not read here: take the checkpoint that they were made from"
                )
            offset = start + 8 + length + entry["data_offsets"][0]
            tensors[name] = StoredTensor(tuple(entry["shape"]), dtype, offset)
            assert offset + tensors[name].nbytes <= end  # as the library has checked
    return tensors


def _validate(source: ByteMap, number: int) -> None:
    """Let the safetensors library judge one file; from then on its header can be trusted.

    The library checks that the header is whole, and that shapes and types add up to exactly the bytes there are. Its
    own arrays are not used: for bfloat16 they need another package, and to float32 they would come by a copy more.
    """
    from safetensors import SafetensorError, safe_open

    path = source.paths[number]
    try:
        with safe_open(path, framework="numpy"):
            return
    except (SafetensorError, OSError, ValueError) as error:
        head = source.bytes(source.starts[number], source.starts[number] + 64).tobytes()
        head = head[: source.starts[number + 1] - source.starts[number]]
        look = describe_bytes(head)
        problem = (
            f"the safetensors file is incomplete or damaged ({' '.join(str(error).split())})"
            if look == "a safetensors file"
            else f"expected a safetensors file, this is {look}"
        )
        raise WeightsError(f"{path}: {problem}; fetch the file again") from error
