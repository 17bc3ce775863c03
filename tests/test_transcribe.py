"""From a whole sound to segments: cutting windows on hand-made tokens, the loop on made-up answers, real speech."""

import csv
import re
import zlib
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper import DecodingOptions, log_mel_spectrogram
from minwhisper import transcribe as chapter
from minwhisper.errors import AudioError, LanguageError, MinWhisperError, OptionError
from minwhisper.search import DecodingResult
from minwhisper.transcribe import Piece, Segment, compression_ratio, is_silence, split_window, transcribe

DATA = Path(__file__).parent / "data"
RATE = 16000
GAP = np.zeros(RATE // 4, np.float32)
FIRST = 100  # the id of <|0.00|> in the hand-made tokens; below it is text
JFK = "And so my fellow Americans ask not what your country can do for you ask what you can do for your country"


def time(step: int) -> int:
    return FIRST + step


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


# ------------------------------------------------------------------------------------------ cutting a window

A, B, C = 1, 2, 3
CUTS = {
    "one segment, closed": ([time(0), A, time(100)], [Piece(0, 200, (time(0), A, time(100)))], 3000),
    # With one segment only, openai-whisper lets it begin with the window, and so does this.
    "one segment, opened late": ([time(30), A, time(100)], [Piece(0, 200, (time(30), A, time(100)))], 3000),
    "one segment, left open": ([time(0), A, B], [Piece(0, 3000, (time(0), A, B))], 3000),
    "one segment, opened late, left open": ([time(30), A], [Piece(0, 60, (time(30), A))], 3000),
    "an opening alone": ([time(0)], [Piece(0, 3000, (time(0),))], 3000),
    "nothing": ([], [Piece(0, 3000, ())], 3000),
    "text without times": ([A, B, C], [Piece(0, 3000, (A, B, C))], 3000),
    "two segments, closed": (
        [time(0), A, time(100), time(100), B, C, time(150)],
        [Piece(0, 200, (time(0), A, time(100))), Piece(200, 300, (time(100), B, C, time(150)))],
        3000,
    ),
    "two segments and a pause between them": (
        [time(5), A, time(100), time(120), B, time(150)],
        [Piece(10, 200, (time(5), A, time(100))), Piece(240, 300, (time(120), B, time(150)))],
        3000,
    ),
    "the second left open": ([time(0), A, time(100), time(100), B, C], [Piece(0, 200, (time(0), A, time(100)))], 200),
    "the second only opened": ([time(0), A, time(100), time(120)], [Piece(0, 200, (time(0), A, time(100)))], 200),
    "the third left open": (
        [time(0), A, time(100), time(110), B, time(150), time(160), C],
        [Piece(0, 200, (time(0), A, time(100))), Piece(220, 300, (time(110), B, time(150)))],
        300,
    ),
    "up to the last time of the window": (
        [time(0), A, time(1500), time(1500)],
        [Piece(0, 3000, (time(0), A, time(1500)))],
        3000,
    ),
}


@pytest.mark.parametrize(("tokens", "pieces", "advance"), CUTS.values(), ids=CUTS)
def test_a_full_window_is_cut_where_two_times_meet(tokens, pieces, advance):
    assert split_window(tokens, FIRST, 3000) == (pieces, advance)


@pytest.mark.parametrize("size", [1, 2, 19, 20, 965])
def test_a_segment_without_an_end_lasts_to_the_end_of_the_sound(size):
    # A window that is shorter than 30 s can have an odd number of frames, half of a timestamp's step.
    assert split_window([time(0), A], FIRST, size) == ([Piece(0, size, (time(0), A))], size)


def test_a_time_behind_the_sound_is_kept_but_no_frame_behind_it_is_skipped():
    # The model hears zeros there and may place an end in them; openai-whisper reports it as it is.
    tokens = [time(0), A, time(100), time(100), B]
    assert split_window(tokens, FIRST, 20) == ([Piece(0, 200, (time(0), A, time(100)))], 20)


@pytest.mark.parametrize(("size", "advance"), [(3000, 2), (1, 1)])
def test_a_window_that_ends_where_it_begins_is_moved_on_from(size, advance):
    # The rules allow no such tokens; without rules they must not mean an endless loop.
    assert split_window([time(0), time(0), A], FIRST, size)[1] == advance


def test_text_before_the_first_time_is_heard_from_the_start_of_the_window():
    pieces, _ = split_window([A, B, time(100), time(100), C], FIRST, 3000)
    assert pieces == [Piece(0, 200, (A, B, time(100)))]


@st.composite
def allowed_tokens(draw: st.DrawFn) -> list[int]:
    """What the timestamp rules let through: segments in order, the last one in any state."""
    tokens: list[int] = []
    text = st.lists(st.integers(0, FIRST - 1), min_size=1, max_size=3)
    now = 0
    for _ in range(draw(st.integers(0, 4))):
        opening = draw(st.integers(now, 1499))
        now = draw(st.integers(opening + 1, 1500))
        tokens += [time(opening), *draw(text), time(now)]
        if now == 1500:
            break
    if draw(st.booleans()):
        tokens.append(time(draw(st.integers(now, 1500))))
        if draw(st.booleans()):
            tokens += draw(text)
    return tokens


@settings(deadline=None, max_examples=300)
@given(tokens=allowed_tokens(), size=st.integers(1, 3000))
def test_allowed_tokens_give_segments_in_order_and_a_way_on(tokens, size):
    pieces, advance = split_window(tokens, FIRST, size)
    assert 1 <= advance <= size
    said = [token for piece in pieces for token in piece.tokens]
    assert said == tokens[: len(said)]
    left = tokens[len(said) :]
    assert not left or advance == min(pieces[-1].end, size)  # what is not said now is heard again
    assert pieces[0].start >= 0
    for piece in pieces:
        assert piece.start < piece.end
    for earlier, later in pairwise(pieces):
        assert earlier.end <= later.start


@settings(deadline=None, max_examples=300)
@given(
    tokens=st.lists(st.integers(0, FIRST - 1) | st.integers(FIRST, FIRST + 1500), max_size=12),
    size=st.integers(1, 3000),
)
def test_any_tokens_at_all_give_a_way_on(tokens, size):
    # Without timestamps no rule holds the times back, should the model say some.
    pieces, advance = split_window(tokens, FIRST, size)
    assert 1 <= advance <= size
    assert all(0 <= piece.start <= 3000 and 0 <= piece.end <= 3000 for piece in pieces)


# ------------------------------------------------------------------------------------------ small parts


@pytest.mark.parametrize(
    ("no_speech", "average", "silent"),
    [(0.61, -1.01, True), (0.61, -1.0, True), (0.61, -0.99, False), (0.6, -2.0, False), (0.1, -2.0, False)],
)
def test_silence_is_no_speech_with_an_unlikely_text(no_speech, average, silent):
    decoded = DecodingResult((1, 2, 3), 4 * average, no_speech)
    assert decoded.avg_logprob == average
    assert is_silence(decoded) is silent


def test_compression_ratio_is_bytes_by_zlibs_bytes():
    text = "Où est la bibliothèque?"
    assert compression_ratio(text) == len(text.encode()) / len(zlib.compress(text.encode()))
    assert compression_ratio("") == 0


def test_compression_ratio_tells_repetition():
    assert compression_ratio("and then " * 30) > 2.4 > compression_ratio(JFK)


# ---------------------------------------------------------------------------------------- the loop, on scripted answers


def scripted(monkeypatch, tiny_en, answers):
    """A model that encodes nothing and answers each window from a list; and the windows that it was given."""
    windows: list[np.ndarray] = []
    queue = iter(answers)
    model = SimpleNamespace(
        config=tiny_en.config,
        tokenizer=tiny_en.tokenizer,
        weights={"decoder": None},
        is_multilingual=False,
        encode=windows.append,
    )
    monkeypatch.setattr(chapter, "greedy", lambda *_args, **_options: next(queue))
    return model, windows


def answer(tokenizer, *parts, no_speech=0.0, average=-0.1) -> DecodingResult:
    """A decoded window, written as texts and times in steps."""
    tokens: list[int] = []
    for part in parts:
        tokens += tokenizer.encode(part) if isinstance(part, str) else [tokenizer.timestamp_begin + part]
    return DecodingResult(tuple(tokens), average * (len(tokens) + 1), no_speech)


def test_the_next_window_starts_where_the_last_complete_segment_ended(monkeypatch, tiny_en, rng):
    t = tiny_en.tokenizer
    samples = (0.1 * rng.standard_normal(45 * RATE + 100)).astype(np.float32)
    model, windows = scripted(
        monkeypatch,
        tiny_en,
        [answer(t, 0, " one", 500, 520, " two", 1000, 1000, " thr"), answer(t, 10, " three", 1000)],
    )
    reports: list[tuple[float, float]] = []
    result = transcribe(model, samples, DecodingOptions(), lambda *report: reports.append(report))

    assert [(s["id"], s["seek"], s["text"]) for s in result["segments"]] == [
        (0, 0, " one"),
        (1, 0, " two"),
        (2, 2000, " three"),
    ]
    times = [(s["start"], s["end"]) for s in result["segments"]]
    np.testing.assert_allclose(times, [(0, 10), (10.4, 20), (20, 40)], atol=1e-9)
    assert result["text"] == " one two three"
    # 45 s are done when the last window is, with the 100 samples that fill no frame.
    assert reports == [(20.0, samples.size / RATE), (samples.size / RATE, samples.size / RATE)]

    mel = log_mel_spectrogram(samples, 80, padding=30 * RATE)
    np.testing.assert_array_equal(windows[0], mel[None, :, :3000])
    np.testing.assert_array_equal(windows[1][0, :, :2500], mel[:, 2000:4500])
    assert not windows[1][0, :, 2500:].any()  # zeros, which in a log-mel are not silence
    assert windows[1].shape == (1, 80, 3000)


def test_a_silent_window_is_passed_over_as_a_whole(monkeypatch, tiny_en):
    t = tiny_en.tokenizer
    model, windows = scripted(
        monkeypatch,
        tiny_en,
        [answer(t, 0, " you", 10, 10, " are", no_speech=0.9, average=-1.5), answer(t, 0, " here", 100)],
    )
    result = transcribe(model, np.zeros(40 * RATE, np.float32), DecodingOptions())
    assert [(s["id"], s["seek"], s["text"]) for s in result["segments"]] == [(0, 3000, " here")]
    assert result["segments"][0]["start"] == pytest.approx(30)
    assert len(windows) == 2


def test_a_segment_without_text_is_kept_empty(monkeypatch, tiny_en):
    # As openai-whisper keeps it: its place is known, and it adds nothing to the text.
    model, _ = scripted(
        monkeypatch, tiny_en, [answer(tiny_en.tokenizer, 0, " ", 50, 50, " yes", 100, average=-0.5, no_speech=0.25)]
    )
    result = transcribe(model, np.zeros(5 * RATE, np.float32), DecodingOptions())
    empty, spoken = result["segments"]
    assert (empty["text"], empty["tokens"], empty["start"], empty["end"]) == ("", [], 0, 1)
    assert (spoken["text"], spoken["id"]) == (" yes", 1)
    assert result["text"] == " yes"
    assert {s["avg_logprob"] for s in result["segments"]} == {-0.5}
    assert {s["no_speech_prob"] for s in result["segments"]} == {0.25}
    assert spoken["compression_ratio"] == compression_ratio("yes")


# ------------------------------------------------------------------------------------------ real speech


@pytest.fixture(scope="module")
def book(speech) -> np.ndarray:
    """61 s of the sentences read from a book, with a quarter of a second between them."""
    clips = [speech[f"LJ001-{number:04}.wav"] for number in range(1, 13)]
    return np.concatenate([part for clip in clips for part in (clip, GAP)])[: 61 * RATE]


def check_transcript(result, seconds: float) -> None:
    """What is true of every transcript: well-formed segments in order, and a text made of theirs."""
    segments = result["segments"]
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    assert result["text"] == "".join(segment["text"] for segment in segments)
    before, window = 0.0, 0
    for segment in segments:
        assert set(segment) == set(Segment.__annotations__)
        assert segment["temperature"] == 0
        assert window <= segment["seek"] < seconds * 100
        assert before - 1e-9 <= segment["start"] < segment["end"]
        assert segment["start"] < seconds
        # An end can lie in the silence that a short window is filled with, never behind its 30 s.
        assert segment["end"] <= segment["seek"] / 100 + 30 + 1e-9
        assert segment["avg_logprob"] < 0 <= segment["no_speech_prob"] <= 1
        before, window = segment["end"], segment["seek"]


def test_the_jfk_clip_is_understood(model, speech):
    result = model.transcribe(speech["jfk.flac"])
    assert words(result["text"]) == words(JFK)
    assert result["language"] == "en"
    check_transcript(result, 11.0)


def test_a_path_its_bytes_and_its_samples_give_the_same(tiny_en, speech):
    path = DATA / "jfk.flac"
    once = tiny_en.transcribe(path, sample_len=5)
    assert once["text"]
    assert tiny_en.transcribe(str(path), sample_len=5) == once
    assert tiny_en.transcribe(path.read_bytes(), sample_len=5) == once
    assert tiny_en.transcribe(speech["jfk.flac"], sample_len=5) == once


@pytest.mark.parametrize(
    "samples", [3200, 154481, 480000, 480320, 976000], ids=["0.2s", "9.66s", "30.00s", "30.02s", "61s"]
)
def test_sound_of_any_length_is_transcribed_to_its_end(tiny_en, book, samples):
    reports: list[tuple[float, float]] = []
    sound = book[:samples]
    result = tiny_en.transcribe(sound, progress=lambda *report: reports.append(report))
    check_transcript(result, samples / RATE)
    done = [report[0] for report in reports]
    assert done == sorted(set(done))
    assert done[-1] == samples / RATE
    assert {report[1] for report in reports} == {samples / RATE}
    if samples == 3200:
        return  # too short for a word
    assert result["segments"][-1]["end"] > samples / RATE - 1
    if samples == 976000:
        with (DATA / "lj_texts.csv").open(newline="") as file:
            texts = dict(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))
        read = words(" ".join(texts[f"LJ001-{number:04}"] for number in range(1, 9)))  # the first 52 s
        heard = words(result["text"])[: len(read)]
        # No sentence is lost or said twice where the windows meet; single words may be misheard.
        assert SequenceMatcher(None, read, heard, autojunk=False).ratio() > 0.9


