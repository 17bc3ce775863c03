"""Chapter 10, forced alignment: finding the times of the words of a known text.

The recording is transcribed with the times of words, and the recognised words are matched with those of the text
(``transcription.matching``). This gives each window of the recording the part of the text that was said in it. If all
words of a window are equal, the known ones get the times of the recognised ones. Otherwise the known words replace
those that differ, and the window is aligned again: cross-attention shows when they were said, and the decoder how
probable they are in this audio. Speech that is not in the text is aligned, too, and then left out. Words of the text
for which the recording leaves no time count as not said.

Walkthrough: section 13.
"""

import warnings
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby, pairwise
from typing import Any, NamedTuple

import numpy as np

from ..audio.load import FRAMES_PER_SECOND, N_FRAMES, AudioSource, pad_or_trim
from ..common.backend import Array
from ..decoding.decode import DecodingResult, WindowRequest, compression_ratio
from ..errors import AudioError, OptionError
from .alignment import align_tokens, join_to_words
from .found_words import FoundWord, fill_times, limit_probabilities, log_probability, shorten_first_words
from .known_text import check_text, comparable, known_words, split_sentences
from .matching import Pair, match_words
from .model import SpeechModel
from .options import TranscriptionOptions
from .segments import Segment, Word
from .sequential import SequentialTranscription, TranscriptionJob
from .transcribe import Progress, Transcription
from .windows import Window, check_options
from .word_timestamps import add_word_timestamps
from .words import SPACELESS_LANGUAGES

MAX_CHARACTERS_PER_SECOND = 25  # of fast speech; more than that was not said
MAX_SPACELESS_CHARACTERS_PER_SECOND = 10  # in Chinese, Japanese and others, a character is a syllable or more
WORDS_BEFORE = 3  # recognised words whose time may include that of a missing word: some last too long
MAX_LENGTH_RATIO = 2.0  # above it, recognised words are other speech, not the known words badly recognised


def alignment_options(**options: Any) -> TranscriptionOptions:
    """Return the options of the transcription that an alignment begins with.

    Raises ``OptionError`` for those that an alignment cannot have, and for invalid ones.
    """
    for name, reason in (("word_timestamps", "an alignment always finds the times of words"), ("record", "no effect")):
        if name in options:
            raise OptionError(f"{name}: not an option of an alignment ({reason}); omit it")
    chosen = TranscriptionOptions.named(**options, word_timestamps=True)
    if chosen.decoding_options[0].task != "transcribe":
        raise OptionError("task: a translation was not said, so it has no times; align the text in the spoken language")
    return chosen


@dataclass(frozen=True)
class RecognisedWord:
    """A word of the transcription, its segment and its window."""

    word: Word
    segment: Segment
    key: str  # as in KnownWord


class Item(NamedTuple):
    """A word that a window is aligned with: a known one, or an extra one of the recording."""

    known: int | None  # index of the known word; None for the recognised word itself
    place: int  # index of the recognised word that it is, replaces or is placed next to


class TimestampSeeking(SequentialTranscription):
    """A transcription with word timestamps whose windows begin where the last segment ended, as without them.

    The end of the last word is less reliable: if it is too late, the next words are lost. ``sizes`` collects the number
    of frames of each window by its first frame.
    """

    def __init__(self, *args: Any, sizes: dict[int, int], **named: Any) -> None:
        super().__init__(*args, **named)
        self._sizes = sizes

    def _add_words(self, segments: Sequence[Segment], window: Window, features: Array) -> list[Segment]:
        self._sizes[window.seek] = window.size
        return super()._add_words(segments, window, features)

    def _seek_after_words(self, _segments: Any, _window: Any, next_seek: int, _single_timestamp_ending: bool) -> int:
        return next_seek


