import numpy as np
import pytest

from minwhisper.common.edits import Edit, EditError, edited, uses
from minwhisper.model import layers

QUERIES, KEYS, VALUES = np.ones((1, 1, 1, 4)), np.array([[[[1.0, 2.0]] * 4]]), np.array([[[[0.0], [1.0]]]])
SCALE = Edit("* queries.shape[-1] ** -0.5", "")


def test_an_edit_changes_the_copy_and_nothing_else():
    before = layers.attend(QUERIES, KEYS, VALUES)[1]
    assert np.array_equal(edited(layers.attend, [SCALE])(QUERIES, KEYS, VALUES)[1], 2.0 * before)
    assert np.array_equal(layers.attend(QUERIES, KEYS, VALUES)[1], before)


def test_a_function_that_is_called_can_be_edited_even_through_another():
    halves = Edit("e /= e.sum(axis=-1, keepdims=True)", "e[:] = 0.5", layers.softmax)
    mixed, _ = edited(layers.attend, [halves, SCALE])(QUERIES, KEYS, VALUES)
    assert mixed.item() == 0.5
    weights = {name: {"weight": np.eye(4)} for name in ("query", "key", "value", "out")}
    kv = layers.KV(KEYS, np.arange(8.0).reshape(1, 1, 2, 4))
    through, _ = edited(layers.attention, [halves])(np.ones((1, 1, 4)), kv, weights, 1)
    assert np.array_equal(through[0, 0], kv.values[0, 0].mean(axis=0))


@pytest.mark.parametrize("old", ["no such text", "queries"], ids=["not there", "several times"])
def test_an_edit_that_does_not_fit_the_source_is_refused(old):
    with pytest.raises(EditError, match="expected once"):
        edited(layers.attend, [Edit(old, "")])


def test_the_functions_that_a_function_calls_are_known():
    assert uses(layers.attend, layers.softmax)
    assert uses(layers.attend, layers.attend)
    assert not uses(layers.attend, layers.gelu)
