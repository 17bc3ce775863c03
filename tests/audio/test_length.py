"""Truncated files are rejected, complete ones are not, whatever their headers state."""

import warnings

import numpy as np
import pytest

from audio_files import SPEECH, assert_rejected, assert_same_as_ffmpeg, encode_audio, load_without_warning, needs_ffmpeg
from minwhisper.audio.load import load_audio

LONG = np.tile(SPEECH, 4)  # 7.6 s, long enough for rounding errors of timestamps to add up
LATER = np.concatenate([np.zeros(160000, np.int16), SPEECH, SPEECH])  # an MP3 of variable bit rate starts low
ID3, ID3V1 = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048), b"TAG" + bytes(125)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}


def encode(container, codec, pcm=SPEECH, *, rate=16000, **options):
    """Return the bytes of a file; libopus needs 48 kHz."""
    if codec == "libopus":
        pcm, rate = np.repeat(pcm, 3), 48000
    return encode_audio(pcm, container, codec, rate=rate, **options)


def mp3(**options):
    return encode("mp3", "libmp3lame", **options)


def patched(content, at, new):
    return content[:at] + new + content[at + len(new) :]


def flac_of(samples):
    """Return a FLAC file that states this number of samples in the 36 bits before its MD5 sum."""
    content = encode("flac", "flac")
    return patched(content, 21, bytes([content[21] & 0xF0 | samples >> 32]) + (samples & 0xFFFFFFFF).to_bytes(4, "big"))


def wav_of(riff=None, data=None):
    content = encode("wav", "pcm_s16le")
    if riff is not None:
        content = patched(content, 4, riff.to_bytes(4, "little"))
    return content if data is None else patched(content, content.index(b"data") + 4, data.to_bytes(4, "little"))


def caf_of(size):
    content = encode("caf", "pcm_s16be")
    return patched(content, content.index(b"data") + 4, size.to_bytes(8, "big", signed=True))


def late_fragments():
    """Return a fragmented MP4 without its first fragment, like a saved live stream."""
    content = encode("mp4", "aac", **FRAGMENTED)
    first = content.index(b"moof") - 4
    return content[:first] + content[content.index(b"moof", first + 8) - 4 :]


COMPLETE = {
    "mp3": lambda: mp3(pcm=LONG),
    "mp3 without Xing header": lambda: mp3(write_xing="0"),
    "mp3 of variable rate": lambda: mp3(pcm=LATER, write_xing="0", compression_level="0"),
    "mp3 with two tags": lambda: ID3 + mp3(write_xing="0") + ID3V1,
    "mp3 and zeros": lambda: mp3() + bytes(200_000),
    "mp3 in avi with video": lambda: encode("avi", "libmp3lame", LONG, rate=44100, video=True),
    "flac with a tag at the end": lambda: encode("flac", "flac") + ID3V1,
    "flac of unknown length": lambda: flac_of(0),
    "flac of twice the length": lambda: flac_of(2 * SPEECH.size),
    "wav of unknown length": lambda: wav_of(0xFFFFFFFF, 0xFFFFFFFF),
    "wav from a pipe": lambda: wav_of(0x7F000024, 0x7F000000),
    "wav of length 0": lambda: wav_of(0, 0),
    "wav with a RIFF size twice as large": lambda: wav_of(2 * 2 * SPEECH.size + 36),
    "wav of 1 GiB": lambda: wav_of((1 << 30) + 36, 1 << 30),
    "au": lambda: encode("au", "pcm_s16be", rate=8000),
    "caf of size -1": lambda: caf_of(-1),
    "caf with a size 4 bytes too large": lambda: caf_of(2 * SPEECH.size + 4),
    "aac of two rates": lambda: encode("adts", "aac") + encode("adts", "aac", np.repeat(SPEECH, 3), rate=48000),
    "mpegts that starts at 100 s": lambda: encode("mpegts", "aac", start=100.0),
    "mpegts with video": lambda: encode("mpegts", "aac", LONG, rate=44100, video=True),
    "live matroska": lambda: encode("matroska", "aac", live="1"),
    "matroska of a low rate": lambda: encode("matroska", "aac", rate=8000),
    "matroska with video": lambda: encode("matroska", "aac", LONG, rate=44100, video=True),
    "audio that starts slightly later than the video": lambda: encode("matroska", "aac", video=True, start=0.09),
    "video after the end of the audio": lambda: encode("matroska", "aac", SPEECH[:3000], video=True),
    "webm": lambda: encode("webm", "libopus", LONG),
    "mp4 with video": lambda: encode("mp4", "aac", LONG, rate=44100, video=True),
    "fragments that start late": late_fragments,
    "chained ogg opus": lambda: 2 * encode("ogg", "libopus"),
}


