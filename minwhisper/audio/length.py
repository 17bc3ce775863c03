"""Chapter 1, beneath it: where a file states how long its audio is, and whether that much of it is there.

FFmpeg reads what is there of a file and calls it the whole. So the file's own bytes are compared with what its header
states: the size of the part that holds the audio, or the number of samples. Only a statement about bytes or samples
counts. A placeholder of a program that did not know the size yet is none, nor is a duration that was estimated. A
format without such a statement ends where it ends.

Walkthrough: section 2.
"""

from collections.abc import Callable
from typing import NamedTuple

from av.audio.stream import AudioStream
from av.container import InputContainer

from .input import Input

TOLERANCE = 0.05  # seconds that a healthy file may lack of the length it states, and a packet on top
GIB = 1 << 30
LARGEST_PAGE = 65_307  # bytes of a page in an Ogg file
PLACEHOLDER_TOLERANCE = 1 << 16  # bytes by which a placeholder may be off a round number, for headers


class StatedLength(NamedTuple):
    """A file's statement of its length."""

    seconds: float | None = None  # None: it does not state it
    bytes_missing: bool = False  # the file ends before the audio in it does, by its own numbers
    exact: bool = False  # it counts samples
    torn: bool = False  # it states no length, and the last page of packets in it is incomplete

    def is_truncated(self, end: float, longest_frame: float, torn: bool) -> bool:
        """Tell whether audio is missing that was decoded up to ``end`` seconds.

        ``longest_frame`` is in seconds; ``torn`` is true if the last packet could not be decoded.
        """
        if self.seconds is None:
            return self.bytes_missing and torn
        missing = self.seconds - end
        if self.bytes_missing:
            return missing > TOLERANCE + longest_frame or (torn and missing > longest_frame / 2)
        return torn and missing > (0.001 if self.exact else 0.01 + longest_frame)


def stated_length(file: Input, container: InputContainer, stream: AudioStream) -> StatedLength:
    """Return how long a file states that its audio is, and whether bytes of it are missing."""
    position = file.tell()
    try:
        find = _READERS.get(container.format.name)
        return find(file, container, stream) if find else StatedLength()
    finally:
        file.seek(position)


def _seconds(stream: AudioStream) -> float | None:
    """Return the length of a track by the file's header, or by FFmpeg's estimate."""
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def is_placeholder(size: int) -> bool:
    """Tell whether a size is what programs write that do not know it yet: 0, about 1 GiB, or 2 GiB less a little.

    >>> is_placeholder(0xFFFFFFFF), is_placeholder(0x7FFFFFFF), is_placeholder(1 << 30), is_placeholder(300_000)
    (True, True, True, False)
    """
    return size == 0 or size >= 0x7F000000 or abs(size - GIB) <= PLACEHOLDER_TOLERANCE


# --- Files made of chunks ----------------------------------------------------------------------------------------


def _find_chunk(file: Input, name: bytes, start: int, order: str, width: int = 4) -> tuple[int, int] | None:
    """Return where a chunk's content begins and the size it states, by walking from chunk to chunk; None without it.

    A chunk is a name of 4 bytes, a size of ``width`` bytes, and the content; with a width of 4, of an even size.
    """
    position = start
    for _ in range(1000):
        head = file.at(position, 4 + width)
        if len(head) < 4 + width:
            return None
        size = int.from_bytes(head[4:], "big" if order == "big" else "little")
        if head[:4] == name:
            return position + 4 + width, size
        position += 4 + width + size + (size & 1 if width == 4 else 0)
    return None


def _compare_chunk(file: Input, found: tuple[int, int] | None, stream: AudioStream) -> StatedLength:
    """Compare a chunk of samples with the file: its size as stated and what is there of it."""
    if found is None:
        return StatedLength()
    begin, size = found
    seconds = _seconds(stream)
    present = file.size - begin
    if is_placeholder(size) or seconds is None or present <= 0 or size <= present:
        return StatedLength()
    rate = stream.bit_rate or 0
    return StatedLength(8 * size / rate if rate > 0 else seconds, True)


def _wav(file: Input, _container: InputContainer, stream: AudioStream) -> StatedLength:
    head = file.at(0, 4)
    found = _find_chunk(file, b"data", 12, "little" if head != b"RIFX" else "big")
    if head == b"RF64" or head == b"BW64":  # the size is in a chunk of its own, in 8 bytes
        sizes = _find_chunk(file, b"ds64", 12, "little")
        if found is None or sizes is None:
            return StatedLength()
        found = found[0], int.from_bytes(file.at(sizes[0] + 8, 8), "little")
        if is_placeholder(found[1] & 0xFFFFFFFF):
            return StatedLength()
    return _compare_chunk(file, found, stream)


def _aiff(file: Input, _container: InputContainer, stream: AudioStream) -> StatedLength:
    return _compare_chunk(file, _find_chunk(file, b"SSND", 12, "big"), stream)


