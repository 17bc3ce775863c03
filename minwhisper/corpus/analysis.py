"""Analyse a manifest: entries → recordings without missing or wrong values → the figures of a report.

In: the entries of a manifest. Out: totals, workers, groups of failures, and the recordings whose transcripts are
doubtful. ``throughput.py`` has the throughput over time, and ``report.py`` shows everything.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple, get_args

import numpy as np

from ..tokenizer.languages import LANGUAGES
from .manifest import Entry, Outcome

DONE, OTHER = "done", "other"
KNOWN = get_args(Outcome)  # any other outcome is OTHER
MAX_VALUE = 1e12  # numbers beyond it, and times after the year 9999, count as missing
MAX_TIME = 253_402_300_799.0

LOW_LOGPROB = -1.0  # openai-whisper's logprob_threshold
REPETITIVE = 2.4  # openai-whisper's compression_ratio_threshold
FEW_WORDS, LONG_ENOUGH = 30.0, 60.0  # words per minute, in a recording of at least this many seconds
LANGUAGE_SHARE = 0.8  # if this share of the recordings has the same language, another one is unexpected
SLOW = 0.5  # below this share of the median speed of at least three workers with the same device, a worker is slow

DURATION_EDGES = (0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)
SPEED_EDGES = tuple(
    step * 10.0**power for power in range(-3, 6) for step in (1, 1.5, 2, 3, 5, 7)
)  # seconds of audio per second of work


class Recording(NamedTuple):
    """An entry of a manifest, checked: what is missing or impossible is None or empty."""

    input: str
    output: str
    outcome: str
    error: str
    attempts: int
    worker: str
    device: str
    language: str
    finished: float | None
    seconds: float | None
    duration: float | None
    words: float | None
    mean_logprob: float | None
    lowest_logprob: float | None
    compression_ratio: float | None

    @property
    def done(self) -> bool:
        """True if the recording was transcribed."""
        return self.outcome == DONE

    @property
    def speed(self) -> float | None:
        """Seconds of audio per second of work, of a recording that was transcribed."""
        return self.duration / self.seconds if self.done and self.duration is not None and self.seconds else None

    @property
    def words_per_minute(self) -> float | None:
        """Words per minute of audio."""
        return 60 * self.words / self.duration if self.words is not None and self.duration else None


def recordings(entries: Iterable[Entry]) -> list[Recording]:
    """Return the recordings of a manifest. The last entry about a recording counts."""
    return [_recording(entry) for entry in {str(entry.get("output")): entry for entry in entries}.values()]


def _recording(entry: Entry) -> Recording:
    def text(key: str) -> str:
        value = entry.get(key)
        return value if isinstance(value, str) else "" if value is None else str(value)

    def number(key: str, low: float = 0.0, high: float = MAX_VALUE) -> float | None:
        value: Any = entry.get(key)
        valid = type(value) in (float, int) and low <= value <= high  # not a NaN, not a bool
        return float(value) if valid else None

    return Recording(
        input=text("input"),
        output=text("output"),
        outcome=text("outcome") if text("outcome") in KNOWN else OTHER,
        error=text("error"),
        attempts=int(number("attempts", 1) or 1),
        worker=text("worker"),
        device=text("device"),
        language=text("language"),
        finished=number("finished", 0, MAX_TIME),
        seconds=number("seconds"),
        duration=number("duration"),
        words=number("words"),
        mean_logprob=number("mean_logprob", -MAX_VALUE),
        lowest_logprob=number("lowest_logprob", -MAX_VALUE),
        compression_ratio=number("compression_ratio"),
    )


def total(values: Iterable[float | None]) -> float:
    """Return the sum of the values that are known."""
    return math.fsum(value for value in values if value is not None)


def speed_of(some: Iterable[Recording]) -> float | None:
    """Return the seconds of audio per second of work of several recordings together."""
    timed = [one for one in some if one.speed is not None]
    seconds = total(one.seconds for one in timed)
    return total(one.duration for one in timed) / seconds if seconds else None


# -------------------------------------------------------------------------------------------------------- histograms


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges: ``counts[i]`` values are at least ``edges[i]`` and below ``edges[i + 1]``."""

    edges: list[float]
    counts: list[int]
    median: float
    low: float  # a tenth of the values is below
    high: float  # a tenth of the values is above


