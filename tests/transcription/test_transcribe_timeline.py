"""Times are those of the file: audio that starts late or has gaps is transcribed at its place in the video."""

from unittest.mock import patch

import numpy as np
import pytest

from audio_files import encode_audio, encode_tracks
from command_line import GREEDY as ONE_CANDIDATE
from command_line import run_command
from minwhisper.transcription import transcribe as chapter
from scripted import ENGLISH, JFK, MULTILINGUAL, NumberedSpectrogram, Scripted, made_up_tokenizer, output
from transcripts import words

GREEDY = {"temperature": 0.0}
QUICK = ("--model", "tiny.en", "--temperature", "0", *ONE_CANDIDATE)


@pytest.fixture(scope="module")
def pcm(speech) -> np.ndarray:
    """Return 11 s of speech as 16-bit integers: (N,)."""
    return np.round(speech["jfk.flac"] * 32768).astype(np.int16)


def words_of(segments):
    return [word for segment in segments for word in segment["words"]]


def test_a_late_start_moves_all_times(tiny_en, pcm):
    content = encode_audio(pcm, "mp4", "aac", video=True, start=4.0)
    with pytest.warns(UserWarning, match=r"missing audio was replaced by silence: \d\.\d\d s at 0\.00 s") as caught:
        late = tiny_en.transcribe(content, word_timestamps=True, **GREEDY)["segments"]
    assert len(caught) == 1
    first = tiny_en.transcribe(encode_audio(pcm, "mp4", "aac"), word_timestamps=True, **GREEDY)["segments"]
    assert words("".join(segment["text"] for segment in late)) == words(JFK)
    moved = [later["end"] - early["end"] for later, early in zip(words_of(late), words_of(first), strict=True)]
    assert np.median(moved) == pytest.approx(3.98, abs=0.1)
    assert late[0]["start"] > 3.5


def scripted_late(pcm, start, tokenizer, **options):
    """Transcribe audio that begins late with a scripted model; return it and the transcript."""
    content = encode_audio(pcm, "matroska", "pcm_s16le", video=True, start=start)
    model = Scripted(lambda _options, window: output(0.0, " one", window[1] / 100), tokenizer, [{"de": 0.9}])
    with (
        patch.object(chapter, "Spectrogram", NumberedSpectrogram),
        pytest.warns(UserWarning, match=rf"{start:.2f} s at 0\.00 s"),
    ):
        return model, model.transcribe(content, **options)


@pytest.mark.parametrize(
    ("clips", "windows"), [([], [(400, 1100)]), ([0, 3], []), ([0, 3, 3.5, 12], [(400, 800)])], ids=str
)
def test_nothing_is_decoded_before_the_audio_begins(pcm, clips, windows):
    """Given the silence, the model would start the first segment in it: it cannot start a segment later than at 1 s."""
    reported = []
    options = {"clip_timestamps": clips, "progress": lambda *done: reported.append(done)}
    model, found = scripted_late(pcm, 4.0, made_up_tokenizer(ENGLISH), **options)
    assert model.windows == windows
    assert [segment["start"] for segment in found["segments"]] == [4.0] * len(windows)
    assert not reported or reported[-1][0] == reported[-1][1]


def test_the_language_is_detected_where_the_audio_begins(pcm):
    model, found = scripted_late(pcm, 35.0, made_up_tokenizer(MULTILINGUAL))
    assert found["language"] == "de"
    assert model.detected_at == [3500]


def test_a_gap_moves_what_follows(tiny_en, pcm):
    content = encode_audio(np.repeat(pcm, 3), "matroska", "libopus", rate=48000, keep=lambda time: not 2.5 < time < 5.5)
    with pytest.warns(UserWarning, match=r"missing audio was replaced by silence: 3\.0\d s at 2\.5\d s"):
        running = tiny_en.stream(content, word_timestamps=True, **GREEDY)
    assert running.seconds == pytest.approx(11.0, abs=0.01)
    found = words_of(running)
    assert words("".join(word["word"] for word in found))[-8:] == words(JFK)[-8:]
    assert found[-1]["end"] == pytest.approx(10.5, abs=0.3)  # as without the gap


def test_the_track_is_chosen_and_named(tiny_en, pcm):
    content = encode_tracks("matroska", "pcm_s16le", [(np.zeros(16000, np.int16), "eng"), (pcm, "fra")])
    for track in ("French", 2):
        with tiny_en.stream(content, audio_track=track) as chosen:
            assert chosen.audio_track == "reading audio track 2 of 2 (fra); option audio_track selects another"
            assert chosen.seconds == 11.0
    with tiny_en.stream(content) as first:
        assert first.audio_track.startswith("reading audio track 1 of 2 (eng)")
        assert first.seconds == 1.0
    with tiny_en.stream(pcm / np.float32(32768)) as array:
        assert array.audio_track is None


def test_the_command_names_the_gap_once_and_subtitles_fit(tiny_en, pcm, tmp_path, capfd):
    (tmp_path / "late.mp4").write_bytes(encode_audio(pcm[:56000], "mp4", "aac", video=True, start=4.0))
    run = run_command(capfd, "transcribe", tmp_path / "late.mp4", *QUICK, "-f", "srt", "-o", tmp_path)
    assert run.status == 0
    assert run.err.count("missing audio was replaced by silence: 3.94 s at 0.00 s") == 1
    assert "1\n00:00:03,500" <= (tmp_path / "late.srt").read_text() < "1\n00:00:09"
    run = run_command(capfd, "transcribe", tmp_path / "late.mp4", *QUICK, "--audio_track", "3")
    assert run.status == 2
    assert "no audio track 3; expected one of: 1" in run.err
