"""Text normalisation before scoring, so that only differences of words count.

"Mr. Brown paid $20 for 2 colours" and "mister brown paid twenty dollars for two colors" are the same words. Case,
punctuation, spelling and the notation of numbers must not count as errors. ``normalize_english`` removes such
differences from English texts, and ``normalize_basic`` case and punctuation from texts of any language. Both return
exactly what openai-whisper's ``EnglishTextNormalizer`` and ``BasicTextNormalizer`` return, so that error rates can be
compared with published ones; a test compares them on many texts.

The steps are the functions of ``ENGLISH_STEPS`` and ``BASIC_STEPS``, from text to text, in order.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files

from .numbers import normalize_numbers

Normalizer = Callable[[str], str]

_FILLERS = ("hmm", "mm", "mhm", "mmm", "uh", "um")
_SHORT_FORMS = """
    won't=will not, can't=can not, let's=let us, ain't=aint, y'all=you all, wanna=want to, gotta=got to, gonna=going to,
    i'ma=i am going to, imma=i am going to, woulda=would have, coulda=could have, shoulda=should have, ma'am=madam
"""
_TITLES = """
    mr=mister, mrs=missus, st=saint, dr=doctor, prof=professor, capt=captain, gov=governor, ald=alderman, gen=general,
    sen=senator, rep=representative, pres=president, rev=reverend, hon=honorable, asst=assistant, assoc=associate,
    lt=lieutenant, col=colonel, jr=junior, sr=senior, esq=esquire
"""
_PERFECT = """
    'd been=had been, 's been=has been, 'd gone=had gone, 's gone=has gone, 'd done=had done, 's got=has got
"""
_ENDINGS = "n't=not, 're=are, 's=is, 'd=would, 'll=will, 't=not, 've=have, 'm=am"

# Letters that Unicode does not decompose into a letter and a mark.
_PLAIN_LETTERS = "œ=oe, Œ=OE, ø=o, Ø=O, æ=ae, Æ=AE, ß=ss, ẞ=SS, đ=d, Đ=D, ð=d, Ð=D, þ=th, Þ=th, ł=l, Ł=L"

_NUMERIC_SYMBOLS = ".%$¢€£"


def normalize_english(text: str) -> str:
    """Return an English text in plain words: lower case, no punctuation, numbers in digits, American spelling.

    >>> normalize_english("Um, Mr. Smith's two colours [laughs] weren't worth $2.50!")
    'mister smith is 2 colors were not worth $2.50'

    A space at the start may remain.
    """
    for step in ENGLISH_STEPS:
        text = step(text)
    return text


def normalize_basic(text: str) -> str:
    """Return a text of any language in lower case, without punctuation and symbols, with single spaces.

    >>> normalize_basic("Où est l'Élysée ? (rires)")
    'où est l élysée '

    Spaces at the ends may remain. Combining marks count as symbols, as in openai-whisper; this takes apart words of
    languages that need them, such as Hindi.
    """
    for step in BASIC_STEPS:
        text = step(text)
    return text


# ------------------------------------------------------------------------------------------ the steps


def remove_asides(text: str) -> str:
    """Remove text in <angle> or [square] brackets, up to the first closing one, and text in (parentheses)."""
    # After the last closing bracket there is nothing to remove, and searching there would take quadratic time.
    end = max(text.rfind(">"), text.rfind("]")) + 1
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", text[:end]) + text[end:]
    end = text.rfind(")") + 1
    return re.sub(r"\([^)]+\)", "", text[:end]) + text[end:]


def remove_fillers(text: str) -> str:
    """Remove fillers such as "um", and spaces before apostrophes."""
    text = re.sub(_one_of(_FILLERS), "", text)
    return re.sub(r"(?<!\s)\s+'", "'", text)


def expand_contractions(text: str) -> str:
    """Write short forms and titles in full: "he'd been" → "he had been", "dr" → "doctor"."""
    short_forms, titles = _pairs(_SHORT_FORMS), _pairs(_TITLES)
    text = re.sub(_one_of(short_forms), lambda found: short_forms[found[0]], text)
    text = re.sub(_one_of(titles), lambda found: f"{titles[found[0]]} ", text)
    for short, full in [*_pairs(_PERFECT).items(), *_pairs(_ENDINGS).items()]:  # each may end where another began
        text = re.sub(rf"{short}\b", f" {full}", text)
    return text


def remove_number_punctuation(text: str) -> str:
    """Remove commas between digits, and points that are not followed by a digit."""
    text = re.sub(r"(\d),(\d)", r"\1\2", text)
    return re.sub(r"\.([^0-9]|$)", r" \1", text)


def remove_symbols_and_diacritics(text: str) -> str:
    """Replace symbols and punctuation by spaces, except those of numbers, and letters with marks by plain ones."""
    return unicodedata.normalize("NFKD", text).translate(_PLAIN)


def remove_symbols(text: str) -> str:
    """Replace marks, symbols and punctuation by spaces; letters with accents remain."""
    return unicodedata.normalize("NFKC", text).translate(_WITHOUT_SYMBOLS)


def use_american_spelling(text: str) -> str:
    """Replace British spellings by American ones."""
    spelling = american_spelling()
    return " ".join(spelling.get(word, word) for word in text.split())


def remove_stray_symbols(text: str) -> str:
    """Remove currency symbols and points not followed by a digit, and percent signs not preceded by one."""
    text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
    return re.sub("([^0-9])%", r"\1 ", text)


def join_spaces(text: str) -> str:
    """Replace runs of white space by single spaces."""
    return re.sub(r"\s+", " ", text)


ENGLISH_STEPS: tuple[Normalizer, ...] = (
    str.lower,
    remove_asides,
    remove_fillers,
    expand_contractions,
    remove_number_punctuation,
    remove_symbols_and_diacritics,
    normalize_numbers,
    use_american_spelling,
    remove_stray_symbols,
    join_spaces,
)
BASIC_STEPS: tuple[Normalizer, ...] = (str.lower, remove_asides, remove_symbols, str.lower, join_spaces)


# ------------------------------------------------------------------------------------------ tables


@cache
def american_spelling() -> Mapping[str, str]:
    """Return the American spelling of each known British one: 1,738 words."""
    text = files(__package__).joinpath("british_to_american.txt").read_text("utf-8")
    return dict(line.split() for line in text.splitlines() if line and not line.startswith("#"))


@cache
def _pairs(table: str) -> Mapping[str, str]:
    entries = (entry.strip().partition("=") for entry in table.split(","))
    return {short: full for short, _, full in entries}


def _one_of(words: Iterable[str]) -> str:
    """Return the pattern of a whole word that is one of these."""
    return rf"\b(?:{'|'.join(words)})\b"


class _Letters(dict[int, str]):
    """A table for ``str.translate`` that gets an entry for each character when it is first looked up."""

    def __init__(self, known: Mapping[str, str], marks: str) -> None:
        """Start with the known replacements; ``marks`` replaces combining marks such as accents."""
        super().__init__({ord(letter): plain for letter, plain in known.items()})
        self._marks = marks

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        self[code] = self._marks if category == "Mn" else " " if category[0] in "MSP" else chr(code)
        return self[code]


_PLAIN = _Letters({**_pairs(_PLAIN_LETTERS), **{symbol: symbol for symbol in _NUMERIC_SYMBOLS}}, "")
_WITHOUT_SYMBOLS = _Letters({}, " ")
