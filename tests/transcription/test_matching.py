"""Known and recognised words are matched with few edits, and a missing sentence stays one gap."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.transcription.matching import match_words

WORDS = st.lists(st.sampled_from("abcde"), max_size=12)


def edits(pairs, known, recognised):
    return sum(i is None or j is None or known[i] != recognised[j] for i, j in pairs)


def levenshtein(known, recognised):
    row = list(range(len(recognised) + 1))
    for i, word in enumerate(known, 1):
        row, above = [i], row
        for j, other in enumerate(recognised, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != other)))
    return row[-1]


@settings(max_examples=200, deadline=None)
@given(WORDS, WORDS)
def test_every_word_is_in_one_pair_in_order_and_edits_are_few(known, recognised):
    """To keep a gap in one piece may take a few more edits than the minimum."""
    pairs = match_words(known, recognised, set())
    assert [i for i, _ in pairs if i is not None] == list(range(len(known)))
    assert [j for _, j in pairs if j is not None] == list(range(len(recognised)))
    assert edits(pairs, known, recognised) <= 2 * levenshtein(known, recognised)


def test_a_missing_sentence_stays_in_one_piece():
    known = "of the art . in the middle of the art of the book . of the end".replace(". ", "").split()
    recognised = ["of", "the", "art", "of", "the", "end"]
    pairs = match_words(known, recognised, {0, 3, 12})
    assert [i for i, j in pairs if j is None] == list(range(3, 12))


def test_long_texts_are_matched_in_pieces():
    rng = np.random.default_rng(0)
    known = [f"w{number}" for number in rng.zipf(1.3, 10_000) % 3000]
    recognised = [word for word in known[:4000] + known[6000:] if rng.random() > 0.1]
    pairs = match_words(known, recognised, set(range(0, 10_000, 15)))
    assert edits(pairs, known, recognised) < 1.02 * (len(known) - len(recognised))


def test_texts_with_nothing_in_common_are_not_compared_word_by_word():
    known, recognised = [f"a{n}" for n in range(5000)], [f"b{n}" for n in range(5000)]
    assert edits(match_words(known, recognised, set()), known, recognised) == 10_000
