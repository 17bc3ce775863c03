"""A recording of known words: twelve clips read from a book, joined with pauses."""

from collections.abc import Iterable, Mapping

import numpy as np

from inputs import DATA, LJ

TEXTS = [line.split("|", 1)[1] for line in (DATA / "lj_texts.csv").read_text("utf-8").splitlines()] + [
    "Printing, then, for our purpose, may be considered as the art of making books by means of movable types.",
    "Now, as all books not primarily intended as picture-books consist principally of types composed to form "
    "letterpress,",
    "it is of the first importance that the letter used should be fine in form;",
    "especially as no more time is occupied, or cost incurred, in casting, setting, or printing beautiful letters",
]


def join_clips(
    speech: Mapping[str, np.ndarray], order: Iterable[int], pause: float
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Join clips of the book, with a pause after each; return the samples, and each clip's start and end in seconds."""
    silence = np.zeros(round(pause * 16000), np.float32)
    parts: list[np.ndarray] = []
    spans: list[tuple[float, float]] = []
    size = 0
    for number in order:
        clip = speech[LJ[number].name]
        spans.append((size / 16000, (size + len(clip)) / 16000))
        parts += [clip, silence]
        size += len(clip) + len(silence)
    return np.concatenate(parts), spans