def histogram(values: Sequence[float], edges: Sequence[float]) -> Histogram | None:
    """Count values between edges, from the first bin with a value to the last; None without values.

    The first bin also counts smaller values, and the last one larger ones.

    >>> found = histogram([1, 3, 3, 99], [0, 2, 4, 8])
    >>> found.edges, found.counts
    ([0, 2, 4, 8], [1, 2, 1])
    """
    if not values:
        return None
    places = np.searchsorted(edges[1:-1], values, side="right")
    counts = np.bincount(places, minlength=len(edges) - 1)
    first, last = int(places.min()), int(places.max())
    low, middle, high = (float(value) for value in np.quantile(values, [0.1, 0.5, 0.9]))
    return Histogram(list(edges[first : last + 2]), counts[first : last + 1].tolist(), middle, low, high)


# ----------------------------------------------------------------------------------------------------------- workers


@dataclass(frozen=True, slots=True)
class Worker:
    """The work of a worker, as far as the last entry about each recording shows it."""

    name: str
    device: str
    done: int
    failed: int
    audio: float  # seconds
    seconds: float  # of work
    speed: float | None  # seconds of audio per second of work
    relative: float | None  # its speed, relative to the median of the workers with its device; None if too few

    @property
    def slow(self) -> bool:
        """True if others with the same device are much faster."""
        return self.relative is not None and self.relative < SLOW


def workers(some: Iterable[Recording]) -> list[Worker]:
    """Return the workers: first those with the most failures, then the slowest."""
    groups: defaultdict[tuple[str, str], list[Recording]] = defaultdict(list)
    for one in some:
        if one.worker:
            groups[one.worker, one.device].append(one)
    speeds = {key: speed_of(group) for key, group in groups.items()}
    of_device: defaultdict[str, list[float]] = defaultdict(list)
    for (_, device), speed in speeds.items():
        if speed is not None:
            of_device[device].append(speed)
    typical = {device: median(found) for device, found in of_device.items() if len(found) >= 3}
    found = []
    for (name, device), group in groups.items():
        done = [one for one in group if one.done]
        speed = speeds[name, device]
        usual = typical.get(device)
        relative = speed / usual if speed is not None and usual else None
        audio, seconds = total(one.duration for one in done), total(one.seconds for one in group)
        found.append(Worker(name, device, len(done), len(group) - len(done), audio, seconds, speed, relative))
    return sorted(found, key=lambda one: (-one.failed, one.speed if one.speed is not None else math.inf, one.name))


