"""Exercise 11: dynamic time warping."""

from itertools import pairwise
from typing import Any

import numpy as np

from ..common.edits import Edit, Mistake
from .checking import Case, Exercise
from .comparing import Results, WrongAnswer, as_pair, as_token
from .guard import Answer

TASK = """\
Write dynamic_time_warping(cost) -> (rows, columns): the cheapest path through a matrix.

cost (N, M) is a matrix of numbers, some of them negative. A path starts in the first cell, (0, 0), and ends in the
last, (N - 1, M - 1). Each step goes one row down, one column to the right, or both at once (diagonally). The cost of a
path is the sum of its cells, the first and the last included.
- The cheapest path to a cell costs total[n, m] = cost[n, m] + the smallest of total[n - 1, m - 1], total[n - 1, m] and
  total[n, m - 1]. Outside of the matrix, total is infinite. Compute it with two loops.
- Then go back from the last cell to the first, always to the cell that the smallest total came from.
- Return the path from the first cell to the last: its row numbers and its column numbers, two lists of the same length.
If several paths are equally cheap, each of them is right."""


def dynamic_time_warping(cost: Any) -> tuple[list[int], list[int]]:
    """Find the cheapest path from the first cell to the last: cost (N, M) -> its rows and columns."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)  # with a border above and to the left
    total[0, 0] = 0.0
    for n in range(rows):
        for m in range(columns):
            diagonal, above, left = total[n, m], total[n, m + 1], total[n + 1, m]
            total[n + 1, m + 1] = min(diagonal + cost[n, m], above + cost[n, m], left + cost[n, m])
    n, m = rows - 1, columns - 1
    path = [(n, m)]
    while n > 0 or m > 0:
        before = {(n - 1, m - 1): total[n, m], (n - 1, m): total[n, m + 1], (n, m - 1): total[n + 1, m]}
        n, m = min(before, key=lambda cell: before[cell])
        path.append((n, m))
    path = path[::-1]
    return [n for n, _ in path], [m for _, m in path]


_MIN = "min(diagonal + cost[n, m], above + cost[n, m], left + cost[n, m])"
_BEFORE = "{(n - 1, m - 1): total[n, m], (n - 1, m): total[n, m + 1], (n, m - 1): total[n + 1, m]}"
_START = "n, m = rows - 1, columns - 1"

MISTAKES = {
    "backwards": Mistake(
        "The path goes from the last cell to the first. Reverse it at the end.", (Edit("path = path[::-1]", ""),)
    ),
    "most expensive": Mistake(
        "The path has the largest sum. Take the smallest: min, and infinity outside of the matrix.",
        (
            Edit("np.inf)", "-np.inf)"),
            Edit(_MIN, _MIN.replace("min", "max")),
            Edit("min(before", "max(before"),
        ),
    ),
    "no diagonal": Mistake(
        "The path never goes diagonally. A step may go one row down and one column to the right at once.",
        (
            Edit(_MIN, "min(above, left, 0.0 if n == m == 0 else np.inf) + cost[n, m]"),
            Edit("(n - 1, m - 1): total[n, m], ", ""),
        ),
    ),
    "greedy from the start": Mistake(
        "The path always steps to the cheapest next cell. That is not the cheapest path: a cheap cell can lead to "
        "expensive ones. Compute all totals first, then go back from the end.",
        (
            Edit(
                _START,
                "return greedy_path(cost)",
            ),
        ),
    ),
    "back by cost": Mistake(
        "On the way back, the cell with the smallest cost is taken. Take the one with the smallest total.",
        (
            Edit(
                "min(before, key=lambda cell: before[cell])",
                "min(before, key=lambda cell: cost[cell] if min(cell) >= 0 else np.inf)",
            ),
        ),
    ),
    "starts anywhere in the first row": Mistake(
        "The path may start in any column: total is 0 above the whole first row. It is 0 only at the corner, and "
        "infinite everywhere else outside.",
        (Edit(_MIN, f"{_MIN} if n else cost[n, m]"), Edit("while n > 0 or m > 0", "while n > 0")),
    ),
    "starts anywhere in the first column": Mistake(
        "The path may start in any row: total is 0 to the left of the whole first column. It is 0 only at the corner.",
        (Edit(_MIN, f"{_MIN} if m else cost[n, m]"), Edit("while n > 0 or m > 0", "while m > 0")),
    ),
    "zeros outside": Mistake(
        "total is 0 everywhere outside of the matrix, which makes the first row and column too cheap. It is 0 only at "
        "the corner, and infinite elsewhere.",
        (
            Edit("np.full((rows + 1, columns + 1), np.inf)", "np.zeros((rows + 1, columns + 1))"),
            Edit(
                "min(before, key=lambda cell: before[cell])",
                "min((cell for cell in before if min(cell) >= 0), key=lambda cell: before[cell])",
            ),
        ),
    ),
    "ends anywhere in the last row": Mistake(
        "The path ends in the cheapest cell of the last row. It ends in the last cell, (N - 1, M - 1).",
        (Edit(_START, "n, m = rows - 1, int(total[-1, 1:].argmin())"),),
    ),
    "ends anywhere in the last column": Mistake(
        "The path ends in the cheapest cell of the last column. It ends in the last cell, (N - 1, M - 1).",
        (Edit(_START, "n, m = int(total[1:, -1].argmin()), columns - 1"),),
    ),
    "first cell missing": Mistake(
        "The first cell, (0, 0), is missing from the path.", (Edit("path[::-1]", "path[:-1][::-1]"),)
    ),
    "last cell missing": Mistake(
        "The last cell, (N - 1, M - 1), is missing from the path.", (Edit("path[::-1]", "path[:0:-1]"),)
    ),
    "rows and columns swapped": Mistake(
        "Rows and columns are swapped. The first list has the row numbers.",
        (
            Edit(
                "return [n for n, _ in path], [m for _, m in path]", "return [m for _, m in path], [n for n, _ in path]"
            ),
        ),
    ),
    "diagonal counts twice": Mistake(
        "A diagonal step counts its cell twice, as some kinds of dynamic time warping do. Count it once.",
        (
            Edit("diagonal + cost", "diagonal + 2 * cost"),
            Edit(
                _BEFORE,
                "{(n - 1, m - 1): total[n, m] + cost[n, m], (n - 1, m): total[n, m + 1], (n, m - 1): total[n + 1, m]}",
            ),
        ),
    ),
    "absolute values": Mistake(
        "The absolute values of the costs are summed up. Negative ones make a path cheaper.",
        (Edit("rows, columns = cost.shape", "rows, columns = cost.shape\n    cost = np.abs(cost)"),),
    ),
    "straight": Mistake(
        "The path goes diagonally for as long as it can, whatever the costs are. Take the smallest of three totals.",
        (Edit(_BEFORE, "{(max(n - 1, 0), max(m - 1, 0)): 0}"),),
    ),
    "no step down": Mistake(
        "total[n - 1, m], a step down, is left out. There are three ways into a cell.",
        (
            Edit("above + cost[n, m], ", "np.inf if m else above + cost[n, m], "),
            Edit("(n - 1, m): total[n, m + 1]", "(n - 1, m): np.inf if m else total[n, m + 1]"),
        ),
    ),
    "no step to the right": Mistake(
        "total[n, m - 1], a step to the right, is left out. There are three ways into a cell.",
        (
            Edit("left + cost[n, m])", "np.inf if n else left + cost[n, m])"),
            Edit("(n, m - 1): total[n + 1, m]", "(n, m - 1): np.inf if n else total[n + 1, m]"),
        ),
    ),
    "costs not added up": Mistake(
        "total is not added up: each cell has its own cost plus the smallest cost before it. Add the smallest total.",
        (
            Edit(
                _MIN,
                "cost[n, m] + (0.0 if n == m == 0 else min(cost[max(n - 1, 0), max(m - 1, 0)] if n and m else np.inf, "
                "cost[n - 1, m] if n else np.inf, cost[n, m - 1] if m else np.inf))",
            ),
        ),
    ),
}


def greedy_path(cost: Any) -> tuple[list[int], list[int]]:
    """Step to the cheapest of the three next cells, again and again, as one of the mistakes does."""
    (rows, columns), n, m = cost.shape, 0, 0
    path = [(0, 0)]
    while (n, m) != (rows - 1, columns - 1):
        cells = [(n + down, m + right) for down, right in ((1, 1), (1, 0), (0, 1))]
        n, m = min((cell for cell in cells if cell[0] < rows and cell[1] < columns), key=lambda cell: cost[cell])
        path.append((n, m))
    return [n for n, _ in path], [m for _, m in path]


# ------------------------------------------------------------------------------------------ test cases


def _path(function: Answer, cost: Any) -> tuple[list[int], list[int]]:
    rows, columns = as_pair(function(cost.copy()), "rows", "columns")
    try:
        found = tuple([as_token(one, "a row or column") for one in numbers] for numbers in (rows, columns))
    except TypeError:
        raise WrongAnswer(f"the result is ({rows!r}, {columns!r}), expected two lists of integers") from None
    if len(found[0]) != len(found[1]):
        raise WrongAnswer(f"there are {len(found[0])} rows and {len(found[1])} columns, expected equal numbers")
    return found[0], found[1]


def _walk(*costs: Any) -> Any:
    """Return a test case of matrices that have one cheapest path each."""

    def run(function: Answer) -> Results:
        outcome: Results = []
        for cost in costs:
            rows, columns = _path(function, cost)
            shape = f" of the path through a matrix {cost.shape}"
            outcome += [("the list of rows" + shape, rows), ("the list of columns" + shape, columns)]
        return outcome

    return run


def _ties(function: Answer) -> Results:
    outcome: Results = []
    for cost in (np.zeros((3, 4)), np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0.0]]), np.ones((2, 2))):
        rows, columns = _path(function, cost)
        path = list(zip(rows, columns, strict=True))
        steps = {(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(path)}
        if (
            path[:1] != [(0, 0)]
            or path[-1] != (cost.shape[0] - 1, cost.shape[1] - 1)
            or steps - {(0, 1), (1, 0), (1, 1)}
        ):
            raise WrongAnswer(f"{path} is not a path through a matrix {cost.shape}, from the first cell to the last")
        outcome.append(("the cost of the path", float(cost[rows, columns].sum())))
    return outcome


def _random(seed: int, rows: int, columns: int, shift: float = 0.0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, columns)) + shift


_DETOUR = np.array([[1.0, 2.0, 9.1, 9.2], [1.5, 9.3, 9.4, 9.5], [1.7, 1.1, 1.2, 3.0]])
_GRADUAL = _random(5, 6, 20) + np.abs(np.arange(20) / 3 - np.arange(6)[:, None] - 0.3)

EXERCISE = Exercise(
    number=11,
    title="Dynamic time warping",
    section=12,
    task=TASK,
    solutions=(dynamic_time_warping,),
    mistakes=MISTAKES,
    cases=(
        Case(
            "a matrix (3, 4), all positive",
            _walk(_DETOUR),
            "The cheapest path goes down the first column, then along the last row: 1 + 1.5 + 1.1 + 1.2 + 3.",
        ),
        Case(
            "a square matrix, and a wide one",
            _walk(_random(1, 4, 4, 1.0), _random(2, 3, 8, 1.0), _GRADUAL),
            "Write the matrix of the totals on paper, row by row, then go back from the last cell.",
        ),
        Case(
            "negative costs",
            _walk(_random(3, 5, 5), _random(4, 4, 9, -2.0), _random(9, 9, 4, -1.0)),
            "Negative costs are nothing special: a longer path can be cheaper.",
        ),
        Case(
            "a row, a column, a single cell",
            _walk(_random(6, 1, 4), _random(7, 4, 1), _random(8, 1, 1)),
            "In a single row the path goes to the right; the path through a single cell is ([0], [0]).",
        ),
        Case(
            "several cheapest paths",
            _ties,
            "Any of the cheapest paths is right: does the way back use the same totals as the way there?",
        ),
        Case(
            "24 random matrices",
            _walk(*(_random(100 + seed, 2 + seed % 5, 2 + seed % 7, 1.0 - seed % 3) for seed in range(24))),
            "Compute the totals of the matrix in the message on paper.",
        ),
    ),
)
