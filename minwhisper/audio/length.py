"""Chapter 1: the length that a file states → whether the file is truncated.

FFmpeg decodes a truncated file without an error. So the file is compared with its own header, which states the size of
the audio in bytes or the number of samples. Placeholders, written before the size was known, and estimated durations
are ignored. In a format without such a statement, truncation cannot be recognised.

Walkthrough: section 2.
"""

from collections.abc import Callable
from typing import NamedTuple

from av.audio.stream import AudioStream
from av.container import InputContainer

from .input import InputFile

TOLERANCE = 0.05  # seconds by which a complete file may be shorter than stated, plus one packet
GIB = 1 << 30
MAX_OGG_PAGE = 65_307  # bytes
PLACEHOLDER_TOLERANCE = 1 << 16  # bytes by which a placeholder may differ from 1 GiB, because of headers


class StatedLength(NamedTuple):
    """The length that a file states, compared with its size."""

    seconds: float | None = None  # None if it states no length
    bytes_missing: bool = False  # according to its header, the audio continues after the end of the file
    exact: bool = False  # the length is a number of samples
    incomplete_page: bool = False  # it states no length, and its last page of packets is incomplete

    def is_truncated(self, end: float, longest_frame: float, broken_end: bool) -> bool:
        """Return whether a file that was decoded up to ``end`` seconds is truncated.

        ``longest_frame`` is in seconds. ``broken_end`` is true if the last packet could not be decoded.
        """
        if self.seconds is None:
            return self.bytes_missing and broken_end
        missing = self.seconds - end
        if self.bytes_missing:
            return missing > TOLERANCE + longest_frame or (broken_end and missing > longest_frame / 2)
        return broken_end and missing > (0.001 if self.exact else 0.01 + longest_frame)


def stated_length(file: InputFile, container: InputContainer, stream: AudioStream) -> StatedLength:
    """Return the length that a file states; the file's position does not change."""
    position = file.tell()
    try:
        find = _READERS.get(container.format.name)
        return find(file, container, stream) if find else StatedLength()
    finally:
        file.seek(position)


def _seconds(stream: AudioStream) -> float | None:
    """Return the duration of a track, from the file's header or estimated by FFmpeg."""
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def is_placeholder(size: int) -> bool:
    """Return whether a size is a placeholder, written before it was known: 0, about 1 GiB, or almost 2 GiB and more.

    >>> is_placeholder(0xFFFFFFFF), is_placeholder(0x7FFFFFFF), is_placeholder(1 << 30), is_placeholder(300_000)
    (True, True, True, False)
    """
    return size == 0 or size >= 0x7F000000 or abs(size - GIB) <= PLACEHOLDER_TOLERANCE


# --- Chunk-based formats ----------------------------------------------------------------------------------------


def _find_chunk(file: InputFile, name: bytes, start: int, order: str, width: int = 4) -> tuple[int, int] | None:
    """Return the position of a chunk's content and its stated size, or None if the file has no such chunk.

    A chunk is a name of 4 bytes, a size of ``width`` bytes, and the content, padded to an even size if ``width`` is 4.
    ``start`` is the position of the first chunk.
    """
    position = start
    for _ in range(1000):
        head = file.read_at(position, 4 + width)
        if len(head) < 4 + width:
            return None
        size = int.from_bytes(head[4:], "big" if order == "big" else "little")
        if head[:4] == name:
            return position + 4 + width, size
        position += 4 + width + size + (size & 1 if width == 4 else 0)
    return None


def _compare_chunk(file: InputFile, found: tuple[int, int] | None, stream: AudioStream) -> StatedLength:
    """Compare the stated size of a chunk of samples with the size of the file."""
    if found is None:
        return StatedLength()
    begin, size = found
    seconds = _seconds(stream)
    present = file.size - begin
    if is_placeholder(size) or seconds is None or present <= 0 or size <= present:
        return StatedLength()
    rate = stream.bit_rate or 0
    return StatedLength(8 * size / rate if rate > 0 else seconds, True)


def _wav(file: InputFile, _container: InputContainer, stream: AudioStream) -> StatedLength:
    head = file.read_at(0, 4)
    found = _find_chunk(file, b"data", 12, "little" if head != b"RIFX" else "big")
    if head == b"RF64" or head == b"BW64":  # the size is 8 bytes in another chunk
        sizes = _find_chunk(file, b"ds64", 12, "little")
        if found is None or sizes is None:
            return StatedLength()
        found = found[0], int.from_bytes(file.read_at(sizes[0] + 8, 8), "little")
        if is_placeholder(found[1] & 0xFFFFFFFF):
            return StatedLength()
    return _compare_chunk(file, found, stream)


