"""The second recording of the walkthrough, for which the spoken text is known.

The first eight clips of LJ Speech (https://keithito.com/LJ-Speech-Dataset, public domain), read by Linda Johnson, with
pauses of 0.25 s: 52 s, as Opus at 32 kbit/s.
"""

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from ..audio.load import load_audio


def lj_speech() -> tuple[NDArray[np.float32], str]:
    """Return the samples at 16 kHz, (836056,), and the text that is read."""
    here = files(__package__)
    return load_audio((here / "lj_speech.ogg").read_bytes()), (here / "lj_speech.txt").read_text("utf-8").strip()
