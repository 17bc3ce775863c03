"""Loading checkpoints: small ones, valid and damaged, and the installed models."""

import contextlib
import dataclasses
import gc
import hashlib
import json
import os
import pickle
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_checkpoint import SMALL, Tensors, distinct_weights, hugging_face, hugging_face_name, stored, write
from minwhisper.checkpoints.configuration import read_config
from minwhisper.checkpoints.load import Checkpoint, load_checkpoint
from minwhisper.checkpoints.sources import CheckpointFiles, find_checkpoint, packaged_model
from minwhisper.checkpoints.tensor_matching import LoadReport
from minwhisper.errors import ConfigError, MinWhisperError, ModelNotFoundError, WeightsError
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.fast.cpu.panels import unpacked
from minwhisper.fast.cpu.weights import empty_weights
from minwhisper.model.config import PUBLISHED
from minwhisper.model.encoder import sinusoids
from minwhisper.model.weight_names import expected_shapes, flatten
from minwhisper.model.weights import WeightLayout, count_parameters
from test_ctranslate2 import model_bin

FLAT = distinct_weights()
FC1 = "model.decoder.layers.1.fc1.weight"
TABLE = "model.decoder.embed_tokens.weight"
POSITIONS = "model.encoder.embed_positions.weight"


@pytest.fixture
def tensors() -> Tensors:
    """Return a valid checkpoint by Hugging Face's names, which the test may modify."""
    return {name: array.copy() for name, array in hugging_face(FLAT).items()}


def load(folder: Path, dtype: str = "float32", strict: bool = True) -> Checkpoint:
    return load_checkpoint(find_checkpoint(folder), dtype=dtype, strict=strict)


def check_error(
    folder: Path, *parts: str, error: type[MinWhisperError] = WeightsError, strict: bool = True, dtype: str = "float32"
) -> None:
    """Check that loading fails with a one-line error that contains the folder and all the given parts."""
    with pytest.raises(error) as caught:
        load(folder, dtype, strict)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(folder), *parts):
        assert part in message


def check_weights(checkpoint: Checkpoint, expected: Tensors, dtype: str = "float32") -> None:
    """Check that the weights equal the expected ones exactly."""
    weights = dict(flatten(checkpoint.weights))
    assert list(weights) == list(expected_shapes(checkpoint.config))
    for name, array in weights.items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, expected[name].astype(dtype), err_msg=name)


# --- Values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "shards", "prefix"),
    [("float16", 1, "model."), ("bfloat16", 3, ""), ("float32", 3, "model."), ("float64", 1, "")],
)
@pytest.mark.parametrize("loaded", ["float16", "float32", "float64"])
def test_values_of_safetensors(
    tmp_path: Path, tensors: Tensors, dtype: str, shards: int, prefix: str, loaded: str
) -> None:
    renamed = {prefix + name.removeprefix("model."): array for name, array in tensors.items()}
    checkpoint = load(write(tmp_path, renamed, dtype, shards), loaded)
    assert checkpoint.config == SMALL
    assert checkpoint.report == LoadReport((), ())
    assert checkpoint.alignment_heads == ()
    check_weights(checkpoint, {name: stored(array, dtype)[1] for name, array in FLAT.items()}, loaded)


def test_weights_are_writable_and_outlive_the_files(tmp_path: Path, tensors: Tensors) -> None:
    checkpoint = load(write(tmp_path, tensors))
    for path in tmp_path.iterdir():
        path.unlink()
    for _, array in flatten(checkpoint.weights):
        assert array.flags.writeable
        assert array.itemsize in (array.strides[-1], array.strides[0])  # contiguous by rows or by columns
        array += 1
    check_weights(checkpoint, {name: array + np.float32(1) for name, array in FLAT.items()})
    assert checkpoint.weights["decoder"]["blocks"][0]["mlp"]["fc1"]["weight"].T.flags.c_contiguous


