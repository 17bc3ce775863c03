"""A model with scripted output, to test the code around the model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st

from minwhisper.decoding.decode import DecodingResult, WindowRequest
from minwhisper.decoding.options import DecodingOptions
from minwhisper.errors import AudioError
from minwhisper.model.config import PUBLISHED, WhisperConfig
from minwhisper.model.engine import PlainEngine
from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.transcription import transcribe as chapter
from minwhisper.whisper import Whisper
from vocabularies import made_up_tokenizer

RATE = 16000
HOP = 160  # samples per frame
GAP = np.zeros(RATE // 4, np.float32)
JFK = "And so my fellow Americans ask not what your country can do for you ask what you can do for your country"
ENGLISH, MULTILINGUAL = 51864, 51865  # vocabularies
KEYS = [  # of a segment, in openai-whisper's order
    *("id", "seek", "start", "end", "text", "tokens", "temperature"),
    *("avg_logprob", "compression_ratio", "no_speech_prob"),
]


@dataclass(frozen=True)
class Output:
    """The output of a scripted model for a window: texts, and timestamps in seconds from the window's start."""

    parts: tuple[str | float, ...] = ()
    average: float = -0.1
    no_speech: float = 0.0
    ratio: float = 1.0

    def tokens(self, tokenizer: Tokenizer) -> list[int]:
        found: list[int] = []
        for part in self.parts:
            found += tokenizer.encode(part) if isinstance(part, str) else [timestamp(tokenizer, part)]
        return found


@dataclass(frozen=True)
class OutputTokens:
    """Output that consists of arbitrary token ids."""

    ids: tuple[int, ...]
    average: float = -0.1
    no_speech: float = 0.0
    ratio: float = 1.0

    def tokens(self, _tokenizer: Tokenizer) -> list[int]:
        return list(self.ids)


def output(*parts: str | float, **scores: float) -> Output:
    return Output(parts, **scores)


def timestamp(tokenizer: Tokenizer, seconds: float) -> int:
    return tokenizer.timestamp_begin + round(seconds / 0.02)


class NumberedSpectrogram:
    """A fake spectrogram: every frame holds its own number, counted from 1, negative in the padding."""

    def __init__(self, audio: Any, n_mels: int) -> None:
        self.content_frames = audio.size // HOP
        self.n_mels = n_mels

    def clear_cache(self) -> None:
        self.forgotten = True

    def read(self, first: int, last: int) -> np.ndarray:
        assert 0 <= first <= last <= self.content_frames + 3000
        numbers = np.arange(first, last, dtype=np.float32) + 1
        return np.tile(np.where(numbers > self.content_frames, -numbers, numbers), (self.n_mels, 1))


