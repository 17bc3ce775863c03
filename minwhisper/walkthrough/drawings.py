"""Pictures of audio, of the encoder and of whole models: functions from arrays, of NumPy or CuPy, to a ``Drawing``.

They are independent of the model. Units (seconds, hertz, decibels) are computed here. Long series and large images
are first reduced to the resolution of a page. All raise ``MissingExtraError`` if Matplotlib is not installed.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..audio.load import HOP_LENGTH, SAMPLE_RATE
from ..common.backend import Array, to_numpy
from .drawing import BLUE, GREY, INK, ORANGE, PALETTE, Drawing, Sheet
from .drawings_words import words_by_probability as words_by_probability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.image import AxesImage

Float64 = NDArray[np.float64]

SECONDS_PER_FRAME = HOP_LENGTH / SAMPLE_RATE  # 0.01
SECONDS_PER_POSITION = 2 * SECONDS_PER_FRAME
DYNAMIC_RANGE = 80.0  # in dB: energies further below the loudest are raised to this limit
MIN_ERROR = 1e-9  # smaller errors are drawn at this value
SHADES = 64  # colours of an image: more would only make the file larger


def sizes(counts: Mapping[str, Mapping[str, int]]) -> Drawing:
    """Draw the parameters of models by part: model -> part -> number.

    The shares are on the left and the totals on the right, since bars for 37 million and for 1,550 million do not fit
    on one scale.
    """
    with Sheet("Parameters of models by part", 0.34 * len(counts) + 1.5) as sheet:
        shares, totals = sheet.figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        names = list(counts)
        rows = np.arange(len(names))
        sums = np.array([sum(counts[name].values()) for name in names], np.float64)
        left = np.zeros(len(names))
        for part, colour in zip(_inner_names(counts), cycle(PALETTE), strict=False):
            share = np.array([counts[name].get(part, 0) for name in names]) / sums * 100
            shares.barh(rows, share, left=left, height=0.7, color=colour, label=part)
            left += share
        shares.set(xlabel="share of the parameters (%)", ylabel="model", xlim=(0, 100))
        _name_rows(shares, names)
        shares.grid(False, axis="y")
        millions = sums / 1e6
        totals.plot(millions, rows, "o", color=BLUE)
        totals.tick_params(axis="y", length=0)
        totals.set(xlabel="parameters (millions)", xscale="log", xlim=(millions.min() / 2, millions.max() * 5))
        for row, total in enumerate(millions):
            _label(totals, f"{total:,.0f}", total, row, (7, 0))
        _plain_powers(totals.xaxis)
        _legend_above(sheet, shares)
    return sheet.drawing


def waveform(samples: Array, energy: Array) -> Drawing:
    """Draw samples (N,) at 16 kHz above their spectrogram.

    ``energy`` (T, 201) is the power spectrum of each frame. The minimum and the maximum of each short run of samples
    are drawn.
    """
    samples, energy = _float(samples), _float(energy)
    with Sheet("Audio: its samples, and the energy of its frequencies over time", 3.9) as sheet:
        top, bottom = sheet.figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
        low, high, centres = _envelope(samples, 340)
        top.fill_between(centres / SAMPLE_RATE, low, high, color=BLUE, linewidth=0.6, label="lowest and highest")
        top.set(ylabel="sample value")
        seconds = energy.shape[0] * SECONDS_PER_FRAME
        image = _image(bottom, _decibels(energy).T, (0, seconds, 0, 8), "magma", max_shape=(101, 367))
        bottom.set(xlabel="time (s)", ylabel="frequency (kHz)", xlim=(0, seconds))
        _colour_bar(sheet, image, bottom, "energy (dB)")
        sheet.figure.align_ylabels()
    return sheet.drawing


def overview(samples: Array, mel: Array, attention: Array, words: Sequence[tuple[str, float, float]]) -> Drawing:
    """Draw the stages of a recording on its way to text, all on the same time axis.

    From top to bottom: samples (N,) at 16 kHz, log-mel spectrogram (M, T), cross-attention of tokens to the audio
    (S, T / 2), and the words as (text, start, end) in seconds.
    """
    samples, mel, attention = _float(samples), _float(mel), _float(attention)
    seconds = samples.size / SAMPLE_RATE
    with Sheet("From a waveform to words: samples, spectrogram, attention, text", 4.6) as sheet:
        panels = sheet.figure.subplots(4, 1, sharex=True, height_ratios=[2, 3, 3, 2])
        low, high, centres = _envelope(samples, 340)
        panels[0].fill_between(centres / SAMPLE_RATE, low, high, color=BLUE, linewidth=0.6, label="minimum and maximum")
        _image(panels[1], mel, (0, seconds, 0, len(mel)), "magma", max_shape=(80, 275))
        _image(panels[2], attention, (0, seconds, len(attention), 0), "viridis", max_shape=(len(attention), 275))
        for axes, label in zip(panels, ("samples", "mel bin", "token", "words"), strict=True):
            axes.set(ylabel=label, xlim=(0, seconds), yticks=[])
            axes.grid(False)
        _place_words(panels[3], words, seconds)
        panels[3].set(xlabel="time (s)")
        sheet.figure.align_ylabels()
    return sheet.drawing


def _place_words(axes: "Axes", words: Sequence[tuple[str, float, float]], seconds: float) -> None:
    """Draw each word as a bar from start to end, with its text below, in the first row that has space for it."""
    starts, lengths = [start for _, start, _ in words], [end - start for _, start, end in words]
    axes.barh(np.zeros(len(words)), lengths, left=starts, height=0.5, color=[BLUE, ORANGE] * len(words))
    row_ends = [0.0] * 3
    for text, start, end in words:
        half_width = 0.0062 * seconds * (len(text) + 1)
        centre = min(max((start + end) / 2, half_width), seconds - half_width)
        row = min(range(len(row_ends)), key=lambda at: (row_ends[at] > centre - half_width, at))
        row_ends[row] = centre + half_width
        axes.text(centre, row + 1, text, ha="center", va="center", fontsize=9)
    axes.set_ylim(len(row_ends) + 0.5, -0.5)


def one_frame(frame: Array, windowed: Array, energy: Array) -> Drawing:
    """Draw one frame of 25 ms, (400,), before and after windowing, and its power spectrum (201,) up to 8 kHz."""
    frame, windowed, energy = _float(frame), _float(windowed), _float(energy)
    with Sheet("A frame of audio before and after the window, and the energy of its frequencies", 2.8) as sheet:
        left, right = sheet.figure.subplots(1, 2)
        milliseconds = np.arange(frame.size) * 1000 / SAMPLE_RATE
        left.plot(milliseconds, frame, color=GREY, label="frame", linewidth=1.2)
        left.plot(milliseconds, windowed, color=BLUE, label="times the window")
        left.set(xlabel="time (ms)", ylabel="sample value", xlim=(0, frame.size * 1000 / SAMPLE_RATE))
        _legend_on_top(left, 2)
        hertz = np.linspace(0, SAMPLE_RATE / 2, energy.size)
        right.plot(hertz, _decibels(energy), color=ORANGE, linewidth=1.2, label="energy")
        right.set(xlabel="frequency (Hz)", ylabel="energy (dB)", xlim=(0, SAMPLE_RATE / 2))
        right.set_xticks(np.arange(0, 8001, 2000))
    return sheet.drawing


def filters(filters: Array) -> Drawing:
    """Draw the mel filters (M, 201): the weight of each frequency up to 8 kHz in each bin."""
    filters = _float(filters)
    with Sheet("Mel filters: the weight of each frequency in each bin", 2.7) as sheet:
        axes = sheet.figure.subplots()
        kilohertz = np.linspace(0, 8, filters.shape[1])
        for first, colour, name in ((0, BLUE, "even bins"), (1, ORANGE, "odd bins")):
            triangles = []
            for row in filters[first::2]:
                inside = np.flatnonzero(row)
                if inside.size:  # a narrow triangle can fall between two frequencies
                    shown = slice(max(0, inside[0] - 1), inside[-1] + 2)
                    triangles.append(np.stack([kilohertz[shown], row[shown]], axis=1))
            _add_lines(axes, triangles, colour, name)
        axes.set(xlabel="frequency (kHz)", ylabel="weight (1/Hz)", xlim=(0, 8), ylim=(0, filters.max() * 1.05))
        axes.legend(loc="upper right")
    return sheet.drawing


def log_mel(mel: Array) -> Drawing:
    """Draw a log-mel spectrogram (M, T), one frame per 10 ms."""
    mel = _float(mel)
    with Sheet("A log-mel spectrogram", 2.6) as sheet:
        axes = sheet.figure.subplots()
        seconds = mel.shape[1] * SECONDS_PER_FRAME
        image = _image(axes, mel, (0, seconds, 0, mel.shape[0]), "magma", max_shape=(128, 550))
        axes.set(xlabel="time (s)", ylabel="mel bin")
        _colour_bar(sheet, image, axes, "scaled log energy")
    return sheet.drawing


def positions(table: Array) -> Drawing:
    """Draw the encoder's positional embedding (T, D), 20 ms per position: all of it, and the first 100 positions.

    Waves shorter than a pixel appear as their mean, which is 0.
    """
    table = _float(table)
    with Sheet("The table of positions: all of it, and its beginning", 3.2) as sheet:
        panels = sheet.figure.subplots(1, 2, sharey=True)
        near = table[:100]
        for axes, part, shown, name in (
            (panels[0], table, _smoothed(table, (250, 192)), "all"),
            (panels[1], near, near, f"the first {len(near)}"),
        ):
            length, width = part.shape
            image = _image(axes, shown.T, (0, length, width, 0), "RdBu_r", max_shape=(192, 250), limits=(-1, 1))
            axes.set(xlabel=f"position, {name}")
            times = axes.secondary_xaxis("top", functions=(_to_seconds, _to_positions))
            times.set_xlabel("time (s)")
            times.grid(False)
        panels[0].set(ylabel="column")
        _colour_bar(sheet, image, list(panels), "value")
    return sheet.drawing


def attention_map(weights: Array, seconds_per_position: float = SECONDS_PER_POSITION) -> Drawing:
    """Draw the attention weights (T, T) of one encoder head, one row per query.

    A few weights are large and most are close to 0, so their square roots are drawn.
    """
    roots = np.sqrt(_float(weights))
    with Sheet("Attention weights of one head", 3.9) as sheet:
        axes = sheet.figure.subplots()
        queries, keys = (length * seconds_per_position for length in roots.shape)
        image = _image(axes, roots, (0, keys, queries, 0), "viridis", max_shape=(184, 275))
        axes.set(xlabel="key at (s)", ylabel="query at (s)")
        _colour_bar(sheet, image, axes, "square root of the weight")
    return sheet.drawing


def gelu(x: Array, y: Array, errors: Mapping[str, Array]) -> Drawing:
    """Draw the GELU, y over x, both (N,), and the absolute error of formulas for it, by name, (N,) each.

    ``x`` is in ascending order. The largest error of each short run is drawn, or 1e-9 if it is smaller.
    """
    x, y = _float(x), _float(y)
    with Sheet("GELU, and the error of formulas for it", 3.0) as sheet:
        left, right = sheet.figure.subplots(1, 2, width_ratios=[4, 5])
        left.plot(x, x, "--", color=GREY, label="x", linewidth=1.2)
        left.plot(x, y, color=BLUE, label="gelu(x)")
        left.set(xlabel="x", ylabel="y", xlim=(x[0], x[-1]), ylim=(y.min() - 0.4, y.max()))
        _legend_on_top(left, 2)
        for (name, error), colour in zip(errors.items(), cycle(PALETTE[1:]), strict=False):
            _, high, centres = _envelope(np.abs(_float(error)), 120)
            where = np.interp(centres, np.arange(x.size), x)
            right.plot(where, np.maximum(high, MIN_ERROR), color=colour, label=name, linewidth=1.3)
        right.set(xlabel="x", ylabel="absolute error", yscale="log", xlim=(x[0], x[-1]))
        _plain_powers(right.yaxis)
        _legend_on_top(right, 2)
        sheet.approximate.append(right)
    return sheet.drawing


def three_sounds(similar: Mapping[str, Array]) -> Drawing:
    """Draw the cosine similarity (T, T) between the positions of each recording, by name, 20 ms per position."""
    matrices = {name: _float(matrix) for name, matrix in similar.items()}
    with Sheet("Similarity of the positions of each recording", 2.6) as sheet:
        panels = sheet.figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
        lowest = min(float(matrix.min()) for matrix in matrices.values())
        for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
            rows, columns = (length * SECONDS_PER_POSITION for length in matrix.shape)
            image = _image(axes, matrix, (0, columns, rows, 0), "viridis", max_shape=(110, 110), limits=(lowest, 1))
            axes.set(title=name, xlabel="position (s)")
        panels[0].set(ylabel="position (s)")
        _colour_bar(sheet, image, list(panels), "cosine similarity")
    return sheet.drawing


def spectra(curves: Mapping[str, Array]) -> Drawing:
    """Draw the singular values of matrices, by name, (D,) each, in descending order."""
    with Sheet("Singular values of matrices", 2.6) as sheet:
        axes = sheet.figure.subplots()
        for (name, values), colour, dashes in zip(curves.items(), cycle(PALETTE), cycle(["-", "--"]), strict=False):
            values = _float(values)
            axes.plot(np.arange(1, values.size + 1), values, dashes, color=colour, label=name)
        axes.set(xlabel="rank, the largest first", ylabel="singular value")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.legend(loc="upper right")
    return sheet.drawing


def lengths(counts: Mapping[str, Mapping[str, int]]) -> Drawing:
    """Draw the lengths of texts in different units: text, for instance a language -> unit -> number."""
    units = _inner_names(counts)
    with Sheet("Lengths of texts in different units", 0.22 * len(counts) * len(units) + 1.1) as sheet:
        axes = sheet.figure.subplots()
        rows = np.arange(len(counts))
        height = 0.8 / len(units)
        for place, (unit, colour) in enumerate(zip(units, cycle(PALETTE), strict=False)):
            numbers = [row.get(unit, 0) for row in counts.values()]
            lines = rows + (place - (len(units) - 1) / 2) * height
            axes.barh(lines, numbers, height=0.85 * height, color=colour, label=unit)
            for line, number in zip(lines, numbers, strict=True):
                _label(axes, f"{number:,}", number, line, (4, 0))
        _name_rows(axes, list(counts))
        axes.grid(False, axis="y")
        axes.set(xlabel="length", ylabel="text")
        axes.margins(x=0.08)
        _legend_above(sheet, axes)
    return sheet.drawing


def memory(bytes_by_model: Mapping[str, Mapping[str, float]], limit: float) -> Drawing:
    """Draw the memory of models, model -> dtype -> bytes, and a limit in bytes."""
    with Sheet("Memory of models", 0.32 * len(bytes_by_model) + 1.2) as sheet:
        axes = sheet.figure.subplots()
        names = list(bytes_by_model)
        rows = np.arange(len(names))
        kinds = _inner_names(bytes_by_model)
        table = np.array([[bytes_by_model[name].get(kind, np.nan) for kind in kinds] for name in names]) / 2**30
        for column, colour, marker in zip(table.T, cycle(PALETTE), cycle("osD^"), strict=False):
            axes.plot(column, rows, marker, color=colour, label=kinds[len(axes.lines)])
        for row, column in np.argwhere(np.isfinite(table)):
            number = table[row, column]
            near = 0.7 < number * 2**30 / limit < 1  # the limit would cross a label to its right
            _label(axes, f"{number:.2g}", number, row, (-25 if near else 7, 0))
        axes.axvline(limit / 2**30, color=INK, linestyle="--", linewidth=1.2, label=f"{limit / 2**30:g} GiB")
        _name_rows(axes, names)
        axes.set(xlabel="memory (GiB)", ylabel="model", xscale="log", ylim=(len(names) - 0.5, -0.5))
        axes.margins(x=0.08)
        ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]
        axes.set_xticks([tick for tick in ticks if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:g}")
        _legend_above(sheet, axes)
    return sheet.drawing


def errors_by_stage(stages: Sequence[str], ours: Sequence[float], theirs: Sequence[float]) -> Drawing:
    """Draw the relative error of each stage of the model, for this package and for PyTorch."""
    with Sheet("Relative error of each stage", 0.22 * len(stages) + 1.2) as sheet:
        axes = sheet.figure.subplots()
        rows = np.arange(len(stages))
        axes.plot(np.asarray(ours, np.float64), rows, "o", color=BLUE, label="this package")
        axes.plot(np.asarray(theirs, np.float64), rows, "s", color=ORANGE, label="PyTorch")
        _name_rows(axes, stages)
        axes.set(xlabel="relative error", ylabel="stage", xscale="log", ylim=(len(stages) - 0.5, -0.5))
        _plain_powers(axes.xaxis)
        _legend_above(sheet, axes)
        sheet.approximate.append(axes)
    return sheet.drawing


# ------------------------------------------------------------------------------------------ arrays


def _float(values: Array) -> Float64:
    return np.asarray(to_numpy(values), np.float64)


def _to_seconds(position: Any) -> Any:
    return position * SECONDS_PER_POSITION


def _to_positions(seconds: Any) -> Any:
    return seconds / SECONDS_PER_POSITION


def _decibels(energy: Float64) -> Float64:
    """Convert energies to decibels, clipped at 80 dB below the loudest."""
    loudest = max(float(energy.max()), 1e-30)
    return 10 * np.log10(np.maximum(energy, loudest * 10 ** (-DYNAMIC_RANGE / 10)))


def _envelope(values: Float64, max_points: int) -> tuple[Float64, Float64, Float64]:
    """Cut (N,) into at most ``max_points`` runs and return minimum, maximum and middle index of each."""
    edges = np.linspace(0, values.size, min(max_points, values.size) + 1).astype(int)
    low = np.minimum.reduceat(values, edges[:-1])
    high = np.maximum.reduceat(values, edges[:-1])
    return low, high, (edges[:-1] + edges[1:] - 1) / 2


def _block_means(matrix: Float64, max_shape: tuple[int, int]) -> Float64:
    """Reduce a matrix to at most this shape by means over blocks."""
    for axis in (0, 1):
        length = matrix.shape[axis]
        starts = np.arange(0, length, -(-length // max_shape[axis]))
        counts = np.diff(starts, append=length)
        matrix = np.add.reduceat(matrix, starts, axis=axis) / (counts if axis else counts[:, None])
    return matrix


def _smoothed(matrix: Float64, max_shape: tuple[int, int]) -> Float64:
    """Remove waves that are too fast for this many rows and columns. Same shape out.

    Means over blocks alone would alias some of them to slow waves.
    """
    for axis in (0, 1):
        block = -(-matrix.shape[axis] // max_shape[axis])
        if block > 1:
            kernel = np.hanning(2 * block + 3)
            weights = np.convolve(np.ones(matrix.shape[axis]), kernel, "same")
            matrix = np.apply_along_axis(np.convolve, axis, matrix, kernel, "same")
            matrix = matrix / (weights if axis else weights[:, None])
    return matrix


def _inner_names(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the distinct keys of the inner mappings, in order of appearance."""
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def _visible(token: str) -> str:
    """Make a token's spaces visible and escape Matplotlib's markup for formulas.

    >>> _visible(" fellow")
    '␣fellow'
    """
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in token)
    return shown.replace(" ", "␣").replace("$", r"\$")


