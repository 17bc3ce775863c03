"""Chapter 9, word timestamps: the words of each segment, and the removal of hallucinated segments.

Alignment makes each word end where the next begins, so a word next to a pause is far too long. This file shortens such
words: the last of a sentence, the first after a pause, the first and last of a segment. Then it assigns the words to
their segments.

If there is no speech, Whisper may hallucinate words that are improbable, far too short or far too long. A segment of
such words with silence around it is removed. All of it follows openai-whisper.

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
MAX_MEDIAN_DURATION = 0.7  # seconds; the median duration of words is capped here
MIN_DIFFERENCE = 0.5  # seconds by which a segment must be tighter than its words for its own time to be preferred


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
    """Return the segments of a window with their words, and with start and end adapted to the words.

    Args:
        segments: all segments of one window, in order.
        timings: the words of all their text, as ``find_alignment`` returns them.
        tokenizer: distinguishes text from special tokens.
        last_speech_end: the end of the last word before this window, in seconds; 0.0 if there was none.
        prepend: marks that are merged into the word after them.
        append: marks that are merged into the word before them.

    Returns new segments; nothing is changed in place. A segment without text has no words and keeps its times. Words
    have times from the start of the audio, in seconds, rounded to 0.01 unless they were shortened. The result is that
    of openai-whisper's ``add_word_timestamps``.
    """
    if not segments:
        return []
    median = median_duration(timings)
    whole_words = merge_punctuations(shorten_at_sentence_ends(timings, 2 * median), prepend, append)
    token_counts = [sum(token < tokenizer.eot for token in segment["tokens"]) for segment in segments]
    offset = segments[0]["seek"] / FRAMES_PER_SECOND
    updated: list[Segment] = []
    for segment, words in zip(segments, assign_words(whole_words, token_counts, offset), strict=True):
        words = shorten_after_pause(words, last_speech_end, median)
        segment = reconcile_times(segment, words, median)
        if words:
            last_speech_end = segment["end"]
        updated.append(segment)
    return updated


def median_duration(timings: Iterable[WordTiming]) -> float:
    """Return the median duration of words in seconds, at most 0.7; 0.0 without words. Twice that counts as long."""
    durations = [timing.end - timing.start for timing in timings if timing.end != timing.start]
    return min(MAX_MEDIAN_DURATION, float(np.median(durations))) if durations else 0.0


def shorten_at_sentence_ends(timings: Sequence[WordTiming], max_duration: float) -> list[WordTiming]:
    """Remove pauses between sentences from the words.

    A mark at the end of a sentence that lasts longer than ``max_duration`` seconds ends earlier, and a word that long
    after such a mark starts later. Marks must not have been merged yet. The first word is unchanged.
    """
    shortened = list(timings[:1])
    for before, timing in pairwise(timings):
        if timing.end - timing.start > max_duration:
            if timing.word in SENTENCE_ENDS:
                timing = replace(timing, end=timing.start + max_duration)
            elif before.word in SENTENCE_ENDS:
                timing = replace(timing, start=timing.end - max_duration)
        shortened.append(timing)
    return shortened


def assign_words(timings: Sequence[WordTiming], token_counts: Sequence[int], offset: float) -> list[list[Word]]:
    """Assign words to segments, given each segment's number of text tokens; add ``offset`` seconds to the times.

    A word that reaches into the next segment, for instance by a merged mark, goes to the earlier one.
    """
    remaining = iter(timings)
    assigned: list[list[Word]] = []
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
        assigned.append(words)
    return assigned


def shorten_after_pause(words: Sequence[Word], last_speech_end: float, median: float) -> list[Word]:
    """Remove a pause before a segment from its first words.

    If the first word ends long after the last speech, and it is too long, alone or with the second, it starts later. If
    the second word is too long itself, the boundary between the two moves as well.
    """
    max_duration = 2 * median
    if not words or words[0]["end"] - last_speech_end <= 4 * median:
        return list(words)
    first, *others = words
    second = others[0] if others else None
    pair_is_long = second is not None and second["end"] - first["start"] > 2 * max_duration
    if first["end"] - first["start"] <= max_duration and not pair_is_long:
        return list(words)
    boundary = first["end"]
    if second is not None and second["end"] - second["start"] > max_duration:
        boundary = max(second["end"] / 2, second["end"] - max_duration)
        others[0] = {**second, "start": boundary}
    return [{**first, "start": max(0.0, boundary - max_duration), "end": boundary}, *others]


def reconcile_times(segment: Segment, words: Sequence[Word], median: float) -> Segment:
    """Return the segment with these words, and make the two agree on start and end.

    Words are more precise, so the segment takes their times. But if the segment's own timestamp lies inside the first
    or last word and cuts off more than half a second, the word is too long, and takes the segment's time.
    """
    if not words:
        return {**segment, "words": []}
    words = [cast(Word, {**word}) for word in words]
    start, end = segment["start"], segment["end"]

    first = words[0]
    if start < first["end"] and start - MIN_DIFFERENCE > first["start"]:
        first["start"] = max(0.0, min(first["end"] - median, start))
    else:
        start = first["start"]

    last = words[-1]
    if end > last["start"] and end + MIN_DIFFERENCE < last["end"]:
        last["end"] = max(last["start"] + median, end)
    else:
        end = last["end"]

    return {**segment, "start": start, "end": end, "words": words}


def last_word_end(segments: Sequence[Segment]) -> float | None:
    """Return the end of the last word, in seconds; without words, the end of the last segment; without any, None."""
    for segment in reversed(segments):
        if words := segment.get("words"):
            return words[-1]["end"]
    return segments[-1]["end"] if segments else None


# --- Hallucinations -----------------------------------------------------------------------------------------------

LOW_PROBABILITY = 0.15
SHORT_DURATION, LONG_DURATION = 0.133, 2.0  # seconds
SHORTNESS_WEIGHT = 15  # a word of no duration counts as two improbable ones
FIRST_WORDS = 8  # words of a segment that are judged
MIN_SEGMENT_ANOMALY = 3.0  # sum over these words; fewer than three words need 1 each
EDGE_SILENCE = 2.0  # seconds at the edges of a window that count as silence


def word_anomaly_score(word: Word) -> float:
    """Return how anomalous a word is: 1 if improbable, plus up to 2 if short, plus the seconds beyond 2 if long."""
    duration = word["end"] - word["start"]
    anomaly = 1.0 if word["probability"] < LOW_PROBABILITY else 0.0
    if duration < SHORT_DURATION:
        anomaly += (SHORT_DURATION - duration) * SHORTNESS_WEIGHT
    if duration > LONG_DURATION:
        anomaly += duration - LONG_DURATION
    return anomaly


def is_segment_anomaly(segment: Segment) -> bool:
    """Return whether a segment is probably a hallucination, judged by its first words, without marks."""
    words = segment.get("words")
    if not words:
        return False
    judged = [word for word in words if word["word"] not in PREPEND_PUNCTUATION + APPEND_PUNCTUATION][:FIRST_WORDS]
    anomaly = sum(map(word_anomaly_score, judged))
    return anomaly >= MIN_SEGMENT_ANOMALY or anomaly + 0.01 >= len(judged)


def skip_leading_silence(segments: Sequence[Segment], *, seek: int, threshold: float) -> int | None:
    """Return the frame to continue from if a window starts with silence and then a probable hallucination.

    That is the case if the first segment with words is anomalous and starts more than ``threshold`` seconds into the
    window, which starts at frame ``seek``. Otherwise None.
    """
    first = next((segment for segment in segments if segment.get("words")), None)
    if first is None or not is_segment_anomaly(first):
        return None
    gap = first["start"] - seek / FRAMES_PER_SECOND
    return seek + round(gap * FRAMES_PER_SECOND) if gap > threshold else None


def skip_hallucinations(
    segments: Sequence[Segment], *, seek: int, size: int, content: int, threshold: float, last_speech_end: float
) -> tuple[list[Segment], int | None]:
    """Drop probable hallucinations, and find the frame to continue from.

    Args:
        segments: of one window, with words.
        seek: the first frame, of 0.01 s, of the window.
        size: number of frames of audio in the window, 3,000 if it is full.
        content: number of frames of the whole audio.
        threshold: seconds above which silence is long.
        last_speech_end: the end of the last word before this window, in seconds; 0.0 if there was none.

    Returns the segments to keep, and the first frame of the next window, or None to leave it unchanged. An anomalous
    segment with silence, a window's edge or another such segment on both sides is dropped with all that follow it, and
    transcription continues from there, or ends if little audio is left. ``skip_leading_silence`` comes first; both
    together are openai-whisper's ``hallucination_silence_threshold``.
    """
    window_start = seek / FRAMES_PER_SECOND
    window_end = (seek + N_FRAMES) / FRAMES_PER_SECOND  # of a full one, even if there is less audio
    audio_end = window_start + size / FRAMES_PER_SECOND
    speech_end = last_speech_end
    for index, segment in enumerate(segments):
        if not segment.get("words"):
            continue
        if is_segment_anomaly(segment):
            start, end = segment["start"], segment["end"]
            following = next((later for later in segments[index + 1 :] if later.get("words")), None)
            next_start = following["words"][0]["start"] if following else audio_end
            silence_before = start - speech_end > threshold or start < threshold or start - window_start < EDGE_SILENCE
            silence_after = (
                next_start - end > threshold
                or (following is not None and is_segment_anomaly(following))
                or window_end - end < EDGE_SILENCE
            )
            if silence_before and silence_after:
                if content / FRAMES_PER_SECOND - end < threshold:
                    return list(segments[:index]), content
                return list(segments[:index]), round(max(window_start + 1, start) * FRAMES_PER_SECOND)
        speech_end = segment["end"]
    return list(segments), None
