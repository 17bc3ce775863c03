"""Normalisation compared with openai-whisper's: it must not differ in a single character."""

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inputs import DATA
from minwhisper.scoring import normalize_basic, normalize_english
from minwhisper.scoring.numbers import VOCABULARY, normalize_numbers
from normalized_texts import BASIC, ENGLISH

pytestmark = pytest.mark.parity
theirs = pytest.importorskip("whisper.normalizers")

ENGLISH_REFERENCE, BASIC_REFERENCE = theirs.EnglishTextNormalizer(), theirs.BasicTextNormalizer()
DIGITS = "1 0 00 20 100 007 1.5 2.0 .5 $5 €3.50 -5 +3 ¢7 $0 2nd 1990s 5km 100000 ٣ 1.٥ 0.5 $ % a the half"
WORDS = (
    "won't can't i'ma ma'am y'all gonna mr. st dr rep let's n't 't 's 'd um uh mm hmm colour grey archaeology "
    "(a) [b] twenty one and $20 million percent o'clock"
)
OTHERS = ("'d been", "'s been't", "'s gotta", "'d gone", "and a half", "per cent")
FRAGMENTS = [*WORDS.split(), *OTHERS, *"<>(' \n.,-$%£12éßØÆᴭℌ½²漢’)\u0301"]


def same(text: str) -> None:
    """Check that the English and the basic normalisation of a text are openai-whisper's."""
    assert normalize_english(text) == ENGLISH_REFERENCE(text), repr(text)
    assert normalize_basic(text) == BASIC_REFERENCE(text), repr(text)


def same_numbers(text: str) -> None:
    assert normalize_numbers(text) == ENGLISH_REFERENCE.standardize_numbers(text), repr(text)


def test_each_rule_and_the_texts_of_the_clips_give_the_same():
    assert set(VOCABULARY) == ENGLISH_REFERENCE.standardize_numbers.words
    text = (DATA / "lj_texts.csv").read_text("utf-8")
    for part in (*ENGLISH, *BASIC, text, *text.splitlines()):
        same(part)


def test_every_spelling_gives_the_same():
    for british, american in ENGLISH_REFERENCE.standardize_spellings.mapping.items():
        same(f"{british} {american} the {british.upper()}'s")


def test_all_pairs_of_number_words_give_the_same():
    for pair in product(VOCABULARY, repeat=2):
        same_numbers(" ".join(pair))


def test_thousands_of_combinations_of_number_words_and_of_rules_give_the_same():
    rng = random.Random(0)
    for _ in range(2_000):
        text = " ".join(rng.choices([*VOCABULARY, *DIGITS.split(), "and a half"], k=rng.randint(3, 7)))
        same_numbers(text)
        same(text)
        same(rng.choice(["", " "]).join(rng.choices(FRAGMENTS, k=rng.randint(1, 12))))


def test_every_kind_of_character_gives_the_same():
    codes = [*range(0x3100), *range(0xA000, 0xD800, 37), *range(0xF900, 0x110000, 211)]
    texts = [f"a{chr(code)}1 {chr(code)}" for code in codes]
    for start in range(0, len(texts), 16):
        same(" ".join(texts[start : start + 16]))
    for bracket in "<>[]()":
        same(f"a{bracket}1 {bracket}")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4)).map("".join))
def test_any_text_gives_the_same(text):
    same(text)
