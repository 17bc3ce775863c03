import numpy as np
import pytest

from minwhisper.common.edits import Edit, EditError, edited
from minwhisper.model import layers


def test_an_edit_changes_the_copy_and_the_functions_that_it_calls_and_nothing_else():
    qkv = np.ones((1, 1, 1, 4)), np.array([[[[1.0, 2.0]] * 4]]), np.array([[[[0.0], [1.0]]]])
    before = layers.attend(*qkv)
    unscaled = Edit("* queries.shape[-1] ** -0.5", "")
    halves = Edit("e /= e.sum(axis=-1, keepdims=True)", "e[:] = 0.5", layers.softmax)
    mixed, scores = edited(layers.attend, [halves, unscaled])(*qkv)
    assert mixed.item() == 0.5
    assert np.array_equal(scores, 2.0 * before[1])
    assert np.array_equal(layers.attend(*qkv)[0], before[0])


@pytest.mark.parametrize("old", ["no such text", "queries"], ids=["not there", "several times"])
def test_an_edit_that_does_not_fit_the_source_is_refused(old):
    with pytest.raises(EditError, match="expected once"):
        edited(layers.attend, [Edit(old, "")])
