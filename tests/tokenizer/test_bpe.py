"""Byte-pair encoding step by step: words, bytes, pieces."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.tokenizer.bpe import byte_alphabet, bytes_to_unicode, merge, merge_long, split_words, unicode_to_bytes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" hello world", [" hello", " world"]),
        ("a  b   ", ["a", " ", " b", "   "]),
        ("a\n\nb\n c", ["a", "\n", "\n", "b", "\n", " c"]),
        ("we're we'RE", ["we", "'re", " we", "'", "RE"]),  # GPT-2's contractions are only lower-case
        (" 's", [" '", "s"]),  # the space takes the apostrophe first
        ("x1y22", ["x", "1", "y", "22"]),
        ("né ½٤", ["né", " ½٤"]),
        ("a\x1cb \x1cb", ["a", "\x1c", "b", " \x1c", "b"]),  # not whitespace in the pattern: it takes the space
        ("e\u0301", ["e", "\u0301"]),  # a combining mark is not a letter
        ("'ſ", ["'", "ſ"]),  # a long s, whose capital is S, is not a contraction
    ],
)
def test_split_words(text, words):
    assert split_words(text) == words


def test_whitespace_is_that_of_unicode():
    # PropList.txt of the Unicode character database, White_Space.
    controls = {*range(0x9, 0xE), 0x85}
    spaces = {0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000}
    points = sorted(controls | spaces | {0x2028, 0x2029})
    # Only whitespace forms one word with a newline after it.
    white = [p for p in range(0x10000) if split_words(chr(p) * 2 + "\n") == [chr(p) * 2 + "\n"]]
    assert white == points


def test_every_byte_has_its_own_visible_character():
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(unicodedata.category(char)[0] in "LNPSM" for char in alphabet.values())
    assert unicode_to_bytes(bytes_to_unicode(bytes(range(256)))) == bytes(range(256))


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("", []),
        ("abc", ["a", "bc"]),  # bc is merged first, which leaves no ab
        ("abab", ["abab"]),
        ("bca", ["bc", "a"]),
        ("zab", ["z", "ab"]),
    ],
)
def test_the_lowest_id_is_merged_first(word, pieces):
    assert merge(word, {"bc": 1, "ab": 2, "abab": 3}) == pieces


@settings(deadline=None, max_examples=300)
@given(
    merges=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30), word=st.text("abcd", max_size=40)
)
def test_merge_long_equals_merge(merges, word):
    pieces = list("abcd")  # each merge is of two existing pieces, as in training
    for left, right in merges:
        pieces.append(pieces[left % len(pieces)] + pieces[right % len(pieces)])
    ids = {piece: token for token, piece in enumerate(dict.fromkeys(piece for piece in pieces if len(piece) < 20))}
    assert merge_long(word, ids) == merge(word, ids)
