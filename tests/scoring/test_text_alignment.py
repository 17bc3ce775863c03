"""Alignments have the fewest errors, and the bit-parallel algorithm gives the same ones as two loops."""

import random

import pytest

from minwhisper.scoring import align, bit_parallel
from minwhisper.scoring.alignment import MAX_CELLS, edit_distances, steps_back
from minwhisper.scoring.bit_parallel import align_long


def test_each_kind_of_error_is_where_it_happened():
    reference, hypothesis = "ask not what your country can do for you", "so ask what your county can do for you"
    assert align(reference.split(), hypothesis.split()) == [
        *((None, "so"), ("ask", "ask"), ("not", None), ("what", "what"), ("your", "your"), ("country", "county")),
        *((word, word) for word in ("can", "do", "for", "you")),
    ]


def test_a_side_may_be_empty():
    assert align([], []) == []
    assert align(["a", "b"], []) == [("a", None), ("b", None)]
    assert align([], ["a"]) == [(None, "a")]
    assert align_long([], ["a"]) == [(None, 0)]
    assert align_long(["a"], []) == [(0, None)]


def pairs_of_texts():
    """Yield pairs of random texts, with small and large vocabularies; some are noisy copies."""
    rng = random.Random(0)
    for trial in range(150):
        words = "abcd" if trial % 2 else [str(number) for number in range(30)]
        one = rng.choices(words, k=rng.randint(0, 40))
        other = [word for word in one if rng.random() < 0.8] if trial % 3 else rng.choices(words, k=rng.randint(0, 40))
        yield one, [rng.choice(words) if rng.random() < 0.2 else word for word in other]


@pytest.mark.parametrize("rows", [1, 3, 256])
def test_the_bit_parallel_alignment_equals_that_of_two_loops(rows, monkeypatch):
    monkeypatch.setattr(bit_parallel, "ROWS_PER_BLOCK", rows)
    for one, other in pairs_of_texts():
        assert align_long(one, other) == steps_back(edit_distances(one, other), one, other), (one, other)


def test_an_hour_of_speech_is_aligned():
    reference = [str(number) for number in range(10_000)]  # all words differ, so the errors are known
    hypothesis = [*reference[:100], "y", *reference[100:2_000], *reference[2_050:5_000], "x", *reference[5_001:]]
    assert len(reference) * len(hypothesis) > MAX_CELLS
    found = align(reference, hypothesis)
    removed = [(str(number), None) for number in range(2_000, 2_050)]
    assert [pair for pair in found if pair[0] != pair[1]] == [(None, "y"), *removed, ("5000", "x")]
    assert [word for word, _ in found if word is not None] == reference
    assert [word for _, word in found if word is not None] == hypothesis
