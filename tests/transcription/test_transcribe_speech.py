"""Real speech is transcribed."""

from difflib import SequenceMatcher

import numpy as np
import pytest

from book import TEXTS, join_clips
from inputs import DATA
from scripted import JFK, RATE
from transcripts import check_transcript, words

# ------------------------------------------------------------------------------------------ real speech


def test_the_jfk_clip_is_transcribed(model, speech):
    result = model.transcribe(speech["jfk.flac"])
    assert words(result["text"]) == words(JFK)
    assert result["language"] == "en"
    check_transcript(result, 11.0)


@pytest.mark.filterwarnings("error")  # the file has no gap that could cause a warning
def test_a_path_its_bytes_and_its_samples_give_the_same(tiny_en, speech):
    path = DATA / "jfk.flac"
    options = {"sample_len": 5, "temperature": 0.0}
    once = tiny_en.transcribe(path, **options)
    assert once["text"]
    assert tiny_en.transcribe(path.read_bytes(), **options) == once
    assert tiny_en.transcribe(speech["jfk.flac"], **options) == once


IN_A_GRID = [pytest.param(seconds, marks=pytest.mark.grid) for seconds in (9.65, 30, 30.02, 61)]


@pytest.mark.parametrize("seconds", [0.2, 41.5, *IN_A_GRID])
def test_audio_of_any_length_is_transcribed_to_its_end(tiny_en, speech, seconds):
    reports: list[tuple[float, float]] = []
    audio = join_clips(speech, range(12), pause=0.25)[0][: round(seconds * RATE)]
    result = tiny_en.transcribe(audio, progress=lambda *report: reports.append(report))
    check_transcript(result, seconds)
    done = [report[0] for report in reports]
    assert done == sorted(set(done))
    assert done[-1] == seconds
    assert {report[1] for report in reports} == {seconds}
    if seconds > 1:  # long enough for words
        assert result["segments"][-1]["end"] > seconds - 1
    if seconds > 40:
        read = words(" ".join(TEXTS[:6]))  # the first 41.4 s
        found = words(result["text"])[: len(read)]
        # No sentence is lost or repeated between windows; single words may be wrong.
        assert SequenceMatcher(None, read, found, autojunk=False).ratio() > 0.9


def test_digital_silence_gives_no_text(tiny_en):
    silence = np.zeros(10 * RATE, np.float32)
    assert tiny_en.transcribe(silence) == {"text": "", "segments": [], "language": "en"}


def test_the_language_is_detected(base):
    found = base.transcribe(DATA / "french.aiff")
    assert found["language"] == "fr"
    assert {"dictée", "numéro"} <= set(found["text"].replace(".", "").split())


def test_translation_is_to_english(base):
    result = base.transcribe(DATA / "french.aiff", task="translate", language="fr")
    assert result["language"] == "fr"
    assert {"and", "that", "number"} <= set(words(result["text"]))
