"""Chapter 1, first half: a sound becomes samples.

Whisper hears one thing only: mono sound of 16,000 samples a second, numbers between -1 and 1, in windows of thirty
seconds. Whatever comes in (an MP3, a film, a microphone's integers) is brought to that form here, files by way of
FFmpeg's libraries (:mod:`minwhisper.audio.reader`), and anything that cannot be is refused with one line that says why.

Walkthrough: section 2.
"""

import os
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..common.backend import Array, array_module
from ..errors import AudioError
from ..printable import short_repr
from .sample_store import SampleStore

if TYPE_CHECKING:
    from .reader import DecodedAudio

SAMPLE_RATE = 16000  # samples a second
N_FFT = 400  # samples in a frame of the spectrogram: 25 ms
HOP_LENGTH = 160  # samples from one frame to the next: 10 ms
CHUNK_LENGTH = 30  # seconds in a window, the stretch of sound that the model hears at once
N_SAMPLES = CHUNK_LENGTH * SAMPLE_RATE  # 480,000 samples in a window
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100
N_FRAMES = N_SAMPLES // HOP_LENGTH  # 3,000 frames in a window

AudioSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | NDArray[Any]
"""What can be loaded: a path, ``"-"`` for standard input, a file's bytes, an open binary file, or samples."""

MAX_CHANNELS = 64  # an array with more columns than this is one that lies on its side
MIN_RATE, MAX_RATE = 1_000, 10_000_000  # samples a second; no sound has fewer or more, a rate in kHz would
MAX_TRACK_NUMBER, MAX_LANGUAGE_LENGTH = 10**9, 100  # of audio tracks and of characters of a language
INTEGER_SCALES = {"int16": (0, 2**15), "int32": (0, 2**31), "uint8": (128, 128)}  # silence; full scale above it


def load_audio(
    source: AudioSource, rate: int | None = None, *, timeline: bool = False, track: int | str | None = None
) -> NDArray[np.float32]:
    """Any sound as mono samples at 16 kHz: (N,) float32, full scale being -1 to 1.

    ``source`` is a path to anything FFmpeg can read, video with a sound track included, ``"-"`` for standard
    input, the bytes of such a file, a file opened with mode ``"rb"`` (read from where it stands to its end), or an
    array of samples. Names are always names of local files; nothing is fetched over a network.

    An array is (samples,) or (samples, channels): float, with full scale -1 to 1, or int16, int32 or uint8. Its
    ``rate`` in samples a second may be left out if the array is float and at 16 kHz already; mono float32 of that
    rate comes back as it is, not copied. Channels are averaged, and other rates resampled, in float32.

    The samples of a file are those of ``ffmpeg -i FILE -ac 1 -ar 16000 -f s16le -``, divided by 32768: what is missing
    in the middle, or before audio that starts later than the video beside it, is left out. With ``timeline=True``
    samples are placed by the file's timestamps instead, so that sample 16,000 · t is heard t seconds after the start of
    the file: a late start and holes above 0.1 s become silence, and what is there twice is cut. A file without them
    has the same samples either way. Transcriptions use the timeline.

    ``track`` chooses among several audio tracks: a number, 1 for the first, or a language's code as it is in the file,
    such as "en" or "eng". By default it is a track with audio in it, then the one marked as default, then the one with
    most channels.

    A warning names what is missing or damaged. A file that ends before it should is refused if it states how much audio
    is in it, as WAV, AIFF, AU, CAF, FLAC, MP4, Matroska, WebM and MP3 with a Xing header do. Other formats end where
    they end.

    Raises :class:`AudioError`, one line on what is wrong and what to do, for everything that cannot be loaded.
    """
    found = _load(source, rate, timeline, track)
    if isinstance(found, np.ndarray):
        return found
    with AudioReader(found.store) as reader:
        return reader.read(0, reader.size)


def open_audio(
    source: AudioSource, rate: int | None = None, *, timeline: bool = False, track: int | str | None = None
) -> "AudioReader":
    """Any sound, to be read piece by piece: what :func:`load_audio` loads, without holding all of it in memory.

    The arguments are those of :func:`load_audio`, and so are the samples, the warnings and the refusals: a file is read
    and decoded to its end here, once. Up to nine minutes of its samples are kept in memory, more of them in a temporary
    file, 115 MB an hour, in the folder that the environment variable TMPDIR names. An array is kept as it is, so it
    should not be written to while the sound is open.

    Raises :class:`AudioError` for everything that cannot be loaded, and for a temporary folder without enough room.
    """
    found = _load(source, rate, timeline, track)
    return (
        AudioReader(found)
        if isinstance(found, np.ndarray)
        else AudioReader(found.store, leading_silence=found.leading_silence, track=found.track)
    )


