"""Word timestamps: the rules that shorten words, and the rules that find hallucinations."""

from copy import deepcopy

import pytest

from aligned import aligned
from minwhisper.audio.mel import log_mel_spectrogram
from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.transcription.word_timestamps import (
    add_word_timestamps,
    assign_words,
    is_segment_anomaly,
    last_word_end,
    median_duration,
    reconcile_times,
    shorten_after_pause,
    shorten_at_sentence_ends,
    skip_hallucinations,
    skip_leading_silence,
    word_anomaly_score,
)
from minwhisper.transcription.words import WordTiming
from vocabularies import PIECE_COUNTS, made_up_pieces

SIZE = 51865


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(made_up_pieces(PIECE_COUNTS[SIZE]), SIZE)


def timing(word, start, end, tokens=(1,)):
    return WordTiming(word, tokens, start, end, 0.9)


def word_of(word, start, end, probability=0.9):
    return {"word": word, "start": start, "end": end, "probability": probability}


def segment(start, end, words=None, *, seek=0, tokens=()):
    numbers = dict.fromkeys(("temperature", "avg_logprob", "compression_ratio", "no_speech_prob"), 0.0)
    made = {"id": 0, "seek": seek, "start": start, "end": end, "text": "", "tokens": list(tokens), **numbers}
    return made if words is None else {**made, "words": words}


def times(words) -> list[tuple[float, float]]:
    return [(word["start"], word["end"]) for word in words]


# ------------------------------------------------------------------------------------------ the rules, one by one


@pytest.mark.parametrize(
    ("durations", "usual"),
    [
        ([], 0.0),
        ([0.0, 0.0], 0.0),
        ([0.0, 0.25], 0.25),  # words without duration are not counted
        ([0.25, 0.5], 0.375),
        ([0.25, 0.5, 8.0], 0.5),
        ([0.625, 1.0], 0.7),  # the maximum
    ],
    ids=str,
)
def test_the_median_duration_ignores_empty_words_and_is_at_most_0_7_s(durations, usual):
    assert median_duration([timing("a", 1.0, 1.0 + duration) for duration in durations]) == usual


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        ([(".", 0.0, 9.0)], [(0.0, 9.0)]),  # the first word is never shortened
        ([(" a", 0.0, 1.0), (".", 1.0, 5.0)], [(0.0, 1.0), (1.0, 2.5)]),
        ([(" a", 0.0, 1.0), (".", 1.0, 2.5)], [(0.0, 1.0), (1.0, 2.5)]),  # not longer than 1.5
        ([("!", 0.0, 1.0), (" b", 1.0, 5.0)], [(0.0, 1.0), (3.5, 5.0)]),
        ([(",", 0.0, 1.0), (" b", 1.0, 5.0)], [(0.0, 1.0), (1.0, 5.0)]),  # no sentence ends here
        ([(".", 0.0, 1.0), ("。", 1.0, 5.0)], [(0.0, 1.0), (1.0, 2.5)]),  # both rules apply: the end moves
    ],
    ids=str,
)
def test_words_at_the_ends_of_sentences_are_shortened(words, expected):
    before = [timing(*word) for word in words]
    shortened = shorten_at_sentence_ends(before, 1.5)
    assert [(word.start, word.end) for word in shortened] == expected
    assert [word.word for word in shortened] == [word for word, _, _ in words]


def test_words_are_assigned_by_their_tokens():
    timings = [
        timing(" a", 0.0, 0.104, (1, 2)),
        timing(" b.", 0.106, 1.0, (3, 4)),
        timing(" c", 1.0, 2.0, (5,)),
        timing(" d", 2.0, 3.0, (6,)),
    ]
    shared = assign_words(timings, [2, 0, 1, 1, 1, 1], 10.0)
    # " b." has two tokens; the word belongs to the third segment, which has one of them.
    assert [[word["word"] for word in words] for words in shared] == [[" a"], [], [" b."], [" c"], [" d"], []]
    assert times(shared[0]) == [(10.0, 10.1)]
    assert times(shared[2]) == [(10.11, 11.0)]
    assert set(shared[0][0]) == {"word", "start", "end", "probability"}
    assert shared[0][0]["probability"] == 0.9


