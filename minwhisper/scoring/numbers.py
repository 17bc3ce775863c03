"""English numbers in words → digits: "twenty twenty three" → "2023", "minus five dollars" → "$5".

Read ``NumberReader.read``: it reads the words of a text from left to right, and its only state is the number so far.
That number is either an *amount*, which grows as numbers are spoken ("two hundred", "three" → 203), or it is a row of
*digits*, which are only written one after another ("one", "oh", "three" → 103). The results are those of
openai-whisper's normalisation, including its oddities, so that error rates can be compared; comments name them.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from fractions import Fraction
from itertools import zip_longest
from string import ascii_lowercase
from typing import NamedTuple

MAX_DIGITS = 4000  # of a number in digits: Python converts no more than 4,300


class Kind(Enum):
    """The role of a word in a number."""

    ZERO = auto()
    UNIT = auto()  # one to nineteen
    TEN = auto()  # twenty to ninety
    SCALE = auto()  # hundred, thousand and so on
    SIGN = auto()
    CURRENCY = auto()
    PERCENT = auto()
    AND = auto()
    REPEAT = auto()  # double, triple
    POINT = auto()


class Entry(NamedTuple):
    """A word of a number: its kind; the digits or the symbol that it stands for; and the ending after the number."""

    kind: Kind
    symbol: str
    ending: str = ""  # of ordinals and plurals, which end a number: 2nd, 90s


# "nineth" is openai-whisper's spelling, so that "ninth" remains a word.
_UNITS = """
    zeroth=0th, one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10, eleven=11, twelve=12,
    thirteen=13, fourteen=14, fifteen=15, sixteen=16, seventeen=17, eighteen=18, nineteen=19,
    first=1st, second=2nd, third=3rd, fourth=4th, fifth=5th, sixth=6th, seventh=7th, eighth=8th, nineth=9th, tenth=10th,
    eleventh=11th, twelfth=12th, thirteenth=13th, fourteenth=14th, fifteenth=15th, sixteenth=16th, seventeenth=17th,
    eighteenth=18th, nineteenth=19th,
    ones=1s, twos=2s, threes=3s, fours=4s, fives=5s, sixes=6s, sevens=7s, eights=8s, nines=9s, tens=10s, elevens=11s,
    twelves=12s, thirteens=13s, fourteens=14s, fifteens=15s, sixteens=16s, seventeens=17s, eighteens=18s, nineteens=19s
"""
_TENS = """
    twenty=20, thirty=30, forty=40, fifty=50, sixty=60, seventy=70, eighty=80, ninety=90,
    twentieth=20th, thirtieth=30th, fortieth=40th, fiftieth=50th, sixtieth=60th, seventieth=70th, eightieth=80th,
    ninetieth=90th,
    twenties=20s, thirties=30s, forties=40s, fifties=50s, sixties=60s, seventies=70s, eighties=80s, nineties=90s
"""
_SCALES = """
    hundred=2, thousand=3, million=6, billion=9, trillion=12, quadrillion=15, quintillion=18, sextillion=21,
    septillion=24, octillion=27, nonillion=30, decillion=33