# ------------------------------------------------------------------------------------------ axes


def _image(
    axes: "Axes",
    matrix: Float64,
    extent: tuple[float, float, float, float],
    colours: str,
    *,
    max_shape: tuple[int, int],
    limits: tuple[float, float] | tuple[None, None] = (None, None),
) -> "AxesImage":
    """Draw a matrix as an image of at most ``max_shape`` pixels.

    ``extent`` is (left, right, bottom, top) in data coordinates; row 0 is at the smaller of bottom and top.
    """
    import matplotlib

    axes.grid(False)
    return axes.imshow(
        _block_means(matrix, max_shape),
        cmap=matplotlib.colormaps[colours].resampled(SHADES),
        extent=extent,
        origin="upper" if extent[2] > extent[3] else "lower",
        vmin=limits[0],
        vmax=limits[1],
    )


def _add_lines(axes: "Axes", lines: Sequence[Any], colour: str, name: str) -> None:
    """Draw several lines, each of points (x, y), as one series."""
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(lines, colors=colour, linewidths=1.2, label=name))


def _colour_bar(sheet: Sheet, image: "AxesImage", axes: Any, label: str) -> None:
    bar = sheet.figure.colorbar(image, ax=axes, label=label, pad=0.015, aspect=22)
    bar.outline.set_visible(False)


def _plain_powers(axis: "Axis") -> None:
    """Label a logarithmic axis with 1e-6 or 1,000: superscripts would be too small on a phone."""

    def power(value: float, _: float) -> str:
        return f"1e{round(np.log10(value))}" if value < 0.001 else f"{value:,g}"

    axis.set_major_formatter(power)
    axis.set_minor_formatter(lambda value, position: "")


def _name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Label the rows 0, 1, 2 … with names, the first at the top."""
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _label(
    axes: "Axes", text: str, x: float, y: float, away: tuple[float, float] = (0, 0), style: str = "normal"
) -> None:
    """Write a label at a point, with an offset in points."""
    axes.annotate(text, (x, y), away, textcoords="offset points", va="center", fontsize=9, fontstyle=style)


def _legend_above(sheet: Sheet, axes: "Axes") -> None:
    """Place the legend above the whole figure."""
    sheet.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)


def _legend_on_top(axes: "Axes", columns: int) -> None:
    """Place the legend above one panel."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, columnspacing=1.2)
