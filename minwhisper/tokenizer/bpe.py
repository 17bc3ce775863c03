"""Chapter 6: byte-level byte-pair encoding (BPE), which turns text into pieces of the vocabulary.

A token is an integer that stands for a few bytes of UTF-8 text. Encoding takes three steps. With the vocabulary of the
English-only models, "It's ♪ 42" becomes:

    0. the text                         It's ♪ 42
    1. split into words (split_words)   It     's     ␣♪          ␣42
    2. as bytes (bytes_to_unicode)      It     's     ĠâĻª        Ġ42      one visible character per byte
    3. merged into pieces (merge)       It     's     ĠâĻ  ª      Ġ42      entries of the vocabulary
       and looked up                    1026   338    20724 103   5433

Decoding looks up the pieces, converts them to bytes, joins these and decodes them as UTF-8. A token can end in the
middle of a character, as 20724 does, so the bytes must be joined before they are decoded.

Nothing here is specific to Whisper. Any vocabulary of pieces and ids works; GPT-2's was the first of this kind.

Sources: Sennrich et al., 2016, "Neural Machine Translation of Rare Words with Subword Units", for byte-pair
encoding; Radford et al., 2019, "Language Models are Unsupervised Multitask Learners", section 2.2, for bytes
instead of characters.

Walkthrough: section 8.
"""

import re
import unicodedata
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import inf
from operator import add

# ------------------------------------------------------------------------------------------ 1. words

# GPT-2's words: the ending of a contraction; a run of letters, of digits or of other visible characters, with one space
# before it; or whitespace. `\s+(?!\S)` leaves the last of several spaces to the next word. The original pattern has
# \p{L} and \p{N}, letters and numbers of all scripts, which Python's `re` lacks: see _ascii_class.
# With re.ASCII, \s does not match the separators \x1c to \x1f, which are not whitespace in Unicode although
# str.isspace() returns True for them.
_WORD = re.compile(
    r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    re.ASCII,
)


def split_words(text: str) -> list[str]:
    r"""Split text into words, which are encoded one by one. Joined, they give the text again.

    >>> split_words("It's 8 o'clock,  Zoë…")
    ['It', "'s", ' 8', ' o', "'", 'clock', ',', ' ', ' Zoë', '…']
    >>> split_words("a\u3000b ٤٢\n")
    ['a', '\u3000', 'b', ' ٤٢', '\n']
    """
    # Match the pattern against a copy of the text in which an ASCII character of the same class replaces each non-ASCII
    # one. The copy has the same length, so positions in the two agree.
    classes = "".join(map(_ascii_class, text))
    return [text[match.start() : match.end()] for match in _WORD.finditer(classes)]


def _ascii_class(char: str) -> str:
    """Return an ASCII character of the same class: letter, number, whitespace or other. ASCII stays as it is."""
    if char.isascii():
        return char
    category = unicodedata.category(char)
    if category[0] == "L":
        return "A"  # any letter that is not in a contraction
    if category[0] == "N":
        return "0"
    return "\t" if category[0] == "Z" or char == "\x85" else "!"


# ------------------------------------------------------------------------------------------ 2. bytes


def byte_alphabet() -> dict[int, str]:
    """Return GPT-2's mapping of bytes to visible characters, which vocabulary files use.

    A byte that is visible in Latin-1 maps to that character. The 68 others, spaces and control characters, map to the
    characters from U+0100 on, so that no piece in a file contains whitespace: a space is 'Ġ', a newline 'Ċ'.

    >>> alphabet = byte_alphabet()
    >>> alphabet[ord("A")], alphabet[ord(" ")], alphabet[10], len(set(alphabet.values()))
    ('A', 'Ġ', 'Ċ', 256)
    """
    ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    visible = [byte for first, last in ranges for byte in range(ord(first), ord(last) + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(others)}


# Latin-1 decodes every byte to the character of the same number; str.translate does the rest, in both directions.
_BYTE_TO_CHAR = byte_alphabet()
_CHAR_TO_BYTE = {ord(char): byte for byte, char in _BYTE_TO_CHAR.items()}


def bytes_to_unicode(data: bytes) -> str:
    """Return bytes as the characters of ``byte_alphabet``.

    >>> bytes_to_unicode(" né".encode())
    'ĠnÃ©'
    """
    return data.decode("latin-1").translate(_BYTE_TO_CHAR)


def unicode_to_bytes(piece: str) -> bytes:
    """Return the bytes of a piece, the inverse of ``bytes_to_unicode``.

    >>> unicode_to_bytes("ĠnÃ©").decode()
    ' né'
    """
    return piece.translate(_CHAR_TO_BYTE).encode("latin-1")


# ------------------------------------------------------------------------------------------ 3. pieces


def merge(word: str, ids: Mapping[str, int]) -> list[str]:
    """Merge the characters of a word into pieces of the vocabulary, always the pair with the lowest id first.

    A vocabulary is trained by merging the most frequent pair of adjacent pieces in a large text, again and again, and
    giving each new piece the next id. Encoding repeats these merges in the order of their ids.

    >>> merge("Ġlower", {"er": 256, "Ġl": 257, "ow": 258, "Ġlow": 259})  # Ġlow·er, via Ġl·ow·er
    ['Ġlow', 'er']
    >>> merge("aaaaa", {"aa": 256, "aaaa": 257})
    ['aaaa', 'a']
    """
    pieces = list(word)
    while len(pieces) > 1:
        pairs = [left + right for left, right in pairwise(pieces)]
        best = min(pairs, key=lambda pair: ids.get(pair, inf))
        if best not in ids:
            break
        # One pass from left to right merges every occurrence of this pair.
        merged, i = [], 0
        while i < len(pieces):
            matches = i < len(pairs) and pairs[i] == best
            merged.append(best if matches else pieces[i])
            i += 2 if matches else 1
        pieces = merged
    return pieces


def merge_long(word: str, ids: Mapping[str, int]) -> list[str]:
    """Return the same pieces as ``merge`` in O(n log n), for long runs of letters in scripts without spaces.

    The pairs are kept in a heap, and the pieces in a linked list by position; a merged piece takes the position of its
    left part. The result equals ``merge`` if no piece has a lower id than its parts, as in every trained
    vocabulary.
    """
    pieces = list(word)
    after, before = list(range(1, len(pieces) + 1)), list(range(-1, len(pieces) - 1))
    heap = [(ids[pair], i) for i, pair in enumerate(map(add, pieces, pieces[1:])) if pair in ids]
    heapify(heap)
    while heap:
        rank, i = heappop(heap)
        right = after[i]
        if not pieces[i] or right == len(pieces) or ids.get(pieces[i] + pieces[right]) != rank:
            continue  # outdated: one of the two has been merged with another piece
        pieces[i] += pieces[right]
        pieces[right] = ""
        after[i] = after[right]
        if after[i] < len(pieces):
            before[after[i]] = i
        for left in (before[i], i):
            if left >= 0 and after[left] < len(pieces):
                pair = pieces[left] + pieces[after[left]]
                if pair in ids:
                    heappush(heap, (ids[pair], left))
    return [piece for piece in pieces if piece]
