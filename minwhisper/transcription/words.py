"""Chapter 9, words: where a sequence of tokens falls into words, and which marks belong to them.

A token is a piece of a word, a whole one, a mark, or a few bytes of a character, so words have to be put together
before anything can be said about when they were spoken. Most languages put a space before a word; for those that do
not, the characters have to do.

Walkthrough: section 12.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..tokenizer.tokenizer import Tokenizer

SPACELESS_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Codes of languages written without spaces, of which a "word" here is a character or what one token has of them."""

BROKEN = "\ufffd"
"""What decoding puts in place of bytes that are no character, such as the first half of one."""


class WordTokens(NamedTuple):
    """A word as it is written, the space before it included, and the tokens it is made of."""

    word: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class WordTiming:
    """A word, when it was said and how sure the model was of it."""

    word: str
    tokens: tuple[int, ...]
    start: float  # seconds from the start of the window
    end: float
    probability: float  # mean of its tokens'


def split_to_word_tokens(tokenizer: Tokenizer, tokens: Sequence[int], language: str | None) -> list[WordTokens]:
    """Split a text into words, on spaces, or on characters for languages written without spaces.

    ``language`` is a code, or None for English-only models. No token is lost: the words' tokens, one after the other,
    are ``tokens``. Raises :class:`TokenizerError` for an id outside of the vocabulary.
    """
    split = split_tokens_on_unicode if language in SPACELESS_LANGUAGES else split_tokens_on_spaces
    return split(tokenizer, tokens)


def split_tokens_on_unicode(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[WordTokens]:
    """Cut wherever the tokens so far are whole characters; special tokens count as text.

    A character of several bytes may be spread over tokens, and those stay together. Bytes that are no character
    whatever follows, which show as U+FFFD in the text of all tokens too, are not waited for.

    The outcome is openai-whisper's, except where broken bytes shift the two texts against each other: it then loses
    the tokens that are left at the end, or fails. Here those are the last word.
    Raises :class:`TokenizerError` for an id outside of the vocabulary.
    """
    whole = tokenizer.decode_with_timestamps(tokens)
    words: list[WordTokens] = []
    waiting: tuple[int, ...] = ()
    place = 0  # in the whole text, where the waiting tokens begin
    for token in tokens:
        waiting += (token,)
        text = tokenizer.decode_with_timestamps(waiting)
        first_broken = text.find(BROKEN)
        if first_broken < 0 or whole[place + first_broken :].startswith(BROKEN):
            words.append(WordTokens(text, waiting))
            waiting = ()
            place += len(text)
    if waiting:
        words.append(WordTokens(tokenizer.decode_with_timestamps(waiting), waiting))
    return words


def split_tokens_on_spaces(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[WordTokens]:
    """Cut before every space, and before every mark and special token, whether a space is there or not.

    What follows a mark without a space stays with it: "l'été" is "l" and "'été", as openai-whisper has it. So is
    what counts as a mark: any text, white space apart, that stands in Python's ``string.punctuation``, which is ASCII
    only. Raises :class:`TokenizerError` for an id outside of the vocabulary.
    """
    words: list[WordTokens] = []
    for piece, piece_tokens in split_tokens_on_unicode(tokenizer, tokens):
        is_special = piece_tokens[0] >= tokenizer.eot
        is_mark = piece.strip() in string.punctuation
        if not words or is_special or is_mark or piece.startswith(" "):
            words.append(WordTokens(piece, piece_tokens))
        else:
            before = words[-1]
            words[-1] = WordTokens(before.word + piece, before.tokens + piece_tokens)
    return words


def merge_punctuations(timings: Sequence[WordTiming], prepend: str, append: str) -> list[WordTiming]:
    """Give marks to the words they belong to: those in ``prepend`` to the next, those in ``append`` to the last.

    An opening mark has a space before it and a closing one has none, which tells the two meanings of a quotation
    mark apart. The word keeps its times and probability; the mark's are dropped, its tokens are not.

    The words are those of openai-whisper's ``merge_punctuations`` as long as no mark contains a space, only that the
    merged marks are gone from the list and not emptied in place.
    """
    return _merge_closing(_merge_opening(timings, prepend), append)


def _merge_opening(timings: Sequence[WordTiming], marks: str) -> list[WordTiming]:
    """From the last word to the first, so that one mark after another reaches the word behind them all."""
    merged: list[WordTiming] = []  # last word first
    for timing in reversed(timings):
        opens = timing.word.startswith(" ") and timing.word.strip() in marks
        if opens and merged:
            word = merged[-1]
            merged[-1] = replace(word, word=timing.word + word.word, tokens=timing.tokens + word.tokens)
        else:
            merged.append(timing)
    return merged[::-1]


def _merge_closing(timings: Sequence[WordTiming], marks: str) -> list[WordTiming]:
    merged: list[WordTiming] = []
    for timing in timings:
        if merged and timing.word in marks and not merged[-1].word.endswith(" "):
            word = merged[-1]
            merged[-1] = replace(word, word=word.word + timing.word, tokens=word.tokens + timing.tokens)
        else:
            merged.append(timing)
    return merged