@pytest.mark.parametrize(
    ("words", "last_speech_end", "usual", "expected"),
    [
        ([], 0.0, 0.5, []),
        ([(10.0, 13.0)], 11.0, 0.5, [(10.0, 13.0)]),  # no pause: 13 - 11 is four usual words
        ([(10.0, 13.0)], 10.9, 0.5, [(12.0, 13.0)]),  # too long, after a pause
        ([(10.0, 11.0)], 0.0, 0.5, [(10.0, 11.0)]),  # not too long: two usual words
        ([(10.0, 13.0), (13.0, 16.0)], 0.0, 0.5, [(14.0, 15.0), (15.0, 16.0)]),  # both too long
        ([(10.0, 10.5), (10.5, 12.5)], 0.0, 0.5, [(10.5, 11.5), (11.5, 12.5)]),  # too long together
        ([(10.0, 10.5), (10.5, 12.0)], 0.0, 0.5, [(10.0, 10.5), (10.5, 12.0)]),  # just short enough: four usual words
        # At the start, the boundary is half of the second word's end, if that is later. And no word starts before 0.
        ([(0.0, 1.0), (1.0, 1.9)], -9.0, 0.4, [(0.3, 1.1), (1.1, 1.9)]),
        ([(-0.3, 0.0), (0.0, 1.5)], -9.0, 0.4, [(0.0, 0.75), (0.75, 1.5)]),
    ],
    ids=str,
)
def test_words_after_a_pause_are_shortened(words, last_speech_end, usual, expected):
    before = [word_of("a", *word) for word in words]
    kept = deepcopy(before)
    assert times(shorten_after_pause(before, last_speech_end, usual)) == [pytest.approx(word) for word in expected]
    assert before == kept


@pytest.mark.parametrize(
    ("given_times", "words", "segment_times", "word_times"),
    [
        ((3.0, 8.0), [], (3.0, 8.0), []),
        ((3.0, 8.0), [(3.2, 4.0), (4.0, 7.9)], (3.2, 7.9), [(3.2, 4.0), (4.0, 7.9)]),
        # the first word starts more than half a second before the segment: the start of the segment counts
        ((3.0, 8.0), [(2.0, 4.0), (4.0, 8.0)], (3.0, 8.0), [(3.0, 4.0), (4.0, 8.0)]),
        ((3.0, 8.0), [(2.5, 4.0), (4.0, 8.0)], (2.5, 8.0), [(2.5, 4.0), (4.0, 8.0)]),
        ((3.8, 8.0), [(2.0, 4.0), (4.0, 8.0)], (3.8, 8.0), [(3.5, 4.0), (4.0, 8.0)]),  # a usual word is left
        ((4.0, 8.0), [(2.0, 4.0), (4.0, 8.0)], (2.0, 8.0), [(2.0, 4.0), (4.0, 8.0)]),  # nothing would be left
        # the last word ends more than half a second late
        ((3.0, 7.0), [(3.0, 4.0), (4.0, 8.0)], (3.0, 7.0), [(3.0, 4.0), (4.0, 7.0)]),
        ((3.0, 7.5), [(3.0, 4.0), (4.0, 8.0)], (3.0, 8.0), [(3.0, 4.0), (4.0, 8.0)]),
        ((3.0, 4.2), [(3.0, 4.0), (4.0, 8.0)], (3.0, 4.2), [(3.0, 4.0), (4.0, 4.5)]),  # a usual word is left
        ((3.0, 4.0), [(3.0, 4.0), (4.0, 8.0)], (3.0, 8.0), [(3.0, 4.0), (4.0, 8.0)]),
        # a single word that starts early and ends late
        ((3.0, 5.0), [(1.0, 9.0)], (3.0, 5.0), [(3.0, 5.0)]),
        ((0.55, 5.0), [(0.0, 0.56), (0.6, 5.0)], (0.55, 5.0), [(0.06, 0.56), (0.6, 5.0)]),
        ((0.3, 5.0), [(-0.4, 0.4), (0.4, 5.0)], (0.3, 5.0), [(0.0, 0.4), (0.4, 5.0)]),  # not before the audio
    ],
    ids=str,
)
def test_segment_and_words_get_equal_times(given_times, words, segment_times, word_times):
    before = segment(*given_times)
    spoken = [word_of("a", *word) for word in words]
    kept = deepcopy((before, spoken))
    fitted = reconcile_times(before, spoken, 0.5)
    assert (fitted["start"], fitted["end"]) == segment_times
    assert times(fitted["words"]) == [pytest.approx(word) for word in word_times]
    assert (before, spoken) == kept


