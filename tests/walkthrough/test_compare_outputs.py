"""The comparison of outputs accepts rounding errors, and rejects wrong values."""

import pytest

from minwhisper.walkthrough.compare_outputs import first_difference

ALIKE = """
mean 0.251             | mean 0.252             the last digit may differ by one
0.123456789            | 0.123456123            or one part in ten thousand
[ 7.  18.2 29. ]       | [7. 18.2 29.]          spaces do not count
1,000,000 times        | 1,000,000 times
error ~3e-07           | error ~8.9e-07         an order of magnitude
took ≈ 3.1 s           | took ≈ 12 s            different every time
≈ no GPU               | ≈ 1e-7
0.0                    | -0.0
"""
DIFFERENT = """
(1, 1500, 384)         | (1, 1500, 385)
1500                   | 1500.0                 not the same kind of number
mean 0.251             | mean 0.253
mean 0.251             | mean -0.251
0.25                   | 0.26                   of two digits, none may differ
100000                 | 100001
error ~3e-07           | error ~9.1e-07
error ~3e-07           | error ~-3e-07
error ~3e-07           | error 3e-07
error 3e-07            | error ~3e-07
3.1e-08                | 3.2e-08
3.1e-08                | 3.1e-07
3.1e-08                | nan
[0. -inf]              | [0. inf]
took ≈ 3 s             | took 3 s
took 3 s               | took ≈ 3 s
took ≈ 3 s             | slept ≈ 3 s
a b                    | a b c
conv1                  | conv2
"""


def rows(table):
    """Return the pairs of a table: two columns, and a note after two spaces."""
    pairs = (line.split("| ") for line in table.strip().splitlines())
    return [(expected.rstrip(), actual.partition("  ")[0]) for expected, actual in pairs]


@pytest.mark.parametrize(("expected", "actual"), rows(ALIKE))
def test_lines_that_differ_by_rounding_match(expected, actual):
    assert first_difference(expected, actual) is None


@pytest.mark.parametrize(("expected", "actual"), rows(DIFFERENT))
def test_lines_with_wrong_values_do_not_match(expected, actual):
    assert first_difference(expected, actual) == f"expected {expected!r}, got {actual!r}"


def test_the_first_different_or_additional_line_is_reported():
    assert first_difference("one\ntwo\nthree", "one\n2\n3") == "expected 'two', got '2'"
    for expected, actual in (("one", "one\ntwo"), ("one\ntwo", "one"), ("", "two"), ("two", "")):
        assert "'two'" in first_difference(expected, actual)
