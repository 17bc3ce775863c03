"""Chapter 1, beneath it: an audio or video file becomes samples, by FFmpeg's libraries through PyAV.

It is opened, one of its tracks is decoded packet by packet, each frame is placed by its timestamp if that is asked for,
and what comes out is mixed down to one channel, resampled and kept. A file that ends before it should is refused.

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
from .input import Input, open_source
from .length import stated_length
from .resampling import Resampler
from .sample_store import SampleStore
from .timeline import Timeline
from .track_decoder import FFMPEG_ERRORS, TrackDecoder
from .tracks import empty_tracks, select_track

FREE_SECONDS = 600.0  # how much audio any file may become, and per byte of it: silence takes few bytes, holes take none
SECONDS_PER_BYTE, GAP_SECONDS_PER_BYTE = 0.1, 0.01
FREE_FORMAT_CHANGES, BYTES_PER_FORMAT_CHANGE = (
    30,
    100_000,
)  # how often the format may change, as in files that were joined
MAX_ALLOCATION = 256 << 20  # bytes that FFmpeg may allocate at a time: the tables of an MP4 of 60 hours
SILENCE = 1 << 16  # samples of silence written at a time
# Before version 19, PyAV stops at a title that is not UTF-8 unless told not to; since then it never does.
_LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}


@dataclass
class DecodedAudio:
    """A decoded file: its samples, and what there is to say about it."""

    store: SampleStore
    leading_silence: float = (
        0.0  # seconds of silence before the track begins, if frames were placed by their timestamps
    )
    track: str | None = None  # which track was read, if there are several
    warning: str | None = None  # what is missing or damaged


def decode_audio(source: object, rate: int, *, timeline: bool = False, track: int | str | None = None) -> DecodedAudio:
    """Decode an audio file to mono samples at ``rate`` per second; the caller closes the store.

    ``source`` is a path, ``"-"`` for standard input, a file's bytes, or a file opened with mode ``"rb"``. With
    ``timeline`` frames are placed by their timestamps. ``track`` is a number from 1 or a language's code.
    Raises :class:`AudioError` for what cannot be opened, is no audio, ends before it should, or finds no room.
    """
    name, file = open_source(source)
    with file, ExitStack() as on_failure:
        found = DecodedAudio(SampleStore())
        on_failure.callback(found.store.close)
        data = Input(name, file)
        try:
            with _bounded_allocations():
                _decode_into(found, name, data, rate, timeline, track)
        except AudioError:
            data.check()  # it may have ended because it could not be read
            raise
        data.check()
        if not found.store.size:
            raise AudioError(f"{name}: a sound file without a single sample; expected some sound, record it again?")
        on_failure.pop_all()
    return found


def _decode_into(
    found: DecodedAudio, name: str, data: Input, rate: int, timeline: bool, track: int | str | None
) -> None:
    """Decode a file, and keep its samples and the warnings."""
    failure: Exception | None
    limit = FREE_SECONDS + SECONDS_PER_BYTE * data.size
    last = FREE_SECONDS + GAP_SECONDS_PER_BYTE * data.size
    try:
        container = _open_container(data)
        empty: set[int] = set()
        if track is None and len(container.streams.audio) > 1:
            with container:
                empty = empty_tracks(container)
            data.seek(0)
            container = _open_container(data)
        with container:
            stream, found.track = select_track(name, container, track, empty)
            length = stated_length(data, container, stream)
            origin = None if container.start_time is None else container.start_time / 1e6
            decoding = TrackDecoder(name, container, stream, Timeline(container.format.name, origin, last))
            frames = decoding.frames()
            placed = frames if timeline else ((frame, layout, None) for frame, layout, _ in frames)
            resampler = Resampler("s16", rate)
            for pcm in _place_samples(_pieces(placed, resampler), rate):
                found.store.append(pcm)
                if found.store.size > limit * rate:
                    raise _out_of_proportion(name, data, f"more than {limit:.0f} seconds of audio")
                if resampler.changes > FREE_FORMAT_CHANGES + data.size // BYTES_PER_FORMAT_CHANGE:
                    raise _out_of_proportion(name, data, f"more than {resampler.changes - 1} changes of format")
    except AudioError:
        raise
    except FFMPEG_ERRORS as error:
        failure = error
    else:
        failure = None
    if failure is not None:  # a refusal to allocate is no lack of memory, and not the cause
        raise _not_audio(name, failure) from (None if isinstance(failure, MemoryError) else failure)
    decoding.check_end(length)
    found.leading_silence = decoding.timeline.leading_silence if timeline else 0.0
    found.warning = decoding.warning(length, timeline)


def _open_container(data: Input) -> InputContainer:
    # A playlist may not open further files.
    return av.open(data, mode="r", container_options={"protocol_whitelist": "none"}, **_LENIENT)


def _out_of_proportion(name: str, data: Input, what: str) -> AudioError:
    return AudioError(f"{name}: {data.size} bytes that hold {what}; expected fewer in so small a file: is it damaged?")


def _not_audio(name: str, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        reason = "a number in it asks for more memory than audio takes"
    return AudioError(
        f"{name}: not a sound that FFmpeg can read ({reason}); expected WAV, FLAC, MP3, Ogg, M4A, MP4 or the like, "
        "complete and not encrypted"
    )


@contextmanager
def _bounded_allocations() -> Iterator[None]:
    """Have FFmpeg refuse to allocate more than :data:`MAX_ALLOCATION` at a time, as a damaged size may ask it to."""
    try:  # a library of PyAV's leads to FFmpeg's, though not on every system
        set_limit = ctypes.CDLL(sys.modules[AudioFrame.__module__].__file__).av_max_alloc
    except (OSError, AttributeError):
        yield
        return
    set_limit(ctypes.c_size_t(MAX_ALLOCATION))
    try:
        yield
    finally:
        set_limit(ctypes.c_size_t(2**31 - 1))  # FFmpeg's own limit


def _pieces(
    placed: Iterable[tuple[AudioFrame, str, float | None]], resampler: Resampler
) -> Iterator[NDArray[np.int16] | float]:
    """Mix and resample frames to mono samples, with the time in seconds at which a new place begins before its samples.

    They are 16-bit integers, as in openai-whisper: asked for floats, the resampler would scale stereo audio to keep its
    power and not its level, 1.41 times louder.
    """
    for frame, layout, begin in placed:
        if begin is not None:
            yield from resampler.flush()
            yield begin
        yield from resampler.feed(frame, layout)
    yield from resampler.flush()


def _place_samples(pieces: Iterable[NDArray[np.int16] | float], rate: int) -> Iterator[NDArray[np.int16]]:
    """Yield the samples (N,) in order: silence up to a place that begins later, and nothing twice."""
    size = skip = 0  # samples so far; samples to leave out because they are there already
    for piece in pieces:
        if isinstance(piece, float):
            start = round(piece * rate)
            for first in range(size, start, SILENCE):
                yield np.zeros(min(SILENCE, start - first), np.int16)
            size, skip = max(size, start), max(0, size - start)
        else:
            kept = piece[skip:]
            size, skip = size + kept.size, skip - (piece.size - kept.size)
            yield kept
