"""Windows decoded together: of several recordings, each transcribed as if alone, and of one that is chunked."""

import warnings
from difflib import SequenceMatcher
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import minwhisper
from conftest import LJ, SPEECH
from minwhisper.audio.mel_stream import Spectrogram
from minwhisper.errors import AudioError, LanguageError, MinWhisperError, OptionError, OutOfMemoryError, SomeFailedError
from minwhisper.fast.cpu import threads
from minwhisper.transcription import transcribe as chapter
from minwhisper.transcription.chunking import chunk_at_silence
from minwhisper.transcription.transcribe import Transcription
from scripted import DATA, GAP, RATE, is_closed
from test_transcribe_speech import check_transcript, words
from transcripts import check_same

GREEDY = {"temperature": 0.0}
SHORT = [DATA / "LJ001-0008.wav", DATA / "LJ001-0002.wav", DATA / "LJ001-0011.wav"]


@pytest.fixture(scope="module")
def alone(tiny_en):
    """Return the transcript of a clip, transcribed alone, once for each."""

    @cache
    def transcript(path):
        return tiny_en.transcribe(path, **GREEDY)

    return transcript


@pytest.fixture(scope="module")
def book(speech):
    """82 s, more than two windows: sentences, each with a quarter of a second behind it."""
    return np.concatenate([part for path in LJ for part in (speech[path.name], GAP)])


@pytest.fixture(scope="module")
def page(speech):
    """32 s of the book, two parts."""
    return np.concatenate([part for path in LJ[4:9] for part in (speech[path.name], GAP)])


@pytest.fixture(scope="module")
def page_cut(tiny_en, page):
    return tiny_en.transcribe(page, batch_size=8, **GREEDY)


# ------------------------------------------------------------------------------------------ several recordings


@pytest.mark.parametrize(
    ("batch_size", "files"), [(1, SHORT[:2]), (3, [*SHORT, SPEECH[0]]), pytest.param(8, SPEECH, marks=pytest.mark.grid)]
)
def test_many_files_give_the_transcripts_of_each_alone(tiny_en, alone, batch_size, files):
    for path, result in zip(files, tiny_en.transcribe_many(files, batch_size=batch_size, **GREEDY), strict=True):
        check_same(result, alone(path), scores=1e-5)


@pytest.mark.grid
def test_a_long_recording_beside_short_ones(tiny_en, alone, book):
    recordings = [book, SHORT[0], SHORT[1].read_bytes()]
    results = tiny_en.transcribe_many(iter(recordings), batch_size=2, **GREEDY)
    expected = [tiny_en.transcribe(book, **GREEDY), *(alone(path) for path in SHORT[:2])]
    for result, one in zip(results, expected, strict=True):
        check_same(result, one, scores=1e-5)


def test_options_apply_to_each_recording(tiny_en):
    options = {"beam_size": 2, "word_timestamps": True, **GREEDY}
    for path, result in zip(SHORT[:2], tiny_en.transcribe_many(SHORT[:2], **options), strict=True):
        check_same(result, tiny_en.transcribe(path, **options), scores=1e-5)
        assert "words" in result["segments"][0]


def test_each_recording_is_sampled_as_if_alone(tiny_en):
    options = {"temperature": 0.9, "sample_len": 8}
    for path, result in zip(SHORT[:2], tiny_en.transcribe_many(SHORT[:2], seed=3, **options), strict=True):
        check_same(result, tiny_en.transcribe(path, generator=np.random.default_rng(3), **options), scores=1e-5)


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


# ------------------------------------------------------------------------------------------ what goes wrong


def test_unreadable_files_are_named_and_the_others_transcribed(tiny_en, alone, tmp_path):
    (tmp_path / "broken.flac").write_bytes((DATA / "jfk.flac").read_bytes()[:50_000])
    files = [SHORT[0], tmp_path / "missing.wav", SHORT[1], tmp_path / "broken.flac"]
    with pytest.raises(SomeFailedError) as caught:
        tiny_en.transcribe_many(files, batch_size=2, **GREEDY)
    error = caught.value
    assert isinstance(error, MinWhisperError)
    message = str(error)
    assert message.startswith("2 of 4 audio files could not be transcribed: number 2: ")
    assert "missing.wav" in message
    assert "no such file" in message
    assert "(and 1 more)" in message
    assert "\n" not in message
    assert list(error.errors) == [1, 3]
    assert "broken.flac" in str(error.errors[3])
    assert [one is None for one in error.transcripts] == [False, True, False, True]
    check_same(error.transcripts[0], alone(SHORT[0]), scores=1e-5)
    check_same(error.transcripts[2], alone(SHORT[1]), scores=1e-5)


