"""Chapter 10. From a whole sound to segments of text.

The model takes windows of 30 s. By default they are transcribed one after another, and each is prompted with the text
before it (:mod:`minwhisper.transcription.sequential`). Or the audio is cut into chunks at silence, and several windows,
which are then independent of each other, are decoded together (:mod:`minwhisper.transcription.batching`).

Walkthrough: section 13.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Self

import numpy as np

from ..audio.load import FRAMES_PER_SECOND, N_FRAMES, AudioSource, open_audio
from ..audio.mel_stream import Spectrogram
from ..errors import OUT_OF_MEMORY, MinWhisperError, OutOfMemoryError
from .batching import in_order, run_batched, run_sequential
from .chunking import MIN_CHUNK_FRAMES, MIN_CHUNK_FRAMES_UNTIMED, chunk_at_silence
from .model import SpeechModel
from .options import TranscriptionOptions
from .segments import Segment, Transcript
from .sequential import SequentialTranscription, TranscriptionJob
from .windows import check_options

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
    audio_track: str | None  # a line on which audio track was read, if the file has several
    segments: list[Segment]  # those found so far

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
        """See :meth:`Whisper.transcribe`. Refuses bad input, reads the sound and hears its language.

        ``checked``: the options have been held to the model already.
        """
        if not checked:
            check_options(options, model)
        self.segments = []
        self._model, self._options, self._progress = model, options, progress
        self._generator, self._batch_size = generator or np.random.default_rng(0), batch_size
        self._sound = open_audio(audio, timeline=True, track=options.audio_track)
        try:
            self.seconds, self.audio_track = self._sound.seconds, self._sound.track
            clips = options.clips(self.seconds)
            with model.engine.session():  # or the library's threads would busy-wait through hours of small products
                self._mel = Spectrogram(self._sound, model.config.num_mel_bins)
            self._first = min(
                int(self._sound.leading_silence * FRAMES_PER_SECOND), self._mel.content_frames
            )  # the audio begins there
            self._clips = [
                tuple(min(max(round(t * FRAMES_PER_SECOND), self._first), self._mel.content_frames) for t in clip)
                for clip in clips
            ]
            self._clip_seconds = sum(end - start for start, end in clips)
            self._clip_frames = sum(end - start for start, end in self._clips)
            with model.engine.session():
                self.language, self.language_probs = self._detect_language()
        except BaseException:
            self._sound.close()
            raise
        self._done = 0  # frames of the clips
        self._held: dict[int, list[Segment]] = {}  # segments that wait for those of an earlier part, by part
        self._running = run_sequential(self.run(), model)

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
        self._give_back()

    def _give_back(self) -> None:
        """Close the sound, of whose spectrogram nothing is needed any more either."""
        self._sound.close()
        self._mel.clear_cache()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Segment:
        try:
            with self._model.engine.session():
                return self.add_segment(next(self._running))
        except BaseException:  # also at the end
            self._give_back()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # ---------------------------------------------------------------------------------- the loop

    def run(self) -> TranscriptionJob:
        """Yield segments as they are found, and requests for windows to be decoded.

        Windows that are decoded together ask for nothing. Nothing is written down here: that is :meth:`add_segment`'s.
        """
        if self._batch_size == 1:
            sequential = self._sequential(self._generator)
            for start, end in self._clips:
                yield from sequential.run(start, end)
            return
        shortest = (
            MIN_CHUNK_FRAMES_UNTIMED if self._options.decoding_options[0].without_timestamps else MIN_CHUNK_FRAMES
        )
        parts = (part for start, end in self._clips for part in chunk_at_silence(self._mel, start, end, shortest))
        with_end = itertools.chain(parts, [None])
        jobs = (
            self._sequential(self._generator.spawn(1)[0]).run(*part, clamp=after is not None)
            for part, after in itertools.pairwise(with_end)
            if part is not None
        )
        model = self._model
        yield from in_order(run_batched(jobs, model.engine, model.tokenizer, self._batch_size), self._held)

    def add_segment(self, segment: Segment) -> Segment:
        """Write a segment down; it gets its number."""
        segment["id"] = len(self.segments)
        self.segments.append(segment)
        return segment

    def add_held(self) -> list[Segment]:
        """Keep the segments that wait for those of an earlier part, which will not come any more; return them.

        After an interruption: the parts of a sound that are decoded together do not end in their order.
        """
        held = [segment for number in sorted(self._held) for segment in self._held.pop(number)]
        return [self.add_segment(segment) for segment in held]

    def _sequential(self, generator: np.random.Generator) -> SequentialTranscription:
        return SequentialTranscription(self._model, self._mel, self._options, self.language, generator, self._report)

    # ---------------------------------------------------------------------------------- around it

    def _detect_language(self) -> tuple[str, dict[str, float] | None]:
        """The language asked for, or the one heard in the first window or windows, with what each language got."""
        tokenizer, asked = self._model.tokenizer, self._options.decoding_options[0].language
        if asked is not None or not self._model.is_multilingual:
            return tokenizer.language_code("en" if asked is None else asked), None
        starts = range(self._first, max(self._first + 1, self._mel.content_frames), N_FRAMES)
        starts = starts[: self._options.language_detection_windows]
        heard = [self._model.detect_language(self._mel.read(start, start + N_FRAMES))[1] for start in starts]
        mean = {code: sum(found[code] for found in heard) / len(heard) for code in heard[0]}
        return max(mean, key=mean.__getitem__), mean

    def _report(self, frames: int) -> None:
        """Tell that so many frames more of the clips are done."""
        self._done += frames
        if self._progress is not None:
            # In proportion, because a clip need not begin and end where a frame does.
            self._progress(self._clip_seconds * (self._done / self._clip_frames), self._clip_seconds)


def transcribe_batched(
    model: SpeechModel, audios: Iterable[AudioSource], options: TranscriptionOptions, batch_size: int, seed: int
) -> Iterator[Transcription | MinWhisperError]:
    """Transcribe sounds whose windows are decoded together: each one's finished transcription, or why it failed.

    They come in the order of ``audios``, from which each is taken when there is room for it.
    """
    found: dict[int, Transcription | MinWhisperError] = {}

    def job(number: int, audio: AudioSource) -> TranscriptionJob:
        try:
            generator = np.random.default_rng(seed)  # what a sound becomes does not depend on the others
            found[number] = running = Transcription(model, audio, options, generator=generator, checked=True)
            with running:
                yield from running.run()
        except MinWhisperError as error:
            found[number] = error
        except MemoryError:
            found[number] = OutOfMemoryError(OUT_OF_MEMORY)

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
            whose = found[number]
            assert isinstance(whose, Transcription)  # it has just said something
            whose.add_segment(segment)
        while turn in ended:
            yield found.pop(turn)
            turn += 1
