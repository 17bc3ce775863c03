"""The steps of chapter 6, one by one: words, spelling, pieces."""

import doctest
import random
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.tokenizer import bpe as byte_pairs
from minwhisper.tokenizer.bpe import byte_alphabet, bytes_to_unicode, merge, merge_long, split_words, unicode_to_bytes
from vocabularies import TEXT

# ------------------------------------------------------------------------------------------ documentation


def test_the_examples_in_the_documentation_are_true():
    result = doctest.testmod(byte_pairs)
    assert result.attempted > 5
    assert result.failed == 0


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("hello world", ["hello", " world"]),
        (" hello", [" hello"]),
        ("a  b", ["a", " ", " b"]),
        ("a   ", ["a", "   "]),
        ("a\n\nb", ["a", "\n", "\n", "b"]),
        ("a\n b", ["a", "\n", " b"]),
        ("we're", ["we", "'re"]),
        ("we'RE", ["we", "'", "RE"]),  # GPT-2's contractions are lower case only
        (" 's", [" '", "s"]),  # a space takes the apostrophe before the contraction can
        ("x1y22", ["x", "1", "y", "22"]),
        ("né ½٤", ["né", " ½٤"]),
        ("a\u00a0b", ["a", "\u00a0", "b"]),
        ("a\x1cb", ["a", "\x1c", "b"]),
        ("a \x1cb", ["a", " \x1c", "b"]),  # visible, as far as the pattern is concerned: it takes the space
        ("e\u0301", ["e", "\u0301"]),  # a combining mark is no letter
        ("'ſ", ["'", "ſ"]),  # a long s, whose capital is S, makes no contraction
    ],
)
def test_words(text, words):
    assert split_words(text) == words


def test_white_space_is_that_of_unicode():
    # PropList.txt of the Unicode character database, White_Space.
    controls = {*range(0x9, 0xE), 0x85}
    spaces = {0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000}
    points = sorted(controls | spaces | {0x2028, 0x2029})
    # White space before a newline is one word with it, and nothing else is.
    white = [p for p in range(0x10000) if split_words(chr(p) * 2 + "\n") == [chr(p) * 2 + "\n"]]
    assert white == points


@settings(deadline=None)
@given(TEXT)
def test_words_joined_are_the_text(text):
    assert "".join(split_words(text)) == text


# ------------------------------------------------------------------------------------------ bytes


def test_every_byte_has_a_visible_character_of_its_own():
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(unicodedata.category(char)[0] in "LNPSM" for char in alphabet.values())


@settings(deadline=None)
@given(st.binary())
def test_spelling_is_undone(data):
    assert unicode_to_bytes(bytes_to_unicode(data)) == data
    assert len(bytes_to_unicode(data)) == len(data)


# ------------------------------------------------------------------------------------------ pieces


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("", []),
        ("a", ["a"]),
        ("ab", ["ab"]),
        ("abc", ["a", "bc"]),  # bc comes first, and then there is no ab left to join
        ("abab", ["abab"]),
        ("bca", ["bc", "a"]),
        ("zab", ["z", "ab"]),
    ],
)
def test_the_lowest_id_is_merged_first(word, pieces):
    assert merge(word, {"bc": 1, "ab": 2, "abab": 3}) == pieces


@settings(deadline=None, max_examples=300)
@given(
    joins=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30), word=st.text("abcd", max_size=40)
)
def test_the_way_for_long_words_joins_the_same_pieces(joins, word):
    learned = list("abcd")  # each join is of two pieces that are there already, as in training
    for left, right in joins:
        learned.append(learned[left % len(learned)] + learned[right % len(learned)])
    ids = {piece: token for token, piece in enumerate(dict.fromkeys(piece for piece in learned if len(piece) < 20))}
    assert merge_long(word, ids) == merge(word, ids)


@pytest.mark.parametrize("letters", ["abcdefghijklmnopqrstuvwxyz", "文字列を切らずに並べた長い一語", "a", "ñéß"])
def test_a_long_run_of_letters_is_joined_as_a_short_one(base, letters):
    word = "".join(random.Random(1).choices(letters, k=300))
    spelled = bytes_to_unicode(word.encode())
    ids = {bytes_to_unicode(base.tokenizer.token_bytes(token)): token for token in range(base.tokenizer.eot)}
    assert merge_long(spelled, ids) == merge(spelled, ids)


def test_a_page_without_spaces_takes_no_time(base):
    page = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=20_000)))
    began = time.process_time()
    tokens = base.tokenizer.encode(page)
    assert base.tokenizer.decode(tokens) == page
    assert time.process_time() - began < 5
