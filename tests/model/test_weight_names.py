"""Names and shapes of the tensors, and their names in two checkpoint formats."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_checkpoint import SMALL, hugging_face_name
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.checkpoints.tensor_files import open_tensors
from minwhisper.model.config import PUBLISHED
from minwhisper.model.weight_names import expected_shapes, flatten, from_ctranslate2, from_hugging_face, nest

ONE_LAYER = replace(
    SMALL, decoder_layers=1, decoder_attention_heads=2, max_source_positions=1500, max_target_positions=448
)

PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}


def hugging_face_names() -> dict[str, str]:
    """Return every tensor of a model with one block each in encoder and decoder: its name in Transformers, and here."""
    names = {"model.decoder.embed_tokens.weight": "decoder.token_embedding"}

    def affine(theirs: str, ours: str, bias: bool = True) -> None:
        names[f"model.{theirs}.weight"] = f"{ours}.weight"
        if bias:
            names[f"model.{theirs}.bias"] = f"{ours}.bias"

    affine("encoder.conv1", "encoder.conv1")
    affine("encoder.conv2", "encoder.conv2")
    for half in ("encoder", "decoder"):
        layer, block = f"{half}.layers.0", f"{half}.blocks.0"
        names[f"model.{half}.embed_positions.weight"] = f"{half}.positions"
        for module, name in (("self_attn", "attention"), ("encoder_attn", "cross_attention")):
            if (half, name) != ("encoder", "cross_attention"):
                affine(f"{layer}.{module}_layer_norm", f"{block}.{name}_norm")
                for ours, theirs in PROJECTIONS.items():
                    affine(f"{layer}.{module}.{theirs}", f"{block}.{name}.{ours}", bias=ours != "key")
        affine(f"{layer}.final_layer_norm", f"{block}.mlp_norm")
        affine(f"{layer}.fc1", f"{block}.mlp.fc1")
        affine(f"{layer}.fc2", f"{block}.mlp.fc2")
        affine(f"{half}.layer_norm", f"{half}.norm")
    return names


HUGGING_FACE = hugging_face_names()


@pytest.mark.parametrize(
    ("name", "tensors"),
    [("tiny", 167), ("base", 245), ("small", 479), ("medium", 947), ("large-v3", 1259), ("large-v3-turbo", 587)],
)
def test_number_of_tensors_of_the_published_models(name: str, tensors: int) -> None:
    assert len(expected_shapes(PUBLISHED[name])) == tensors


def test_shapes_are_outputs_by_inputs() -> None:
    shapes = expected_shapes(SMALL)
    assert shapes["encoder.conv1.weight"] == (8, 5, 3)
    assert shapes["encoder.positions"] == (12, 8)
    assert shapes["encoder.blocks.0.mlp.fc1.weight"] == (20, 8)
    assert shapes["decoder.blocks.1.mlp.fc2.weight"] == (8, 28)
    assert shapes["decoder.blocks.1.mlp.fc1.bias"] == (28,)
    assert shapes["decoder.token_embedding"] == (60, 8)
    assert shapes["decoder.positions"] == (7, 8)


def test_all_projections_except_keys_have_a_bias() -> None:
    shapes = expected_shapes(SMALL)
    weights = {name.removesuffix(".weight") for name in shapes if name.endswith(".weight")}
    biases = {name.removesuffix(".bias") for name in shapes if name.endswith(".bias")}
    assert weights - biases == {name for name in weights if name.endswith(".key")}
    assert len(weights - biases) == 1 + 2 * 2
    assert not biases - weights


def test_flatten_is_the_inverse_of_nest() -> None:
    flat = {name: np.empty(shape) for name, shape in expected_shapes(SMALL).items()}
    nested = nest(flat)
    back = dict(flatten(nested))
    assert list(back) == list(flat)
    assert all(back[name] is flat[name] for name in flat)
    assert len(nested["decoder"]["blocks"]) == 2
    assert nested["decoder"]["blocks"][1]["mlp"]["fc1"]["bias"] is flat["decoder.blocks.1.mlp.fc1.bias"]


@given(st.permutations(range(12)))
def test_blocks_are_sorted_by_number(order: list[int]) -> None:
    nested: Any = nest({f"blocks.{number}.weight": number for number in order})  # type: ignore[misc]
    assert nested == {"blocks": tuple({"weight": number} for number in range(12))}


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_hugging_face_names_are_translated_with_and_without_their_prefix(prefix: str) -> None:
    for theirs, ours in HUGGING_FACE.items():
        assert from_hugging_face(prefix + theirs.removeprefix("model.")) == (ours,)


def test_the_names_that_the_tests_write_are_hugging_faces_and_all_that_there_are() -> None:
    assert {hugging_face_name(ours): ours for ours in expected_shapes(ONE_LAYER)} == HUGGING_FACE


@pytest.mark.parametrize("translate", [from_hugging_face, from_ctranslate2])
@pytest.mark.parametrize(
    "name",
    [
        "model.encoder.layers.1.self_attn.q_proj.weight",  # there is no second block
        "model.encoder.layers.0.encoder_attn.q_proj.weight",  # an encoder has no cross-attention
        "model.encoder.layers.0.self_attn.k_proj.bias",
        "model.encoder.layers.0.self_attn.rotary.weight",
        "model.encoder.embed_tokens.weight",
        "model.decoder.version",
        "encoder.proj_out.weight",
        "lm_head.weight",
        "decoder.token_embedding.weight",  # of openai-whisper's own files
        "decoder.blocks.0.attn.query.weight",
        "decoder/layer_0/attention/linear_3/weight",
        "decoder/layer_0/self_attention/linear_2/weight",
        "decoder/layer_0/ffn/linear_0/weight_scale",
        "encoder/layer_0/attention/linear_0/weight",
        "encoder/embeddings/weight",
        "encoder/num_heads/1",
        "",
    ],
)
def test_unknown_names_stay_unknown(translate: Any, name: str) -> None:
    names = translate(name)
    assert names
    assert not set(names) & set(expected_shapes(ONE_LAYER))


CTRANSLATE2 = {
    "encoder/layer_10/self_attention/linear_0/weight": (  # stacked: split in the order of the rows
        "encoder.blocks.10.attention.query.weight",
        "encoder.blocks.10.attention.key.weight",
        "encoder.blocks.10.attention.value.weight",
    ),
    "decoder/layer_0/attention/linear_0/bias": ("decoder.blocks.0.cross_attention.query.bias",),
    "decoder/layer_0/attention/linear_2/bias": ("decoder.blocks.0.cross_attention.out.bias",),
    "decoder/projection/weight": ("decoder.token_embedding",),  # a second name of the tied embedding
    "encoder/num_heads": (),  # settings, not weights
    "decoder/alignment_heads": (),
}


@pytest.mark.parametrize(("theirs", "ours"), CTRANSLATE2.items(), ids=CTRANSLATE2)
def test_ctranslate2_names_are_translated(theirs: str, ours: tuple[str, ...]) -> None:
    assert from_ctranslate2(theirs) == ours


def test_hugging_face_has_a_second_name_for_the_tied_embedding() -> None:
    assert from_hugging_face("proj_out.weight") == ("decoder.token_embedding",)


def test_ctranslate2_names_cover_the_expected_tensors() -> None:
    files = packaged_model("tiny.en")
    if files is None:
        pytest.skip("its weight package is not installed")
    with open_tensors(files) as tensors:
        shapes = tensors.shapes()
    expected = expected_shapes(PUBLISHED["tiny.en"])
    reached = [name for theirs in shapes if theirs != "decoder/projection/weight" for name in from_ctranslate2(theirs)]
    assert len(set(reached)) == len(reached)
    key_biases = {name.replace(".weight", ".bias") for name in expected if name.endswith(".key.weight")}
    assert set(reached) == set(expected) | key_biases
    settings = [name for name in shapes if not from_ctranslate2(name)]
    assert {shapes[name] for name in settings} == {()}
    assert {"encoder/num_heads", "decoder/num_heads"} <= set(settings)