def test_the_message_of_a_single_error(tiny_en, tmp_path):
    with pytest.raises(SomeFailedError, match=r"^1 of 1 audio files.*number 1: .*missing\.wav.*no such file") as caught:
        tiny_en.transcribe_many([tmp_path / "missing.wav"])
    assert "more)" not in str(caught.value)
    assert caught.value.transcripts == [None]


def test_clips_past_the_end_of_one_do_not_stop_the_others(tiny_en, alone):
    with pytest.raises(SomeFailedError, match="number 2: clip_timestamps") as caught:
        tiny_en.transcribe_many([SPEECH[0], SHORT[0]], clip_timestamps="0,2.5", sample_len=3, **GREEDY)
    assert list(caught.value.errors) == [1]
    assert caught.value.transcripts[0]["text"]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        *(({"batch_size": size}, OptionError, "batch_size") for size in (0, 1.5, None)),
        ({"seed": -1}, OptionError, "seed"),
        ({"laguage": "fr"}, OptionError, "did you mean 'language'"),
        ({"language": "fr"}, LanguageError, "English only"),
    ],
)
def test_invalid_options_are_rejected_before_any_audio_is_opened(tiny_en, monkeypatch, options, error, match):
    monkeypatch.setattr(chapter, "open_audio", lambda *_, **__: pytest.fail("opened"))
    recordings = (pytest.fail("asked for") for _ in range(2))
    for call in (tiny_en.transcribe_many, tiny_en.stream_many):
        with pytest.raises(error, match=match):
            call(recordings, **options)


def test_chunks_are_longer_without_timestamps(tiny_en, monkeypatch):
    options = []
    monkeypatch.setattr(chapter, "chunk_at_silence", lambda mel, *how: options.append(how) or [])
    for untimed in (False, True):
        result = tiny_en.transcribe(GAP, batch_size=8, without_timestamps=untimed, **GREEDY)
        assert result["text"] == ""  # for there were no parts
    assert [how[2] for how in options] == [2000, 2500]


def test_closing_early_closes_all_audio(tiny_en, opened):
    running = tiny_en.stream_many([SHORT[1], SPEECH[0], SPEECH[1], SHORT[0]], batch_size=2, **GREEDY)
    first = next(running)
    assert first.transcript["text"]
    assert not first._mel._cache
    assert [is_closed(sound) for sound in opened] == [True, *[False] * (len(opened) - 1)]
    assert 2 <= len(opened) <= 3  # the others have not had their turn
    running.close()
    assert all(is_closed(sound) for sound in opened)
    assert next(running, None) is None


