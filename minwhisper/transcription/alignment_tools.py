"""Chapter 9, alignment's tools: the median filter and dynamic time warping.

Each is here twice: first a readable version, then the fast one that runs. A test checks that the two agree.

Walkthrough: section 12.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..common.backend import Array, array_module, to_numpy
from ..errors import OptionError, ShapeError

FILTER_WIDTH = 7  # positions of audio under the median filter: 0.14 s
DIAGONAL, UP, LEFT = 0, 1, 2  # the cell that a path comes from


# --- Median filter ------------------------------------------------------------------------------------------------


def median_filter(x: Array, width: int = FILTER_WIDTH) -> Array:
    """Replace every value by the median of the ``width`` values around it, along the last axis: (…, T) -> (…, T).

    The filter removes spikes and keeps edges. At both ends the values are mirrored, without repeating the outermost
    one. An axis of ``width // 2`` values or fewer is too short to mirror and is returned unchanged. The result is
    openai-whisper's. Raises ``OptionError`` for an even width, which has no middle.

    >>> median_filter(np.array([1, 9, 2, 3, 8, 8, 8]), 3)
    array([9, 2, 3, 3, 8, 8, 8])
    """
    if width < 1 or width % 2 == 0:
        raise OptionError(f"width of the median filter: expected an odd number, got {width}")
    half = width // 2
    if x.shape[-1] <= half or x.size == 0:
        return x
    padded = array_module(x).pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
    return window_medians_fast(padded, width)


def window_medians(x: Array, width: int) -> Array:
    """Return the median of every ``width`` neighbours: (…, T + width - 1) -> (…, T)."""
    windows = sliding_window_view(x, width, axis=-1)  # (…, T, width)
    return np.sort(windows, axis=-1)[..., width // 2]


def window_medians_fast(x: Array, width: int) -> Array:
    """``window_medians`` on any device, without a sort per window.

    Shifted by 0 to ``width`` - 1 positions, ``x`` gives ``width`` arrays. They are bubble-sorted, all windows at once,
    until the larger half is in order; the smallest of that half is the median.
    """
    xp, half = array_module(x), width // 2
    length = x.shape[-1] - width + 1
    shifted = [x[..., start : start + length] for start in range(width)]
    for last in range(width - 1, half - 1, -1):  # move the largest of those up to `last` there
        for at in range(last):
            low, high = shifted[at], shifted[at + 1]
            shifted[at], shifted[at + 1] = xp.minimum(low, high), xp.maximum(low, high)
    return shifted[half]


# --- Dynamic time warping -----------------------------------------------------------------------------------------


def dynamic_time_warping(cost: Array) -> NDArray[np.intp]:
    """Find the cheapest path from the first cell of a matrix to the last: cost (N, M) -> rows and columns (2, L).

    Each step of the path goes one row down, one column to the right, or both. It is computed on the CPU in float64,
    whatever ``cost`` is. Raises ``ShapeError`` for anything but a matrix with at least one cell.

    >>> dynamic_time_warping(np.array([[0, 0, 9, 9], [9, 9, 0, 9], [9, 9, 9, 0]]))
    array([[0, 0, 1, 2],
           [0, 1, 2, 3]])
    """
    if cost.ndim != 2 or not cost.size:
        raise ShapeError(f"cost: expected a matrix with at least one cell, got {tuple(cost.shape)}")
    return backtrace(dtw_trace_fast(to_numpy(cost).astype(np.float64)))


def dtw_trace(cost: NDArray[np.float64]) -> NDArray[np.int8]:
    """Find the cell that the cheapest path to each cell comes from: cost (N, M) -> DIAGONAL, UP or LEFT, (N, M).

    The cheapest path to a cell costs

        total[n, m] = cost[n, m] + min(total[n-1, m-1], total[n-1, m], total[n, m-1]).

    Ties are resolved as in openai-whisper: the path comes diagonally only if that is strictly the cheapest, else from
    above only if that is, else from the left (which need not be the cheapest if the other two are equal).
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)  # with a border above and to the left
    total[0, 0] = 0.0
    trace = np.empty((rows, columns), np.int8)
    for n in range(rows):
        for m in range(columns):
            diagonal, up, left = total[n, m], total[n, m + 1], total[n + 1, m]
            if diagonal < up and diagonal < left:
                best, trace[n, m] = diagonal, DIAGONAL
            elif up < diagonal and up < left:
                best, trace[n, m] = up, UP
            else:
                best, trace[n, m] = left, LEFT
            total[n + 1, m + 1] = cost[n, m] + best
    return trace


def dtw_trace_fast(cost: NDArray[np.float64]) -> NDArray[np.int8]:
    """``dtw_trace`` by anti-diagonals.

    All cells with n + m = d depend only on those of d - 1 and d - 2, so one step of NumPy computes them all.
    """
    rows, columns = cost.shape
    trace = np.empty((rows, columns), np.int8)
    flat_cost, flat_trace = cost.reshape(-1), trace.reshape(-1)
    stride = max(1, columns - 1)  # from cell (n, m) to cell (n + 1, m - 1)
    # Totals of the last two anti-diagonals, row n's at n + 1; entry 0 is the border above the first row.
    before_last = np.full(rows + 1, np.inf)
    last = np.full(rows + 1, np.inf)
    before_last[0] = 0.0
    for d in range(rows + columns - 1):
        low, high = max(0, d - columns + 1), min(rows, d + 1)  # the rows that this anti-diagonal crosses
        start = low * (columns - 1) + d
        cells = slice(start, start + (high - low - 1) * stride + 1, stride)
        diagonal, up, left = before_last[low:high], last[low:high], last[low + 1 : high + 1]
        is_diagonal = (diagonal < up) & (diagonal < left)
        is_up = (up < diagonal) & (up < left)
        flat_trace[cells] = np.where(is_diagonal, DIAGONAL, np.where(is_up, UP, LEFT))
        total = np.full(rows + 1, np.inf)
        total[low + 1 : high + 1] = np.where(is_diagonal, diagonal, np.where(is_up, up, left)) + flat_cost[cells]
        before_last, last = last, total
    return trace


def backtrace(trace: NDArray[np.int8]) -> NDArray[np.intp]:
    """Follow a trace (N, M) from the last cell to the first; return the path (2, L), first cell first."""
    n, m = trace.shape[0] - 1, trace.shape[1] - 1
    path = [(n, m)]
    while n or m:
        # On the first row and column there is only one way. The trace agrees, unless there are NaNs.
        step = LEFT if n == 0 else UP if m == 0 else trace[n, m]
        n -= step != LEFT
        m -= step != UP
        path.append((n, m))
    return np.array(path[::-1], np.intp).T
