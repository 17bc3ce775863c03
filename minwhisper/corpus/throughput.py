"""The throughput of a corpus over time, from a manifest: bins of equal width, with pauses between runs shortened."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from .analysis import Recording

PAUSE = 600.0  # this many seconds without work are a pause between two runs
BINS = 60  # approximate number of bins of the throughput
MAX_RUNS = 100  # that are drawn separately
WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Seconds of a bin, and between two labels of the time axis; then whole weeks."""
WEEK = 604_800.0
MAX_PAUSE_WIDTH = 0.06  # of the time axis; a longer pause is drawn shortened


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time, and its place on the time axis, from 0 to 1."""

    start: float  # seconds since 1970
    end: float
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Bin(Span):
    """Part of a run."""

    audio: float  # seconds of audio transcribed in it
    done: int  # recordings finished in it
    failed: int

    @property
    def rate(self) -> float:
        """Hours of audio per hour."""
        return self.audio / (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The throughput over time. Long pauses between runs are shorter on the axis than in time."""

    bins: list[Bin] = field(default_factory=list)
    pauses: list[Span] = field(default_factory=list)
    ticks: list[tuple[float, float]] = field(default_factory=list)  # time, place on the axis
    working: float = 0.0  # seconds in which at least one recording was being transcribed, with pauses below PAUSE
    width: float = 0.0  # seconds of a bin, approximately

    @property
    def span(self) -> float:
        """Seconds from the first start to the last end."""
        return self.bins[-1].end - self.bins[0].start if self.bins else 0.0


def timeline(some: Sequence[Recording]) -> Timeline:
    """Return the throughput over time. The audio of a recording is spread evenly over the time of its transcription."""
    timed = [one for one in some if one.finished is not None]
    if not timed:
        return Timeline()
    ends = np.array([one.finished for one in timed], np.float64)  # (N,)
    lengths = np.array([one.seconds or 0.0 for one in timed], np.float64)
    starts = np.maximum(ends - lengths, 0)
    runs = _runs(starts, ends)
    working = math.fsum(end - start for start, end in runs)
    runs = _join_runs(runs)
    drawn = math.fsum(end - start for start, end in runs)
    width = _round_width(drawn / BINS)
    pauses = [after[0] - before[1] for before, after in pairwise(runs)]
    limit = min(MAX_PAUSE_WIDTH, 0.3 / max(len(pauses), 1)) * drawn
    shown = [min(pause, limit) for pause in pauses]
    scale = 1 / (drawn + math.fsum(shown))

    counts = np.array([one.done for one in timed])
    audio = np.array([one.duration or 0.0 if one.done else 0.0 for one in timed], np.float64)
    bins: list[Bin] = []
    gaps: list[Span] = []
    left = 0.0
    for number, (start, end) in enumerate(runs):
        edges = np.linspace(start, end, max(1, round((end - start) / width)) + 1).tolist()
        shares = [np.clip((edge - starts) / np.maximum(ends - starts, 1e-3), 0, 1) @ audio for edge in edges[:-1]]
        shares.append(audio[ends <= end].sum())  # exact at the end, for recordings that took no time, too
        places = np.searchsorted(edges[1:-1], ends, side="left")  # a recording that ends at an edge is before it
        inside = (start <= ends) & (ends <= end)
        for at in range(len(edges) - 1):
            here = inside & (places == at)
            right = left + (edges[at + 1] - edges[at]) * scale
            amount = float(shares[at + 1] - shares[at])
            done = int(counts[here].sum())
            bins.append(Bin(edges[at], edges[at + 1], left, right, max(amount, 0.0), done, int(here.sum()) - done))
            left = right
        if number < len(pauses):
            right = left + shown[number] * scale
            gaps.append(Span(end, runs[number + 1][0], left, right))
            left = right
    return Timeline(bins, gaps, _ticks(bins, scale), working, width)


def _round_width(seconds: float) -> float:
    """Return at least this many seconds: the next of WIDTHS, or whole weeks."""
    return next((float(width) for width in WIDTHS if seconds <= width), WEEK * math.ceil(seconds / WEEK))


def _runs(starts: np.ndarray, ends: np.ndarray) -> list[tuple[float, float]]:
    """Return the spans of time with work; two with less than PAUSE between them are one."""
    runs: list[list[float]] = []
    for at in np.argsort(starts, kind="stable"):
        start, end = float(starts[at]), float(ends[at])
        if runs and start - runs[-1][1] < PAUSE:
            runs[-1][1] = max(runs[-1][1], end)
        else:
            runs.append([start, end])
    return [(start, max(end, start + 1.0)) for start, end in runs]  # a run without a duration: one second


def _join_runs(runs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join runs across the shortest pauses until at most MAX_RUNS are left."""
    if len(runs) <= MAX_RUNS:
        return runs
    pauses = [after[0] - before[1] for before, after in pairwise(runs)]
    longest = sorted(sorted(range(len(pauses)), key=lambda at: -pauses[at])[: MAX_RUNS - 1])
    firsts, lasts = [0, *(at + 1 for at in longest)], [*longest, len(runs) - 1]
    return [(runs[first][0], runs[last][1]) for first, last in zip(firsts, lasts, strict=True)]


def _ticks(bins: Sequence[Bin], scale: float, most: int = 7) -> list[tuple[float, float]]:
    """Return round times within the runs with their places, not too close to each other."""
    seconds = 1 / scale
    step = _round_width(seconds / most)
    found: list[tuple[float, float]] = []
    for one in bins:
        time = math.ceil(one.start / step) * step
        while time <= one.end:
            found.append((time, one.left + (time - one.start) * scale))
            time += step
    if len(found) < 2:
        found = [(bins[0].start, 0.0), *found]
    kept: list[tuple[float, float]] = []
    for time, place in found:
        if not kept or place - kept[-1][1] > 0.6 / most:
            kept.append((time, place))
    return kept
