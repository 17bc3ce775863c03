"""vad_filter: only the parts with speech are transcribed."""

import numpy as np
import pytest

from minwhisper.transcription import transcribe as chapter
from scripted import MULTILINGUAL, RATE, Scripted, output, places, run
from transcripts import words
from vocabularies import made_up_tokenizer


@pytest.fixture
def spoken_at(monkeypatch):
    """Return a function that sets the stretches in which speech is found, in frames."""

    def set_stretches(*stretches: tuple[int, int]) -> None:
        monkeypatch.setattr(chapter, "find_speech", lambda mel: list(stretches))

    return set_stretches


def one_sentence(_options, window):
    """Return a sentence that ends 0.5 s before the end of the window."""
    return output(0.0, " one", window[1] / 100 - 0.5, window[1] / 100 - 0.5)


def test_each_part_with_speech_is_transcribed_at_its_own_time(spoken_at):
    spoken_at((100, 900), (1300, 2000), (6000, 7200))
    model = Scripted(lambda options, window: output(0.0, " one", window[1] / 100))
    result = run(model, 9000, vad_filter=True)
    assert model.windows == [(100, 1900), (6000, 1200)]  # the pause of 4 s stays in, that of 40 s does not
    assert places(result) == [(100, 1.0, 20.0, " one"), (6000, 60.0, 72.0, " one")]


def test_no_window_starts_in_a_pause(spoken_at):
    spoken_at((0, 500), (900, 1300), (2000, 2030))
    script = iter([output(0.0, " one", 5.5, 5.5), output(0.0, " two", 3.9, 3.9), output(0.0, " three", 0.3)])
    model = Scripted(lambda options, window: next(script))
    run(model, 4000, vad_filter=True)
    # The first sentence ends in a pause, so the next window starts at 9 s. After the second, only padding is left.
    assert model.windows == [(0, 1300), (900, 400), (2000, 30)]


def test_times_do_not_reach_into_a_pause_that_is_left_out(spoken_at):
    """A segment that starts after the pause begins is cleared."""
    spoken_at((0, 500), (2000, 2500))
    outputs = output(0.0, " one", 4.0, 4.0, " two", 6.0, 6.0, " three", 7.0)
    result = run(Scripted(lambda options, window: outputs), 3000, vad_filter=True)
    first = [(0, 0, 4, " one"), (0, 4, 5, " two"), (0, 5, 5, "")]
    assert places(result) == [*first, *((2000, start + 20, end + 20, text) for _, start, end, text in first)]
    assert result["segments"][2]["tokens"] == []


def test_the_filter_works_within_clips(spoken_at):
    spoken_at((0, 1000), (4000, 5000))
    model = Scripted(lambda options, window: output(0.0, " one", window[1] / 100))
    result = run(model, 8000, clip_timestamps=[5, 8, 8.5, 42, 60, 70], vad_filter=True)
    assert [place[1:3] for place in places(result)] == [(5, 8), (8.5, 10), (40, 42)]
    assert model.windows == [(500, 300), (850, 150), (4000, 200)]


def test_progress_reaches_the_end_over_parts_and_without_any(spoken_at):
    for stretches in [(0, 500), (2000, 2100)], [(700, 800)], []:
        spoken_at(*stretches)
        reports = []
        run(Scripted(one_sentence), 3000, vad_filter=True, progress=lambda *report, to=reports: to.append(report))
        assert reports[-1] == (30.0, 30.0)
        assert reports == sorted(reports)


def test_the_language_is_detected_where_speech_starts(spoken_at):
    spoken_at((1234, 2000))
    model = Scripted(one_sentence, made_up_tokenizer(MULTILINGUAL), [{"de": 0.9}])
    assert run(model, 3000, vad_filter=True)["language"] == "de"
    assert model.detected_at == [1234]


# ------------------------------------------------------------------------------------------ real speech


def test_silence_and_noise_give_no_segments_with_the_filter(tiny_en, rng):
    silence, noise = np.zeros(30 * RATE, np.float32), rng.normal(0, 0.01, 30 * RATE).astype(np.float32)
    for samples in (silence, noise):
        assert tiny_en.transcribe(samples, vad_filter=True)["segments"] == []


def test_the_words_around_a_long_pause_stay_at_their_times(tiny_en, speech, rng):
    first, second = speech["LJ001-0002.wav"], speech["LJ001-0008.wav"]
    samples = np.concatenate([np.zeros(7 * RATE), first, np.zeros(15 * RATE), second, np.zeros(9 * RATE)])
    samples = (samples + rng.normal(0, 0.001, samples.size)).astype(np.float32)
    result = tiny_en.transcribe(samples, vad_filter=True, temperature=0.0, batch_size=2, word_timestamps=True)
    assert words(result["text"]) == ["in", "being", "comparatively", "modern", "has", "never", "been", "surpassed"]
    middle = 7 + first.size / RATE + 7.5
    for segment in result["segments"]:
        start, end = segment["start"], segment["end"]
        assert 6 < start < end < middle - 6.5 or middle + 6.5 < start < end < samples.size / RATE - 8
        for word in segment["words"]:
            assert start <= word["start"] <= word["end"] <= end