@dataclass
class Scripted:
    """A model without weights that returns scripted output and records the calls.

    The script is a list with the output (or exception) for each call of ``decode_window``, or a function of (options,
    window).
    """

    script: Iterable[Any] | Callable[..., Any]
    tokenizer: Tokenizer = field(default_factory=lambda: made_up_tokenizer(ENGLISH))
    language_probs: list[dict[str, float]] = field(default_factory=list)  # per window
    alignment_heads: tuple[tuple[int, int], ...] = ((0, 0),)
    windows: list[tuple[int, int]] = field(default_factory=list)  # encoded: first frame, frames of audio
    calls: list[DecodingOptions] = field(default_factory=list)  # options of decode_window
    decoded: list[tuple[int, int]] = field(default_factory=list)  # window of each of these calls
    generators: list[np.random.Generator | None] = field(default_factory=list)
    detected_at: list[int] = field(default_factory=list)  # first frames of detect_language

    name: ClassVar[str] = "scripted"
    device: ClassVar[str] = "cpu"
    stream = Whisper.stream
    transcribe = Whisper.transcribe
    engine: ClassVar[PlainEngine] = PlainEngine({"decoder": {}}, PUBLISHED["tiny"])  # never computes

    def __post_init__(self) -> None:
        if not callable(self.script):
            self.script = iter(self.script)

    @property
    def config(self) -> WhisperConfig:
        return PUBLISHED["tiny" if self.is_multilingual else "tiny.en"]

    @property
    def is_multilingual(self) -> bool:
        return self.tokenizer.is_multilingual

    def encode(self, mel: np.ndarray) -> np.ndarray:
        assert mel.shape == (1, 80, 3000)
        size = int((mel[0, 0] > 0).sum())
        assert not mel[0, :, size:].any()
        self.windows.append((int(mel[0, 0, 0]) - 1, size))
        return np.broadcast_to(np.float32(0), (1, 1500, 384))

    def decode_window(self, request: WindowRequest) -> DecodingResult:
        (features,), options = request.features, request.options
        assert features.shape == (1500, 384)
        self.calls.append(options)
        self.decoded.append(self.windows[-1] if self.windows else (0, 0))
        self.generators.append(request.generator)
        result = self.script(options, self.windows[-1]) if callable(self.script) else next(self.script)
        if isinstance(result, Exception):
            raise result
        tokens = result.tokens(self.tokenizer)
        return DecodingResult(
            features,
            options.language,
            tokens=tokens,
            text=self.tokenizer.decode(tokens).strip(),
            avg_logprob=result.average,
            no_speech_prob=result.no_speech,
            temperature=options.temperature,
            compression_ratio=result.ratio,
        )

    def detect_language(self, mel: np.ndarray) -> tuple[int, dict[str, float]]:
        assert mel.shape == (80, 3000)
        self.detected_at.append(int(abs(mel[0, 0])) - 1)
        probabilities = dict.fromkeys(self.tokenizer.languages, 0.0) | self.language_probs[len(self.detected_at) - 1]
        return self.tokenizer.language_token(max(probabilities, key=probabilities.get)), probabilities

    # ---- for assertions

    @property
    def seeks(self) -> list[int]:
        return [seek for seek, _ in self.windows]

    @property
    def prompts(self) -> list[str]:
        """Return the prompt of each call as text."""
        return [self.tokenizer.decode_with_timestamps(options.prompt) for options in self.calls]


def quiet(samples: int) -> np.ndarray:
    return np.zeros(samples, np.float32)


def start(model: Scripted, frames: int, *, more: int = 0, **options: Any) -> chapter.Transcription:
    """Start a transcription of this many frames and ``more`` samples, fewer than a frame."""
    with patch.object(chapter, "Spectrogram", NumberedSpectrogram):
        return model.stream(quiet(frames * HOP + more), **options)


def is_closed(audio: Any) -> bool:
    """Return whether an open recording has been closed."""
    try:
        audio.read(0, 0)
    except AudioError:
        return True
    return False


def run(model: Scripted, frames: int, **options: Any) -> dict[str, Any]:
    """Transcribe this many frames."""
    with start(model, frames, **options) as running:
        list(running)
        return running.transcript


def places(result: dict[str, Any]) -> list[tuple[int, float, float, str]]:
    """Return (first frame of the window, start, end, text) of each segment."""
    return [(s["seek"], round(s["start"], 6), round(s["end"], 6), s["text"]) for s in result["segments"]]


# ------------------------------------------------------------------------------------------ common outputs

FINE, REPETITIVE, IMPROBABLE = {}, {"ratio": 2.41}, {"average": -1.01}
ONE = output(0.0, " one", 5.0, 5.0, " two", 29.0)
ONE_PROMPT = "<|0.00|> one<|5.00|><|5.00|> two<|29.00|>"
THREE = output(0.0, " three", 29.0)
THREE_PROMPT = "<|0.00|> three<|29.00|>"
SILENT = output(0.0, " you", 5.0, average=-1.5, no_speech=0.9)


def prompt_of(count: int) -> str:
    """Return a text of this many tokens."""
    text = "" if count == 1 else "a" + " a" * (count // 2 - 1) + "!" * (count % 2)  # a space is a token of its own here
    assert len(made_up_tokenizer(ENGLISH).encode(" " + text)) == count
    return text


@st.composite
def any_tokens(draw: st.DrawFn) -> OutputTokens:
    first = made_up_tokenizer(ENGLISH).timestamp_begin
    kinds = st.integers(0, 300) | st.integers(first, first + 1500) | st.sampled_from([first, first + 1, first - 1])
    return OutputTokens(
        tuple(draw(st.lists(kinds, max_size=6))),
        draw(st.sampled_from([-0.1, -1.5, float("nan")])),
        draw(st.sampled_from([0.0, 0.9])),
        draw(st.sampled_from([1.0, 3.0])),
    )
