"""The layout of CTranslate2's ``model.bin``, in which many Whisper checkpoints are kept (faster-whisper's, for one).

All numbers are little-endian, a string is its length (u16, counting a final NUL) and its bytes::

    u32 version, string specification, u32 revision
    u32 count, then for each variable:
        string name, u8 rank, u32 for each dimension, u8 type, u32 bytes, data
    u32 count, then for each alias:
        string alias, string name of the variable it stands for

There is no table of contents: to find a tensor, the reader walks over all those before it. That takes a few hundred
small steps, since the data itself is skipped.

Walkthrough: section 7.
"""

import struct
from math import prod

import numpy as np

from ..errors import WeightsError
from ..printable import printable
from .storage import DTYPES, Storage, TensorInfo, guess_file_type

MAX_VARIABLES = 20_000
"""Variables, and aliases, that one file may have; the largest Whisper has fewer than a thousand."""

MAX_NAME = 1_000  # bytes of a name; the longest that is used has 50

VERSION = 6
SPECIFICATION = "WhisperSpec"
REVISION = 3
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")  # by the number that stands for each
_FETCH_AGAIN = "the file is incomplete or damaged: fetch it again"
_CONVERT = "convert the model again with ct2-transformers-converter --quantization float16"


def index_ctranslate2(source: Storage) -> dict[str, TensorInfo]:
    """Every tensor of a ``model.bin`` by name, aliases included.

    Raises :class:`WeightsError` for another kind of file, for a version, specification or type that is not known,
    for quantised weights, and for a file that ends early or goes on after its end.
    """
    reader = _Reader(source)
    reader.header()
    tensors: dict[str, TensorInfo] = {}
    for number in range(reader.count("the count of variables")):
        name = reader.string(f"the name of variable {number}")
        if name in tensors:
            raise WeightsError(f"{source.name}: two variables are called {printable(name, 80)}; {_FETCH_AGAIN}")
        tensors[name] = reader.tensor(name)
    for number in range(reader.count("the count of aliases")):
        alias = reader.string(f"the name of alias {number}")
        target = reader.string(f"the target of alias {printable(alias, 80)}")
        if target not in tensors or alias in tensors:
            raise WeightsError(
                f"{source.name}: {printable(alias, 80)} cannot stand for {printable(target, 80)}; {_FETCH_AGAIN}"
            )
        tensors[alias] = tensors[target]
    if reader.position != source.size:
        more = source.size - reader.position
        raise WeightsError(f"{source.name}: {more} bytes follow after the last alias; {_FETCH_AGAIN}")
    return tensors


class _Reader:
    """A position that moves through the file; every step names what it is after, for the message if it fails."""

    def __init__(self, source: Storage) -> None:
        self.source = source
        self.position = 0

    def header(self) -> None:
        """Version, specification and revision, which say whether the rest can be understood."""
        head = self.source.read_bytes(0, 64).tobytes()
        version = self.integer("<I", "the version") if len(head) >= 4 else -1
        if not 1 <= version <= 99 or head[8:9] == b"{":  # no version at all, so another kind of file
            raise WeightsError(
                f"{self.source.name}: expected CTranslate2's model.bin, it begins like {guess_file_type(head)}; "
                "a folder needs model.bin as CTranslate2 writes it, or model.safetensors"
            )
        if version != VERSION:
            raise WeightsError(f"{self.source.name}: expected version {VERSION}, the file has {version}; {_CONVERT}")
        specification = self.string("the specification")
        if specification != SPECIFICATION:
            raise WeightsError(
                f"{self.source.name}: expected a {SPECIFICATION}, the file holds a {printable(specification, 80)}: not "
                "a Whisper model; name the folder of one"
            )
        revision = self.integer("<I", "the revision")
        if not 1 <= revision <= REVISION:
            raise WeightsError(
                f"{self.source.name}: expected {SPECIFICATION} revision {REVISION} or older, the file has {revision}; "
                "use a release of minwhisper that knows it, or a model converted by an older CTranslate2"
            )

    def take(self, count: int, what: str) -> bytes:
        """The next bytes, few of them."""
        taken = self.source.read_bytes(self.position, self.position + count).tobytes()
        self.skip(count, what)
        return taken

    def skip(self, count: int, what: str) -> None:
        """Step over bytes that must be there."""
        missing = self.position + count - self.source.size
        if missing > 0:
            raise WeightsError(f"{self.source.name}: ends {missing} bytes too early, in {what}; {_FETCH_AGAIN}")
        self.position += count

    def integer(self, form: str, what: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form), what))[0]
        return value

    def count(self, what: str) -> int:
        """A number of entries to follow, held to a limit before any of them is read."""
        count = self.integer("<I", what)
        if count > MAX_VARIABLES:
            raise WeightsError(
                f"{self.source.name}: {what} is {count:,}, expected at most {MAX_VARIABLES:,}; {_FETCH_AGAIN}"
            )
        return count

    def string(self, what: str) -> str:
        length = self.integer("<H", what)
        if length > MAX_NAME:
            raise WeightsError(f"{self.source.name}: {what} has {length} bytes, expected a short name; {_FETCH_AGAIN}")
        raw = self.take(length, what)
        text = raw[:-1].decode(errors="replace")
        if raw[-1:] != b"\0" or not text.isprintable():
            raise WeightsError(f"{self.source.name}: {what} is no text ({raw[:16]!r}); {_FETCH_AGAIN}")
        return text

    def tensor(self, name: str) -> TensorInfo:
        """What is said about a variable, and a step over its data."""
        name = printable(name, 80)
        rank = self.integer("<B", name)
        if rank > 4:
            raise WeightsError(f"{self.source.name}: {name} has {rank} dimensions, expected at most 3; {_FETCH_AGAIN}")
        shape: tuple[int, ...] = struct.unpack(f"<{rank}I", self.take(4 * rank, name))
        code = self.integer("<B", name)
        if code >= len(_TYPES):
            raise WeightsError(f"{self.source.name}: {name} is of type {code}, known are 0 to 5; {_CONVERT}")
        dtype = _TYPES[code]
        if rank and dtype.startswith("int"):  # settings are integers too, but single ones
            raise WeightsError(f"{self.source.name}: {name} is quantised to {dtype}, expected float16; {_CONVERT}")
        length = self.integer("<I", name)
        expected = prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if length != expected:
            raise WeightsError(
                f"{self.source.name}: {name} of shape {shape} in {dtype} takes {expected} bytes, "
                f"the file says {length}; {_FETCH_AGAIN}"
            )
        tensor = TensorInfo(shape, dtype, self.position)
        self.skip(length, name)
        return tensor
