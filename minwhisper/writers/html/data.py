"""The data of the page: a transcript in the compact form that the page's program reads.

Times are whole milliseconds, and probabilities are thousandths, so that an hour of speech stays small.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from ...transcription.record import AttemptRecord, StepRecord, WindowRecord, attention_values
from ...transcription.segments import Segment, Transcript

PARAGRAPH_PAUSE = 1.5  # seconds between two segments at which a new paragraph begins
PARAGRAPH_LENGTH = 700  # characters after which a paragraph ends with its sentence; at three times as many, anyway
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_SPECIAL = re.compile(r"<\|.*\|>")
_SENTENCE_END = re.compile(r"[.!?。！？…]['\"”»)]*\s*$")


def page_data(transcript: Transcript) -> dict[str, Any]:
    """Return everything that the page shows of a transcript, for JSON."""
    windows: list[WindowRecord] = list(transcript.get("windows", ()))
    numbers = {window["seek"]: number for number, window in enumerate(windows)}
    words: list[list[Any]] = []
    segments: list[list[Any]] = []
    for segment in transcript["segments"]:
        if not segment["text"].strip():
            continue
        first = len(words)
        words += _words_of(segment)
        segments.append(
            [
                _milliseconds(segment["start"]),
                _milliseconds(segment["end"]),
                first,
                len(words),
                numbers.get(segment["seek"], -1),
                [
                    round(segment[key], 4)
                    for key in ("temperature", "avg_logprob", "compression_ratio", "no_speech_prob")
                ],
            ]
        )
    found: dict[str, Any] = {
        "language": transcript["language"],
        "words": words,
        "segments": segments,
        "paragraphs": _paragraphs(segments, words),
        "timed": any("words" in segment for segment in transcript["segments"]),
    }
    if "language_probs" in transcript:
        likely = sorted(transcript["language_probs"].items(), key=lambda pair: -pair[1])[:5]
        found["languages"] = [[code, _thousandths(probability)] for code, probability in likely]
    if windows:
        found["windows"] = [_window(window) for window in windows]
        found["steps"] = _steps_of_words(windows, segments, words)
    return found


def _words_of(segment: Segment) -> Iterator[list[Any]]:
    """Yield the words of a segment: text, start, end, probability (-1: unknown).

    Without word timestamps the time of the segment is divided by the number of characters.
    """
    if segment.get("words"):
        for word in segment["words"]:
            if word["word"].strip():
                start, end = _milliseconds(word["start"]), _milliseconds(word["end"])
                yield [word["word"], start, max(start, end), _thousandths(word["probability"])]
        return
    pieces = re.findall(r"\s*\S+", segment["text"])
    total, done = max(1, len(segment["text"])), 0
    duration = segment["end"] - segment["start"]
    for piece in pieces:
        begin = segment["start"] + duration * done / total
        done += len(piece)
        yield [piece, _milliseconds(begin), _milliseconds(segment["start"] + duration * done / total), -1]


def _paragraphs(segments: Sequence[list[Any]], words: Sequence[list[Any]]) -> list[int]:
    """Return the first segment of each paragraph."""
    starts: list[int] = []
    length = 0
    for number, segment in enumerate(segments):
        text = "".join(word[0] for word in words[segment[2] : segment[3]])
        before = segments[number - 1] if number else None
        pause = before is None or segment[0] - before[1] >= 1000 * PARAGRAPH_PAUSE
        complete = before is not None and _SENTENCE_END.search(words[before[3] - 1][0])
        if pause or length > (PARAGRAPH_LENGTH if complete else 3 * PARAGRAPH_LENGTH):
            starts.append(number)
            length = 0
        length += len(text)
    return starts


def _window(window: WindowRecord) -> list[Any]:
    """Return a window: start, duration, whether it was dropped, and its attempts."""
    return [10 * window["seek"], 10 * window["size"], int(window["silence"]), list(map(_attempt, window["attempts"]))]


def _attempt(attempt: AttemptRecord) -> list[Any]:
    numbers = [round(attempt[key], 4) for key in ("temperature", "avg_logprob", "compression_ratio", "no_speech_prob")]
    lost = [[one["text"], round(one["avg_logprob"], 4)] for one in attempt["candidates"]]
    return [numbers, attempt["text"], lost if len(lost) > 1 else []]


def _steps_of_words(
    windows: Sequence[WindowRecord], segments: Sequence[list[Any]], words: Sequence[list[Any]]
) -> list[list[Any]]:
    """Return the steps of each word: token, probability, alternatives, and the attention near it.

    A word is matched with the tokens of its window by its bytes, since a token can be part of a character.
    """
    steps: list[list[Any]] = [[] for _ in words]
    for number, group in groupby(segments, key=lambda segment: segment[4]):
        if number < 0:
            continue
        window = windows[number]
        attention = iter(window.get("attention", ()))
        tokens = [step for step in window["attempts"][-1]["steps"] if not _SPECIAL.fullmatch(step["text"])]
        seen: list[tuple[StepRecord, Any, int]] = []  # with the number of bytes up to the end of the token
        length = 0
        for step in tokens:
            length += len(token_bytes(step["text"]))
            seen.append((step, next(attention, None), length))
        end, at = 0, 0
        for segment in group:
            for word in range(segment[2], segment[3]):
                end += len(words[word][0].encode())
                while at < len(seen) and seen[at][2] <= end:
                    steps[word].append(_step(*seen[at][:2]))
                    at += 1
    return steps


def _step(step: StepRecord, attention: Any) -> list[Any]:
    alternatives = [[other["text"], _thousandths(other["probability"])] for other in step["alternatives"]]
    found: list[Any] = [step["text"], _thousandths(step["probability"]), alternatives]
    if attention is not None:
        values = attention_values(attention)[::2] >> 4  # every 40 ms, in sixteen shades
        found += [attention["start"] * 20, "".join(f"{value:x}" for value in values)]
    return found


def token_bytes(name: str) -> bytes:
    r"""Return the bytes of a token from the name that shows them: bytes that are not a character are escaped.

    >>> token_bytes(" na"), token_bytes("\\xe5\\x9b")
    (b' na', b'\xe5\x9b')
    """
    pieces = _ESCAPED.split(name)
    return b"".join(bytes([int(piece, 16)]) if at % 2 else piece.encode() for at, piece in enumerate(pieces))


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _thousandths(probability: float) -> int:
    return round(1000 * probability)