"""  # powers of ten
_SIGNS = "minus=-, negative=-, plus=+, positive=+"
_CURRENCIES = "pound=£, pounds=£, euro=€, euros=€, dollar=$, dollars=$, cent=¢, cents=¢"


def _pairs(table: str) -> list[tuple[str, str]]:
    pairs = (entry.strip().partition("=") for entry in table.split(","))
    return [(word, value) for word, _, value in pairs]


def _vocabulary() -> dict[str, Entry]:
    entries = {zero: Entry(Kind.ZERO, "0") for zero in ("o", "oh", "zero")}
    for kind, table in ((Kind.UNIT, _UNITS), (Kind.TEN, _TENS)):
        for word, value in _pairs(table):
            digits = value.rstrip(ascii_lowercase)
            entries[word] = Entry(kind, digits, value[len(digits) :])
    for word, power in _pairs(_SCALES):
        for ending in ("", "s", "th"):
            entries[word + ending] = Entry(Kind.SCALE, power, ending)
    for kind, table in ((Kind.SIGN, _SIGNS), (Kind.CURRENCY, _CURRENCIES)):
        entries |= {word: Entry(kind, symbol) for word, symbol in _pairs(table)}
    entries |= {"per": Entry(Kind.PERCENT, "cent"), "percent": Entry(Kind.PERCENT, "")}
    entries |= {"and": Entry(Kind.AND, ""), "point": Entry(Kind.POINT, ".")}
    return entries | {"double": Entry(Kind.REPEAT, "2"), "triple": Entry(Kind.REPEAT, "3")}


VOCABULARY: Mapping[str, Entry] = _vocabulary()
"""All words that a number may contain."""

_PREFIXES = "-+£€$¢"
_DIGITS = re.compile(r"(\d+)(?:\.(\d+))?")


def normalize_numbers(text: str) -> str:
    """Return a text in lower case with its numbers in digits, and its words separated by single spaces.

    >>> normalize_numbers("twenty twenty three and one oh one"), normalize_numbers("two point five million dollars")
    ('2023 and 101', '$2500000')
    """
    text = _join_endings(_replace_halves(text))
    return _finish_currencies(" ".join(NumberReader().read(text.split())))


# ------------------------------------------------------------------------------------------ preparing the text


def _replace_halves(text: str) -> str:
    """Replace "and a half" after a number word by "point five".

    At the start of a text, or straight after another "and a half", it is dropped, as in openai-whisper.
    """
    *heads, tail = re.split(r"\band\s+a\s+half\b", text)
    parts = []
    for head in heads:
        if words := head.split():
            parts += [head, "point five" if _is_plain(words[-1], *_DECIMAL, Kind.SCALE) else "and a half"]
    return " ".join([*parts, tail])


def _join_endings(text: str) -> str:
    """Separate digits from letters, except from the endings of ordinals and plurals: "5km 2nd" → "5 km 2nd"."""
    text = re.sub("(?<=[a-z])(?=[0-9])|(?<=[0-9])(?=[a-z])", " ", text)
    return re.sub(r"(?<=[0-9])\s+(?=(?:st|nd|rd|th|s)\b)", "", text)


# ------------------------------------------------------------------------------------------ reading the words


_DECIMAL = (Kind.ZERO, Kind.UNIT, Kind.TEN)  # what may follow "point"


def _is_plain(word: str | None, *kinds: Kind) -> bool:
    """Return whether a word is of one of these kinds, and neither an ordinal nor a plural."""
    entry = VOCABULARY.get(word or "")
    return entry is not None and entry.kind in kinds and not entry.ending


def _is_digits(word: str | None) -> bool:
    return word is not None and len(word) <= MAX_DIGITS and _DIGITS.fullmatch(word) is not None


class NumberReader:
    """A reader of words that collects the number that they are part of."""

    def __init__(self) -> None:
        """Start without a number."""
        self.words: list[str] = []  # the words so far, with digits
        self.prefix = ""  # a sign or currency before the next word, as a rule a number
        self.number = ""  # the number so far; empty if the last word was not part of one
        self.is_amount = False  # whether it is an amount, or else digits in a row

    def read(self, words: Sequence[str]) -> list[str]:
        """Return the words with numbers in digits."""
        before: str | None = None
        skipped = False  # whether the word has been read with the one before it
        for word, after in zip_longest(words, words[1:]):
            if skipped:
                skipped = False
            elif word in VOCABULARY:
                skipped = self._read_number_word(before, word, after)
            else:
                self._read_other(word)
            before = word
        self._end_number()
        return self.words

    def _read_other(self, word: str) -> None:
        """Read digits, perhaps with a sign or currency, or a word that is not part of a number."""
        prefix = word[0] if word[0] in _PREFIXES else ""
        digits = word[len(prefix) :]
        if not _is_digits(digits):
            self._end_number()
            self._write(word)
        elif not self.is_amount and self.number.endswith("."):
            self.number += word
        else:
            self._end_number()
            self.prefix = prefix or self.prefix
            whole, _, decimals = digits.partition(".")
            self.is_amount = not int(decimals or "0")
            self.number = str(int(whole)) if self.is_amount else digits

    def _read_number_word(self, before: str | None, word: str, after: str | None) -> bool:
        """Read a word of ``VOCABULARY`` and return whether the next word has been read with it."""
        kind, symbol, ending = VOCABULARY[word]
        goes_on = after in VOCABULARY or _is_digits(after)  # whether the next word may belong to a number
        if kind is Kind.ZERO:
            self._append(symbol)
        elif kind is Kind.UNIT or kind is Kind.TEN:
            self._add(symbol, before)
        elif kind is Kind.SCALE:
            self._multiply(int(symbol))
        elif kind is Kind.SIGN and goes_on:
            self._end_number()
            self.prefix = symbol
        elif kind is Kind.CURRENCY and self.number:
            self.prefix = symbol  # a sign is lost: "minus five dollars" → "$5"
            self._end_number()
        elif kind is Kind.PERCENT and self.number and symbol in ("", after):
            self._end_number("%")
            return bool(symbol)
        elif kind is Kind.REPEAT and _is_plain(after, Kind.ZERO, Kind.UNIT):
            self._append(VOCABULARY[after or ""].symbol * int(symbol))
            return True
        elif kind is Kind.POINT and goes_on:
            if _is_digits(after) or _is_plain(after, *_DECIMAL):
                self._append(symbol)  # otherwise the word is dropped
        elif kind is Kind.AND and goes_on and _is_plain(before, Kind.SCALE):
            pass  # "two hundred and three"
        else:
            self._end_number()
            self._write(word)
        if ending:
            self._end_number(ending)
        return False

    def _add(self, digits: str, before: str | None) -> None:
        """Add one to ninety: over the zeros at the end ("twenty", "three" → 23), or else after them ("one", "three").

        Digits in a row keep their zeros ("oh", "three"), except those of the word before ("oh", "twenty", "three").
        """
        has_zeros = self.number == "0" or self.number.endswith("0" * len(digits))
        is_sum = self.is_amount and has_zeros and not _is_plain(before, Kind.UNIT)  # "ten", "one" → 101
        if not self.number:
            self.number, self.is_amount = digits, True
        elif is_sum or (_is_plain(before, Kind.TEN) and len(digits) == 1):
            self.number = self.number[: -len(digits)] + digits
        else:
            self.number, self.is_amount = self.number + digits, False

    def _append(self, digits: str) -> None:
        """Write digits after the number. An amount of 0 counts as nothing: "0 five" is 5, but "zero five" 05."""
        start = "" if self.is_amount and self.number == "0" else self.number
        self.number, self.is_amount = start + digits, False

    def _multiply(self, power: int) -> None:
        """Multiply by a power of ten: of an amount, only the part below 1,000 ("two thousand three hundred")."""
        factor: int = 10**power
        try:
            value = Fraction(self.number or "1") if len(self.number) <= MAX_DIGITS else None
        except ValueError:  # "1.2.3"
            value = None
        thousands = value // 1000 * 1000 if value is not None and self.is_amount else 0
        product = None if value is None else thousands + (value - thousands) * factor
        if product is None or product.denominator > 1:  # "one point two three four hundred"
            self._end_number()
            product = Fraction(factor)
        self.number, self.is_amount = str(product.numerator), True

    def _end_number(self, ending: str = "") -> None:
        """Write the number, if there is one."""
        if self.number:
            self._write(self.number + ending)
            self.number, self.is_amount = "", False

    def _write(self, word: str) -> None:
        self.words.append(self.prefix + word)
        self.prefix = ""


# ------------------------------------------------------------------------------------------ finishing the text


def _finish_currencies(text: str) -> str:
    """Write cents as decimals, "$2 and ¢7" → "$2.07", and less than a unit as cents, "$0.5" → "¢5"; and "one" for 1."""
    text = re.sub(
        r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b", lambda found: f"{found[1]}{found[2]}.{int(found[3]):02}", text
    )
    text = re.sub(r"[€£$]0.([0-9]{1,2})\b", lambda found: f"¢{int(found[1])}", text)  # any character for the point
    return re.sub(r"\b1(s?)\b", r"one\1", text)
