"""A picture of a text whose doubtful words are marked."""

from collections.abc import Mapping, Sequence
from typing import Any

from .drawing import ORANGE, WIDTH, Drawing, Sheet

SHADES = ((0.5, "probability below 50 %", 0.75), (0.7, "50 to 70 %", 0.45), (0.9, "70 to 90 %", 0.2))
"""Probabilities below which a word is marked, with the names of these ranges and the opacity of the mark."""

SIZE, SMALL = 11, 9  # points
LINE_HEIGHT = 31.0  # points, with the probability below the word
SPACE = 3.5  # points
MARGIN = 6.0  # points between the words and the edge of the picture


def words_by_probability(words: Sequence[Mapping[str, Any] | Any]) -> Drawing:
    """Draw a text, with a mark behind each word whose probability is below 90 %, and the per cent below it.

    ``words`` are those of a transcript, ``{"word": " so", "probability": 0.9, …}``, or objects with these attributes.
    """
    with Sheet("A text, with its doubtful words marked", 1.5) as sheet:
        from matplotlib.collections import PolyCollection

        placed, lines = _place([_word(word) for word in words])
        sheet.figure.set_figheight(max(1.5, (lines * LINE_HEIGHT + 36) / 72))
        axes = sheet.figure.subplots()
        axes.set(xticks=[], yticks=[], frame_on=False)
        axes.set(xlim=(0, WIDTH * 72 - 2 * MARGIN), ylim=(max(lines, 1) * LINE_HEIGHT, 0))
        lowest = 0.0
        for highest, name, opacity in SHADES:
            boxes = [
                [(x - 1.5, y + 2), (x + width + 1.5, y + 2), (x + width + 1.5, y + 18), (x - 1.5, y + 18)]
                for text, probability, x, y, width in placed
                if lowest <= probability < highest
            ]
            axes.add_collection(PolyCollection(boxes, color=ORANGE, alpha=opacity, linewidth=0, label=name))
            lowest = highest
        for text, probability, x, y, _ in placed:
            axes.text(x, y + 10, text, fontsize=SIZE, va="center_baseline")
            if probability < lowest:
                axes.text(x, y + 24, f"{100 * probability:.0f}", fontsize=SMALL, va="center_baseline")
        sheet.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=len(SHADES))
    return sheet.drawing


def _word(word: Mapping[str, Any] | Any) -> tuple[str, float]:
    """Return a word, with the space before it, and its probability."""
    if isinstance(word, Mapping):
        return word["word"], float(word["probability"])
    return word.word, float(word.probability)


def _place(words: Sequence[tuple[str, float]]) -> tuple[list[tuple[str, float, float, float, float]], int]:
    """Place words in lines: (text, probability, x, y, width) of each in points, and the number of lines."""
    placed = []
    x, line = 0.0, 0
    for word, probability in words:
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in word.strip()).replace("$", r"\$")
        width = _width(text, SIZE)
        room = max(width, _width("00", SMALL) if probability < SHADES[-1][0] else 0.0)
        if x and word[:1].isspace():
            x += SPACE
        if x and x + room > WIDTH * 72 - 2 * MARGIN:
            x, line = 0.0, line + 1
        placed.append((text, probability, x, line * LINE_HEIGHT, width))
        x += room
    return placed, line + 1


def _width(text: str, size: float) -> float:
    """Return the width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(width)