def _aiff(file: InputFile, _container: InputContainer, stream: AudioStream) -> StatedLength:
    return _compare_chunk(file, _find_chunk(file, b"SSND", 12, "big"), stream)


def _caf(file: InputFile, _container: InputContainer, stream: AudioStream) -> StatedLength:
    found = _find_chunk(file, b"data", 8, "big", width=8)
    if found is None or found[1] >= 1 << 62:  # -1 means up to the end of the file
        return StatedLength()
    return _compare_chunk(file, found, stream)


def _au(file: InputFile, _container: InputContainer, stream: AudioStream) -> StatedLength:
    head = file.read_at(0, 12)
    return _compare_chunk(file, (int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")), stream)


def _flac(_file: InputFile, _container: InputContainer, stream: AudioStream) -> StatedLength:
    placeholders = (0x3FFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFF)  # the field has 36 bits
    return StatedLength() if stream.duration in placeholders else StatedLength(_seconds(stream), exact=True)


# --- MP3 ---------------------------------------------------------------------------------------------------------


def _mp3(file: InputFile, _container: InputContainer, stream: AudioStream) -> StatedLength:
    """Read the number of bytes from the Xing or Info header, a silent frame at the start of many MP3 files.

    In concatenated files, the header covers only the first file, and FFmpeg estimates the duration instead.
    """
    head = file.read_at(0, 10).ljust(10, b"\0")
    first = 0
    if head[:3] == b"ID3":  # tags before the first frame; their size has 7 bits per byte
        first = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    frame = file.read_at(first, 64)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if frame[:1] != b"\xff" or tag <= 0 or len(frame) < 64:
        return StatedLength()
    flags = int.from_bytes(frame[tag + 4 : tag + 8], "big")  # 1: has the number of frames, 2: has the number of bytes
    if flags & 3 != 3:
        return StatedLength()
    stated = first + int.from_bytes(frame[tag + 12 : tag + 16], "big")
    return StatedLength(_seconds(stream), file.size < stated) if file.size < 1.05 * stated else StatedLength()


# --- Ogg ---------------------------------------------------------------------------------------------------------


def _ogg(file: InputFile, _container: InputContainer, _stream: AudioStream) -> StatedLength:
    """Check that the last page, about a second of audio, is complete; FFmpeg leaves out an incomplete one."""
    tail = file.read_at(max(0, file.size - 2 * MAX_OGG_PAGE), 2 * MAX_OGG_PAGE)
    begin = tail.rfind(b"OggS")
    if begin < 0:
        return StatedLength()
    page = tail[begin:]
    segments = page[26] if len(page) > 26 else 0  # their sizes come next, one byte each
    return StatedLength(incomplete_page=len(page) < 27 + segments + sum(page[27 : 27 + segments]))


# --- MP4 and Matroska --------------------------------------------------------------------------------------------


def _mp4(file: InputFile, _container: InputContainer, stream: AudioStream) -> StatedLength:
    """Find out whether the box of media data continues after the end of the file."""
    position = 0
    for _ in range(1_000_000):
        head = file.read_at(position, 16)
        if len(head) < 8:
            break
        size = int.from_bytes(head[:4], "big")
        if size == 1:  # the size is 8 bytes after the name
            size = int.from_bytes(head[8:16], "big")
        if size < 8:  # 0 means up to the end of the file
            break
        if head[4:8] == b"mdat" and position + size > file.size:
            return StatedLength(_seconds(stream), True)
        position += size
    return StatedLength()


def _matroska(file: InputFile, container: InputContainer, stream: AudioStream) -> StatedLength:
    """Compare the size of the segment, the element that contains all others, with the size of the file."""
    begin, size = _segment(file)
    if size is None or begin + size <= file.size:
        return StatedLength()
    seconds = None if container.duration is None else container.duration / 1e6
    try:  # the end of the track, such as 00:00:01.964000000
        hours, minutes, rest = map(float, stream.metadata.get("DURATION", "").split(":"))
        seconds = hours * 3600 + minutes * 60 + rest
    except ValueError:
        pass
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    return StatedLength(None if seconds is None else seconds - start, True)


def _segment(file: InputFile) -> tuple[int, int | None]:
    """Return the position of a Matroska segment's content and its stated size, None if it is unknown."""
    position = 0
    for _ in range(10):
        head = file.read_at(position, 12)
        if len(head) < 12 or head[0] < 16:
            break
        width = 9 - head[4].bit_length()  # bytes of the size, one more than its leading zero bits
        if width > 8:
            break
        value = int.from_bytes(head[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        if head[:4] == b"\x18\x53\x80\x67":
            return position + 4 + width, None if value == (1 << 7 * width) - 1 else value
        position += 4 + width + value
    return 0, None


_READERS: dict[str, Callable[[InputFile, InputContainer, AudioStream], StatedLength]] = {
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
