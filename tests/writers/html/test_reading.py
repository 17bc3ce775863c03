"""A transcript from a file: anything else gets an error that names the file and the place in it."""

import json

import pytest

from minwhisper.errors import OptionError
from minwhisper.writers.html import read_transcript, transcript_page
from minwhisper.writers.html.data import page_data, token_bytes

WORD = {"word": " a", "start": 0.0, "end": 0.5, "probability": 0.9}
SEGMENT = {"id": 0, "start": 0.0, "end": 1.0, "text": " a", "words": [WORD]}


def written(folder, content):
    path = folder / "talk.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_a_transcript_of_this_package_is_read_whole_and_its_record_matches_word_for_word(tmp_path, tiny_en, speech):
    made = tiny_en.transcribe(speech["jfk.flac"], word_timestamps=True, record=True)
    read = read_transcript(written(tmp_path, made))
    assert read["windows"] == made["windows"]
    assert [one["words"] for one in read["segments"]] == [one["words"] for one in made["segments"]]
    assert transcript_page(read, "a") == transcript_page(made, "a")
    found = page_data(made)
    for (text, *_), steps in zip(found["words"], found["steps"], strict=True):
        assert b"".join(token_bytes(one[0]) for one in steps).decode() == text
        assert all(len(one) == 5 and set(one[4]) <= set("0123456789abcdef") for one in steps)


def test_segments_with_only_times_and_text_are_enough(tmp_path):
    read = read_transcript(written(tmp_path, {"segments": [{"start": 0, "end": 1, "text": "a b"}]}))
    assert read["segments"][0]["text"] == "a b"
    assert read["segments"][0]["avg_logprob"] == 0.0
    transcript_page(read, "a")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(1, 1.0), (0, 0.0), (0.5, 0.5), (2, -0.001), (True, -0.001), (10**400, -0.001)],
)
def test_a_probability_may_be_written_as_an_integer(tmp_path, given, expected):
    """JavaScript writes 1.0 as 1, and so the page's own download does; -0.001 means unknown."""
    content = {"segments": [SEGMENT | {"words": [WORD | {"probability": given}], "avg_logprob": -(10**400)}]}
    (segment,) = read_transcript(written(tmp_path, content))["segments"]
    assert segment["words"][0]["probability"] == expected
    assert segment["avg_logprob"] == 0.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected JSON"),
        ("[1]", "expected a transcript"),
        ('{"segments": NaN}', "NaN"),
        ("[" * 100_000, "expected JSON"),
        ({"segments": {}}, "expected a transcript"),
        ({"segments": [1]}, "segment 0: expected an object, got 1"),
        ({"segments": [SEGMENT, {**SEGMENT, "text": None}]}, "segment 1: expected a text as 'text'"),
        ({"segments": [{**SEGMENT, "start": -1}]}, "segment 0: expected seconds as 'start', got -1"),
        ({"segments": [{**SEGMENT, "end": "x"}]}, "expected seconds as 'end'"),
        ({"segments": [{**SEGMENT, "words": [{**WORD, "word": 3}]}]}, "segment 0, word 0: expected a text as 'word'"),
        ({"segments": [{**SEGMENT, "words": ["a"]}]}, "segment 0, word 0: expected an object"),
        ({"segments": [SEGMENT], "windows": [{"seek": 0}]}, "its record is damaged"),
        ({"segments": [SEGMENT], "windows": 7}, "its record is damaged"),
    ],
)
def test_an_invalid_transcript_is_an_error_with_its_place(tmp_path, content, message):
    with pytest.raises(OptionError, match=r"none\.json: cannot be read \(No such file"):
        read_transcript(tmp_path / "none.json")
    path = written(tmp_path, content)
    with pytest.raises(OptionError, match=r"talk\.json: ") as error:
        read_transcript(path)
    assert message in str(error.value)