class Alignment(Transcription):
    """A running alignment: a transcription whose segments are the sentences of a known text.

    The first one comes when the whole recording has been transcribed.
    """

    def __init__(
        self,
        model: SpeechModel,
        audio: AudioSource,
        text: str,
        options: TranscriptionOptions,
        *,
        progress: Progress | None = None,
        generator: np.random.Generator | None = None,
        batch_size: int = 1,
    ) -> None:
        """Reject bad input, open the audio and detect its language. For the arguments see ``Whisper.align``."""
        self._sizes: dict[int, int] = {}  # number of frames of each window, by its first frame
        check_text(text)
        model.tokenizer.encode(text)  # raises if it cannot encode the text
        check_options(options, model)
        super().__init__(
            model, audio, options, progress=progress, generator=generator, batch_size=batch_size, checked=True
        )
        if not self._mel.content_frames:
            self.close()
            raise AudioError("the audio is empty: expected a recording of the text")
        self._sentences = split_sentences(text, self.language)
        marks = options.prepend_punctuations, options.append_punctuations
        self._known = known_words(self._sentences, model.tokenizer, self.language, *marks)
        spaceless = self.language in SPACELESS_LANGUAGES
        self._rate = MAX_SPACELESS_CHARACTERS_PER_SECOND if spaceless else MAX_CHARACTERS_PER_SECOND
        # The other positions are those of start, language, task, notimestamps and end.
        self._max_tokens = model.config.max_target_positions - 5
        length = sum(map(len, self._sentences))
        if length > self._rate * self.seconds:
            warnings.warn(
                f"text: {length:,} characters cannot be said in {self.seconds:.1f} s; is this the right text?",
                stacklevel=3,
            )

    def run(self) -> TranscriptionJob:
        """Yield requests to decode windows, and then the sentences of the text."""
        segments = yield from _collect(super().run())
        recognised = [
            RecognisedWord(word, segment, comparable(word["word"]))
            for segment in segments
            for word in segment.get("words", ())
        ]
        recognised = [word for word in recognised if word.key]
        items, equal = self._merge(recognised)
        found: dict[int, FoundWord] = {}
        for _, group in groupby(items, key=lambda item: recognised[item.place].segment["seek"]):
            found |= self._find(list(group), recognised, equal)
        found = shorten_first_words(self._known, limit_probabilities(found, equal))
        yield from self._make_segments(found)

    def _sequential(
        self,
        generator: np.random.Generator,
        make: Callable[..., SequentialTranscription] = TimestampSeeking,
    ) -> SequentialTranscription:
        return super()._sequential(generator, partial(make, sizes=self._sizes))

    # ---------------------------------------------------------------------------------- which word is where

    def _merge(self, recognised: Sequence[RecognisedWord]) -> tuple[list[Item], set[int]]:
        """Merge the text with the recognised words into what was probably said; also return the equal known words."""
        spoken = [number for number, word in enumerate(self._known) if word.key]
        sentences = [self._known[number].sentence for number in spoken]
        starts = {0} | {n for n, (before, after) in enumerate(pairwise(sentences), 1) if before != after}
        keys = [self._known[number].key for number in spoken], [word.key for word in recognised]
        pairs = [(k if k is None else spoken[k], r) for k, r in match_words(*keys, starts)]

        def is_equal(pair: Pair) -> bool:
            known, place = pair
            return known is not None and place is not None and self._known[known].key == recognised[place].key

        items: list[Item] = []
        equal: set[int] = set()
        place = 0  # the next recognised word
        for same, group in groupby(pairs, is_equal):
            block = list(group)
            if same:
                items += [Item(known, at) for known, at in block if at is not None]
                equal |= {known for known, _ in block if known is not None}
            else:
                items += self._merge_different(block, recognised, place)
            place += sum(at is not None for _, at in block)
        return items, equal

    def _merge_different(self, block: Sequence[Pair], recognised: Sequence[RecognisedWord], place: int) -> list[Item]:
        """Merge known and recognised words that differ; ``place`` is the index of the first recognised one."""
        known, others = [k for k, _ in block if k is not None], [r for _, r in block if r is not None]
        if known and others:
            lengths = [sum(len(self._known[k].key) for k in known), sum(len(recognised[r].key) for r in others)]
            if max(lengths) <= MAX_LENGTH_RATIO * min(lengths):
                return [Item(k, others[n * len(others) // len(known)]) for n, k in enumerate(known)]
        items: list[Item] = []
        for missing, group in groupby(block, lambda pair: pair[1] is None):
            pairs = list(group)
            if missing:
                items += self._place_missing([k for k, _ in pairs if k is not None], recognised, place)
            else:
                items += [Item(k, r) for k, r in pairs if r is not None]
                place += len(pairs)
        return items

    def _place_missing(self, known: Sequence[int], recognised: Sequence[RecognisedWord], place: int) -> list[Item]:
        """Place known words that were not recognised between ``place`` and the word before; none if there is no time.

        They go into the window of the next word, which begins where the previous window ended. But if more of the
        recording is unexplained at the end of the previous window, they go there.
        """
        before = recognised[place - 1] if place else None
        after = recognised[place] if place < len(recognised) else None
        if before is None and after is None:
            return []
        end = after.word["start"] if after else self.seconds
        length = sum(len(self._known[k].text) for k in known)
        if not self._fits(length, recognised[max(0, place - WORDS_BEFORE) : place], end):
            return []
        if after is not None and before is not None and before.segment["seek"] < after.segment["seek"]:
            window_start = after.segment["seek"] / FRAMES_PER_SECOND
            if window_start - before.word["end"] > after.word["start"] - window_start:
                after = None
        return [Item(k, place if after is not None else place - 1) for k in known]

    def _fits(self, length: int, before: Sequence[RecognisedWord], end: float) -> bool:
        """Return whether ``length`` characters could be said by ``end``, from the start of a word in ``before`` on.

        If that word lasts too long, the starts of the words after it are wrong, so they must fit into the time, too.
        """
        if not before:
            return length <= self._rate * end
        for word in reversed(before):
            length += len(word.word["word"])
            if length <= self._rate * (end - word.word["start"]):
                return True
        return False

    # ---------------------------------------------------------------------------------- when it was said

    def _find(
        self, items: Sequence[Item], recognised: Sequence[RecognisedWord], equal: Set[int]
    ) -> dict[int, FoundWord]:
        """Return the times of the known words of a window."""
        # Equal words as they were recognised: a capital letter or a comma must not make them improbable.
        written = [
            recognised[item.place].word["word"]
            if item.known is None or item.known in equal
            else self._known[item.known].text
            for item in items
        ]
        different = any(item.known not in equal for item in items)
        if different and len(self._model.tokenizer.encode("".join(written))) > self._max_tokens:
            items, different = [item for item in items if item.known in equal], False  # too much text for a window
        if different:
            words = self._align_window(items, written, recognised)
        else:
            words = [recognised[item.place].word for item in items]
        found = {}
        for item, word in zip(items, words, strict=True):
            if item.known is not None:
                there = recognised[item.place]
                probability = (there.word if item.known in equal else word)["probability"]
                found[item.known] = FoundWord(word["start"], word["end"], probability, there.segment)
        return found

    def _align_window(
        self, items: Sequence[Item], written: Sequence[str], recognised: Sequence[RecognisedWord]
    ) -> list[Word]:
        """Align a window with the words ``written`` in place of the recognised ones; return each with its times.

        The probability of a word is that of its least probable token. The mean would hide that a long word was not
        said: after its first token the others are probable.
        """
        model, tokenizer, options = self._model, self._model.tokenizer, self._options
        segments: list[Segment] = []
        for _, group in groupby(zip(items, written, strict=True), lambda pair: recognised[pair[0].place].segment["id"]):
            pairs = list(group)
            tokens = [token for _, text in pairs for token in tokenizer.encode(text)]
            segments.append({**recognised[pairs[0][0].place].segment, "tokens": tokens})
        seek = segments[0]["seek"]
        size = self._sizes[seek]
        features = model.encode(pad_or_trim(self._mel.read(seek, seek + size), N_FRAMES)[None])
        text = [token for segment in segments for token in segment["tokens"]]
        timings = align_tokens(
            text,
            features,
            size,
            prompt=tokenizer.sot_sequence(self.language, "transcribe", timestamps=True),
            heads=model.alignment_heads,
            weights=model.engine.decoder_weights,
            config=model.config,
            tokenizer=tokenizer,
        )
        first = items[0].place
        timed = add_word_timestamps(
            segments,
            join_to_words(text, timings, tokenizer, self.language, np.min),
            tokenizer=tokenizer,
            last_speech_end=recognised[first - 1].word["end"] if first else 0.0,
            prepend=options.prepend_punctuations,
            append=options.append_punctuations,
        )
        words = [word for segment in timed for word in segment.get("words", ())]
        ends = [*accumulate(len(word["word"]) for word in words)]
        starts = accumulate((len(text) for text in written), initial=0)
        return [
            words[bisect_right(ends, start + len(text) - len(text.lstrip()))]
            for start, text in zip(starts, written, strict=False)  # starts has the end, too
        ]

    # ---------------------------------------------------------------------------------- the result

    def _make_segments(self, found: Mapping[int, FoundWord]) -> Iterator[Segment]:
        """Yield the sentences with their words; give words that were not found the times between their neighbours."""
        words = fill_times(self._known, found, self.seconds)
        nearest: Segment | None = None
        for _, group in groupby(enumerate(self._known), lambda pair: pair[1].sentence):
            pairs = list(group)
            timed = [words[index] for index, _ in pairs]
            nearest = next((found[index].segment for index, _ in pairs if index in found), nearest)
            text = "".join(word.text for _, word in pairs)
            yield {
                "id": 0,
                "seek": nearest["seek"] if nearest else 0,
                "start": timed[0]["start"],
                "end": timed[-1]["end"],
                "text": text,
                "tokens": [token for _, word in pairs for token in word.tokens],
                "temperature": nearest["temperature"] if nearest else 0.0,
                "avg_logprob": sum(log_probability(word["probability"]) for word in timed) / len(timed),
                "compression_ratio": compression_ratio(text),
                "no_speech_prob": nearest["no_speech_prob"] if nearest else 0.0,
                "words": timed,
            }


def _collect(job: TranscriptionJob) -> Generator[WindowRequest, DecodingResult, list[Segment]]:
    """Run a transcription to its end, pass on its requests, and return its segments."""
    segments: list[Segment] = []
    try:
        item = next(job)
        while True:
            if isinstance(item, WindowRequest):
                item = job.send((yield item))
            else:
                item["id"] = len(segments)
                segments.append(item)
                item = next(job)
    except StopIteration:
        return segments
    finally:
        job.close()
