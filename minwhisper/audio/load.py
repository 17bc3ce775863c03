"""Chapter 1, first half: any audio → mono samples at 16 kHz.

Whisper's input is mono audio of 16,000 samples per second, values between -1 and 1, in windows of 30 seconds.
This module converts everything else to that form: files through FFmpeg's libraries (``audio.reader``), and arrays of
other types, rates and channels.

Walkthrough: section 2.
"""

import os
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..common.backend import Array, array_module
from ..common.finite import all_finite
from ..errors import AudioError
from ..printable import short_repr
from .sample_store import SampleStore

if TYPE_CHECKING:
    from .reader import DecodedAudio

SAMPLE_RATE = 16000  # samples per second
N_FFT = 400  # samples per frame of the spectrogram: 25 ms
HOP_LENGTH = 160  # samples from one frame to the next: 10 ms
CHUNK_LENGTH = 30  # seconds per window, the model's input
N_SAMPLES = CHUNK_LENGTH * SAMPLE_RATE  # 480,000 samples per window
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100
N_FRAMES = N_SAMPLES // HOP_LENGTH  # 3,000 frames per window

AudioSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | NDArray[Any]
"""Anything that can be loaded: a path, ``"-"`` for standard input, a file's bytes, an open binary file, or samples."""

MAX_CHANNELS = 64  # an array with more columns is probably transposed
MIN_RATE, MAX_RATE = 1_000, 10_000_000  # samples per second of an array; a lower one is probably in kHz
MAX_TRACK_NUMBER, MAX_LANGUAGE_LENGTH = 10**9, 100
INTEGER_SCALES = {"int16": (0, 2**15), "int32": (0, 2**31), "uint8": (128, 128)}  # zero point, full scale


def load_audio(
    source: AudioSource, rate: int | None = None, *, timeline: bool = False, track: int | str | None = None
) -> NDArray[np.float32]:
    """Load any audio as mono samples at 16 kHz: (N,) float32, full scale -1 to 1.

    ``source`` is a path to anything that FFmpeg can read, including video with an audio track, ``"-"`` for standard
    input, the bytes of such a file, a file opened with mode ``"rb"`` (read from its current position to its end), or an
    array of samples. A name is always the name of a local file; nothing is fetched over a network.

    An array is (samples,) or (samples, channels): float with full scale -1 to 1, or int16, int32 or uint8. Its ``rate``
    in samples per second may be omitted if the array is float and at 16 kHz; mono float32 at that rate is returned
    without a copy. Channels are averaged, and other rates resampled, in float32.

    The samples of a file are those of ``ffmpeg -i FILE -ac 1 -ar 16000 -f s16le -``, divided by 32768. Gaps, and the
    time before audio that starts later than the video, are left out. With ``timeline=True``, samples are placed by the
    timestamps of the file instead, so that sample 16,000 · t is t seconds after the start of the file: a late start and
    gaps above 0.1 s become silence, and duplicate audio is cut. A file without these has the same samples either way.
    Transcription uses the timeline.

    ``track`` selects one of several audio tracks: a number, 1 for the first, or a language code as in the file, such as
    "en" or "eng". The default is a track with audio in it, then the one marked as default, then the one with the most
    channels.

    A warning reports missing or damaged audio. A truncated file is an error if its format states how much audio it
    has: WAV, AIFF, AU, CAF, FLAC, MP4, Matroska, WebM, and MP3 with a Xing header. Other formats are read to the end of
    the file.

    Raises ``AudioError``, with one line on what is wrong and what to do, for anything that cannot be loaded.
    """
    loaded = _load(source, rate, timeline, track)
    if isinstance(loaded, np.ndarray):
        return loaded
    with AudioReader(loaded.store) as reader:
        return reader.read(0, reader.size)


