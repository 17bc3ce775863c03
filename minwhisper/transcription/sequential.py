"""Chapter 10, the loop: windows of 30 s, one after another.

Each window is encoded, decoded and cut into segments, and the next one starts where the last complete segment ended. A
window is told the text before it, so that names and style carry over. Where the outcome is poor, because it repeats
itself or is improbable, the window is decoded again at a higher temperature.

The loop is :meth:`SequentialTranscription.run`; every step of it is a function that can be read alone. It does not
decode itself but asks for it, so that windows of several passages can be decoded together.

Walkthrough: section 13.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ..audio.load import FRAMES_PER_SECOND, N_FRAMES, pad_or_trim
from ..audio.mel_stream import Spectrogram
from ..common.backend import Array
from ..decoding.decode import DecodingResult, WindowRequest
from .alignment import find_alignment
from .model import SpeechModel
from .options import TranscriptionOptions
from .segments import Segment, split_window
from .windows import Prompt, Window, clear_if_empty, is_silence, make_segment, needs_fallback
from .word_timestamps import add_word_timestamps, last_word_end, skip_hallucinations, skip_leading_silence

TranscriptionJob: TypeAlias = Generator[WindowRequest | Segment, DecodingResult, None]
"""A transcription under way: yields segments, and requests, each of which is answered with its result."""


class SequentialTranscription:
    """Sound that is transcribed window after window, each told of those before it."""

    def __init__(
        self,
        model: SpeechModel,
        mel: Spectrogram,
        options: TranscriptionOptions,
        language: str,
        generator: np.random.Generator,
        report: Callable[[int], None],
    ) -> None:
        """``language`` is a code; ``generator`` draws the tokens at temperatures above 0.

        ``report`` is called after every window with the frames by which it has come forward.
        """
        self._model, self._mel, self._options = model, mel, options
        self._language, self._generator, self._report = language, generator, report
        self._prompt = Prompt.begin(options, model)
        self._speech_end = 0.0  # seconds: where the last word ended

    def run(self, start: int, end: int, *, clamp: bool = False) -> TranscriptionJob:
        """Window after window of the frames from ``start`` to ``end``; what was said before is remembered.

        ``clamp``: by another part, which is heard on its own. Then nothing lasts beyond the end.
        """
        seek = start
        while seek < end:
            window = Window(seek, min(N_FRAMES, end - seek))
            features = self._encode(window)
            decoded = yield from self._decode(features, window)
            segments, following = self._segments_of(window, features, decoded)
            seek = max(following, seek + 1)  # forward, whatever was said
            yield from (clamp_segment(segment, end / FRAMES_PER_SECOND) for segment in segments) if clamp else segments
            self._report(min(seek, end) - window.seek)

    def _encode(self, window: Window) -> Array:
        """Features (1, T, D) of a window, which is filled up with zeros as in training; in a log-mel they are loud."""
        mel = self._mel.read(window.seek, window.seek + window.size)
        return self._model.encode(pad_or_trim(mel, N_FRAMES)[None])

    def _decode(self, features: Array, window: Window) -> Generator[WindowRequest, DecodingResult, DecodingResult]:
        """Decode at one temperature after another until the outcome will do; the last one has to."""
        prompt = self._prompt.tokens()
        where = f"{self._model.name}: window from {window.seek / FRAMES_PER_SECOND:.2f} s"
        for attempt in self._options.decoding_options:
            asked = replace(attempt, language=self._language, prompt=prompt)
            decoded = yield WindowRequest(features, asked, self._generator, where)
            if not needs_fallback(decoded, self._options):
                break
        return decoded

    def _segments_of(self, window: Window, features: Array, decoded: DecodingResult) -> tuple[list[Segment], int]:
        """The segments of a window, and the frame at which the next window starts."""
        end = window.seek + window.size
        if is_silence(decoded, self._options):
            return [], end
        split = split_window(decoded.tokens, self._model.tokenizer.timestamp_begin, window.size)
        segments = [make_segment(piece, window, decoded, self._model) for piece in split.pieces]
        following = window.seek + split.advance
        if self._options.word_timestamps:
            segments = self._add_words(segments, window, features)
            following = self._after_words(segments, window, following, split.single_timestamp_ending)
            threshold = self._options.hallucination_silence_threshold
            if threshold is not None:
                late = skip_leading_silence(segments, seek=window.seek, threshold=threshold)
                if late is not None:  # silence has misled the model: hear it again without
                    return [], late
                segments, skipped = skip_hallucinations(
                    segments,
                    seek=window.seek,
                    size=window.size,
                    content=self._mel.content_frames,
                    threshold=threshold,
                    last_speech_end=self._speech_end,
                )
                following = following if skipped is None else skipped
            word_end = last_word_end(segments)
            self._speech_end = self._speech_end if word_end is None else word_end
        segments = [clear_if_empty(segment) for segment in segments]
        self._prompt.add(segments, decoded.temperature)
        return segments, following

    def _add_words(self, segments: Sequence[Segment], window: Window, features: Array) -> list[Segment]:
        """The segments with their words and when each is said."""
        model, options = self._model, self._options
        text = [token for segment in segments for token in segment["tokens"] if token < model.tokenizer.eot]
        timings = find_alignment(
            text,
            features,
            window.size,
            prompt=model.tokenizer.sot_sequence(self._language, options.decoding_options[0].task, timestamps=True),
            heads=model.alignment_heads,
            weights=model.engine.decoder_weights,
            config=model.config,
            tokenizer=model.tokenizer,
            language=self._language,
        )
        return add_word_timestamps(
            segments,
            timings,
            tokenizer=model.tokenizer,
            last_speech_end=self._speech_end,
            prepend=options.prepend_punctuations,
            append=options.append_punctuations,
        )

    def _after_words(
        self, segments: Sequence[Segment], window: Window, following: int, single_timestamp_ending: bool
    ) -> int:
        """Where the next window starts, now that words have times: behind the last word of one left open."""
        word_end = last_word_end(segments)
        if single_timestamp_ending or word_end is None or word_end <= window.seek / FRAMES_PER_SECOND:
            return following
        threshold = self._options.hallucination_silence_threshold
        rest = (window.seek + N_FRAMES) / FRAMES_PER_SECOND - word_end
        if threshold is not None and rest <= threshold:
            return window.seek + window.size
        return round(word_end * FRAMES_PER_SECOND)


def clamp_segment(segment: Segment, seconds: float) -> Segment:
    """The segment with no time behind this one, and its words so, too; cleared if nothing is left of it."""

    def earlier(time: float) -> float:
        return min(time, seconds)

    ended: Segment = {**segment, "start": earlier(segment["start"]), "end": earlier(segment["end"])}
    if "words" in segment:
        ended["words"] = [
            {**word, "start": earlier(word["start"]), "end": earlier(word["end"])} for word in segment["words"]
        ]
    return clear_if_empty(ended)
