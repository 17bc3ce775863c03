"""Chapter 10, a known text: its sentences and words, and the comparison of words.

Walkthrough: section 13.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import OptionError
from ..printable import short_repr
from ..tokenizer.tokenizer import Tokenizer
from .words import SPACELESS_LANGUAGES, WordTiming, merge_punctuations, split_to_word_tokens

# After the end of a sentence: its mark, quotation marks and brackets, and a space, unless a lower-case letter follows.
_SENTENCE_END = re.compile(r"""(?<=[.!?…])(["'”’»)\]]*)\s+(?=\S)""")
_SPACELESS_END = re.compile(r"""(?<=[。！？!?…])(["'”’»)\]」』）]*+)\s*(?=\S)""")
_ABBREVIATION = re.compile(r"(?:^|[\s(\"'“‘])(?:[^\W\d_]|Mr|Mrs|Ms|Dr|St|Prof|Nr|No|vs|cf|e\.g|i\.e|z\.B)\.$")
_SPOKEN_SYMBOLS = frozenset("&%@#+=$€£¥§°")


@dataclass(frozen=True)
class KnownWord:
    """A word of a known text."""

    text: str  # with the space before it and the punctuation around it
    tokens: tuple[int, ...]
    sentence: int
    key: str  # its letters and digits, to compare it by; "" if nothing of it is spoken


def check_text(text: object) -> None:
    """Raise ``OptionError`` unless ``text`` is a string that contains something to say."""
    if not isinstance(text, str):
        raise OptionError(f"text: expected the text that was said, got {short_repr(text)}; read its file first")
    if not any(map(comparable, text.split())):
        raise OptionError("text: expected the text that was said, got no letters or digits; was the file empty?")


def comparable(word: str) -> str:
    """Return what two spellings of a word have in common: its letters and digits, in lower case.

    >>> comparable(' "Exhibition,'), comparable(" woodcutter's"), comparable(" —"), comparable(" &")
    ('exhibition', 'woodcutters', '', '&')
    """
    folded = unicodedata.normalize("NFKC", word).casefold()
    # L, M and N: letters, the vowel signs of Indian and other scripts, numbers.
    kept = "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")
    return kept or "".join(c for c in folded if c in _SPOKEN_SYMBOLS)


def split_sentences(text: str, language: str) -> list[str]:
    r"""Split a text into lines and the lines into sentences, with single spaces between words.

    >>> split_sentences("He met Dr. Who. They left!\nThe end", "en")
    ['He met Dr. Who.', 'They left!', 'The end']
    """
    sentences: list[str] = []
    spaceless = language in SPACELESS_LANGUAGES
    for line in text.splitlines():
        start, line = 0, " ".join(line.split())
        for end in (_SPACELESS_END if spaceless else _SENTENCE_END).finditer(line):
            sentence = line[start : end.end(1)]
            if spaceless or not (line[end.end()].islower() or _ABBREVIATION.search(sentence)):
                sentences.append(sentence)
                start = end.end()
        sentences += [line[start:]] if line[start:] else []
    return sentences


def known_words(
    sentences: Sequence[str], tokenizer: Tokenizer, language: str, prepend: str, append: str
) -> list[KnownWord]:
    """Split sentences into words, with the punctuation merged into them; joined they are the sentences.

    ``prepend`` and ``append`` are marks as in ``merge_punctuations``. A sentence begins with a space, as in Whisper's
    output, except in languages written without spaces.
    """
    space = "" if language in SPACELESS_LANGUAGES else " "
    words: list[KnownWord] = []
    for number, sentence in enumerate(sentences):
        pieces = split_to_word_tokens(tokenizer, tokenizer.encode(space + sentence), language)
        untimed = [WordTiming(piece.word, piece.tokens, 0.0, 0.0, 0.0) for piece in pieces]
        for word in merge_punctuations(untimed, prepend, append):
            words.append(KnownWord(word.word, word.tokens, number, comparable(word.word)))
    return words
