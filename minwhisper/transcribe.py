"""Chapter 10. From a whole sound to segments of text: windows of 30 s, one after another.

The model hears 30 s at a time. Each window is encoded, decoded and cut into segments, and the next one starts where
the last complete segment ended. A window is told the text before it, so that names and style carry over. Where the
outcome is poor, because it repeats itself or is improbable, the window is decoded again at a higher temperature.

The loop is :meth:`Transcription._steps`; every step of it is a function that can be read alone.

Walkthrough: section 13.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np

from .alignment import find_alignment
from .audio import FRAMES_A_SECOND, N_FRAMES, AudioSource, open_sound, pad_or_trim
from .backend import Array
from .decoding import DecodingResult
from .mel import Spectrogram
from .options import TranscriptionOptions
from .segments import Segment, Transcript, split_window
from .windows import Prompt, Window, check_options, clear_if_empty, has_failed, is_silence, make_segment
from .word_times import add_word_times, last_word_end, skip_hallucinations, skip_leading_silence

if TYPE_CHECKING:
    from .model import Whisper


Progress = Callable[[float, float], None]
"""Called with the seconds done and the seconds in all."""


class Transcription:
    """A transcription under way: an iterator over its segments, each as soon as it is final.

    :meth:`Whisper.stream` makes one. It ends with the sound, or when it is closed; it can be used in a ``with``
    statement. What it has found by any time is there as :attr:`transcript`.
    """

    language: str  # a code: as asked for, or as heard
    language_probs: dict[str, float] | None  # of every language, where it was heard
    seconds: float  # how long the sound is
    segments: list[Segment]  # those found so far

    def __init__(
        self,
        model: "Whisper",
        audio: AudioSource,
        options: TranscriptionOptions,
        *,
        progress: Progress | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        """See :meth:`Whisper.transcribe`. Refuses bad input, reads the sound and hears its language."""
        check_options(options, model)
        self._prompt = Prompt.begin(options, model)
        self.segments = []
        self._model, self._options, self._progress = model, options, progress
        self._generator = generator or np.random.default_rng(0)
        self._sound = open_sound(audio)
        try:
            self.seconds = self._sound.seconds
            clips = options.clips(self.seconds)
            self._mel = Spectrogram(self._sound, model.config.num_mel_bins)
            self._clips = [tuple(min(round(t * FRAMES_A_SECOND), self._mel.frames) for t in clip) for clip in clips]
            self._clip_seconds = sum(end - start for start, end in clips)
            self._clip_frames = sum(end - start for start, end in self._clips)
            with model.engine.at_work():
                self.language, self.language_probs = self._hear_language()
        except BaseException:
            self._sound.close()
            raise
        self._speech_end = 0.0  # seconds: where the last word ended
        self._running = self._steps()

    @property
    def transcript(self) -> Transcript:
        """All that was found so far, with openai-whisper's keys."""
        tokens = [token for segment in self.segments for token in segment["tokens"]]
        return {
            "text": self._model.tokenizer.decode(tokens),
            "segments": list(self.segments),
            "language": self.language,
        }

    def close(self) -> None:
        """End here and give the sound back."""
        self._running.close()
        self._sound.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Segment:
        try:
            with self._model.engine.at_work():
                return next(self._running)
        except BaseException:  # also at the end
            self._sound.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # ---------------------------------------------------------------------------------- the loop

    def _steps(self) -> Generator[Segment, None, None]:
        """Yield segments, window after window."""
        done = 0  # frames of the clips before
        for start, end in self._clips:
            seek = start
            while seek < end:
                window = Window(seek, min(N_FRAMES, end - seek))
                features = self._encode(window)
                decoded = self._decode(features)
                found, following = self._heard(window, features, decoded)
                seek = max(following, seek + 1)  # forward, whatever was said
                for segment in found:
                    segment["id"] = len(self.segments)
                    self.segments.append(segment)
                    yield segment
                self._report(done + min(seek, end) - start)
            done += end - start

    def _encode(self, window: Window) -> Array:
        """Features (1, T, D) of a window, which is filled up with zeros as in training; in a log-mel they are loud."""
        mel = self._mel.read(window.seek, window.seek + window.size)
        return self._model.encode(pad_or_trim(mel, N_FRAMES)[None])

    def _decode(self, features: Array) -> DecodingResult:
        """Decode at one temperature after another until the outcome will do; the last one has to."""
        prompt = self._prompt.tokens()
        for attempt in self._options.attempts:
            asked = replace(attempt, language=self.language, prompt=prompt)
            decoded = self._model.decode(features[0], asked, generator=self._generator)
            if not has_failed(decoded, self._options):
                break
        return decoded

    def _heard(self, window: Window, features: Array, decoded: DecodingResult) -> tuple[list[Segment], int]:
        """The segments of a window, and the frame at which the next window starts."""
        end = window.seek + window.size
        if is_silence(decoded, self._options):
            return [], end
        split = split_window(decoded.tokens, self._model.tokenizer.timestamp_begin, window.size)
        segments = [make_segment(piece, window, decoded, self._model) for piece in split.pieces]
        following = window.seek + split.advance
        if self._options.word_timestamps:
            segments = self._add_words(segments, window, features)
            following = self._after_words(segments, window, following, split.closed)
            threshold = self._options.hallucination_silence_threshold
            if threshold is not None:
                late = skip_leading_silence(segments, seek=window.seek, threshold=threshold)
                if late is not None:  # silence has misled the model: hear it again without
                    return [], late
                segments, skipped = skip_hallucinations(
                    segments,
                    seek=window.seek,
                    size=window.size,
                    content=self._mel.frames,
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
            prompt=model.tokenizer.prompt(self.language, options.attempts[0].task, timestamps=True),
            heads=model.alignment_heads,
            weights=model.weights["decoder"],
            config=model.config,
            tokenizer=model.tokenizer,
            language=self.language,
        )
        return add_word_times(
            segments,
            timings,
            tokenizer=model.tokenizer,
            last_speech_end=self._speech_end,
            prepend=options.prepend_punctuations,
            append=options.append_punctuations,
        )

    def _after_words(self, segments: Sequence[Segment], window: Window, following: int, closed: bool) -> int:
        """Where the next window starts, now that words have times: behind the last word of one left open."""
        word_end = last_word_end(segments)
        if closed or word_end is None or word_end <= window.seek / FRAMES_A_SECOND:
            return following
        threshold = self._options.hallucination_silence_threshold
        rest = (window.seek + N_FRAMES) / FRAMES_A_SECOND - word_end
        if threshold is not None and rest <= threshold:
            return window.seek + window.size
        return round(word_end * FRAMES_A_SECOND)

    # ---------------------------------------------------------------------------------- around it

    def _hear_language(self) -> tuple[str, dict[str, float] | None]:
        """The language asked for, or the one heard in the first window or windows, with what each language got."""
        tokenizer, asked = self._model.tokenizer, self._options.attempts[0].language
        if asked is not None or not self._model.is_multilingual:
            return tokenizer.language_code("en" if asked is None else asked), None
        starts = range(0, max(1, self._mel.frames), N_FRAMES)[: self._options.language_detection_windows]
        heard = [self._model.detect_language(self._mel.read(start, start + N_FRAMES))[1] for start in starts]
        mean = {code: sum(found[code] for found in heard) / len(heard) for code in heard[0]}
        return max(mean, key=mean.__getitem__), mean

    def _report(self, frames: int) -> None:
        """Tell that so many frames of the clips are done."""
        if self._progress is not None:
            # In proportion, because a clip need not begin and end where a frame does.
            self._progress(self._clip_seconds * (frames / self._clip_frames), self._clip_seconds)
