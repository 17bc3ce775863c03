"""Tensors by name, with the same interface for safetensors and CTranslate2."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from minwhisper.checkpoints.sources import CheckpointFiles
from minwhisper.checkpoints.tensor_files import open_tensors
from minwhisper.errors import WeightsError
from test_ctranslate2 import model_bin


def files(kind: Any, *paths: Path) -> CheckpointFiles:
    return CheckpointFiles("the label", "a test", kind, paths, paths[0].parent, None, {})


def safetensors(folder: Path, data: bytes) -> CheckpointFiles:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    return files("safetensors", path)


def by_hand(header: dict[str, Any], data: bytes) -> bytes:
    """Return a safetensors file with the given header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


RNG = np.random.default_rng(0)
TENSORS: dict[str, np.ndarray] = {
    "half": RNG.standard_normal((3, 5)).astype(np.float16),
    "single": RNG.standard_normal((2, 2, 2)).astype(np.float32),
    "scalar": np.array(7, np.int16),
    "empty": np.zeros((0, 4), np.float32),
}


@pytest.mark.parametrize("kind", ["safetensors", "ctranslate2"])
def test_both_formats(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights"
    path.write_bytes(save(TENSORS) if kind == "safetensors" else model_bin(TENSORS))
    with open_tensors(files(kind, path)) as tensors:
        assert tensors.label == "the label"
        assert tensors.shapes() == {name: array.shape for name, array in TENSORS.items()}
        for name, array in TENSORS.items():
            assert tensors.dtype(name) == array.dtype.name
            for dtype in ("float32", "float16", "float64"):
                read = tensors.read(name, dtype)
                assert read.dtype == dtype
                assert read.flags.owndata
                assert read.flags.writeable
                assert read.flags.c_contiguous
                np.testing.assert_array_equal(read, array.astype(dtype))
        assert tensors.read("scalar", "int16") == 7
        first, second = tensors.read("single", "float32"), tensors.read("single", "float32")
        first[...] = 0
        np.testing.assert_array_equal(second, TENSORS["single"])
    path.unlink()  # the file is closed, and the arrays remain valid
    np.testing.assert_array_equal(second, TENSORS["single"])


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    shard = safetensors(tmp_path, save({"a": TENSORS["half"]})).weights
    with pytest.raises(WeightsError, match="a is also in another shard"):
        open_tensors(files("safetensors", *shard, *shard))


WHOLE = save({"weight": np.ones((4, 4), np.float32)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (WHOLE[:-1], "incomplete or damaged"),
        (WHOLE + b"x", "incomplete or damaged"),
        (WHOLE[:20], "incomplete or damaged"),
        (WHOLE[:8], "this is an unknown file"),
        (WHOLE.replace(b"[4,4]", b"[4,5]"), "incomplete or damaged"),
        (model_bin({}), "this is a CTranslate2 file"),
    ],
)
def test_damaged_file(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=rf"^\S*model\.safetensors: .*{message}.*download the file again$"):
        open_tensors(safetensors(tmp_path, data))


@pytest.mark.parametrize(("dtype", "width"), [("F8_E4M3", 1), ("I8", 1), ("I16", 2)])
def test_quantised_weights(tmp_path: Path, dtype: str, width: int) -> None:
    entry = {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, 6 * width]}
    with pytest.raises(WeightsError, match=f"fc1.weight is stored as {dtype}, expected F16, BF16 or F32"):
        open_tensors(safetensors(tmp_path, by_hand({"fc1.weight": entry}, bytes(6 * width))))


def test_missing_file(tmp_path: Path) -> None:
    for kind in ("safetensors", "ctranslate2"):
        with pytest.raises(WeightsError, match=r"nowhere: cannot be read \(No such file"):
            open_tensors(files(kind, tmp_path / "nowhere"))


def test_missing_tensor_and_closed_file(tmp_path: Path) -> None:
    with open_tensors(safetensors(tmp_path, WHOLE)) as tensors:
        with pytest.raises(WeightsError, match=r"the label: no tensor is named weights; did you mean weight\?"):
            tensors.read("weights", "float32")
        with pytest.raises(WeightsError, match="the file has 1 other tensors"):
            tensors.dtype("bias")
    with pytest.raises(ValueError, match="already closed"):
        tensors.read("weight", "float32")
