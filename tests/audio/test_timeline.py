"""The audio timeline: the file's timestamps place the samples. Files without gaps are in test_length.py."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from audio_files import SPEECH, encode_audio, load_without_warning
from minwhisper.audio.load import SAMPLE_RATE, load_audio, open_audio

pytest.importorskip("av")

from minwhisper.audio.reader import _place_samples
from minwhisper.audio.timeline import Span, Timeline

LONG = np.tile(SPEECH, 4)  # 7.6 s


# --- Files


@pytest.mark.parametrize(
    ("container", "codec", "rate", "delay"),
    [
        ("mp4", "aac", 16000, 3.936),  # 1,024 samples of encoder delay less, as in the ffmpeg command
        ("mov", "pcm_s16le", 16000, 4.0),
        ("matroska", "libopus", 48000, 4.0),
        ("mpegts", "aac", 16000, 3.936),
    ],
)
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


BROKEN = {  # a format without timestamps, and one whose pages have them: size of the damage, warning, tolerance
    "mp3": (lambda: encode_audio(LONG, "mp3", "libmp3lame"), 6000, "broken audio was left out", 1600),
    "ogg": (
        lambda: encode_audio(np.repeat(LONG, 3), "ogg", "libopus", rate=48000),
        300,
        r"missing audio: .*; everything after it comes earlier",
        160,
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_audio_becomes_silence(kind):
    make, damage, warning, tolerance = BROKEN[kind]
    content = bytearray(make())
    begin = len(content) // 3
    content[begin : begin + damage] = (
        np.random.default_rng(0).integers(0, 255, damage, np.uint8).tobytes()
    )  # no sync word
    with pytest.warns(UserWarning, match=warning):
        short = load_audio(bytes(content))
    with pytest.warns(UserWarning, match="missing audio was replaced by silence"):
        placed = load_audio(bytes(content), timeline=True)
    assert short.size < LONG.size - 8000
    assert placed.size == pytest.approx(LONG.size, abs=tolerance)


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


def place(stamps, *, container="matroska", origin=0.0, lost=()):
    """Place frames of half a second by their timestamps; return the new place of each, or None, and the timeline."""
    timeline = Timeline(container, origin, limit=600.0)
    starts = []
    for number, stamp in enumerate(stamps):
        pts = None if stamp is None else round(stamp * 1000)
        frame = SimpleNamespace(samples=4000, sample_rate=8000, pts=pts, time_base=Fraction(1, 1000))
        starts.append(timeline.place(frame, dict(lost).get(number, 0.0)))
    return starts, timeline


PLACES = {  # timestamps, how, the places of the frames that do not continue the one before
    "a gap above a tenth of a second": ([0.0, 0.5, 1.2, 1.7], {}, {2: 1.2}),
    "smaller gaps": ([0.0, 0.55, 1.08], {}, {}),
    "smaller gaps that add up": ([0.0, 0.54, 1.08, 1.62], {}, {3: 1.62}),  # 40 ms more in each frame
    "overlapping frames": ([0.0, 0.5, 1.0, 1.5, 1.2, 1.7], {}, {4: 1.2}),
    "a late start": ([5.0, 5.5], {"origin": 2.0}, {0: 3.0}),
    "the earliest stream": ([5.0, 5.5], {"origin": 5.0}, {}),
    "a single stream": ([5.0, 5.5], {"origin": None}, {}),
    "concatenated files": ([0.0, 0.5, 1.0, 0.0, 0.5, 1.0], {}, {}),
    "an edited broadcast": ([0.0, 0.5, 40.0, 40.5], {"container": "mpegts"}, {}),
    "a long pause": ([0.0, 0.5, 40.0, 40.5], {}, {2: 40.0}),
    "an implausible gap": ([0.0, 0.5, 5000.0, 5000.5], {}, {}),
    "no timestamps": ([None, None, None], {}, {}),
    "no timestamps, and little lost": ([None, None], {"lost": {1: 0.05}}, {}),
    "no timestamps, and lost packets": ([None, None], {"lost": {1: 2.0}}, {1: 2.5}),
    "sums in place of timestamps": ([0.0, 9.0], {"container": "mp3", "lost": {1: 2.0}}, {1: 2.5}),
}


@pytest.mark.parametrize("case", PLACES)
def test_the_places_of_frames(case):
    stamps, how, places = PLACES[case]
    starts, timeline = place(stamps, **how)
    assert {number: start for number, start in enumerate(starts) if start is not None} == pytest.approx(places)
    last = max(places, default=0)
    assert timeline.end == pytest.approx(places.get(last, 0.0) + 0.5 * (len(stamps) - last))


def test_gaps_and_overlaps_are_recorded():
    later = place([0.0, 0.5, 1.2, 1.7])[1]
    assert later.gaps == [Span(1.0, pytest.approx(0.2))]
    assert later.leading_silence == 0.0
    overlapping = place([0.0, 0.5, 1.0, 1.5, 1.2, 1.7])[1]
    assert overlapping.overlaps == [Span(1.2, pytest.approx(0.8))]
    assert not overlapping.gaps
    assert place([5.0, 5.5], origin=2.0)[1].leading_silence == 3.0
    assert not place([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])[1].overlaps
    assert place([0.0, 0.5, 5000.0, 5000.5])[1].ignored == [Span(1.0, 4999.0)]


def test_overlapping_samples_are_cut():
    first, again = np.arange(1, 101, dtype=np.int16), np.arange(61, 161, dtype=np.int16)
    assert np.concatenate([*_place_samples([first, 0.06, again], 1000)]).tolist() == [*range(1, 161)]
    assert np.concatenate([*_place_samples([first, 0.02, first[:10]], 1000)]).tolist() == [*range(1, 101)]
    assert np.concatenate([*_place_samples([first[:2], 0.004, first[:1]], 1000)]).tolist() == [1, 2, 0, 0, 1]
