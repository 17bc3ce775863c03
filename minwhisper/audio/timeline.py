"""Chapter 1: the timestamps of decoded frames → their positions, so that sample times are those of the file.

Audio can start later than the video, and parts of it can be missing: lost or damaged packets, or a paused recorder. If
the timestamp of a frame is more than ``MAX_JITTER`` away from the end of the previous frame, the frame starts at a
new position: a gap becomes silence, and an overlap is cut. Smaller differences are ignored, since rounded timestamps
and codec delay cause them in every file.

Walkthrough: section 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

from av.audio.frame import AudioFrame

MAX_JITTER = 0.1  # seconds; smaller differences are ignored
DISCONTINUITY = 10.0  # seconds; the clock restarts after a longer jump back, or forward in a broadcast
RESTART = 1.0  # seconds; the clock also restarts after a jump back to within this time of the first timestamp

# Formats without timestamps, for which FFmpeg adds up estimated packet lengths.
NO_TIMESTAMPS = {
    "aac",
    "ac3",
    "amr",
    "amrnb",
    "amrwb",
    "avi",
    "dts",
    "dtshd",
    "eac3",
    "loas",
    "mlp",
    "mp3",
    "truehd",
    "wav",
}
# Formats whose clock may jump forward: broadcasts, and concatenated Ogg files.
BROADCAST = {"mpegts", "mpegtsraw", "mpeg", "ogg"}


class Span(NamedTuple):
    """A span of time: start and length in seconds."""

    start: float
    length: float

    def __str__(self) -> str:
        return f"{self.length:.2f} s at {self.start:.2f} s"


class Timeline:
    """The positions of a track's frames, in seconds from the start of the file.

    ``gaps`` and ``overlaps`` are those found so far. ``leading_silence`` is the gap before the first frame.
    """

    def __init__(self, container_format: str, origin: float | None, limit: float) -> None:
        """Start with no frames.

        ``origin`` is the earliest timestamp of all streams of the file in seconds, or None. Gaps that lead past
        ``limit`` seconds are ignored.
        """
        self.end = 0.0  # of the last frame
        self.longest_frame = 0.0  # in seconds
        self.step = 0.0  # from the end of the previous frame to the start of the last one, by their timestamps
        self.leading_silence = 0.0
        self.gaps: list[Span] = []
        self.overlaps: list[Span] = []
        self.ignored: list[Span] = []  # implausible gaps
        self._has_timestamps, self._broadcast = container_format not in NO_TIMESTAMPS, container_format in BROADCAST
        self._never_overlaps = container_format == "ogg"  # a jump back means that files were concatenated
        self._origin, self._limit = origin, limit
        self._first: float | None = None  # the first timestamp
        self._clock = 0.0  # the end of the last frame by its timestamp
        self._furthest = 0.0  # the latest end of any frame

    def place(self, frame: AudioFrame, lost: float = 0.0) -> float | None:
        """Return the start of a frame, or None if it continues the previous frame.

        ``lost`` is the length of broken audio before it, used if there is no timestamp.
        """
        seconds = frame.samples / frame.sample_rate
        time = self._time(frame, lost)
        self.step = time - self._clock
        start = None
        if time - self.end > MAX_JITTER:
            start = time
        elif self.step < -MAX_JITTER and time - self.end < -MAX_JITTER:
            start = time
            self.overlaps.append(Span(start, self.end - start))
        if start is not None and start - self._furthest > MAX_JITTER:
            self.gaps.append(Span(self._furthest, start - self._furthest))
            if self.end == 0.0:
                self.leading_silence = start
        self._clock = time + seconds
        self.end = (self.end if start is None else start) + seconds
        self._furthest = max(self._furthest, self.end)
        self.longest_frame = max(self.longest_frame, seconds)
        return start

    def _time(self, frame: AudioFrame, lost: float) -> float:
        """Return the start of a frame by its timestamp, or the end of the previous frame if it has none."""
        expected = self._clock + lost
        if frame.pts is None or not frame.time_base:
            return self._plausible(expected)
        stamp = float(frame.pts * frame.time_base)
        if self._first is None:
            self._first = stamp
            self._origin = stamp if self._origin is None else min(self._origin, stamp)
        elif not self._has_timestamps:
            return self._plausible(expected)
        assert self._origin is not None
        time = stamp - self._origin
        back = self._clock - time
        restarted = self._never_overlaps or stamp < self._first + RESTART
        if back > DISCONTINUITY or (back > MAX_JITTER and restarted) or (self._broadcast and -back > DISCONTINUITY):
            self._restart(stamp)
            return self._clock
        return self._plausible(time, stamp)

    def _plausible(self, time: float, stamp: float | None = None) -> float:
        """Return ``time``, or the end of the previous frame if the gap before it is implausibly long."""
        if time <= self._limit or time <= self._furthest + MAX_JITTER:
            return time
        self.ignored.append(Span(self._furthest, time - self._furthest))
        if stamp is not None:
            self._restart(stamp)
        return self._clock

    def _restart(self, stamp: float) -> None:
        """Restart the clock so that this timestamp continues the previous frame."""
        self._first, self._origin = stamp, stamp - self._clock


def format_spans(spans: Sequence[Span]) -> str:
    """Format the first three spans and the number of further ones.

    >>> format_spans([Span(0, 4), Span(9.5, 0.25)])
    '4.00 s at 0.00 s, 0.25 s at 9.50 s'
    """
    more = f" and at {len(spans) - 3} more places" if len(spans) > 3 else ""
    return ", ".join(map(str, spans[:3])) + more
