"""Words: their tokens, and the punctuation that belongs to them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.transcription.words import (
    WordTiming,
    merge_punctuations,
    split_tokens_on_spaces,
    split_tokens_on_unicode,
)
from vocabularies import PIECE_COUNTS, TEXT, installed, made_up_pieces

MULTILINGUAL = 51865
PREPEND, APPEND = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"


@pytest.fixture(scope="module")
def made_up() -> Tokenizer:
    """Tokens of one byte and of two, so that characters fall apart often."""
    return Tokenizer(made_up_pieces(PIECE_COUNTS[MULTILINGUAL]), MULTILINGUAL)


@pytest.fixture(scope="module")
def multilingual() -> Tokenizer:
    return Tokenizer.from_folder(*installed("base"))


def texts(words) -> list[str]:
    return [word for word, _ in words]


# ------------------------------------------------------------------------------------------ splitting


@pytest.mark.parametrize(
    ("text", "pieces", "words"),
    [
        ("été", ["é", "t", "é"], ["été"]),
        ("l'été.", ["l", "'", "é", "t", "é", "."], ["l", "'été", "."]),
        (" (so) -", [" (", "so", ")", " -"], [" (so", ")", " -"]),  # a mark after a space is a word's beginning
        ("a\nb", ["a", "\n", "b"], ["a", "\nb"]),  # white space of any kind is a mark, " " or not
        ("日本", ["日", "本"], ["日本"]),
        ("日。本", ["日", "。", "本"], ["日。本"]),  # a mark, but not an ASCII one
    ],
    ids=repr,
)
def test_text_is_split_into_characters_and_words(multilingual, text, pieces, words):
    tokens = [token for piece in pieces for token in multilingual.encode(piece)]
    assert multilingual.decode(tokens) == text
    assert texts(split_tokens_on_unicode(multilingual, tokens)) == pieces
    assert texts(split_tokens_on_spaces(multilingual, tokens)) == words


BYTES = st.lists(st.sampled_from([0, 32, *range(94, 256), 300, 5000, 40000, 50257, 50364]))


@settings(deadline=None, max_examples=300)
@given(text=st.none() | TEXT, tokens=BYTES)
def test_no_token_is_lost_whatever_the_bytes_and_words_joined_are_the_text(made_up, text, tokens):
    tokens = tokens if text is None else made_up.encode(text)
    for split in (split_tokens_on_unicode, split_tokens_on_spaces):
        words = split(made_up, tokens)
        assert [token for _, own in words for token in own] == tokens
        assert text is None or "".join(texts(words)) == text


def test_bytes_left_at_the_end_are_the_last_word(made_up):
    # Two bytes of a three-byte character and then "A": as one text, the first two are one U+FFFD and not two.
    alone = {made_up.token_bytes(token): token for token in range(256)}
    tokens = [alone[b"\xe2"], alone[b"\x82"], alone[b"A"]]
    assert texts(split_tokens_on_unicode(made_up, tokens)) == ["\ufffd", "\ufffdA"]
    assert texts(split_tokens_on_unicode(made_up, tokens[:2])) == ["\ufffd", "\ufffd"]


# ------------------------------------------------------------------------------------------ marks


def timed(*words: str) -> list[WordTiming]:
    """Words of one token each, a second long, token and time counting up."""
    return [WordTiming(word, (at,), float(at), at + 1.0, 0.1 * at) for at, word in enumerate(words)]


def test_a_word_keeps_its_times_and_gets_the_tokens_of_its_marks():
    before = timed(" (", "word", ")", ".", " b")
    kept = list(before)
    merged = merge_punctuations(before, PREPEND, APPEND)
    assert merged == [WordTiming(" (word).", (0, 1, 2, 3), 1.0, 2.0, 0.1), before[-1]]
    assert before == kept
