"""Checks of transcripts: of one, and of two that should be the same."""

import re
from typing import Any

import pytest

from scripted import KEYS

EQUAL = ("id", "seek", "text", "tokens", "temperature", "compression_ratio")


def check_same(ours: dict[str, Any], theirs: dict[str, Any], *, times: float = 0.0, scores: float = 0.0) -> None:
    """Check that two transcripts are the same, up to these differences of times in seconds and of scores."""

    def check_near(mine: dict[str, Any], other: dict[str, Any], keys: tuple[str, ...], tolerance: float) -> None:
        for key in keys:
            assert mine[key] == pytest.approx(other[key], rel=0, abs=tolerance), (key, mine)

    assert list(ours) == list(theirs)
    assert (ours["text"], ours["language"]) == (theirs["text"], theirs["language"])
    with_words = any("words" in segment for segment in ours["segments"])
    for mine, other in zip(ours["segments"], theirs["segments"], strict=True):
        # Without word timestamps, openai-whisper adds an empty list of words to a segment that it clears.
        assert list(mine) == [key for key in other if with_words or key != "words" or other["words"]]
        for key in EQUAL:
            assert mine[key] == other[key], key
        check_near(mine, other, ("start", "end"), times)
        check_near(mine, other, ("avg_logprob", "no_speech_prob"), scores)
        for word, same in zip(mine.get("words", ()), other.get("words", ()), strict=True):
            assert word["word"] == same["word"]
            check_near(word, same, ("start", "end"), times)
            check_near(word, same, ("probability",), scores)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without marks and digits."""
    return re.findall(r"[a-z]+", text.lower())


def check_transcript(result, seconds: float) -> None:
    """Check that segments are well formed and in order, and that the text is made of theirs."""
    segments = result["segments"]
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    assert result["text"] == "".join(segment["text"] for segment in segments)
    before, window = 0.0, 0
    for segment in segments:
        assert list(segment) == KEYS
        assert segment["temperature"] in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        assert window <= segment["seek"] < seconds * 100
        assert before - 1e-9 <= segment["start"] < segment["end"]
        assert segment["start"] < seconds
        # A segment may end in the padding of a short window, but never after its 30 s.
        assert segment["end"] <= segment["seek"] / 100 + 30 + 1e-9
        assert segment["avg_logprob"] < 0 <= segment["no_speech_prob"] <= 1
        before, window = segment["end"], segment["seek"]
