"""Loading checkpoints: small ones, valid or damaged, and the installed models."""

import contextlib
import dataclasses
import gc
import hashlib
import json
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest

from ctranslate2_files import ctranslate2, model_bin, write_bin
from hf_checkpoint import SMALL, distinct_weights, hugging_face, hugging_face_name, stored, write
from minwhisper.checkpoints.configuration import read_config
from minwhisper.checkpoints.load import load_checkpoint
from minwhisper.checkpoints.sources import find_checkpoint, packaged_model
from minwhisper.checkpoints.tensor_matching import LoadReport
from minwhisper.errors import ConfigError, MinWhisperError, ModelNotFoundError, WeightsError
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.fast.cpu.panels import unpacked
from minwhisper.fast.cpu.weights import empty_weights
from minwhisper.model.encoder import sinusoids
from minwhisper.model.weight_names import expected_shapes, flatten
from minwhisper.model.weights import count_parameters

FLAT = distinct_weights()
TENSORS = hugging_face(FLAT)  # a valid checkpoint under Hugging Face's names
FC1 = "model.decoder.layers.1.fc1.weight"
TABLE = "model.decoder.embed_tokens.weight"
POSITIONS = "model.encoder.embed_positions.weight"


def load(folder, dtype="float32", strict=True):
    return load_checkpoint(find_checkpoint(folder), dtype=dtype, strict=strict)


def without(part):
    """Return the tensors without those whose name contains this part."""
    return {name: array for name, array in TENSORS.items() if part not in name}


def check_error(folder, *parts, error=WeightsError, strict=True, dtype="float32"):
    """Check that loading fails with a one-line error that contains the folder and all the given parts."""
    with pytest.raises(error) as caught:
        load(folder, dtype, strict)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(folder), *parts):
        assert part in message


def check_weights(checkpoint, expected, dtype="float32"):
    """Check that the weights equal the expected ones exactly."""
    weights = dict(flatten(checkpoint.weights))
    assert list(weights) == list(expected_shapes(checkpoint.config))
    for name, array in weights.items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, expected[name].astype(dtype), err_msg=name)


# --- Values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "shards", "prefix", "loaded"),
    [
        ("float16", 1, "model.", "float32"),
        ("bfloat16", 3, "", "float32"),
        ("float32", 3, "model.", "float16"),
        ("float64", 1, "", "float64"),
    ],
)
def test_safetensors_of_every_dtype_load_exactly(tmp_path, dtype, shards, prefix, loaded):
    renamed = {prefix + name.removeprefix("model."): array for name, array in TENSORS.items()}
    checkpoint = load(write(tmp_path, renamed, dtype, shards), loaded)
    assert checkpoint.config == SMALL
    assert checkpoint.report == LoadReport((), ())
    assert checkpoint.alignment_heads == ()
    check_weights(checkpoint, {name: stored(array, dtype)[1] for name, array in FLAT.items()}, loaded)


def test_weights_are_writable_and_outlive_the_files(tmp_path):
    checkpoint = load(write(tmp_path, TENSORS))
    for path in tmp_path.iterdir():
        path.unlink()
    for _, array in flatten(checkpoint.weights):
        assert array.flags.writeable
        assert array.itemsize in (array.strides[-1], array.strides[0])  # contiguous by rows or by columns
        array += 1
    check_weights(checkpoint, {name: array + np.float32(1) for name, array in FLAT.items()})
    assert checkpoint.weights["decoder"]["blocks"][0]["mlp"]["fc1"]["weight"].T.flags.c_contiguous


def test_the_configuration_is_read_without_the_weights(tmp_path):
    assert read_config(find_checkpoint(write(tmp_path, TENSORS | {FC1: TENSORS[FC1][:3]}))) == SMALL


def test_the_output_projection_is_the_token_embedding(tmp_path):
    projection = {"proj_out.weight": TENSORS[TABLE]}
    alone = without(TABLE) | projection
    for written in (projection | TENSORS, TENSORS | projection, alone):
        check_weights(load(write(tmp_path, written)), FLAT)
    write(tmp_path, TENSORS | {"proj_out.weight": TENSORS[TABLE] + (np.arange(60) == 59)[:, None]})
    parts = "decoder.token_embedding", TABLE, "proj_out.weight", "to be equal", "tie_word"
    for strict in (True, False):
        check_error(tmp_path, *parts, strict=strict)


