"""Chapter 6, the files: which pieces a vocabulary has, read from what a checkpoint has beside its weights.

There are two forms, one file of the ``tokenizers`` library or GPT-2's two, and both say the same: piece to id, the
merges by which the pieces were found, and the special tokens. Of these the pieces are used, and held to what
encoding and decoding rely on; the others are checked against them.

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
_SPELLED = re.compile("[" + re.escape(_ALPHABET) + "]*")


class VocabularyFiles(NamedTuple):
    """What the files of a vocabulary say, before any of it is checked."""

    vocab: dict[str, int]  # spelled piece to id; may have special tokens, too
    merges: list[str]  # the pieces that merges result in, in their order
    added: dict[str, int]  # special tokens, name to id
    source: str  # what errors call the files


def read_tokenizer_json(path: Path) -> VocabularyFiles:
    """Read the file of the ``tokenizers`` library, which holds pieces, merges and special tokens.

    Raises :class:`TokenizerError` naming the file if it is damaged.
    """
    values = read_json(path, TokenizerError)
    try:
        model: dict[str, Any] = values["model"]
        vocab: dict[str, int] = {**model["vocab"]}
        merges = _joined(model["merges"])
        added: dict[str, int] = {token["content"]: token["id"] for token in values.get("added_tokens", [])}
    except (KeyError, TypeError, AttributeError) as error:
        raise TokenizerError(
            f"{path}: expected model.vocab, model.merges and added_tokens, as the tokenizers library writes "
            f"them ({type(error).__name__}: {error}); fetch the file again"
        ) from None
    return VocabularyFiles(vocab, merges, added, str(path))


def read_vocab_and_merges(vocab: Path, merges: Path) -> VocabularyFiles:
    """Read GPT-2's two files: piece to id in JSON, and the merges one a line.

    Special tokens may be in an ``added_tokens.json`` beside them.
    Raises :class:`TokenizerError` naming the file that is damaged.
    """
    text = read_text(merges, TokenizerError)
    lines = [line for line in text.splitlines() if line and not line.startswith("#version")]
    added_tokens = vocab.with_name("added_tokens.json")
    added = read_json(added_tokens, TokenizerError) if added_tokens.is_file() else {}
    return VocabularyFiles(read_json(vocab, TokenizerError), _joined(lines), added, f"{vocab} and {merges.name}")


def check_pieces(ids: Mapping[str, int], count: int, size: int, source: str) -> None:
    """Hold the text pieces to what encoding and decoding rely on: every id, every byte, nothing but bytes.

    The last piece of the multilingual vocabularies is empty. No text leads to it, and it adds nothing to one.
    Raises :class:`TokenizerError` naming ``source`` and what is wrong with it.
    """
    whole = set(map(type, ids.values())) == {int}
    if not whole or len(ids) != count or set(ids.values()) != set(range(count)):
        raise TokenizerError(
            f"{source}: a vocabulary of {size} tokens has {count} text pieces, numbered from 0; the file has "
            f"{len(ids)}, or their numbers have gaps; is this another model's tokenizer?"
        )
    lacking = [char for char in _ALPHABET if char not in ids]
    if lacking or not _SPELLED.fullmatch("".join(ids)):
        problem = f"there is no piece {lacking[0]!r}" if lacking else "a piece has other characters"
        raise TokenizerError(f"{source}: expected pieces of the 256 characters that spell bytes; {problem}")


def check_merges(merges: Sequence[str], ids: Mapping[str, int], source: str) -> None:
    """Hold the merges to the order of the ids, by which :func:`~minwhisper.tokenizer.bpe.merge` goes.

    Only checked, not used, because the list can be wrong where the ids are right: in multilingual files the
    first merge, "Ġ t", is lost, as if taken for the title line that merges.txt begins with. Who follows such a
    list makes " the" into "Ġ", "the", which the model has hardly ever seen. The piece itself, "Ġt", is still
    there with its id, 256, and a list with a gap is still in order.
    Raises :class:`TokenizerError` naming ``source`` and the first merge that is out of order.
    """
    try:
        order = [ids[piece] for piece in merges]
    except KeyError as error:
        raise TokenizerError(f"{source}: merges to {short_repr(error.args[0])}, which is no piece of it") from None
    for earlier, later in pairwise(order) if order != sorted(order) else ():
        if earlier > later:
            raise TokenizerError(
                f"{source}: token {later} is merged after token {earlier}; expected merges in order of their ids"
            )


def _joined(merges: Sequence[Any]) -> list[str]:
    """The piece that each merge makes: "ab" of "a b", or of ["a", "b"] in files of later versions."""
    if merges and isinstance(merges[0], str):
        return "\n".join(merges).replace(" ", "").split("\n")  # twice as fast as one by one
    return ["".join(pair) for pair in merges]
