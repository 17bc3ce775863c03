"""Scoring: a reference text and a hypothesis → word and character error rates, and where the two differ.

In: two texts. Out: ``ErrorCounts`` with their rate (``word_errors``, ``character_errors``), and an alignment of the
words (``align``), which ``format_alignment`` shows.

* ``alignment.py``: the cheapest alignment, by dynamic programming in two loops; read this first
* ``error_rate.py``: the errors of an alignment, and their rate
* ``normalize.py``: openai-whisper's normalisation, in a list of steps: which words count as the same
* ``numbers.py``: numbers in words → digits; ``british_to_american.txt``: spellings
* ``bit_parallel.py``: the alignment of long texts
* ``texts.py``, ``display.py``: reading the texts of files and folders; showing an alignment as lines of REF above HYP

``minwhisper score REFERENCE HYPOTHESIS`` does all of it. Walkthrough: section 13.
"""

from .alignment import align
from .display import format_alignment
from .error_rate import ErrorCounts, character_errors, word_errors
from .normalize import normalize_basic, normalize_english

__all__ = [
    "ErrorCounts",
    "align",
    "character_errors",
    "format_alignment",
    "normalize_basic",
    "normalize_english",
    "word_errors",
]
