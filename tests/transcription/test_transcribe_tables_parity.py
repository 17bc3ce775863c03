"""The loop over windows compared with openai-whisper's: both get the same scripted output, window by window."""

import sys
import warnings
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle, pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minwhisper.tokenizer.tokenizer import Tokenizer
from minwhisper.transcription import sequential as sequential
from minwhisper.transcription import transcribe as chapter
from minwhisper.transcription.words import WordTiming
from scripted import HOP, NumberedSpectrogram, OutputTokens, Scripted, output, quiet
from transcripts import check_same
from vocabularies import installed

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
whisper = pytest.importorskip("whisper")
timing = pytest.importorskip("whisper.timing")
decoding = pytest.importorskip("whisper.decoding")
LOOP = sys.modules["whisper.transcribe"]  # whisper.transcribe is the function

PROMPT = 223  # tokens of a prompt that the decoder uses
MOST = 120  # maximum number of calls of decode in an example
TEXTS = (" one", " two", " three", ",", ".", " (", " what", "?", " ")


class Stuck(Exception):
    """Raised if openai-whisper repeats a window forever, or an example takes too long."""


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(*installed("base"))


@dataclass
class Theirs:
    """The model for openai-whisper's loop: its output is scripted, and it records its calls."""

    script: Any  # (options, window) -> OutputTokens
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    dims = SimpleNamespace(n_mels=80, n_audio_ctx=1500, n_text_ctx=448)
    device = torch.device("cpu")
    is_multilingual = True
    num_languages = 99

    def decode(self, segment: Any, options: Any) -> Any:
        window = int(segment[0, 0]) - 1, int((segment[0] > 0).sum())
        call = (*window, options.temperature, list(options.prompt)[-PROMPT:])
        first_try = not self.calls or options.temperature <= self.calls[-1][2]
        if len(self.calls) >= MOST or (first_try and self.calls and self.calls[-1][:2] == window):
            raise Stuck
        self.calls.append(call)
        answer = self.script(options, window)
        tokens = answer.tokens(tokenizer())
        return decoding.DecodingResult(
            segment, options.language, tokens=tokens, avg_logprob=answer.average, no_speech_prob=answer.no_speech,
            temperature=options.temperature, compression_ratio=answer.ratio,
        )  # fmt: skip


def in_turn(answers: list[Any]) -> Any:
    """Return a script that gives one answer after another, and starts again after the last."""
    repeated = cycle(answers)
    return lambda _options, _window: next(repeated)


class Aligner:
    """Made-up words: each token is a word, with the same random times and probabilities for both."""

    def __init__(self, seed: int, kind: type) -> None:
        self.seed, self.kind, self.count = seed, kind, 0

    def __call__(self, tokens: list[int], frames: int) -> list[Any]:
        self.count += 1
        random = np.random.default_rng([self.seed, self.count])
        last = frames // 2
        if random.random() < 0.3:  # so that pauses are long enough to be silence
            last = random.integers(0, last + 1)
        times = np.sort(random.integers(0, last + 1, len(tokens) + 1)) / 50
        if random.random() < 0.3:
            times = np.sort(np.concatenate([times[:1], times[-1] - random.integers(0, 40, len(tokens)) / 50]).clip(0))
        doubtful = random.choice([0.0, 0.3, 1.0])
        return [
            self.kind(
                word=tokenizer().decode([token]),
                tokens=(self.kind is WordTiming and (token,)) or [token],
                start=float(begin),
                end=float(end),
                probability=0.1 if random.random() < doubtful else 0.9,
            )
            for token, begin, end in zip(tokens, times, times[1:], strict=False)
        ]


def numbered_mel(frames: int) -> Any:
    mel = NumberedSpectrogram(SimpleNamespace(size=frames * HOP), 80).read(0, frames + 3000)
    return torch.from_numpy(mel)


def theirs(script: Any, frames: int, seed: int = 0, **options: Any) -> tuple[Any, Any]:
    """Return openai-whisper's transcript and its calls of the model. Raises Stuck if it would not end."""
    model, aligner = Theirs(script), Aligner(seed, timing.WordTiming)

    def align(_model, _tokenizer, text_tokens, _mel, num_frames, **_options):
        return aligner(text_tokens, num_frames) if text_tokens else []

    with (
        patch.object(LOOP, "log_mel_spectrogram", lambda *_args, **_named: numbered_mel(frames)),
        patch.object(timing, "find_alignment", align),
    ):
        return whisper.transcribe(model, np.zeros(0, np.float32), fp16=False, **options), model.calls


