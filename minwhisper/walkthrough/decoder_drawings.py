"""The pictures of the decoder, of decoding and of transcription: functions from NumPy or CuPy arrays to a ``Drawing``.

As in ``drawings``, they are independent of the model, and raise ``MissingExtraError`` if Matplotlib is not installed.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle

import numpy as np

from ..common.backend import Array, to_numpy
from .drawing import BLUE, GREY, ORANGE, PALETTE, Drawing, Sheet
from .drawings import (
    SECONDS_PER_POSITION,
    _add_lines,
    _colour_bar,
    _float,
    _image,
    _label,
    _legend_above,
    _name_rows,
    _plain_powers,
    _visible,
)

END = "<|endoftext|>"
PATH = "#ff5a33"  # visible on every colour of an image
WINDOW = 30.0  # seconds


def token_probabilities(
    names: Sequence[str], probabilities: Sequence[float], others: Sequence[tuple[str, float]]
) -> Drawing:
    """Draw generated tokens from top to bottom, each with its probability and that of the runner-up.

    ``others`` are the runners-up as (name, probability), one per token. Spaces are shown as ␣.
    """
    with Sheet("Probability of each token, and of the next best", 0.2 * len(names) + 1.0) as sheet:
        axes = sheet.figure.subplots()
        rows = np.arange(len(names))
        axes.barh(rows - 0.1, [float(p) for p in probabilities], color=BLUE, height=0.5, label="generated token")
        axes.barh(rows + 0.28, [float(p) for _, p in others], color=ORANGE, height=0.26, label="the next best")
        _name_rows(axes, [_visible(name) for name in names])
        axes.grid(False, axis="y")
        axes.set(xlabel="probability", ylabel="generated token", xlim=(0, 1.3), ylim=(len(names) - 0.4, -1.3))
        axes.set_xticks(np.arange(0, 1.01, 0.2))
        axes.xaxis.set_label_coords(0.5 / 1.3, -0.05 if len(names) > 12 else -0.15)
        axes.spines["bottom"].set_bounds(0, 1)
        _label(axes, "next best", 1.03, -0.9, style="italic")
        for row, (name, _) in enumerate(others):
            _label(axes, _visible(name), 1.03, row)
        _legend_above(sheet, axes)
    return sheet.drawing


def work(plain: Sequence[float], cached: Sequence[float]) -> Drawing:
    """Draw the number of multiplications per decoding step, (S,), without a cache and with one."""
    with Sheet("Multiplications in each step, without a cache and with one", 2.6) as sheet:
        axes = sheet.figure.subplots()
        for numbers, name, colour in ((plain, "without a cache", ORANGE), (cached, "with a cache", BLUE)):
            millions = np.asarray(numbers, np.float64) / 1e6
            axes.plot(np.arange(1, millions.size + 1), millions, color=colour, label=name)
        axes.set(xlabel="step", ylabel="multiplications (millions)", yscale="log")
        axes.margins(x=0.01, y=0.12)
        _plain_powers(axes.yaxis)
        _legend_above(sheet, axes)
    return sheet.drawing


def beams(history: Sequence[Sequence[tuple[str, float, int]]]) -> Drawing:
    """Draw a beam search: the candidates of each step as (new token, sum of log-probabilities, parent).

    A candidate whose new token is "<|endoftext|>" is finished. The parent is an index into the active candidates of
    the previous step, and is ignored in the first. The winner has the highest mean log-probability per token among
    the finished candidates, or among those of the last step if none is finished. Its tokens label the x axis. Where
    other candidates branch off, their token is written there if there is space.
    """
    winner = _winner(history)
    rows = dict(enumerate(winner))
    with Sheet("Candidates of a beam search", 3.9) as sheet:
        axes = sheet.figure.subplots()
        edges, branches, ends = [], [], []
        for step, candidates in enumerate(history):
            for row, (text, sum_logprob, parent) in enumerate(candidates):
                before = _active(history[step - 1])[parent] if step else 0
                came_from = (step, history[step - 1][before][1]) if step else (0, 0.0)
                edges.append([came_from, (step + 1, sum_logprob)])
                if text == END:
                    ends.append((step + 1, sum_logprob))
                elif row != rows.get(step) and (not step or before == rows.get(step - 1)) and text[:2] != "<|":
                    branches.append((step + 1, sum_logprob, text))
        _add_lines(axes, edges, GREY, "other candidates")
        best = [0.0, *(history[step][row][1] for step, row in enumerate(winner))]
        axes.plot(np.arange(len(best)), best, color=BLUE, linewidth=2.4, label="the winner")
        if ends:
            axes.plot(*zip(*ends, strict=True), "o", color=ORANGE, label="an end")
        lowest = min(sum_logprob for candidates in history for _, sum_logprob, _ in candidates)
        axes.set(xlim=(-0.3, len(history) + 1.5), ylim=(lowest * 1.1, max(0.0, -lowest * 0.03)))
        labels: list[tuple[float, float, float]] = []  # left end, right end and height of each label so far
        for x, sum_logprob, text in sorted(branches, key=lambda branch: -branch[1]):
            end, y = x + (len(text) + 1) * len(history) / 75, sum_logprob / lowest
            if all(end < left or x > right or abs(y - height) > 0.055 for left, right, height in labels):
                _label(axes, _visible(text), x, sum_logprob, (1, 6))
                labels.append((x, end, y))
        tokens = [_visible(history[step][row][0]) for step, row in enumerate(winner)]
        axes.set_xticks(np.arange(1, len(tokens) + 1), tokens, rotation=90)
        axes.set(xlabel="step, with the winner's token", ylabel="sum of log-probabilities")
        axes.grid(False, axis="x")
        _legend_above(sheet, axes)
    return sheet.drawing


def _active(candidates: Sequence[tuple[str, float, int]]) -> list[int]:
    """List the indices of a step's active candidates."""
    return [row for row, (text, _, _) in enumerate(candidates) if text != END]


