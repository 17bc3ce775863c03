"""Exercise 7: merging byte pairs."""

from itertools import pairwise
from typing import Any

from ..common.edits import Edit, Mistake
from ..tokenizer.bpe import bytes_to_unicode, split_words
from .checking import Case, Exercise
from .comparing import Results, WrongAnswer, as_strings
from .guard import Answer
from .real_model import real_model

TASK = """\
Write merge(word, ids) -> pieces: split a word into pieces of the vocabulary, by byte-pair encoding (BPE).

word is a string with one character per byte, such as "Ġlower", where Ġ is the space. ids maps each piece that may be
merged to its id. At first the pieces are the single characters.
- In each round, look at all pairs of adjacent pieces. Among those that are in ids when joined, choose the pair with the
  lowest id, and merge it everywhere in the word: from left to right, each piece at most once in a round.
- Stop when no pair is in ids.
- Return the list of pieces. Joined, they are the word. A single character need not be in ids.
For instance, merge("aaa", {"aa": 256}) is ["aa", "a"]."""


def merge(word: str, ids: Any) -> list[str]:
    """Merge the characters of a word into pieces, always the pair with the lowest id first."""
    pieces = list(word)
    for _ in word:  # each round leaves fewer pieces, so there are no more rounds than characters
        pairs = [left + right for left, right in pairwise(pieces) if left + right in ids]
        if not pairs:
            break
        best = min(pairs, key=ids.get)
        pieces = merge_pair(pieces, best)
    return pieces


def merge_pair(pieces: list[str], best: str) -> list[str]:
    """Merge two adjacent pieces wherever they make ``best`` together."""
    merged, i = [], 0
    while i < len(pieces):
        if "".join(pieces[i : i + 2]) == best and len(pieces[i]) < len(best):
            merged.append(best)
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return merged


def longest_match(word: str, ids: Any) -> list[str]:
    """Take the longest piece that begins the rest of the word, as another method does (two of the mistakes)."""
    pieces = []
    while word:
        length = max((n for n in range(1, len(word) + 1) if word[:n] in ids), default=1)
        pieces.append(word[:length])
        word = word[length:]
    return pieces


_BEST = "min(pairs, key=ids.get)"
_IN_IDS = "if left + right in ids"

MISTAKES = {
    "leftmost pair": Mistake(
        "The leftmost pair in ids is merged first. Merge the one with the lowest id, wherever it is.",
        (Edit(_BEST, "pairs[0]"),),
    ),
    "rightmost pair": Mistake(
        "The rightmost pair in ids is merged first. Merge the one with the lowest id, wherever it is.",
        (Edit(_BEST, "pairs[-1]"),),
    ),
    "highest id": Mistake(
        "The pair with the highest id is merged first. The lowest id was the first merge in training, and is the first "
        "here.",
        (Edit(_BEST, "max(pairs, key=ids.get)"),),
    ),
    "alphabetical": Mistake(
        "The alphabetically first pair is merged: min without key=. Compare ids.",
        (Edit(_BEST, "min(pairs)"),),
    ),
    "longest match": Mistake(
        "The longest piece that begins the rest of the word is taken, as WordPiece does. In BPE, pieces grow by "
        "merging pairs, and a long piece that no merges lead to is not found.",
        (Edit("pieces = list(word)", "return longest_match(word, ids)"),),
    ),
    "one round": Mistake(
        "Only one pair is merged. Repeat until no pair is in ids: merged pieces form new pairs.",
        (Edit("pieces = merge_pair(pieces, best)", "return merge_pair(pieces, best)"),),
    ),
    "merged pieces not merged again": Mistake(
        "Only single characters are merged. Pieces that were merged can be merged again.",
        (Edit(_IN_IDS, "if left + right in ids and len(left + right) == 2"),),
    ),
    "pieces used twice": Mistake(
        "A piece is used in two pairs: after a merge, advance by two pieces, not one.",
        (Edit("i += 2", "i += 1", merge_pair),),
    ),
    "from the right": Mistake(
        "A round goes from right to left: 'aaa' becomes 'a', 'aa'. Go from left to right.",
        (
            Edit(
                "pieces = merge_pair(pieces, best)",
                "pieces = [p[::-1] for p in merge_pair([p[::-1] for p in pieces[::-1]], best[::-1])[::-1]]",
            ),
        ),
    ),
    "last piece lost": Mistake(
        "The last piece is lost if no merge reaches it. Go up to the end of the list, and keep a piece without a "
        "partner.",
        (Edit("while i < len(pieces):", "while i < len(pieces) - 1:", merge_pair),),
    ),
    "id 0": Mistake(
        "A pair with the id 0 counts as missing: 0 is false. Check whether the pair is in ids.",
        (Edit(_IN_IDS, "if ids.get(left + right)"),),
    ),
    "any pair": Mistake(
        "A pair that is not in ids is merged, perhaps because a missing id counts as 0. Stop when none of the pairs is "
        "in ids.",
        (
            Edit(_IN_IDS, ""),
            Edit(_BEST, "min(pairs, key=lambda pair: ids.get(pair, float('inf')))"),
        ),
    ),
    "left piece must be known": Mistake(
        "A pair is merged only if both of its pieces are in ids. Single characters need not be: only the joined pair "
        "has to be.",
        (Edit(_IN_IDS, "if left + right in ids and left in ids and right in ids"),),
    ),
    "unknown characters left out": Mistake(
        "Characters that are not in ids are left out. Keep them: joined, the pieces are the word.",
        (Edit("return pieces", "return [piece for piece in pieces if piece in ids]"),),
    ),
    "the first place only": Mistake(
        "Only the first occurrence of the pair is merged in each round, so that another pair comes in between. Merge "
        "all of them before you look for the next pair.",
        (
            Edit(
                "pieces = merge_pair(pieces, best)",
                "i = [left + right for left, right in pairwise(pieces)].index(best)\n"
                "        pieces = [*pieces[:i], best, *pieces[i + 2 :]]",
            ),
        ),
    ),
    "reversed": Mistake("The pieces are in reverse order.", (Edit("return pieces", "return pieces[::-1]"),)),
    "space left out": Mistake(
        "The space, Ġ, is left out. It is a part of the piece that begins the word.",
        (Edit("list(word)", 'list(word.replace("Ġ", ""))'),),
    ),
    "lower case": Mistake(
        "The word is converted to lower case. Keep it as it is.", (Edit("list(word)", "list(word.lower())"),)
    ),
}


