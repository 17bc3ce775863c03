"""Chapter 5: the format of CTranslate2's ``model.bin``, which faster-whisper's checkpoints use.

All numbers are little-endian. A string is its length (u16, including a final NUL) followed by its bytes::

    u32 version, string specification, u32 revision
    u32 count, then for each variable:
        string name, u8 rank, u32 for each dimension, u8 type, u32 bytes, data
    u32 count, then for each alias:
        string alias, string name of the variable

There is no table of contents: to find a tensor, the reader steps over all tensors before it. That takes a few hundred
small steps, because it skips their data.

Walkthrough: section 7.
"""

import struct
from math import prod

import numpy as np

from ..errors import WeightsError
from ..printable import printable
from .storage import DTYPES, Storage, TensorInfo, guess_file_type

MAX_VARIABLES = 20_000
"""The largest number of variables, and of aliases, in a file; the largest Whisper has fewer than a thousand."""

MAX_NAME = 1_000  # bytes of a name; the longest one in use has 50

VERSION = 6
SPECIFICATION = "WhisperSpec"
REVISION = 3
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")  # by type code
_DOWNLOAD_AGAIN = "the file is incomplete or damaged: download it again"
_CONVERT = "convert the model again with ct2-transformers-converter --quantization float16"


def index_ctranslate2(source: Storage) -> dict[str, TensorInfo]:
    """Return all tensors of a ``model.bin`` by name, including aliases.

    Raises ``WeightsError`` for another type of file, an unknown version, specification or type code, quantised
    weights, and a file that is truncated or has trailing bytes.
    """
    reader = _Reader(source)
    reader.header()
    tensors: dict[str, TensorInfo] = {}
    for number in range(reader.count("the count of variables")):
        name = reader.string(f"the name of variable {number}")
        if name in tensors:
            raise WeightsError(f"{source.name}: two variables are named {printable(name, 80)}; {_DOWNLOAD_AGAIN}")
        tensors[name] = reader.tensor(name)
    for number in range(reader.count("the count of aliases")):
        alias = reader.string(f"the name of alias {number}")
        target = reader.string(f"the target of alias {printable(alias, 80)}")
        if target not in tensors or alias in tensors:
            raise WeightsError(
                f"{source.name}: {printable(alias, 80)} cannot be an alias of {printable(target, 80)}; "
                f"{_DOWNLOAD_AGAIN}"
            )
        tensors[alias] = tensors[target]
    if reader.position != source.size:
        extra = source.size - reader.position
        raise WeightsError(f"{source.name}: {extra} bytes follow the last alias; {_DOWNLOAD_AGAIN}")
    return tensors


class _Reader:
    """A cursor in the file. Each method takes the name of the item it reads, for its error message."""

    def __init__(self, source: Storage) -> None:
        self.source = source
        self.position = 0

    def header(self) -> None:
        """Read and check the version, specification and revision."""
        head = self.source.read_bytes(0, 64).tobytes()
        version = self.integer("<I", "the version") if len(head) >= 4 else -1
        if not 1 <= version <= 99 or head[8:9] == b"{":  # not a version, so another type of file
            raise WeightsError(
                f"{self.source.name}: expected CTranslate2's model.bin, this is {guess_file_type(head)}; replace it by "
                "a model.bin converted by CTranslate2, or by model.safetensors"
            )
        if version != VERSION:
            raise WeightsError(f"{self.source.name}: expected version {VERSION}, the file has {version}; {_CONVERT}")
        specification = self.string("the specification")
        if specification != SPECIFICATION:
            raise WeightsError(
                f"{self.source.name}: expected a {SPECIFICATION}, the file has a {printable(specification, 80)}; name "
                "the folder of a Whisper model"
            )
        revision = self.integer("<I", "the revision")
        if not 1 <= revision <= REVISION:
            raise WeightsError(
                f"{self.source.name}: expected {SPECIFICATION} revision {REVISION} or older, the file has {revision}; "
                "use a newer release of minwhisper, or a model converted by an older CTranslate2"
            )

    def take(self, count: int, what: str) -> bytes:
        """Return the next ``count`` bytes."""
        taken = self.source.read_bytes(self.position, self.position + count).tobytes()
        self.skip(count, what)
        return taken

    def skip(self, count: int, what: str) -> None:
        """Step over the next ``count`` bytes, which must exist."""
        missing = self.position + count - self.source.size
        if missing > 0:
            raise WeightsError(
                f"{self.source.name}: the file ends {missing} bytes too early, in {what}; {_DOWNLOAD_AGAIN}"
            )
        self.position += count

    def integer(self, form: str, what: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form), what))[0]
        return value

    def count(self, what: str) -> int:
        """Return the number of entries that follow, checked against a limit before any is read."""
        count = self.integer("<I", what)
        if count > MAX_VARIABLES:
            raise WeightsError(
                f"{self.source.name}: {what} is {count:,}, expected at most {MAX_VARIABLES:,}; {_DOWNLOAD_AGAIN}"
            )
        return count

    def string(self, what: str) -> str:
        length = self.integer("<H", what)
        if length > MAX_NAME:
            raise WeightsError(
                f"{self.source.name}: {what} has {length} bytes, expected at most {MAX_NAME}; {_DOWNLOAD_AGAIN}"
            )
        raw = self.take(length, what)
        text = raw[:-1].decode(errors="replace")
        if raw[-1:] != b"\0" or not text.isprintable():
            raise WeightsError(f"{self.source.name}: {what} is not printable text ({raw[:16]!r}); {_DOWNLOAD_AGAIN}")
        return text

    def tensor(self, name: str) -> TensorInfo:
        """Return the description of a variable, and step over its data."""
        name = printable(name, 80)
        rank = self.integer("<B", name)
        if rank > 3:
            raise WeightsError(
                f"{self.source.name}: {name} has {rank} dimensions, expected at most 3; {_DOWNLOAD_AGAIN}"
            )
        shape: tuple[int, ...] = struct.unpack(f"<{rank}I", self.take(4 * rank, name))
        code = self.integer("<B", name)
        if code >= len(_TYPES):
            raise WeightsError(f"{self.source.name}: {name} has type code {code}, expected 0 to 5; {_CONVERT}")
        dtype = _TYPES[code]
        if rank and dtype.startswith("int"):  # settings are integers too, but scalars
            raise WeightsError(f"{self.source.name}: {name} is quantised to {dtype}, expected float16; {_CONVERT}")
        length = self.integer("<I", name)
        expected = prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if length != expected:
            raise WeightsError(
                f"{self.source.name}: {name}: expected {expected} bytes for shape {shape} in {dtype}, the file has "
                f"{length}; {_DOWNLOAD_AGAIN}"
            )
        tensor = TensorInfo(shape, dtype, self.position)
        self.skip(length, name)
        return tensor
