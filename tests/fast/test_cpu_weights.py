"""Weights are read directly into the layout of the CPU engine, and matrices are not copied afterwards."""

import tracemalloc

import numpy as np
import pytest

from hf_checkpoint import distinct_weights, hugging_face, write
from inputs import SMALL
from minwhisper import Whisper, load_model
from minwhisper.checkpoints.load import load_checkpoint
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.fast.cpu.engine import CpuEngine
from minwhisper.fast.cpu.panels import Panels, packed, unpacked
from minwhisper.fast.cpu.weights import empty_weights
from minwhisper.model.weight_names import flatten
from minwhisper.model.weights import random_weights


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in found.items():
        assert np.array_equal(array, expected[name]), name


@pytest.mark.parametrize("shared", [False, True])
def test_the_engine_does_not_copy_matrices(tiny_en, shared, tmp_path):
    model = load_model("tiny.en", shared=tmp_path) if shared else tiny_en
    copied = sum(packed(model.weights)["encoder"][name]["weight"].nbytes for name in ("conv1", "conv2"))
    tracemalloc.start()
    engine = CpuEngine(model.weights, model.config, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert engine.config is model.config
    assert copied < peak < copied + 300_000  # includes the biases, but not even the smallest matrix, which has 590 kB


@pytest.mark.filterwarnings("ignore:.*missing tensors")
@pytest.mark.parametrize(
    "lacking", [(), ("model.decoder.layers.1.fc1.weight", "model.decoder.layers.0.self_attn.k_proj.weight")], ids=len
)
def test_unpacked_weights_equal_those_of_the_readable_layout(tmp_path, lacking):
    """A missing tensor is filled with zeros in both layouts."""
    tensors = {name: array for name, array in hugging_face(distinct_weights()).items() if name not in lacking}
    files = find_checkpoint(write(tmp_path, tensors))
    found, expected = (
        dict(flatten(unpacked(load_checkpoint(files, strict=not lacking, layout=layout).weights)))
        for layout in (empty_weights, None)
    )
    assert_same(found, expected)


def test_random_weights_do_not_depend_on_the_layout():
    untrained = Whisper.random(SMALL, seed=3)
    assert isinstance(packed(untrained.weights)["decoder"]["token_embedding"], Panels)
    assert_same(dict(flatten(untrained.weights)), dict(flatten(random_weights(SMALL, 3))))
