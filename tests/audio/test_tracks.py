"""Audio tracks: the default, and the selection of another one."""

import io

import numpy as np
import pytest

from audio_files import (
    SPEECH,
    assert_rejected,
    assert_same_as_ffmpeg,
    av,
    encode_audio,
    encode_tracks,
    load_without_warning,
    needs_ffmpeg,
)
from minwhisper.audio.load import load_audio, open_audio
from minwhisper.errors import AudioError

EMPTY = SPEECH[:0]
FILE = encode_tracks("matroska", "pcm_s16le", [(SPEECH, "eng"), (SPEECH // 4, "fre"), (SPEECH // 16, "deu")])


SELECTIONS = [(None, 1), (1, 1), (2, 4), ("3", 16), (np.int64(3), 16), ("en", 1), ("fr", 4), ("fra", 4), (" DE ", 16)]


@pytest.mark.parametrize(("wanted", "divisor"), SELECTIONS)
def test_a_track_is_selected_by_number_or_language(wanted, divisor):
    assert np.array_equal(load_audio(FILE, track=wanted) * 32768, SPEECH // divisor)


@pytest.mark.parametrize("wanted", [4, "it", "2nd", "9" * 80])
def test_a_missing_track(wanted):
    assert_rejected(FILE, f"no audio track {wanted!r}", "expected one of: 1 (eng), 2 (fre), 3 (deu)", track=wanted)


@pytest.mark.parametrize("wanted", [0, -1, 1.5, True, "", b"en", 10**9, "e" * 101])
def test_invalid_track_arguments(wanted):
    assert_rejected(FILE, "track: expected a number, 1 for the first audio track, or a language's code", track=wanted)


def test_an_array_has_no_tracks():
    with pytest.raises(AudioError, match="only a file has tracks"):
        load_audio(np.zeros(5, np.float32), track=1)


@pytest.mark.parametrize(
    ("content", "wanted", "line"),
    [
        (FILE, None, "reading audio track 1 of 3 (eng); option audio_track selects another"),
        (FILE, "de", "reading audio track 3 of 3 (deu); option audio_track selects another"),
        (encode_audio(SPEECH, "matroska", "pcm_s16le"), None, None),
    ],
)
def test_a_message_names_the_track_if_there_are_several(content, wanted, line):
    with open_audio(content, track=wanted) as audio:
        assert audio.track == line


def test_the_message_is_printable_and_short():
    content = encode_tracks("matroska", "pcm_s16le", [(SPEECH, "e\x1b[31m\n"), (SPEECH, "x" * 300)])
    for number in (1, 2):
        with open_audio(content, track=number) as audio:
            assert audio.track.isprintable()
            assert len(audio.track) < 200


@pytest.mark.parametrize(("container", "codec"), [("matroska", "aac"), ("avi", "libmp3lame"), ("mpegts", "aac")])
@pytest.mark.parametrize("empty", [1, 3])
def test_tracks_without_packets_are_skipped(container, codec, empty):
    content = encode_tracks(container, codec, [*[(EMPTY, "eng")] * empty, (SPEECH, "fra")])
    assert load_without_warning(content).size >= SPEECH.size
    with open_audio(content) as audio:
        assert audio.track.startswith(f"reading audio track {empty + 1} of {empty + 1} ")
    assert_rejected(content, "no audio samples", track=1)


@pytest.mark.parametrize(("marked", "number"), [(None, 2), (0, 1), (1, 2)])
def test_the_default_is_the_marked_track_then_the_one_with_the_most_channels(marked, number):
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        streams = [out.add_stream("pcm_s16le", rate=16000, layout=layout) for layout in ("mono", "stereo")]
        for index, stream in enumerate(streams):
            if marked is not None:
                disposition = av.stream.Disposition
                stream.disposition = disposition.default if index == marked else disposition(0)
        for channels, stream in enumerate(streams, start=1):
            frame = av.AudioFrame.from_ndarray(np.repeat(SPEECH, channels)[None], "s16", stream.layout)
            frame.sample_rate, frame.pts = 16000, 0
            out.mux(stream.encode(frame))
    with open_audio(file.getvalue()) as audio:
        assert audio.track.startswith(f"reading audio track {number} of 2")


def test_a_file_of_empty_tracks():
    assert_rejected(encode_tracks("avi", "libmp3lame", [(EMPTY, "eng"), (EMPTY, "fra")]), "no audio samples")


@pytest.mark.parity
@needs_ffmpeg
@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "aac"), ("mp4", "alac"), ("mov", "alac"), ("mpegts", "aac")]
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_default_is_the_choice_of_ffmpeg(container, codec, order, tmp_path):
    tracks = [[(EMPTY, "eng"), (SPEECH, "fra")][which] for which in order]
    (tmp_path / "film").write_bytes(encode_tracks(container, codec, tracks))
    assert_same_as_ffmpeg(tmp_path / "film")