def test_the_configuration_is_read_without_the_weights(tmp_path: Path, tensors: Tensors) -> None:
    tensors[FC1] = tensors[FC1][:3]
    assert read_config(find_checkpoint(write(tmp_path, tensors))) == SMALL


@pytest.mark.parity
def test_checkpoint_saved_by_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    own = dataclasses.asdict(SMALL) | {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(**own, decoder_start_token_id=1, suppress_tokens=[], begin_suppress_tokens=[])
    )
    for parameter in model.parameters():
        if parameter.requires_grad:  # not the position table
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path)
    theirs = {name: array.numpy() for name, array in model.state_dict().items()}
    ours = hugging_face({name: np.empty(0) for name in FLAT})
    check_weights(load(tmp_path), {name: theirs[other] for name, other in zip(FLAT, ours, strict=True)})


# --- Tied weights: the output projection is the token embedding ------------------------------------------------------


@pytest.mark.parametrize("order", ["projection first", "projection last", "projection only"])
def test_tied_output_projection(tmp_path: Path, tensors: Tensors, order: str) -> None:
    projection = {"proj_out.weight": tensors[TABLE]}
    if order == "projection only":
        del tensors[TABLE]
    check_weights(load(write(tmp_path, tensors | projection if "last" in order else projection | tensors)), FLAT)


@pytest.mark.parametrize("strict", [True, False])
def test_two_different_tensors_of_one_name(tmp_path: Path, tensors: Tensors, strict: bool) -> None:
    projection = tensors[TABLE].copy()
    projection[-1, -1] += 1
    write(tmp_path, tensors | {"proj_out.weight": projection})
    check_error(tmp_path, "decoder.token_embedding", TABLE, "proj_out.weight", "to be equal", "tie_word", strict=strict)


# --- Missing and unexpected tensors, wrong shapes --------------------------------------------------------------------


def test_missing_tensors(tmp_path: Path, tensors: Tensors) -> None:
    write(tmp_path, {name: array for name, array in tensors.items() if name != FC1})
    check_error(tmp_path, "missing tensors (1): decoder.blocks.1.mlp.fc1.weight;", "does config.json", "strict=False")
    write(tmp_path, {name: array for name, array in tensors.items() if "decoder.layers.1" not in name})
    check_error(tmp_path, "missing tensors (24): decoder.blocks.1.attention_norm.weight, ", " and 20 more;")


@pytest.mark.parametrize("name", ["model.decoder.layers.2.fc1.weight", "lm_head.weight", "encoder/num_heads"])
def test_unexpected_tensor(tmp_path: Path, tensors: Tensors, name: str) -> None:
    write(tmp_path, tensors | {name: np.zeros(3)})
    check_error(tmp_path, f"unexpected tensors (1): {name};", "does config.json", "strict=False")


@pytest.mark.parametrize(
    ("name", "ours", "expected"),
    [
        (FC1, "decoder.blocks.1.mlp.fc1.weight", (28, 8)),
        ("model.encoder.layer_norm.bias", "encoder.norm.bias", (8,)),
        (POSITIONS, "encoder.positions", (12, 8)),
        (TABLE, "decoder.token_embedding", (60, 8)),
    ],
)
def test_wrong_shape(tmp_path: Path, tensors: Tensors, name: str, ours: str, expected: tuple[int, ...]) -> None:
    for wrong, strict in ((tensors[name][:-1], True), (tensors[name][None], False), (tensors[FC1].T, False)):
        write(tmp_path, tensors | {name: wrong.copy()})
        check_error(tmp_path, f"{ours}: expected {expected}, the file has {wrong.shape} (as {name})", strict=strict)


def test_config_of_another_model(tmp_path: Path, tensors: Tensors) -> None:
    write(tmp_path, tensors, decoder_ffn_dim=32)
    parts = "decoder.blocks.0.mlp.fc1.weight: expected (32, 8), the file has (28, 8)", "does config.json belong to this"
    check_error(tmp_path, *parts)