class AudioReader:
    """Mono samples at 16 kHz that are read piece by piece; :func:`open_audio` makes one.

    ``size`` is the number of samples, ``leading_silence`` the seconds of silence before the audio begins, if it was
    opened with ``timeline=True``, and ``track`` a line that says which audio track was read, if there are several.
    Close it when it is no longer needed, or use it in a ``with`` statement. Only one thread may read it at a time.

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
        """How long it lasts."""
        return self.size / SAMPLE_RATE

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Samples ``start`` to ``stop``, with zeros for what lies past the end: (stop - start,) float32.

        Any 0 <= start <= stop will do, in any order. The array is the reader's own.
        Raises :class:`AudioError` for others, and if the sound is closed.
        """
        if self._samples is None:
            raise AudioError("this sound is closed; read it before close(), within its 'with' statement")
        if not 0 <= start <= stop:
            raise AudioError(f"read({start}, {stop}): expected samples from 0 on, the first not behind the last")
        samples = np.zeros(stop - start, np.float32)
        present = samples[: max(0, self.size - start)]  # a view
        if isinstance(self._samples, SampleStore):
            self._samples.read_into(present, start)
        else:
            present[:] = self._samples[start:stop]
        return samples

    def close(self) -> None:
        """Give back the memory or the temporary file that holds the samples; closing twice does no harm."""
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
    """Return samples in memory (N,), or what has been decoded of a file."""
    if not is_valid_track(track):
        got = short_repr(track)
        raise AudioError(f"track: expected a number, 1 for the first audio track, or a language's code, got {got}")
    if isinstance(source, np.ndarray):
        if track is not None:
            raise AudioError(f"track={track!r}: only a file has tracks, an array is one; leave it out")
        return _load_array(source, rate)
    if rate is not None:
        raise AudioError(f"rate={rate!r}: only an array needs a rate, a file states its own; leave it out")
    from .reader import decode_audio  # FFmpeg's libraries take a while to load, and are not needed for arrays

    found = decode_audio(source, SAMPLE_RATE, timeline=timeline, track=track)
    if found.warning is not None:
        warnings.warn(found.warning, stacklevel=3)  # at the caller of load_audio or open_audio
    return found


def is_valid_track(track: object) -> bool:
    """Tell whether a value can name an audio track: a number from 1, a language, or None for the default."""
    if isinstance(track, str):
        return bool(track.strip()) and len(track) <= MAX_LANGUAGE_LENGTH
    if not isinstance(track, int | np.integer) or isinstance(track, bool):
        return track is None
    return 1 <= int(track) < MAX_TRACK_NUMBER


def pad_or_trim(array: Array, length: int = N_SAMPLES, *, axis: int = -1) -> Array:
    """The array with exactly ``length`` entries along ``axis``: cut at the end, or followed by zeros.

    For samples, and for the frames of a spectrogram. What has that length already is returned as it is. Raises
    :class:`AudioError` for what is no array.

    >>> pad_or_trim(np.array([1, 2, 3]), 5)
    array([1, 2, 3, 0, 0])
    """
    if not hasattr(array, "shape"):
        raise AudioError(f"pad_or_trim: expected an array, got {array!r}; load_audio makes one of a file")
    xp = array_module(array)
    present = array.shape[axis]
    if present > length:
        kept = [slice(None)] * array.ndim
        kept[axis] = slice(length)
        return array[tuple(kept)]
    if present < length:
        widths = [(0, 0)] * array.ndim
        widths[axis] = (0, length - present)
        padded: Array = xp.pad(array, widths)
        return padded
    return array


# --- Samples in memory --------------------------------------------------------------------------------------------


def _load_array(array: NDArray[Any], rate: int | None) -> NDArray[np.float32]:
    """Samples in memory, (samples,) or (samples, channels), to mono at 16 kHz: (N,)."""
    name = f"array of {array.dtype} {array.shape}"
    _check_array(name, array, rate)
    # In float32 from here on: exact for 8 and 16 bits, 24 bits of the 32.
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

    # A few samples are fewer than the resampler's filter is long and would get lost in it.
    return pad_or_trim(resample(samples, int(rate), SAMPLE_RATE), max(1, round(samples.size * SAMPLE_RATE / int(rate))))


def _check_array(name: str, array: NDArray[Any], rate: int | None) -> None:
    if rate is not None and (
        isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not MIN_RATE <= rate <= MAX_RATE
    ):
        raise AudioError(
            f"{name}: rate: expected a whole number of samples a second from {MIN_RATE} to {MAX_RATE}, "
            f"such as 44100, got {rate!r}"
        )
    integer = array.dtype.name in INTEGER_SCALES
    if not integer and array.dtype.kind != "f":
        raise AudioError(
            f"{name}: expected samples as float (full scale -1 to 1), int16, int32 or uint8; scale them to one of these"
        )
    if array.ndim not in (1, 2) or array.shape[1:] == (0,):
        raise AudioError(f"{name}: expected shape (samples,) or (samples, channels); pass one sound at a time")
    if array.ndim == 2 and array.shape[1] > MAX_CHANNELS:
        raise AudioError(
            f"{name}: expected (samples, channels) with at most {MAX_CHANNELS} channels; "
            "is it the other way round? Then pass array.T"
        )
    if integer and rate is None:
        zero, scale = INTEGER_SCALES[array.dtype.name]
        shifted = f"(array.astype('float32') - {zero})" if zero else "array.astype('float32')"
        raise AudioError(
            f"{name}: without a rate, expected float samples at {SAMPLE_RATE} a second; bring it to them with "
            f"load_audio(array, rate=…), or scale it: {shifted} / {scale}"
        )


def _check_finite(name: str, samples: NDArray[np.float32]) -> None:
    # The extremes tell without an array of as many truth values: NaN wins both comparisons, infinity one.
    if not samples.size or (np.isfinite(samples.min()) and np.isfinite(samples.max())):
        return
    bad = ~np.isfinite(samples)
    first = np.argwhere(bad)[0].tolist()
    raise AudioError(
        f"{name}: {bad.sum()} of {samples.size} values are NaN, infinite or too large, the first at "
        f"index {first}; expected finite samples: repair them, for instance with numpy.nan_to_num"
    )
