"""Chapter 10, matching: pairing the recognised words with the words of a known text.

Two sequences of words are matched with as few edits as possible: a word is equal, substituted, missing or extra. The
best match is found by dynamic programming, with one cell for each pair of words. An hour of speech has 10,000 words and
would need 100 million cells. So the two sequences are cut first, at runs of words that occur once in both.

Walkthrough: section 13.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence, Set
from typing import TypeAlias

Pair: TypeAlias = tuple[int | None, int | None]
"""The indices of a known and a recognised word; the first is None for an extra word, the second for a missing one."""

RUN = 8  # words in a run at which the sequences are cut
MAX_CELLS = 4_000_000  # of one table; sequences that need more have too little in common to be matched
SUBSTITUTION, EXTENSION = 1.0, 0.5  # cost of one word for another, and of a missing or an extra word
OPENING, OPENING_AT_START = 0.4, 0.2  # cost of each run of missing or extra words, and if a sentence starts there


def match_words(known: Sequence[str], recognised: Sequence[str], starts: Set[int]) -> list[Pair]:
    """Match two sequences of words; return pairs in the order of both that contain every index once.

    ``starts`` are the indices of known words that begin a sentence. A run of missing words costs less than the same
    words with gaps between them, and least if it begins with a sentence. So a missing sentence stays in one piece,
    although its "the" and "of" occur elsewhere, too.

    >>> match_words("so my fellow Americans ask not".split(), "so my dear Americans not again".split(), set())
    [(0, 0), (1, 1), (2, 2), (3, 3), (4, None), (5, 4), (None, 5)]
    """
    pairs: list[Pair] = []
    i = j = 0
    for next_i, next_j in [*_common_runs(known, recognised), (len(known), len(recognised))]:
        between = _match_table(known[i:next_i], recognised[j:next_j], {start - i for start in starts})
        pairs += [(a if a is None else a + i, b if b is None else b + j) for a, b in between]
        if next_i < len(known):
            pairs.append((next_i, next_j))
        i, j = next_i + 1, next_j + 1
    return pairs


def _common_runs(known: Sequence[str], recognised: Sequence[str]) -> list[tuple[int, int]]:
    """Return the indices of the first words of runs that occur exactly once in both: the most that are in order."""
    there = dict(_unique_runs(recognised))
    found = [(i, there[run]) for run, i in _unique_runs(known) if run in there]
    # The longest increasing subsequence: lowest[n] is the smallest index with which one of n + 1 runs can end.
    lowest: list[int] = []
    chains: list[int] = []  # for each run of `lowest`, its index in `found`
    before: list[int] = []  # for each run of `found`, the one before it
    for number, (_, j) in enumerate(found):
        length = bisect_left(lowest, j)
        before.append(chains[length - 1] if length else -1)
        lowest[length : length + 1], chains[length : length + 1] = [j], [number]
    chain: list[tuple[int, int]] = []
    last = chains[-1] if chains else -1
    while last >= 0:
        chain.append(found[last])
        last = before[last]
    return chain[::-1]


def _unique_runs(words: Sequence[str]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Return every run of words that occurs only once, with the index of its first word."""
    indices: dict[tuple[str, ...], int] = {}
    for index in range(len(words) - RUN + 1):
        run = tuple(words[index : index + RUN])
        indices[run] = index if run not in indices else -1
    return ((run, index) for run, index in indices.items() if index >= 0)


PAIRED, MISSING, EXTRA = 0, 1, 2  # the last step of the way to a cell of the table


def _match_table(known: Sequence[str], recognised: Sequence[str], starts: Set[int]) -> list[Pair]:
    """Match two short sequences by dynamic programming (Gotoh, 1982).

    Cell (i, j) holds the costs of matching the first i words of one with the first j of the other, one for each way to
    end: with a pair, with a missing word, with an extra word. ``trace`` holds the way that the previous cell ended.
    """
    rows, columns = len(known), len(recognised)
    if not rows or not columns or (rows + 1) * (columns + 1) > MAX_CELLS:
        return [*((i, None) for i in range(rows)), *((None, j) for j in range(columns))]
    infinite = float("inf")
    trace = [[bytearray(columns + 1) for _ in range(rows + 1)] for _ in range(3)]
    above: list[tuple[float, float, float]] = []  # the costs of the row before
    for i in range(rows + 1):
        row: list[tuple[float, float, float]] = []
        opening = OPENING_AT_START if i in starts else OPENING  # of a run of extra words before word i
        missing_opening = OPENING_AT_START if i - 1 in starts else OPENING  # of a run of missing ones from i - 1 on
        for j in range(columns + 1):
            paired = missing = extra = infinite
            if not i and not j:
                paired = 0.0
            if i and j:
                way, best = _cheapest(above[j - 1])
                paired = best + (0.0 if known[i - 1] == recognised[j - 1] else SUBSTITUTION)
                trace[PAIRED][i][j] = way
            if i:
                before = above[j]
                way, missing = _cheapest((before[0] + missing_opening, before[1], before[2] + missing_opening))
                trace[MISSING][i][j], missing = way, missing + EXTENSION
            if j:
                before = row[j - 1]
                way, extra = _cheapest((before[0] + opening, before[1] + opening, before[2]))
                trace[EXTRA][i][j], extra = way, extra + EXTENSION
            row.append((paired, missing, extra))
        above = row
    pairs: list[Pair] = []
    i, j = rows, columns
    way = _cheapest(above[columns])[0]
    while i or j:
        end = way
        way = trace[end][i][j]
        i, j = i - (end != EXTRA), j - (end != MISSING)
        pairs.append((None if end == EXTRA else i, None if end == MISSING else j))
    return pairs[::-1]


def _cheapest(costs: tuple[float, float, float]) -> tuple[int, float]:
    """Return the index of the smallest of three costs, and the cost."""
    paired, missing, extra = costs
    if paired <= missing and paired <= extra:
        return 0, paired
    return (1, missing) if missing <= extra else (2, extra)
