"""Words: their tokens, and the punctuation that is merged with them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.errors import TokenizerError
from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.transcription.words import (
    WordTiming,
    merge_punctuations,
    split_to_word_tokens,
    split_tokens_on_spaces,
    split_tokens_on_unicode,
)
from vocabularies import PIECE_COUNTS, TEXT, installed, made_up_pieces

MULTILINGUAL = 51865
PREPEND, APPEND = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"


@pytest.fixture(scope="module")
def made_up() -> Tokenizer:
    """Return a tokenizer with tokens of one and two bytes, which often split characters."""
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
        ("", [], []),
        (" ask not", [" ask", " not"], [" ask", " not"]),
        ("été", ["é", "t", "é"], ["été"]),
        ("l'été.", ["l", "'", "é", "t", "é", "."], ["l", "'été", "."]),
        (" (so) -", [" (", "so", ")", " -"], [" (so", ")", " -"]),  # a mark after a space starts a word
        ("a\nb", ["a", "\n", "b"], ["a", "\nb"]),  # whitespace of any kind counts as punctuation
        ("日本", ["日", "本"], ["日本"]),
        ("日。本", ["日", "。", "本"], ["日。本"]),  # punctuation, but not in ASCII
    ],
    ids=repr,
)
def test_text_is_split_into_characters_and_words(multilingual, text, pieces, words):
    tokens = [token for piece in pieces for token in multilingual.encode(piece)]
    assert multilingual.decode(tokens) == text
    assert texts(split_tokens_on_unicode(multilingual, tokens)) == pieces
    assert texts(split_tokens_on_spaces(multilingual, tokens)) == words


def test_invalid_bytes_and_special_tokens_are_separate_words_and_a_character_of_several_tokens_is_not(multilingual):
    broken = [8404, 871, 287, 6, 246, 526, 3210, 20378]
    pieces = split_tokens_on_unicode(multilingual, broken)
    assert texts(pieces) == [" elle", " est", " l", "'", "\ufffd", "é", "rit", "oire"]
    assert [token for _, own in pieces for token in own] == broken
    assert texts(split_tokens_on_spaces(multilingual, broken)) == [" elle", " est", " l", "'\ufffdéritoire"]
    two = multilingual.encode("\N{SNOWMAN}\N{GRINNING FACE}")
    assert len(two) > 2
    assert texts(split_tokens_on_unicode(multilingual, two)) == ["\N{SNOWMAN}", "\N{GRINNING FACE}"]
    special = [
        *multilingual.encode("a"),
        multilingual.timestamp_begin + 5,
        *multilingual.encode(" b"),
        multilingual.eot,
    ]
    assert texts(split_tokens_on_spaces(multilingual, special)) == ["a", "<|0.10|>", " b", "<|endoftext|>"]


def test_text_of_languages_without_spaces_is_split_on_characters_and_of_others_on_spaces(multilingual):
    tokens = multilingual.encode("so not我是美国人")
    characters, words = split_tokens_on_unicode(multilingual, tokens), split_tokens_on_spaces(multilingual, tokens)
    assert len(characters) > len(words) == 2
    for language in ("zh", "ja", "th", "lo", "my", "yue", "en", "ko", "fr", None):
        expected = words if language in ("en", "ko", "fr", None) else characters
        assert split_to_word_tokens(multilingual, tokens, language) == expected, language


@settings(deadline=None)
@given(text=TEXT)
def test_words_joined_are_the_text(made_up, text):
    for split in (split_tokens_on_unicode, split_tokens_on_spaces):
        assert "".join(texts(split(made_up, made_up.encode(text)))) == text


@settings(deadline=None, max_examples=300)
@given(tokens=st.lists(st.sampled_from([0, 32, *range(94, 256), 300, 5000, 40000, 50257, 50364])))
def test_no_token_is_lost_whatever_the_bytes(made_up, tokens):
    for split in (split_tokens_on_unicode, split_tokens_on_spaces):
        assert [token for _, own in split(made_up, tokens) for token in own] == tokens


def test_bytes_left_at_the_end_are_the_last_word(made_up):
    # Two bytes of a three-byte character and then "A": as one text, the first two are one U+FFFD and not two.
    alone = {made_up.token_bytes(token): token for token in range(256)}
    tokens = [alone[b"\xe2"], alone[b"\x82"], alone[b"A"]]
    assert texts(split_tokens_on_unicode(made_up, tokens)) == ["\ufffd", "\ufffdA"]
    assert texts(split_tokens_on_unicode(made_up, tokens[:2])) == ["\ufffd", "\ufffd"]


def test_an_unknown_token_is_an_error(made_up):
    with pytest.raises(TokenizerError, match="expected an id"):
        split_tokens_on_spaces(made_up, [51865])


# ------------------------------------------------------------------------------------------ marks


def timed(*words: str) -> list[WordTiming]:
    """Return consecutive words of one token and one second each."""
    return [WordTiming(word, (at,), float(at), at + 1.0, 0.1 * at) for at, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "merged"),
    [
        ([], []),
        ([" a", " b"], [" a", " b"]),
        ([" a", ",", " b", "."], [" a,", " b."]),
        ([" a", ".", '"'], [' a."']),
        ([" (", "a", ")"], [" (a)"]),
        ([" “", " (", "a"], [" “ (a"]),
        ([' "', "a", '"', ' "', "b"], [' "a"', ' "b']),
        (["(", "a"], ["(", "a"]),  # an opening mark, but without a space before it
        ([".", " a"], [".", " a"]),  # nothing to close
        ([" a", " ("], [" a", " ("]),  # nothing to open
        ([" (", ")"], [" ()"]),
        ([" a ", "."], [" a ", "."]),  # a word that ends with a space takes no mark
        ([" ", "a"], [" a"]),  # a single space counts as an opening mark
        ([" a", " -", "b", "?!"], [" a", " -b", "?!"]),  # "?!" is not in the list of marks
        ([" a", "!！"], [" a!！"]),  # but neighbours in the list are
    ],
    ids=repr,
)
def test_punctuation_is_merged_with_the_word_that_it_belongs_to(words, merged):
    assert [timing.word for timing in merge_punctuations(timed(*words), PREPEND, APPEND)] == merged


def test_the_marks_to_merge_are_arguments():
    words = timed(" (", "a", ")", ".")
    assert [timing.word for timing in merge_punctuations(words, "", ".")] == [" (", "a", ")."]
    assert [timing.word for timing in merge_punctuations(words, "(", "!")] == [" (a", ")", "."]


def test_a_word_keeps_its_times_and_gets_the_tokens_of_its_marks():
    before = timed(" (", "word", ")", ".", " b")
    kept = list(before)
    merged = merge_punctuations(before, PREPEND, APPEND)
    assert merged == [WordTiming(" (word).", (0, 1, 2, 3), 1.0, 2.0, 0.1), before[-1]]
    assert before == kept
