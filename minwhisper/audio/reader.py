"""Chapter 1: an audio or video file → samples, by FFmpeg's libraries through PyAV.

One audio track is decoded packet by packet. With ``timeline=True``, each frame is placed by its timestamp. Frames are
mixed down to one channel, resampled and stored. A truncated file is an error.

Walkthrough: section 2.
"""

import ctypes
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from ..errors import AudioError
from .input import InputFile, open_source
from .length import stated_length
from .resampling import Resampler
from .sample_store import SampleStore
from .timeline import Timeline
from .track_decoder import FFMPEG_ERRORS, TrackDecoder
from .tracks import empty_tracks, select_track

# Limits for damaged files that would decode to days of audio: a constant, plus a part proportional to the file's size.
FREE_SECONDS, SECONDS_PER_BYTE = 600.0, 0.1  # of audio; silence compresses to few bytes
GAP_SECONDS_PER_BYTE = 0.01  # of gaps, on top of FREE_SECONDS
FREE_CHANGES, BYTES_PER_CHANGE = 30, 100_000  # changes of format, as in concatenated files
MAX_ALLOCATION = 256 << 20  # bytes that FFmpeg may allocate at a time: the tables of an MP4 of 60 hours
SILENCE_BLOCK = 1 << 16  # samples of silence written at a time
# Before version 19, PyAV raises an error for a title that is not UTF-8, unless this option is set.
_OPEN_OPTIONS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}


@dataclass
class DecodedAudio:
    """The samples of a decoded file, and information about its track and its damage."""

    store: SampleStore
    leading_silence: float = 0.0  # seconds before the track starts, if frames were placed by their timestamps
    track: str | None = None  # a line that names the selected track, if there are several
    warning: str | None = None  # missing or damaged audio


def decode_audio(source: object, rate: int, *, timeline: bool = False, track: int | str | None = None) -> DecodedAudio:
    """Decode an audio file to mono samples at ``rate`` per second; the caller closes the store.

    ``source`` is a path, ``"-"`` for standard input, a file's bytes, or a file opened with mode ``"rb"``. With
    ``timeline``, frames are placed by their timestamps. ``track`` is a number from 1 or a language code.
    Raises ``AudioError`` if the file cannot be opened, is not audio or is truncated, or if storage is full.
    """
    name, opened = open_source(source)
    with opened, ExitStack() as on_error:
        decoded = DecodedAudio(SampleStore())
        on_error.callback(decoded.store.close)
        file = InputFile(name, opened)
        try:
            with _bounded_allocations():
                _decode_into(decoded, name, file, rate, timeline, track)
        except AudioError:
            file.raise_read_error()  # the probable cause
            raise
        file.raise_read_error()
        if not decoded.store.size:
            raise AudioError(f"{name}: no audio samples; expected an audio file with audio in it; record it again")
        on_error.pop_all()
    return decoded


def _decode_into(
    decoded: DecodedAudio, name: str, file: InputFile, rate: int, timeline: bool, track: int | str | None
) -> None:
    """Decode a file and store its samples and warnings in ``decoded``."""
    error: Exception | None = None
    max_seconds = FREE_SECONDS + SECONDS_PER_BYTE * file.size
    try:
        container = _open_container(file)
        empty: set[int] = set()
        if track is None and len(container.streams.audio) > 1:
            with container:
                empty = empty_tracks(container)
            file.seek(0)
            container = _open_container(file)
        with container:
            stream, decoded.track = select_track(name, container, track, empty)
            length = stated_length(file, container, stream)
            origin = None if container.start_time is None else container.start_time / 1e6
            places = Timeline(container.format.name, origin, FREE_SECONDS + GAP_SECONDS_PER_BYTE * file.size)
            decoder = TrackDecoder(name, container, stream, places)
            frames = ((frame, layout, start if timeline else None) for frame, layout, start in decoder.frames())
            resampler = Resampler("s16", rate)
            for samples in _place_samples(_resample_frames(frames, resampler), rate):
                decoded.store.append(samples)
                if decoded.store.size > max_seconds * rate:
                    raise _out_of_proportion(name, file, f"more than {max_seconds:.0f} seconds of audio")
                if resampler.formats > FREE_CHANGES + file.size // BYTES_PER_CHANGE:
                    raise _out_of_proportion(name, file, f"more than {resampler.formats - 1} changes of format")
    except AudioError:
        raise
    except FFMPEG_ERRORS as caught:
        error = caught
    if error is not None:  # outside the except clause: a refused allocation in its context would count as out of memory
        raise _not_audio(name, error) from (None if isinstance(error, MemoryError) else error)
    decoder.check_end(length)
    decoded.leading_silence = decoder.timeline.leading_silence if timeline else 0.0
    decoded.warning = decoder.warning(length, timeline)


def _open_container(file: InputFile) -> InputContainer:
    # The empty whitelist keeps playlists from opening other files.
    return av.open(file, mode="r", container_options={"protocol_whitelist": "none"}, **_OPEN_OPTIONS)


def _out_of_proportion(name: str, file: InputFile, content: str) -> AudioError:
    return AudioError(f"{name}: {file.size} bytes with {content}; expected less for this size; is the file damaged?")


def _not_audio(name: str, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        reason = "a size in it requires more memory than audio needs"
    return AudioError(
        f"{name}: not an audio file that FFmpeg can read ({reason}); expected WAV, FLAC, MP3, Ogg, MP4 or similar, "
        "complete and not encrypted"
    )


@contextmanager
def _bounded_allocations() -> Iterator[None]:
    """Make FFmpeg reject allocations above ``MAX_ALLOCATION``, which a damaged size in a file may cause."""
    try:  # FFmpeg's functions can be found through one of PyAV's libraries, on most systems
        set_limit = ctypes.CDLL(sys.modules[AudioFrame.__module__].__file__).av_max_alloc
    except (OSError, AttributeError):
        yield
        return
    set_limit(ctypes.c_size_t(MAX_ALLOCATION))
    try:
        yield
    finally:
        set_limit(ctypes.c_size_t(2**31 - 1))  # FFmpeg's default


def _resample_frames(
    frames: Iterable[tuple[AudioFrame, str, float | None]], resampler: Resampler
) -> Iterator[NDArray[np.int16] | float]:
    """Mix and resample frames to mono; before samples that start at a new position, yield that position in seconds.

    The samples are 16-bit integers, as in openai-whisper. For floats, FFmpeg would mix stereo 1.41 times louder.
    """
    for frame, layout, start in frames:
        if start is not None:
            yield from resampler.flush()
            yield start
        yield from resampler.push(frame, layout)
    yield from resampler.flush()


def _place_samples(pieces: Iterable[NDArray[np.int16] | float], rate: int) -> Iterator[NDArray[np.int16]]:
    """Yield the samples (N,) in order, with gaps filled with silence and duplicates cut."""
    size = skip = 0  # samples so far, and duplicate samples still to skip
    for piece in pieces:
        if isinstance(piece, float):
            start = round(piece * rate)
            for first in range(size, start, SILENCE_BLOCK):
                yield np.zeros(min(SILENCE_BLOCK, start - first), np.int16)
            size, skip = max(size, start), max(0, size - start)
        else:
            new = piece[skip:]
            size, skip = size + new.size, skip - (piece.size - new.size)
            yield new
