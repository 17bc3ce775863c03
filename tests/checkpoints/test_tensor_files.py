"""Tensors by name from safetensors and CTranslate2's model.bin: files written byte by byte, and damaged files."""

import json
import os
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from ctranslate2_files import model_bin
from minwhisper.checkpoints.sources import CheckpointFiles
from minwhisper.checkpoints.tensor_files import open_tensors
from minwhisper.errors import WeightsError


def opened(folder, *pieces, kind="ctranslate2"):
    """Write the parts of a file, and open its tensors."""
    paths = tuple(folder / f"weights{number}" for number in range(1, len(pieces) + 1))
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    return open_tensors(CheckpointFiles("the label", "a test", kind, paths, folder, None, {}))


RNG = np.random.default_rng(0)
TENSORS = {
    "half": RNG.standard_normal((3, 5)).astype(np.float16),
    "single": RNG.standard_normal((2, 2, 2)).astype(np.float32),
    "scalar": np.array(7, np.int16),
    "empty": np.zeros((0, 4), np.float32),
}
ALIAS = {"decoder/projection/weight": "half"}


@pytest.mark.parametrize("kind", ["safetensors", "ctranslate2"])
def test_both_formats_give_every_tensor_in_any_dtype(tmp_path, kind):
    with opened(tmp_path, save(TENSORS) if kind == "safetensors" else model_bin(TENSORS), kind=kind) as tensors:
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
        again = tensors.read("single", "float32")
    (tmp_path / "weights1").unlink()  # the file is closed, and the arrays remain valid
    np.testing.assert_array_equal(again, TENSORS["single"])
    with pytest.raises(ValueError, match="already closed"):
        tensors.read("single", "float32")


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_parts_are_joined_wherever_the_file_was_cut(tmp_path_factory, cuts):
    whole = model_bin(TENSORS, ALIAS)
    edges = [0, *sorted(cut % len(whole) for cut in cuts), len(whole)]
    with opened(tmp_path_factory.mktemp("cut"), *(whole[a:b] for a, b in pairwise(edges))) as tensors:
        for name, array in {**TENSORS, **{alias: TENSORS[name] for alias, name in ALIAS.items()}}.items():
            np.testing.assert_array_equal(tensors.read(name, "float64"), array)


def test_a_tensor_cut_into_two_parts_is_read_and_checked_block_by_block(tmp_path):
    array = RNG.standard_normal((600, 1001)).astype(np.float16)
    whole = model_bin({"x": np.ones(1, np.float32), "w": array})
    half = len(whole) // 2
    for cut in (half, half + 1):  # between two values, and inside a value
        with opened(tmp_path, whole[:cut], whole[cut:]) as tensors:
            np.testing.assert_array_equal(tensors.read("w", "float32"), array)
    for place in (0, -1):
        array[place, place] = np.inf
        with opened(tmp_path, model_bin({"w": array})) as tensors:
            assert not tensors.read_into("w", np.empty(array.shape, np.float32)), place
        array[place, place] = 0


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    with opened(tmp_path, model_bin({"w": np.ones(20_000, np.float32)})) as tensors:
        os.truncate(tmp_path / "weights1", 1000)
        with pytest.raises(WeightsError, match="weights1: the file became shorter while it was being read"):
            tensors.read("w", "float32")


def test_missing_tensors_and_files_are_errors(tmp_path):
    with opened(tmp_path, WHOLE, kind="safetensors") as tensors:
        with pytest.raises(WeightsError, match=r"the label: no tensor is named weights; did you mean weight\?"):
            tensors.read("weights", "float32")
        with pytest.raises(WeightsError, match="the file has none with a similar name"):
            tensors.dtype("bias")
    with pytest.raises(WeightsError, match="a is also in another shard"):
        opened(tmp_path, *2 * [save({"a": TENSORS["half"]})], kind="safetensors")
    for kind in ("safetensors", "ctranslate2"):
        with pytest.raises(WeightsError, match=r"nowhere: cannot be read \(No such file"):
            open_tensors(CheckpointFiles("the label", "a test", kind, (tmp_path / "nowhere",), tmp_path, None, {}))


# --- CTranslate2


def test_another_type_of_file_is_named_in_the_error(tmp_path):
    for head, type in (
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch file"),
        (struct.pack("<Q", 64) + b'{"a":{}}', "a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"lmgg" + bytes(40), "whisper.cpp"),
        (b"", "an empty file"),
        (b"abcdefghijkl", "an unknown file that begins with 61 62 63 64"),
    ):
        with pytest.raises(WeightsError, match=type):
            opened(tmp_path, head)


ONE = {"w": np.zeros(2, np.float32)}
LATE = model_bin({"first": np.zeros(3, np.float16), "second": np.zeros((5, 2), np.float32)})


def test_a_damaged_model_bin_is_an_error(tmp_path):
    for data, message in (
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
    ):
        with pytest.raises(WeightsError, match=message):
            opened(tmp_path, data)


def test_a_model_bin_truncated_anywhere_is_an_error(tmp_path):
    whole = model_bin(TENSORS, ALIAS)
    for length in range(len(whole)):
        with pytest.raises(WeightsError):
            opened(tmp_path, whole[:length])


# --- safetensors

WHOLE = save({"weight": np.ones((4, 4), np.float32)})


def test_damaged_safetensors_are_an_error(tmp_path):
    for data, message in (
        (WHOLE[:-1], "incomplete or damaged"),
        (WHOLE[:20], "incomplete or damaged"),
        (WHOLE[:8], "this is an unknown file"),
        (WHOLE.replace(b"[4,4]", b"[4,5]"), "incomplete or damaged"),
        (model_bin({}), "this is a CTranslate2 file"),
    ):
        with pytest.raises(WeightsError, match=rf"^\S*weights1: .*{message}.*download the file again$"):
            opened(tmp_path, data, kind="safetensors")


def test_quantised_safetensors_are_an_error(tmp_path):
    for dtype, width in (("F8_E4M3", 1), ("I8", 1), ("I16", 2)):
        header = json.dumps({"fc1.weight": {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, 6 * width]}}).encode()
        data = struct.pack("<Q", len(header)) + header + bytes(6 * width)
        with pytest.raises(WeightsError, match=f"fc1.weight is stored as {dtype}, expected F16, BF16 or F32"):
            opened(tmp_path, data, kind="safetensors")