# ------------------------------------------------------------------------------------------ all together


def test_segments_get_their_words(tokenizer):
    a, b, full_stop = tokenizer.encode("a")[0], tokenizer.encode("b")[0], tokenizer.encode(".")[0]
    time = tokenizer.timestamp_begin
    segments = [
        segment(20.0, 21.0, seek=2000, tokens=[time, a, full_stop, time + 50]),
        segment(21.0, 22.0, seek=2000, tokens=[time + 50, time + 100]),
        segment(25.0, 30.0, seek=2000, tokens=[time + 250, b, b, time + 500]),
    ]
    timings = [
        WordTiming(" a", (a,), 0.0, 0.8, 0.5),
        WordTiming(".", (full_stop,), 0.8, 0.9, 0.7),
        WordTiming(" b", (b,), 0.9, 5.8, 0.9),
        WordTiming(" b", (b,), 5.8, 6.3, 0.8),
    ]
    kept = deepcopy(segments)
    done = add_word_timestamps(segments, timings, tokenizer=tokenizer, last_speech_end=19.9)
    assert segments == kept
    assert [[word["word"] for word in part["words"]] for part in done] == [[" a."], [], [" b", " b"]]
    # The median of 0.1, 0.5, 0.8 and 4.9 is 0.65: the word after the sentence starts 1.3 s before its end.
    assert times(done[0]["words"]) == [(20.0, 20.8)]
    assert times(done[2]["words"]) == [pytest.approx((24.5, 25.8)), pytest.approx((25.8, 26.3))]
    assert [(part["start"], part["end"]) for part in done] == [(20.0, 20.8), (21.0, 22.0), (24.5, 26.3)]
    changed = ({key: part[key] for key in ("start", "end", "words")} for part in done)
    assert done == [before | its for before, its in zip(kept, changed, strict=True)]


def test_last_speech_end_is_passed_from_segment_to_segment(tokenizer):
    [a] = tokenizer.encode("a")
    segments = [segment(0.0, 3.0, tokens=[a, a, a]), segment(3.0, 9.0, tokens=[a])]

    def last_words(segments, starts, start, end):
        """Return the words of the last segment, a single word after three words of half a second."""
        words = [*((at, at + 0.5) for at in starts), (start, end)]
        timings = [timing(" a", *word, (a,)) for word in words]
        return times(add_word_timestamps(segments, timings, tokenizer=tokenizer, last_speech_end=0.0)[-1]["words"])

    assert last_words(segments, (0.0, 0.5, 1.0), 2.0, 5.0) == [(4.0, 5.0)]  # speech ended at 1.5, long ago
    assert last_words(segments, (1.0, 1.5, 2.0), 2.5, 4.4) == [(2.5, 4.4)]  # speech ended at 2.5
    # A segment without words ends at 4.0, but speech does not.
    silent = [segments[0], segment(1.5, 4.0), segments[1]]
    assert last_words(silent, (0.0, 0.5, 1.0), 2.0, 5.0) == [(4.0, 5.0)]


def test_a_segment_without_words_keeps_its_times(tokenizer):
    assert add_word_timestamps([], [], tokenizer=tokenizer, last_speech_end=0.0) == []
    [done] = add_word_timestamps([segment(1.0, 2.0)], [], tokenizer=tokenizer, last_speech_end=0.0)
    assert (done["start"], done["end"], done["words"]) == (1.0, 2.0, [])


def test_real_words_are_in_their_segments_at_plausible_times(tiny_en, speech):
    tokenizer, mel = tiny_en.tokenizer, log_mel_spectrogram(speech["jfk.flac"], padding=480000)[:, :3000]
    segments = [
        segment(0.0, 2.4, tokens=tokenizer.encode(" And so, my fellow Americans,")),
        segment(3.3, 7.8, tokens=tokenizer.encode(" ask not what your country can do for you.")),
    ]
    timings = aligned(tiny_en, mel, 1100, [token for part in segments for token in part["tokens"]])
    first, second = add_word_timestamps(segments, timings, tokenizer=tokenizer, last_speech_end=0.0)
    assert [word["word"] for word in first["words"]] == [" And", " so,", " my", " fellow", " Americans,"]
    assert second["words"][-1]["word"] == " you."
    americans = first["words"][-1]
    assert americans["start"] < 1.9 < americans["end"] < 2.6
    ask = second["words"][0]  # the pause before it, a second long, is in neither
    assert 3.0 < ask["start"] < 3.8 < ask["end"] < 4.1
    assert (first["start"], second["end"]) == (first["words"][0]["start"], second["words"][-1]["end"])


