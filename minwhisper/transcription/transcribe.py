"""Chapter 10. Transcription: a whole recording becomes segments of text.

The model takes windows of 30 s. By default they are transcribed one after another, and each is prompted with the text
before it (``transcription.sequential``). Or the audio is cut into chunks at silence, and several windows,
which are then independent of each other, are decoded together (``transcription.batching``). With ``vad_filter``, long
pauses are found first and left out (``audio.speech``); times stay those of the recording, so nothing has to be moved.

Walkthrough: section 13.
"""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Self

import numpy as np

from ..audio.load import FRAMES_PER_SECOND, N_FRAMES, AudioSource, open_audio
from ..audio.mel_stream import Spectrogram
from ..audio.speech import find_speech, find_speech_silero, join_pauses, within
from ..errors import OUT_OF_MEMORY, AudioError, MinWhisperError, OutOfMemoryError
from .batching import in_order, run_batched, run_sequential
from .chunking import MIN_CHUNK_FRAMES, MIN_CHUNK_FRAMES_UNTIMED, chunk_at_silence
from .model import SpeechModel
from .options import TranscriptionOptions
from .record import WindowRecord
from .segments import Segment, Transcript
from .sequential import SequentialTranscription, TranscriptionJob
from .windows import check_options

MAX_PAUSE = 5 * FRAMES_PER_SECOND  # with vad_filter: a longer pause is left out, a shorter one stays between its words

Progress = Callable[[float, float], None]
"""Called with the seconds done and the seconds in total."""


