"""What a picture of the walkthrough is: an SVG file that follows the reader's theme, and what it shows in numbers.

Text, axes and grid are drawn in one odd colour, which then becomes ``currentColor``: dark on a light page, light on a
dark one. Data colours are of medium lightness, so that they can be seen on both. Matplotlib draws, and is imported
only when something is drawn.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from xml.sax.saxutils import escape, unescape

import numpy as np

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches, about 720 pixels on a page
INK = "#010203"  # stands for the colour of the page's text until the picture is finished
LIGHT_INK, DARK_INK = "#1f2328", "#e6edf3"
SMOOTH_ROWS = 60  # an image of so many rows is scaled smoothly, one of fewer shows its pixels
THEME = f"svg{{color:{LIGHT_INK}}}@media (prefers-color-scheme: dark){{svg{{color:{DARK_INK}}}}}"

# Each has a contrast of 3 or more with white and with #0d1117, and any two are told apart by the colour-blind.
BLUE, ORANGE, INDIGO, GREY, RED, MAUVE = "#3488df", "#c85d09", "#634efa", "#978d83", "#c90e3a", "#975b93"
PALETTE = (BLUE, ORANGE, INDIGO, GREY, RED, MAUVE)

STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "minwhisper",
    "font.family": ["DejaVu Sans"],  # comes with Matplotlib
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "figure.constrained_layout.w_pad": 0.07,
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "image.aspect": "auto",
    "image.interpolation": "none",  # the pixels of the data, which the page scales
}


@dataclass(frozen=True, repr=False)
class Drawing:
    """A finished picture. A notebook shows it."""

    svg: str  # the file
    facts: str  # what it shows, as lines of text with numbers; the file has them as its description

    @classmethod
    def from_svg(cls, svg: str) -> Self:
        """A drawing from its file."""
        found = re.search(r"<desc[^>]*>(.*?)</desc>", svg, re.DOTALL)
        return cls(svg, unescape(found[1]) if found else "")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        """Short, since the file is long."""
        return f"<Drawing, {len(self.svg.encode()) / 1000:.0f} kB>"


@dataclass
class Sheet:
    """A figure to draw on, in the style of the walkthrough; ``drawing`` is the picture after the ``with`` block.

    ``title`` says what it is, for readers who do not see it. ``height`` is in inches. Axes in ``approximate`` show
    numbers that differ from machine to machine. Raises :class:`MissingExtraError` without Matplotlib.
    """

    title: str
    height: float
    approximate: list["Axes"] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Set the style aside that was in force, whatever it was."""
        try:
            import matplotlib
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError(
                "pictures need matplotlib, which is not installed: pip install 'minwhisper[walkthrough]'"
            ) from error
        with ExitStack() as stack:
            stack.enter_context(matplotlib.rc_context())
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            self.figure: Figure = Figure(figsize=(WIDTH, self.height), layout="constrained")
            self._style = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the picture, if nothing went wrong, and restore the style."""
        with self._style:
            if kind is None:
                self.drawing = to_drawing(self.figure, self.title, self.approximate)


def to_drawing(figure: "Figure", title: str, approximate: Iterable["Axes"] = ()) -> Drawing:
    """The picture that a figure becomes."""
    with StringIO() as file:
        figure.savefig(file, format="svg")
        svg = file.getvalue()
    facts = facts_of(figure, approximate)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)  # a date, among others
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # nothing refers to a group
    svg = re.sub(r'(?<= d=")[^"]*', lambda path: _compact_path(path[0]), svg)
    svg = re.sub(r'(?<=transform="translate\()[^)]*|(?<= [xy]=")[^"]*', lambda place: _round_numbers(place[0]), svg)
    svg = svg.replace("DejaVuSans-", "f")  # a glyph's name, said once for each letter
    svg = re.sub(r'(<use[^>]*) transform="translate\(([^ )]*) 0\)"', r'\1 x="\2"', svg)
    svg = re.sub(r"<image[^>]*>", lambda image: _compress_image(image[0]), svg)
    svg = re.sub(r">\s+<", ">\n<", svg).replace(INK, "currentColor")
    head = f"\n<title>{escape(title)}</title>\n<desc>{escape(facts)}</desc>\n<style>{THEME}</style>"
    svg = re.sub(r"<svg([^>]*)>", lambda tag: f'<svg role="img"{tag[1]}>{head}', svg, count=1)
    return Drawing(svg, facts)


def _round_numbers(numbers: str) -> str:
    """Two decimals where there are more: a fiftieth of a pixel."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), numbers)