# --- Missing and unexpected tensors, wrong shapes --------------------------------------------------------------------


def test_missing_tensors_are_an_error(tmp_path):
    write(tmp_path, without(FC1))
    check_error(tmp_path, "missing tensors (1): decoder.blocks.1.mlp.fc1.weight;", "does config.json", "strict=False")
    write(tmp_path, without("decoder.layers.1"))
    check_error(tmp_path, "missing tensors (24): decoder.blocks.1.attention_norm.weight, ", " and 20 more;")
    write(tmp_path, {POSITIONS: TENSORS[POSITIONS]})
    check_error(tmp_path, "missing tensors", "expected at least half of the model's values", strict=False)


def test_an_unexpected_tensor_is_an_error(tmp_path):
    for name in ("model.decoder.layers.2.fc1.weight", "encoder/num_heads"):
        write(tmp_path, TENSORS | {name: np.zeros(3)})
        check_error(tmp_path, f"unexpected tensors (1): {name};", "does config.json", "strict=False")


def test_a_wrong_shape_is_an_error(tmp_path):
    table = TENSORS[TABLE]
    for wrong, strict in ((table[:-1], True), (table[None], False), (table.T.copy(), False)):
        write(tmp_path, TENSORS | {TABLE: wrong})
        problem = f"decoder.token_embedding: expected (60, 8), the file has {wrong.shape} (as {TABLE})"
        check_error(tmp_path, problem, "does config.json belong to this", strict=strict)


def test_strict_false_fills_missing_tensors_with_zeros_and_reports_them(tmp_path, recwarn):
    assert load(write(tmp_path, TENSORS), strict=False).report == LoadReport((), ())
    assert not recwarn
    write(tmp_path, without("embed_positions") | {"a.weight": np.ones(3), "b": np.ones((2, 2))})
    check_error(tmp_path, "missing tensors (2):", "unexpected tensors (2): a.weight, b;")
    with pytest.warns(UserWarning, match=r"\(2\): encoder\.positions, decoder\.positions; .*filled with zeros"):
        checkpoint = load(tmp_path, strict=False)
    assert checkpoint.report == LoadReport(("encoder.positions", "decoder.positions"), ("a.weight", "b"))
    check_weights(checkpoint, FLAT | {name: np.zeros_like(FLAT[name]) for name in checkpoint.report.missing})


# --- Encoder positions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "loaded"), [("float16", "float64"), ("bfloat16", "float32"), ("float32", "float16")])
def test_rounded_sinusoids_load_without_a_warning(tmp_path, dtype, loaded):
    # All 1,500 positions, rounded but stored as float32, computed from angles in float32 or float64.
    rates = np.exp(-np.log(1e4) / 3 * np.arange(4)).astype(np.float32)
    angles = np.arange(1500, dtype=np.float32)[:, None] * rates
    computed = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    for table in (computed, sinusoids(1500, 8)):
        write(tmp_path, TENSORS | {POSITIONS: stored(table, dtype)[1]}, max_source_positions=1500)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(tmp_path, loaded)


RIGHT = sinusoids(12, 8)
WRONG = {
    "interleaved": RIGHT.reshape(12, 2, 4).swapaxes(1, 2).reshape(12, 8).copy(),
    "one row late": sinusoids(13, 8)[1:],
}
TRAINED = {
    "clearly": RIGHT + 3e-2 * np.random.default_rng(5).standard_normal((12, 8)),
    "in a single value": RIGHT + 0.002 * (np.arange(96).reshape(12, 8) == 50),
}


@pytest.mark.parametrize("kind", [*WRONG, *TRAINED])
def test_wrong_positions_are_an_error_and_trained_ones_are_used_with_a_warning(tmp_path, kind):
    table = (WRONG | TRAINED)[kind]
    write(tmp_path, TENSORS | {POSITIONS: table})
    warning = r"encoder\.positions: .* more than rounding: the table was probably trained"
    if kind in WRONG:
        check_error(tmp_path, "encoder.positions: expected Whisper's sinusoids, the file differs by", "strict=False")
        warning = r"encoder\.positions: expected Whisper's sinusoids, .* it is used as it is$"
    with pytest.warns(UserWarning, match=warning):
        checkpoint = load(tmp_path, strict=kind in TRAINED)
    check_weights(checkpoint, FLAT | {"encoder.positions": table.astype(np.float32)})


