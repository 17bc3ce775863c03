"""The median filter and dynamic time warping: by hand, and in both implementations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.errors import OptionError, ShapeError
from minwhisper.transcription.alignment_tools import (
    dtw_trace,
    dtw_trace_fast,
    dynamic_time_warping,
    median_filter,
    window_medians,
    window_medians_fast,
)

# ------------------------------------------------------------------------------------------ median filter


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([5, 1, 9, 2, 2], 3, [1, 5, 2, 2, 2]),
        ([1, 2], 3, [2, 1]),  # reflected without repeating the edge: 2 1 2, 1 2 1
        ([0, 0, 0, 0, 7, 7, 7, 7], 7, [0, 0, 0, 0, 7, 7, 7, 7]),  # a step edge is kept
        ([4, 3, 1], 7, [4, 3, 1]),  # too short to reflect
    ],
    ids=str,
)
def test_the_median_filter_equals_one_computed_by_hand(values, width, expected):
    np.testing.assert_array_equal(median_filter(np.array(values, np.float32), width), expected)


@pytest.mark.parametrize("shape", [(2, 3, 5, 23), (0, 5, 23), (1, 1, 4)], ids=str)
def test_median_filter_takes_the_median_along_the_last_axis(rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    before = x.copy()
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(3, 3)], mode="reflect")
    expected = window_medians(padded, 7)
    np.testing.assert_array_equal(window_medians_fast(padded, 7), expected)
    np.testing.assert_array_equal(median_filter(x, 7), expected)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("width", [0, 2, -3])
def test_an_even_width_is_rejected(width):
    with pytest.raises(OptionError, match="odd number"):
        median_filter(np.zeros(10), width)


# ------------------------------------------------------------------------------------------ dynamic time warping


@pytest.mark.parametrize(
    ("cost", "path"),
    [
        ([[3]], [[0], [0]]),
        ([[1, 1], [1, 1]], [[0, 1], [0, 1]]),  # all cells cost the same: the shortest path wins
        ([[0, 0, 9], [9, 9, 0]], [[0, 0, 1], [0, 1, 2]]),
        # Diagonal and up tie, and left costs more: openai-whisper still goes left.
        ([[0, 0], [5, 0]], [[0, 1, 1], [0, 0, 1]]),
        # That cell costs 1, so the best path to (1, 2) avoids it.
        ([[0, 0, 1], [1, 0, 0]], [[0, 0, 1], [0, 1, 2]]),
        # Diagonal and left tie: left wins.
        ([[0, 5], [0, 0]], [[0, 1, 1], [0, 0, 1]]),
        # Up is strictly the cheapest.
        ([[0, -1], [5, 0]], [[0, 0, 1], [0, 1, 1]]),
    ],
    ids=str,
)
def test_the_path_equals_one_found_by_hand(cost, path):
    np.testing.assert_array_equal(dynamic_time_warping(np.array(cost)), path)


@settings(deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, math.nan]), min_size=144, max_size=144),
)
def test_both_traces_are_equal_and_paths_lead_from_corner_to_corner(rows, columns, values):
    """Costs may tie or be NaN."""
    cost = np.array(values[: rows * columns]).reshape(rows, columns)
    np.testing.assert_array_equal(dtw_trace_fast(cost), dtw_trace(cost))
    path = dynamic_time_warping(cost)
    assert path.dtype.kind == "i"
    assert path[:, 0].tolist() == [0, 0]
    assert path[:, -1].tolist() == [rows - 1, columns - 1]
    assert {tuple(step) for step in np.diff(path).T.tolist()} <= {(1, 1), (1, 0), (0, 1)}


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (1, 2, 3)], ids=str)
def test_anything_but_a_matrix_is_rejected(shape):
    with pytest.raises(ShapeError, match="matrix with at least one cell"):
        dynamic_time_warping(np.zeros(shape))
