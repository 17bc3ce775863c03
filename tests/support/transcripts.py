"""Comparison of two transcripts."""

from typing import Any

import pytest

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
