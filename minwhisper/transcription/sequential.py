"""Chapter 10, the loop: windows of 30 s, one after another.

Each window is encoded, decoded and split into segments, and the next one starts where the last complete segment ended.
Each window is prompted with the previous text, so that names and style carry over. If a text repeats itself or is
improbable, the window is decoded again at the next fallback temperature.

The loop is ``SequentialTranscription.run``. It does not decode windows itself but yields requests for them, so that
windows of several recordings can be decoded together.

Walkthrough: section 13.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ..audio.load import FRAMES_PER_SECOND, N_FRAMES, pad_or_trim
from ..audio.mel_stream import Spectrogram
from ..audio.speech import Stretches, next_speech
from ..common.backend import Array
from ..decoding.decode import DecodingResult, WindowRequest
from .alignment import find_alignment
from .model import SpeechModel
from .options import TranscriptionOptions
from .record import ALTERNATIVES, WindowRecord, record_attempt, record_attention
from .segments import Segment, split_window
from .windows import Prompt, Window, clear_if_empty, is_silence, make_segment, needs_fallback
from .word_timestamps import add_word_timestamps, last_word_end, skip_hallucinations, skip_leading_silence

TranscriptionJob: TypeAlias = Generator[WindowRequest | Segment, DecodingResult, None]
"""A running transcription: yields segments and requests to decode a window, and receives the result of each request."""


class SequentialTranscription:
    """A transcription of windows one after another, each prompted with the text before it."""

    def __init__(
        self,
        model: SpeechModel,
        mel: Spectrogram,
        options: TranscriptionOptions,
        language: str,
        generator: np.random.Generator,
        report: Callable[[int], None],
        record: Callable[[WindowRecord], None] | None = None,
        speech: Stretches | None = None,
    ) -> None:
        """``language`` is a code; ``generator`` samples at temperatures above 0; no window starts outside ``speech``.

        ``report`` is called after every window with the number of frames done since the last call, ``record`` with the
        record of the window.
        """
        self._model, self._mel, self._options = model, mel, options
        self._language, self._generator, self._report = language, generator, report
        self._prompt = Prompt.initial(options, model)
        self._last_speech_end = 0.0  # end of the last word, in seconds
        self._record = record
        self._recorded: WindowRecord | None = None  # of the present window
        self._speech = speech

    def run(self, start: int, end: int, *, clamp: bool = False) -> TranscriptionJob:
        """Transcribe the frames from ``start`` to ``end``; the first window is prompted with the text of earlier calls.

        ``clamp`` moves times after ``end`` to ``end``: another chunk starts there.
        """
        seek = reported = start
        while (seek := self._skip_pause(seek, end)) < end:
            window = Window(seek, min(N_FRAMES, end - seek))
            features = self._encode(window)
            if self._record is not None:
                self._recorded = {"seek": window.seek, "size": window.size, "silence": False, "attempts": []}
            decoded = yield from self._decode(features, window)
            segments, next_seek = self._segments_of(window, features, decoded)
            if self._record is not None and self._recorded is not None:
                self._record(self._recorded)
            seek = max(next_seek, seek + 1)  # always forward
            yield from (clamp_segment(segment, end / FRAMES_PER_SECOND) for segment in segments) if clamp else segments
            self._report(min(seek, end) - reported)
            reported = min(seek, end)
        if reported < end:
            self._report(end - reported)

    def _skip_pause(self, seek: int, end: int) -> int:
        """Return the frame to continue from: ``seek``, or the next frame of speech, or ``end`` if there is none."""
        if self._speech is None:
            return seek
        found = next_speech(self._speech, seek)
        return end if found is None else found

    def _encode(self, window: Window) -> Array:
        """Return the features (1, T, D) of a window, padded as in training: with zeros, which are loud in a log-mel."""
        mel = self._mel.read(window.seek, window.seek + window.size)
        return self._model.encode(pad_or_trim(mel, N_FRAMES)[None])

    def _decode(self, features: Array, window: Window) -> Generator[WindowRequest, DecodingResult, DecodingResult]:
        """Decode a window at one fallback temperature after another until a result is accepted, or take the last."""
        prompt = self._prompt.tokens()
        where = f"{self._model.name}: window from {window.seek / FRAMES_PER_SECOND:.2f} s"
        for attempt in self._options.decoding_options:
            options = replace(attempt, language=self._language, prompt=prompt)
            alternatives = ALTERNATIVES if self._recorded is not None else 0
            decoded = yield WindowRequest(features, options, self._generator, where, alternatives)
            if self._recorded is not None:
                self._recorded["attempts"].append(record_attempt(decoded, self._model.tokenizer))
            if not needs_fallback(decoded, self._options):
                break
        return decoded

    def _segments_of(self, window: Window, features: Array, decoded: DecodingResult) -> tuple[list[Segment], int]:
        """Return the segments of a window, and the frame at which the next window starts."""
        end = window.seek + window.size
        if is_silence(decoded, self._options):
            if self._recorded is not None:
                self._recorded["silence"] = True
            return [], end
        split = split_window(decoded.tokens, self._model.tokenizer.timestamp_begin, window.size)
        segments = [make_segment(part, window, decoded, self._model) for part in split.parts]
        next_seek = window.seek + split.advance
        if self._options.word_timestamps:
            segments = self._add_words(segments, window, features)
            next_seek = self._seek_after_words(segments, window, next_seek, split.single_timestamp_ending)
            threshold = self._options.hallucination_silence_threshold
            if threshold is not None:
                speech_start = skip_leading_silence(segments, seek=window.seek, threshold=threshold)
                if speech_start is not None:  # transcribe again without the silence, which may have misled the model
                    return [], speech_start
                segments, skipped = skip_hallucinations(
                    segments,
                    seek=window.seek,
                    size=window.size,
                    content=self._mel.content_frames,
                    threshold=threshold,
                    last_speech_end=self._last_speech_end,
                )
                next_seek = next_seek if skipped is None else skipped
            word_end = last_word_end(segments)
            self._last_speech_end = self._last_speech_end if word_end is None else word_end
        segments = [clear_if_empty(segment) for segment in segments]
        self._prompt.add(segments, decoded.temperature)
        return segments, next_seek

    def _add_words(self, segments: Sequence[Segment], window: Window, features: Array) -> list[Segment]:
        """Return the segments with their words and the times of each."""
        model, options = self._model, self._options
        text = [token for segment in segments for token in segment["tokens"] if token < model.tokenizer.eot]

        def on_path(matrix: Array, starts: Sequence[int]) -> None:
            if self._recorded is not None:
                self._recorded["attention"] = record_attention(matrix, text, starts)

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
            **({} if self._recorded is None else {"on_path": on_path}),
        )
        return add_word_timestamps(
            segments,
            timings,
            tokenizer=model.tokenizer,
            last_speech_end=self._last_speech_end,
            prepend=options.prepend_punctuations,
            append=options.append_punctuations,
        )

    def _seek_after_words(
        self, segments: Sequence[Segment], window: Window, next_seek: int, single_timestamp_ending: bool
    ) -> int:
        """Return the start of the next window, given the times of words: the end of the last word, if that is safe."""
        word_end = last_word_end(segments)
        if single_timestamp_ending or word_end is None or word_end <= window.seek / FRAMES_PER_SECOND:
            return next_seek
        threshold = self._options.hallucination_silence_threshold
        rest = (window.seek + N_FRAMES) / FRAMES_PER_SECOND - word_end
        if threshold is not None and rest <= threshold:
            return window.seek + window.size
        return round(word_end * FRAMES_PER_SECOND)


def clamp_segment(segment: Segment, seconds: float) -> Segment:
    """Limit the times of a segment and its words to ``seconds``; clear the segment if nothing is left."""

    def clamp(time: float) -> float:
        return min(time, seconds)

    clamped: Segment = {**segment, "start": clamp(segment["start"]), "end": clamp(segment["end"])}
    if "words" in segment:
        clamped["words"] = [
            {**word, "start": clamp(word["start"]), "end": clamp(word["end"])} for word in segment["words"]
        ]
    return clear_if_empty(clamped)
