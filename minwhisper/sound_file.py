"""Chapter 1, beneath it: what is in a sound file, by FFmpeg's libraries through PyAV.

A file becomes samples in three steps: it is opened, one of its tracks is decoded packet by packet, and what comes out
is mixed down to one channel and resampled. FFmpeg takes what is there of a file for the whole of it, so the fourth part
is about the end: how long a file says it is, by which one that stops before is refused.

Walkthrough: section 2.
"""

import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from .errors import AudioError
from .sample_store import SampleStore

MISSING_SECONDS = 0.05  # what a healthy file may lack of the length it states, and a packet on top
# Containers whose header states how long each stream is. Of the others, FFmpeg measures or guesses the length.
STATING_FORMATS = ("flac", "aiff", "au", "mov,mp4,m4a,3gp,3g2,mj2")


def store_sound(source: object, rate: int) -> SampleStore:
    """The samples of a sound file, mono at ``rate`` a second, decoded once and for all; the caller closes the store.

    ``source`` is a path, ``"-"`` for standard input, a file's bytes, or a file opened with mode ``"rb"``.
    Raises :class:`AudioError` for what cannot be opened, is no sound, ends before it should, or finds no room.
    """
    name, file = _open(source)
    with _reading(name), file, ExitStack() as on_failure:
        store = SampleStore()
        on_failure.callback(store.close)
        for pcm in _decode(name, file, rate):
            store.append(pcm)
        if not store.size:
            raise AudioError(f"{name}: a sound file without a single sample; expected some sound, record it again?")
        on_failure.pop_all()
    return store


def resample(samples: NDArray[np.float32], rate: int, to: int) -> NDArray[np.float32]:
    """Samples (N,) at ``rate`` a second as samples at ``to`` a second, about N · to / rate of them, all in float32."""
    return np.concatenate([samples[:0], *_resampled(_array_frames(samples, rate), "flt", to)])


# --- Opening ------------------------------------------------------------------------------------------------------


