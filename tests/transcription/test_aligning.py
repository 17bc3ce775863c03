"""Aligning a known text: words are where they are spoken, and the scores show where text and recording differ."""

import re
from dataclasses import replace

import numpy as np
import pytest

from book import TEXTS, join_clips
from minwhisper.errors import AudioError, LanguageError, MinWhisperError, OptionError, TokenizerError
from minwhisper.transcription import sequential
from minwhisper.transcription.found_words import FoundWord, fill_times
from minwhisper.transcription.known_text import comparable, known_words, split_sentences
from minwhisper.transcription.options import APPEND_PUNCTUATION, PREPEND_PUNCTUATION

JFK = "And so my fellow Americans ask not what your country can do for you, ask what you can do for your country."
UNSAID = "The quick brown fox jumps over the lazy dog in the middle of the night."
DOUBTFUL = 0.02


def words_of(transcript):
    return [word for segment in transcript["segments"] for word in segment["words"]]


def doubtful(transcript):
    """Return the words that were probably not said, without punctuation."""
    improbable = [word["word"] for word in words_of(transcript) if word["probability"] < DOUBTFUL]
    return [key for key in map(comparable, improbable) if key]


def split(text):
    return [key for key in map(comparable, re.split(r"[\s-]+", text)) if key]


def assert_unmoved(words, others):
    """Assert that the words are the same, and that their times differ by at most 0.2 s."""
    assert [word["word"] for word in words] == [word["word"] for word in others]
    for word, other in zip(words, others, strict=True):
        assert other["start"] == pytest.approx(word["start"], abs=0.2), word


# ------------------------------------------------------------------------------------------ two windows

ORDER, PAUSE = (0, 1, 3, 5, 4), 0.7
LINES = [TEXTS[number] for number in ORDER]


@pytest.fixture(scope="module")
def book(speech):
    return join_clips(speech, ORDER, PAUSE)


@pytest.fixture(scope="module")
def aligned(tiny_en, book):
    return tiny_en.align(book[0], "\n".join(LINES))


def assert_in_clips(transcript, spans, pause):
    """Assert that each word is in the clip of its sentence, or reaches into the pauses around it."""
    for segment, (start, end) in zip(transcript["segments"], spans, strict=True):
        for word in segment["words"]:
            if not comparable(word["word"]):  # punctuation, which is not spoken
                continue
            # Times are rounded to multiples of 0.02 s.
            assert start - pause - 0.02 <= word["start"] <= end, (word, start, end)
            assert start <= word["end"] <= end + pause + 0.02, (word, start, end)


def test_words_are_in_the_clips_in_which_they_were_said(aligned, book):
    assert_in_clips(aligned, book[1], PAUSE)
    assert not doubtful(aligned)


def test_the_text_is_kept_in_lines(aligned):
    assert [segment["text"] for segment in aligned["segments"]] == [f" {line}" for line in LINES]
    for segment in aligned["segments"]:
        assert "".join(word["word"] for word in segment["words"]) == segment["text"]
    assert aligned["text"] == "".join(f" {line}" for line in LINES)
    assert [segment["id"] for segment in aligned["segments"]] == list(range(5))


def test_scores_point_at_exactly_the_words_that_differ_and_the_others_stay(tiny_en, book, aligned):
    """The text has a sentence that was not said, lacks one that was, and has one wrong word."""
    wrong = LINES[2].replace("immediate", "delicious")
    changed = tiny_en.align(book[0], "\n".join([LINES[0], LINES[1], UNSAID, wrong, LINES[4]]))
    assert doubtful(changed) == [*split(UNSAID), "delicious"]
    before, after = aligned["segments"], changed["segments"]
    assert_unmoved(before[0]["words"] + before[1]["words"], after[0]["words"] + after[1]["words"])
    same = [
        [word for word in words if word["word"] not in (" immediate", " delicious")]
        for words in (before[2]["words"], after[3]["words"])
    ]
    assert_unmoved(*same)
    assert_unmoved(before[4]["words"], after[4]["words"])
    assert after[1]["end"] <= after[2]["start"] <= after[2]["end"] <= after[3]["start"]
    times = [time for word in words_of(changed) for time in (word["start"], word["end"])]
    assert times == sorted(times)


