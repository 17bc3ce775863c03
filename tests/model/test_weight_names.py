"""Names and shapes of the tensors, and their names in two checkpoint formats."""

from typing import Any

import numpy as np
import pytest

from hf_checkpoint import SMALL, hugging_face_name
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.checkpoints.tensor_files import open_tensors
from minwhisper.model.config import PUBLISHED
from minwhisper.model.weight_names import expected_shapes, flatten, from_ctranslate2, from_hugging_face, nest


def test_shapes_are_outputs_by_inputs() -> None:
    assert (
        expected_shapes(SMALL).items()
        >= {
            "encoder.conv1.weight": (8, 5, 3),
            "encoder.positions": (12, 8),
            "encoder.blocks.0.mlp.fc1.weight": (20, 8),
            "decoder.blocks.1.mlp.fc2.weight": (8, 28),
            "decoder.blocks.1.mlp.fc1.bias": (28,),
            "decoder.token_embedding": (60, 8),
            "decoder.positions": (7, 8),
        }.items()
    )


def test_flatten_is_the_inverse_of_nest() -> None:
    flat = {name: np.empty(shape) for name, shape in expected_shapes(SMALL).items()}
    nested = nest(flat)
    back = dict(flatten(nested))
    assert list(back) == list(flat)
    assert all(back[name] is flat[name] for name in flat)
    assert nested["decoder"]["blocks"][1]["mlp"]["fc1"]["bias"] is flat["decoder.blocks.1.mlp.fc1.bias"]


def test_blocks_are_sorted_by_number() -> None:
    nested: Any = nest({f"blocks.{number}.weight": number for number in (3, 11, 0, 10, 9, 1, 2, 4, 5, 8, 7, 6)})  # type: ignore[misc]
    assert nested == {"blocks": tuple({"weight": number} for number in range(12))}


def test_hugging_face_names_are_translated_with_and_without_their_prefix() -> None:
    for ours in expected_shapes(SMALL):
        theirs = hugging_face_name(ours)
        assert from_hugging_face(theirs) == from_hugging_face(theirs.removeprefix("model.")) == (ours,)
    assert from_hugging_face("proj_out.weight") == ("decoder.token_embedding",)  # a second name of the tied embedding


@pytest.mark.parametrize("translate", [from_hugging_face, from_ctranslate2])
def test_unknown_names_stay_unknown(translate: Any) -> None:
    for name in (
        "model.encoder.layers.1.self_attn.q_proj.weight",  # there is no second block
        "model.encoder.layers.0.encoder_attn.q_proj.weight",  # an encoder has no cross-attention
        "model.encoder.layers.0.self_attn.k_proj.bias",
        "model.encoder.layers.0.self_attn.rotary.weight",
        "model.encoder.embed_tokens.weight",
        "encoder.proj_out.weight",
        "decoder.token_embedding.weight",  # of openai-whisper's own files
        "decoder.blocks.0.attn.query.weight",
        "decoder/layer_0/attention/linear_3/weight",
        "decoder/layer_0/ffn/linear_0/weight_scale",
        "encoder/layer_0/attention/linear_0/weight",
        "encoder/embeddings/weight",
        "encoder/num_heads/1",
        "",
    ):
        names = translate(name)
        assert names
        assert not set(names) & set(expected_shapes(SMALL)), name


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


def test_ctranslate2_names_are_translated() -> None:
    assert {theirs: from_ctranslate2(theirs) for theirs in CTRANSLATE2} == CTRANSLATE2


def test_ctranslate2_names_cover_the_expected_tensors() -> None:
    files = packaged_model("tiny.en")
    if files is None:
        pytest.skip("its weight package is not installed")
    with open_tensors(files) as tensors:
        shapes = tensors.shapes()
    expected = expected_shapes(PUBLISHED["tiny.en"])
    reached = [name for theirs in shapes if theirs != "decoder/projection/weight" for name in from_ctranslate2(theirs)]
    key_biases = {name.replace(".weight", ".bias") for name in expected if name.endswith(".key.weight")}
    assert sorted(reached) == sorted([*expected, *key_biases])
    assert {shapes[name] for name in shapes if not from_ctranslate2(name)} == {()}  # settings
