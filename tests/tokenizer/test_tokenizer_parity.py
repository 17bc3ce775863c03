"""The tokenizer compared with openai-whisper's, which uses tiktoken and OpenAI's vocabulary files."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.tokenizer.tokenizer import Tokenizer
from vocabularies import TEXT, installed

pytestmark = pytest.mark.parity
pytest.importorskip("tiktoken")
reference = pytest.importorskip("whisper.tokenizer")


@pytest.fixture(scope="module", params=[51864, 51865, 51866])
def pair(request):
    """Return both tokenizers for each vocabulary; large-v3 has the text pieces of base, but other special tokens."""
    size = request.param
    ours = Tokenizer.from_folder(*installed("tiny.en" if size == 51864 else "base"))
    if size == 51866:
        ours = Tokenizer(ours._ids, size)
    return ours, reference.get_tokenizer(size > 51864, num_languages=100 if size == 51866 else 99)


def test_special_tokens_and_languages_are_the_same(pair):
    ours, theirs = pair
    assert ours.vocab_size == theirs.encoding.n_vocab
    assert ours.special_tokens == theirs.special_tokens
    names = ("eot", "sot", "translate", "transcribe", "sot_lm", "sot_prev", "no_speech", "no_timestamps")
    for name in (*names, "timestamp_begin", "non_speech_tokens"):
        assert getattr(ours, name) == getattr(theirs, name), name
    by_token = sorted(zip(theirs.all_language_tokens, theirs.all_language_codes, strict=True))
    assert [(ours.language_token(code), code) for code in ours.languages] == by_token
    for name, code in reference.TO_LANGUAGE_CODE.items():
        if code in ours.languages:
            assert ours.language_code(name) == code


def test_sot_sequences_are_the_same(pair):
    ours, _ = pair
    count = len(ours.languages)
    for language in ours.languages if ours.is_multilingual else (None,):
        for task in ("transcribe", "translate") if ours.is_multilingual else ("transcribe",):
            theirs = reference.get_tokenizer(ours.is_multilingual, num_languages=count, language=language, task=task)
            assert ours.sot_sequence(language, task, True) == theirs.sot_sequence
            assert ours.sot_sequence(language, task, False) == theirs.sot_sequence_including_notimestamps


def test_the_bytes_of_every_token_are_the_same(pair):
    ours, theirs = pair
    for token in range(ours.vocab_size):
        assert ours.token_bytes(token) == theirs.encoding.decode_single_token_bytes(token)


@settings(deadline=None)
@given(text=TEXT, data=st.data())
def test_any_text_and_any_tokens_give_the_same(pair, text, data):
    ours, theirs = pair
    assert ours.encode(text) == theirs.encode(text, disallowed_special=())
    special = st.integers(ours.eot, ours.vocab_size - 1)
    tokens = data.draw(st.lists(st.integers(0, 187) | st.integers(0, ours.eot - 1) | special, max_size=30))
    assert ours.decode(tokens) == theirs.decode(tokens)
    assert ours.decode_with_timestamps(tokens) == theirs.decode_with_timestamps(tokens)