def _winner(history: Sequence[Sequence[tuple[str, float, int]]]) -> list[int]:
    """Return the winner's index among the candidates of each step."""
    finished = [
        (sum_logprob / max(step, 1), step, row)
        for step, candidates in enumerate(history)
        for row, (text, sum_logprob, _) in enumerate(candidates)
        if text == END
    ]
    last = len(history) - 1
    _, step, row = max(finished or [(sum_logprob, last, row) for row, (_, sum_logprob, _) in enumerate(history[last])])
    rows = [row]
    for earlier in range(step, 0, -1):
        rows.insert(0, _active(history[earlier - 1])[history[earlier][rows[0]][2]])
    return rows


def alignment(
    matrix: Array, path: Array, words: Sequence[str], seconds_per_position: float = SECONDS_PER_POSITION
) -> Drawing:
    """Draw cross-attention (S, T), the best path through it (2, L), and the tokens' names (S,)."""
    matrix, path = _float(matrix), to_numpy(path)
    with Sheet("Cross-attention of tokens, and the best path through it", 0.165 * len(words) + 0.9) as sheet:
        axes = sheet.figure.subplots()
        rows, columns = matrix.shape
        seconds = columns * seconds_per_position
        image = _image(axes, matrix, (0, seconds, rows - 0.5, -0.5), "viridis", max_shape=(rows, 300))
        way = (path[1] + 0.5) * seconds_per_position
        axes.plot(way, path[0], color=PATH, linewidth=1.5, label="best path")
        _name_rows(axes, [_visible(word) for word in words])
        axes.set(xlabel="time (s)", ylabel="token", xlim=(0, seconds))
        _colour_bar(sheet, image, axes, "attention (standard deviations)")
    return sheet.drawing


def fallback(
    temperatures: Sequence[float],
    logprobs: Sequence[float],
    ratios: Sequence[float],
    thresholds: tuple[float, float] = (-1.0, 2.4),
) -> Drawing:
    """Draw the attempts at a window by temperature: their mean log-probabilities and compression ratios.

    ``thresholds`` are the lowest log-probability and the highest ratio that are accepted.
    """
    with Sheet("Attempts at a window by temperature", 2.6) as sheet:
        panels = sheet.figure.subplots(1, 2)
        for axes, values, name, limit, sign in (
            (panels[0], logprobs, "mean log-probability", thresholds[0], -1),
            (panels[1], ratios, "compression ratio", thresholds[1], 1),
        ):
            axes.plot(temperatures, values, "o-", color=BLUE, linewidth=1.2, label="attempts")
            axes.axhline(limit, color=ORANGE, linestyle="--", label="threshold")
            axes.margins(x=0.08, y=0.2)  # space beyond the threshold for its label
            low, high = axes.get_ylim()
            axes.axhspan(limit, low if sign < 0 else high, color=ORANGE, alpha=0.12, linewidth=0)
            axes.set(xlabel="temperature", ylabel=name, ylim=(low, high))
            beyond = f"fails {'below' if sign < 0 else 'above'} {limit:g}".replace("-", "−")
            corner, left, upper = ((0.03, 0.04), "left", "bottom") if sign < 0 else ((0.97, 0.96), "right", "top")
            axes.text(*corner, beyond, transform=axes.transAxes, ha=left, va=upper, fontsize=9)
    return sheet.drawing


