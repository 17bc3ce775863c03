"""Weights are read into the layout of the CPU engine, and matrices are not copied afterwards."""

import numpy as np
import pytest

from conftest import SMALL
from hf_checkpoint import distinct_weights, hugging_face, write
from minwhisper import Whisper, load_model
from minwhisper.checkpoints.load import load_checkpoint
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.fast.cpu.panels import Panels, packed, unpacked
from minwhisper.fast.cpu.weights import empty_weights
from minwhisper.model.weight_names import flatten
from minwhisper.model.weights import random_weights


def memory(weight) -> np.ndarray:
    return weight.array if isinstance(weight, Panels) else weight


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in found.items():
        assert np.array_equal(array, expected[name]), name


@pytest.mark.parametrize("shared", [False, True])
def test_the_engine_does_not_copy_matrices(tiny_en, shared, tmp_path):
    model = load_model("tiny.en", shared=tmp_path) if shared else tiny_en
    stored, engine = packed(model.weights), CpuEngine(model.weights, model.config, 1)
    pairs = [(engine.decoder.token_embedding, [stored["decoder"]["token_embedding"]])]
    for half in ("encoder", "decoder"):
        for block, ours in zip(stored[half]["blocks"], getattr(engine, half).blocks, strict=True):
            own, cross, mlp = block["attention"], block.get("cross_attention"), block["mlp"]
            pairs += [(ours.query_key_value.weight, [own[name]["weight"] for name in ("query", "key", "value")])]
            pairs += [(ours.out.weight, [own["out"]["weight"]])]
            pairs += [(getattr(ours, name).weight, [mlp[name]["weight"]]) for name in ("fc1", "fc2")]
            if cross:
                pairs += [(ours.cross_key_value.weight, [cross["key"]["weight"], cross["value"]["weight"]])]
                pairs += [(getattr(ours, f"cross_{name}").weight, [cross[name]["weight"]]) for name in ("query", "out")]
    assert len(pairs) == 1 + 4 * 4 + 7 * 4
    for ours, parts in pairs:
        assert memory(ours).flags.writeable != shared
        assert memory(ours).nbytes == sum(memory(part).nbytes for part in parts)
        assert all(np.shares_memory(memory(ours), memory(part)) for part in parts)


def test_unpacked_weights_equal_those_of_the_readable_layout(tmp_path):
    files = find_checkpoint(write(tmp_path, hugging_face(distinct_weights())))
    expected = dict(flatten(load_checkpoint(files).weights))
    assert_same(dict(flatten(unpacked(load_checkpoint(files, layout=empty_weights).weights))), expected)


def test_missing_tensors_are_filled_with_zeros(tmp_path):
    tensors = hugging_face(distinct_weights())
    for name in ("model.decoder.layers.1.fc1.weight", "model.decoder.layers.0.self_attn.k_proj.weight"):
        del tensors[name]
    files = find_checkpoint(write(tmp_path, tensors))
    with pytest.warns(UserWarning, match=r"missing tensors \(2\)"):
        checkpoint = load_checkpoint(files, strict=False, layout=empty_weights)
    weights = dict(flatten(unpacked(checkpoint.weights)))
    for name in ("decoder.blocks.1.mlp.fc1.weight", "decoder.blocks.0.attention.key.weight"):
        assert not weights[name].any()
    assert weights["decoder.blocks.0.mlp.fc1.weight"].any()


def test_random_weights_do_not_depend_on_the_layout():
    untrained = Whisper.random(SMALL, seed=3)
    assert isinstance(packed(untrained.weights)["decoder"]["token_embedding"], Panels)
    assert_same(dict(flatten(untrained.weights)), dict(flatten(random_weights(SMALL, 3))))
