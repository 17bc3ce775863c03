"""Chapter 6, the steps: from text to pieces and back, by byte-level byte-pair encoding.

Whisper speaks in tokens: whole numbers, each for a few bytes of UTF-8 text. Three steps lead from text to
tokens. With the vocabulary of the English-only models, "It's ♪ 42" takes them like this:

    0. the text                         It's ♪ 42
    1. cut into words (split_words)     It     's     ␣♪          ␣42
    2. spelled in bytes (bytes_to_unicode)  It     's     ĠâĻª        Ġ42      one visible character a byte
    3. joined into pieces (merge)       It     's     ĠâĻ  ª      Ġ42      what the vocabulary has
       and looked up                    1026   338    20724 103   5433

Back is easier: look up the pieces, undo the spelling, join the bytes and read them as UTF-8. A token may hold
half a character, as two of these do, so the bytes have to be joined before they are read.

Nothing here knows Whisper: any vocabulary of pieces with ids can be spoken in this way, and GPT-2's was the first.

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

# GPT-2's words: the ending of a contraction; letters, digits or other visible characters, each kind with the one
# space before it; and white space. Of several spaces `\s+(?!\S)` leaves the last to the word that follows. The
# original has \p{L} and \p{N}, letters and numbers of all scripts, which Python's `re` lacks: see _stand_in.
# re.ASCII: \s is tab, newline, \v, \f, return and space, but not the separators \x1c to \x1f, which are no
# white space in Unicode although str.isspace() says so.
_WORD = re.compile(
    r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    re.ASCII,
)


def split_words(text: str) -> list[str]:
    r"""Cut text into the words that are encoded one by one; joined, they are the text again.

    >>> split_words("It's 8 o'clock,  Zoë…")
    ['It', "'s", ' 8', ' o', "'", 'clock', ',', ' ', ' Zoë', '…']
    >>> split_words("a\u3000b ٤٢\n")
    ['a', '\u3000', 'b', ' ٤٢', '\n']
    """
    # The pattern reads a silhouette of the text, in which an ASCII character of the same kind stands for every
    # other character. The two have the same length, so that a place in one is a place in the other.
    silhouette = "".join(map(_stand_in, text))
    return [text[match.start() : match.end()] for match in _WORD.finditer(silhouette)]


def _stand_in(char: str) -> str:
    """An ASCII character of the same kind: letter, number, white space, other. ASCII stands for itself."""
    if char.isascii():
        return char
    category = unicodedata.category(char)
    if category[0] == "L":
        return "A"  # any letter would do that is in no contraction
    if category[0] == "N":
        return "0"
    return "\t" if category[0] == "Z" or char == "\x85" else "!"


# ------------------------------------------------------------------------------------------ 2. bytes


def byte_alphabet() -> dict[int, str]:
    """The character that each byte is spelled with in vocabulary files, as GPT-2 chose them.

    A byte that is visible in Latin-1 is itself. The 68 others, spaces and controls, get the characters from
    U+0100 on, so that no piece in a file has white space in it: a space is 'Ġ', a newline 'Ċ'.

    >>> alphabet = byte_alphabet()
    >>> alphabet[ord("A")], alphabet[ord(" ")], alphabet[10], len(set(alphabet.values()))
    ('A', 'Ġ', 'Ċ', 256)
    """
    ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    visible = [byte for first, last in ranges for byte in range(ord(first), ord(last) + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(others)}


# Latin-1 reads every byte as the character of that number, so str.translate does the rest, both ways.
_BYTE_TO_CHAR = byte_alphabet()
_CHAR_TO_BYTE = {ord(char): byte for byte, char in _BYTE_TO_CHAR.items()}


def bytes_to_unicode(data: bytes) -> str:
    """Bytes in the alphabet of vocabulary files.

    >>> bytes_to_unicode(" né".encode())
    'ĠnÃ©'
    """
    return data.decode("latin-1").translate(_BYTE_TO_CHAR)


def unicode_to_bytes(piece: str) -> bytes:
    """The bytes that are spelled so.

    >>> unicode_to_bytes("ĠnÃ©").decode()
    ' né'
    """
    return piece.translate(_CHAR_TO_BYTE).encode("latin-1")


# ------------------------------------------------------------------------------------------ 3. pieces


def merge(word: str, ids: Mapping[str, int]) -> list[str]:
    """Join the characters of a spelled word into pieces of the vocabulary, the piece of the lowest id first.

    A vocabulary is learned by joining the most frequent pair of neighbours in a large text, over and over, and
    giving every new piece the next id. To encode is to repeat those joins in the order of their ids.

    >>> merge("Ġlower", {"er": 256, "Ġl": 257, "ow": 258, "Ġlow": 259})  # Ġlow·er, by way of Ġl·ow·er
    ['Ġlow', 'er']
    >>> merge("aaaaa", {"aa": 256, "aaaa": 257})
    ['aaaa', 'a']
    """
    pieces = list(word)
    while len(pieces) > 1:
        joined = [left + right for left, right in pairwise(pieces)]
        first = min(joined, key=lambda piece: ids.get(piece, inf))
        if first not in ids:
            break
        # One pass joins all such pairs, from left to right; a joined pair is two places long.
        merged, place = [], 0
        while place < len(pieces):
            joins = place < len(joined) and joined[place] == first
            merged.append(first if joins else pieces[place])
            place += 2 if joins else 1
        pieces = merged
    return pieces


def merge_long(word: str, ids: Mapping[str, int]) -> list[str]:
    """Return what :func:`merge` does, in time n log n: for the long runs of letters of a script without spaces.

    The pairs wait in a heap, so that nothing is gone through again after each join. Pieces are linked to their
    neighbours by place; a joined one lies at the place of its left part. Equal to :func:`merge` if no piece has a lower
    id than one of its parts, as in every learned vocabulary.
    """
    pieces = list(word)
    after, before = list(range(1, len(pieces) + 1)), list(range(-1, len(pieces) - 1))
    waiting = [(ids[pair], place) for place, pair in enumerate(map(add, pieces, pieces[1:])) if pair in ids]
    heapify(waiting)
    while waiting:
        rank, place = heappop(waiting)
        right = after[place]
        if not pieces[place] or right == len(pieces) or ids.get(pieces[place] + pieces[right]) != rank:
            continue  # one of the two has been joined with another
        pieces[place] += pieces[right]
        pieces[right] = ""
        after[place] = after[right]
        if after[place] < len(pieces):
            before[after[place]] = place
        for left in (before[place], place):
            if left >= 0 and after[left] < len(pieces):
                pair = pieces[left] + pieces[after[left]]
                if pair in ids:
                    heappush(waiting, (ids[pair], left))
    return [piece for piece in pieces if piece]
