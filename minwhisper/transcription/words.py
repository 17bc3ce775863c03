"""Chapter 9, words: splitting tokens into words, and merging punctuation into them.

A token is a word, part of a word, a mark, or a few bytes of a character, so tokens are joined into words before these
get times. Most languages put a space before each word. In those that do not, a character counts as a word.

Walkthrough: section 12.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..tokenizer.tokenizer import Tokenizer

SPACELESS_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Codes of languages written without spaces, in which a "word" is one or more characters of a token."""

BROKEN = "\ufffd"
"""The replacement character, which stands for bytes that are not a character, such as the first half of one."""


class WordTokens(NamedTuple):
    """A word as written, with the space before it, and its tokens."""

    word: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class WordTiming:
    """A word with its times and probability."""

    word: str
    tokens: tuple[int, ...]
    start: float  # seconds from the start of the window
    end: float
    probability: float  # mean of its tokens


def split_to_word_tokens(tokenizer: Tokenizer, tokens: Sequence[int], language: str | None) -> list[WordTokens]:
    """Split a text into words, on spaces, or on characters for languages written without spaces.

    ``language`` is a code, or None for English-only models. The words' tokens joined are ``tokens``. Raises
    ``TokenizerError`` for an id outside of the vocabulary.
    """
    split = split_tokens_on_unicode if language in SPACELESS_LANGUAGES else split_tokens_on_spaces
    return split(tokenizer, tokens)


def split_tokens_on_unicode(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[WordTokens]:
    """Split wherever the tokens so far are complete characters; special tokens count as text.

    The bytes of a character may be spread over several tokens, which stay together. Bytes that can never become a
    character, which show as U+FFFD in the text of all tokens too, stand alone.

    The result is openai-whisper's, except if broken bytes shift the two texts against each other: there it loses the
    remaining tokens, or fails, and here they are the last word.
    Raises ``TokenizerError`` for an id outside of the vocabulary.
    """
    whole = tokenizer.decode_with_timestamps(tokens)
    words: list[WordTokens] = []
    incomplete: tuple[int, ...] = ()
    start = 0  # of the incomplete tokens in the whole text
    for token in tokens:
        incomplete += (token,)
        text = tokenizer.decode_with_timestamps(incomplete)
        first_broken = text.find(BROKEN)
        if first_broken < 0 or whole[start + first_broken :].startswith(BROKEN):
            words.append(WordTokens(text, incomplete))
            incomplete = ()
            start += len(text)
    if incomplete:
        words.append(WordTokens(tokenizer.decode_with_timestamps(incomplete), incomplete))
    return words


def split_tokens_on_spaces(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[WordTokens]:
    """Split before every space, and before every mark and special token, with a space or without.

    Text that follows a mark without a space stays with it: "l'été" becomes "l" and "'été". A mark is any substring of
    Python's ``string.punctuation``, which is ASCII only. Both are openai-whisper's behaviour. Raises
    ``TokenizerError`` for an id outside of the vocabulary.
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
    """Merge the marks in ``prepend`` into the next word, and those in ``append`` into the previous one.

    An opening mark has a space before it and a closing one does not, which distinguishes the two kinds of quotation
    marks. The word keeps its times and probability, and gets the mark's tokens.

    The words are those of openai-whisper's ``merge_punctuations`` as long as no mark contains a space, but merged marks
    are removed from the list instead of emptied.
    """
    return _merge_closing(_merge_opening(timings, prepend), append)


def _merge_opening(timings: Sequence[WordTiming], marks: str) -> list[WordTiming]:
    """Merge from the last word to the first, so that several marks in a row reach the word after them."""
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