def _caf(file: Input, _container: InputContainer, stream: AudioStream) -> StatedLength:
    found = _find_chunk(file, b"data", 8, "big", width=8)
    if found is None or found[1] >= 1 << 62:  # -1: up to the end of the file
        return StatedLength()
    return _compare_chunk(file, found, stream)


def _au(file: Input, _container: InputContainer, stream: AudioStream) -> StatedLength:
    head = file.at(0, 12)
    return _compare_chunk(file, (int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")), stream)


def _flac(_file: Input, _container: InputContainer, stream: AudioStream) -> StatedLength:
    samples = stream.duration or 0  # of 36 bits
    return (
        StatedLength()
        if samples in (0x3FFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFF)
        else StatedLength(_seconds(stream), exact=True)
    )


# --- MP3 ---------------------------------------------------------------------------------------------------------


def _mp3(file: Input, _container: InputContainer, stream: AudioStream) -> StatedLength:
    """Read the number of bytes in the silent frame, named Xing or Info, with which many MP3 files begin.

    Of files that were joined, the first one's speaks for itself only, and FFmpeg estimates the length instead.
    """
    head = file.at(0, 10).ljust(10, b"\0")
    first = 0
    if head[:3] == b"ID3":  # titles and pictures before the first frame; seven bits of each byte state their size
        first = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    frame = file.at(first, 64)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if frame[:1] != b"\xff" or tag <= 0 or len(frame) < 64:
        return StatedLength()
    flags = int.from_bytes(frame[tag + 4 : tag + 8], "big")  # 1: it has the number of frames, 2: of bytes
    if flags & 3 != 3:
        return StatedLength()
    stated = first + int.from_bytes(frame[tag + 12 : tag + 16], "big")
    return StatedLength(_seconds(stream), file.size < stated) if file.size < 1.05 * stated else StatedLength()


# --- Ogg ---------------------------------------------------------------------------------------------------------


def _ogg(file: Input, _container: InputContainer, _stream: AudioStream) -> StatedLength:
    """Compare the last page, which holds about a second and which FFmpeg leaves out if it is torn, with its sizes."""
    tail = file.at(max(0, file.size - 2 * LARGEST_PAGE), 2 * LARGEST_PAGE)
    begin = tail.rfind(b"OggS")
    if begin < 0:
        return StatedLength()
    page = tail[begin:]
    segments = page[26] if len(page) > 26 else 0  # whose sizes come next, a byte each
    return StatedLength(torn=len(page) < 27 + segments + sum(page[27 : 27 + segments]))


# --- MP4 and Matroska --------------------------------------------------------------------------------------------


def _mp4(file: Input, _container: InputContainer, stream: AudioStream) -> StatedLength:
    """Walk the boxes: media that goes on behind the end of the file is missing."""
    position = 0
    for _ in range(1_000_000):
        head = file.at(position, 16)
        if len(head) < 8:
            break
        size = int.from_bytes(head[:4], "big")
        if size == 1:  # the size is behind the name, in 8 bytes
            size = int.from_bytes(head[8:16], "big")
        if size < 8:  # 0: up to the end of the file
            break
        if head[4:8] == b"mdat" and position + size > file.size:
            return StatedLength(_seconds(stream), True)
        position += size
    return StatedLength()


def _matroska(file: Input, container: InputContainer, stream: AudioStream) -> StatedLength:
    """Compare the size of the segment, which holds everything, with the file."""
    begin, size = _segment(file)
    if size is None or begin + size <= file.size:
        return StatedLength()
    seconds = None if container.duration is None else container.duration / 1e6
    try:  # the time at which the track ends, such as 00:00:01.964000000
        hours, minutes, rest = map(float, stream.metadata.get("DURATION", "").split(":"))
        seconds = hours * 3600 + minutes * 60 + rest
    except ValueError:
        pass
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    return StatedLength(None if seconds is None else seconds - start, True)


def _segment(file: Input) -> tuple[int, int | None]:
    """Return where a Matroska file's segment begins and the size it states; None if it is unknown."""
    position = 0
    for _ in range(10):
        head = file.at(position, 12)
        if len(head) < 12 or head[0] < 16:
            break
        width = 9 - head[4].bit_length()  # bytes of the size: the zeros at its front tell
        if width > 8:
            break
        value = int.from_bytes(head[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        if head[:4] == b"\x18\x53\x80\x67":
            return position + 4 + width, None if value == (1 << 7 * width) - 1 else value
        position += 4 + width + value
    return 0, None


_READERS: dict[str, Callable[[Input, InputContainer, AudioStream], StatedLength]] = {
    "wav": _wav,
    "aiff": _aiff,
    "caf": _caf,
    "au": _au,
    "flac": _flac,
    "mp3": _mp3,
    "ogg": _ogg,
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
    "matroska,webm": _matroska,
}
