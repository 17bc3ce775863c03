"""Transcription with word timestamps: output and words are scripted."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwhisper.errors import MinWhisperError
from minwhisper.transcription import sequential as chapter
from minwhisper.transcription.words import WordTiming
from scripted import (
    ENGLISH,
    GAP,
    KEYS,
    MULTILINGUAL,
    ONE,
    ONE_PROMPT,
    REPETITIVE,
    SILENT,
    THREE,
    OutputTokens,
    Scripted,
    any_tokens,
    made_up_tokenizer,
    output,
    places,
    prompt_of,
    run,
    timestamp,
)

# ------------------------------------------------------------------------------------------ words


class Aligned:
    """A fake find_alignment: gives each window the words of a list, (text, start, end[, probability])."""

    def __init__(self, *windows: Sequence[tuple[Any, ...]]) -> None:
        self.windows = iter(windows)
        self.texts: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.frames: list[int] = []

    def __call__(self, tokens: Sequence[int], features: np.ndarray, frames: int, **named: Any) -> list[WordTiming]:
        assert features.shape == (1, 1500, 384)
        tokenizer = named["tokenizer"]
        self.texts.append(tokenizer.decode_with_timestamps(tokens))
        self.frames.append(frames)
        self.calls.append(named)
        return [
            WordTiming(text, tuple(tokenizer.encode(text)), begin, end, *(probability or [0.9]))
            for text, begin, end, *probability in next(self.windows)
        ]


def run_with_words(model: Scripted, frames: int, aligned: Aligned, **options: Any) -> dict[str, Any]:
    with patch.object(chapter, "find_alignment", aligned):
        return run(model, frames, word_timestamps=True, **options)


OPEN = output(0.0, " one", 5.0, 5.0, " two", 9.0, 9.0, " thr")
REST = [*[SILENT] * 4]
FOLLOWING = {  # output, its words, hallucination_silence_threshold, start of the next window
    "behind the last word of an open one": (OPEN, [(" one", 1.0, 2.0), (" two", 6.0, 8.2)], None, 820),
    "behind a closed one": (
        output(0.0, " one", 5.0, 5.0, " two", 9.0), [(" one", 1.0, 2.0), (" two", 6.0, 8.2)], None, 3000
    ),
    "where the last segment ends if there are no words": (output(0.0, " ", 5.0, 5.0, " ", 6.0, 6.0), [], None, 600),
    "where it would if the last word ends at once": (OPEN, [(" one", 0.0, 0.0), (" two", 0.0, 0.0)], None, 900),
    "behind the window with little left": (
        output(0.0, " one", 15.0, 15.0, " two", 29.0, 29.0, " t"),
        [(" one", 13.0, 14.0), (" two", 27.0, 28.0)], 2.0, 3000
    ),
    "behind the last word with just more left": (
        output(0.0, " one", 15.0, 15.0, " two", 29.0, 29.0, " t"),
        [(" one", 13.0, 14.0), (" two", 27.0, 27.98)], 2.0, 2798
    ),
}  # fmt: skip


@pytest.mark.parametrize(("speech", "timings", "threshold", "following"), FOLLOWING.values(), ids=FOLLOWING)
def test_the_next_window_starts_after_the_last_word(speech, timings, threshold, following):
    model = Scripted([speech, *REST])
    run_with_words(model, 6000, Aligned(timings), hallucination_silence_threshold=threshold)
    assert model.seeks[:2] == [0, following]


def test_the_rest_of_a_short_window_counts_as_if_it_were_full():
    # As in openai-whisper, 3 s of 30 follow the word, although there are only 28.5 s of audio.
    model = Scripted([output(0.0, " one", 28.0, 28.0), SILENT])
    run_with_words(model, 2850, Aligned([(" one", 25.5, 27.0)]), hallucination_silence_threshold=2.0)
    assert model.windows == [(0, 2850), (2700, 150)]


def test_only_text_tokens_are_aligned():
    t, aligned = made_up_tokenizer(ENGLISH), Aligned([])
    scripted = OutputTokens((timestamp(t, 0), t.sot_lm, *t.encode(" one"), t.no_speech, timestamp(t, 1)))
    run_with_words(Scripted([scripted]), 300, aligned)
    assert aligned.texts == [" one"]


def test_segments_have_words_and_their_times():
    aligned = Aligned([(" one", 1.0, 2.0), (" two", 6.0, 6.5), (",", 6.5, 6.5)], [(" three", 0.25, 1.0)])
    model = Scripted(
        [output(0.0, " one", 5.0, 5.0, " two,", 9.0), output(0.0, " three", 1.0)], made_up_tokenizer(MULTILINGUAL)
    )
    result = run_with_words(model, 3200, aligned, language="german", task="transcribe")
    assert places(result) == [(0, 1, 2, " one"), (0, 6, 6.5, " two,"), (3000, 30.25, 31, " three")]
    assert all(list(segment) == [*KEYS, "words"] for segment in result["segments"])
    assert [[(w["word"], w["start"], w["end"]) for w in s["words"]] for s in result["segments"]] == [
        [(" one", 1.0, 2.0)],
        [(" two,", 6.0, 6.5)],
        [(" three", 30.25, 31.0)],
    ]
    assert aligned.texts == [" one two,", " three"]
    assert aligned.frames == [3000, 200]
    t = model.tokenizer
    for call in aligned.calls:
        assert call == {
            "prompt": t.sot_sequence("de", "transcribe", timestamps=True),
            "heads": ((0, 0),),
            "weights": model.engine.decoder_weights,
            "config": model.config,
            "tokenizer": t,
            "language": "de",
        }


@pytest.mark.parametrize(
    ("prepend", "append", "words"), [("", ",", [" one,", " (", " two"]), ("(", "", [" one", ",", " ( two"])]
)
def test_punctuation_options_choose_the_marks(prepend, append, words):
    aligned = Aligned([(" one", 1.0, 2.0), (",", 2.0, 2.1), (" (", 2.1, 2.2), (" two", 2.2, 3.0)])
    model = Scripted([output(0.0, " one, ( two", 5.0)])
    options = {"prepend_punctuations": prepend, "append_punctuations": append}
    (segment,) = run_with_words(model, 600, aligned, **options)["segments"]
    assert [word["word"] for word in segment["words"]] == words


def test_last_speech_end_is_passed_to_the_next_window():
    passed: list[float] = []
    add_word_timestamps = chapter.add_word_timestamps

    def record(*given, last_speech_end, **named):
        passed.append(last_speech_end)
        return add_word_timestamps(*given, last_speech_end=last_speech_end, **named)

    empty = output(0.0, " ", 5.0)  # without words, the end of the segment counts
    model = Scripted([OPEN, SILENT, empty, output(0.0, " two", 1.0)])
    aligned = Aligned([(" one", 1.0, 2.0), (" two", 6.0, 8.2)], [], [(" two", 0.0, 1.0)])
    with patch.object(chapter, "add_word_timestamps", record):
        run_with_words(model, 9820, aligned)
    assert model.seeks == [0, 820, 3820, 6820]
    assert passed == pytest.approx([0.0, 8.2, 43.2])


ODD = 0.1  # a probability at which a single word counts as a hallucination


def test_silence_before_doubtful_words_is_skipped_and_the_window_repeated():
    model = Scripted(
        [ONE, *[output(0.0, " what", 9.0, **REPETITIVE)] * 3, output(0.0, " what", 9.0), THREE],
        made_up_tokenizer(ENGLISH),
    )
    aligned = Aligned([(" one", 1.0, 2.0), (" two", 6.0, 8.2)], [(" what", 5.0, 6.0, ODD)], [(" three", 0.0, 1.0)])
    result = run_with_words(model, 6000, aligned, hallucination_silence_threshold=2.0)
    assert model.windows == [(0, 3000), (3000, 3000), (3500, 2500)]
    assert [s["text"] for s in result["segments"]] == [" one", " two", " three"]
    # The window was skipped, so the prompt is kept, although the window was sampled at temperature 0.6.
    assert model.calls[4].temperature == 0.6
    assert model.prompts[-1] == ONE_PROMPT


SAID = output(0.0, " one", 5.0, 12.0, " what", 14.0, 20.0, " two", 29.0)
AMID_SILENCE = [(" one", 1.0, 2.0), (" what", 12.0, 13.0, ODD), (" two", 20.0, 21.0)]
NEAR_THE_END = output(0.0, " one", 5.0, 27.0, " what", 29.0), [(" one", 1.0, 2.0), (" what", 27.2, 28.2, ODD)]
DOUBTFUL = {  # frames, options, (output, words) of each window, first frames of the windows, texts of the segments
    "amid silence they are dropped and transcribed again": (
        4200, {}, [(SAID, AMID_SILENCE), (output(0.0, " three", 1.0), [(" three", 0.0, 1.0)])],
        [0, 1200], [" one", " three"],
    ),
    "soon after the previous window they are kept": (
        6000, {"hallucination_silence_threshold": 4.0},
        [
            (output(0.0, " one", 29.0), [(" one", 28.5, 29.5)]),
            (output(3.0, " what", 4.0, 9.0, " two", 29.0), [(" what", 3.0, 4.0, ODD), (" two", 9.0, 10.0)]),
        ],
        [0, 3000], [" one", " what", " two"],
    ),
    "near the end they end the transcription": (2950, {}, [NEAR_THE_END], [0], [" one"]),
    "near the end of a clip they do not": (
        9000, {"clip_timestamps": [0, 29.5]}, [NEAR_THE_END, (SILENT, [])], [0, 2720], [" one"]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("frames", "options", "windows", "seeks", "texts"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_doubtful_words_are_dropped_only_amid_silence(frames, options, windows, seeks, texts):
    model = Scripted([script for script, _ in windows])
    options = {"hallucination_silence_threshold": 2.0, **options}
    result = run_with_words(model, frames, Aligned(*(words for _, words in windows)), **options)
    assert model.seeks == seeks
    assert [s["text"] for s in result["segments"]] == texts


@pytest.mark.parametrize(("temperature", "prompt"), [(0.0, "<|0.00|> one<|5.00|>"), (0.8, "")])
def test_only_segments_that_are_kept_become_a_prompt(temperature, prompt):
    model = Scripted([SAID, SILENT])
    options = {"hallucination_silence_threshold": 2.0, "temperature": temperature}
    run_with_words(model, 3000, Aligned(AMID_SILENCE), **options)
    assert model.prompts == ["", prompt]


def test_a_window_advances_even_if_its_words_end_at_once():
    def at_once(segments, *_given, **_named):
        word = {"word": " one", "start": 0.0, "end": segments[0]["seek"] / 100 + 0.004, "probability": 0.9}
        return [segment | {"words": [word]} for segment in segments]

    model = Scripted(lambda *_: output(" one"))
    with patch.object(chapter, "add_word_timestamps", at_once):
        run_with_words(model, 3, Aligned([], [], []))
    assert model.windows == [(0, 3), (1, 2), (2, 1)]


def test_progress_does_not_go_beyond_a_clip():
    reports: list[tuple[float, float]] = []
    model = Scripted([output(0.0, " one", 5.0, 27.0, " what", 29.0), output(" two")])
    aligned = Aligned([(" one", 1.0, 2.0), (" what", 27.2, 28.2, ODD)], [(" two", 0.0, 0.4)])
    # The audio ends soon after the doubtful words, so the rest of this clip is skipped, but not the second clip.
    options = {"clip_timestamps": [0, 29.4, 29.5, 29.9], "progress": lambda *report: reports.append(report)}
    run_with_words(model, 3000, aligned, hallucination_silence_threshold=2.0, **options)
    assert model.windows == [(0, 2940), (2950, 40)]
    assert reports == [(pytest.approx(29.4), pytest.approx(29.8)), (pytest.approx(29.8), pytest.approx(29.8))]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), frames=st.integers(1, 400) | st.integers(2990, 3400))
def test_every_window_advances_with_arbitrary_words(data, frames):
    threshold = data.draw(st.sampled_from([None, 0.0, 0.5, 2.0]))

    def align(tokens, _features, size, **_named):
        if not tokens:
            return []
        begin = data.draw(st.integers(0, size // 2)) / 50
        end = data.draw(st.integers(round(begin * 50), size // 2)) / 50
        return [WordTiming(" word", tuple(tokens), begin, end, data.draw(st.sampled_from([0.05, 0.9])))]

    model = Scripted(lambda *_: data.draw(any_tokens()))
    with patch.object(chapter, "find_alignment", align):
        run(model, frames, word_timestamps=True, hallucination_silence_threshold=threshold, temperature=0.0)
    assert len(model.calls) <= frames
    assert all(before < after for before, after in pairwise(model.seeks))
    assert all(size == min(3000, frames - seek) for seek, size in model.windows)


def test_missing_alignment_heads_are_rejected_before_any_work():
    model = Scripted([], alignment_heads=())
    with pytest.raises(MinWhisperError, match="scripted"):
        model.stream("/no/such/file", word_timestamps=True)


def test_word_timestamps_of_a_translation_warn(recwarn):
    model = Scripted([SILENT] * 3, made_up_tokenizer(MULTILINGUAL))
    run_with_words(model, 300, Aligned(), language="fr")
    run(model, 300, task="translate", language="fr")
    assert not recwarn
    run_with_words(model, 300, Aligned(), task="translate", language="fr")
    assert [str(one.message)[:37] for one in recwarn] == ["word_timestamps: the times of words m"]


def test_a_warning_names_the_callers_line():
    model = Scripted([SILENT])
    with pytest.warns(UserWarning, match="initial_prompt") as caught:
        model.stream(GAP, initial_prompt=prompt_of(300))
    assert caught[0].filename == __file__