def _open(source: object) -> tuple[str, BinaryIO]:
    """A source that is not an array, as what to call it in a message and a seekable file of its bytes."""
    if isinstance(source, bytes | bytearray | memoryview):
        name, file = f"the {len(source)} bytes given", cast(BinaryIO, io.BytesIO(source))
    elif isinstance(source, str) and source == "-":
        name, file = "standard input", io.BytesIO(_standard_input())
    elif isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        name, file = repr(path), _open_path(path)
    elif hasattr(source, "read"):
        name = f"file {getattr(source, 'name', type(source).__name__)!r}"
        try:
            content = "" if isinstance(source, io.TextIOBase) else source.read()
        except (OSError, ValueError) as error:  # opened for writing, or closed
            raise AudioError(f"{name}: cannot be read ({error}); open it with mode 'rb'") from error
        if not isinstance(content, bytes):
            raise AudioError(f"{name}: expected bytes, the file was opened as text; open it with mode 'rb'")
        file = io.BytesIO(content)
    else:
        raise AudioError(
            f"{type(source).__name__}: no sound; expected a path, bytes, a file opened with mode 'rb', "
            "'-' for standard input, or a NumPy array (numpy.asarray makes one of most things)"
        )
    with _reading(name), ExitStack() as on_failure:
        on_failure.callback(file.close)
        if file.seek(0, os.SEEK_END) == 0:
            raise AudioError(f"{name}: empty, 0 bytes; expected a sound file, was it copied or recorded to the end?")
        file.seek(0)
        on_failure.pop_all()
    return name, file


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what the system reports while a file is read (a sick disk, a broken pipe) into an :class:`AudioError`."""
    try:
        yield
    except OSError as error:
        raise AudioError(
            f"{name}: cannot be read ({error.strerror or error}); expected an audio file: check the disk, the network "
            "share or the program that it comes from, and try again"
        ) from error


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise AudioError("standard input: closed; expected the bytes of a sound file")
    with _reading("standard input"):
        return sys.stdin.buffer.read()


def _open_path(path: str) -> BinaryIO:
    """Open a local file. Python opens it, not FFmpeg, to which ``concat:a.wav`` or ``-x.wav`` mean other things."""
    try:
        file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    except (FileNotFoundError, NotADirectoryError):
        hint = "expected a path to a sound file; check the spelling and the folder"
        if "://" in path:
            hint = "expected a local path; addresses are not fetched, download it first"
        raise AudioError(f"{path!r}: no such file; {hint}") from None
    except (IsADirectoryError, PermissionError) as error:
        if os.path.isdir(path):
            raise AudioError(f"{path!r}: a folder; expected one sound file, name a file in it") from None
        raise AudioError(f"{path!r}: no permission to read it; change its permissions or its owner") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path!r}: cannot be opened ({reason}); expected a path to a sound file") from error
    if file.seekable():
        return file
    with _reading(repr(path)), file:  # a pipe
        return io.BytesIO(file.read())


# Before version 19, PyAV stops at a title that is not UTF-8 unless told not to; since then it never does.
_LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}


# --- Decoding -----------------------------------------------------------------------------------------------------


def _decode(name: str, file: BinaryIO, rate: int) -> Iterator[NDArray[np.int16]]:
    """The samples of an open file, piece by piece: (N,) each at ``rate`` a second.

    They are 16-bit integers, as in openai-whisper: asked for floats, the resampler would scale a stereo sound to keep
    its power and not its level, 1.41 times louder.
    """
    size, stated_size = _file_sizes(file)
    try:
        container = av.open(
            file,
            mode="r",
            container_options={"protocol_whitelist": "none"},  # a playlist may not open further files
            **_LENIENT,
        )
    except av.FFmpegError as error:
        raise _not_sound(name, error) from error
    with container:
        stream = _pick_stream(name, container)
        stated = _stated_seconds(container, stream, size, stated_size)
        try:
            yield from _resampled(_decoded_frames(name, container, stream, stated), "s16", rate)
        except AudioError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise _not_sound(name, error) from error


def _not_sound(name: str, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or error
    return AudioError(
        f"{name}: not a sound that FFmpeg can read ({reason}); expected WAV, FLAC, MP3, Ogg, M4A, MP4 or the like, "
        "complete and not encrypted"
    )


def _pick_stream(name: str, container: InputContainer) -> AudioStream:
    """The sound track to load, as the ffmpeg command chooses: the default one, else the one with most channels."""
    tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not tracks:
        others = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise AudioError(f"{name}: no sound in it that can be decoded, only {others}; expected an audio track")
    return max(tracks, key=lambda stream: (bool(stream.disposition & Disposition.default), stream.channels))


def _decoded_frames(
    name: str, container: InputContainer, stream: AudioStream, stated: float | None
) -> Iterator[AudioFrame]:
    """Decode packet after packet: warn of broken ones in the middle, refuse a file whose end is broken or missing."""
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    reached = longest = 0.0  # seconds: the end of the last frame that could be decoded, the longest frame
    broken: list[float] = []  # seconds at which packets could not be
    broken_end = False
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                broken.append(reached)
                broken_end = True
                continue
            for frame in frames:  # their times and not the packet's, as the last come after the last packet
                begin, seconds = reached, frame.samples / frame.sample_rate
                if frame.pts is not None and frame.time_base:
                    begin = float(frame.pts * frame.time_base) - start
                if container.format.name == "flac" and begin > reached + 1e-3:
                    broken.append(reached)  # FFmpeg leaves out broken packets of a FLAC file by itself
                reached, longest = max(reached, begin + seconds), max(longest, seconds)
            if frames and packet.size:
                broken_end = False
            yield from frames
    except av.FFmpegError:  # the file itself cannot be read further
        broken_end = True
    except IndexError:  # PyAV has read it all and stumbles over a track that turned up late, as MPEG-TS allows
        pass
    missing = np.inf if stated is None else stated - reached
    # Junk after the last packet, such as a tag, may look like a broken packet or break the last one.
    if (broken_end and missing > 0.01 + longest) or np.inf > missing > MISSING_SECONDS + longest:
        rescue = ", or save what is there with: ffmpeg -i FILE rescued.wav" if reached else ""
        total = "an unknown number of" if stated is None else f"{stated:.2f}"
        raise AudioError(
            f"{name}: {reached:.2f} of {total} seconds can be read, the end is broken or missing; expected a complete "
            f"file: copy or download it again{rescue}"
        )
    if broken and not broken_end:
        warnings.warn(
            f"{name}: left out broken sound at {len(broken)} place(s), the first at {broken[0]:.2f} s; "
            "what follows comes earlier by as much",
            stacklevel=7,  # past the three generators, store_sound, _samples_of, and open_sound or load_audio
        )


# --- How long it should be ----------------------------------------------------------------------------------------


def _file_sizes(file: BinaryIO) -> tuple[int, int | None]:
    """How many bytes a file has, and how many its own first bytes say it has, for WAV and MP3; None if they do not.

    FFmpeg reads what is there of a WAV and calls it the whole. A RIFF size of 0, or of nearly 2 GiB and more, is what
    programs write that did not know it yet.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(10).ljust(10, b"\0")
    first_frame = 0
    if head[:3] == b"ID3":  # titles and pictures before the first frame; seven bits a byte tell how much
        first_frame = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(first_frame)
    frame = file.read(64)
    file.seek(0)
    if head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little")
        return size, 8 + stated if 0 < stated < 0x7FFF0000 else None
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))  # a silent MP3 frame that holds the numbers of the file
    if frame[:1] == b"\xff" and tag > 0 and len(frame) == 64:
        flags = int.from_bytes(frame[tag + 4 : tag + 8], "big")  # 1: it has the count of frames, 2: of bytes
        at = tag + 12 if flags & 1 else tag + 8
        return size, first_frame + int.from_bytes(frame[at : at + 4], "big") if flags & 3 == 3 else None
    return size, None


