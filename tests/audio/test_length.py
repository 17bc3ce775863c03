"""Files that are whole and look cut, and files that are cut: only a statement about bytes or samples is evidence."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest

from audio_files import FFMPEG_TOLERANCE, assert_rejected, encode_audio, encode_tracks, ffmpeg, needs_ffmpeg
from minwhisper.audio.load import load_audio

SHORT = Path(__file__).parents[1] / "data" / "LJ001-0002.wav"  # 1.9 s
PCM = np.round(load_audio(SHORT) * 32768).astype(np.int16)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}


def patched(content, at, new):
    return content[:at] + new + content[at + len(new) :]


def flac_of(samples):
    """A FLAC file that states this many samples, in the 36 bits before its MD5 sum."""
    content = encode_audio(PCM, "flac", "flac")
    return patched(content, 21, bytes([content[21] & 0xF0 | samples >> 32]) + (samples & 0xFFFFFFFF).to_bytes(4, "big"))


def aiff_from_a_pipe():
    content = encode_audio(PCM, "aiff", "pcm_s16be")
    content = patched(content, 4, (0x7F000050).to_bytes(4, "big"))
    content = patched(content, content.index(b"COMM") + 10, (0x3F800000).to_bytes(4, "big"))
    return patched(content, content.index(b"SSND") + 4, (0x7F000008).to_bytes(4, "big"))


def wav_of(riff=None, data=None):
    content = encode_audio(PCM, "wav", "pcm_s16le")
    if riff is not None:
        content = patched(content, 4, riff.to_bytes(4, "little"))
    return content if data is None else patched(content, content.index(b"data") + 4, data.to_bytes(4, "little"))


def caf_of(size):
    content = encode_audio(PCM, "caf", "pcm_s16be")
    return patched(content, content.index(b"data") + 4, size.to_bytes(8, "big", signed=True))


def boxes(content):
    """Where each box of an MP4 begins, with its name."""
    at = 0
    while at < len(content):
        yield at, content[at + 4 : at + 8]
        at += int.from_bytes(content[at : at + 4], "big")


def late_fragments():
    """A fragmented MP4 without its first fragment, as a player of a live stream saves it."""
    content = encode_audio(PCM, "mp4", "aac", **FRAGMENTED)
    first, second = [at for at, name in boxes(content) if name == b"moof"][:2]
    return content[:first] + content[second:]


def mp4_with_a_long_last_sample():
    """An MP4 whose tables say that the last sample lasts five seconds longer."""
    content = encode_audio(PCM, "mp4", "aac")
    for name, at, scale in (("mvhd", 16, 1000), ("tkhd", 20, 1000), ("elst", 8, 1000), ("mdhd", 16, 16000)):
        begin = content.index(name.encode()) + 4 + at
        longer = int.from_bytes(content[begin : begin + 4], "big") + 5 * scale
        content = patched(content, begin, longer.to_bytes(4, "big"))
    begin = content.index(b"stts") + 4
    last = begin + 8 + 8 * (int.from_bytes(content[begin + 4 : begin + 8], "big") - 1) + 4
    return patched(content, last, (int.from_bytes(content[last : last + 4], "big") + 80000).to_bytes(4, "big"))


WHOLE = {
    "flac from a pipe": lambda: flac_of(0x3FFFFFFF),
    "flac of twice the length": lambda: flac_of(2 * PCM.size),
    "flac of the most samples": lambda: flac_of((1 << 36) - 1),
    "aiff from a pipe": aiff_from_a_pipe,
    "wav with a RIFF size twice as large": lambda: wav_of(2 * 2 * PCM.size + 36),
    "wav of 1 GiB": lambda: wav_of((1 << 30) + 36, 1 << 30),
    "wav of 2 GiB": lambda: wav_of(0x7FFFFFFF, 0x7FFFFFFF - 36),
    "empty first track in mkv": lambda: encode_tracks("matroska", "aac", [(PCM[:0], "eng"), (PCM, "fra")]),
    "empty first track in avi": lambda: encode_tracks("avi", "libmp3lame", [(PCM[:0], "eng"), (PCM, "fra")]),
    "fragments that start late": late_fragments,
    "mp4 with a long last sample": mp4_with_a_long_last_sample,
    "mp3 and zeros": lambda: encode_audio(PCM, "mp3", "libmp3lame") + bytes(200_000),
    "caf of size 0": lambda: caf_of(0),
    "caf of size -1": lambda: caf_of(-1),
    "caf that is too short to be cut": lambda: caf_of(2 * PCM.size + 4),
    "chained ogg flac": lambda: 2 * encode_audio(PCM, "ogg", "flac"),
    "chained ogg opus": lambda: 2 * encode_audio(np.repeat(PCM, 3), "ogg", "libopus", rate=48000),
    "adts of two rates": lambda: (
        encode_audio(PCM, "adts", "aac") + encode_audio(np.repeat(PCM, 3), "adts", "aac", rate=48000)
    ),
}


@pytest.fixture(scope="module", params=WHOLE)
def whole(request):
    return WHOLE[request.param]()


def test_a_whole_file_is_neither_refused_nor_warned_about(whole, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, placed = load_audio(whole), load_audio(whole, timeline=True)
    assert loaded.size >= PCM.size - 16000  # one of them lacks a fragment of a second
    assert np.array_equal(loaded, placed)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parity
@needs_ffmpeg
def test_the_samples_of_a_whole_file_are_those_of_ffmpeg(whole, tmp_path):
    path = tmp_path / "whole"
    path.write_bytes(whole)
    expected, samples = ffmpeg(path), load_audio(path)
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE


CUT = {
    "mp4 with less media than its table": lambda: encode_audio(PCM, "mp4", "aac", moov_size="5000")[:-5000],
    "mp3 of 90 %": lambda: encode_audio(PCM, "mp3", "libmp3lame")[:-760],
    "flac with a torn end": lambda: encode_audio(PCM, "flac", "flac")[:-2000],
    "flac without its last byte": lambda: encode_audio(PCM, "flac", "flac")[:-1],
    "wav shorter than its data": lambda: wav_of()[:-10000],
    "wav with an exact RIFF size": lambda: wav_of(0xFFFFFFFF)[:-10000],
    "wav without sizes but in the data": lambda: wav_of(0)[:-10000],
    "aiff": lambda: encode_audio(PCM, "aiff", "pcm_s16be")[:-10000],
    "au": lambda: encode_audio(PCM, "au", "pcm_s16be")[:-10000],
    "caf": lambda: encode_audio(PCM, "caf", "pcm_s16be")[:-10000],
    "rf64": lambda: encode_audio(PCM, "wav", "pcm_s16le", rf64="always")[:-10000],
    "matroska": lambda: encode_audio(PCM, "matroska", "aac")[:-5000],
    "webm": lambda: encode_audio(np.repeat(PCM, 3), "webm", "libopus", rate=48000)[:-5000],
    "mp4 in fragments": lambda: encode_audio(PCM, "mp4", "aac", **FRAGMENTED)[:-4000],
}


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("timeline", [False, True])
def test_a_file_that_is_cut_is_refused(kind, timeline, capfd):
    assert_rejected(CUT[kind](), "seconds can be read", "the end is broken or missing", timeline=timeline)
    assert capfd.readouterr() == ("", "")


TORN = {
    "aac": lambda: encode_audio(PCM, "adts", "aac"),
    "latm": lambda: encode_audio(PCM, "latm", "aac"),
    "mp2": lambda: encode_audio(PCM, "mp2", "mp2"),
    "ac3": lambda: encode_audio(np.repeat(PCM, 3), "ac3", "ac3", rate=48000),
    "asf": lambda: encode_audio(PCM, "asf", "libmp3lame"),
    "ogg": lambda: encode_audio(np.repeat(PCM, 3), "ogg", "libopus", rate=48000),
    "flv": lambda: encode_audio(np.repeat(PCM, 3)[: 2 * PCM.size], "flv", "libmp3lame", rate=44100),
    "avi": lambda: encode_audio(PCM, "avi", "libmp3lame"),
    "mpegts": lambda: encode_audio(PCM, "mpegts", "aac"),
    "mp3 without header": lambda: encode_audio(PCM, "mp3", "libmp3lame", write_xing="0"),
}


@pytest.mark.parametrize("kind", TORN)
def test_a_format_that_states_no_length_ends_where_it_ends(kind):
    content = TORN[kind]()
    whole, last = load_audio(content).size, 0
    for keep in (len(content) * 2 // 3, len(content) - 700, len(content) - 30):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            size = load_audio(content[:keep]).size
        assert last <= size <= whole
        assert len(caught) <= 1
        for warning in caught:
            assert "the last packet is broken and was left out; the end may be missing" in str(warning.message)
        last = size
    assert last > whole - 16000  # of an Ogg page, which is a second, all of it is lost


@pytest.mark.parity
@needs_ffmpeg
@pytest.mark.parametrize("kind", TORN)
def test_what_is_torn_is_read_as_ffmpeg_reads_it(kind, tmp_path):
    path = tmp_path / "torn"
    path.write_bytes(TORN[kind]()[:-30])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = load_audio(path)
    expected = ffmpeg(path)
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE


@pytest.mark.parametrize("kind", ["aac", "latm", "ogg", "mpegts"])
@pytest.mark.parametrize("timeline", [False, True])
def test_a_torn_last_packet_is_named(kind, timeline):
    with pytest.warns(UserWarning, match="the last packet is broken and was left out; the end may be missing"):
        load_audio(TORN[kind]()[:-30], timeline=timeline)


def test_ogg_that_is_cut_between_pages_is_not_torn():
    content = encode_audio(np.repeat(np.tile(PCM, 3), 3), "ogg", "libopus", rate=48000)
    cut = content.rindex(b"OggS")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_audio(content[:cut]).size > 8000


def test_placeholders_next_to_sizes():
    """A size of a real file is believed even if it is large: 1 GiB is a placeholder, 0.9 GiB is not."""
    assert_rejected(wav_of(data=900 << 20), "of 29491.20 seconds")


def test_the_position_of_an_open_file_does_not_matter():
    file = io.BytesIO(b"x" * 1001 + wav_of())
    file.seek(1001)
    assert load_audio(file).size == PCM.size
