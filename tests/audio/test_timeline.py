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


# The ffmpeg command also shifts MP4 by the 1,024 samples of the encoder's delay.
@pytest.mark.parametrize(("container", "start", "delay"), [("mp4", 4.0, 3.936), ("matroska", 300.0, 300.0)])
def test_audio_that_starts_after_the_video_is_preceded_by_silence(container, start, delay):
    content = encode_audio(SPEECH, container, "aac", video=True, start=start)
    plain = load_without_warning(content)
    with pytest.warns(UserWarning, match=rf"missing audio was replaced by silence: {delay:.2f} s at 0\.00 s") as caught:
        audio = open_audio(content, timeline=True)
    assert [warning.filename for warning in caught] == [__file__]
    with audio:
        silence = audio.size - plain.size
        assert silence == pytest.approx(delay * SAMPLE_RATE, abs=20)
        assert audio.leading_silence == pytest.approx(delay, abs=0.001)
        assert not audio.read(0, silence).any()
        assert np.array_equal(audio.read(silence, audio.size), plain)


@pytest.mark.parametrize(("container", "codec"), [("matroska", "libopus"), ("mpegts", "mp2")])
def test_missing_packets_become_silence(container, codec):
    pcm = np.repeat(LONG, 3)
    content = encode_audio(pcm, container, codec, rate=48000, keep=lambda time: not 2.0 < time < 4.5)
    with pytest.warns(UserWarning, match="missing audio: 2.* s at .*; everything after it comes that much earlier"):
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


def test_broken_audio_becomes_silence_even_without_timestamps():
    content = bytearray(encode_audio(LONG, "mp3", "libmp3lame"))
    noise = np.random.default_rng(0).integers(0, 255, 6000, np.uint8)  # no sync word
    content[10_000:16_000] = noise.tobytes()
    with pytest.warns(UserWarning, match="broken audio was left out"):
        short = load_audio(bytes(content))
    with pytest.warns(UserWarning, match="missing audio was replaced by silence"):
        placed = load_audio(bytes(content), timeline=True)
    assert short.size < LONG.size - 8000
    assert placed.size == pytest.approx(LONG.size, abs=1600)


# --- Rules for single frames


def place(stamps, *, container="matroska", origin=0.0, lost=()):
    """Place frames of half a second by their timestamps; return where each starts anew, or None, and the timeline."""
    timeline = Timeline(container, origin, limit=600.0)
    starts = []
    for number, stamp in enumerate(stamps):
        pts = None if stamp is None else round(stamp * 1000)
        frame = SimpleNamespace(samples=4000, sample_rate=8000, pts=pts, time_base=Fraction(1, 1000))
        starts.append(timeline.place(frame, dict(lost).get(number, 0.0)))
    return starts, timeline


PLACES = {  # timestamps, options, and the starts of the frames that do not continue the previous one
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
def test_frames_are_placed_by_plausible_timestamps(case):
    stamps, how, places = PLACES[case]
    starts, timeline = place(stamps, **how)
    assert {number: start for number, start in enumerate(starts) if start is not None} == pytest.approx(places)
    last = max(places, default=0)
    assert timeline.end == pytest.approx(places.get(last, 0.0) + 0.5 * (len(stamps) - last))


def test_gaps_and_overlaps_are_recorded():
    overlapping = place([2.0, 2.5, 3.0, 3.5, 3.2, 3.7], origin=1.0)[1]
    assert overlapping.overlaps == [Span(2.2, pytest.approx(0.8))]
    assert overlapping.gaps == [Span(0.0, 1.0)]
    assert not place([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])[1].overlaps


def test_overlapping_samples_are_cut():
    first, again = np.arange(1, 101, dtype=np.int16), np.arange(61, 161, dtype=np.int16)
    assert np.concatenate([*_place_samples([first, 0.06, again], 1000)]).tolist() == [*range(1, 161)]
    assert np.concatenate([*_place_samples([first, 0.02, first[:10]], 1000)]).tolist() == [*range(1, 101)]
    assert np.concatenate([*_place_samples([first[:2], 0.004, first[:1]], 1000)]).tolist() == [1, 2, 0, 0, 1]
