"""Weights in a file that processes map: one file with the same values, never an incomplete or damaged one."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import minwhisper
from hf_checkpoint import SMALL, distinct_weights, hugging_face, write
from minwhisper.checkpoints import shared
from minwhisper.checkpoints.load import load_checkpoint
from minwhisper.checkpoints.shared import HEADER_SIZE, load_shared
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.errors import WeightsError
from minwhisper.fast.cpu.weights import empty_weights
from minwhisper.model.weight_names import flatten

pytestmark = pytest.mark.skipif(shared.fcntl is None, reason="this system has no fcntl")

ROOT = Path(minwhisper.__file__).parents[1]


@pytest.fixture
def model(tmp_path):
    """Write a small checkpoint."""
    return write(tmp_path / "model", hugging_face(distinct_weights()), "float16")


@pytest.fixture
def folder(tmp_path):
    """Return a folder for shared files that does not exist yet."""
    return tmp_path / "cache" / "shared"


def load(model, folder, **how):
    how = {"layout": empty_weights} | how
    return load_shared(find_checkpoint(model), folder, **how)


def arrays(checkpoint):
    """Return the arrays in which the weights are stored."""
    return {name: getattr(weight, "array", weight) for name, weight in flatten(checkpoint.weights)}


def check_same(checkpoint, model, **how):
    """Check that a checkpoint equals an ordinarily loaded one, in every bit and in its layout."""
    how = {"layout": empty_weights} | how
    expected = load_checkpoint(find_checkpoint(model), **how)
    assert checkpoint._replace(weights={}) == expected._replace(weights={})
    assert list(arrays(checkpoint)) == list(arrays(expected))
    for name, array in arrays(expected).items():
        found = arrays(checkpoint)[name]
        assert (found.dtype, found.strides, found.tobytes()) == (array.dtype, array.strides, array.tobytes()), name


def shared_file(folder):
    """Return the file of weights, the only file beside its lock."""
    (path,) = folder.glob("*.weights")
    assert {one.name for one in folder.iterdir()} == {path.name, f"{path.stem}.lock"}
    return path


def test_shared_weights_are_those_of_the_checkpoint(model, folder):
    for _ in range(2):
        found = load(model, folder)
        check_same(found, model)
        assert not any(array.flags.writeable for array in arrays(found).values())
        with pytest.raises(ValueError, match="read-only"):
            arrays(found)["decoder.positions"][0] = 0
    shared_file(folder)


def test_each_layout_dtype_and_strictness_has_its_own_file(model, folder):
    hows = [{}, {"layout": None}, {"layout": None, "dtype": "float16"}, {"strict": False}]
    for count, how in enumerate(hows, start=1):
        check_same(load(model, folder, **how), model, **how)
        assert len(list(folder.glob("*.weights"))) == count
    (model / "generation_config.json").write_text('{"alignment_heads": [[0, 1]]}')
    found = load(model, folder)
    assert found.alignment_heads == ((0, 1),)
    check_same(found, model)


def test_the_second_process_reads_no_weights_of_the_checkpoint(model, folder):
    load(model, folder)
    reference = arrays(load_checkpoint(find_checkpoint(model), layout=empty_weights))
    path = model / "model.safetensors"
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = arrays(load(model, folder))
    assert all(np.array_equal(found[name], array) for name, array in reference.items())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # another version of the checkpoint
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load(model, folder)


def test_warnings_and_the_report_are_the_same_each_time(tmp_path, folder):
    tensors = hugging_face(distinct_weights())
    del tensors["model.decoder.layers.1.fc1.weight"]
    model = write(tmp_path, tensors | {"surprise": np.zeros(3, np.float32)})
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"missing .*\(1\): .*fc1.* unexpected .*\(1\): surprise") as seen:
            found = load(model, folder, strict=False)
        assert len(seen) == 1
        assert found.report == (("decoder.blocks.1.mlp.fc1.weight",), ("surprise",))
        with pytest.raises(WeightsError, match="missing tensors"):
            load(model, folder)
    assert len(list(folder.glob("*.weights"))) == 1


# --- Several processes, and one that is killed -----------------------------------------------------------------------

CHILD = """
import os, signal, sys, time
from pathlib import Path
from minwhisper.checkpoints import shared
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.fast.cpu.weights import empty_weights

model, folder, then = sys.argv[1:]
read_checkpoint = shared.read_checkpoint

def slowly(*arguments):
    found = read_checkpoint(*arguments)
    if then == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("read")
    time.sleep(0.5)
    return found

shared.read_checkpoint = slowly
checkpoint = shared.load_shared(find_checkpoint(model), Path(folder), layout=empty_weights)
print(*{line.split()[4] for line in open("/proc/self/maps") if line.rstrip().endswith(".weights")})
"""


def start(model, folder, then="go on"):
    """Start a process that loads the model; it prints ``read`` if it reads the checkpoint, and the mapped inode."""
    command = [sys.executable, "-c", CHILD, str(model), str(folder), then]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of mapped files")
def test_processes_that_start_at_once_map_one_file_that_one_of_them_wrote(model, folder):
    processes = [start(model, folder) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    inode = str(shared_file(folder).stat().st_ino)
    assert sorted(outputs) == [[inode], ["read", inode]]
    check_same(load(model, folder), model)


def test_a_killed_process_leaves_no_file_that_is_used(model, folder):
    process = start(model, folder, "be killed")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert [path.suffix for path in folder.iterdir() if path.suffix != ".lock"] == [".tmp"]
    check_same(load(model, folder), model)
    shared_file(folder)


# --- Damaged files ---------------------------------------------------------------------------------------------------


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[:-1],
    "another key": lambda content: flip(content, 20),
    "a wrong checksum": lambda content: flip(content, shared.HEADER.size - 1),
    "a bit of the weights": lambda content: flip(content, HEADER_SIZE + 5000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_written_again(model, folder, damage):
    load(model, folder)
    path = shared_file(folder)
    content = path.read_bytes()
    assert path.stat().st_mode & 0o222 == 0
    path.chmod(0o644)
    path.write_bytes(DAMAGES[damage](content))
    check_same(load(model, folder), model)
    assert shared_file(folder).read_bytes() == content


# --- No file can be written ------------------------------------------------------------------------------------------


NO_SPACE = Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
OBSTACLES = {
    "No space left": lambda patch, folder: patch.setattr(os, "posix_fallocate", NO_SPACE, raising=False),
    "Not a directory": lambda patch, folder: folder.parent.write_bytes(b""),
    "not available on this system": lambda patch, folder: patch.setattr(shared, "fcntl", None),
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_without_a_file_the_process_loads_its_own_weights_with_a_warning(model, folder, monkeypatch, reason):
    OBSTACLES[reason](monkeypatch, folder)
    with pytest.warns(UserWarning, match=f"not shared with other processes: .*{reason}") as seen:
        found = load(model, folder)
    assert len(seen) == 1
    check_same(found, model)
    assert arrays(found)["decoder.positions"].flags.writeable
    with contextlib.suppress(OSError):
        assert not [path for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_file_system_that_cannot_reserve_space_gets_zeros(model, folder, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    check_same(load(model, folder), model)
    assert load(model, folder).config == SMALL
