"""Pictures of the walkthrough: an SVG file that follows the reader's colour theme, with its data summarised as text.

Text, axes and grid are drawn in one placeholder colour, which is then replaced by ``currentColor``: dark on a light
page, light on a dark one. Data colours are of medium lightness, so that they are visible on both. Matplotlib draws, and
is imported only when something is drawn.
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
INK = "#010203"  # placeholder for the colour of the page's text
LIGHT_INK, DARK_INK = "#1f2328", "#e6edf3"
SMOOTH_ROWS = 60  # images with fewer rows show their pixels; others are interpolated
LIGHT_PAGE, DARK_PAGE = "#ffffff", "#0d1117"  # of GitHub
THEME = f"svg{{color:{LIGHT_INK}}}@media (prefers-color-scheme: dark){{svg{{color:{DARK_INK}}}}}"
QUOTES = {'"': "&quot;"}
BACKGROUND = f"svg{{background:{LIGHT_PAGE}}}@media (prefers-color-scheme: dark){{svg{{background:{DARK_PAGE}}}}}"

# Each has a contrast of at least 3 with white and with #0d1117, and colour-blind readers can tell any two apart.
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
    "image.interpolation": "none",  # keep the pixels of the data; the page scales them
}


def image(svg: str, alt: str) -> str:
    """Return HTML that shows a picture in a notebook.

    An image is shown even if the reader has not marked the notebook as trusted, and its styles do not affect the rest.
    It has its own background, since the notebook's theme may be dark when the system's is light.
    """
    svg = svg.replace("</style>", f"{BACKGROUND}</style>", 1)
    return f'<img src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}" alt="{escape(alt, QUOTES)}">'


@dataclass(frozen=True, repr=False)
class Drawing:
    """A finished picture, which a notebook displays."""

    svg: str  # the content of the file
    facts: str  # its data in lines of text; stored in the file as its description

    @classmethod
    def from_svg(cls, svg: str) -> Self:
        """Read a drawing from the content of its file."""
        found = re.search(r"<desc[^>]*>(.*?)</desc>", svg, re.DOTALL)
        return cls(svg, unescape(found[1]) if found else "")

    def _repr_html_(self) -> str:
        title = re.search(r"<title>(.*?)</title>", self.svg, re.DOTALL)
        return image(self.svg, unescape(title[1]) if title else "")

    def __repr__(self) -> str:
        """Show the size instead of the content."""
        return f"<Drawing, {len(self.svg.encode()) / 1000:.0f} kB>"


@dataclass
class Sheet:
    """A Matplotlib figure in the style of the walkthrough; after the ``with`` block, ``drawing`` is the picture.

    ``title`` describes it for screen readers. ``height`` is in inches. Axes in ``approximate`` show numbers that
    differ between machines. Raises ``MissingExtraError`` if Matplotlib is not installed.
    """

    title: str
    height: float
    approximate: list["Axes"] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Replace the reader's style by the walkthrough's."""
        try:
            import matplotlib
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError(
                "pictures need matplotlib, which is not installed: run pip install 'minwhisper[walkthrough]'"
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
        """Make the picture, unless an error occurred, and restore the style."""
        with self._style:
            if kind is None:
                self.drawing = to_drawing(self.figure, self.title, self.approximate)


def to_drawing(figure: "Figure", title: str, approximate: Iterable["Axes"] = ()) -> Drawing:
    """Convert a figure to a compact SVG picture."""
    with StringIO() as file:
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        svg = file.getvalue()
    facts = facts_of(figure, approximate)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # no element refers to a group
    svg = re.sub(r'(?<= d=")[^"]*', lambda path: _compact_path(path[0]), svg)
    svg = re.sub(r'(?<=transform="translate\()[^)]*|(?<= [xy]=")[^"]*', lambda place: _round_numbers(place[0]), svg)
    svg = svg.replace("DejaVuSans-", "f")  # shorten the names of glyphs
    svg = re.sub(r'(<use[^>]*) transform="translate\(([^ )]*) 0\)"', r'\1 x="\2"', svg)
    svg = re.sub(r"<image[^>]*>", lambda image: _compress_image(image[0]), svg)
    svg = re.sub(r">\s+<", ">\n<", svg).replace(INK, "currentColor")
    head = f"\n<title>{escape(title)}</title>\n<desc>{escape(facts)}</desc>\n<style>{THEME}</style>"
    svg = re.sub(r"<svg([^>]*)>", lambda tag: f'<svg role="img"{tag[1]}>{head}', svg, count=1)
    return Drawing(svg, facts)


def _round_numbers(numbers: str) -> str:
    """Round numbers to two decimals, a hundredth of a point."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), numbers)


def _compact_path(path: str) -> str:
    """Round a path's numbers and drop redundant spaces."""
    return re.sub(r" ?([A-Za-z]) ?", r"\1", " ".join(_round_numbers(path).split()))


def _compress_image(element: str) -> str:
    """Store an image as one byte per pixel and a colour table, instead of four bytes per pixel."""
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


# ------------------------------------------------------------------------------------------ the data as text


def facts_of(figure: "Figure", approximate: Iterable["Axes"] = ()) -> str:
    """Summarise a figure in lines of text: its axes, and count and range of the data drawn on them."""
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
        ranges = [f"{key} {summary(values, mark, log_x if key == 'x' else log_y)}" for key, values in numbers.items()]
        found.append(f"{kind}{name}: {count}; " + "; ".join(ranges))

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
    """Return an axis's tick labels if they were set explicitly."""
    from matplotlib.ticker import FixedLocator

    given = isinstance(axis.get_major_locator(), FixedLocator)
    return [label.get_text() for label in axis.get_ticklabels()] if given else []


def summary(values: Any, mark: str = "", log: bool = False) -> str:
    """Format mean, standard deviation, minimum and maximum to four digits, each after ``mark``.

    Unless the axis is logarithmic, values below a thousandth of the largest become 0: they are invisible, and may be
    nothing but rounding error.

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
