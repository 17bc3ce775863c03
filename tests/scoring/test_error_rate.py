"""Error rates: counts, sums, and the definition of words and characters."""

import math

from minwhisper.scoring import ErrorCounts, character_errors, normalize_basic, word_errors


def test_each_kind_of_error_is_counted():
    assert word_errors("a b c d e", "x b d e f g") == ErrorCounts(substitutions=1, deletions=1, insertions=2, length=5)
    assert word_errors("a b c d e", "x b d e f g").rate == 4 / 5
    assert character_errors("abc d", "abx", None) == ErrorCounts(1, 2, 0, 5)


def test_texts_are_normalised_unless_told_otherwise():
    assert word_errors("It's twenty-one colours!", "it is 21 colors").errors == 0
    assert word_errors("It's twenty-one colours!", "it is 21 colors", None) == ErrorCounts(3, 0, 1, 3)
    assert word_errors("Où est-il ?", "où est il", normalize_basic).errors == 0
    assert character_errors("A  b\n", "a b").errors == 0


def test_a_sum_is_weighted_by_length():
    counts = [ErrorCounts(1, 0, 0, 1), ErrorCounts(0, 0, 0, 9)]
    assert sum(counts, ErrorCounts()).rate == 0.1


def test_the_rate_of_an_empty_reference_is_not_a_number():
    assert math.isnan(word_errors("", "words").rate)
    assert word_errors("", "two words").insertions == 2
    assert word_errors("two words", "").rate == 1.0