def test_audio_is_closed_at_its_end_and_after_an_error(tiny_en, opened):
    def recordings():
        yield SPEECH[0]
        yield SHORT[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_en.transcribe_many(recordings(), batch_size=3, sample_len=2, **GREEDY)
    assert [is_closed(sound) for sound in opened] == [True, True]


# ------------------------------------------------------------------------------------------ one sound that is cut


def check_words(cut, whole):
    """At most 2 % of the words are others."""
    found, expected = words(cut["text"]), words(whole["text"])
    changes = SequenceMatcher(None, expected, found, autojunk=False).get_opcodes()
    differing = [(expected[a:b], found[c:d]) for kind, a, b, c, d in changes if kind != "equal"]
    assert len(expected) > 50
    assert sum(max(len(one), len(other)) for one, other in differing) <= 0.02 * len(expected), differing


def test_chunking_changes_few_words(tiny_en, page, page_cut):
    check_words(page_cut, tiny_en.transcribe(page, **GREEDY))


@pytest.mark.grid
def test_chunking_changes_few_words_of_a_book(model, book):
    cut = model.transcribe(book, batch_size=8, language="en", **GREEDY)
    check_words(cut, model.transcribe(book, language="en", **GREEDY))
    check_transcript(cut, book.size / RATE)


def test_chunked_audio_is_transcribed_in_order_to_its_end(tiny_en, book):
    reports = []
    cut = tiny_en.transcribe(book, batch_size=8, progress=lambda *report: reports.append(report), **GREEDY)
    check_transcript(cut, book.size / RATE)
    assert len({segment["seek"] for segment in cut["segments"]}) >= 4
    assert book.size / RATE - 1 < cut["segments"][-1]["end"]
    assert words(cut["text"])[-3:] == ["printing", "beautiful", "letters"]
    done = [report[0] for report in reports]
    assert len(done) >= 4
    assert done == sorted(set(done))
    assert done[-1] == pytest.approx(book.size / RATE, abs=1e-9)
    assert {report[1] for report in reports} == {book.size / RATE}


@pytest.mark.parametrize("machine", [{"plain": True}, pytest.param({"threads": 1}, marks=pytest.mark.grid)], ids=str)
def test_the_transcript_does_not_depend_on_the_engine_or_batch_size(page, page_cut, machine):
    model = minwhisper.load_model("tiny.en", **machine)
    check_same(model.transcribe(page, batch_size=2, **GREEDY), page_cut, scores=1e-5)


def test_audio_that_fits_a_window_is_not_cut(tiny_en, alone):
    check_same(tiny_en.transcribe(SHORT[0], batch_size=8, **GREEDY), alone(SHORT[0]), scores=1e-5)


def test_only_the_clips_are_transcribed(tiny_en, book):
    options = {"clip_timestamps": [0, 9.7, 50.2, 52.2], "progress": lambda *report: reports.append(report)}
    reports = []
    result = tiny_en.transcribe(book, batch_size=8, **options, **GREEDY)
    assert [report[0] for report in reports][-1] == pytest.approx(11.7)
    assert {segment["seek"] for segment in result["segments"]} == {0, 5020}
    assert words(result["text"])[:3] == ["printing", "in", "the"]
    assert words(result["text"])[-3:] == ["never", "been", "surpassed"]
    apart = tiny_en.transcribe(book, condition_on_previous_text=False, **options, **GREEDY)
    check_same(result, apart, scores=1e-5)  # each is one part


def test_segments_come_one_by_one_and_a_stream_can_be_closed(tiny_en, page, page_cut, opened):
    with tiny_en.stream(page, batch_size=2, **GREEDY) as running:
        first = next(running)
        assert first["id"] == 0
        assert running.transcript["segments"] == [first]
    assert [is_closed(sound) for sound in opened] == [True]
    assert next(running, None) is None
    assert first["text"] == page_cut["segments"][0]["text"]


def test_each_chunk_is_sampled_with_its_own_generator(tiny_en, page):
    options = {"batch_size": 4, "temperature": 1.0, "sample_len": 6}
    first, again = (tiny_en.transcribe(page, generator=np.random.default_rng(1), **options) for _ in range(2))
    assert again == first
    assert len({segment["seek"] for segment in first["segments"]}) == 2


def test_a_prompt_that_is_too_long_warns_once(tiny_en):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with pytest.raises(SomeFailedError):
            tiny_en.transcribe_many(["/no/such/file", "/no/other"], initial_prompt="so " * 300)
    assert [str(one.message)[:15] for one in caught] == ["initial_prompt:"]


# ------------------------------------------------------------------------------------------ what is there early


def test_the_first_chunks_are_decoded_before_the_others_are_cut(tiny_en, book, monkeypatch):
    cuts = []

    def watched(mel, start, end, shortest):
        for part in chunk_at_silence(mel, start, end, shortest):
            cuts.append(part)
            yield part

    monkeypatch.setattr(chapter, "chunk_at_silence", watched)
    with tiny_en.stream(book, batch_size=2, sample_len=1, **GREEDY) as running:
        next(running)
        early = len(cuts)
        list(running)
    assert early <= 3 < len(cuts)


def test_held_segments_can_be_kept_after_an_interruption(tiny_en, page, page_cut, monkeypatch):
    first, *later = page_cut["segments"]

    def interrupted(*_):
        yield 2, dict(later[-1])
        yield 0, dict(first)
        yield 1, dict(later[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(chapter, "run_batched", interrupted)
    with tiny_en.stream(page, batch_size=8, **GREEDY) as running:
        assert next(running)["text"] == first["text"]
        with pytest.raises(KeyboardInterrupt):
            next(running)
        assert running.transcript["segments"] == [first]
        assert [segment["text"] for segment in running.add_held()] == [later[0]["text"], later[-1]["text"]]
        assert running.add_held() == []
    assert [segment["id"] for segment in running.transcript["segments"]] == [0, 1, 2]
    assert running.transcript["text"] == first["text"] + later[0]["text"] + later[-1]["text"]


def test_the_spectrogram_is_computed_within_a_session(tiny_en, monkeypatch):
    # Threads of the library of products would wait for the next of many small ones by spinning.
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
