"""Decoding windows together: those of several recordings, each as if alone, and those of a chunked recording."""

import re
import warnings
from difflib import SequenceMatcher
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import minwhisper
from book import TEXTS, join_clips
from inputs import DATA, SPEECH
from minwhisper.audio.mel_stream import Spectrogram
from minwhisper.errors import AudioError, LanguageError, MinWhisperError, OptionError, OutOfMemoryError, SomeFailedError
from minwhisper.fast.cpu import threads
from minwhisper.transcription import transcribe as chapter
from minwhisper.transcription.transcribe import Transcription
from scripted import GAP, RATE, is_closed
from transcripts import check_same, check_transcript, words

GREEDY = {"temperature": 0.0}
SHORT = [DATA / "LJ001-0008.wav", DATA / "LJ001-0002.wav", DATA / "LJ001-0011.wav"]


@pytest.fixture(scope="module")
def alone(tiny_en):
    """Return a function that transcribes a clip alone, each clip only once."""

    @cache
    def transcript(path):
        return tiny_en.transcribe(path, **GREEDY)

    return transcript


# ------------------------------------------------------------------------------------------ several recordings


@pytest.mark.parametrize(
    ("batch_size", "files"), [(3, [*SHORT, SPEECH[0]]), pytest.param(8, SPEECH, marks=pytest.mark.grid)]
)
def test_many_files_give_the_transcripts_of_each_alone(tiny_en, alone, batch_size, files):
    for path, result in zip(files, tiny_en.transcribe_many(files, batch_size=batch_size, **GREEDY), strict=True):
        check_same(result, alone(path), scores=1e-5)


def test_options_and_the_seed_apply_to_each_recording_as_if_alone(tiny_en):
    options = {"temperature": 0.9, "sample_len": 8, "word_timestamps": True}
    for path, result in zip(SHORT[:2], tiny_en.transcribe_many(SHORT[:2], seed=3, **options), strict=True):
        check_same(result, tiny_en.transcribe(path, generator=np.random.default_rng(3), **options), scores=1e-5)


def test_the_transcript_does_not_depend_on_the_engine(alone):
    plain = minwhisper.load_model("tiny.en", plain=True)
    for path, result in zip(SHORT[:2], plain.transcribe_many(SHORT[:2], batch_size=2, **GREEDY), strict=True):
        check_same(result, alone(path), scores=1e-5)


def test_transcriptions_come_in_the_order_of_the_recordings(tiny_en, alone, tmp_path):
    assert tiny_en.transcribe_many([]) == list(tiny_en.stream_many(iter([]))) == []
    empty = np.zeros(100, np.float32)
    first, error, nothing, last = tiny_en.stream_many([SHORT[0], tmp_path / "missing.wav", empty, SHORT[1]], **GREEDY)
    assert isinstance(first, Transcription)
    assert isinstance(error, AudioError)
    assert nothing.transcript == {"text": "", "segments": [], "language": "en"}
    for path, one in [(SHORT[0], first), (SHORT[1], last)]:
        check_same(one.transcript, alone(path), scores=1e-5)
        assert one.seconds == minwhisper.load_audio(path).size / RATE
        assert one.segments == one.transcript["segments"]


# ------------------------------------------------------------------------------------------ errors


def test_unreadable_files_are_named_and_the_others_transcribed(tiny_en, alone, tmp_path):
    (tmp_path / "broken.flac").write_bytes((DATA / "jfk.flac").read_bytes()[:50_000])
    files = [SHORT[0], tmp_path / "missing.wav", SHORT[1], tmp_path / "broken.flac"]
    with pytest.raises(SomeFailedError) as caught:
        tiny_en.transcribe_many(files, batch_size=2, **GREEDY)
    error = caught.value
    assert isinstance(error, MinWhisperError)
    message = str(error)
    assert re.match("2 of 4 audio files could not be transcribed: number 2: .*missing.wav.*no such file", message)
    assert "(and 1 more)" in message
    assert "\n" not in message
    assert list(error.errors) == [1, 3]
    assert "broken.flac" in str(error.errors[3])
    assert [one is None for one in error.transcripts] == [False, True, False, True]
    check_same(error.transcripts[0], alone(SHORT[0]), scores=1e-5)
    check_same(error.transcripts[2], alone(SHORT[1]), scores=1e-5)


