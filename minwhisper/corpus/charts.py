"""Bar charts as SVG. Places along the x axis are percentages, so a chart fits any width and its text keeps its size."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 190  # pixels of the area of a chart
BELOW = 40  # pixels for the labels of its x axis
STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart."""

    left: float  # 0 to 1
    right: float
    value: float
    label: str  # shown under the mouse pointer
    mark: str = ""  # what went wrong in it; a cross above the axis


@dataclass(frozen=True, slots=True)
class Label:
    """A label of the x axis; a line break divides it into two lines."""

    place: float  # 0 to 1
    text: str
    minor: bool = False  # left out if there is little room


@dataclass(frozen=True, slots=True)
class Band:
    """A hatched part of the x axis without data."""

    left: float
    right: float
    label: str


def chart(
    name: str,
    title: str,
    description: str,
    bars: Sequence[Bar],
    labels: Sequence[Label],
    *,
    unit: str,
    bands: Sequence[Band] = (),
    whole: bool = False,
) -> str:
    """Return a bar chart as an SVG element. All texts are escaped.

    Args:
        name: of the chart, unique on its page, for the identifiers of its elements.
        title: what it shows, for screen readers.
        description: its data in a sentence, for screen readers.
        bars: from left to right.
        labels: of the x axis.
        unit: of the y axis, above it.
        bands: where there are no data.
        whole: whether the values are counts, so that the y axis has whole numbers only.
    """
    top, ticks = nice_ticks(max((bar.value for bar in bars), default=0.0), whole=whole)

    def y(value: float) -> float:
        return HEIGHT * (1 - value / top)

    parts = [
        f'<svg class="chart" role="img" aria-labelledby="{name}-title {name}-text" width="100%" '
        f'height="{HEIGHT + BELOW}">',
        f'<title id="{name}-title">{html.escape(title)}</title>',
        f'<desc id="{name}-text">{html.escape(description)}</desc>',
        f'<text class="unit" x="-2.4rem" y="-12">{html.escape(unit)}</text>',
    ]
    for tick in ticks:
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="y" x="-6" y="{y(tick) + 4:.1f}">{tick:,.10g}</text>')
    if bands:
        parts.append(
            f'<pattern id="{name}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect class="stripe" width="2" height="6"/></pattern>'
        )
    for band in bands:
        parts.append(
            f'<rect x="{_percent(band.left)}" width="{_percent(band.right - band.left)}" height="{HEIGHT}" '
            f'fill="url(#{name}-hatch)"><title>{html.escape(band.label)}</title></rect>'
        )
    for bar in bars:
        if bar.value > 0:
            height = max(HEIGHT - y(bar.value), 1.0)  # visible, however small
            parts.append(
                f'<rect class="bar" x="{_percent(bar.left)}" width="{_percent(bar.right - bar.left)}" '
                f'y="{HEIGHT - height:.1f}" height="{height:.1f}"><title>{html.escape(bar.label)}</title></rect>'
            )
    for bar in bars:
        if bar.mark:
            parts.append(
                f'<text class="mark" x="{_percent((bar.left + bar.right) / 2)}" y="{HEIGHT - 5}">×'
                f"<title>{html.escape(bar.mark)}</title></text>"
            )
    parts.append(f'<line class="axis" x1="0" x2="100%" y1="{HEIGHT}" y2="{HEIGHT}"/>')
    for label in labels:
        place, kind = _percent(label.place), ' class="x minor"' if label.minor else ' class="x"'
        parts.append(f'<line class="axis" x1="{place}" x2="{place}" y1="{HEIGHT}" y2="{HEIGHT + 4}"/>')
        for number, line in enumerate(label.text.split("\n")):
            parts.append(f'<text{kind} x="{place}" y="{HEIGHT + 17 + 15 * number}">{html.escape(line)}</text>')
    return "\n".join([*parts, "</svg>"])


def nice_ticks(highest: float, most: int = 5, *, whole: bool = False) -> tuple[float, list[float]]:
    """Return the end of an axis that begins at 0, and round numbers along it.

    >>> nice_ticks(87.0)
    (100.0, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0])
    >>> nice_ticks(2, whole=True)
    (2.0, [0.0, 1.0, 2.0])
    """
    if not highest > 0:
        return 1.0, [0.0]
    power = 10.0 ** math.floor(math.log10(highest / most))
    step = next((step * power for step in STEPS if step * power * most >= highest * (1 - 1e-9)), 10 * power)
    if whole:
        step = max(1.0, math.ceil(step))
    count = math.ceil(highest / step * (1 - 1e-9))
    return count * step, [step * number for number in range(count + 1)]


def share_bar(share: float) -> str:
    """Return a bar for a cell of a table; a screen reader reads the number beside it instead."""
    width = _percent(min(max(share, 0.0), 1.0))
    return (
        '<svg class="share" aria-hidden="true" width="100%" height="10">'
        f'<rect class="rail" width="100%" height="10"/><rect class="bar" width="{width}" height="10"/></svg>'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + "%"