def test_strict_false(tmp_path: Path, tensors: Tensors, recwarn: pytest.WarningsRecorder) -> None:
    assert load(write(tmp_path, tensors), strict=False).report == LoadReport((), ())
    assert not recwarn
    for name in ("model.decoder.embed_positions.weight", POSITIONS):
        del tensors[name]
    write(tmp_path, tensors | {"a.weight": np.ones(3), "b": np.ones((2, 2))})
    check_error(tmp_path, "missing tensors (2):", "unexpected tensors (2): a.weight, b;")
    with pytest.warns(UserWarning, match=r"\(2\): encoder\.positions, decoder\.positions; .*filled with zeros"):
        checkpoint = load(tmp_path, strict=False)
    assert checkpoint.report == LoadReport(("encoder.positions", "decoder.positions"), ("a.weight", "b"))
    zeros = {name: np.zeros_like(FLAT[name]) for name in ("encoder.positions", "decoder.positions")}
    check_weights(checkpoint, FLAT | zeros)


def test_a_checkpoint_that_lacks_most_of_the_model(tmp_path: Path, tensors: Tensors) -> None:
    write(tmp_path, {POSITIONS: tensors[POSITIONS]})
    check_error(tmp_path, "missing tensors", "expected at least half of the model's values", strict=False)


# --- Encoder positions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("loaded", ["float16", "float64"])
def test_rounded_positions(tmp_path: Path, tensors: Tensors, dtype: str, loaded: str) -> None:
    # All 1,500 positions, rounded but stored as float32, from angles in float32 or float64.
    rates = np.exp(-np.log(1e4) / 3 * np.arange(4)).astype(np.float32)
    angles = np.arange(1500, dtype=np.float32)[:, None] * rates
    computed = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    for table in (computed, sinusoids(1500, 8)):
        write(tmp_path, tensors | {POSITIONS: stored(table, dtype)[1]}, max_source_positions=1500)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(tmp_path, loaded)


RIGHT = sinusoids(12, 8)
WRONG = {
    "zeros": np.zeros((12, 8)),
    "interleaved": RIGHT.reshape(12, 2, 4).swapaxes(1, 2).reshape(12, 8).copy(),
    "one row late": sinusoids(13, 8)[1:],
    "upside down": RIGHT[::-1],
}
NOISE = np.random.default_rng(5).standard_normal((12, 8))
TRAINED = {
    "slightly": RIGHT + 1e-3 * NOISE,
    "clearly": RIGHT + 3e-2 * NOISE,
    "in a single value": RIGHT + 0.002 * (np.arange(96).reshape(12, 8) == 50),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_positions(tmp_path: Path, tensors: Tensors, wrong: str) -> None:
    write(tmp_path, tensors | {POSITIONS: WRONG[wrong]})
    check_error(tmp_path, "encoder.positions: expected Whisper's sinusoids, the file differs by", "strict=False")
    with pytest.warns(UserWarning, match=r"encoder\.positions: expected Whisper's sinusoids, .* it is used as it is$"):
        checkpoint = load(tmp_path, strict=False)
    check_weights(checkpoint, FLAT | {"encoder.positions": WRONG[wrong].astype(np.float32)})


@pytest.mark.parametrize("trained", TRAINED)
def test_trained_positions(tmp_path: Path, tensors: Tensors, trained: str) -> None:
    write(tmp_path, tensors | {POSITIONS: TRAINED[trained]})
    with pytest.warns(UserWarning, match=r"encoder\.positions: .* more than rounding: the table was probably trained"):
        checkpoint = load(tmp_path)
    check_weights(checkpoint, FLAT | {"encoder.positions": TRAINED[trained].astype(np.float32)})


# --- NaN, infinity and overflow --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "bad"), [("float16", np.nan), ("bfloat16", np.inf), ("float32", -np.inf), ("float64", np.nan)]
)
@pytest.mark.parametrize("loaded", ["float16", "float32", "float64"])
def test_weight_that_is_not_finite(tmp_path: Path, tensors: Tensors, dtype: str, loaded: str, bad: float) -> None:
    tensors[FC1][7, 3] = bad
    write(tmp_path, tensors, dtype)
    message = "decoder.blocks.1.mlp.fc1.weight: expected finite values, the file has NaN or infinity"
    for strict in (True, False):
        check_error(tmp_path, message, FC1, strict=strict, dtype=loaded)


