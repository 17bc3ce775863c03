"""Chapter 10, found words: the probabilities and times of the words of a known text, found in the recording or not.

Walkthrough: section 13.
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise

import numpy as np

from .known_text import KnownWord
from .segments import Segment, Word
from .word_timestamps import MAX_MEDIAN_DURATION

MIN_PROBABILITY = 1e-6  # its logarithm replaces that of 0


@dataclass(frozen=True)
class FoundWord:
    """The times of a known word, and the recognised segment that it was found in."""

    start: float  # seconds from the start of the audio
    end: float
    probability: float
    segment: Segment


def limit_probabilities(found: Mapping[int, FoundWord], equal: Set[int]) -> dict[int, FoundWord]:
    """Limit the probabilities of the words in each run of different words to the probability of the run.

    A run was either said or not. If not, its last words may still be probable, because the decoder continues even a
    text that was not said. The probability of a run is the geometric mean of its words'.
    """
    limited = dict(found)
    different = sorted(found.keys() - equal)
    for _, group in groupby(enumerate(different), key=lambda pair: pair[1] - pair[0]):  # of consecutive words
        run = [index for _, index in group]
        mean = math.exp(sum(map(log_probability, (found[index].probability for index in run))) / len(run))
        for index in run:
            limited[index] = replace(found[index], probability=min(mean, found[index].probability))
    return limited


def shorten_first_words(known: Sequence[KnownWord], found: Mapping[int, FoundWord]) -> dict[int, FoundWord]:
    """Remove the pause between two sentences from the first word after it.

    A longer first word is shortened to twice the median duration. ``add_word_timestamps`` does the same after a full
    stop, if one is recognised.
    """
    shortened = dict(found)
    durations = [word.end - word.start for word in found.values()]
    longest = 2 * min(MAX_MEDIAN_DURATION, float(np.median(durations))) if durations else 0.0
    for before, index in pairwise(sorted(found)):
        word = found[index]
        if known[before].sentence < known[index].sentence and word.end - word.start > longest:
            shortened[index] = replace(word, start=round(word.end - longest, 2))
    return shortened


def log_probability(probability: float) -> float:
    """Return the logarithm of a probability, or of ``MIN_PROBABILITY`` if that is larger."""
    return math.log(max(probability, MIN_PROBABILITY))


def fill_times(known: Sequence[KnownWord], found: Mapping[int, FoundWord], seconds: float) -> list[Word]:
    """Return all words in order of time; those that were not found share the time between their neighbours.

    They have probability 0. But words that are not spoken, such as a dash, take no time, and have the probability of
    the word before, or, at the start of a sentence, of the one after.
    """
    words: list[Word] = []
    last_end, last_probability, sentence = 0.0, 0.0, -1  # of the last word

    def add(index: int, start: float, end: float, probability: float) -> None:
        nonlocal last_end, last_probability, sentence
        last_end, last_probability, sentence = end, probability, known[index].sentence
        words.append({"word": known[index].text, "start": start, "end": end, "probability": probability})

    for is_found, group in groupby(range(len(known)), found.__contains__):
        run = list(group)
        if is_found:
            for index, following in zip(run, [*run[1:], None], strict=True):
                start = max(last_end, found[index].start)
                end = found[index].end if following is None else min(found[index].end, found[following].start)
                add(index, start, max(start, end), found[index].probability)
            continue
        next_word = found.get(run[-1] + 1)
        after = next_word.start if next_word else seconds
        if next_word and not any(known[index].key for index in run) and known[run[0]].sentence > sentence:
            last_end, last_probability = max(last_end, after), next_word.probability
        free = max(0.0, after - last_end)
        lengths = [*accumulate((len(known[index].key) for index in run), initial=0)]
        times = [round(last_end + free * length / max(1, lengths[-1]), 2) for length in lengths]
        for index, (start, end) in zip(run, pairwise(times), strict=True):
            add(index, max(last_end, start), max(last_end, end), 0.0 if known[index].key else last_probability)
    return words