def cache_use(tokens: Sequence[str], prompt: int) -> Drawing:
    """Draw which keys and values each decoding step computes, without a cache and with one.

    ``tokens`` are the names of the decoder's inputs (S,); the first ``prompt`` of them are the prompt. A row is a step,
    a column is a token.
    """
    steps = len(tokens) - prompt + 1
    with Sheet("Keys and values computed in each step, without a cache and with one", 0.2 * steps + 1.6) as sheet:
        panels = sheet.figure.subplots(1, 2, sharey=True)
        for axes, name, cached in ((panels[0], "without a cache", False), (panels[1], "with a cache", True)):
            computed: list[tuple[int, int]] = []
            kept: list[tuple[int, int]] = []
            for step in range(steps):
                new = prompt - 1 + step  # the last token of this step's text
                for column in range(new + 1):
                    keep = cached and step > 0 and column < new
                    (kept if keep else computed).append((column, step))
            for cells, colour, label in ((computed, ORANGE, "computed"), (kept, BLUE, "kept in the cache")):
                if cells:
                    axes.plot(*zip(*cells, strict=True), "s", color=colour, markersize=8, label=label)
            axes.set(title=name, xlabel="token", xlim=(-0.6, len(tokens) - 0.4), ylim=(steps - 0.4, -0.6))
            axes.set_xticks(np.arange(len(tokens)), [_visible(token) for token in tokens], rotation=90)
            axes.set_yticks(np.arange(steps), [str(step + 1) for step in range(steps)])
            axes.tick_params(length=0)
            axes.grid(False)
        panels[0].set(ylabel="step")
        _legend_above(sheet, panels[1])
    return sheet.drawing


def temperatures(names: Sequence[str], probabilities: Mapping[float, Array]) -> Drawing:
    """Draw the probabilities (N,) of a few tokens, given by name, at several temperatures: temperature -> (N,)."""
    count = len(probabilities)
    with Sheet("Probabilities of tokens at several temperatures", 0.16 * len(names) * count + 1.2) as sheet:
        axes = sheet.figure.subplots()
        rows, height = np.arange(len(names)), 0.8 / count
        for place, ((temperature, values), colour) in enumerate(
            zip(probabilities.items(), cycle(PALETTE), strict=False)
        ):
            lines = rows + (place - (count - 1) / 2) * height
            axes.barh(lines, _float(values), height=0.85 * height, color=colour, label=f"temperature {temperature:g}")
            for line, value in zip(lines, _float(values), strict=True):
                _label(axes, f"{value:.3f}", float(value), line, (4, 0))
        _name_rows(axes, [_visible(name) for name in names])
        axes.grid(False, axis="y")
        axes.set(xlabel="probability", ylabel="token", xlim=(0, 1.1))
        _legend_above(sheet, axes)
    return sheet.drawing


def cross_attention_heads(weights: Array, marked: Collection[tuple[int, int]]) -> Drawing:
    """Draw the cross-attention of every head: weights (blocks, heads, S, T), with a frame around some heads.

    One small panel per head, with tokens from top to bottom and time from left to right, each scaled to its maximum.
    ``marked`` are (block, head) pairs.
    """
    weights = _float(weights)
    blocks, heads, rows, _ = weights.shape
    with Sheet("Cross-attention of every head of the decoder", 1.05 * blocks + 0.6) as sheet:
        panels = sheet.figure.subplots(blocks, heads, squeeze=False)
        for block in range(blocks):
            for head in range(heads):
                axes = panels[block][head]
                _image(axes, weights[block, head], (0, 1, rows, 0), "viridis", max_shape=(rows, 61))
                axes.set(xticks=[], yticks=[])
                axes.set_title(f"{block}, {head}", pad=3, fontsize=9)
                for spine in axes.spines.values():
                    spine.set(visible=(block, head) in marked, color=PATH, linewidth=2.2)
        sheet.figure.supxlabel("time", fontsize=10)
        sheet.figure.supylabel("token", fontsize=10)
    return sheet.drawing


def windows(segments: Sequence[tuple[float, float, float]], seconds: float) -> Drawing:
    """Draw the windows of a recording of ``seconds`` s, each above its segments.

    ``segments`` are (start of the window, start, end) in seconds.
    """
    starts = list(dict.fromkeys(seek for seek, _, _ in segments))
    with Sheet("Windows and segments of a long recording", 0.42 * len(starts) + 1.2) as sheet:
        axes = sheet.figure.subplots()
        ends = [min(start + WINDOW, seconds) for start in starts]
        rows = np.arange(len(starts))
        lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        axes.barh(rows - 0.2, lengths, left=starts, height=0.3, color=GREY, label="window")
        for number, colour in enumerate((BLUE, ORANGE)):  # neighbours differ in colour
            shown = segments[number::2]
            axes.barh(
                [starts.index(seek) + 0.15 for seek, _, _ in shown],
                [end - start for _, start, end in shown],
                left=[start for _, start, _ in shown],
                height=0.3,
                color=colour,
                label=f"{('odd', 'even')[number]} segments",
            )
        _name_rows(axes, [str(number + 1) for number in rows])
        axes.set(xlabel="time (s)", ylabel="window", xlim=(0, seconds))
        _legend_above(sheet, axes)
    return sheet.drawing
