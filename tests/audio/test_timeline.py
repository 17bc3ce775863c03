"""The audio timeline: the file's timestamps place the samples, and files without gaps keep their samples."""

import warnings
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from audio_files import encode_audio
from conftest import DATA
from minwhisper.audio.load import SAMPLE_RATE, load_audio, open_audio

pytest.importorskip("av")

from minwhisper.audio.reader import _place_samples
from minwhisper.audio.timeline import Span, Timeline

SPEECH = np.round(load_audio(DATA / "LJ001-0002.wav") * 32768).astype(np.int16)  # 1.9 s
LONG = np.tile(SPEECH, 4)  # 7.6 s


def load_without_warning(content, **options):
    """Load; fail on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_audio(content, **options)


def place(stamps, *, container="matroska", origin=0.0, limit=600.0, seconds=0.5, lost=()):
    """Place frames of half a second by their timestamps; return the new place of each, or None, and the timeline."""
    timeline = Timeline(container, origin, limit)
    starts = []
    for number, stamp in enumerate(stamps):
        pts = None if stamp is None else round(stamp * 1000)
        frame = SimpleNamespace(samples=round(seconds * 8000), sample_rate=8000, pts=pts, time_base=Fraction(1, 1000))
        starts.append(timeline.place(frame, dict(lost).get(number, 0.0)))
    return starts, timeline


# --- Files

LATE = [
    ("mp4", "aac", 16000, 3.936),  # 1,024 samples of encoder delay less, as in the ffmpeg command
    ("mov", "pcm_s16le", 16000, 4.0),
    ("matroska", "aac", 16000, 4.0),
    ("matroska", "libopus", 48000, 4.0),
    ("mpegts", "aac", 16000, 3.936),
]


@pytest.mark.parametrize(("container", "codec", "rate", "delay"), LATE)
def test_audio_that_starts_later_than_the_video(container, codec, rate, delay):
    pcm = np.repeat(SPEECH, rate // 16000)
    content = encode_audio(pcm, container, codec, rate=rate, video=True, start=4.0)
    plain = load_without_warning(content)
    with pytest.warns(UserWarning, match=rf"missing audio was replaced by silence: {delay:.2f} s at 0\.00 s") as caught:
        placed = load_audio(content, timeline=True)
    assert [warning.filename for warning in caught] == [__file__]
    silence = placed.size - plain.size
    assert silence == pytest.approx(delay * SAMPLE_RATE, abs=20)
    assert not placed[:silence].any()
    assert np.array_equal(placed[silence:], plain)


@pytest.mark.parametrize("start", [0.0, 0.05, 0.09])
def test_audio_that_starts_slightly_later_is_unchanged(start):
    content = encode_audio(SPEECH, "matroska", "aac", video=True, start=start)
    assert np.array_equal(load_without_warning(content), load_without_warning(content, timeline=True))


def test_a_single_stream_starts_at_its_first_timestamp():
    content = encode_audio(SPEECH, "mpegts", "aac", start=100.0)
    assert np.array_equal(load_without_warning(content), load_without_warning(content, timeline=True))


@pytest.mark.parametrize(("container", "codec"), [("matroska", "libopus"), ("mpegts", "mp2"), ("mp4", "flac")])
def test_missing_packets_become_silence(container, codec):
    pcm = np.repeat(LONG, 3)
    content = encode_audio(pcm, container, codec, rate=48000, keep=lambda time: not 2.0 < time < 4.5)
    with pytest.warns(UserWarning, match="missing audio: 2.* s at .*; everything after it comes earlier by as much"):
        short = load_audio(content)
    with pytest.warns(UserWarning, match="missing audio was replaced by silence: 2.* s at ") as caught:
        placed = load_audio(content, timeline=True)
    assert len(caught) == 1
    whole = load_without_warning(encode_audio(pcm, container, codec, rate=48000))
    assert placed.size == pytest.approx(whole.size, abs=160)
    assert short.size == pytest.approx(whole.size - 2.5 * SAMPLE_RATE, abs=0.2 * SAMPLE_RATE)
    tail, hole = slice(5 * SAMPLE_RATE, 7 * SAMPLE_RATE), placed[int(2.3 * SAMPLE_RATE) : int(4.3 * SAMPLE_RATE)]
    assert not hole.any()
    lag = max(range(-160, 161), key=lambda lag: float(placed[tail.start + lag : tail.stop + lag] @ whole[tail]))
    assert abs(lag) <= 16  # 1 ms, the resolution of Matroska


def test_broken_packets_of_a_format_without_timestamps_become_silence():
    content = bytearray(encode_audio(LONG, "mp3", "libmp3lame"))
    begin, end = len(content) // 3, len(content) // 3 + 6000
    content[begin:end] = np.random.default_rng(0).integers(0, 255, end - begin, np.uint8).tobytes()  # no sync word
    with pytest.warns(UserWarning, match="broken audio was left out"):
        short = load_audio(bytes(content))
    with pytest.warns(UserWarning, match="missing audio was replaced by silence"):
        placed = load_audio(bytes(content), timeline=True)
    assert short.size < LONG.size - 8000
    assert placed.size == pytest.approx(LONG.size, abs=0.1 * SAMPLE_RATE)


def test_broken_pages_of_ogg_become_silence():
    content = bytearray(encode_audio(np.repeat(LONG, 3), "ogg", "libopus", rate=48000))
    content[len(content) // 3 : len(content) // 3 + 300] = bytes(300)
    with pytest.warns(UserWarning, match=r"missing audio: .*; everything after it comes earlier"):
        short = load_audio(bytes(content))
    with pytest.warns(UserWarning, match="missing audio was replaced by silence"):
        placed = load_audio(bytes(content), timeline=True)
    assert short.size < LONG.size - 8000
    assert placed.size == pytest.approx(LONG.size, abs=160)


CLIPS = [path for path in sorted(DATA.iterdir()) if path.suffix in (".wav", ".flac", ".aiff")]


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_a_clip_without_gaps_keeps_its_samples(path):
    assert np.array_equal(load_without_warning(path), load_without_warning(path, timeline=True))


UNDAMAGED = [  # container, codec, rate, video
    ("mp3", "libmp3lame", 16000, False),
    ("adts", "aac", 44100, False),
    ("ipod", "aac", 8000, False),
    ("ipod", "aac", 44100, False),
    ("ipod", "alac", 44100, False),
    ("matroska", "aac", 44100, False),
    ("matroska", "libmp3lame", 44100, False),
    ("webm", "libopus", 48000, False),
    ("ogg", "libopus", 48000, False),
    ("ogg", "flac", 22050, False),
    ("mpegts", "aac", 44100, False),
    ("avi", "libmp3lame", 44100, False),
    ("flv", "libmp3lame", 44100, False),
    ("asf", "libmp3lame", 44100, False),
    ("caf", "pcm_s16be", 11025, False),
    ("au", "pcm_s16be", 8000, False),
    ("matroska", "aac", 44100, True),
    ("mpegts", "aac", 44100, True),
    ("mp4", "aac", 44100, True),
    ("avi", "libmp3lame", 44100, True),
]


@pytest.mark.parametrize(("container", "codec", "rate", "video"), UNDAMAGED)
def test_codec_delay_and_rounded_timestamps_change_nothing(container, codec, rate, video):
    content = encode_audio(LONG, container, codec, rate=rate, video=video)
    assert np.array_equal(load_without_warning(content), load_without_warning(content, timeline=True))


def test_a_long_gap_becomes_silence_and_an_implausible_one_is_ignored():
    content = encode_audio(SPEECH, "matroska", "aac", video=True, start=300.0)
    with pytest.warns(UserWarning, match="300.00 s at 0.00 s"):
        audio = open_audio(content, timeline=True)
    with audio:
        assert audio.size == 300 * SAMPLE_RATE + load_without_warning(content).size
        assert audio.leading_silence == 300.0
        assert not audio.read(0, SAMPLE_RATE).any()
    content = encode_audio(SPEECH, "matroska", "aac", video=True, start=100_000.0)
    with pytest.warns(UserWarning, match="timestamps after implausibly long gaps were ignored"):
        placed = load_audio(content, timeline=True)
    assert np.array_equal(placed, load_without_warning(content))


# --- Rules for single frames


def test_a_gap_above_a_tenth_of_a_second_moves_the_frames_after_it():
    starts, timeline = place([0.0, 0.5, 1.2, 1.7])
    assert starts == [None, None, 1.2, None]
    assert timeline.gaps == [Span(1.0, pytest.approx(0.2))]
    assert timeline.end == pytest.approx(2.2)


def test_smaller_gaps_are_ignored_until_they_add_up():
    starts, timeline = place([0.0, 0.55, 1.08])
    assert starts == [None] * 3
    assert timeline.end == 1.5
    starts, timeline = place([0.54 * number for number in range(4)])  # 40 ms more in each frame
    assert starts == [None, None, None, pytest.approx(1.62)]


def test_overlapping_frames_are_cut():
    starts, timeline = place([0.0, 0.5, 1.0, 1.5, 1.2, 1.7])
    assert starts == [None] * 4 + [1.2, None]
    assert timeline.overlaps == [Span(1.2, pytest.approx(0.8))]
    assert not timeline.gaps
    assert timeline.end == pytest.approx(2.2)


def test_overlapping_samples_are_cut():
    first, again = np.arange(1, 101, dtype=np.int16), np.arange(61, 161, dtype=np.int16)
    assert np.concatenate([*_place_samples([first, 0.06, again], 1000)]).tolist() == [*range(1, 161)]
    assert np.concatenate([*_place_samples([first, 0.02, first[:10]], 1000)]).tolist() == [*range(1, 101)]
    assert np.concatenate([*_place_samples([first[:2], 0.004, first[:1]], 1000)]).tolist() == [1, 2, 0, 0, 1]


def test_a_late_start_counts_from_the_earliest_stream():
    starts, timeline = place([5.0, 5.5], origin=2.0)
    assert starts == [3.0, None]
    assert timeline.leading_silence == 3.0
    starts, timeline = place([5.0, 5.5], origin=5.0)
    assert starts == [None, None]
    starts, timeline = place([5.0, 5.5], origin=None)
    assert starts == [None, None]


def test_the_clock_restarts_between_concatenated_files():
    starts, timeline = place([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])
    assert starts == [None] * 6
    assert timeline.end == 3.0
    assert not timeline.overlaps
    starts, _ = place([0.0, 0.5, 40.0, 40.5], container="mpegts")  # an edited broadcast
    assert starts == [None] * 4
    starts, _ = place([0.0, 0.5, 40.0, 40.5], container="matroska")
    assert starts == [None, None, 40.0, None]


def test_an_implausible_clock_is_ignored_once():
    starts, timeline = place([0.0, 0.5, 5000.0, 5000.5])
    assert starts == [None] * 4
    assert timeline.ignored == [Span(1.0, 4999.0)]


def test_frames_without_timestamps_follow_each_other_and_lost_packets():
    assert place([None, None, None])[0] == [None] * 3
    assert place([None, None], lost={1: 0.05})[0] == [None, None]
    assert place([None, None], lost={1: 2.0})[0] == [None, 2.5]
    assert place([0.0, 9.0], container="mp3", lost={1: 2.0})[0] == [None, 2.5]  # FFmpeg's timestamps for MP3 are sums