def open_audio(
    source: AudioSource, rate: int | None = None, *, timeline: bool = False, track: int | str | None = None
) -> "AudioReader":
    """Open any audio, to read it piece by piece: the samples of ``load_audio``, but not all in memory at once.

    Arguments, samples, warnings and errors are those of ``load_audio``. A file is decoded to its end here, once.
    Up to nine minutes of its samples are kept in memory, and longer audio in a temporary file, 115 MB per hour, in the
    folder that the environment variable TMPDIR names. An array is not copied, so do not write to it before the reader
    is closed.

    Raises ``AudioError`` for anything that cannot be loaded, and if the folder for temporary files is full.
    """
    loaded = _load(source, rate, timeline, track)
    if isinstance(loaded, np.ndarray):
        return AudioReader(loaded)
    return AudioReader(loaded.store, leading_silence=loaded.leading_silence, track=loaded.track)


class AudioReader:
    """Mono samples at 16 kHz that are read piece by piece; ``open_audio`` returns one.

    ``size`` is the number of samples; ``leading_silence`` is the silence in seconds before the audio starts, if it was
    opened with ``timeline=True``; ``track`` is a line that names the selected audio track, if there are several.
    Close the reader after use, or use it in a ``with`` statement. Only one thread may use it at a time.

    >>> with open_audio(np.array([0.5, 0.25, -1.0])) as reader:
    ...     reader.size, reader.read(1, 5)
    (3, array([ 0.25, -1.  ,  0.  ,  0.  ], dtype=float32))
    """

    def __init__(
        self, samples: NDArray[np.float32] | SampleStore, *, leading_silence: float = 0.0, track: str | None = None
    ) -> None:
        self.size: int = samples.size
        self.leading_silence, self.track = leading_silence, track
        self._samples: NDArray[np.float32] | SampleStore | None = samples  # None: closed

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.size / SAMPLE_RATE

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read samples ``start`` to ``stop``, with zeros past the end: (stop - start,) float32, a new array.

        Raises ``AudioError`` unless 0 <= start <= stop, and if the reader is closed.
        """
        if self._samples is None:
            raise AudioError("this audio is closed; read it before close(), inside its 'with' statement")
        if not 0 <= start <= stop:
            raise AudioError(f"read({start}, {stop}): expected 0 <= start <= stop")
        samples = np.zeros(stop - start, np.float32)
        present = samples[: max(0, self.size - start)]  # a view
        if isinstance(self._samples, SampleStore):
            self._samples.read_into(present, start)
        else:
            present[:] = self._samples[start:stop]
        return samples

    def close(self) -> None:
        """Free the memory or the temporary file that holds the samples; closing again has no effect."""
        if isinstance(self._samples, SampleStore):
            self._samples.close()
        self._samples = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _load(
    source: AudioSource, rate: int | None, timeline: bool, track: int | str | None
) -> "NDArray[np.float32] | DecodedAudio":
    """Return the samples of an array (N,), or a decoded file."""
    if not is_valid_track(track):
        got = short_repr(track)
        raise AudioError(f"track: expected a number, 1 for the first audio track, or a language's code, got {got}")
    if isinstance(source, np.ndarray):
        if track is not None:
            raise AudioError(f"track={track!r}: only a file has tracks; omit it for an array")
        return _load_array(source, rate)
    if rate is not None:
        raise AudioError(f"rate={rate!r}: only an array needs a rate; omit it for a file")
    from .reader import decode_audio  # PyAV takes a while to import, and arrays do not need it

    decoded = decode_audio(source, SAMPLE_RATE, timeline=timeline, track=track)
    if decoded.warning is not None:
        warnings.warn(decoded.warning, stacklevel=3)  # at the caller of load_audio or open_audio
    return decoded


def is_valid_track(track: object) -> bool:
    """Return whether a value can select an audio track: a number from 1, a language, or None for the default."""
    if isinstance(track, str):
        return bool(track.strip()) and len(track) <= MAX_LANGUAGE_LENGTH
    if not isinstance(track, int | np.integer) or isinstance(track, bool):
        return track is None
    return 1 <= int(track) < MAX_TRACK_NUMBER


def pad_or_trim(array: Array, length: int = N_SAMPLES, *, axis: int = -1) -> Array:
    """Pad with zeros or trim at the end, so that ``axis`` has exactly ``length`` entries.

    It works for samples and for the frames of a spectrogram. An array of that length is returned without a copy. Raises
    ``AudioError`` for anything but an array.

    >>> pad_or_trim(np.array([1, 2, 3]), 5)
    array([1, 2, 3, 0, 0])
    """
    kind = type(array)
    if not isinstance(array, np.ndarray) and kind.__module__.partition(".")[0] != "cupy":
        name = f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")
        raise AudioError(
            f"pad_or_trim: expected a NumPy or CuPy array, got {name}; load_audio reads a file, numpy.asarray "
            "converts a list, and .numpy() a tensor"
        )
    xp = array_module(array)
    present = array.shape[axis]
    if present > length:
        slices = [slice(None)] * array.ndim
        slices[axis] = slice(length)
        return array[tuple(slices)]
    if present < length:
        widths = [(0, 0)] * array.ndim
        widths[axis] = (0, length - present)
        padded: Array = xp.pad(array, widths)
        return padded
    return array


# --- Arrays -------------------------------------------------------------------------------------------------------


def _load_array(array: NDArray[Any], rate: int | None) -> NDArray[np.float32]:
    """Convert an array, (samples,) or (samples, channels), to mono at 16 kHz: (N,)."""
    name = f"array of {array.dtype} {array.shape}"
    _check_array(name, array, rate)
    # Float32 is exact for 8 and 16 bits, and keeps 24 bits of 32.
    zero, scale = INTEGER_SCALES.get(array.dtype.name, (0, 1))
    with np.errstate(over="ignore"):
        samples: NDArray[np.float32] = array.astype(np.float32, copy=False)
    if array.dtype.name in INTEGER_SCALES:
        samples = np.divide(samples - zero, scale, dtype=np.float32)
    _check_finite(name, samples)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if rate is None or rate == SAMPLE_RATE or not samples.size:
        return samples
    from .resampling import resample

    # The resampler returns too few samples for an array shorter than its filter.
    return pad_or_trim(resample(samples, int(rate), SAMPLE_RATE), max(1, round(samples.size * SAMPLE_RATE / int(rate))))


def _check_array(name: str, array: NDArray[Any], rate: int | None) -> None:
    if rate is not None and (not isinstance(rate, int | np.integer) or not MIN_RATE <= rate <= MAX_RATE):
        raise AudioError(
            f"{name}: rate: expected a whole number of samples per second from {MIN_RATE} to {MAX_RATE}, "
            f"such as 44100, got {rate!r}"
        )
    integer = array.dtype.name in INTEGER_SCALES
    if not integer and array.dtype.kind != "f":
        raise AudioError(
            f"{name}: expected samples as float (full scale -1 to 1), int16, int32 or uint8; scale them to one of these"
        )
    if array.ndim not in (1, 2) or array.shape[1:] == (0,):
        raise AudioError(f"{name}: expected shape (samples,) or (samples, channels); pass one recording at a time")
    if array.ndim == 2 and array.shape[1] > MAX_CHANNELS:
        raise AudioError(
            f"{name}: expected (samples, channels) with at most {MAX_CHANNELS} channels; "
            "if it is (channels, samples), pass array.T"
        )
    if integer and rate is None:
        zero, scale = INTEGER_SCALES[array.dtype.name]
        shifted = f"(array.astype('float32') - {zero})" if zero else "array.astype('float32')"
        raise AudioError(
            f"{name}: without a rate, expected float samples at {SAMPLE_RATE} per second; pass the rate, "
            f"load_audio(array, rate=…), or scale the array: {shifted} / {scale}"
        )


def _check_finite(name: str, samples: NDArray[np.float32]) -> None:
    if all_finite(samples):
        return
    bad = ~np.isfinite(samples)
    first = np.argwhere(bad)[0].tolist()
    raise AudioError(
        f"{name}: {bad.sum()} of {samples.size} values are NaN, infinite or too large, the first at "
        f"index {first}; expected finite samples; repair them, for instance with numpy.nan_to_num"
    )
