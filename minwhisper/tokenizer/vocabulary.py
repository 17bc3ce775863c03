"""Chapter 6: read and check the files of a vocabulary.

A checkpoint has either a ``tokenizer.json`` of the ``tokenizers`` library or GPT-2's two files. Both contain the pieces
with their ids, the merges that produced the pieces, and the special tokens. Only the pieces are used; the merges and
special tokens are checked against them.

Walkthrough: section 8.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..common.untrusted import read_json, read_text
from ..errors import TokenizerError
from ..printable import short_repr
from .bpe import byte_alphabet

_ALPHABET = "".join(byte_alphabet().values())
_PIECES = re.compile("[" + re.escape(_ALPHABET) + "]*")


class VocabularyFiles(NamedTuple):
    """The unchecked content of a vocabulary's files."""

    vocab: dict[str, int]  # from piece to id; may include special tokens
    merges: list[str]  # the piece that each merge results in, in order
    added: dict[str, int]  # special tokens, from name to id
    source: str  # names the files in errors


def read_tokenizer_json(path: Path) -> VocabularyFiles:
    """Read a ``tokenizer.json`` of the ``tokenizers`` library.

    Raises ``TokenizerError``, which names the file, if it is damaged.
    """
    values = read_json(path, TokenizerError)
    try:
        model: dict[str, Any] = values["model"]
        vocab: dict[str, int] = {**model["vocab"]}
        merges = _joined(model["merges"])
        added: dict[str, int] = {token["content"]: token["id"] for token in values.get("added_tokens", [])}
    except (KeyError, TypeError, AttributeError) as error:
        raise TokenizerError(
            f"{path}: expected model.vocab, model.merges and added_tokens of the tokenizers library "
            f"({type(error).__name__}: {error}); download the file again"
        ) from None
    return VocabularyFiles(vocab, merges, added, str(path))


def read_vocab_and_merges(vocab: Path, merges: Path) -> VocabularyFiles:
    """Read GPT-2's two files: the ids of the pieces as JSON, and one merge per line.

    An ``added_tokens.json`` in the same folder lists special tokens. Raises ``TokenizerError``, which names the
    file, if one is damaged.
    """
    text = read_text(merges, TokenizerError)
    lines = [line for line in text.splitlines() if line and not line.startswith("#version")]
    added_tokens = vocab.with_name("added_tokens.json")
    added = read_json(added_tokens, TokenizerError) if added_tokens.is_file() else {}
    return VocabularyFiles(read_json(vocab, TokenizerError), _joined(lines), added, f"{vocab} and {merges.name}")


def check_pieces(ids: Mapping[str, int], count: int, size: int, source: str) -> None:
    """Check that the text pieces have all ids from 0, include all 256 bytes, and consist of bytes only.

    The last piece of the multilingual vocabularies is empty; no text is encoded to it. Raises ``TokenizerError``,
    which names ``source``.
    """
    integers = set(map(type, ids.values())) == {int}
    if not integers or len(ids) != count or set(ids.values()) != set(range(count)):
        raise TokenizerError(
            f"{source}: expected {count} text pieces with ids from 0, for a vocabulary of {size} tokens, the file has "
            f"{len(ids)}, or ids with gaps; is this another model's tokenizer?"
        )
    missing = [char for char in _ALPHABET if char not in ids]
    if missing or not _PIECES.fullmatch("".join(ids)):
        problem = f"there is no piece {missing[0]!r}" if missing else "a piece has other characters"
        raise TokenizerError(
            f"{source}: expected pieces made of the 256 characters that stand for bytes; {problem}; is this "
            "another model's tokenizer?"
        )


def check_merges(merges: Sequence[str], ids: Mapping[str, int], source: str) -> None:
    """Check that the merges are in the order of their ids, which ``merge`` uses.

    The list itself is not used, because it can be wrong even if the ids are right: the multilingual files lack the
    first merge, "Ġ t", probably mistaken for the header line of merges.txt. Following such a list encodes " the" as
    "Ġ", "the", which the model has hardly ever seen. The piece "Ġt" still has its id, 256, and a list with a gap is
    still in order. Raises ``TokenizerError``, which names ``source`` and the first merge that is out of order.
    """
    try:
        order = [ids[piece] for piece in merges]
    except KeyError as error:
        raise TokenizerError(
            f"{source}: a merge results in {short_repr(error.args[0])}, which is not in the vocabulary"
        ) from None
    for earlier, later in pairwise(order) if order != sorted(order) else ():
        if earlier > later:
            raise TokenizerError(
                f"{source}: token {later} is merged after token {earlier}; expected merges in the order of their ids"
            )


def _joined(merges: Sequence[Any]) -> list[str]:
    """Return the piece that each merge results in: "ab" for "a b", or for ["a", "b"] in newer files."""
    if merges and isinstance(merges[0], str):
        return "\n".join(merges).replace(" ", "").split("\n")  # twice as fast as one at a time
    return ["".join(pair) for pair in merges]
