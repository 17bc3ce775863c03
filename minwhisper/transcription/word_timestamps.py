"""Chapter 9, words in segments: times that make sense of the whole, and what to do with words that nobody said.

Alignment gives each word the stretch of sound up to the next word, pauses included. So a word beside a pause comes
out far too long, and this file shortens it: a sentence's last word, the first after a pause, the first and last of a
segment. Then it gives every segment its words. The rules are openai-whisper's.

They also tell invented words: where there is no speech, Whisper may invent some, and those are improbable, or far
too short, or far too long. If such a segment has silence around it, it is better cut out.

Walkthrough: section 12.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np

from ..audio.load import FRAMES_PER_SECOND, N_FRAMES
from ..tokenizer.tokenizer import Tokenizer
from .options import APPEND_PUNCTUATION, PREPEND_PUNCTUATION
from .segments import Segment, Word
from .words import WordTiming, merge_punctuations

SENTENCE_ENDS = ".。!！?？"
LONGEST_USUAL = 0.7  # seconds; a median duration above it is no word's usual duration
TOLERANCE = 0.5  # seconds by which a segment's own time, if it is the tighter one, has to differ to be preferred


# --- From words of a window to words of its segments --------------------------------------------------------------


def add_word_timestamps(
    segments: Sequence[Segment],
    timings: Sequence[WordTiming],
    *,
    tokenizer: Tokenizer,
    last_speech_end: float,
    prepend: str = PREPEND_PUNCTUATION,
    append: str = APPEND_PUNCTUATION,
) -> list[Segment]:
    """The segments of a window with their words, and with start and end moved to where the words are.

    Args:
        segments: all those of one window, in order.
        timings: of all their text in one, as :func:`find_alignment` gives them.
        tokenizer: tells which of a segment's tokens are text.
        last_speech_end: where the last word before this window ended, in seconds; 0.0 if there was none.
        prepend: marks that belong to the word after them.
        append: marks that belong to the word before them.

    Returns new segments; nothing is changed in place. A segment without text has no words and keeps its times. Words
    have times from the start of the sound, in seconds, rounded to 0.01 except where they were shortened. The
    outcome is that of openai-whisper's ``add_word_timestamps``.
    """
    if not segments:
        return []
    usual = median_duration(timings)
    whole_words = merge_punctuations(shorten_at_sentence_ends(timings, 2 * usual), prepend, append)
    token_counts = [sum(token < tokenizer.eot for token in segment["tokens"]) for segment in segments]
    offset = segments[0]["seek"] / FRAMES_PER_SECOND
    finished: list[Segment] = []
    for segment, words in zip(segments, assign_words(whole_words, token_counts, offset), strict=True):
        words = shorten_after_pause(words, last_speech_end, usual)
        segment = reconcile_times(segment, words, usual)
        if words:
            last_speech_end = segment["end"]
        finished.append(segment)
    return finished


def median_duration(timings: Iterable[WordTiming]) -> float:
    """The median duration of the words, in seconds, at most 0.7; 0.0 if none has any. Twice that counts as long."""
    durations = [timing.end - timing.start for timing in timings if timing.end != timing.start]
    return min(LONGEST_USUAL, float(np.median(durations))) if durations else 0.0


def shorten_at_sentence_ends(timings: Sequence[WordTiming], longest: float) -> list[WordTiming]:
    """Take the pause between two sentences out of the words.

    A closing mark that is longer than ``longest`` seconds ends earlier, and a word that follows one starts later. The
    marks must still be words of their own; the very first word is left alone.
    """
    shortened = list(timings[:1])
    for before, timing in pairwise(timings):
        if timing.end - timing.start > longest:
            if timing.word in SENTENCE_ENDS:
                timing = replace(timing, end=timing.start + longest)
            elif before.word in SENTENCE_ENDS:
                timing = replace(timing, start=timing.end - longest)
        shortened.append(timing)
    return shortened


def assign_words(timings: Sequence[WordTiming], token_counts: Sequence[int], offset: float) -> list[list[Word]]:
    """Each segment's words, given how many tokens of text each has. Times become those of the sound, ``offset`` on.

    A word that reaches into the next segment, such as a mark merged into it, is the earlier segment's.
    """
    remaining = iter(timings)
    shared: list[list[Word]] = []
    for count in token_counts:
        words: list[Word] = []
        while count > 0 and (timing := next(remaining, None)) is not None:
            count -= len(timing.tokens)
            words.append(
                {
                    "word": timing.word,
                    "start": round(offset + timing.start, 2),
                    "end": round(offset + timing.end, 2),
                    "probability": timing.probability,
                }
            )
        shared.append(words)
    return shared


def shorten_after_pause(words: Sequence[Word], last_speech_end: float, usual: float) -> list[Word]:
    """Take a pause before a segment out of its first words.

    If the first word ends long after speech did, and it is too long, or it and the second are, then it starts later;
    and if the second is too long in itself, the boundary between the two moves as well.
    """
    longest = 2 * usual
    if not words or words[0]["end"] - last_speech_end <= 4 * usual:
        return list(words)
    first, *others = words
    second = others[0] if others else None
    pair_is_long = second is not None and second["end"] - first["start"] > 2 * longest
    if first["end"] - first["start"] <= longest and not pair_is_long:
        return list(words)
    boundary = first["end"]
    if second is not None and second["end"] - second["start"] > longest:
        boundary = max(second["end"] / 2, second["end"] - longest)
        others[0] = {**second, "start": boundary}
    return [{**first, "start": max(0.0, boundary - longest), "end": boundary}, *others]


def reconcile_times(segment: Segment, words: Sequence[Word], usual: float) -> Segment:
    """The segment with these words, where the two agree about start and end.

    The words are the more precise, so the segment takes their times: unless its own, which the model said as
    timestamps, is inside the first or last word and cuts off more than half a second; then the word is too long.
    """
    if not words:
        return {**segment, "words": []}
    words = [cast(Word, {**word}) for word in words]
    start, end = segment["start"], segment["end"]

    first = words[0]
    if start < first["end"] and start - TOLERANCE > first["start"]:
        first["start"] = max(0.0, min(first["end"] - usual, start))
    else:
        start = first["start"]

    last = words[-1]
    if end > last["start"] and end + TOLERANCE < last["end"]:
        last["end"] = max(last["start"] + usual, end)
    else:
        end = last["end"]

    return {**segment, "start": start, "end": end, "words": words}


def last_word_end(segments: Sequence[Segment]) -> float | None:
    """Where the last word of all ends, in seconds; without words, where the last segment does; None for neither."""
    for segment in reversed(segments):
        if words := segment.get("words"):
            return words[-1]["end"]
    return segments[-1]["end"] if segments else None


# --- Words that nobody said ---------------------------------------------------------------------------------------

IMPROBABLE = 0.15
SHORT, LONG = 0.133, 2.0  # seconds
SHORTNESS_WEIGHT = 15  # a word of no duration weighs two improbable ones
FIRST_WORDS = 8  # of a segment; those tell
SUSPICIOUS = 3.0  # anomaly of all these together, unless every one of fewer words has its own
SETTLING = 2.0  # seconds from a window's edge that count as silence


def word_anomaly_score(word: Word) -> float:
    """How odd a word is, from 0 for nothing odd: 1 if improbable, up to 2 for very short, a second's worth for long."""
    duration = word["end"] - word["start"]
    anomaly = 1.0 if word["probability"] < IMPROBABLE else 0.0
    if duration < SHORT:
        anomaly += (SHORT - duration) * SHORTNESS_WEIGHT
    if duration > LONG:
        anomaly += duration - LONG
    return anomaly