def test_last_word_end_is_that_of_the_last_word_or_else_of_the_segment():
    wordless, spoken = segment(2.0, 3.0, []), segment(0.0, 2.0, [word_of("a", 0.0, 1.5), word_of("b", 1.5, 1.8)])
    assert last_word_end([]) is None
    assert last_word_end([segment(0.0, 2.0)]) == 2.0
    assert last_word_end([wordless, wordless]) == 3.0
    assert last_word_end([spoken]) == last_word_end([spoken, wordless]) == 1.8


# ------------------------------------------------------------------------------------------ hallucinations


@pytest.mark.parametrize(
    ("duration", "probability", "anomaly"),
    [
        (0.5, 0.15, 0.0),
        (0.5, 0.14, 1.0),
        (0.133, 0.9, 0.0),
        (0.0, 0.9, 1.995),
        (2.0, 0.9, 0.0),
        (3.5, 0.1, 2.5),
    ],
)
def test_improbable_short_and_long_words_score_as_anomalies(duration, probability, anomaly):
    assert word_anomaly_score(word_of(" a", 0.0, duration, probability)) == pytest.approx(anomaly)


GOOD, BAD, ODD = (0.5, 0.9), (0.5, 0.1), (0.1, 0.9)  # duration, probability: anomaly 0, 1, 0.495


@pytest.mark.parametrize(
    ("words", "anomalous"),
    [
        ([], False),
        ([GOOD], False),
        ([BAD], True),
        ([BAD, BAD, GOOD], False),
        ([BAD, BAD, BAD, GOOD, GOOD], True),
        ([ODD, ODD], False),
        ([GOOD] * 8 + [BAD] * 8, False),  # only the first eight words count
        ([GOOD] * 5 + [BAD] * 3, True),
        ([GOOD] * 6 + [BAD] * 3, False),
        ([(0.067, 0.9)], True),  # a score of 0.99 counts as 1
        ([(0.068, 0.9)], False),
    ],
    ids=str,
)
def test_a_segment_is_anomalous_if_its_first_words_score_high(words, anomalous):
    assert is_segment_anomaly(segment(0, 9, [word_of(" a", 0.0, *word) for word in words])) == anomalous


def test_punctuation_is_not_scored():
    odd_marks = [word_of(mark, 0.0, 0.0, 0.0) for mark in (".", "“", "?")]
    assert not is_segment_anomaly(segment(0, 9, [*odd_marks, word_of(" a", 0.0, 0.5)]))
    assert is_segment_anomaly(segment(0, 9, [word_of(" a.", 0.0, 0.0, 0.0), word_of(".", 0.0, 0.5)]))
    assert is_segment_anomaly(segment(0, 9, [word_of(".", 0.0, 0.5)]))  # only punctuation
    assert not is_segment_anomaly(segment(0, 9))  # no words


def fine(start, end):
    return segment(start, end, [word_of(" a", start, start + 0.5), word_of(" b", end - 0.5, end)])


def odd(start, end):
    return segment(start, end, [word_of(" a", start, end, 0.01)])


def wordless(start, end):
    return segment(start, end, [])


@pytest.mark.parametrize(
    ("segments", "restart"),
    [
        ([], None),
        ([odd(12.5, 13.0)], 1250),
        ([odd(12.0, 13.0)], None),  # a gap of 2.0 is not more than the threshold
        ([fine(15.0, 17.0)], None),
        ([wordless(10.0, 12.0), odd(14.004, 15.0)], 1400),  # the first with words
        ([fine(10.0, 11.0), odd(15.0, 16.0)], None),
    ],
    ids=["none", "odd", "small gap", "fine", "wordless first", "fine first"],
)
def test_silence_before_a_doubtful_first_segment_is_skipped(segments, restart):
    assert skip_leading_silence(segments, seek=1000, threshold=2.0) == restart


