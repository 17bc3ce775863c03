"""Truncated files are rejected, complete ones are not, whatever their headers state."""

import io
import warnings

import numpy as np
import pytest

from audio_files import FFMPEG_TOLERANCE, assert_rejected, av, encode_audio, encode_tracks, ffmpeg, needs_ffmpeg
from conftest import DATA
from minwhisper.audio.load import load_audio

CLIP = DATA / "LJ001-0002.wav"  # 1.9 s
PCM = np.round(load_audio(CLIP) * 32768).astype(np.int16)
LATER = np.concatenate([np.zeros(160000, np.int16), PCM, PCM])  # an MP3 of variable rate has a low one at first
ID3, ID3V1 = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048), b"TAG" + bytes(125)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}


def patched(content, at, new):
    return content[:at] + new + content[at + len(new) :]


def flac_of(samples):
    """Return a FLAC file that states this number of samples, in the 36 bits before its MD5 sum."""
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
    """Yield the position and the name of each box of an MP4."""
    at = 0
    while at < len(content):
        yield at, content[at + 4 : at + 8]
        at += int.from_bytes(content[at : at + 4], "big")


def late_fragments():
    """Return a fragmented MP4 without its first fragment, like a saved live stream."""
    content = encode_audio(PCM, "mp4", "aac", **FRAGMENTED)
    first, second = [at for at, name in boxes(content) if name == b"moof"][:2]
    return content[:first] + content[second:]


def mp4_with_a_long_last_sample():
    """Return an MP4 whose tables state that the last sample is five seconds longer."""
    content = encode_audio(PCM, "mp4", "aac")
    for name, at, scale in (("mvhd", 16, 1000), ("tkhd", 20, 1000), ("elst", 8, 1000), ("mdhd", 16, 16000)):
        begin = content.index(name.encode()) + 4 + at
        longer = int.from_bytes(content[begin : begin + 4], "big") + 5 * scale
        content = patched(content, begin, longer.to_bytes(4, "big"))
    begin = content.index(b"stts") + 4
    last = begin + 8 + 8 * (int.from_bytes(content[begin + 4 : begin + 8], "big") - 1) + 4
    return patched(content, last, (int.from_bytes(content[last : last + 4], "big") + 80000).to_bytes(4, "big"))


COMPLETE = {
    "mp3": lambda: encode_audio(PCM, "mp3", "libmp3lame"),
    "mp3 without Xing header": lambda: encode_audio(PCM, "mp3", "libmp3lame", write_xing="0"),
    "mp3 of variable rate": lambda: encode_audio(LATER, "mp3", "libmp3lame", write_xing="0", compression_level="0"),
    "mp3 with a tag at the end": lambda: encode_audio(PCM, "mp3", "libmp3lame") + ID3V1,
    "mp3 with two tags": lambda: ID3 + encode_audio(PCM, "mp3", "libmp3lame", write_xing="0") + ID3V1,
    "flac with a tag at the end": lambda: encode_audio(PCM, "flac", "flac") + ID3V1,
    "flac of unknown length": lambda: flac_of(0),
    "wav of unknown length": lambda: wav_of(0xFFFFFFFF, 0xFFFFFFFF),
    "wav of length 0": lambda: wav_of(0, 0),
    "mpegts": lambda: encode_audio(PCM, "mpegts", "aac"),
    "live matroska": lambda: encode_audio(PCM, "matroska", "aac", live="1"),
    "matroska of a low rate": lambda: encode_audio(PCM, "matroska", "aac", rate=8000),
    "video after the end of the audio": lambda: encode_audio(PCM[:3000], "matroska", "aac", video=True),
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
    "caf with a size 4 bytes too large": lambda: caf_of(2 * PCM.size + 4),
    "chained ogg flac": lambda: 2 * encode_audio(PCM, "ogg", "flac"),
    "chained ogg opus": lambda: 2 * encode_audio(np.repeat(PCM, 3), "ogg", "libopus", rate=48000),
    "adts of two rates": lambda: (
        encode_audio(PCM, "adts", "aac") + encode_audio(np.repeat(PCM, 3), "adts", "aac", rate=48000)
    ),
}


@pytest.fixture(scope="module", params=COMPLETE)
def complete(request):
    return COMPLETE[request.param]()


