"""The order of the languages, and the ids of the special tokens in each vocabulary."""

import pytest

from minwhisper.errors import TokenizerError
from minwhisper.tokenizer.languages import LANGUAGES, TO_LANGUAGE_CODE
from minwhisper.tokenizer.special_tokens import special_token_ids
from vocabularies import IDS, NAMES, PIECE_COUNTS, SIZES


def test_languages_and_their_names():
    assert len(LANGUAGES) == 100
    assert [*LANGUAGES][:4] == ["en", "zh", "de", "es"]
    assert [*LANGUAGES][-2:] == ["su", "yue"]
    assert len(set(LANGUAGES.values())) == 100
    assert len(TO_LANGUAGE_CODE) == 2 * 100 + 12
    assert all(name == name.lower().strip() for name in TO_LANGUAGE_CODE)


@pytest.mark.parametrize("size", SIZES)
def test_special_token_ids(size):
    layout = special_token_ids(size)
    assert tuple(layout[f"<|{name}|>"] for name in NAMES) == IDS[size]
    assert [*layout.values()] == list(range(PIECE_COUNTS[size], size))
    assert ("<|yue|>" in layout) == (size == 51866)
    assert layout["<|1.08|>"] - layout["<|0.00|>"] == 54


@pytest.mark.parametrize("size", [0, 50257, 51863, 51867])
def test_other_vocabulary_sizes(size):
    with pytest.raises(TokenizerError, match=f"51864 .*51865 .*51866 .*got {size}"):
        special_token_ids(size)