def test_a_sentence_that_the_recording_lacks_is_found_and_takes_no_time_of_others(tiny_en, speech):
    samples, spans = join_clips(speech, (1, 3), PAUSE)
    changed = tiny_en.align(samples, "\n".join([TEXTS[1], TEXTS[7], TEXTS[3]]))
    unsaid = changed["segments"].pop(1)
    assert all(word["probability"] < DOUBTFUL for word in unsaid["words"])
    assert_in_clips(changed, spans, PAUSE)
    assert not doubtful(changed)


# ------------------------------------------------------------------------------------------ one window


@pytest.fixture(scope="module")
def heard(tiny_en, speech):
    return tiny_en.transcribe(speech["jfk.flac"], word_timestamps=True)


def test_the_right_text_has_the_times_of_a_transcript(tiny_en, speech, heard):
    found = words_of(tiny_en.align(speech["jfk.flac"], JFK))
    assert "".join(word["word"] for word in found) == f" {JFK}"
    for word, other in zip(found, words_of(heard), strict=True):
        assert comparable(word["word"]) == comparable(other["word"])
        assert (word["start"], word["end"]) == pytest.approx((other["start"], other["end"]), abs=0.1)
        assert word["probability"] == other["probability"]


def test_spelling_and_marks_change_no_times(tiny_en, speech, heard):
    text = "— AND SO: my fellow americans …\n\n “Ask not what your\tcountry can do for you!” "
    text += "Ask  what you can do for your country."
    found = tiny_en.align(speech["jfk.flac"], text)
    assert [segment["text"] for segment in found["segments"]] == [
        " — AND SO: my fellow americans …",
        " “Ask not what your country can do for you!”",
        " Ask what you can do for your country.",
    ]
    assert found["text"].split() == text.split()
    assert not doubtful(found)
    spoken = [word for word in words_of(found) if comparable(word["word"])]
    for word, other in zip(spoken, words_of(heard), strict=True):
        assert word["end"] == other["end"]
        # The first word of a sentence does not reach back over the pause before it.
        assert word["start"] == other["start"] or "sk" in word["word"]


def test_a_text_in_other_scripts_is_kept_and_marked_as_doubtful(tiny_en, speech):
    """The text has as many letters as the recording, but more tokens than a window has positions."""
    text = "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው። " * 4 + "και ίσος \u200d🙂 שלום नमस्ते <|endoftext|>"
    assert len(tiny_en.tokenizer.encode(text)) > tiny_en.config.max_target_positions
    found = tiny_en.align(speech["jfk.flac"], text)
    assert found["text"].split() == text.split()
    assert len(doubtful(found)) == len([word for word in words_of(found) if comparable(word["word"])])
    assert all(0 <= word["start"] <= word["end"] <= 11.0 for word in words_of(found))


