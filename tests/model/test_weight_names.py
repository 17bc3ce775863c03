"""Names and shapes of the tensors, and their names in two checkpoint formats."""

from dataclasses import replace
from math import prod
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

# Every tensor of a model with one block each in encoder and decoder: its name in Transformers, and here.
HUGGING_FACE = {
    "model.encoder.conv1.weight": "encoder.conv1.weight",
    "model.encoder.conv1.bias": "encoder.conv1.bias",
    "model.encoder.conv2.weight": "encoder.conv2.weight",
    "model.encoder.conv2.bias": "encoder.conv2.bias",
    "model.encoder.embed_positions.weight": "encoder.positions",
    "model.encoder.layers.0.self_attn.k_proj.weight": "encoder.blocks.0.attention.key.weight",
    "model.encoder.layers.0.self_attn.v_proj.weight": "encoder.blocks.0.attention.value.weight",
    "model.encoder.layers.0.self_attn.v_proj.bias": "encoder.blocks.0.attention.value.bias",
    "model.encoder.layers.0.self_attn.q_proj.weight": "encoder.blocks.0.attention.query.weight",
    "model.encoder.layers.0.self_attn.q_proj.bias": "encoder.blocks.0.attention.query.bias",
    "model.encoder.layers.0.self_attn.out_proj.weight": "encoder.blocks.0.attention.out.weight",
    "model.encoder.layers.0.self_attn.out_proj.bias": "encoder.blocks.0.attention.out.bias",
    "model.encoder.layers.0.self_attn_layer_norm.weight": "encoder.blocks.0.attention_norm.weight",
    "model.encoder.layers.0.self_attn_layer_norm.bias": "encoder.blocks.0.attention_norm.bias",
    "model.encoder.layers.0.fc1.weight": "encoder.blocks.0.mlp.fc1.weight",
    "model.encoder.layers.0.fc1.bias": "encoder.blocks.0.mlp.fc1.bias",
    "model.encoder.layers.0.fc2.weight": "encoder.blocks.0.mlp.fc2.weight",
    "model.encoder.layers.0.fc2.bias": "encoder.blocks.0.mlp.fc2.bias",
    "model.encoder.layers.0.final_layer_norm.weight": "encoder.blocks.0.mlp_norm.weight",
    "model.encoder.layers.0.final_layer_norm.bias": "encoder.blocks.0.mlp_norm.bias",
    "model.encoder.layer_norm.weight": "encoder.norm.weight",
    "model.encoder.layer_norm.bias": "encoder.norm.bias",
    "model.decoder.embed_tokens.weight": "decoder.token_embedding",
    "model.decoder.embed_positions.weight": "decoder.positions",
    "model.decoder.layers.0.self_attn.k_proj.weight": "decoder.blocks.0.attention.key.weight",
    "model.decoder.layers.0.self_attn.v_proj.weight": "decoder.blocks.0.attention.value.weight",
    "model.decoder.layers.0.self_attn.v_proj.bias": "decoder.blocks.0.attention.value.bias",
    "model.decoder.layers.0.self_attn.q_proj.weight": "decoder.blocks.0.attention.query.weight",
    "model.decoder.layers.0.self_attn.q_proj.bias": "decoder.blocks.0.attention.query.bias",
    "model.decoder.layers.0.self_attn.out_proj.weight": "decoder.blocks.0.attention.out.weight",
    "model.decoder.layers.0.self_attn.out_proj.bias": "decoder.blocks.0.attention.out.bias",
    "model.decoder.layers.0.self_attn_layer_norm.weight": "decoder.blocks.0.attention_norm.weight",
    "model.decoder.layers.0.self_attn_layer_norm.bias": "decoder.blocks.0.attention_norm.bias",
    "model.decoder.layers.0.encoder_attn.k_proj.weight": "decoder.blocks.0.cross_attention.key.weight",
    "model.decoder.layers.0.encoder_attn.v_proj.weight": "decoder.blocks.0.cross_attention.value.weight",
    "model.decoder.layers.0.encoder_attn.v_proj.bias": "decoder.blocks.0.cross_attention.value.bias",
    "model.decoder.layers.0.encoder_attn.q_proj.weight": "decoder.blocks.0.cross_attention.query.weight",
    "model.decoder.layers.0.encoder_attn.q_proj.bias": "decoder.blocks.0.cross_attention.query.bias",
    "model.decoder.layers.0.encoder_attn.out_proj.weight": "decoder.blocks.0.cross_attention.out.weight",
    "model.decoder.layers.0.encoder_attn.out_proj.bias": "decoder.blocks.0.cross_attention.out.bias",
    "model.decoder.layers.0.encoder_attn_layer_norm.weight": "decoder.blocks.0.cross_attention_norm.weight",
    "model.decoder.layers.0.encoder_attn_layer_norm.bias": "decoder.blocks.0.cross_attention_norm.bias",
    "model.decoder.layers.0.fc1.weight": "decoder.blocks.0.mlp.fc1.weight",
    "model.decoder.layers.0.fc1.bias": "decoder.blocks.0.mlp.fc1.bias",
    "model.decoder.layers.0.fc2.weight": "decoder.blocks.0.mlp.fc2.weight",
    "model.decoder.layers.0.fc2.bias": "decoder.blocks.0.mlp.fc2.bias",
    "model.decoder.layers.0.final_layer_norm.weight": "decoder.blocks.0.mlp_norm.weight",
    "model.decoder.layers.0.final_layer_norm.bias": "decoder.blocks.0.mlp_norm.bias",
    "model.decoder.layer_norm.weight": "decoder.norm.weight",
    "model.decoder.layer_norm.bias": "decoder.norm.bias",
}


