"""Where numbers lie in memory, and untrained ones."""

import numpy as np
import pytest

from hf_checkpoint import SMALL
from minwhisper.errors import OptionError
from minwhisper.model.encoder import sinusoids
from minwhisper.model.weight_names import expected_shapes, flatten
from minwhisper.model.weights import by_columns, empty_weights, load_into, pool_bytes, random_weights, rows_of


def test_a_matrix_lies_by_columns_and_the_rest_by_rows() -> None:
    for name, array in empty_weights(expected_shapes(SMALL), "float32").items():
        matrix = array.ndim == 2 and not name.endswith("positions")
        assert (array.T if matrix else array).flags.c_contiguous, name
        assert (array.shape, array.dtype) == (expected_shapes(SMALL)[name], np.float32)


def test_a_place_is_filled_from_the_rows_of_another() -> None:
    given = np.arange(12.0).reshape(4, 3)
    place = by_columns("decoder.token_embedding", (4, 3), "float32")
    load_into(place, rows_of(given))
    np.testing.assert_array_equal(place, given)
    some = np.zeros((2, 3))
    rows_of(given)(some, 1)
    np.testing.assert_array_equal(some, given[1:3])


def test_a_pool_hands_out_whole_512_bytes() -> None:
    assert pool_bytes({"a": (1,), "b": (128,), "c": (129, 1)}, "float32") == 512 + 512 + 1024
    assert pool_bytes({"c": (129, 1)}, "float16") == 512


def test_untrained_weights_are_a_matter_of_the_seed() -> None:
    first, again, other = (dict(flatten(random_weights(SMALL, seed))) for seed in (1, 1, 2))
    assert {name: array.shape for name, array in first.items()} == expected_shapes(SMALL)
    for name, array in first.items():
        assert np.array_equal(array, again[name])
        learned = not name.endswith((".bias", "norm.weight", "encoder.positions"))
        assert np.array_equal(array, other[name]) != learned
    np.testing.assert_allclose(first["encoder.positions"], sinusoids(12, 8), atol=1e-7)
    assert np.std(first["decoder.token_embedding"]) == pytest.approx(0.02, rel=0.1)


def test_untrained_weights_have_a_dtype_that_is_known() -> None:
    with pytest.raises(OptionError, match="dtype 'int8'"):
        random_weights(SMALL, dtype="int8")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_untrained_weights_are_of_the_dtype_asked_for(dtype: str) -> None:
    assert {array.dtype for _, array in flatten(random_weights(SMALL, dtype=dtype))} == {np.dtype(dtype)}