def test_a_complete_file_loads_without_warning(complete, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, placed = load_audio(complete), load_audio(complete, timeline=True)
    assert loaded.size >= 3000
    assert np.array_equal(loaded, placed)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parity
@needs_ffmpeg
def test_a_complete_file_loads_as_with_ffmpeg(complete, tmp_path):
    path = tmp_path / "complete"
    path.write_bytes(complete)
    expected, samples = ffmpeg(path), load_audio(path)
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE


def mp3_without_packets():
    content = encode_audio(PCM, "mp3", "libmp3lame")
    with av.open(io.BytesIO(content)) as container:
        packets = [packet.size for packet in container.demux(audio=0) if packet.size]
    return content[: -sum(packets[-20:])]


TRUNCATED = {
    "mp4 with less media than its table": lambda: encode_audio(PCM, "mp4", "aac", moov_size="5000")[:-5000],
    "mp3 of 90 %": lambda: encode_audio(PCM, "mp3", "libmp3lame")[:-760],
    "mp3 without its last 20 packets": mp3_without_packets,
    "flac of 2,000 bytes less": lambda: encode_audio(PCM, "flac", "flac")[:-2000],
    "flac without its last byte": lambda: encode_audio(PCM, "flac", "flac")[:-1],
    "wav shorter than its data": lambda: wav_of()[:-10000],
    "wav with an exact RIFF size": lambda: wav_of(0xFFFFFFFF)[:-10000],
    "wav with a size in its data chunk only": lambda: wav_of(0)[:-10000],
    "aiff": lambda: encode_audio(PCM, "aiff", "pcm_s16be")[:-10000],
    "au": lambda: encode_audio(PCM, "au", "pcm_s16be")[:-10000],
    "caf": lambda: encode_audio(PCM, "caf", "pcm_s16be")[:-10000],
    "rf64": lambda: encode_audio(PCM, "wav", "pcm_s16le", rf64="always")[:-10000],
    "matroska": lambda: encode_audio(PCM, "matroska", "aac")[:-5000],
    "webm": lambda: encode_audio(np.repeat(PCM, 3), "webm", "libopus", rate=48000)[:-5000],
    "mp4 in fragments": lambda: encode_audio(PCM, "mp4", "aac", **FRAGMENTED)[:-4000],
}


FIRST_THIRD = {
    "a third of mp3": lambda: encode_audio(PCM, "mp3", "libmp3lame"),
    "a third of flac": lambda: encode_audio(PCM, "flac", "flac"),
    "a third of wav": wav_of,
    "a third of matroska": lambda: encode_audio(PCM, "matroska", "aac"),
    "a third of m4a": lambda: encode_audio(PCM, "ipod", "aac", movflags="frag_keyframe+empty_moov"),
}


@pytest.mark.parametrize("kind", [*TRUNCATED, *FIRST_THIRD])
@pytest.mark.parametrize("timeline", [False, True])
def test_a_truncated_file_is_rejected_with_its_length(kind, timeline, capfd):
    parts = "seconds can be read", "the end is broken or missing", "copy or download"
    content = TRUNCATED[kind]() if kind in TRUNCATED else FIRST_THIRD[kind]()
    if kind in FIRST_THIRD:
        content = content[: len(content) // 3]
    message = assert_rejected(content, *parts, timeline=timeline)
    read, total = map(float, message.partition(": ")[2].partition(" seconds")[0].split(" of "))
    assert 0 < read < total
    if kind != "mp4 in fragments":  # only the fragments that are there state their length
        assert total == pytest.approx(PCM.size / 16000, abs=0.07)
    if kind in FIRST_THIRD:
        assert read == pytest.approx(total / 3, abs=0.35)
    assert capfd.readouterr() == ("", "")


NO_LENGTH = {
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


@pytest.mark.parametrize("kind", NO_LENGTH)
def test_a_format_that_states_no_length_ends_where_it_ends(kind):
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
    assert last > whole - 16000  # an incomplete Ogg page, about a second, is left out


@pytest.mark.parity
@needs_ffmpeg
@pytest.mark.parametrize("kind", NO_LENGTH)
def test_a_format_without_a_length_loads_as_with_ffmpeg(kind, tmp_path):
    path = tmp_path / "truncated"
    path.write_bytes(NO_LENGTH[kind]()[:-30])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = load_audio(path)
    expected = ffmpeg(path)
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE


BROKEN_END = {name: NO_LENGTH[name] for name in ("aac", "latm", "ogg", "mpegts")} | {
    "flac of unknown length": lambda: flac_of(0xFFFFFFFFF),
}


@pytest.mark.parametrize("kind", BROKEN_END)
@pytest.mark.parametrize("timeline", [False, True])
def test_a_broken_last_packet_gives_a_warning(kind, timeline):
    with pytest.warns(UserWarning, match="the last packet is broken and was left out; the end may be missing"):
        load_audio(BROKEN_END[kind]()[:-30], timeline=timeline)


def test_a_flac_frame_is_complete_if_its_checksum_is_right():
    from minwhisper.audio.track_decoder import is_complete_flac_frame  # needs PyAV

    with av.open(io.BytesIO(encode_audio(PCM, "flac", "flac"))) as container:
        frame = bytes(next(container.demux(audio=0)))
    assert is_complete_flac_frame(frame)
    assert is_complete_flac_frame(frame + ID3V1)
    assert not is_complete_flac_frame(frame[:-1])
    assert not is_complete_flac_frame(frame[:100] + bytes([frame[100] ^ 1]) + frame[101:])


def test_ogg_truncated_between_pages_loads_without_warning():
    content = encode_audio(np.repeat(np.tile(PCM, 3), 3), "ogg", "libopus", rate=48000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_audio(content[: content.rindex(b"OggS")]).size > 8000


def test_a_large_size_that_is_not_a_placeholder():
    assert_rejected(wav_of(data=900 << 20), "of 29491.20 seconds")


def test_a_file_in_the_middle_of_another_is_complete():
    file = io.BytesIO(b"x" * 1001 + wav_of())
    file.seek(1001)
    assert load_audio(file).size == PCM.size
