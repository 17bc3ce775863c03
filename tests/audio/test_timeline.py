"""The audio timeline: samples are where the file's timestamps place them, and no file without holes is changed."""

import warnings
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from audio_files import encode_audio
from minwhisper.audio.load import SAMPLE_RATE, load_audio, open_audio

pytest.importorskip("av")

from minwhisper.audio.reader import _place_samples
from minwhisper.audio.timeline import Span, Timeline

DATA = Path(__file__).parents[1] / "data"
SPEECH = np.round(load_audio(DATA / "LJ001-0002.wav") * 32768).astype(np.int16)  # 1.9 s
LONG = np.tile(SPEECH, 4)  # 7.6 s


def load_without_warning(content, **options):
    """Load without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_audio(content, **options)


def place(stamps, *, container="matroska", origin=0.0, limit=600.0, seconds=0.5, lost=()):
    """Place frames of half a second by their timestamps; return where each starts anew, and the timeline."""
    timeline = Timeline(container, origin, limit)
    begins = []
    for number, stamp in enumerate(stamps):
        pts = None if stamp is None else round(stamp * 1000)
        frame = SimpleNamespace(samples=round(seconds * 8000), sample_rate=8000, pts=pts, time_base=Fraction(1, 1000))
        begins.append(timeline.place(frame, dict(lost).get(number, 0.0)))
    return begins, timeline


# --- Files

LATE = [
    ("mp4", "aac", 16000, 3.936),  # less 1,024 samples of priming, as in the ffmpeg command's timestamps
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
def test_audio_that_starts_a_little_later_is_left_alone(start):
    content = encode_audio(SPEECH, "matroska", "aac", video=True, start=start)
    assert np.array_equal(load_without_warning(content), load_without_warning(content, timeline=True))


def test_a_late_start_is_not_late_where_there_is_nothing_else():
    """The first timestamp of a file with one stream is where it begins."""
    content = encode_audio(SPEECH, "mpegts", "aac", start=100.0)
    assert np.array_equal(load_without_warning(content), load_without_warning(content, timeline=True))


@pytest.mark.parametrize(("container", "codec"), [("matroska", "libopus"), ("mpegts", "mp2"), ("mp4", "flac")])
def test_packets_that_are_missing_become_silence(container, codec):
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
    assert abs(lag) <= 16  # a millisecond, as Matroska rounds


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


@pytest.mark.parametrize("path", sorted(DATA.glob("*.*")), ids=lambda path: path.name)
def test_a_file_without_holes_keeps_its_samples(path):
    if path.suffix in (".wav", ".flac", ".aiff"):
        assert np.array_equal(load_without_warning(path), load_without_warning(path, timeline=True))


HEALTHY = [  # and whether there is video too
    ("mp3", "libmp3lame", 16000, False),
    ("adts", "aac", 44100, False),
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


@pytest.mark.parametrize(("container", "codec", "rate", "video"), HEALTHY)
def test_delays_of_codecs_and_rounded_timestamps_are_left_alone(container, codec, rate, video):
    content = encode_audio(LONG, container, codec, rate=rate, video=video)
    assert np.array_equal(load_without_warning(content), load_without_warning(content, timeline=True))


def test_a_long_hole_is_silence_and_an_endless_one_is_not_believed():
    content = encode_audio(SPEECH, "matroska", "aac", video=True, start=300.0)
    with pytest.warns(UserWarning, match="300.00 s at 0.00 s"):
        sound = open_audio(content, timeline=True)
    with sound:
        assert sound.size == 300 * SAMPLE_RATE + load_without_warning(content).size
        assert sound.leading_silence == 300.0
        assert not sound.read(0, SAMPLE_RATE).any()
    content = encode_audio(SPEECH, "matroska", "aac", video=True, start=100_000.0)
    with pytest.warns(UserWarning, match="timestamps after implausibly long gaps were ignored"):
        placed = load_audio(content, timeline=True)
    assert np.array_equal(placed, load_without_warning(content))


# --- The rules


def test_a_hole_above_a_tenth_of_a_second_moves_what_follows():
    begins, timeline = place([0.0, 0.5, 1.2, 1.7])
    assert begins == [None, None, 1.2, None]
    assert timeline.gaps == [Span(1.0, pytest.approx(0.2))]
    assert timeline.end == pytest.approx(2.2)


def test_smaller_holes_are_left_alone_and_drift_is_not_mended_before_it_is_large():
    begins, timeline = place([0.0, 0.55, 1.08])
    assert begins == [None] * 3
    assert timeline.end == 1.5
    begins, timeline = place([0.54 * number for number in range(4)])  # 40 ms more in each frame
    assert begins == [None, None, None, pytest.approx(1.62)]


def test_what_is_there_twice_is_cut():
    begins, timeline = place([0.0, 0.5, 1.0, 1.5, 1.2, 1.7])
    assert begins == [None] * 4 + [1.2, None]
    assert timeline.overlaps == [Span(1.2, pytest.approx(0.8))]
    assert not timeline.gaps
    assert timeline.end == pytest.approx(2.2)


def test_an_overlap_is_cut_in_the_samples():
    first, again = np.arange(1, 101, dtype=np.int16), np.arange(61, 161, dtype=np.int16)
    assert np.concatenate([*_place_samples([first, 0.06, again], 1000)]).tolist() == [*range(1, 161)]
    assert np.concatenate([*_place_samples([first, 0.02, first[:10]], 1000)]).tolist() == [*range(1, 101)]
    assert np.concatenate([*_place_samples([first[:2], 0.004, first[:1]], 1000)]).tolist() == [1, 2, 0, 0, 1]


def test_a_late_start_counts_from_the_earliest_stream():
    begins, timeline = place([5.0, 5.5], origin=2.0)
    assert begins == [3.0, None]
    assert timeline.leading_silence == 3.0
    begins, timeline = place([5.0, 5.5], origin=5.0)
    assert begins == [None, None]
    begins, timeline = place([5.0, 5.5], origin=None)
    assert begins == [None, None]


def test_where_files_were_joined_the_clock_starts_anew():
    begins, timeline = place([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])
    assert begins == [None] * 6
    assert timeline.end == 3.0
    assert not timeline.overlaps
    begins, _ = place([0.0, 0.5, 40.0, 40.5], container="mpegts")  # a broadcast that was cut
    assert begins == [None] * 4
    begins, _ = place([0.0, 0.5, 40.0, 40.5], container="matroska")
    assert begins == [None, None, 40.0, None]


def test_a_clock_that_is_not_believed_is_ignored_once():
    begins, timeline = place([0.0, 0.5, 5000.0, 5000.5])
    assert begins == [None] * 4
    assert timeline.ignored == [Span(1.0, 4999.0)]


def test_frames_without_a_timestamp_follow_each_other_and_lost_packets_count():
    assert place([None, None, None])[0] == [None] * 3
    assert place([None, None], lost={1: 0.05})[0] == [None, None]
    assert place([None, None], lost={1: 2.0})[0] == [None, 2.5]
    assert place([0.0, 9.0], container="mp3", lost={1: 2.0})[0] == [None, 2.5]  # whose timestamps are added up