@pytest.mark.parametrize("name", sorted(FLAT))
def test_every_tensor_is_checked_for_nan(tmp_path: Path, tensors: Tensors, name: str) -> None:
    array = tensors[hugging_face_name(name)]
    array.flat[array.size - 1] = np.nan
    write(tmp_path, tensors)
    check_error(tmp_path, f"{name}: expected finite values")
    with pytest.raises(WeightsError, match="expected finite values"):  # in the layout of the fast CPU engine too
        load_checkpoint(find_checkpoint(tmp_path), layout=empty_weights)


def test_values_too_large_for_the_dtype(tmp_path: Path, tensors: Tensors) -> None:
    tensors[FC1] = np.where(np.arange(8) == 3, 1e39, tensors[FC1].astype(np.float64))
    write(tmp_path, tensors, "float64")
    check_error(
        tmp_path, "expected values up to 3.40282e+38 for dtype 'float32', the file has larger ones", "'float64'"
    )
    load(tmp_path, "float64")


# --- Damaged files ---------------------------------------------------------------------------------------------------


class Explosive:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_is_never_opened(tmp_path: Path, tensors: Tensors) -> None:
    folder = write(tmp_path / "model", tensors)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Explosive(tmp_path / "mark")))
    check_error(
        folder,
        "no model.safetensors, and pytorch_model.bin is a pickle",
        "convert it to safetensors with from_pretrained",
        error=ModelNotFoundError,
    )
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    check_error(folder, "this is a PyTorch file (a pickle)")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"d_model": None}, ["config.json lacks d_model"]),
        ({"activation_function": "\x1b[31m" + "x" * 10**6}, ["'\\x1b[31mxxx", "xxx'"]),
        ({"alignment_heads": [[-1, 0]]}, ["alignment_heads: block: expected a whole number", "got -1"]),
        ({"alignment_heads": [[0, 0]] * 9}, ["alignment_heads: expected at most the 8 heads", "got 9"]),
        ({"alignment_heads": [[0, 0]] * 20_000}, ["alignment_heads: expected pairs"]),
        ({"alignment_heads": [[0, True]]}, ["alignment_heads: head: expected a whole number", "got True"]),
        ({"alignment_heads": [1, 2]}, ["alignment_heads: expected pairs [block, head], got [1, 2]"]),
        ({"alignment_heads": {"0": 1}}, ["alignment_heads: expected pairs"]),
    ],
)
def test_wrong_configuration(tmp_path: Path, tensors: Tensors, config: dict[str, Any], parts: list[str]) -> None:
    check_error(write(tmp_path, tensors, **config), *parts, error=ConfigError)


@pytest.mark.parametrize("heads", [[[1, 3], [2, 0]], [[0, 4]]])
def test_alignment_heads_of_a_teacher_are_ignored_with_a_warning(
    tmp_path: Path, tensors: Tensors, heads: list[list[int]]
) -> None:
    write(tmp_path, tensors)
    (tmp_path / "generation_config.json").write_text(json.dumps({"alignment_heads": heads}))
    block, head = heads[-1]
    with pytest.warns(
        UserWarning,
        match=f"lists head {head} of block {block}, .* 2 blocks of 4 heads; .*word_timestamps is not available",
    ):
        checkpoint = load(tmp_path)
    assert checkpoint.alignment_heads == ()
    check_weights(checkpoint, FLAT)


# --- CTranslate2 -----------------------------------------------------------------------------------------------------

