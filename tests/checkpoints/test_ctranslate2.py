"""CTranslate2's model.bin: files written byte by byte, damaged files, and the installed models."""

import os
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.checkpoints.ctranslate2 import index_ctranslate2
from minwhisper.checkpoints.storage import Storage
from minwhisper.errors import WeightsError

CODES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "bfloat16": 5}
Variable = tuple[str, tuple[int, ...], bytes]  # type, shape, data


def text(value: str) -> bytes:
    return struct.pack("<H", len(value.encode()) + 1) + value.encode() + b"\0"


def model_bin(
    variables: Mapping[str, Variable | np.ndarray],
    aliases: Mapping[str, str] | None = None,
    version: int = 6,
    specification: str = "WhisperSpec",
    revision: int = 3,
) -> bytes:
    """Return a file in CTranslate2's format."""
    out = struct.pack("<I", version) + text(specification) + struct.pack("<II", revision, len(variables))
    for name, variable in variables.items():
        if isinstance(variable, np.ndarray):
            variable = (variable.dtype.name, variable.shape, variable.tobytes())
        dtype, shape, data = variable
        out += text(name) + struct.pack(f"<B{len(shape)}I", len(shape), *shape)
        out += struct.pack("<BI", CODES.get(dtype, 9), len(data)) + data
    out += struct.pack("<I", len(aliases or {}))
    return out + b"".join(text(alias) + text(target) for alias, target in (aliases or {}).items())


def write(folder: Path, *pieces: bytes) -> list[Path]:
    paths = [folder / f"model.bin.part{number}" for number in range(1, len(pieces) + 1)]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    return paths


def read_all(paths: list[Path], dtype: str = "float32") -> dict[str, np.ndarray]:
    source = Storage(paths)
    try:
        return {name: source.read(tensor, dtype) for name, tensor in index_ctranslate2(source).items()}
    finally:
        source.close()


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "decoder/embeddings/weight": rng.standard_normal((7, 4)).astype(np.float16),
        "decoder/num_heads": np.array(2, np.int16),
        "decoder/pre_norm": np.array(1, np.int8),
        "encoder/conv1/weight": rng.standard_normal((4, 3, 3)).astype(np.float32),
        "encoder/layer_norm/beta": rng.standard_normal(4).astype(np.float16),
    }


ALIAS = {"decoder/projection/weight": "decoder/embeddings/weight"}


def test_tensors_aliases_and_settings(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    paths = write(tmp_path, model_bin(tensors, ALIAS))
    index = index_ctranslate2(Storage(paths))
    assert list(index) == [*tensors, "decoder/projection/weight"]
    assert {name: (t.shape, t.dtype) for name, t in index.items() if name in tensors} == {
        name: (array.shape, array.dtype.name) for name, array in tensors.items()
    }
    assert index["decoder/projection/weight"] == index["decoder/embeddings/weight"]
    for name, array in read_all(paths).items():
        np.testing.assert_array_equal(array, tensors[ALIAS.get(name, name)], strict=False)
        assert array.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_parts_are_joined_wherever_the_file_was_cut(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], cuts: list[int]
) -> None:
    whole = model_bin(tensors, ALIAS)
    edges = [0, *sorted(cut % len(whole) for cut in cuts), len(whole)]
    paths = write(tmp_path_factory.mktemp("cut"), *(whole[a:b] for a, b in pairwise(edges)))
    for name, array in read_all(paths).items():
        np.testing.assert_array_equal(array, tensors[ALIAS.get(name, name)], strict=False)


def test_a_tensor_larger_than_a_block_in_two_parts(tmp_path: Path) -> None:
    array = np.random.default_rng(1).standard_normal((600, 1001)).astype(np.float16)
    whole = model_bin({"x": np.ones(1, np.float32), "w": array})
    half = len(whole) // 2
    for cut in (half, half + 1):  # between two values, and inside one
        np.testing.assert_array_equal(read_all(write(tmp_path, whole[:cut], whole[cut:]))["w"], array)
    for place in (0, -1):
        array[place, place] = np.inf
        source = Storage(write(tmp_path, model_bin({"w": array})))
        assert not source.read_into(index_ctranslate2(source)["w"], np.empty(array.shape, np.float32)), place
        source.close()
        array[place, place] = 0


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path) -> None:
    source = Storage(write(tmp_path, model_bin({"w": np.ones(20_000, np.float32)})))
    index = index_ctranslate2(source)
    os.truncate(source.paths[0], 1000)
    with pytest.raises(WeightsError, match=r"model\.bin\.part1: the file became shorter while it was being read"):
        source.read(index["w"], "float32")
    source.close()


@pytest.mark.parametrize(
    ("head", "type"),
    [
        (b"PK\x03\x04" + bytes(60), "a PyTorch file"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch file"),
        (struct.pack("<Q", 64) + b'{"a":{}}', "a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"lmgg" + bytes(40), "whisper.cpp"),
        (b"", "an empty file"),
        (b"abcdefghijkl", "an unknown file that begins with 61 62 63 64"),
    ],
)
def test_another_type_of_file(tmp_path: Path, head: bytes, type: str) -> None:
    with pytest.raises(WeightsError, match=type):
        read_all(write(tmp_path, head))


ONE = {"w": np.zeros(2, np.float32)}
LATE = model_bin({"first": np.zeros(3, np.float16), "second": np.zeros((5, 2), np.float32)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (model_bin({}, version=5), "expected version 6, the file has 5"),
        (model_bin({}, specification="TransformerSpec"), "expected a WhisperSpec, the file has a TransformerSpec"),
        (model_bin({}, revision=4), "expected WhisperSpec revision 3 or older, the file has 4"),
        (LATE[:-15], "the file ends 11 bytes too early, in second;"),  # without the alias count, and 11 bytes more
        (model_bin({}) + b"abc", "3 bytes follow the last alias"),
        (model_bin({})[:-8] + struct.pack("<II", 20_001, 0), "the count of variables is 20,001, expected at most"),
        (model_bin({"a": ONE["w"], "b": ONE["w"]}).replace(b"b\0", b"a\0"), "two variables are named a"),
        (model_bin({"w" * 1000: ONE["w"]}), "the name of variable 0 has 1001 bytes, expected at most 1000"),
        (model_bin({"bell\a": ONE["w"]}), "the name of variable 0 is not printable text"),
        (model_bin(ONE, {"a": "nowhere"}), "a cannot be an alias of nowhere"),
        (model_bin(ONE, {"w": "w"}), "w cannot be an alias of w"),
        (model_bin({"a/w": ("int8", (2, 2), bytes(4))}), "a/w is quantised to int8, .*--quantization float16"),
        (model_bin({"a/w": ("unknown", (2,), bytes(4))}), "a/w has type code 9, expected 0 to 5"),
        (model_bin({"w": ("float16", (2, 2), bytes(7))}), r"w: expected 8 bytes for shape \(2, 2\) in float16.* has 7"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_damaged_file(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_all(write(tmp_path, data))


def test_truncated_file(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    whole = model_bin(tensors, ALIAS)
    for length in range(len(whole)):
        with pytest.raises(WeightsError):
            read_all(write(tmp_path, whole[:length]))
