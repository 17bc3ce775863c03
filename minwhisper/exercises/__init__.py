"""The exercises of the walkthrough: functions to write from scratch, with a checker that explains mistakes.

In: a Python file with the reader's functions. Out: the test cases that it passes, a hint for the first that fails, and
what the real model writes with it. All twelve together make a Whisper of the reader's own.

* ``checking.py``: test cases, known mistakes and their recognition; ``comparing.py``: comparing results
* ``softmax.py``, ``spectrogram.py``, ``convolution.py``, ``norms.py``, ``attention.py``, ``cached.py``,
  ``byte_pairs.py``, ``greedy.py``, ``timestamps.py``, ``beam.py``, ``warping.py``, ``fallback.py``: the twelve
  exercises; each file has the task, a solution, the known mistakes as edits of it, and the test cases (do not look
  before you have tried)
* ``loading.py``, ``guard.py``, ``process.py``, ``child.py``: running an answer so that it can do no harm
* ``real_model.py``, ``own_network.py``, ``whisper_of_your_own.py``, ``in_the_model.py``: the answers inside the real
  model
* ``command.py``: the command

``minwhisper exercise`` lists them, ``minwhisper exercise 5`` prints one, ``minwhisper exercise 5 attention.py`` checks
an answer, and ``minwhisper exercise --all FOLDER`` transcribes with all of a reader's answers. The exercises
belong to sections 2 to 5 and 8 to 13 of the walkthrough.
"""

from ..errors import OptionError
from . import (
    attention,
    beam,
    byte_pairs,
    cached,
    convolution,
    fallback,
    greedy,
    norms,
    softmax,
    spectrogram,
    timestamps,
    warping,
)
from .checking import Case, Exercise, Verdict, check

__all__ = ["EXERCISES", "Case", "Exercise", "Verdict", "check", "find_exercise"]

EXERCISES: tuple[Exercise, ...] = (
    softmax.EXERCISE,
    spectrogram.EXERCISE,
    convolution.EXERCISE,
    norms.EXERCISE,
    attention.EXERCISE,
    cached.EXERCISE,
    byte_pairs.EXERCISE,
    greedy.EXERCISE,
    timestamps.EXERCISE,
    beam.EXERCISE,
    warping.EXERCISE,
    fallback.EXERCISE,
)


def find_exercise(number: int) -> Exercise:
    """Return the exercise with this number. Raises ``OptionError`` if there is none."""
    for exercise in EXERCISES:
        if exercise.number == number:
            return exercise
    raise OptionError(f"exercise {number}: expected a number from 1 to {len(EXERCISES)}")