def test_clips_past_the_end_of_one_do_not_stop_the_others_and_a_single_error_stands_alone(tiny_en):
    with pytest.raises(SomeFailedError, match="number 2: clip_timestamps") as caught:
        tiny_en.transcribe_many([SPEECH[0], SHORT[0]], clip_timestamps="0,2.5", sample_len=3, **GREEDY)
    assert "more)" not in str(caught.value)
    assert list(caught.value.errors) == [1]
    assert caught.value.transcripts[0]["text"]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"batch_size": 0}, OptionError, "batch_size"),
        ({"seed": -1}, OptionError, "seed"),
        ({"laguage": "fr"}, OptionError, "did you mean 'language'"),
        ({"language": "fr"}, LanguageError, "English only"),
    ],
)
def test_invalid_options_are_rejected_before_any_audio_is_opened(tiny_en, monkeypatch, options, error, match):
    monkeypatch.setattr(chapter, "open_audio", lambda *_, **__: pytest.fail("opened"))
    recordings = (pytest.fail("opened") for _ in range(2))
    for call in (tiny_en.transcribe_many, tiny_en.stream_many):
        with pytest.raises(error, match=match):
            call(recordings, **options)


def test_chunks_are_longer_without_timestamps(tiny_en, monkeypatch):
    options = []
    monkeypatch.setattr(chapter, "chunk_at_silence", lambda mel, *how: options.append(how) or [])
    for untimed in (False, True):
        result = tiny_en.transcribe(GAP, batch_size=8, without_timestamps=untimed, **GREEDY)
        assert result["text"] == ""  # there are no chunks
    assert [how[2] for how in options] == [2000, 2500]


def test_closing_early_closes_all_audio(tiny_en, opened):
    running = tiny_en.stream_many([SHORT[1], SPEECH[0], SPEECH[1], SHORT[0]], batch_size=2, **GREEDY)
    first = next(running)
    assert first.transcript["text"]
    assert not first._mel._cache
    assert [is_closed(audio) for audio in opened] == [True, *[False] * (len(opened) - 1)]
    assert 2 <= len(opened) <= 3  # the others are still waiting
    running.close()
    assert all(is_closed(audio) for audio in opened)
    assert next(running, None) is None


