"""The cheapest alignment of two sequences of words: which words correspond, and which are missing or were added.

Read ``edit_distances`` first: dynamic programming with two loops, which serves short texts. For longer ones,
``bit_parallel`` finds the same alignment, a row of the table at a time.
"""

from collections.abc import Sequence

from .bit_parallel import align_long

Pair = tuple[str | None, str | None]
"""A word of the reference and one of the hypothesis; the first is None for an insertion, the second for a deletion."""

MAX_CELLS = 4096  # of a table that two loops compute in a few milliseconds


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """Return the cheapest alignment of two sequences of words, or of characters.

    A substitution, a deletion and an insertion cost 1 each. Among alignments of the same cost, deletions and insertions
    are preferred to substitutions, so that more equal words are paired.

    >>> align("the cat sat".split(), "a cat sat down".split())
    [('the', 'a'), ('cat', 'cat'), ('sat', 'sat'), (None, 'down')]
    """
    if (len(reference) + 1) * (len(hypothesis) + 1) > MAX_CELLS:
        steps = align_long(reference, hypothesis)
    else:
        steps = steps_back(edit_distances(reference, hypothesis), reference, hypothesis)
    return [(reference[i] if i is not None else None, hypothesis[j] if j is not None else None) for i, j in steps]


def edit_distances(reference: Sequence[str], hypothesis: Sequence[str]) -> list[list[int]]:
    """Return the table whose entry [i][j] is the lowest cost of turning the first i words into the first j.

    >>> edit_distances(["so", "my"], ["my"])
    [[0, 1], [1, 1], [2, 1]]
    """
    costs = [[0] * (len(hypothesis) + 1) for _ in range(len(reference) + 1)]
    costs[0] = list(range(len(hypothesis) + 1))  # insertions only
    for i in range(1, len(reference) + 1):
        costs[i][0] = i  # deletions only
        for j in range(1, len(hypothesis) + 1):
            costs[i][j] = min(
                costs[i - 1][j - 1] + (reference[i - 1] != hypothesis[j - 1]),  # the same word, or a substitution
                costs[i - 1][j] + 1,  # a deletion
                costs[i][j - 1] + 1,  # an insertion
            )
    return costs


def steps_back(
    costs: Sequence[Sequence[int]], reference: Sequence[str], hypothesis: Sequence[str]
) -> list[tuple[int | None, int | None]]:
    """Follow a table of ``edit_distances`` back from its end, and return the indices of each pair, in order."""
    steps: list[tuple[int | None, int | None]] = []
    i, j = len(reference), len(hypothesis)
    while i or j:
        same_word = i > 0 and j > 0 and reference[i - 1] == hypothesis[j - 1]
        if i and not same_word and costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
            steps.append((i, None))
        elif j and not same_word and costs[i][j] == costs[i][j - 1] + 1:
            j -= 1
            steps.append((None, j))
        else:
            i, j = i - 1, j - 1
            steps.append((i, j))
    return steps[::-1]