# ---------------------------------------------------------------------------------------------------------- failures


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Recordings that failed for the same reason."""

    outcome: str
    message: str  # of the first one, with … for its name
    recordings: list[Recording]
    varied: bool  # whether the messages of the others have other numbers


def failure_groups(some: Iterable[Recording]) -> list[FailureGroup]:
    """Group failures by outcome and message, the largest groups first.

    Messages that differ only in numbers and in the name of the recording count as the same.
    """
    groups: defaultdict[tuple[str, str], list[Recording]] = defaultdict(list)
    messages: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for one in some:
        if not one.done:
            message = _without_name(one)
            key = one.outcome, re.sub(r"\d+", "0", message)
            messages[key][message] = None
            groups[key].append(one)
    found = [
        FailureGroup(key[0], next(iter(messages[key])), group, len(messages[key]) > 1) for key, group in groups.items()
    ]
    return sorted(found, key=lambda group: (-len(group.recordings), group.outcome, group.message))


def _without_name(one: Recording) -> str:
    name = re.split(r"[/\\]", one.input)[-1]
    message = one.error
    for known in (one.input, name):
        if len(known) > 2:
            message = message.replace(known, "…")
    return message.strip().removeprefix("…:").strip()


# ----------------------------------------------------------------------------------------------- doubtful recordings


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason to check a transcript."""

    points: float
    reason: str


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A recording whose transcript may be wrong."""

    recording: Recording
    doubts: list[Doubt]

    @property
    def points(self) -> float:
        """The sum of the points of all reasons."""
        return math.fsum(doubt.points for doubt in self.doubts)


def usual_language(some: Iterable[Recording]) -> str:
    """Return the language of at least 80 % of the recordings, or an empty string if there is none."""
    counts = Counter(one.language for one in some if one.done and one.language)
    if not counts:
        return ""
    language, count = counts.most_common(1)[0]
    return language if count >= LANGUAGE_SHARE * counts.total() else ""


def doubtful(some: Sequence[Recording]) -> list[Doubtful]:
    """Return the recordings to check, those with the most points first.

    Each reason counts once for crossing its threshold, and up to once more for the distance from it:

    * the mean log-probability of the recording is below -1: 2 to 4 points, the maximum for -2 or less;
    * otherwise, that of its least probable segment is: 0.5 to 1 point, since one such segment is common;
    * the text of a segment compresses by more than 2.4, so it repeats itself: 1 to 2 points, the maximum from 4.8 on;
    * fewer than 30 words per minute in at least a minute of audio: 1 to 2 points, the maximum for no words;
    * a language other than that of at least 80 % of all recordings: 0.5 points.
    """
    usual = usual_language(some)
    found = []
    for one in some:
        if one.done and (doubts := [doubt for check in _CHECKS if (doubt := check(one, usual))]):
            found.append(Doubtful(one, doubts))
    return sorted(found, key=lambda one: (-one.points, one.recording.input))


def _improbable(one: Recording, _usual: str) -> Doubt | None:
    if one.mean_logprob is not None and one.mean_logprob < LOW_LOGPROB:
        points = _points(2, LOW_LOGPROB - one.mean_logprob)
        return Doubt(points, f"mean log-probability {one.mean_logprob:.2f}, below {LOW_LOGPROB:.1f}")
    if one.lowest_logprob is not None and one.lowest_logprob < LOW_LOGPROB:
        points = _points(0.5, LOW_LOGPROB - one.lowest_logprob)
        return Doubt(points, f"a segment with log-probability {one.lowest_logprob:.2f}, below {LOW_LOGPROB:.1f}")
    return None


def _repetitive(one: Recording, _usual: str) -> Doubt | None:
    ratio = one.compression_ratio
    if ratio is None or ratio <= REPETITIVE:
        return None
    reason = f"a segment repeats itself: compression ratio {ratio:.1f}, above {REPETITIVE}"
    return Doubt(_points(1, ratio / REPETITIVE - 1), reason)


def _few_words(one: Recording, _usual: str) -> Doubt | None:
    rate = one.words_per_minute
    if rate is None or rate >= FEW_WORDS or one.duration is None or one.duration < LONG_ENOUGH:
        return None
    reason = f"few words: {rate:.0f} per minute, below {FEW_WORDS:.0f}" if one.words else "no words at all"
    return Doubt(_points(1, 1 - rate / FEW_WORDS), reason)


def _unexpected_language(one: Recording, usual: str) -> Doubt | None:
    if not usual or not one.language or one.language == usual:
        return None
    return Doubt(0.5, f"{language_name(one.language)}, unlike most recordings ({language_name(usual)})")


_CHECKS: tuple[Callable[[Recording, str], Doubt | None], ...] = (
    _improbable,
    _repetitive,
    _few_words,
    _unexpected_language,
)


def _points(weight: float, excess: float) -> float:
    return weight * (1 + min(excess, 1.0))


def language_name(code: str) -> str:
    """Return the name of a language, or its code if it is unknown.

    >>> language_name("de"), language_name("xx")
    ('German', 'xx')
    """
    return LANGUAGES[code].title() if code in LANGUAGES else code