def test_without_timestamps_a_segment_is_a_window(tiny_en, speech):
    sound = speech["LJ001-0001.wav"]  # 965 frames
    result = tiny_en.transcribe(sound, without_timestamps=True)
    (segment,) = result["segments"]
    assert (segment["start"], segment["end"]) == (0, pytest.approx(9.65))
    assert max(segment["tokens"]) < tiny_en.tokenizer.eot
    assert "arts and crafts" in segment["text"]


def test_digital_silence_gives_no_text(tiny_en):
    silence = np.zeros(10 * RATE, np.float32)
    assert tiny_en.transcribe(silence) == {"text": "", "segments": [], "language": "en"}


@pytest.mark.parametrize("samples", [0, 1, 159])
def test_a_sound_shorter_than_a_frame_gives_no_text(tiny_en, samples):
    reports: list[tuple[float, float]] = []
    sound = np.zeros(samples, np.float32)
    result = tiny_en.transcribe(sound, progress=lambda *report: reports.append(report))
    assert result == {"text": "", "segments": [], "language": "en"}
    assert reports == []  # there is no window to report


def test_no_bytes_at_all_are_an_error(tiny_en):
    with pytest.raises(AudioError, match="empty, 0 bytes"):
        tiny_en.transcribe(b"")


# ------------------------------------------------------------------------------------------ languages and options


