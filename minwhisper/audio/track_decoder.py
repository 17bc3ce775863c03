"""Chapter 1: the packets of an audio track → decoded frames, and a record of damage.

A packet that cannot be decoded is left out. At the end of a file it may be a sign of truncation; ``audio.length``
decides whether it is.

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

MIN_FILE_RATE, MAX_FILE_RATE = 1_000, 3_000_000  # samples per second; DSD files have the highest rates
# The errors of FFmpeg and PyAV for damaged files, including those for a time base of zero and for integer overflow.
FFMPEG_ERRORS = (av.FFmpegError, OSError, ValueError, ArithmeticError)


class TrackDecoder:
    """An audio track that is being decoded, and the damage found so far."""

    def __init__(self, name: str, container: InputContainer, stream: AudioStream, timeline: Timeline) -> None:
        self.timeline = timeline
        self._name, self._container, self._stream = name, container, stream
        self._flac = container.format.name == "flac"
        self._broken: list[float] = []  # times in seconds of packets that could not be decoded
        self._broken_end: list[float] = []  # those since the last decoded packet
        self._last_packet = b""  # for FLAC only
        self._decoded_bytes, self._decoded_seconds = 0, 0.0
        self._decoded_end: int | None = None  # byte position after the last decoded packet

    def frames(self) -> Iterator[tuple[AudioFrame, str, float | None]]:
        """Yield each frame, its channel layout, and its start in seconds if it does not continue the previous frame."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except FFMPEG_ERRORS:
                    if _is_audio(packet):
                        self._broken_end.append(self.timeline.end)
                    continue
                layouts = [describe_layout(frame.layout) for frame in frames]  # before a frame can be deleted
                lost = self._lost_seconds(packet)
                for frame, layout in zip(frames, layouts, strict=True):
                    self._check_rate(frame)
                    previous_end = self.timeline.end
                    start = self.timeline.place(frame, lost)
                    lost = 0.0
                    if self._flac and self.timeline.step > 1e-3:
                        self._broken.append(previous_end)  # FFmpeg itself leaves out broken FLAC packets
                    yield frame, layout, start
                if packet.size:
                    self._record_decoded(packet, frames)
        except AudioError:
            raise
        except FFMPEG_ERRORS:  # the rest of the file cannot be read
            self._broken_end.append(self.timeline.end)
        except IndexError:  # PyAV raises it at the end of an MPEG-TS file with a track that starts late
            pass

    def _record_decoded(self, packet: "Packet[AudioStream]", frames: Sequence[AudioFrame]) -> None:
        if self._flac:
            self._last_packet = bytes(packet)
        if packet.pos is not None:
            self._decoded_end = packet.pos + packet.size
        if frames:
            self._broken += self._broken_end
            self._broken_end = []
            self._decoded_bytes += packet.size
            self._decoded_seconds += sum(frame.samples / frame.sample_rate for frame in frames)

    def _check_rate(self, frame: AudioFrame) -> None:
        if not MIN_FILE_RATE <= frame.sample_rate <= MAX_FILE_RATE:
            raise AudioError(
                f"{self._name}: states {frame.sample_rate} samples per second; expected {MIN_FILE_RATE} to "
                f"{MAX_FILE_RATE}; is the header damaged?"
            )

    def _lost_seconds(self, packet: "Packet[AudioStream]") -> float:
        """Estimate the length of the broken audio before a packet, from its bytes and those of decoded packets."""
        if not self._broken_end or packet.pos is None or self._decoded_end is None or not self._decoded_bytes:
            return 0.0
        return max(0, packet.pos - self._decoded_end) * self._decoded_seconds / self._decoded_bytes

    def check_end(self, length: StatedLength) -> None:
        """Raise ``AudioError`` if the file is truncated."""
        end = self.timeline.end - self.timeline.leading_silence
        if length.is_truncated(end, self.timeline.longest_frame, self._last_packet_is_broken()):
            rescue = ", or extract the readable part with: ffmpeg -i FILE part.wav" if end else ""
            total = "an unknown number of" if length.seconds is None else f"{length.seconds:.2f}"
            raise AudioError(
                f"{self._name}: {end:.2f} of {total} seconds can be read, the end is broken or missing; expected a "
                f"complete file; copy or download it again{rescue}"
            )

    def _last_packet_is_broken(self) -> bool:
        """Return whether the last packet cannot be decoded completely."""
        return bool(self._broken_end) or (self._flac and not is_complete_flac_frame(self._last_packet))

    def warning(self, length: StatedLength, placed: bool) -> str | None:
        """Return a line that reports missing and damaged audio, or None if there is none.

        ``placed`` is true if frames were placed by their timestamps, with silence for missing audio.
        """
        timeline, parts = self.timeline, []
        earlier = "; everything after it comes that much earlier"
        if placed and timeline.gaps:
            parts.append(f"missing audio was replaced by silence: {format_spans(timeline.gaps)}")
        if placed and timeline.overlaps:
            parts.append(f"duplicate audio was cut: {format_spans(timeline.overlaps)}")
        if placed and timeline.ignored:
            parts.append(f"timestamps after implausibly long gaps were ignored: {format_spans(timeline.ignored)}")
        missing = [gap for gap in timeline.gaps if gap.start or not timeline.leading_silence]
        if missing and not placed:
            parts.append(f"missing audio: {format_spans(missing)}{earlier}")
        if self._broken:
            places = f"{len(self._broken)} place(s), the first at {self._broken[0]:.2f} s"
            parts.append(f"broken audio was left out at {places}{'' if placed or missing else earlier}")
        if length.incomplete_page or (self._broken_end and length.seconds is None):
            parts.append("the last packet is broken and was left out; the end may be missing")
        return f"{self._name}: {'; '.join(parts)}" if parts else None


def _is_audio(packet: "Packet[AudioStream]") -> bool:
    """Return whether a packet that cannot be decoded may be audio: a tag or trailing zeros are not."""
    data = bytes(packet)
    tag = (
        data[:3] in (b"ID3", b"TAG") or data[:8] == b"APETAGEX" or any(name in data[:64] for name in (b"Xing", b"Info"))
    )
    return bool(data.strip(b"\0")) and not tag


def is_complete_flac_frame(data: bytes) -> bool:
    """Return whether a FLAC frame is complete, by the CRC-16 at its end. An ID3v1 tag may follow it."""
    if len(data) > 128 and data[-128:-125] == b"TAG":
        data = data[:-128]
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC_TABLE[crc >> 8 ^ byte]
    return crc == 0


def _crc_table() -> list[int]:
    """Return the table of the CRC-16 with the polynomial x^16 + x^15 + x^2 + 1: an entry for each byte."""
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x18005 if value & 0x8000 else 0)) & 0xFFFF
        table.append(value)
    return table


_CRC_TABLE = _crc_table()