# ------------------------------------------------------------------------------------------ test cases


def _pieces(function: Answer, word: str, ids: dict[str, int]) -> tuple[str, list[str]]:
    found = function(word, ids)
    what = f"the list of pieces of {word!r}"
    if isinstance(found, str):
        raise WrongAnswer(f"the result for {word!r} is the string {found!r}, expected a list of pieces")
    if found and all(isinstance(one, int) for one in found):
        raise WrongAnswer(f"the result for {word!r} is a list of ids, {found}, expected the pieces themselves, strings")
    shown = ids if len(ids) < 12 else "the vocabulary"
    return f"merge({word!r}, {shown})", as_strings(found, what)


def _merge(*problems: tuple[str, dict[str, int]]) -> Any:
    def run(function: Answer) -> Results:
        return [_pieces(function, word, dict(ids)) for word, ids in problems]

    return run


def _real(function: Answer) -> Results:
    model = real_model()
    assert model is not None
    ids = dict(model.tokenizer.ids)
    words = split_words("And so, my fellow Americans: ask what Worcestershire's Zoë hears ♪ … 1961")
    return [_pieces(function, bytes_to_unicode(word.encode()), ids) for word in words]


_LOW = {"er": 256, "Ġl": 257, "ow": 258, "Ġlow": 259}

EXERCISE = Exercise(
    number=7,
    title="Merging byte pairs",
    section=8,
    task=TASK,
    solutions=(merge,),
    mistakes=MISTAKES,
    unchanged={"ids": "every word needs them."},
    cases=(
        Case(
            "Ġlower, with four merges",
            _merge(("Ġlower", _LOW)),
            "The rounds are: er, then Ġl, then ow, then Ġlow from Ġl and ow.",
        ),
        Case(
            "pairs whose order matters",
            _merge(
                ("abcd", {"bc": 300, "ab": 400, "cd": 500}),
                ("abcdb", {"ab": 600, "cd": 500, "bc": 550}),
                ("zxy", {"zx": 270, "xy": 265}),
                ("baca", {"ba": 261, "ca": 260, "ac": 259}),
                ("abc", {"abc": 256, "bc": 300, "ab": 280}),
                ("abcde", {"ab": 259, "abc": 262, "cd": 261, "cde": 263}),
                ("Ab", {"Ab": 256}),
                ("abcd", {"abc": 256, "cd": 257}),
            ),
            "In each round, list the pairs of adjacent pieces that are in ids, and merge the one with the lowest id.",
        ),
        Case(
            "characters that repeat",
            _merge(
                ("aaa", {"aa": 256}),
                ("aaaaa", {"aa": 256, "aaaa": 257}),
                ("ababab", {"ab": 256, "abab": 257}),
                ("xabyab", {"ab": 256, "xab": 257, "yab": 258}),
            ),
            "A round goes from left to right and merges all occurrences of the pair; no piece is used twice.",
        ),
        Case(
            "new pairs with a lower id than their parts",
            _merge(("abcab", {"ab": 300, "abc": 100, "abca": 50}), ("abcabc", {"ab": 300, "bc": 310, "abc": 290})),
            "A round merges all occurrences of one pair before the next pair is chosen.",
        ),
        Case("the id 0", _merge(("abc", {"ab": 0}), ("abc", {"bc": 0, "ab": 1})), "0 is an id like any other."),
        Case(
            "characters that are not in ids",
            _merge(("xyz", {}), ("x-abc-y", {"ab": 256, "abc": 257}), ("aéa", {"éa": 256, "a": 64})),
            "They stay single pieces, in their places.",
        ),
        Case("a word of one character, and none", _merge(("a", _LOW), ("", _LOW)), "The results are ['a'] and []."),
        Case(
            "words with Whisper's vocabulary, 50,257 pieces",
            _real,
            "All other cases pass: are the ids of the merges used, and not those of the characters?",
            real=True,
        ),
    ),
)
