"""Normalisation: each rule on a text, with openai-whisper's result, and texts that could take forever."""

import pytest

from minwhisper.scoring import normalize_basic, normalize_english
from minwhisper.scoring.normalize import american_spelling
from minwhisper.scoring.numbers import normalize_numbers
from normalized_texts import BASIC, ENGLISH


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_normalised_as_by_openai_whisper(text):
    assert normalize_english(text) == ENGLISH[text]


@pytest.mark.parametrize("text", BASIC)
def test_other_languages_are_normalised_as_by_openai_whisper(text):
    assert normalize_basic(text) == BASIC[text]


@pytest.mark.parametrize("text", ["<" * 300_000, "(" * 300_000, " " * 300_000, "and a half " * 20_000, "9" * 300_000])
def test_long_texts_take_linear_time(text):
    normalize_english(text)
    normalize_basic(text)


def test_numbers_of_thousands_of_digits_are_normalised():  # Python converts at most 4,300 digits
    for words in (
        "9" * 5000,
        "9" * 4000 + " million" * 20,
        "one " * 5000 + "million dollars",
        "9" * 4299 + " decillion",
    ):
        assert len(normalize_numbers(words)) > 4000


def test_all_spellings_of_openai_whisper_are_known():
    assert len(american_spelling()) == 1738
    assert american_spelling()["labour"] == "labor"