_PARTS = {
    "self_attention/linear_0": ("attention.query", "attention.key", "attention.value"),
    "self_attention/linear_1": ("attention.out",),
    "self_attention/layer_norm": ("attention_norm",),
    "attention/linear_0": ("cross_attention.query",),
    "attention/linear_1": ("cross_attention.key", "cross_attention.value"),
    "attention/linear_2": ("cross_attention.out",),
    "attention/layer_norm": ("cross_attention_norm",),
    "ffn/linear_0": ("mlp.fc1",),
    "ffn/linear_1": ("mlp.fc2",),
    "ffn/layer_norm": ("mlp_norm",),
}


def ctranslate2(flat: Tensors) -> Tensors:
    """Return the tensors of ``SMALL`` with CTranslate2's names and stacking, and the head counts."""
    out: Tensors = {}
    for half, blocks, heads in (("encoder", 1, 2), ("decoder", 2, 4)):
        for block in range(blocks):
            for part, ours in _PARTS.items():
                if half == "encoder" and part.startswith("attention"):
                    continue
                for kind, theirs in (("weight", "gamma"), ("bias", "beta")):
                    zeros = np.zeros(8, np.float32)  # for the key
                    stack = [flat.get(f"{half}.blocks.{block}.{name}.{kind}", zeros) for name in ours]
                    name = theirs if "norm" in part else kind
                    out[f"{half}/layer_{block}/{part}/{name}"] = np.concatenate(stack)
        out[f"{half}/layer_norm/gamma"] = flat[f"{half}.norm.weight"]
        out[f"{half}/layer_norm/beta"] = flat[f"{half}.norm.bias"]
        out[f"{half}/position_encodings/encodings"] = flat[f"{half}.positions"]
        out[f"{half}/num_heads"] = np.array(heads, np.int16)
    for name in ("conv1", "conv2"):
        out |= {f"encoder/{name}/{kind}": flat[f"encoder.{name}.{kind}"] for kind in ("weight", "bias")}
    return out | {"decoder/embeddings/weight": flat["decoder.token_embedding"]}


ALIAS = {"decoder/projection/weight": "decoder/embeddings/weight"}


def write_bin(folder: Path, tensors: Tensors, config: str = "{}") -> Path:
    (folder / "model.bin").write_bytes(model_bin(tensors, ALIAS))
    (folder / "config.json").write_text(config)
    return folder


def test_values_and_configuration_of_ctranslate2(tmp_path: Path) -> None:
    checkpoint = load(write_bin(tmp_path, ctranslate2(FLAT), '{"alignment_heads": [[1, 3]]}'))
    assert checkpoint.config == SMALL == read_config(find_checkpoint(tmp_path))
    assert checkpoint.alignment_heads == ((1, 3),)
    check_weights(checkpoint, FLAT)


@pytest.mark.parametrize(
    ("stack", "row"), [("encoder/layer_0/self_attention/linear_0", 15), ("decoder/layer_1/attention/linear_1", 0)]
)
def test_the_key_bias_must_be_zero(tmp_path: Path, stack: str, row: int) -> None:
    tensors = ctranslate2(FLAT)
    tensors[f"{stack}/bias"][row] = 1e-3
    write_bin(tmp_path, tensors)
    for strict in (True, False):
        check_error(tmp_path, "attention.key.bias: expected zeros", f"{stack}/bias", strict=strict)


def test_missing_unexpected_and_wrong_tensors_of_ctranslate2(tmp_path: Path) -> None:
    tensors = ctranslate2(FLAT)
    stack = tensors.pop("decoder/layer_1/self_attention/linear_0/weight")
    write_bin(tmp_path, tensors | {"decoder/layer_0/attention/linear_3/weight": stack})
    check_error(
        tmp_path,
        "missing tensors (3): decoder.blocks.1.attention.query.weight, decoder.blocks.1.attention.key.weight",
        "unexpected tensors (1): decoder/layer_0/attention/linear_3/weight",
    )
    write_bin(tmp_path, tensors | {"decoder/layer_1/self_attention/linear_0/weight": stack[:-1]})
    check_error(tmp_path, "expected (24, 8), the file has (23, 8)", "decoder/layer_1/self_attention/linear_0/weight")