def test_audio_is_closed_at_its_end_and_after_an_error(tiny_en, opened):
    def recordings():
        yield SPEECH[0]
        yield SHORT[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_en.transcribe_many(recordings(), batch_size=3, sample_len=2, **GREEDY)
    assert [is_closed(audio) for audio in opened] == [True, True]


# ------------------------------------------------------------------------------------------ a chunked recording


def check_words(model, cut, audio):
    """Check that at most 2 % of the words differ from those without chunks."""
    found, expected = words(cut["text"]), words(model.transcribe(audio, language="en", **GREEDY)["text"])
    changes = SequenceMatcher(None, expected, found, autojunk=False).get_opcodes()
    differing = [(expected[a:b], found[c:d]) for kind, a, b, c, d in changes if kind != "equal"]
    assert len(expected) > 50
    assert sum(max(len(one), len(other)) for one, other in differing) <= 0.02 * len(expected), differing


def test_chunking_changes_few_words(tiny_en, speech):
    page = join_clips(speech, range(4, 9), pause=0.25)[0]  # 33 s
    check_words(tiny_en, tiny_en.transcribe(page, batch_size=8, **GREEDY), page)


IN_A_GRID = pytest.param("base", marks=pytest.mark.grid)


@pytest.mark.parametrize("name", ["tiny_en", IN_A_GRID])
def test_chunked_audio_is_transcribed_in_order_to_its_end(name, request, speech):
    model, book = request.getfixturevalue(name), join_clips(speech, range(12), pause=0.25)[0]  # 82 s
    reports = []
    how = {"language": "en", "progress": lambda *report: reports.append(report), **GREEDY}
    cut = model.transcribe(book, batch_size=8, **how)
    check_transcript(cut, book.size / RATE)
    assert len({segment["seek"] for segment in cut["segments"]}) >= 4
    assert book.size / RATE - 1 < cut["segments"][-1]["end"]
    assert words(cut["text"])[-3:] == ["printing", "beautiful", "letters"]
    done = [report[0] for report in reports]
    assert len(done) >= 4
    assert done == sorted(set(done))
    assert done[-1] == pytest.approx(book.size / RATE, abs=1e-9)
    assert {report[1] for report in reports} == {book.size / RATE}
    if request.config.getoption("grid"):
        check_words(model, cut, book)


def test_audio_that_fits_a_window_is_not_cut(tiny_en, alone):
    check_same(tiny_en.transcribe(SHORT[0], batch_size=8, **GREEDY), alone(SHORT[0]), scores=1e-5)


# Sentences of two seconds, each a clip, and each clip a chunk.
CLIPS = {"clip_timestamps": [0, 2.0, 2.0, 4.0], "batch_size": 4}


@pytest.fixture(scope="module")
def sentences(speech):
    return join_clips(speech, [1, 7], pause=0.25)[0]


def test_only_the_clips_are_transcribed(tiny_en, sentences):
    reports = []
    result = tiny_en.transcribe(sentences, progress=lambda *report: reports.append(report), **CLIPS, **GREEDY)
    assert [report[0] for report in reports][-1] == pytest.approx(4.0)
    assert {segment["seek"] for segment in result["segments"]} == {0, 200}
    assert words(result["text"]) == words(TEXTS[1] + TEXTS[7])
    apart = tiny_en.transcribe(sentences, condition_on_previous_text=False, **CLIPS | {"batch_size": 1}, **GREEDY)
    check_same(result, apart, scores=1e-5)


def test_each_chunk_is_sampled_with_its_own_generator(tiny_en, sentences):
    options = {"temperature": 1.0, "sample_len": 6, **CLIPS}
    first, again = (tiny_en.transcribe(sentences, generator=np.random.default_rng(1), **options) for _ in range(2))
    assert again == first
    alone = np.random.default_rng(1).spawn(2)[1]
    options |= {"clip_timestamps": CLIPS["clip_timestamps"][2:], "batch_size": 1}
    last = tiny_en.transcribe(sentences, generator=alone, **options)["segments"]
    assert [segment["text"] for segment in first["segments"]][-len(last) :] == [segment["text"] for segment in last]


def test_a_prompt_that_is_too_long_warns_once(tiny_en):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with pytest.raises(SomeFailedError):
            tiny_en.transcribe_many(["/no/such/file", "/no/other"], initial_prompt="so " * 300)
    assert [str(one.message)[:15] for one in caught] == ["initial_prompt:"]


# ------------------------------------------------------------------------------------------ early results


def test_the_first_chunks_are_decoded_before_the_others_are_cut(tiny_en, sentences, monkeypatch):
    cuts = []

    def watched(mel, start, end, shortest):
        cuts.append(start)
        yield start, end

    monkeypatch.setattr(chapter, "chunk_at_silence", watched)
    clips = [0, 1, 1, 2, 2, 3, 3, 4]
    with tiny_en.stream(sentences, clip_timestamps=clips, batch_size=2, sample_len=1, **GREEDY) as running:
        next(running)
        assert cuts == [0, 100, 200]
        list(running)
    assert cuts == [0, 100, 200, 300]


def test_held_segments_can_be_kept_after_an_interruption(tiny_en, alone, monkeypatch):
    segment = alone(SHORT[0])["segments"][0]

    def interrupted(*_):
        for chunk in (2, 0, 1):
            yield chunk, segment | {"start": float(chunk)}
        raise KeyboardInterrupt

    monkeypatch.setattr(chapter, "run_batched", interrupted)
    with tiny_en.stream(GAP, batch_size=8, **GREEDY) as running:
        assert next(running)["start"] == 0
        with pytest.raises(KeyboardInterrupt):
            next(running)
        assert [segment["start"] for segment in running.transcript["segments"]] == [0]
        assert [segment["start"] for segment in running.add_held()] == [1, 2]
        assert running.add_held() == []
    assert [(segment["id"], segment["start"]) for segment in running.transcript["segments"]] == [(0, 0), (1, 1), (2, 2)]
    assert running.transcript["text"] == 3 * segment["text"]


def test_the_spectrogram_is_computed_within_a_session(tiny_en, monkeypatch):
    # Otherwise BLAS threads would busy-wait between many small products.
    seen = []

    def watched(*given):
        seen.extend(library["num_threads"] for library in threads._controller().info())
        return Spectrogram(*given)

    monkeypatch.setattr(chapter, "Spectrogram", watched)
    with threadpool_limits(2, user_api="blas"):
        tiny_en.stream(np.zeros(16000, np.float32)).close()
    assert set(seen) == {1}


def test_running_out_of_memory_for_one_recording_does_not_stop_the_others(tiny_en, monkeypatch):
    real = chapter.open_audio
    monkeypatch.setattr(chapter, "open_audio", lambda audio, **how: real(audio, **how) if audio == SHORT[0] else fail())

    def fail():
        raise MemoryError

    lacking, fine = tiny_en.stream_many(["endless", SHORT[0]], **GREEDY)
    assert isinstance(lacking, OutOfMemoryError)
    assert isinstance(lacking, MemoryError)
    assert fine.transcript["text"]
