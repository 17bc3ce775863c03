"""Times are those of the file: audio that starts late or has gaps is transcribed where it is in the video."""

import re

import numpy as np
import pytest

from audio_files import encode_audio, encode_tracks
from command_line import GREEDY as ONE_CANDIDATE
from command_line import run_command
from scripted import JFK

GREEDY = {"temperature": 0.0}
QUICK = ("--model", "tiny.en", "--temperature", "0", *ONE_CANDIDATE)


@pytest.fixture(scope="module")
def pcm(speech) -> np.ndarray:
    """11 s of speech as 16-bit integers: (N,)."""
    return np.round(speech["jfk.flac"] * 32768).astype(np.int16)


def output(segments) -> str:
    return " ".join(re.findall(r"[a-z]+", " ".join(segment["text"] for segment in segments).lower()))


def test_a_late_start_moves_all_times(tiny_en, pcm):
    content = encode_audio(pcm, "mp4", "aac", video=True, start=4.0)
    with pytest.warns(UserWarning, match=r"missing audio was replaced by silence: \d\.\d\d s at 0\.00 s") as caught:
        late = tiny_en.transcribe(content, word_timestamps=True, **GREEDY)["segments"]
    assert len(caught) == 1
    first = tiny_en.transcribe(encode_audio(pcm, "mp4", "aac"), word_timestamps=True, **GREEDY)["segments"]
    assert output(late) == output(first) == output([{"text": JFK}])
    moved = [later["end"] - early["end"] for later, early in zip(_words(late), _words(first), strict=True)]
    assert np.median(moved) == pytest.approx(3.98, abs=0.1)
    assert late[0]["start"] > 3.5


def _words(segments):
    return [word for segment in segments for word in segment["words"]]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_nothing_is_decoded_before_the_audio_begins(tiny_en, pcm, batch_size):
    """Given the silence, a model starts the first segment with it: it cannot start later than 1 s."""
    content = encode_audio(pcm, "matroska", "pcm_s16le", video=True, start=4.0)
    reported = []
    found = transcribe_late(tiny_en, content, batch_size=batch_size, progress=lambda *done: reported.append(done))
    assert found[0]["start"] == 4.0
    assert found[0]["seek"] == 400
    assert output(found) == output([{"text": JFK}])
    assert reported[-1] == (15.0, 15.0)
    assert transcribe_late(tiny_en, content, batch_size=batch_size, clip_timestamps="0,3") == []
    options = {"clip_timestamps": "0,3,3.5,12", "sample_len": 3}
    assert transcribe_late(tiny_en, content, batch_size=batch_size, **options)[0]["start"] == 4.0


def transcribe_late(model, content, **options):
    with pytest.warns(UserWarning, match=r"4\.00 s at 0\.00 s"):
        return model.transcribe(content, **GREEDY, **options)["segments"]


def test_a_gap_moves_what_follows_and_streams_do_the_same(tiny_en, pcm):
    content = encode_audio(np.repeat(pcm, 3), "matroska", "libopus", rate=48000, keep=lambda time: not 2.5 < time < 5.5)
    with pytest.warns(UserWarning, match=r"missing audio was replaced by silence: 3\.0\d s at 2\.5\d s"):
        found = tiny_en.transcribe(content, word_timestamps=True, **GREEDY)["segments"]
    assert output(found).endswith("ask what you can do for your country")
    assert _words(found)[-1]["end"] == pytest.approx(10.5, abs=0.3)  # as without the gap
    with pytest.warns(UserWarning, match="missing audio was replaced by silence"):
        running = tiny_en.stream(content, word_timestamps=True, **GREEDY)
    with running:
        assert running.seconds == pytest.approx(11.0, abs=0.01)
        assert [segment["end"] for segment in running] == [segment["end"] for segment in found]


def test_the_language_is_detected_where_the_audio_begins(base, pcm):
    content = encode_audio(pcm, "matroska", "pcm_s16le", video=True, start=35.0)
    with pytest.warns(UserWarning, match=r"35\.00 s at 0\.00 s"):
        late = base.stream(content)
    with late, base.stream(pcm / np.float32(32768)) as first:
        assert late.language == first.language == "en"
        assert late.language_probs["en"] == pytest.approx(first.language_probs["en"], abs=1e-3)


def test_the_track_is_chosen_and_named(tiny_en, pcm):
    content = encode_tracks("matroska", "pcm_s16le", [(np.zeros(16000, np.int16), "eng"), (pcm, "fra")])
    with tiny_en.stream(content, audio_track="French") as chosen:
        assert chosen.audio_track == "reading audio track 2 of 2 (fra); option audio_track selects another"
        assert chosen.seconds == 11.0
    with tiny_en.stream(content) as first:
        assert first.audio_track.startswith("reading audio track 1 of 2 (eng)")
    assert output(tiny_en.transcribe(content, audio_track=2, **GREEDY)["segments"]) == output([{"text": JFK}])
    with tiny_en.stream(pcm / np.float32(32768)) as array:
        assert array.audio_track is None


def test_the_command_names_the_gap_and_the_track_once_and_subtitles_fit(tiny_en, pcm, tmp_path, capfd):
    (tmp_path / "late.mp4").write_bytes(encode_audio(pcm, "mp4", "aac", video=True, start=4.0))
    (tmp_path / "two.mkv").write_bytes(encode_tracks("matroska", "pcm_s16le", [(pcm[:16000], "eng"), (pcm, "fra")]))
    files = [tmp_path / "late.mp4", tmp_path / "two.mkv"]
    run = run_command(capfd, "transcribe", *files, *QUICK, "-f", "srt", "-o", tmp_path)
    assert run.status == 0
    assert run.err.count("missing audio was replaced by silence: 3.94 s at 0.00 s") == 1
    assert run.err.count("two.mkv: reading audio track 1 of 2 (eng); option audio_track selects another") == 1
    assert (tmp_path / "late.srt").read_text().startswith("1\n00:00:0")
    assert (tmp_path / "late.srt").read_text()[2:14] >= "00:00:03,500"
    run = run_command(capfd, "transcribe", files[1], *QUICK, "--audio_track", "fr", "--verbose", "False")
    assert "audio track" not in run.err
    run = run_command(capfd, "transcribe", files[1], *QUICK, "--audio_track", "3")
    assert run.status == 2
    assert "no audio track 3; expected one of: 1 (eng), 2 (fra)" in run.err