def test_silence_has_no_words(tiny_en):
    found = tiny_en.align(np.zeros(16000 * 8, np.float32), JFK)
    assert found["text"] == f" {JFK}"
    assert doubtful(found) == split(JFK)
    times = [time for word in words_of(found) for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 8.0


def test_a_language_without_spaces_has_characters_as_words(tiny_en):
    sentences = split_sentences("今日は。明日も！\n「そう？」 え", "ja")
    assert sentences == ["今日は。", "明日も！", "「そう？」", "え"]
    words = known_words(sentences, tiny_en.tokenizer, "ja", PREPEND_PUNCTUATION, APPEND_PUNCTUATION)
    assert "".join(word.text for word in words) == "".join(sentences)
    assert [word.text for word in words[:4]] == ["今", "日", "は。", "明"]


def test_a_word_that_ends_too_late_moves_no_other(tiny_en, heard):
    known = known_words(["one two three"], tiny_en.tokenizer, "en", PREPEND_PUNCTUATION, APPEND_PUNCTUATION)
    times = {0: (1.0, 9.0), 1: (1.5, 2.0), 2: (2.5, 3.0)}
    found = {number: FoundWord(*pair, 0.9, heard["segments"][0]) for number, pair in times.items()}
    filled = fill_times(known, found, 10.0)
    assert [(word["start"], word["end"]) for word in filled] == [(1.0, 1.5), (1.5, 2.0), (2.5, 3.0)]


# ------------------------------------------------------------------------------------------ invalid input


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"text": ""}, OptionError, "text: expected the text that was said"),
        ({"text": " — …\n"}, OptionError, "no letters or digits"),
        ({"text": b"And so"}, OptionError, "text: expected the text that was said, got b'And so'"),
        ({"text": "half \ud800"}, TokenizerError, "surrogate"),
        ({"audio": np.zeros(0, np.float32)}, AudioError, "empty"),
        ({"task": "translate"}, MinWhisperError, "translat"),
        ({"language": "de"}, LanguageError, "English only"),
        ({"language": 7}, OptionError, "language"),
        ({"batch_size": 0}, OptionError, "batch_size"),
        ({"progress": 1}, OptionError, "progress"),
        ({"word_timestamps": True}, OptionError, "word_timestamps"),
        ({"record": True}, OptionError, "record"),
        ({"langauge": "en"}, OptionError, "did you mean 'language'"),
    ],
)
def test_invalid_input_is_rejected_before_any_work(tiny_en, monkeypatch, options, error, part):
    monkeypatch.setattr(type(tiny_en), "decode_window", None)
    given = {"audio": np.zeros(16000, np.float32), "text": JFK[:10], **options}
    with pytest.raises(error, match=re.escape(part)):
        tiny_en.align(given.pop("audio"), given.pop("text"), **given)


def test_no_window_starts_in_a_pause_with_vad_filter(tiny_en, speech, monkeypatch):
    calls = []
    next_speech = sequential.next_speech
    monkeypatch.setattr(sequential, "next_speech", lambda *given: calls.append(given) or next_speech(*given))
    samples = speech["LJ001-0002.wav"]
    found = tiny_en.align(samples, TEXTS[1], vad_filter=True)
    assert calls  # the starts of windows were checked
    assert doubtful(found) == []
    calls.clear()
    tiny_en.align(samples, TEXTS[1])
    assert not calls


def test_a_model_without_alignment_heads_is_rejected(tiny_en):
    with pytest.raises(OptionError, match="alignment heads"):
        replace(tiny_en, alignment_heads=()).align(np.zeros(16000, np.float32), JFK)


def test_a_text_that_is_too_long_to_be_said_gets_a_warning(tiny_en):
    with pytest.warns(UserWarning, match="characters cannot be said in 1.0 s") as caught:
        tiny_en.align(np.zeros(16000, np.float32), JFK)
    assert caught[0].filename == __file__


# ------------------------------------------------------------------------------------------ a long recording


@pytest.mark.grid
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(("seed", "pause"), [(0, 0.7), (1, 0.4), (2, 1.2)])
def test_words_of_twelve_clips_in_any_order_are_in_their_clips(tiny_en, speech, seed, pause, batch_size):
    order = np.random.default_rng(seed).permutation(12)
    samples, spans = join_clips(speech, order, pause)
    found = tiny_en.align(samples, "\n".join(TEXTS[number] for number in order), batch_size=batch_size)
    assert_in_clips(found, spans, pause)
    assert len(doubtful(found)) <= 3


@pytest.mark.grid
@pytest.mark.parametrize("missing", [0, 4, 7, 11])
def test_each_sentence_that_a_long_recording_lacks_is_found(tiny_en, speech, missing):
    samples, spans = join_clips(speech, [number for number in range(12) if number != missing], 0.7)
    found = tiny_en.align(samples, "\n".join(TEXTS))
    unsaid = found["segments"].pop(missing)
    assert all(word["probability"] < DOUBTFUL for word in unsaid["words"])
    assert_in_clips(found, spans, 0.7)
    assert len(doubtful(found)) <= 3