def _stated_seconds(container: InputContainer, stream: AudioStream, size: int, stated_size: int | None) -> float | None:
    """How long the file says its sound is, in seconds; None where it does not say and FFmpeg can but guess."""
    kind = container.format.name
    if kind == "wav" and container.duration is not None and stated_size is not None:
        return container.duration / 1e6 * max(1.0, stated_size / size)
    if kind == "matroska,webm":
        try:  # the time at which the track ends, such as 00:00:01.964000000
            hours, minutes, seconds = map(float, stream.metadata.get("DURATION", "").split(":"))
        except ValueError:
            return None
        return hours * 3600 + minutes * 60 + seconds - float((stream.start_time or 0) * (stream.time_base or 0))
    # Of MP3 files that were joined, the first one's header speaks for itself only, and FFmpeg guesses instead.
    states = kind in STATING_FORMATS or (kind == "mp3" and stated_size is not None and size < 1.05 * stated_size)
    if states and stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None


# --- Resampling ---------------------------------------------------------------------------------------------------


def _resampled(frames: Iterable[AudioFrame], sample_format: str, rate: int) -> Iterator[NDArray[Any]]:
    """Frames of any rate and layout to mono samples at ``rate``, (N,) each, with the resampler's tail at the end."""
    resampler, shape = AudioResampler(), None
    for frame in frames:
        if shape != (frame.format.name, frame.layout.name, frame.sample_rate):  # at first, and where files were joined
            yield from _mono_samples(resampler.resample(None))
            resampler = AudioResampler(format=sample_format, layout="mono", rate=rate)
            shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        yield from _mono_samples(resampler.resample(frame))
    yield from _mono_samples(resampler.resample(None))


def _mono_samples(frames: Iterable[AudioFrame | None]) -> Iterator[NDArray[Any]]:
    # A resampler with nothing to do hands back the None that asks for its tail.
    return (frame.to_ndarray()[0] for frame in frames if frame is not None)


def _array_frames(samples: NDArray[np.float32], rate: int) -> Iterator[AudioFrame]:
    """Samples (N,) in FFmpeg's frames, a second each or so."""
    for start in range(0, samples.size, 1 << 15):
        block = np.ascontiguousarray(samples[None, start : start + (1 << 15)])
        frame = AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate = rate
        frame.pts = start
        frame.time_base = Fraction(1, rate)
        yield frame