@pytest.mark.parametrize(
    ("name", "tensors"),
    [("tiny", 167), ("base", 245), ("small", 479), ("medium", 947), ("large-v3", 1259), ("large-v3-turbo", 587)],
)
def test_number_of_tensors_of_the_published_models(name: str, tensors: int) -> None:
    assert len(expected_shapes(PUBLISHED[name])) == tensors


def test_parameter_count_of_a_small_model() -> None:
    norm = 2 * 8
    attention = norm + 4 * 8 * 8 + 3 * 8  # the keys have no bias
    encoder = (8 * 5 * 3 + 8) + (8 * 8 * 3 + 8) + 12 * 8 + norm
    encoder += 1 * (attention + norm + (20 * 8 + 20) + (8 * 20 + 8))
    decoder = 60 * 8 + 7 * 8 + norm
    decoder += 2 * (2 * attention + norm + (28 * 8 + 28) + (8 * 28 + 8))
    shapes = expected_shapes(SMALL)
    by_half = {half: sum(prod(shapes[name]) for name in shapes if name.startswith(half)) for half in ("enc", "dec")}
    assert by_half == {"enc": encoder, "dec": decoder}


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


def test_hugging_face_names_cover_the_expected_tensors() -> None:
    assert {name: from_hugging_face(name) for name in HUGGING_FACE} == {k: (v,) for k, v in HUGGING_FACE.items()}
    assert set(HUGGING_FACE.values()) == set(expected_shapes(ONE_LAYER))
    assert len(set(HUGGING_FACE.values())) == len(HUGGING_FACE)


def test_hugging_face_names_without_the_prefix() -> None:
    for theirs, ours in HUGGING_FACE.items():
        assert from_hugging_face(theirs.removeprefix("model.")) == (ours,)


def test_the_names_that_the_tests_write_are_hugging_faces() -> None:
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


def test_both_formats_have_a_second_name_for_the_tied_embedding() -> None:
    assert from_hugging_face("proj_out.weight") == ("decoder.token_embedding",)
    assert from_ctranslate2("decoder/projection/weight") == ("decoder.token_embedding",)


def test_stacked_tensors_are_split_in_order() -> None:
    assert from_ctranslate2("encoder/layer_10/self_attention/linear_0/weight") == (
        "encoder.blocks.10.attention.query.weight",
        "encoder.blocks.10.attention.key.weight",
        "encoder.blocks.10.attention.value.weight",
    )
    for linear, ours in (("linear_0", "query"), ("linear_2", "out")):
        name = f"decoder/layer_0/attention/{linear}/bias"
        assert from_ctranslate2(name) == (f"decoder.blocks.0.cross_attention.{ours}.bias",)


def test_settings_are_not_weights() -> None:
    assert from_ctranslate2("encoder/num_heads") == from_ctranslate2("decoder/alignment_heads") == ()


@pytest.mark.parametrize("model", ["tiny.en", "base"])
def test_ctranslate2_names_cover_the_expected_tensors(model: str) -> None:
    files = packaged_model(model)
    if files is None:
        pytest.skip("its weight package is not installed")
    with open_tensors(files) as tensors:
        shapes = tensors.shapes()
    expected = expected_shapes(PUBLISHED[model])
    reached = [name for theirs in shapes if theirs != "decoder/projection/weight" for name in from_ctranslate2(theirs)]
    assert len(set(reached)) == len(reached)
    key_biases = {name.replace(".weight", ".bias") for name in expected if name.endswith(".key.weight")}
    assert set(reached) == set(expected) | key_biases
    settings = [name for name in shapes if not from_ctranslate2(name)]
    assert {shapes[name] for name in settings} == {()}
    assert {"encoder/num_heads", "decoder/num_heads"} <= set(settings)
