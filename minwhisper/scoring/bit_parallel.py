"""The alignment of long texts: the table of ``alignment.edit_distances``, with all columns of a row at once.

Neighbours in that table differ by 1 at most, so a row takes a few bits per column. A Python integer, which may have any
number of bits, holds one of these bits for all columns (Myers 1999, "A fast bit-vector algorithm for approximate string
matching", in the form of Hyyrö 2003). Two texts of 10,000 words, an hour of speech, take a tenth of a second instead of
a minute.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

ROWS_PER_BLOCK = 256  # rows that are kept at a time; of the others, only the first of each block


class Row(NamedTuple):
    """A row of the table as differences: bit j - 1 of each integer belongs to column j."""

    rises: int  # the cost is 1 higher than in the column before
    falls: int  # the cost is 1 lower than in the column before
    above: int  # the cost is 1 higher than in the row before


def align_long(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Return the indices of each pair of the alignment that ``alignment.steps_back`` finds, in order."""
    places: dict[str, int] = {}  # the columns of each word of the hypothesis, as bits
    for j, word in enumerate(hypothesis):
        places[word] = places.get(word, 0) | 1 << j
    row = Row(rises=(1 << len(hypothesis)) - 1, falls=0, above=0)
    starts = []
    for i, word in enumerate(reference):
        if i % ROWS_PER_BLOCK == 0:
            starts.append(row)
        row = next_row(row, places.get(word, 0), len(hypothesis))

    steps: list[tuple[int | None, int | None]] = []
    j = len(hypothesis)
    while starts:
        start = len(starts) * ROWS_PER_BLOCK - ROWS_PER_BLOCK
        rows = _rows(starts.pop(), reference[start : start + ROWS_PER_BLOCK], places, len(hypothesis))
        i = start + len(rows)
        while i > start:
            row, bit = rows[i - 1 - start], j - 1
            same_word = j > 0 and reference[i - 1] == hypothesis[j - 1]
            if not j or (not same_word and row.above >> bit & 1):
                i -= 1
                steps.append((i, None))
            elif not same_word and row.rises >> bit & 1:
                j -= 1
                steps.append((None, j))
            else:
                i, j = i - 1, j - 1
                steps.append((i, j))
    steps += [(None, column) for column in range(j - 1, -1, -1)]
    return steps[::-1]


def next_row(row: Row, matches: int, columns: int) -> Row:
    """Return the row of the next word of the reference; ``matches`` are the columns with the same word."""
    every = (1 << columns) - 1
    starts = matches | row.falls
    # In "same" columns the cost is that of the previous row and column; the sum carries a match along a run of rises.
    same = (((starts & row.rises) + row.rises) ^ row.rises) | starts
    above = row.falls | ~(same | row.rises) & every
    below = same & row.rises
    above_left = above << 1 | 1  # in column 0, each row costs 1 more than the one before
    return Row(
        rises=(below << 1 | ~(above_left | same)) & every,
        falls=above_left & same & every,
        above=above,
    )


def _rows(row: Row, words: Sequence[str], places: Mapping[str, int], columns: int) -> list[Row]:
    rows = []
    for word in words:
        row = next_row(row, places.get(word, 0), columns)
        rows.append(row)
    return rows