@pytest.mark.parametrize(
    ("segments", "kept", "restart", "options"),
    [
        # silence on both sides: transcribe again from the start of the segment
        ([fine(10.0, 12.0), odd(20.0, 21.0), fine(25.0, 27.0)], 1, 2000, {}),
        ([fine(10.0, 12.0), odd(20.0, 21.0)], 1, 2000, {}),  # silence up to the end of the audio
        ([fine(10.0, 12.0), odd(20.0, 21.0)], 2, None, {"size": 1200}),  # the audio ends at 22.0
        ([fine(10.0, 12.0), odd(20.0, 21.0)], 1, 2000, {"size": 1301}),
        # speech is too close before it, or after it
        ([fine(10.0, 18.0), odd(20.0, 21.0), fine(25.0, 27.0)], 3, None, {}),
        ([fine(10.0, 17.99), odd(20.0, 21.0), fine(25.0, 27.0)], 1, 2000, {}),
        ([fine(10.0, 12.0), odd(20.0, 21.0), fine(23.0, 27.0)], 3, None, {}),
        ([fine(10.0, 12.0), odd(20.0, 21.0), wordless(21.0, 23.0), fine(23.5, 27.0)], 1, 2000, {}),
        # another doubtful segment after it counts as silence; everything from the first one is dropped
        ([fine(10.0, 12.0), odd(20.0, 21.0), odd(21.0, 22.0), fine(22.0, 27.0)], 1, 2000, {}),
        # within 2.0 of the start of the window, no silence is needed before it
        ([odd(11.9, 13.0), fine(17.0, 19.0)], 0, 1190, {}),
        ([odd(10.5, 13.0), fine(17.0, 19.0)], 0, 1100, {}),  # but the restart is at least 1 s into it
        ([fine(10.0, 10.9), odd(11.9, 13.0), fine(17.0, 19.0)], 1, 1190, {}),
        ([fine(10.0, 10.9), odd(12.0, 13.0), fine(17.0, 19.0)], 3, None, {}),
        # close to the end of a full window, no silence is needed after it, if more audio follows
        ([fine(10.0, 12.0), odd(37.0, 38.01)], 1, 3700, {"threshold": 20.0, "content": 90000}),
        ([fine(10.0, 12.0), odd(37.0, 38.0)], 2, None, {"threshold": 20.0, "content": 90000}),
        # too little audio follows it: the transcription ends
        ([fine(10.0, 12.0), odd(20.0, 21.0)], 1, 2299, {"content": 2299, "size": 1299 + 3}),
        ([fine(10.0, 12.0), odd(20.0, 21.0)], 1, 2000, {"content": 2300, "size": 1301}),
        # silence lasts up to the next word, wherever its segment starts
        ([fine(10.0, 12.0), odd(20.0, 21.0), {**fine(23.1, 27.0), "start": 22.0}], 1, 2000, {}),
        # the end of the last speech before the window counts
        ([odd(12.0, 13.0), fine(17.0, 19.0)], 0, 1200, {"last_speech_end": 9.9}),
        ([odd(12.0, 13.0), fine(17.0, 19.0)], 2, None, {"last_speech_end": 10.0}),
        ([wordless(10.0, 11.9), odd(12.0, 13.0), fine(17.0, 19.0)], 1, 1200, {"last_speech_end": 9.9}),
        # the start of the audio counts as silence too, but the start of a window does not
        ([fine(0.0, 3.9), odd(4.0, 5.0), fine(9.5, 12.0)], 1, 400, {"seek": 0, "threshold": 4.1}),
        ([fine(0.0, 3.9), odd(4.0, 5.0), fine(9.5, 12.0)], 3, None, {"seek": 0, "threshold": 3.9}),
    ],
)
def test_doubtful_segments_amid_silence_are_dropped_and_the_silence_skipped(segments, kept, restart, options):
    options = {"seek": 1000, "size": 3000, "content": 9000, "threshold": 2.0, "last_speech_end": 9.0, **options}
    before = deepcopy(segments)
    remaining, frame = skip_hallucinations(segments, **options)
    assert (remaining, frame) == (before[:kept], restart)
    assert segments == before