class Transcription:
    """A running transcription: an iterator over its segments, each as soon as it is final.

    ``Whisper.stream`` makes one. It ends with the audio, or when it is closed; it is also a context manager.
    ``transcript`` is the transcript so far. A pickle or a copy holds the results so far, not the model and the audio:
    iterating over one that was not finished raises ``AudioError``.
    """

    language: str  # a code: as requested, or as detected
    language_probs: dict[str, float] | None  # of every language, if it was detected
    seconds: float  # duration of the audio
    audio_track: str | None  # a line about the audio track that is read, if the file has several
    segments: list[Segment]  # those so far
    windows: list[WindowRecord]  # how they were decoded, with ``record``
    _running: Generator[Segment, None, None] | None  # None in a pickle or a copy
    _ended: bool = False
    _text: str | None = None  # in a pickle or a copy, which has no tokenizer

    def __init__(
        self,
        model: SpeechModel,
        audio: AudioSource,
        options: TranscriptionOptions,
        *,
        progress: Progress | None = None,
        generator: np.random.Generator | None = None,
        batch_size: int = 1,
        checked: bool = False,
    ) -> None:
        """Reject bad input, open the audio and detect its language. For the arguments see ``Whisper.transcribe``.

        If ``checked``, the options have already been accepted by ``check_options``.
        """
        if not checked:
            check_options(options, model)
        self.segments, self.windows = [], []
        self._model, self._options, self._progress = model, options, progress
        self._generator, self._batch_size = generator or np.random.default_rng(0), batch_size
        self._audio = open_audio(audio, timeline=True, track=options.audio_track)
        try:
            self.seconds, self.audio_track = self._audio.seconds, self._audio.track
            clips = options.clips(self.seconds)
            with model.engine.session():  # or the library's threads would busy-wait through hours of small matmuls
                self._mel = Spectrogram(self._audio, model.config.num_mel_bins)
            frames = self._mel.content_frames
            self._first = min(int(self._audio.leading_silence * FRAMES_PER_SECOND), frames)  # the audio starts there
            self._clips = [
                (
                    min(max(round(start * FRAMES_PER_SECOND), self._first), frames),
                    min(max(round(end * FRAMES_PER_SECOND), self._first), frames),
                )
                for start, end in clips
            ]
            self._speech = self._find_speech() if options.vad_filter else None
            if self._speech is not None:
                parts = [join_pauses(within(self._speech, *clip), MAX_PAUSE) for clip in self._clips]
                self._clips = list(itertools.chain(*parts))
                self._first = self._clips[0][0] if self._clips else self._first
            self._clip_seconds = sum(end - start for start, end in clips)
            self._clip_frames = sum(end - start for start, end in self._clips)
            with model.engine.session():
                self.language, self.language_probs = self._detect_language()
        except BaseException:
            self._audio.close()
            raise
        self._done = 0  # frames of the clips
        self._held: dict[int, list[Segment]] = {}  # segments that wait for an earlier chunk, by chunk
        self._running = run_sequential(self.run(), model)

    @property
    def transcript(self) -> Transcript:
        """The transcript so far, with openai-whisper's keys."""
        tokens = [token for segment in self.segments for token in segment["tokens"]]
        found: Transcript = {
            "text": self._text if self._text is not None else self._model.tokenizer.decode(tokens),
            "segments": list(self.segments),
            "language": self.language,
        }
        if self._options.record:
            found["windows"] = sorted(self.windows, key=lambda window: window["seek"])
            if self.language_probs is not None:
                found["language_probs"] = self.language_probs
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle or a copy holds: the results so far."""
        names = ("language", "language_probs", "seconds", "audio_track", "_options", "_ended")
        lists = {"segments": [*self.segments], "windows": [*self.windows]}
        text = self.transcript["text"]
        return {name: getattr(self, name) for name in names} | lists | {"_text": text, "_held": {}, "_running": None}

    def close(self) -> None:
        """End the transcription and close the audio."""
        if self._running is not None:
            self._running.close()
            self._release()
        self._ended = True

    def _release(self) -> None:
        """Close the audio and free the spectrogram."""
        self._ended = True
        self._audio.close()
        self._mel.clear_cache()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Segment:
        if self._running is None:
            if self._ended:
                raise StopIteration
            raise AudioError(
                "this transcription is a pickle or a copy, without its model and audio: it cannot continue; use its "
                ".segments or .transcript so far, or transcribe the audio again"
            )
        try:
            with self._model.engine.session():
                return self.add_segment(next(self._running))
        except BaseException:  # also at the end
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # ---------------------------------------------------------------------------------- the loop

    def run(self) -> TranscriptionJob:
        """Yield segments as they become final and, unless windows are batched, requests to decode windows.

        This stores no segments: ``add_segment`` does.
        """
        if not self._clips:  # no speech
            self._report(0)
        if self._batch_size == 1:
            sequential = self._sequential(self._generator)
            for start, end in self._clips:
                yield from sequential.run(start, end, clamp=self._speech is not None)
            return
        untimed = self._options.decoding_options[0].without_timestamps
        min_frames = MIN_CHUNK_FRAMES_UNTIMED if untimed else MIN_CHUNK_FRAMES
        chunks = (chunk for start, end in self._clips for chunk in chunk_at_silence(self._mel, start, end, min_frames))
        jobs = (
            self._sequential(self._generator.spawn(1)[0]).run(
                *chunk, clamp=following is not None or self._speech is not None
            )
            for chunk, following in itertools.pairwise(itertools.chain(chunks, [None]))
            if chunk is not None
        )
        model = self._model
        yield from in_order(run_batched(jobs, model.engine, model.tokenizer, self._batch_size), self._held)

    def add_segment(self, segment: Segment) -> Segment:
        """Append a segment to the transcript and set its id."""
        segment["id"] = len(self.segments)
        self.segments.append(segment)
        return segment

    def add_held(self) -> list[Segment]:
        """Append the segments that wait for an earlier chunk, after an interruption; return them.

        Chunks that are decoded together do not end in order, and an interrupted one never ends.
        """
        held = [segment for number in sorted(self._held) for segment in self._held.pop(number)]
        return [self.add_segment(segment) for segment in held]

    def _sequential(
        self,
        generator: np.random.Generator,
        make: Callable[..., SequentialTranscription] = SequentialTranscription,
    ) -> SequentialTranscription:
        record = self.windows.append if self._options.record else None
        return make(self._model, self._mel, self._options, self.language, generator, self._report, record, self._speech)

    # ---------------------------------------------------------------------------------- speech, language, progress

    def _find_speech(self) -> list[tuple[int, int]]:
        """Return the stretches of speech, in frames."""
        with self._model.engine.session():
            return find_speech_silero(self._audio) if self._options.vad_filter == "silero" else find_speech(self._mel)

    def _detect_language(self) -> tuple[str, dict[str, float] | None]:
        """Return the requested language and None, or the one detected in the first windows and all probabilities."""
        tokenizer, requested = self._model.tokenizer, self._options.decoding_options[0].language
        if requested is not None or not self._model.is_multilingual:
            return tokenizer.language_code("en" if requested is None else requested), None
        starts = range(self._first, max(self._first + 1, self._mel.content_frames), N_FRAMES)
        starts = starts[: self._options.language_detection_windows]
        windows = [self._model.detect_language(self._mel.read(start, start + N_FRAMES))[1] for start in starts]
        mean = {code: sum(window[code] for window in windows) / len(windows) for code in windows[0]}
        return max(mean, key=mean.__getitem__), mean

    def _report(self, frames: int) -> None:
        """Report that this many more frames of the clips are done."""
        self._done += frames
        if self._progress is not None:
            # In proportion, because clips need not begin and end with a frame, and pauses are left out.
            share = self._done / self._clip_frames if self._clips else 1.0
            self._progress(self._clip_seconds * share, self._clip_seconds)


def transcribe_batched(
    model: SpeechModel, audios: Iterable[AudioSource], options: TranscriptionOptions, batch_size: int, seed: int
) -> Iterator[Transcription | MinWhisperError]:
    """Transcribe several recordings whose windows are decoded together; yield each transcription, or its error.

    The results come in the order of ``audios``. Each audio is opened only when a place in the batch is free.
    """
    results: dict[int, Transcription | MinWhisperError] = {}

    def job(number: int, audio: AudioSource) -> TranscriptionJob:
        try:
            generator = np.random.default_rng(seed)  # a transcript does not depend on the other recordings
            results[number] = running = Transcription(model, audio, options, generator=generator, checked=True)
            with running:
                yield from running.run()
        except MinWhisperError as error:
            results[number] = error
        except MemoryError:
            results[number] = OutOfMemoryError(OUT_OF_MEMORY)

    running = run_batched(itertools.starmap(job, enumerate(audios)), model.engine, model.tokenizer, batch_size)
    ended: set[int] = set()
    turn = 0
    while True:
        with model.engine.session():
            number, segment = next(running, (-1, None))
        if number == -1:
            return
        if segment is None:
            ended.add(number)
        else:
            transcription = results[number]
            assert isinstance(transcription, Transcription)  # not an error: the segment is from it
            transcription.add_segment(segment)
        while turn in ended:
            yield results.pop(turn)
            turn += 1