@pytest.mark.parametrize("name", ["decoder/num_heads", "encoder/conv1/weight"])
def test_a_missing_tensor_that_the_configuration_needs(tmp_path: Path, name: str) -> None:
    tensors = ctranslate2(FLAT)
    del tensors[name]
    (tmp_path / "model.bin").write_bytes(model_bin(tensors))
    check_error(tmp_path, f"expected a tensor {name}, the file has none; is this a Whisper model?")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (np.array(np.nan, np.float32), "encoder/num_heads: expected a whole number from 1 to 1024, got nan"),
        (np.array(2.5, np.float32), "expected a whole number from 1 to 1024, got 2.5"),
        (np.array(0, np.int16), "expected a whole number from 1 to 1024, got 0"),
        (np.array([2, 2], np.float32), "encoder/num_heads: expected a scalar, the file has shape (2,)"),
        (np.array(3, np.int16), "encoder_attention_heads: 3 heads do not divide d_model, 8"),
    ],
)
def test_invalid_head_count(tmp_path: Path, heads: np.ndarray, message: str) -> None:
    write_bin(tmp_path, ctranslate2(FLAT) | {"encoder/num_heads": heads})
    check_error(tmp_path, message, error=MinWhisperError)


# --- Installed models ------------------------------------------------------------------------------------------------


def package(name: str) -> CheckpointFiles:
    files = packaged_model(name)
    if files is None:
        pytest.skip("the weight package is not installed")
    return files


@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_installed_models(name: str) -> None:
    installed = package(name)
    checkpoint = load_checkpoint(installed)
    assert checkpoint.config == PUBLISHED[installed.label] == read_config(installed)
    heads = json.loads((installed.folder / "config.json").read_text())["alignment_heads"]
    assert checkpoint.alignment_heads == tuple(map(tuple, heads))
    assert len(heads) == 8
    assert checkpoint.report == LoadReport((), ())
    weights = dict(flatten(checkpoint.weights))
    assert {name: array.shape for name, array in weights.items()} == expected_shapes(PUBLISHED[installed.label])
    for name, array in weights.items():
        assert np.isfinite(array).all(), name
        assert array.any(), name


def test_a_flipped_bit(tmp_path: Path) -> None:
    files = find_checkpoint(write_bin(tmp_path, ctranslate2(FLAT)))
    path = files.weights[0]
    data = bytearray(path.read_bytes())
    files = dataclasses.replace(files, sha256=hashlib.sha256(data).hexdigest())
    load_checkpoint(files)
    data[len(data) // 2] ^= 1
    for damaged in (data, data[: len(data) // 3]):  # the checksum error hides the error of reading
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=rf"model\.bin .*expected sha256 {files.sha256}, got \w+; .*$"):
            load_checkpoint(files, strict=False)


def test_a_wrong_checksum_keeps_no_weights_in_memory() -> None:
    files = dataclasses.replace(package("tiny.en"), sha256="0" * 64)
    gc.collect()
    gc.disable()  # which would free a reference cycle at some time
    tracemalloc.start()
    try:
        with contextlib.suppress(WeightsError):  # pytest.raises would keep the traceback
            load_checkpoint(files)
            pytest.fail("the checksum was not verified")
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert left < 1e6


@pytest.mark.parametrize("layout", [None, empty_weights], ids=["layers", "fast engine"])
def test_loading_makes_no_second_copy(layout: WeightLayout | None) -> None:
    files = package("tiny.en")
    tracemalloc.start()  # NumPy reports every array to it
    try:
        checkpoint = load_checkpoint(files, layout=layout)
        if layout:
            CpuEngine(checkpoint.weights, checkpoint.config, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = 4 * count_parameters(unpacked(checkpoint.weights))
    assert size <= peak < 1.15 * size


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of mapped files")
def test_files_are_not_mapped(tmp_path: Path, tensors: Tensors) -> None:
    path = write(tmp_path, tensors) / "model.safetensors"
    mapped = np.memmap(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    del mapped
    checkpoint = load(tmp_path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    check_weights(checkpoint, FLAT)
