"""Chapter 5: weights in one file that all processes on a machine map, so that they are in memory once.

The first process that loads a model writes its weights to a file, in the memory layout in which they are used, and maps
this file. The others map it without reading the checkpoint. The mapping uses the system's page cache: a page that
several processes read is in memory once, and the arrays cannot be written to.

The file is as large as the weights in memory: 151 MB for tiny.en in float32, 290 MB for base, half of that in float16.
It stays in its folder for the next time, ``<key>.weights`` with an empty ``<key>.lock`` beside it. Both may be deleted
at any time: processes that have mapped the file keep it, and the next one writes it again.

The file's name is a sha256 of everything that its content depends on: the known sha256 of the checkpoint, or path, size
and modification time of its files; the configuration, the dtype, the layout, and the version of this package. The
file begins with a header of 4,096 bytes; then come the arrays, then JSON with all other results of loading. The header
has the same key, the size of the file, and a CRC-32 of all that follows. The CRC is verified each time, which takes
0.4 s per gigabyte. A file that does not agree with its header is written again.

A file with that name is complete, since it is written under a temporary name, and it never changes afterwards: a mapped
file must not become shorter, because the next access to it would kill the process (SIGBUS). Anyone who can write to the
folder can change the model, as with the folder of a checkpoint. On a network file system the weights are still in
memory once per machine, but a folder on a local disk, or on ``/dev/shm``, is safer.

Walkthrough: section 7.
"""

import dataclasses
import errno
import hashlib
import json
import math
import mmap
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import __version__
from ..common.atomic_write import remove_stale_files, temporary_file
from ..common.backend import Array
from ..model.config import WhisperConfig
from ..model.weight_names import Shape, expected_shapes, nest
from ..model.weights import WeightLayout, check_dtype, empty_weights
from .checksums import verify_checksums
from .configuration import warn_about
from .files import CheckpointFiles
from .load import Checkpoint, read_checkpoint
from .tensor_matching import LoadReport

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1  # version of the file format; increase it with every change
MAGIC = b"minwhisper share"
HEADER = struct.Struct("<16s 32s Q Q I")  # magic, key, size of the file, start of the JSON, CRC-32 of what follows
HEADER_SIZE = 4096
ALIGNMENT = 64  # bytes: a cache line

_Loaded = tuple[Checkpoint, tuple[str, ...]]  # a checkpoint and the texts of its warnings


def load_shared(
    files: CheckpointFiles,
    folder: Path,
    dtype: str = "float32",
    strict: bool = True,
    layout: WeightLayout | None = None,
) -> Checkpoint:
    """Load a checkpoint like ``load_checkpoint`` on a CPU, with read-only weights in a file that processes share.

    The folder is created if necessary. One process at a time writes the file, while others that want it wait. If the
    file cannot be made, for example because the disk is full or the system is Windows, a warning says so and this
    process gets its own copy of the weights. Raises the errors of ``load_checkpoint``.
    """
    check_dtype(dtype)
    layout = layout or empty_weights
    loaded: _Loaded | None = None
    try:
        loaded = _map_or_write(files, folder, dtype, strict, layout)
    except OSError as error:
        reason = error.strerror or str(error)
    if loaded is None:  # not in the except clause, where the error's traceback keeps what was read
        checkpoint, problems = read_checkpoint(files, "cpu", dtype, strict, layout)
        problems += (f"the weights are not shared with other processes: {folder}: the system reports {reason!r}",)
    else:
        checkpoint, problems = loaded
    for problem in problems:
        warn_about(files.label, problem, stacklevel=3)
    return checkpoint


def shared_path(files: CheckpointFiles, folder: Path, dtype: str, strict: bool, layout: WeightLayout) -> Path:
    """Return the path of the shared file: the folder, and the sha256 of everything that its content depends on."""
    known = dict(files.checksums)
    content = {
        "format": [FORMAT, __version__, sys.byteorder],
        "weights": files.sha256 or [known.get(path) or _identity(path) for path in files.weights],
        "checkpoint": [files.format, files.config],
        "loaded": [dtype, strict, f"{layout.__module__}.{layout.__name__}"],
    }
    return folder / f"{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}.weights"


