"""Weights are read into the layout that the CPU's engine computes with, and nothing is copied afterwards."""

import tracemalloc

import numpy as np
import pytest

from hf_checkpoint import distinct_weights, hugging_face, write
from minwhisper.checkpoint import count_parameters, load_checkpoint, random_weights
from minwhisper.config import PUBLISHED
from minwhisper.fast.cpu import CpuEngine
from minwhisper.fast.cpu_layers import Linear
from minwhisper.fast.cpu_weights import empty_weights
from minwhisper.fast.panels import PanelLinear, Panels, unpacked
from minwhisper.names import flatten
from minwhisper.sources import find_checkpoint


def memory(weight) -> np.ndarray:
    return weight.strips if isinstance(weight, Panels) else weight


def test_the_engine_computes_with_what_was_read(model):
    stored, engine = model.stored, CpuEngine(model.stored, model.config, 1)
    pairs = [(engine.decoder.token_embedding, [stored["decoder"]["token_embedding"]])]
    for half in ("encoder", "decoder"):
        for block, ours in zip(stored[half]["blocks"], getattr(engine, half).blocks, strict=True):
            own, cross, mlp = block["attention"], block.get("cross_attention"), block["mlp"]
            pairs += [(ours.query_key_value, [own[name]["weight"] for name in ("query", "key", "value")])]
            pairs += [(ours.out, [own["out"]["weight"]])]
            pairs += [(getattr(ours, name), [mlp[name]["weight"]]) for name in ("fc1", "fc2")]
            if cross:
                pairs += [(ours.cross_key_value, [cross["key"]["weight"], cross["value"]["weight"]])]
                pairs += [(getattr(ours, f"cross_{name}"), [cross[name]["weight"]]) for name in ("query", "out")]
    assert len(pairs) == 1 + 4 * len(stored["encoder"]["blocks"]) + 7 * len(stored["decoder"]["blocks"])
    for ours, parts in pairs:
        weight = memory(ours.weight if isinstance(ours, Linear | PanelLinear) else ours)
        assert weight.nbytes == sum(memory(part).nbytes for part in parts)
        assert all(np.shares_memory(weight, memory(part)) for part in parts)


def test_every_number_is_where_the_layers_look_for_it(tmp_path):
    files = find_checkpoint(write(tmp_path, hugging_face(distinct_weights())))
    expected = dict(flatten(load_checkpoint(files).weights))
    found = dict(flatten(unpacked(load_checkpoint(files, room=empty_weights).weights)))
    assert list(found) == list(expected)
    assert all(np.array_equal(array, expected[name]) for name, array in found.items())


def test_of_a_real_model_too(tiny_en):
    expected = dict(flatten(load_checkpoint(find_checkpoint("tiny.en")).weights))
    assert all(np.array_equal(array, expected[name]) for name, array in flatten(tiny_en.weights))


def test_what_is_missing_is_zero(tmp_path):
    tensors = hugging_face(distinct_weights())
    for name in ("model.decoder.layers.1.fc1.weight", "model.decoder.layers.0.self_attn.k_proj.weight"):
        del tensors[name]
    files = find_checkpoint(write(tmp_path, tensors))
    with pytest.warns(UserWarning, match=r"missing tensors \(2\)"):
        checkpoint = load_checkpoint(files, strict=False, room=empty_weights)
    weights = dict(flatten(unpacked(checkpoint.weights)))
    for name in ("decoder.blocks.1.mlp.fc1.weight", "decoder.blocks.0.attention.key.weight"):
        assert not weights[name].any()
    assert weights["decoder.blocks.0.mlp.fc1.weight"].any()


def test_untrained_weights_are_the_same_in_any_layout():
    expected = dict(flatten(random_weights(PUBLISHED["tiny"], 3)))
    found = flatten(unpacked(random_weights(PUBLISHED["tiny"], 3, room=empty_weights)))
    assert all(np.array_equal(array, expected[name]) for name, array in found)


def test_no_second_copy_is_ever_in_memory():
    files = find_checkpoint("tiny.en")
    tracemalloc.start()  # which NumPy tells of every array
    try:
        checkpoint = load_checkpoint(files, room=empty_weights)
        CpuEngine(checkpoint.weights, checkpoint.config, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = 4 * count_parameters(unpacked(checkpoint.weights))
    assert size <= peak < 1.15 * size


def test_the_layers_of_a_model_see_what_its_engine_computes_with(tiny_en):
    weights = tiny_en.weights
    assert weights is tiny_en.weights
    assert np.array_equal(weights["decoder"]["token_embedding"], tiny_en.engine.decoder.token_embedding.weight())
    assert np.shares_memory(weights["encoder"]["positions"], tiny_en.stored["encoder"]["positions"])
