"""Chapter 1, beneath it: decoded frames are placed by their timestamps, so that times are those of the file.

Audio can start later than the video beside it, and parts of it can be missing: lost packets, damaged ones, a recorder
that paused. A file's timestamps tell where each frame belongs. Where a frame does not continue the one before it by
more than :data:`MAX_JITTER`, it starts at a new place: what is missing becomes silence, and what is there twice is cut.
Smaller differences are left alone, since rounded timestamps and the delay of codecs make them in every file.

Walkthrough: section 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

from av.audio.frame import AudioFrame

MAX_JITTER = 0.1  # seconds: smaller differences are left alone
DISCONTINUITY = 10.0  # seconds: a longer jump back, or forward in a broadcast, is a new start of the clock
RESTART = 1.0  # seconds: so is a jump back to so near the first timestamp, as where files were joined

# Formats without timestamps: FFmpeg adds up how long it thinks that packets last.
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
# Formats whose clock may jump: broadcasts, and Ogg files that were joined.
BROADCAST = {"mpegts", "mpegtsraw", "mpeg", "ogg"}


class Span(NamedTuple):
    """A stretch of time: where it starts and how long it is, in seconds."""

    start: float
    length: float

    def __str__(self) -> str:
        return f"{self.length:.2f} s at {self.start:.2f} s"


class Timeline:
    """The places of a track's frames, in seconds from the start of the file.

    ``gaps`` and ``overlaps`` are what :meth:`place` has found so far. ``leading_silence`` is the silence before the
    first frame.
    """

    def __init__(self, container_format: str, origin: float | None, limit: float) -> None:
        """``origin`` is the earliest timestamp of all streams of the file, in seconds, None if there is none.

        A timestamp of more than ``limit`` seconds is not believed.
        """
        self.end = 0.0  # where the last frame ends
        self.longest_frame = 0.0  # the longest frame
        self.step = 0.0  # from the end of a frame to the beginning of the next by its timestamp
        self.leading_silence = 0.0
        self.gaps: list[Span] = []
        self.overlaps: list[Span] = []
        self.ignored: list[Span] = []  # holes that are not believed
        self._timed, self._broadcast = container_format not in NO_TIMESTAMPS, container_format in BROADCAST
        self._joined = container_format == "ogg"  # whose packets are never there twice
        self._origin, self._limit = origin, limit
        self._first: float | None = None  # the first timestamp
        self._clock = 0.0  # where the last frame ends by its timestamp
        self._furthest = 0.0  # the furthest that a frame has reached

    def place(self, frame: AudioFrame, lost: float = 0.0) -> float | None:
        """Return where a frame begins if it does not continue the one before it, else None.

        ``lost`` is the length of the packets before it that could not be decoded; it counts where no timestamp tells.
        """
        seconds = frame.samples / frame.sample_rate
        time = self._time(frame, lost)
        self.step = time - self._clock
        begin = None
        if time - self.end > MAX_JITTER:
            begin = time
        elif self.step < -MAX_JITTER and time - self.end < -MAX_JITTER:
            begin = time
            self.overlaps.append(Span(begin, self.end - begin))
        if begin is not None and begin - self._furthest > MAX_JITTER:
            self.gaps.append(Span(self._furthest, begin - self._furthest))
            if self.end == 0.0:
                self.leading_silence = begin
        self._clock = time + seconds
        self.end = (self.end if begin is None else begin) + seconds
        self._furthest = max(self._furthest, self.end)
        self.longest_frame = max(self.longest_frame, seconds)
        return begin

    def _time(self, frame: AudioFrame, lost: float) -> float:
        """Return where a frame begins by its timestamp, or behind the frame before it if it has none."""
        expected = self._clock + lost
        if frame.pts is None or not frame.time_base:
            return self._believed(expected)
        stamp = float(frame.pts * frame.time_base)
        if self._first is None:
            self._first = stamp
            self._origin = stamp if self._origin is None else min(self._origin, stamp)
        elif not self._timed:
            return self._believed(expected)
        assert self._origin is not None
        time = stamp - self._origin
        back = self._clock - time
        joined = self._joined or stamp < self._first + RESTART
        if back > DISCONTINUITY or (back > MAX_JITTER and joined) or (self._broadcast and -back > DISCONTINUITY):
            self._restart(stamp)
            return self._clock
        return self._believed(time, stamp)

    def _believed(self, time: float, stamp: float | None = None) -> float:
        if time <= self._limit or time <= self._furthest + MAX_JITTER:
            return time
        self.ignored.append(Span(self._furthest, time - self._furthest))
        if stamp is not None:
            self._restart(stamp)
        return self._clock

    def _restart(self, stamp: float) -> None:
        """Start the clock anew: this timestamp continues the frame before."""
        self._first, self._origin = stamp, stamp - self._clock


def format_spans(spans: Sequence[Span]) -> str:
    """Return the first spans in words, and how many more there are.

    >>> format_spans([Span(0, 4), Span(9.5, 0.25)])
    '4.00 s at 0.00 s, 0.25 s at 9.50 s'
    """
    more = f" and at {len(spans) - 3} more places" if len(spans) > 3 else ""
    return ", ".join(map(str, spans[:3])) + more
