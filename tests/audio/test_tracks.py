"""Audio tracks: the default track, and the selection of another."""

import io

import numpy as np
import pytest

from audio_files import (
    SPEECH,
    assert_rejected,
    assert_same_as_ffmpeg,
    av,
    encode_tracks,
    load_without_warning,
    needs_ffmpeg,
)
from minwhisper.audio.load import open_audio

EMPTY = SPEECH[:0]
FILE = encode_tracks("matroska", "pcm_s16le", [(SPEECH, "eng"), (SPEECH // 4, "fre"), (SPEECH // 16, "deu")])


SELECTIONS = [(None, 1), (1, 1), (2, 2), ("3", 3), (np.int64(3), 3), ("en", 1), ("fr", 2), ("fra", 2), (" DE ", 3)]


@pytest.mark.parametrize(("wanted", "number"), SELECTIONS)
def test_a_track_is_selected_by_number_or_language_and_named(wanted, number):
    with open_audio(FILE, track=wanted) as audio:
        assert np.array_equal(audio.read(0, audio.size) * 32768, SPEECH // [1, 4, 16][number - 1])
        language = ["eng", "fre", "deu"][number - 1]
        assert audio.track == f"reading audio track {number} of 3 ({language}); option audio_track selects another"


@pytest.mark.parametrize("wanted", [4, "it", "2nd", "9" * 80])
def test_a_missing_track_is_rejected_with_a_list_of_the_tracks(wanted):
    assert_rejected(FILE, f"no audio track {wanted!r}", "expected one of: 1 (eng), 2 (fre), 3 (deu)", track=wanted)


@pytest.mark.parametrize("wanted", [0, -1, 1.5, True, "", b"en", 10**9, "e" * 101])
def test_invalid_track_arguments_are_rejected(wanted):
    assert_rejected(FILE, "track: expected a number, 1 for the first audio track, or a language's code", track=wanted)


def test_the_name_of_a_track_is_printable_and_short():
    content = encode_tracks("matroska", "pcm_s16le", [(SPEECH, "e\x1b[31m\n"), (SPEECH, "x" * 300)])
    for number in (1, 2):
        with open_audio(content, track=number) as audio:
            assert audio.track.isprintable()
            assert len(audio.track) < 200


@pytest.mark.parametrize(
    ("container", "codec", "empty"), [("matroska", "aac", 1), ("avi", "libmp3lame", 3), ("mpegts", "aac", 1)]
)
def test_tracks_without_packets_are_skipped(container, codec, empty):
    content = encode_tracks(container, codec, [*[(EMPTY, "eng")] * empty, (SPEECH, "fra")])
    loaded = load_without_warning(content)
    assert loaded.size >= SPEECH.size
    assert np.array_equal(loaded, load_without_warning(content, timeline=True))
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


@pytest.mark.parity
@needs_ffmpeg
@pytest.mark.parametrize(("container", "codec"), [("matroska", "aac"), ("mp4", "alac"), ("mpegts", "aac")])
def test_the_default_is_the_choice_of_ffmpeg(container, codec, tmp_path):
    (tmp_path / "film").write_bytes(encode_tracks(container, codec, [(EMPTY, "eng"), (SPEECH, "fra")]))
    assert_same_as_ffmpeg(tmp_path / "film")
