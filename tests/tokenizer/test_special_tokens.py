"""The order of the languages, and the ids of the special tokens in each vocabulary."""

import pytest

from minwhisper.errors import TokenizerError
from minwhisper.tokenizer.languages import LANGUAGES, TO_LANGUAGE_CODE
from minwhisper.tokenizer.special_tokens import special_token_ids
from vocabularies import IDS, NAMES, PIECE_COUNTS, SIZES, made_up_tokenizer


def test_languages_and_their_names():
    assert len(LANGUAGES) == 100
    assert [*LANGUAGES][:4] == ["en", "zh", "de", "es"]
    assert [*LANGUAGES][-2:] == ["su", "yue"]
    assert len(set(LANGUAGES.values())) == 100
    assert len(TO_LANGUAGE_CODE) == 2 * 100 + 12
    assert all(name == name.lower().strip() for name in TO_LANGUAGE_CODE)


@pytest.mark.parametrize("size", SIZES)
def test_ids_of_special_tokens(size):
    t = made_up_tokenizer(size)
    layout = t.special_tokens
    assert tuple(layout[f"<|{name}|>"] for name in NAMES) == IDS[size]
    named = (t.eot, t.sot, t.translate, t.transcribe, t.sot_lm, t.sot_prev, t.no_speech, t.no_timestamps)
    assert (*named, t.timestamp_begin) == (*IDS[size][:2], *IDS[size][4:11])
    assert [*layout.values()] == list(range(PIECE_COUNTS[size], size))
    assert {t.name(token): token for token in layout.values()} == layout
    assert ("<|yue|>" in layout) == (size == 51866)
    assert t.languages == (*LANGUAGES,)[: t.translate - t.sot - 1]
    assert [t.language_token(code) for code in t.languages] == list(range(t.sot + 1, t.translate))
    assert t.is_multilingual == (size > 51864)


@pytest.mark.parametrize("size", [0, 50257, 51863, 51867])
def test_other_vocabulary_sizes(size):
    with pytest.raises(TokenizerError, match=f"51864 .*51865 .*51866 .*got {size}"):
        special_token_ids(size)