def ours(script: Any, frames: int, seed: int = 0, **options: Any) -> tuple[Any, Any]:
    """Return this package's transcript and its calls of the model."""
    model = Scripted(script, tokenizer())
    aligner = Aligner(seed, WordTiming)

    def align(tokens, _features, count, **_named):
        return aligner(list(tokens), count) if tokens else []

    with (
        patch.object(chapter, "Spectrogram", NumberedSpectrogram),
        patch.object(sequential, "find_alignment", align),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        result = model.transcribe(quiet(frames * HOP), **options)
    calls = [
        (*window, options.temperature, list(options.prompt)[-PROMPT:])
        for window, options in zip(model.decoded, model.calls, strict=True)
    ]
    return result, calls


# ------------------------------------------------------------------------------------------ made-up scripts


@st.composite
def answer(draw: st.DrawFn) -> OutputTokens:
    """Draw the tokens of a window: segments, in order or not, open or closed, or any mixture of text and timestamps."""
    t = tokenizer()
    text = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=5).map("".join)
    steps = st.integers(0, 1500) | st.sampled_from([0, 1, 50, 500, 1400, 1500])
    parts: list[str | float] = []
    if draw(st.booleans()):
        now = 0
        for _ in range(draw(st.integers(0, 4))):
            begin = min(1500, now + draw(st.integers(0, 200)))
            now = min(1500, begin + draw(st.integers(0, 600)))
            parts += [begin / 50, draw(text), now / 50]
        if draw(st.booleans()):
            parts += [now / 50, *draw(st.lists(text, max_size=1))]
    else:
        parts = draw(st.lists(text | steps.map(lambda step: step / 50), max_size=6))
    tokens = output(*parts).tokens(t)
    times = [token >= t.timestamp_begin for token in tokens]
    pair = any(one and other for one, other in pairwise(times))
    # Text before the first timestamp starts with the window here, but at a negative time there: it has its own test.
    assume(not (pair and not times[0]))
    good = draw(st.booleans())
    return OutputTokens(
        tuple(tokens),
        -0.3 if good else draw(st.sampled_from([-0.3, -0.9, -1.0, -1.01, -2.0])),
        0.1 if good else draw(st.sampled_from([0.1, 0.6, 0.61, 0.95])),
        1.5 if good else draw(st.sampled_from([1.5, 2.4, 2.5])),
    )


ANSWERS = st.lists(answer(), min_size=1, max_size=6)
FRAMES = st.integers(1, 16000) | st.sampled_from([1, 2999, 3000, 3001, 3002, 6000])
TEMPERATURES = st.sampled_from([(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0.0,), (0.5,), (0.6,), (0.0, 0.6), (0.2, 0.5)])
PROMPTS = st.sampled_from([None, "", " Say so. ", "one two three", " a" * 150, " a" * 221, " a" * 222, " a" * 240])


@st.composite
def clips_of(draw: st.DrawFn, frames: int) -> list[float]:
    """Draw clips in order that do not overlap, in seconds; the last end may be omitted."""
    bounds = sorted(draw(st.lists(st.integers(0, frames), max_size=5, unique=True)))
    if len(bounds) % 2 and bounds[-1] == frames:
        bounds.pop()
    return [bound / 100 for bound in bounds]


@st.composite
def loop_options(draw: st.DrawFn, frames: int) -> dict[str, Any]:
    initial, words = draw(PROMPTS), draw(st.booleans())
    carry = initial is not None and draw(st.booleans())
    # The carried prompt leaves room for at least one token: otherwise openai-whisper uses the whole history.
    assume(not carry or len(tokenizer().encode(" " + initial.strip())) < PROMPT)
    return {
        "language": "en",
        "clip_timestamps": draw(clips_of(frames)),
        "temperature": draw(TEMPERATURES),
        "compression_ratio_threshold": draw(st.sampled_from([2.4, None])),
        "logprob_threshold": draw(st.sampled_from([-1.0, None])),
        "no_speech_threshold": draw(st.sampled_from([0.6, None])),
        "condition_on_previous_text": draw(st.booleans()),
        "initial_prompt": initial,
        "carry_initial_prompt": carry,
        "word_timestamps": words,
        # Times are multiples of 0.01 s: no silence is exactly as long as a threshold, where rounding would decide.
        "hallucination_silence_threshold": draw(st.sampled_from([None, 0.0, 0.505, 2.005, 8.005])) if words else None,
    }


@settings(deadline=None, max_examples=250)
@given(data=st.data(), answers=ANSWERS, frames=FRAMES, seed=st.integers(0, 2**32 - 1))
def test_windows_fallbacks_prompts_and_words_are_the_same(data, answers, frames, seed):
    options = data.draw(loop_options(frames))
    try:
        expected, expected_calls = theirs(in_turn(answers), frames, seed, **options)
    except Stuck:
        assume(False)
    result, calls = ours(in_turn(answers), frames, seed, **options)
    assert calls == expected_calls
    check_same(result, expected, times=1e-9)


# ------------------------------------------------------------------------------------------ where they differ


def test_a_carried_prompt_of_full_length_leaves_no_history():
    script = [output(" one")]
    options = {"language": "en", "initial_prompt": " a" * 223, "carry_initial_prompt": True}
    (_, expected), (_, calls) = theirs(in_turn(script), 6000, **options), ours(in_turn(script), 6000, **options)
    prompt = tokenizer().encode(" a") * 223
    assert [call[3] for call in calls] == [prompt, prompt]
    assert expected[1][3] == [*prompt[1:], *tokenizer().encode(" one")]