def is_segment_anomaly(segment: Segment) -> bool:
    """Whether a segment's first words, marks left out, are so odd that it is likely invented. Without words, not."""
    words = segment.get("words")
    if not words:
        return False
    told = [word for word in words if word["word"] not in PREPEND_PUNCTUATION + APPEND_PUNCTUATION][:FIRST_WORDS]
    anomaly = sum(map(word_anomaly_score, told))
    return anomaly >= SUSPICIOUS or anomaly + 0.01 >= len(told)


def skip_leading_silence(segments: Sequence[Segment], *, seek: int, threshold: float) -> int | None:
    """The frame to listen from again if a window starts with silence and then something that may be invented.

    That is if the first segment with words is anomalous and starts more than ``threshold`` seconds into the window,
    which starts at frame ``seek``. None if not so.
    """
    first = next((segment for segment in segments if segment.get("words")), None)
    if first is None or not is_segment_anomaly(first):
        return None
    gap = first["start"] - seek / FRAMES_PER_SECOND
    return seek + round(gap * FRAMES_PER_SECOND) if gap > threshold else None


def skip_hallucinations(
    segments: Sequence[Segment], *, seek: int, size: int, content: int, threshold: float, last_speech_end: float
) -> tuple[list[Segment], int | None]:
    """Drop what was likely invented, and say where to go on from.

    Args:
        segments: of one window, with words.
        seek: the frame, of 0.01 s, that the window starts at.
        size: how many frames of sound are in the window, 3,000 if it is full.
        content: how many frames there are in all.
        threshold: seconds from which on a silence is long.
        last_speech_end: where the last word before this window ended, in seconds; 0.0 if there was none.

    Returns the segments to keep, and the frame at which the next window should start, None to leave it where it would
    be. An anomalous segment with silence, a window's edge or another such segment on both sides is dropped with all
    that follow, and the sound is heard again from there, or, if nothing much comes after it, no more. It comes after
    :func:`skip_leading_silence`; the two are openai-whisper's ``hallucination_silence_threshold``.
    """
    window_start = seek / FRAMES_PER_SECOND
    window_end = (seek + N_FRAMES) / FRAMES_PER_SECOND  # of a full one, however much sound there is in it
    sound_end = window_start + size / FRAMES_PER_SECOND
    speech_end = last_speech_end
    for index, segment in enumerate(segments):
        if not segment.get("words"):
            continue
        if is_segment_anomaly(segment):
            start, end = segment["start"], segment["end"]
            following = next((later for later in segments[index + 1 :] if later.get("words")), None)
            next_start = following["words"][0]["start"] if following else sound_end
            silence_before = start - speech_end > threshold or start < threshold or start - window_start < SETTLING
            silence_after = (
                next_start - end > threshold
                or (following is not None and is_segment_anomaly(following))
                or window_end - end < SETTLING
            )
            if silence_before and silence_after:
                if content / FRAMES_PER_SECOND - end < threshold:
                    return list(segments[:index]), content
                return list(segments[:index]), round(max(window_start + 1, start) * FRAMES_PER_SECOND)
        speech_end = segment["end"]
    return list(segments), None