# --- NaN, infinity and overflow --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "loaded", "bad"),
    [("float16", "float64", np.nan), ("bfloat16", "float16", np.inf), ("float64", "float32", -np.inf)],
)
def test_a_weight_that_is_not_finite_is_an_error(tmp_path, dtype, loaded, bad):
    array = TENSORS[FC1].copy()
    array[7, 3] = bad
    write(tmp_path, TENSORS | {FC1: array}, dtype)
    message = "decoder.blocks.1.mlp.fc1.weight: expected finite values, the file has NaN or infinity"
    for strict in (True, False):
        check_error(tmp_path, message, FC1, strict=strict, dtype=loaded)


def test_every_tensor_is_checked_for_nan(tmp_path):
    for name in [name for name in FLAT if ".blocks.0." not in name]:
        array = FLAT[name].copy()
        array.flat[-1] = np.nan
        write(tmp_path, TENSORS | {hugging_face_name(name): array})
        check_error(tmp_path, f"{name}: expected finite values")
        with pytest.raises(WeightsError, match="expected finite values"):  # also in the layout of the fast CPU engine
            load_checkpoint(find_checkpoint(tmp_path), layout=empty_weights)


def test_values_too_large_for_the_dtype_are_an_error(tmp_path):
    large = np.where(np.arange(8) == 3, 1e39, TENSORS[FC1].astype(np.float64))
    write(tmp_path, TENSORS | {FC1: large}, "float64")
    limit = "expected values up to 3.40282e+38 for dtype 'float32', the file has larger ones"
    check_error(tmp_path, limit, "'float64'")
    load(tmp_path, "float64")


# --- Damaged files ---------------------------------------------------------------------------------------------------


def test_a_pickle_is_never_opened(tmp_path):
    folder = write(tmp_path / "model", TENSORS)
    (folder / "model.safetensors").unlink()
    makes_a_folder = f"\x80\x02cos\nmkdir\n(V{tmp_path}/mark\ntR.".encode("latin-1")
    (folder / "pytorch_model.bin").write_bytes(makes_a_folder)
    parts = "no model.safetensors, and pytorch_model.bin is a pickle", "convert it to safetensors with from_pretrained"
    check_error(folder, *parts, error=ModelNotFoundError)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    check_error(folder, "this is a PyTorch file (a pickle)")
    assert not (tmp_path / "mark").exists()
    pickle.loads(makes_a_folder)
    assert (tmp_path / "mark").exists()


def test_an_invalid_configuration_is_an_error(tmp_path):
    for config, parts in (
        ({"d_model": None}, ["config.json lacks d_model"]),
        ({"activation_function": "\x1b[31m" + "x" * 10**6}, ["'\\x1b[31mxxx", "xxx'"]),
        ({"alignment_heads": [[-1, 0]]}, ["alignment_heads: block: expected a whole number", "got -1"]),
        ({"alignment_heads": [[0, 0]] * 9}, ["alignment_heads: expected at most the 8 heads", "got 9"]),
        ({"alignment_heads": [[0, 0]] * 20_000}, ["alignment_heads: expected pairs"]),
        ({"alignment_heads": [[0, True]]}, ["alignment_heads: head: expected a whole number", "got True"]),
        ({"alignment_heads": [1, 2]}, ["alignment_heads: expected pairs [block, head], got [1, 2]"]),
    ):
        check_error(write(tmp_path, TENSORS, **config), *parts, error=ConfigError)


def test_alignment_heads_of_a_teacher_are_ignored_with_a_warning(tmp_path):
    write(tmp_path, TENSORS)
    for block, head in ((2, 0), (0, 4)):
        heads = {"alignment_heads": [[1, 3], [block, head]]}
        (tmp_path / "generation_config.json").write_text(json.dumps(heads))
        warning = f"lists head {head} of block {block}, .* 2 blocks of 4 heads; .*word_timestamps is not available"
        with pytest.warns(UserWarning, match=warning):
            assert load(tmp_path).alignment_heads == ()


# --- CTranslate2 -----------------------------------------------------------------------------------------------------


def test_ctranslate2_loads_with_the_same_values_and_configuration(tmp_path):
    checkpoint = load(write_bin(tmp_path, ctranslate2(FLAT), '{"alignment_heads": [[1, 3]]}'))
    assert checkpoint.config == SMALL == read_config(find_checkpoint(tmp_path))
    assert checkpoint.alignment_heads == ((1, 3),)
    check_weights(checkpoint, FLAT)


