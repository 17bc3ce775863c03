"""The data of the page: its words, times and steps are those of the transcript."""

from made_transcripts import segment, transcript, word
from minwhisper.writers.html.data import page_data

ACCENTED = " naïve 国 ok"


def step(text, probability=0.5, token=0):
    return {"token": token, "text": text, "probability": probability, "alternatives": [
        {"token": token, "text": text, "probability": probability}, {"token": 1, "text": " other", "probability": 0.1}
    ]}  # fmt: skip


def test_words_keep_their_text_times_and_probability():
    words = [word(" one", 0.5, 1.25, 0.1234), word(" ", 1.25, 1.3), word(" two.", 1.3, 1.2)]
    found = page_data(transcript(segment(" one two.", 0.5, 2.0, words)))
    assert found["words"] == [[" one", 500, 1250, 123], [" two.", 1300, 1300, 500]]  # times never run backwards
    assert found["segments"] == [[500, 2000, 0, 2, -1, [0.0, -0.25, 1.5, 0.01]]]
    assert found["timed"]


def test_without_words_a_segment_is_divided_by_its_letters():
    found = page_data(transcript(segment(" abcd efgh", 10.0, 20.0)))
    assert found["words"] == [[" abcd", 10000, 15000, -1], [" efgh", 15000, 20000, -1]]
    assert not found["timed"]


def test_a_pause_or_a_long_text_begins_a_paragraph_at_a_sentence_and_empty_segments_are_left_out():
    pause = [segment(" a.", 0, 1), segment(" b.", 1, 2), segment(" c.", 4, 5)]
    assert page_data(transcript(*pause))["paragraphs"] == [0, 2]
    text = " x" * 200
    long = [segment(text + ("." if i % 2 else ""), i, i + 1) for i in range(6)]
    assert page_data(transcript(*long))["paragraphs"] == [0, 2, 4]
    assert page_data(transcript(segment(" ", 0, 1), segment(" a", 1, 2)))["segments"][0][2:4] == [0, 1]
    assert page_data(transcript())["paragraphs"] == []


def recorded(steps, segments, attention=None):
    numbers = {"temperature": 0.0, "avg_logprob": -0.3, "compression_ratio": 1.0, "no_speech_prob": 0.0}
    candidates = [{"text": "x", "tokens": [], "avg_logprob": -0.3}]
    attempt = {**numbers, "text": "x", "tokens": [], "steps": steps, "candidates": candidates}
    window = {"seek": 0, "size": 3000, "silence": False, "attempts": [attempt]}
    return transcript(*segments) | {"windows": [window if attention is None else window | {"attention": attention}]}


def test_each_word_gets_its_tokens_even_where_one_is_part_of_a_character():
    tokens = ["<|0.00|>", " na", "ï", "ve", " ", "\\xe5\\x9b", "\\xbd", " ok", "<|2.00|>", "<|endoftext|>"]
    words = [word(" naïve", 0, 0.5), word(" 国", 0.5, 1), word(" ok", 1, 2)]
    found = page_data(recorded([step(text) for text in tokens], [segment(ACCENTED, 0, 2, words)]))
    assert [[one[0] for one in steps] for steps in found["steps"]] == [tokens[1:4], tokens[4:7], [" ok"]]
    assert found["steps"][2][0][1:] == [500, [[" ok", 500], [" other", 100]]]
    assert found["segments"][0][4] == 0


def test_attempts_and_candidates_that_lost_are_kept():
    attempts = [
        {"temperature": t, "avg_logprob": -1.5, "compression_ratio": 3.0, "no_speech_prob": 0.1, "text": text,
         "tokens": [], "steps": [], "candidates": [{"text": text, "tokens": [], "avg_logprob": -1.5}] * count}
        for t, text, count in ((0.0, "first", 1), (0.2, "second", 2))
    ]  # fmt: skip
    windows = [{"seek": 0, "size": 100, "silence": False, "attempts": attempts}]
    made = transcript(segment(" a", 0, 1)) | {"windows": windows}
    ((start, duration, silence, kept),) = page_data(made)["windows"]
    assert (start, duration, silence) == (0, 1000, 0)
    assert kept == [[[0.0, -1.5, 3.0, 0.1], "first", []], [[0.2, -1.5, 3.0, 0.1], "second", [["second", -1.5]] * 2]]