def _compact_path(path: str) -> str:
    """A path, rounded and without the spaces that nobody needs."""
    return re.sub(r" ?([A-Za-z]) ?", r"\1", " ".join(_round_numbers(path).split()))


def _compress_image(element: str) -> str:
    """An image with one byte a pixel and a table of colours, in place of four bytes."""
    from PIL import Image

    start, _, rest = element.partition("base64,")
    data, _, end = rest.partition('"')
    with BytesIO(b64decode(data)) as file, BytesIO() as packed:
        image = Image.open(file).convert("RGB")
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(packed, "png", optimize=True)
        data = b64encode(packed.getvalue()).decode()
    if image.height >= SMOOTH_ROWS:
        start, end = (re.sub(r' style="image-rendering[^"]*"', "", part) for part in (start, end))
    return f'{start}base64,{data}"{end}'


# ------------------------------------------------------------------------------------------ what is in it, in numbers


def facts_of(figure: "Figure", approximate: Iterable["Axes"] = ()) -> str:
    """What a figure shows, in lines of text: its axes, and for all that is drawn on them how many, and how large."""
    approximate = list(approximate)
    lines: list[str] = []
    panels = 0
    for axes in figure.axes:
        if hasattr(axes, "_colorbar"):
            lines.append(f"colours: {axes.get_ylabel() or axes.get_xlabel()}")
            continue
        panels += 1
        title = f" {axes.get_title()};" if axes.get_title() else ""
        lines.append(f"panel {panels}:{title} x: {axes.get_xlabel()}; y: {axes.get_ylabel()}")
        lines += [f"  {line}" for line in _contents(axes, "~" if axes in approximate else "")]
    return "\n".join(lines)


def _contents(axes: "Axes", mark: str) -> list[str]:
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection

    log_x, log_y = axes.get_xscale() == "log", axes.get_yscale() == "log"
    found: list[str] = []

    def add(kind: str, label: Any, count: str, **numbers: Any) -> None:
        name = "" if str(label).startswith("_") else f" {label}"
        said = [f"{key} {summary(values, mark, log_x if key == 'x' else log_y)}" for key, values in numbers.items()]
        found.append(f"{kind}{name}: {count}; " + "; ".join(said))

    for image in axes.images:
        values = np.asarray(image.get_array(), np.float64)
        found.append(f"image: {values.shape[0]} × {values.shape[1]}; {summary(values, mark)}")
    for bars in axes.containers:
        boxes = np.array([bar.get_bbox().get_points() for bar in bars])  # (bars, 2 corners, x and y)
        ends = dict(zip("xy", (boxes[:, 1] - boxes[:, 0]).T, strict=True))
        flat = "x" if getattr(bars, "orientation", "vertical") == "horizontal" else "y"
        add("bars", bars.get_label(), f"{len(boxes)}", **{flat: ends[flat]})
    for line in axes.lines:
        x, y = np.asarray(line.get_xdata(), np.float64), np.asarray(line.get_ydata(), np.float64)
        add("line", line.get_label(), f"{x.size} points", x=x, y=y)
    for drawn in axes.collections:
        if isinstance(drawn, PathCollection):
            points = np.asarray(drawn.get_offsets(), np.float64)
        elif isinstance(drawn, LineCollection | PolyCollection):
            points = np.concatenate([np.empty((0, 2)), *(path.vertices for path in drawn.get_paths())])
        else:
            continue
        add("shape", drawn.get_label(), f"{len(points)} points", x=points[:, 0], y=points[:, 1])
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if names := _tick_names(axis):
            found.append(f"along {name}: {' | '.join(names)}")
    if texts := [text.get_text() for text in axes.texts]:
        found.append(f"text: {' | '.join(texts)}")
    return found


def _tick_names(axis: "Axis") -> list[str]:
    """What stands at an axis where places for it were given."""
    from matplotlib.ticker import FixedLocator

    given = isinstance(axis.get_major_locator(), FixedLocator)
    return [label.get_text() for label in axis.get_ticklabels()] if given else []


def summary(values: Any, mark: str = "", log: bool = False) -> str:
    """Mean, standard deviation, minimum and maximum, to four digits, ``mark`` before each.

    What is less than a thousandth of the largest is 0 unless the axis is logarithmic: it cannot be seen, and what
    is left after numbers cancel is rounding.

    >>> summary(np.array([1.0, 2.0, 3.0, 6.0]))
    'mean 3.000, std 1.871, min 1.000, max 6.000'
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return "nothing"
    numbers = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
    least = 0.0 if log else 1e-3 * np.abs(values).max()
    return ", ".join(f"{key} {mark}{value if abs(value) > least else 0.0:#.4g}" for key, value in numbers.items())
