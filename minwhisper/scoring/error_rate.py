"""Word and character error rates: the share of a reference that a hypothesis gets wrong."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .alignment import Pair, align
from .normalize import Normalizer, normalize_english


@dataclass(frozen=True)
class ErrorCounts:
    """Counts of the errors of a hypothesis; those of several texts are added with ``+`` or ``sum``.

    >>> sum([ErrorCounts(1, 0, 0, 10), ErrorCounts(0, 2, 1, 10)], ErrorCounts())
    ErrorCounts(substitutions=1, deletions=2, insertions=1, length=20)
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0  # words, or characters, of the reference

    @property
    def errors(self) -> int:
        """Return the number of all errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Return the errors per word of the reference: above 1 if errors outnumber words; NaN without words."""
        return self.errors / self.length if self.length else math.nan

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        """Return the counts of both together, whose rate is weighted by length."""
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )


def word_errors(reference: str, hypothesis: str, normalize: Normalizer | None = normalize_english) -> ErrorCounts:
    """Count the words of ``hypothesis`` that are wrong; its ``rate`` is the word error rate (WER).

    Both texts are normalised first, unless ``normalize`` is None, and split into words at white space.

    >>> word_errors("And so, my fellow Americans:", "and so my fell Americans").rate
    0.2
    """
    return count_errors(align(split_words(reference, normalize), split_words(hypothesis, normalize)))


def character_errors(reference: str, hypothesis: str, normalize: Normalizer | None = normalize_english) -> ErrorCounts:
    """Count the characters of ``hypothesis`` that are wrong; its ``rate`` is the character error rate (CER).

    Both texts are normalised first, unless ``normalize`` is None. The spaces between words count, one each. This is the
    rate for languages that are written without spaces.

    >>> character_errors("And so, my fellow Americans:", "and so my fell Americans")
    ErrorCounts(substitutions=0, deletions=2, insertions=0, length=26)
    """
    return count_errors(align(split_characters(reference, normalize), split_characters(hypothesis, normalize)))


def split_words(text: str, normalize: Normalizer | None) -> list[str]:
    """Return the words of a text after normalisation."""
    return (normalize(text) if normalize else text).split()


def split_characters(text: str, normalize: Normalizer | None) -> list[str]:
    """Return the characters of a text after normalisation, with a single space between words."""
    return list(" ".join(split_words(text, normalize)))


def count_errors(pairs: Iterable[Pair]) -> ErrorCounts:
    """Count the errors of an alignment."""
    pairs = list(pairs)
    deletions = sum(hypothesis is None for _, hypothesis in pairs)
    insertions = sum(reference is None for reference, _ in pairs)
    different = sum(reference != hypothesis for reference, hypothesis in pairs)
    return ErrorCounts(different - deletions - insertions, deletions, insertions, len(pairs) - insertions)