def _identity(path: Path) -> list[str | int]:
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _map_or_write(files: CheckpointFiles, folder: Path, dtype: str, strict: bool, layout: WeightLayout) -> _Loaded:
    """Map the shared file, after writing it if there is none. Raises OSError if the system refuses."""
    if fcntl is None:  # a mapped file could not be replaced, either
        raise OSError(errno.ENOTSUP, "not available on this system")
    folder.mkdir(parents=True, exist_ok=True)
    path = shared_path(files, folder, dtype, strict, layout)
    found = _map(path, dtype, layout)
    if found is None:
        with _locked(path.with_suffix(".lock")):
            found = _map(path, dtype, layout)  # another process may have written it
            if found is None:
                _write(path, files, dtype, strict, layout)
                found = _map(path, dtype, layout)
    if found is None:
        raise OSError(errno.EIO, "the file changed after it was written")
    # The small files are read from the checkpoint by every process.
    small = tuple(pair for pair in files.checksums if pair[0] not in files.weights)
    verify_checksums(dataclasses.replace(files, sha256=None, checksums=small))
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is created if necessary; the system releases it if the process is killed."""
    file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):  # a file system without locks: several processes may write the same content
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


# ------------------------------------------------------------------------------------------ the file


class _Arena:
    """A piece of memory from which arrays are allocated one after another."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory, self.used = memory, HEADER_SIZE

    def allocate(self, shape: Shape, dtype: str) -> Array:
        """Return the next array of the memory, which it keeps alive."""
        array: Array = np.ndarray(shape, dtype, self.memory, self.used)
        self.used = _end(self.used, shape, dtype)
        return array


def _end(start: int, shape: Shape, dtype: str) -> int:
    """Return the offset of the next array, after one of this shape at ``start``."""
    return math.ceil((start + math.prod(shape) * np.dtype(dtype).itemsize) / ALIGNMENT) * ALIGNMENT


def _allocations(layout: WeightLayout, expected: Mapping[str, Shape], dtype: str) -> list[list[Any]]:
    """Return shape and dtype of each array that a layout allocates, in order."""
    found: list[list[Any]] = []

    def allocate(shape: Shape, dtype: str) -> Array:
        found.append([list(shape), dtype])
        return np.broadcast_to(np.zeros((), dtype), shape)  # one value in memory

    layout(expected, dtype, allocate)
    return found


def _map(path: Path, dtype: str, layout: WeightLayout) -> _Loaded | None:
    """Map a shared file; return None if there is none, or if its content does not match its name."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        size = os.fstat(file.fileno()).st_size
        if size < HEADER_SIZE:
            return None
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    magic, key, whole, start, checksum = HEADER.unpack_from(memory)
    if (magic, key.hex(), whole) != (MAGIC, path.stem, size) or _checksum(memory) != checksum:
        return None
    found = json.loads(memory[start:])
    config = WhisperConfig(**found["config"])
    expected = expected_shapes(config)
    if found["arrays"] != _allocations(layout, expected, dtype):  # a layout that changed, with the same name
        return None
    buffers = layout(expected, dtype, _Arena(memory).allocate)
    heads = tuple((block, head) for block, head in found["alignment_heads"])
    report = LoadReport(tuple(found["missing"]), tuple(found["unexpected"]))
    weights = nest({name: buffers[name] for name in expected})
    return Checkpoint(config, weights, heads, report), tuple(found["problems"])


def _write(path: Path, files: CheckpointFiles, dtype: str, strict: bool, layout: WeightLayout) -> None:
    """Read and check a checkpoint into a new file, and give it its name when it is complete.

    The file is not flushed to disk: if the power fails, a part may be missing, which the checksum detects.
    """
    remove_stale_files(path.parent)
    with temporary_file(path.parent) as file:
        memory: mmap.mmap | None = None
        arrays: list[list[Any]] = []

        def in_file(expected: Mapping[str, Shape], dtype: str, _allocate: object) -> Mapping[str, Any]:
            nonlocal memory
            arrays[:] = _allocations(layout, expected, dtype)
            size = HEADER_SIZE
            for shape, array_dtype in arrays:
                size = _end(size, shape, array_dtype)
            _reserve(file, size)
            memory = mmap.mmap(file.fileno(), size)
            return layout(expected, dtype, _Arena(memory).allocate)

        checkpoint, problems = read_checkpoint(files, "cpu", dtype, strict, in_file)
        assert memory is not None
        others = {
            "model": files.label,
            "config": dataclasses.asdict(checkpoint.config),
            "alignment_heads": checkpoint.alignment_heads,
            **checkpoint.report._asdict(),
            "problems": problems,
            "arrays": arrays,
        }
        text = json.dumps(others).encode()
        start = file.seek(0, os.SEEK_END)
        file.write(text)
        header = (MAGIC, bytes.fromhex(path.stem), start + len(text), start, zlib.crc32(text, _checksum(memory)))
        file.seek(0)
        file.write(HEADER.pack(*header))
        file.flush()
        os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & ~0o222)
        os.replace(file.name, path)


def _reserve(file: BinaryIO, size: int) -> None:
    """Give the file its size, and space on the disk: without that, writing to the mapping could kill the process."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:  # not on this system, not for this file system, or no space
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        step = 1 << 20
        for start in range(0, size, step):
            file.write(bytes(min(step, size - start)))
        file.flush()


def _checksum(memory: mmap.mmap) -> int:
    """Return the CRC-32 of everything after the header."""
    return zlib.crc32(memoryview(memory)[HEADER_SIZE:])
