"""Sound files: that the samples are ffmpeg's, where files come from, and what is said of those that are broken."""

import builtins
import io
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from audio_files import (
    FFMPEG_TOLERANCE,
    assert_rejected,
    av,
    encode_audio,
    ffmpeg,
    needs_ffmpeg,
    video_without_audio,
    wav_bytes,
)
from minwhisper.audio import sample_store
from minwhisper.audio.load import load_audio, open_audio
from minwhisper.errors import AudioError
from test_sample_store import needs_proc, temporary_files

TESTS = Path(__file__).parents[1]
CLIPS = sorted(path for path in (TESTS / "data").iterdir() if path.suffix in {".wav", ".flac", ".aiff"})
SHORT = TESTS / "data" / "LJ001-0002.wav"  # 1.9 s


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """1.9 s of speech as 16-bit integers: (N,) at 16 kHz."""
    return np.round(load_audio(SHORT) * 32768).astype(np.int16)


def level(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def alike(one, other, *, slack=0):
    """How well two recordings agree, 1 being perfectly, when one may lag by up to slack samples."""
    size = min(len(one), len(other)) - slack
    return max(np.corrcoef(one[lag : size + lag], other[:size])[0, 1] for lag in range(slack + 1))


# --- The numbers


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_samples_are_those_of_ffmpeg(clip):
    golden = np.load(TESTS / "golden" / "ffmpeg_samples.npz")
    samples = load_audio(clip)
    assert samples.dtype == np.float32
    assert samples.shape == (golden[f"{clip.name}.length"],)
    assert np.abs(samples[::97] - golden[clip.name] / 32768.0).max() <= FFMPEG_TOLERANCE


@pytest.mark.parity
@needs_ffmpeg
@pytest.mark.parametrize("name", ["LJ001-0002.wav", "french.aiff", "jfk.flac", "audio-stereo-24-bit-44100Hz.wav"])
def test_ffmpeg_itself(name):
    path = TESTS / "data" / name
    expected = ffmpeg(path)
    samples = load_audio(path)
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE


@pytest.mark.parity
@needs_ffmpeg
@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_are_mixed_as_ffmpeg_does(channels, tmp_path):
    noise = np.random.default_rng(channels).integers(-9000, 9000, (4410, channels))
    path = tmp_path / "noise.wav"
    path.write_bytes(wav_bytes(noise, rate=44100))
    assert np.abs(load_audio(path) - ffmpeg(path)).max() <= FFMPEG_TOLERANCE


@pytest.mark.parity
@needs_ffmpeg
def test_two_tracks_as_ffmpeg_chooses(tmp_path):
    path = tmp_path / "two.mkv"
    tone = (8000 * np.sin(np.arange(16000) / 5)).astype(np.int16)
    with av.open(path, "w") as out:
        sounds = {"mono": tone, "stereo": np.repeat(tone // 4, 2)}
        streams = [out.add_stream("pcm_s16le", rate=16000, layout=layout) for layout in sounds]
        for stream, (layout, sound) in zip(streams, sounds.items(), strict=True):
            frame = av.AudioFrame.from_ndarray(sound[None], "s16", layout)
            frame.sample_rate, frame.pts = 16000, 0
            out.mux(stream.encode(frame))
    assert np.abs(load_audio(path) - ffmpeg(path)).max() <= FFMPEG_TOLERANCE


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_widths(width):
    ramp = np.linspace(-0.9, 0.9, 16000)
    integers = np.round(ramp * 2 ** (8 * width - 1)).astype(np.int64) + (128 if width == 1 else 0)
    loaded = load_audio(wav_bytes(integers[:, None], width=width))
    assert np.abs(loaded - ramp).max() <= (1 / 128 if width == 1 else 1 / 32768)


@pytest.mark.parametrize(
    ("container", "codec", "rate", "video"),
    [
        ("flac", "flac", 16000, False),
        ("mp3", "libmp3lame", 16000, False),
        ("ogg", "libopus", 48000, False),
        ("ipod", "aac", 16000, False),
        ("adts", "aac", 16000, False),
        ("mpegts", "aac", 16000, False),
        ("mp4", "aac", 16000, True),
        ("matroska", "aac", 16000, True),
    ],
)
def test_formats(container, codec, rate, video, speech, tmp_path):
    sound = speech if rate == 16000 else np.repeat(speech, 3)
    path = tmp_path / "sound"
    path.write_bytes(encode_audio(sound, container, codec, rate=rate, video=video))
    loaded = load_audio(path)
    assert abs(loaded.size - speech.size) <= 2 * 1024  # a packet of padding at either end
    assert alike(loaded, speech, slack=0 if codec != "aac" or container in ("ipod", "mp4") else 1024) > 0.98
    assert level(loaded) == pytest.approx(level(speech / 32768), rel=0.1)


@pytest.mark.parametrize(("container", "codec"), [("wav", "pcm_s16le"), ("flac", "flac"), ("ipod", "aac")])
def test_stereo_keeps_its_level(container, codec, speech):
    loud, soft = speech, speech // 3
    loaded = load_audio(encode_audio(np.stack([loud, soft], axis=1), container, codec))
    mean = (loud / 2 + soft / 2) / 32768
    assert level(loaded[: mean.size]) / level(mean) == pytest.approx(1, abs=0.02)


def test_joined_files_of_different_rates(speech):
    parts = [encode_audio(speech, "mp3", "libmp3lame", rate=rate) for rate in (16000, 32000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the second file's header is no sound
        loaded = load_audio(b"".join(parts))
    assert loaded.size == pytest.approx(speech.size * 1.5, rel=0.05)


def test_a_second_load_is_the_same():
    assert np.array_equal(load_audio(SHORT), load_audio(SHORT))


# --- Where it comes from


def test_path_bytes_file_and_standard_input_agree(monkeypatch, tmp_path):
    expected = load_audio(str(SHORT))
    content = SHORT.read_bytes()
    assert np.array_equal(load_audio(SHORT), expected)
    assert np.array_equal(load_audio(content), expected)
    assert np.array_equal(load_audio(io.BytesIO(content)), expected)
    with open(SHORT, "rb") as file:
        assert np.array_equal(load_audio(file), expected)
        assert not file.closed
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert np.array_equal(load_audio("-"), expected)


def test_a_pipe_as_file():
    command = [sys.executable, "-c", f"import sys; sys.stdout.buffer.write(open({str(SHORT)!r}, 'rb').read())"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert np.array_equal(load_audio(process.stdout), load_audio(SHORT))


def test_all_of_them_can_be_read_piece_by_piece(monkeypatch):
    expected = load_audio(SHORT)
    content = SHORT.read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    command = [sys.executable, "-c", f"import sys; sys.stdout.buffer.write(open({str(SHORT)!r}, 'rb').read())"]
    with open(SHORT, "rb") as file, subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for source in (SHORT, str(SHORT), content, bytearray(content), file, process.stdout, "-"):
            with open_audio(source) as sound:
                assert sound.size == expected.size
                assert np.array_equal(sound.read(20000, sound.size), expected[20000:])
                assert np.array_equal(sound.read(0, 20000), expected[:20000])


def test_a_file_is_decoded_when_it_is_opened_and_not_again(tmp_path):
    path = tmp_path / "sound.wav"
    shutil.copy(SHORT, path)
    with open_audio(path) as sound:
        path.write_bytes(b"")
        assert np.array_equal(sound.read(0, sound.size), load_audio(SHORT))


def test_a_file_is_read_from_where_it_stands():
    file = io.BytesIO(b"skip me" + SHORT.read_bytes())
    file.seek(7)
    assert np.array_equal(load_audio(file), load_audio(SHORT))


NAMES = ["with space.wav", "日本語 é.wav", "a:b.wav", "concat:a.wav", "file:x.wav", "-x.wav", "%03d.wav", "pipe:0", "x"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names_of_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        shutil.copy(SHORT, tmp_path / name)
    except OSError:
        pytest.skip("this file system cannot have such a name")
    expected = load_audio(SHORT)
    assert np.array_equal(load_audio(name), expected)
    assert np.array_equal(load_audio(Path(name)), expected)
    assert np.array_equal(load_audio(f"./{name}"), expected)


def test_tags_need_not_be_utf8(speech):
    content = encode_audio(speech, "wav", "pcm_s16le")
    at = content.index(b"data")
    content = content[:at] + b"LIST\x10\0\0\0INFOINAM\x04\0\0\0\xe9\xe8\xff\0" + content[at:]
    assert load_audio(content).size == speech.size


# --- What is no sound


def test_missing_folder_and_address(tmp_path):
    assert_rejected(tmp_path / "nope.wav", "nope.wav", "no such file", "spelling")
    assert_rejected(tmp_path / "two\nlines.wav", "no such file")
    assert_rejected(SHORT / "x.wav", "no such file")
    assert_rejected(tmp_path, str(tmp_path), "folder")
    assert_rejected("https://example.org/a.mp3", "no such file", "download")
    assert_rejected("concat:a.wav|b.wav", "no such file")
    assert_rejected("a\0b.wav", "null")


def test_no_permission(monkeypatch):
    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builtins, "open", refuse)
    assert_rejected(str(SHORT), SHORT.name, "no permission", "change")


class Sick(io.BytesIO):
    """A file of a disk from which some bytes can be read and others cannot."""

    def __init__(self, content, readable):
        super().__init__(content)
        self.readable_bytes = readable

    def read(self, size=-1):
        if self.tell() >= self.readable_bytes:
            raise OSError(5, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("readable", [0, 4000, 40_000])
def test_a_disk_that_fails_while_it_is_read(monkeypatch, readable):
    content = SHORT.read_bytes()
    monkeypatch.setattr(builtins, "open", lambda *_: Sick(content, readable))
    assert_rejected(str(SHORT), SHORT.name, "cannot be read (Input/output error)", "try again")


def test_a_pipe_that_fails_while_it_is_read(monkeypatch):
    class Pipe(Sick):
        def seekable(self):
            return False

    monkeypatch.setattr(builtins, "open", lambda *_: Pipe(b"", 0))
    assert_rejected(str(SHORT), SHORT.name, "cannot be read (Input/output error)")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Pipe(b"", 0)))
    assert_rejected("-", "standard input: cannot be read (Input/output error)")


def test_empty(tmp_path, monkeypatch):
    (tmp_path / "empty.mp3").touch()
    assert_rejected(tmp_path / "empty.mp3", "empty.mp3", "0 bytes")
    assert_rejected(b"", "0 bytes")
    assert_rejected(io.BytesIO(), "0 bytes")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert_rejected("-", "standard input", "0 bytes")


@pytest.mark.parametrize("content", [b"hello world\n" * 99, bytes(5000), b"\0", b"RIFF", b"ID3", b"fLaC", b"\xff\xfb"])
def test_not_a_sound(content, capfd):
    assert_rejected(content, f"the {len(content)} bytes given", "FFmpeg", "expected WAV")
    assert capfd.readouterr() == ("", "")  # FFmpeg itself is silent


def test_playlists_open_nothing(tmp_path):
    shutil.copy(SHORT, tmp_path / "a.wav")
    for name, text in (
        ("a.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{tmp_path}/a.wav\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile a.wav\n"),
    ):
        (tmp_path / name).write_text(text)
        assert_rejected(tmp_path / name, name)


def test_no_samples():
    assert_rejected(wav_bytes(np.zeros((0, 1))), "no audio samples")


def test_film_without_sound():
    assert_rejected(video_without_audio(), "no audio track", "only video", "a file with audio")


def test_text_files_and_other_things(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("no sound")
    with open(text) as file:
        assert_rejected(file, "a.txt", "'rb'")
    assert_rejected(io.StringIO("no sound"), "'rb'")
    assert_rejected([0.0, 1.0], "list", "numpy.asarray")
    assert_rejected(None, "NoneType", "path")
    assert_rejected(3, "int")


# --- Damage


@pytest.mark.parametrize("rest", [0.3, 0.5, 0.77, 0.9])
@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp3", "libmp3lame", {}),
        ("flac", "flac", {}),
        ("wav", "pcm_s16le", {}),
        ("aiff", "pcm_s16be", {}),
        ("matroska", "aac", {}),
        ("ipod", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    ],
)
def test_a_missing_end_is_refused(container, codec, options, rest, speech, tmp_path, capfd):
    content = encode_audio(speech, container, codec, **options)
    path = tmp_path / "cut"
    path.write_bytes(content[: int(rest * len(content))])
    message = assert_rejected(path, "cut", "seconds can be read", "the end is broken or missing", "copy or download")
    read, total = message.partition(": ")[2].partition(" seconds")[0].split(" of ")
    assert float(total) == pytest.approx(speech.size / 16000, abs=0.07)
    assert 0 < float(read) < float(total)
    assert float(read) == pytest.approx(float(total) * rest, abs=0.35)
    assert capfd.readouterr() == ("", "")


def mp3_packets(content):
    """The size of each packet of sound in an MP3."""
    with av.open(io.BytesIO(content)) as container:
        return [packet.size for packet in container.demux(audio=0) if packet.size]


def test_an_mp3_cut_between_two_packets_is_refused(speech):
    content = encode_audio(speech, "mp3", "libmp3lame")
    assert_rejected(content[: -sum(mp3_packets(content)[-20:])], "of 1.90 seconds", "missing")


def test_a_broken_last_packet_is_no_refusal_without_a_stated_length(speech):
    with pytest.warns(UserWarning, match="the last packet is broken and was left out; the end") as caught:
        loaded = load_audio(encode_audio(speech, "adts", "aac")[:-1000])
    assert len(caught) == 1
    assert loaded.size / 16000 == pytest.approx(1.79, abs=0.01)


def test_a_broken_packet_in_the_middle_is_left_out(speech):
    content = bytearray(encode_audio(speech, "ipod", "aac", movflags="frag_keyframe+empty_moov"))
    content[9000:9400] = np.random.default_rng(0).bytes(400)
    with pytest.warns(UserWarning, match=r"broken audio was left out at \d place.*first at 0\.\d\d s") as caught:
        loaded = load_audio(bytes(content))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert speech.size - 5000 < loaded.size < speech.size + 1024


def test_opening_warns_once_and_reading_never(speech):
    content = bytearray(encode_audio(speech, "ipod", "aac", movflags="frag_keyframe+empty_moov"))
    content[9000:9400] = np.random.default_rng(0).bytes(400)
    with pytest.warns(UserWarning, match="broken audio was left out") as caught:
        sound = open_audio(bytes(content))
    assert [warning.filename for warning in caught] == [__file__]
    with sound, warnings.catch_warnings():
        warnings.simplefilter("error")
        sound.read(0, sound.size)


@needs_proc
@pytest.mark.parametrize("opener", [open_audio, load_audio])
def test_what_is_refused_leaves_no_temporary_file(opener, speech, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1000)
    content = encode_audio(speech, "wav", "pcm_s16le")
    with open_audio(content):
        assert len(temporary_files(tmp_path)) == 1
    load_audio(content)
    assert temporary_files(tmp_path) == []
    with pytest.raises(AudioError, match="the end is broken or missing") as caught:
        opener(content[: len(content) // 2])
    assert caught.tb is not None  # it holds what the functions held, so nothing is closed by being forgotten
    assert temporary_files(tmp_path) == []


def test_no_room_for_the_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nope"))
    load_audio(SHORT)  # few samples need no folder
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1000)
    assert_rejected(SHORT, str(tmp_path / "nope"), "115 MB of free space", "TMPDIR")


def test_a_broken_packet_in_the_middle_of_flac_is_left_out(speech):
    content = bytearray(encode_audio(speech, "flac", "flac"))
    content[20000:20600] = bytes(600)
    with pytest.warns(UserWarning, match=r"the first at 0\.\d\d s"):
        loaded = load_audio(bytes(content))
    # FFmpeg gives up a few packets of 1,152 samples around the break: four in version 8.1, five in 8.0.
    assert speech.size - 5 * 1152 <= loaded.size < speech.size


def unknown_length(wav_file, size):
    at = wav_file.index(b"data") + 4
    return wav_file[:4] + size + wav_file[8:at] + size + wav_file[at + 4 :]


def test_no_false_alarms(speech):
    mp3 = encode_audio(speech, "mp3", "libmp3lame")
    bare = encode_audio(speech, "mp3", "libmp3lame", write_xing="0")
    speech_after_silence = np.concatenate([np.zeros(160000, np.int16), speech, speech])
    tag = b"TAG" + bytes(125)
    pcm = encode_audio(speech, "wav", "pcm_s16le")
    flac = bytearray(encode_audio(speech, "flac", "flac"))
    flac[21:26] = bytes([flac[21] & 0xF0, 0, 0, 0, 0])  # the count of samples: unknown
    healthy = {
        "mp3": mp3,
        "mp3 without header": bare,
        "mp3 without header, variable rate": encode_audio(
            speech_after_silence, "mp3", "libmp3lame", write_xing="0", compression_level="0"
        ),
        "mp3 with a tag at the end": mp3 + tag,
        "mp3 without header, with tags": b"ID3\x04\0\0\0\0\x10\0" + bytes(2048) + bare + tag,
        "wav of unknown length": unknown_length(pcm, b"\xff\xff\xff\xff"),
        "wav of length 0": unknown_length(pcm, bytes(4)),
        "flac of unknown length": bytes(flac),
        "flac with a tag at the end": encode_audio(speech, "flac", "flac") + tag,
        "stream": encode_audio(speech, "mpegts", "aac"),
        "live": encode_audio(speech, "matroska", "aac", live="1"),
        "longer video": encode_audio(speech[:3000], "matroska", "aac", video=True),
        "low rate": encode_audio(speech, "matroska", "aac", rate=8000),
        "low rate m4a": encode_audio(speech, "ipod", "aac", rate=8000),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, content in healthy.items():
            assert load_audio(content).size >= 3000, name
        for clip in CLIPS:
            load_audio(clip)


def test_a_track_that_turns_up_late(speech):
    from minwhisper.audio.timeline import Timeline
    from minwhisper.audio.track_decoder import TrackDecoder  # cannot be imported without PyAV

    # PyAV raises IndexError after the last packet when a stream was added while it was reading.
    with av.open(io.BytesIO(encode_audio(speech, "wav", "pcm_s16le"))) as container:
        stream = container.streams.audio[0]

        def demux(wanted):
            yield from container.demux(wanted)
            raise IndexError("list index out of range")

        container_with_late_track = SimpleNamespace(format=container.format, demux=demux)
        frames = list(TrackDecoder("late", container_with_late_track, stream, Timeline("wav", None, 600)).frames())
    assert sum(frame.samples for frame, _, _ in frames) == speech.size
