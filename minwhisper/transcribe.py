"""Chapter 9. From a whole sound to segments of text: windows of 30 s, one after another.

The model hears 30 s at a time. It says where each segment begins and ends, so the next window starts where the last
complete segment ended, and no word is cut in half. Each window is decoded on its own.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from .audio import HOP_LENGTH, N_FRAMES, N_SAMPLES, SAMPLE_RATE, AudioSource, load_audio, pad_or_trim
from .backend import Array
from .mel import log_mel_spectrogram
from .search import DecodingOptions, DecodingResult, greedy, rules_for
from .special_tokens import SECONDS_A_STEP

if TYPE_CHECKING:
    from .model import Whisper

FRAMES_A_STEP = round(SECONDS_A_STEP * SAMPLE_RATE / HOP_LENGTH)  # 2 frames of the spectrogram for one timestamp step
NO_SPEECH_THRESHOLD = 0.6  # above this probability a window is silence,
LOGPROB_THRESHOLD = -1.0  # unless the text is likelier than this a token


class Segment(TypedDict):
    """A stretch of text with its times. Keys are openai-whisper's."""

    id: int
    seek: int  # first frame of the window it was heard in
    start: float  # seconds
    end: float
    text: str
    tokens: list[int]  # its timestamps included
    temperature: float
    avg_logprob: float  # of the window
    compression_ratio: float  # of the window's text: high for one that repeats itself
    no_speech_prob: float  # of the window


class Transcript(TypedDict):
    """What :meth:`Whisper.transcribe` returns."""

    text: str
    segments: list[Segment]
    language: str  # a code


Progress = Callable[[float, float], None]
"""Called with the seconds done and the seconds in all."""


class Piece(NamedTuple):
    """Part of a window: its tokens, and where it lies in frames of the spectrogram, 0.01 s each."""

    start: int
    end: int
    tokens: tuple[int, ...]


def transcribe(
    model: "Whisper", audio: AudioSource, options: DecodingOptions, progress: Progress | None = None
) -> Transcript:
    """Transcribe a sound of any length. See :meth:`Whisper.transcribe`."""
    rules = rules_for(options, model.tokenizer)
    # Refuse a language or task that the model does not have before any work; English stands in for one to be heard.
    model.tokenizer.prompt(options.language or "en", options.task, timestamps=True)
    samples = load_audio(audio)
    # 30 s of silence behind the sound give its last frames the neighbours they would have had.
    mel = log_mel_spectrogram(samples, model.config.num_mel_bins, padding=N_SAMPLES)  # (M, frames)
    language = _language(model, mel, options)
    prompt = model.tokenizer.prompt(language, options.task, timestamps=not options.without_timestamps)

    segments: list[Segment] = []
    content = mel.shape[1] - N_FRAMES
    seek = 0
    while seek < content:
        size = min(N_FRAMES, content - seek)
        # Beyond the sound a window is filled with zeros, as in training; in a log-mel, zero is not silence.
        features = model.encode(pad_or_trim(mel[:, seek : seek + size], N_FRAMES)[None])
        decoded = greedy(
            features,
            prompt,
            model.weights["decoder"],
            model.config,
            rules=rules,
            tokenizer=model.tokenizer,
            most=options.sample_len,
        )
        if is_silence(decoded):
            advance = size
        else:
            pieces, advance = split_window(decoded.tokens, model.tokenizer.timestamp_begin, size)
            ratio = compression_ratio(model.tokenizer.decode(decoded.tokens).strip())
            for piece in pieces:
                segments.append(_segment(model, len(segments), seek, piece, decoded, ratio))
        seek += advance
        if progress is not None:
            # What is left of a frame at the end is done with the last one.
            done = samples.size if seek == content else seek * HOP_LENGTH
            progress(done / SAMPLE_RATE, samples.size / SAMPLE_RATE)
    tokens = [token for segment in segments for token in segment["tokens"]]
    return {"text": model.tokenizer.decode(tokens), "segments": segments, "language": language}


def is_silence(decoded: DecodingResult) -> bool:
    """Whether nobody speaks in the window, whatever text came out of it."""
    return decoded.no_speech_prob > NO_SPEECH_THRESHOLD and decoded.avg_logprob <= LOGPROB_THRESHOLD


def split_window(tokens: Sequence[int], first: int, size: int) -> tuple[list[Piece], int]:
    """Cut a window's tokens where two timestamps meet, and say how many frames to move on.

    ``first`` is the id of ``<|0.00|>``, ``size`` the frames of sound in the window. With no two timestamps side by
    side the window is one segment. A segment that was opened and not closed is left to the next window, which starts
    where the last complete one ended; only if a single timestamp closes the window is all of it done.
    Times may lie behind the sound, which the model hears followed by zeros; the way on is from 1 to ``size``.
    """

    def frame(token: int) -> int:
        # A window decoded without times can begin with text all the same: that is heard from its start.
        return max(0, token - first) * FRAMES_A_STEP

    cuts = [i + 1 for i in range(len(tokens) - 1) if tokens[i] >= first and tokens[i + 1] >= first]
    closed = len(tokens) >= 2 and tokens[-2] < first <= tokens[-1]
    if not cuts:
        times = [frame(token) for token in tokens if token >= first]
        end = times[-1] if times and times[-1] else size
        return [Piece(0, end, tuple(tokens))], size
    if closed:
        cuts.append(len(tokens))
    pieces = []
    for start, end in zip([0, *cuts], cuts, strict=False):
        part = tuple(tokens[start:end])
        pieces.append(Piece(frame(part[0]), frame(part[-1]), part))
    return pieces, size if closed else min(max(FRAMES_A_STEP, pieces[-1].end), size)


def compression_ratio(text: str) -> float:
    """How many times shorter zlib makes a text: above 2.4 or so it repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _language(model: "Whisper", mel: Array, options: DecodingOptions) -> str:
    """The language asked for, or the one heard in the first 30 s."""
    if options.language is not None:
        return model.tokenizer.language_code(options.language)
    if not model.is_multilingual:
        return "en"
    _, probabilities = model.detect_language(pad_or_trim(mel, N_FRAMES))
    return max(probabilities, key=probabilities.__getitem__)


def _segment(model: "Whisper", number: int, seek: int, piece: Piece, decoded: DecodingResult, ratio: float) -> Segment:
    """A piece of a window with its text and its place in the whole sound."""
    tokenizer = model.tokenizer
    text = tokenizer.decode(token for token in piece.tokens if token < tokenizer.eot)
    empty = piece.start == piece.end or not text.strip()
    return {
        "id": number,
        "seek": seek,
        "start": (seek + piece.start) * HOP_LENGTH / SAMPLE_RATE,
        "end": (seek + piece.end) * HOP_LENGTH / SAMPLE_RATE,
        "text": "" if empty else text,
        "tokens": [] if empty else list(piece.tokens),
        "temperature": 0.0,  # greedy
        "avg_logprob": decoded.avg_logprob,
        "compression_ratio": ratio,
        "no_speech_prob": decoded.no_speech_prob,
    }