def test_the_language_is_heard_or_named(base):
    heard = base.transcribe(DATA / "french.aiff")
    assert heard["language"] == "fr"
    assert {"dictée", "numéro"} <= set(heard["text"].replace(".", "").split())
    assert base.transcribe(DATA / "french.aiff", language="French") == heard


def test_translation_is_to_english(base):
    result = base.transcribe(DATA / "french.aiff", task="translate", language="fr")
    assert result["language"] == "fr"
    assert {"and", "that", "number"} <= set(words(result["text"]))


def test_an_english_only_model_takes_english_only(tiny_en):
    with pytest.raises(LanguageError, match=r"'fr'.*English only"):
        tiny_en.transcribe(GAP, language="fr")
    with pytest.raises(MinWhisperError, match="cannot translate"):
        tiny_en.transcribe(GAP, task="translate")
    assert tiny_en.transcribe(GAP[:0], language="English")["language"] == "en"


def test_an_unknown_language_is_an_error_that_names_it(model):
    with pytest.raises(LanguageError, match=r"unknown language 'Frensh'.*did you mean 'french'"):
        model.transcribe(GAP, language="Frensh")


def test_an_unknown_task_is_an_error_that_names_it(tiny_en):
    with pytest.raises(MinWhisperError, match="task: expected 'transcribe' or 'translate', got 'summarise'"):
        tiny_en.transcribe(GAP, task="summarise")


def test_an_unknown_option_is_an_error_that_names_it(tiny_en):
    with pytest.raises(OptionError, match="unknown option 'laguage': did you mean 'language'"):
        tiny_en.transcribe(GAP, laguage="fr")
