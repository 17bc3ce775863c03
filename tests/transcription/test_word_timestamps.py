"""Word timestamps: the rules that shorten words, and those that find hallucinations."""

from copy import deepcopy

import pytest

from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.transcription.word_timestamps import (
    add_word_timestamps,
    is_segment_anomaly,
    skip_hallucinations,
    skip_leading_silence,
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
    # The median of 0.1, 0.5, 0.8 and 4.9 is 0.65: the word after the sentence starts 1.3 before its end.
    assert times(done[0]["words"]) == [(20.0, 20.8)]
    assert times(done[2]["words"]) == [pytest.approx((24.5, 25.8)), pytest.approx((25.8, 26.3))]
    assert [(part["start"], part["end"]) for part in done] == [(20.0, 20.8), (21.0, 22.0), (24.5, 26.3)]
    changed = ({key: part[key] for key in ("start", "end", "words")} for part in done)
    assert done == [before | its for before, its in zip(kept, changed, strict=True)]


def test_last_speech_end_is_passed_from_segment_to_segment(tokenizer):
    [a] = tokenizer.encode("a")
    # Speech ends at 1.5, long before the last word; the segment without words ends later.
    segments = [segment(0.0, 3.0, tokens=[a, a, a]), segment(1.5, 4.0), segment(3.0, 9.0, tokens=[a])]
    timings = [timing(" a", at, end, (a,)) for at, end in [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (2.0, 5.0)]]
    *_, silent, last = add_word_timestamps(segments, timings, tokenizer=tokenizer, last_speech_end=0.0)
    assert times(last["words"]) == [(4.0, 5.0)]
    assert (silent["start"], silent["end"], silent["words"]) == (1.5, 4.0, [])


# ------------------------------------------------------------------------------------------ invented words

GOOD, BAD = (0.5, 0.9), (0.5, 0.1)  # duration, probability: anomaly 0 and 1


@pytest.mark.parametrize(
    ("words", "anomalous"),
    [
        ([], False),
        ([(0.5, 0.15)], False),  # probable enough
        ([(0.5, 0.14)], True),
        ([GOOD] * 8 + [BAD] * 8, False),  # the first eight tell
        ([GOOD] * 5 + [BAD] * 3, True),
        ([(0.067, 0.9)], True),  # 0.99: as good as 1
        ([(0.068, 0.9)], False),
        ([(2.985, 0.9)], False),  # 0.985 too long
        ([(2.991, 0.9)], True),
        ([(4.5, 0.9), (0.098, 0.9), *[GOOD] * 6], True),  # 2.5 too long, and 0.525 too short
        ([(4.5, 0.9), (0.133, 0.9), *[GOOD] * 6], False),
    ],
    ids=str,
)
def test_is_segment_anomaly(words, anomalous):
    assert is_segment_anomaly(segment(0, 9, [word_of(" a", 0.0, *word) for word in words])) == anomalous


def test_marks_are_not_judged():
    odd_marks = [word_of(mark, 0.0, 0.0, 0.0) for mark in (".", "“", "?")]
    assert not is_segment_anomaly(segment(0, 9, [*odd_marks, word_of(" a", 0.0, 0.5)]))
    assert is_segment_anomaly(segment(0, 9, [word_of(" a.", 0.0, 0.0, 0.0), word_of(".", 0.0, 0.5)]))
    assert not is_segment_anomaly(segment(0, 9))  # nothing known


def fine(start, end):
    return segment(start, end, [word_of(" a", start, start + 0.5), word_of(" b", end - 0.5, end)])


def odd(start, end):
    return segment(start, end, [word_of(" a", start, end, 0.01)])


def wordless(start, end):
    return segment(start, end, [])


LEADING = {  # segments of a window from 10 s, and the frame to go on from
    "odd": ([odd(12.5, 13.0)], 1250),
    "after a gap as long as the threshold": ([odd(12.0, 13.0)], None),
    "fine": ([fine(15.0, 17.0)], None),
    "odd after one without words": ([wordless(10.0, 12.0), odd(14.004, 15.0)], 1400),
    "odd after a fine one": ([fine(10.0, 11.0), odd(15.0, 16.0)], None),
}


@pytest.mark.parametrize(("segments", "restart"), LEADING.values(), ids=LEADING)
def test_skip_leading_silence(segments, restart):
    assert skip_leading_silence(segments, seek=1000, threshold=2.0) == restart


SPEECH, DOUBTFUL = fine(10.0, 12.0), odd(20.0, 21.0)
SKIPPED = {  # segments, how many are kept, the frame to go on from, options
    "silence on both sides": ([SPEECH, DOUBTFUL, fine(23.01, 27.0)], 1, 2000, {}),
    "silence up to the end of the audio": ([SPEECH, DOUBTFUL], 1, 2000, {"size": 1301}),
    "speech too close before": ([fine(10.0, 18.0), DOUBTFUL, fine(25.0, 27.0)], 3, None, {}),
    "speech just far enough before": ([fine(10.0, 17.99), DOUBTFUL, fine(25.0, 27.0)], 1, 2000, {}),
    "speech too close after": ([SPEECH, DOUBTFUL, fine(23.0, 27.0)], 3, None, {}),
    "only the next words count": (
        [SPEECH, DOUBTFUL, wordless(21.0, 23.0), {**fine(23.1, 27.0), "start": 22.0}], 1, 2000, {}
    ),
    "another odd one is as good as silence": ([SPEECH, DOUBTFUL, odd(21.0, 22.0), fine(22.0, 27.0)], 1, 2000, {}),
    "within 2.0 of the window's start": ([fine(10.0, 10.9), odd(11.9, 13.0), fine(17.0, 19.0)], 1, 1190, {}),
    "a second further on at least": ([odd(10.5, 13.0), fine(17.0, 19.0)], 0, 1100, {}),
    "not within 2.0 of it": ([fine(10.0, 10.9), odd(12.0, 13.0), fine(17.0, 19.0)], 3, None, {}),
    "within 2.0 of the end of a full window": ([SPEECH, odd(37.0, 38.01)], 1, 3700, {"threshold": 20.0}),
    "nothing much after it: done": ([SPEECH, DOUBTFUL], 1, 2299, {"content": 2299, "size": 1302}),
    "just enough after it": ([SPEECH, DOUBTFUL], 1, 2000, {"content": 2300, "size": 1301}),
    "the end of speech before the window": ([odd(12.0, 13.0), fine(17.0, 19.0)], 0, 1200, {"last_speech_end": 9.9}),
    "the start of the audio": ([fine(0, 3.9), odd(4, 5), fine(9.5, 12.0)], 1, 400, {"seek": 0, "threshold": 4.1}),
}  # fmt: skip


@pytest.mark.parametrize(("segments", "kept", "restart", "options"), SKIPPED.values(), ids=SKIPPED)
def test_skip_hallucinations(segments, kept, restart, options):
    options = {"seek": 1000, "size": 3000, "content": 90000, "threshold": 2.0, "last_speech_end": 9.0, **options}
    assert skip_hallucinations(segments, **options) == (segments[:kept], restart)
