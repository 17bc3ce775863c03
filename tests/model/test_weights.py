"""The memory layout of weights, and untrained weights."""

import numpy as np
import pytest

from hf_checkpoint import SMALL
from minwhisper.errors import OptionError
from minwhisper.model.encoder import sinusoids
from minwhisper.model.weight_names import expected_shapes, flatten
from minwhisper.model.weights import empty_weights, pool_bytes, random_weights


def test_matrices_are_column_major_and_the_rest_row_major() -> None:
    for name, array in empty_weights(expected_shapes(SMALL), "float32").items():
        matrix = array.ndim == 2 and not name.endswith("positions")
        assert (array.T if matrix else array).flags.c_contiguous, name
        assert (array.shape, array.dtype) == (expected_shapes(SMALL)[name], np.float32)


def test_pool_bytes_are_multiples_of_512() -> None:
    assert pool_bytes({"a": (1,), "b": (128,), "c": (129, 1)}, "float32") == 512 + 512 + 1024
    assert pool_bytes({"c": (129, 1)}, "float16") == 512


def test_untrained_weights_depend_only_on_the_seed() -> None:
    first, again, other = (dict(flatten(random_weights(SMALL, seed))) for seed in (1, 1, 2))
    assert {name: array.shape for name, array in first.items()} == expected_shapes(SMALL)
    for name, array in first.items():
        assert np.array_equal(array, again[name])
        learned = not name.endswith((".bias", "norm.weight", "encoder.positions"))
        assert np.array_equal(array, other[name]) != learned
    np.testing.assert_allclose(first["encoder.positions"], sinusoids(12, 8), atol=1e-7)
    assert np.std(first["decoder.token_embedding"]) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_untrained_weights_have_the_requested_dtype(dtype: str) -> None:
    assert {array.dtype for _, array in flatten(random_weights(SMALL, dtype=dtype))} == {np.dtype(dtype)}


def test_an_unknown_dtype_is_rejected() -> None:
    with pytest.raises(OptionError, match="dtype 'int8'"):
        random_weights(SMALL, dtype="int8")
