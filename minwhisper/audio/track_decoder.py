"""Chapter 1, beneath it: an audio track is decoded packet by packet, and damage is noticed on the way.

A packet that cannot be decoded is left out. At the end of a file it may mean that the end is missing, which
:mod:`minwhisper.audio.length` judges.

Walkthrough: section 2.
"""

from collections.abc import Iterator, Sequence

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from ..errors import AudioError
from .length import StatedLength
from .resampling import describe_layout
from .timeline import Timeline, format_spans

MIN_RATE, MAX_RATE = 1_000, 3_000_000  # samples per second of a file; those of DSD files are the highest
# What FFmpeg and PyAV raise for damaged files: a time base of zero, and numbers that do not fit, are among them.
FFMPEG_ERRORS = (av.FFmpegError, OSError, ValueError, ArithmeticError)


class TrackDecoder:
    """A track that is being decoded: its frames, and the damage found so far."""

    def __init__(self, name: str, container: InputContainer, stream: AudioStream, timeline: Timeline) -> None:
        self.timeline = timeline
        self._name, self._container, self._stream = name, container, stream
        self._flac = container.format.name == "flac"
        self._broken: list[float] = []  # seconds at which packets could not be decoded
        self._broken_end: list[float] = []  # the same since the last packet that could be
        self._last = b""  # the last packet, of a FLAC file
        self._good_bytes, self._good_seconds = 0, 0.0  # of the packets that could be decoded
        self._good_end: int | None = None  # the position in the file where the last of them ends

    def frames(self) -> Iterator[tuple[AudioFrame, str, float | None]]:
        """Yield each frame with its channel layout, and the time at which it begins if it starts a new place."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except FFMPEG_ERRORS:
                    if _is_audio(packet):
                        self._broken_end.append(self.timeline.end)
                    continue
                described = [(frame, describe_layout(frame.layout)) for frame in frames]
                lost = self._lost_seconds(packet)
                for frame, layout in described:
                    self._check_frame(frame)
                    before = self.timeline.end
                    begin = self.timeline.place(frame, lost)
                    lost = 0.0
                    if self._flac and self.timeline.step > 1e-3:
                        self._broken.append(before)  # FFmpeg leaves out broken packets of a FLAC file by itself
                    yield frame, layout, begin
                if packet.size:
                    self._record_decoded(packet, frames)
        except AudioError:
            raise
        except FFMPEG_ERRORS:  # the file itself cannot be read further
            self._broken_end.append(self.timeline.end)
        except IndexError:  # PyAV has read it all and stumbles over a track that turned up late, as MPEG-TS allows
            pass

    def _record_decoded(self, packet: "Packet[AudioStream]", frames: Sequence[AudioFrame]) -> None:
        if self._flac:
            self._last = bytes(packet)
        if packet.pos is not None:
            self._good_end = packet.pos + packet.size
        if frames:
            self._broken += self._broken_end
            self._broken_end = []
            self._good_bytes += packet.size
            self._good_seconds += sum(frame.samples / frame.sample_rate for frame in frames)

    def _check_frame(self, frame: AudioFrame) -> None:
        if not MIN_RATE <= frame.sample_rate <= MAX_RATE:
            raise AudioError(
                f"{self._name}: states {frame.sample_rate} samples per second; expected {MIN_RATE} to {MAX_RATE}: is "
                "its header damaged?"
            )

    def _lost_seconds(self, packet: "Packet[AudioStream]") -> float:
        """Return how long the broken audio before a good packet was, by its bytes and those of good packets."""
        if not self._broken_end or packet.pos is None or self._good_end is None or not self._good_bytes:
            return 0.0
        return max(0, packet.pos - self._good_end) * self._good_seconds / self._good_bytes

    def check_end(self, length: StatedLength) -> None:
        """Raise :class:`AudioError` if the file ends before the audio that it states."""
        end = self.timeline.end - self.timeline.leading_silence
        if length.is_truncated(end, self.timeline.longest_frame, self._last_packet_is_broken()):
            rescue = ", or save what is there with: ffmpeg -i FILE rescued.wav" if end else ""
            total = "an unknown number of" if length.seconds is None else f"{length.seconds:.2f}"
            raise AudioError(
                f"{self._name}: {end:.2f} of {total} seconds can be read, the end is broken or missing; expected a "
                f"complete file: copy or download it again{rescue}"
            )

    def _last_packet_is_broken(self) -> bool:
        """Tell whether the last packet is incomplete."""
        return bool(self._broken_end) or (self._flac and not is_whole_flac_frame(self._last))

    def warning(self, length: StatedLength, placed: bool) -> str | None:
        """Return a line on what is missing or damaged, None if nothing is.

        ``placed`` is true if frames have been placed by their timestamps, with silence where audio is missing.
        """
        timeline, parts = self.timeline, []
        if placed and timeline.gaps:
            parts.append(f"audio is missing and became silence: {format_spans(timeline.gaps)}")
        if placed and timeline.overlaps:
            parts.append(f"audio that is there twice was cut: {format_spans(timeline.overlaps)}")
        if placed and timeline.ignored:
            parts.append(f"timestamps that leave too long a hole were ignored: {format_spans(timeline.ignored)}")
        missing = [hole for hole in timeline.gaps if hole.start or not timeline.leading_silence]
        if missing and not placed:
            parts.append(f"audio is missing: {format_spans(missing)}; what follows comes earlier by as much")
        if self._broken:
            earlier = "" if placed or missing else "; what follows comes earlier by as much"
            place = f"{len(self._broken)} place(s), the first at {self._broken[0]:.2f} s"
            parts.append(f"left out broken audio at {place}{earlier}")
        if length.torn or (self._broken_end and length.seconds is None):
            parts.append("the last packet is broken and was left out; the end may be missing")
        return f"{self._name}: {'; '.join(parts)}" if parts else None


def _is_audio(packet: "Packet[AudioStream]") -> bool:
    """Tell whether a packet that cannot be decoded may have held audio: a tag or zeros behind the end did not."""
    data = bytes(packet)
    tag = (
        data[:3] in (b"ID3", b"TAG") or data[:8] == b"APETAGEX" or any(name in data[:64] for name in (b"Xing", b"Info"))
    )
    return bool(data.strip(b"\0")) and not tag


def is_whole_flac_frame(data: bytes) -> bool:
    """Tell whether a FLAC frame is complete, by the checksum of 16 bits at its end; a tag may follow it."""
    if len(data) > 128 and data[-128:-125] == b"TAG":
        data = data[:-128]
    checksum = 0
    for byte in data:
        checksum = (checksum << 8 & 0xFFFF) ^ _CHECKSUMS[checksum >> 8 ^ byte]
    return checksum == 0


def _checksums() -> list[int]:
    """Return the remainders of each byte followed by 16 zero bits, divided by x^16 + x^15 + x^2 + 1."""
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x18005 if value & 0x8000 else 0)) & 0xFFFF
        table.append(value)
    return table


_CHECKSUMS = _checksums()