def test_the_key_bias_must_be_zero(tmp_path):
    for stack, row, strict in (("self_attention/linear_0", 15, True), ("attention/linear_1", 0, False)):
        tensors = ctranslate2(FLAT)
        tensors[f"decoder/layer_1/{stack}/bias"][row] = 1e-3
        write_bin(tmp_path, tensors)
        check_error(tmp_path, "attention.key.bias: expected zeros", f"{stack}/bias", strict=strict)


def test_missing_unexpected_and_misshapen_ctranslate2_tensors_are_errors(tmp_path):
    tensors = ctranslate2(FLAT)
    stack = tensors.pop("decoder/layer_1/self_attention/linear_0/weight")
    write_bin(tmp_path, tensors | {"decoder/layer_0/attention/linear_3/weight": stack})
    missing = "missing tensors (3): decoder.blocks.1.attention.query.weight, decoder.blocks.1.attention.key.weight"
    check_error(tmp_path, missing, "unexpected tensors (1): decoder/layer_0/attention/linear_3/weight")
    write_bin(tmp_path, tensors | {"decoder/layer_1/self_attention/linear_0/weight": stack[:-1]})
    check_error(tmp_path, "expected (24, 8), the file has (23, 8)", "decoder/layer_1/self_attention/linear_0/weight")


def test_a_missing_tensor_that_the_configuration_needs_is_an_error(tmp_path):
    for name in ("decoder/num_heads", "encoder/conv1/weight"):
        tensors = ctranslate2(FLAT)
        del tensors[name]
        (tmp_path / "model.bin").write_bytes(model_bin(tensors))
        check_error(tmp_path, f"expected a tensor {name}, the file has none; is this a Whisper model?")


def test_an_invalid_head_count_is_an_error(tmp_path):
    for heads, message in (
        (np.array(np.nan, np.float32), "encoder/num_heads: expected a whole number from 1 to 1024, got nan"),
        (np.array(0, np.int16), "expected a whole number from 1 to 1024, got 0"),
        (np.array([2, 2], np.float32), "encoder/num_heads: expected a scalar, the file has shape (2,)"),
        (np.array(3, np.int16), "encoder_attention_heads: 3 heads do not divide d_model, 8"),
    ):
        write_bin(tmp_path, ctranslate2(FLAT) | {"encoder/num_heads": heads})
        check_error(tmp_path, message, error=MinWhisperError)


# --- Installed models ------------------------------------------------------------------------------------------------


@pytest.fixture
def files():
    found = packaged_model("tiny.en")
    return found or pytest.skip("the weight package is not installed")


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    files = find_checkpoint(write_bin(tmp_path, ctranslate2(FLAT)))
    path = files.weights[0]
    data = bytearray(path.read_bytes())
    files = dataclasses.replace(files, sha256=hashlib.sha256(data).hexdigest())
    load_checkpoint(files)
    data[len(data) // 2] ^= 1
    for damaged in (data, data[: len(data) // 3]):  # the checksum is checked even if reading fails
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=rf"model\.bin .*expected sha256 {files.sha256}, got \w+; .*$"):
            load_checkpoint(files, strict=False)


@contextlib.contextmanager
def traced_memory():
    """Yield a function that returns the current and the peak memory in bytes; NumPy's arrays are included."""
    gc.collect()
    gc.disable()  # the collector could free a reference cycle at any time
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_wrong_checksum_keeps_no_weights_in_memory(files):
    files = dataclasses.replace(files, sha256="0" * 64)
    with traced_memory() as memory:
        with contextlib.suppress(WeightsError):  # pytest.raises would keep the traceback
            load_checkpoint(files)
            pytest.fail("the checksum was not verified")
        assert memory()[0] < 1e6


@pytest.mark.parametrize("layout", [None, empty_weights], ids=["layers", "fast engine"])
def test_loading_makes_no_second_copy(files, layout):
    with traced_memory() as memory:
        checkpoint = load_checkpoint(files, layout=layout)
        if layout:
            CpuEngine(checkpoint.weights, checkpoint.config, 1)
        peak = memory()[1]
    size = 4 * count_parameters(unpacked(checkpoint.weights))
    assert size <= peak < 1.15 * size