@pytest.mark.parametrize("kind", COMPLETE)
def test_a_complete_file_loads_without_warning_and_has_no_gaps(kind, capfd):
    content = COMPLETE[kind]()
    loaded = load_without_warning(content)
    assert loaded.size >= 3000
    assert np.array_equal(loaded, load_without_warning(content, timeline=True))
    assert capfd.readouterr() == ("", "")


def third(content):
    return content[: len(content) // 3]


TRUNCATED = {
    "a third of mp3": lambda: third(mp3()),
    "a third of flac": lambda: third(encode("flac", "flac")),
    "a third of wav": lambda: third(wav_of()),
    "a third of matroska": lambda: third(encode("matroska", "aac")),
    "mp4 with less media than its table": lambda: encode("mp4", "aac", moov_size="5000")[:-5000],
    "mp4 in fragments": lambda: encode("mp4", "aac", **FRAGMENTED)[:-4000],
    "flac without its last byte": lambda: encode("flac", "flac")[:-1],
    "wav with an exact RIFF size": lambda: wav_of(0xFFFFFFFF)[:-10000],
    "aiff": lambda: encode("aiff", "pcm_s16be")[:-10000],
    "au": lambda: encode("au", "pcm_s16be")[:-10000],
    "caf": lambda: encode("caf", "pcm_s16be")[:-10000],
    "rf64": lambda: encode("wav", "pcm_s16le", rf64="always")[:-10000],
    "webm": lambda: encode("webm", "libopus")[:-5000],
}


@pytest.mark.parametrize("kind", TRUNCATED)
def test_a_truncated_file_is_rejected_with_its_length(kind, capfd):
    parts = "seconds can be read", "the end is broken or missing", "copy or download"
    message = assert_rejected(TRUNCATED[kind](), *parts, timeline=True)
    read, total = map(float, message.partition(": ")[2].partition(" seconds")[0].split(" of "))
    assert 0 < read < total
    if kind != "mp4 in fragments":  # a fragment states its own length only
        assert total == pytest.approx(SPEECH.size / 16000, abs=0.07)
    if kind.startswith("a third"):
        assert read == pytest.approx(total / 3, abs=0.35)
    assert capfd.readouterr() == ("", "")


NO_LENGTH = {
    "aac": lambda: encode("adts", "aac"),
    "asf": lambda: encode("asf", "libmp3lame"),
    "ogg": lambda: encode("ogg", "libopus"),
    "avi": lambda: encode("avi", "libmp3lame"),
    "mpegts": lambda: encode("mpegts", "aac"),
    "mp3 without header": lambda: mp3(write_xing="0"),
    "flac of unknown length": lambda: flac_of(0xFFFFFFFFF),
}
BROKEN_END = ("aac", "ogg", "mpegts", "flac of unknown length")


@pytest.mark.parametrize("kind", NO_LENGTH)
def test_a_truncated_file_without_a_stated_length_loads_up_to_its_end(kind):
    content = NO_LENGTH[kind]()
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
    assert caught or kind not in BROKEN_END
    assert last > whole - 16000  # an incomplete Ogg page holds about a second, and is left out


# Complete files, and the others without their last 30 bytes. FFmpeg 9 leaves out the padding at the end of an MP4.
LIKE_FFMPEG = {kind: make for kind, make in COMPLETE.items() if kind != "mp4 with video"} | {
    f"truncated {kind}": lambda make=make: make()[:-30] for kind, make in NO_LENGTH.items()
}


@pytest.mark.parity
@needs_ffmpeg
@pytest.mark.parametrize("kind", LIKE_FFMPEG)
def test_a_file_loads_as_with_ffmpeg(kind, tmp_path):
    (tmp_path / "audio").write_bytes(LIKE_FFMPEG[kind]())
    assert_same_as_ffmpeg(tmp_path / "audio")


def test_ogg_truncated_between_pages_loads_without_warning():
    content = encode("ogg", "libopus", LONG)
    assert load_without_warning(content[: content.rindex(b"OggS")]).size > 8000


def test_a_data_size_of_900_mib_is_not_taken_for_a_placeholder():
    assert_rejected(wav_of(data=900 << 20), "of 29491.20 seconds")
