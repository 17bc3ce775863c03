"""Chapter 10, windows: what a window is told of what came before, whether its outcome will do, and what is kept.

Windows are decoded one after another, and what one says is part of what the next is asked. So an error can spread: a
text that repeats itself is continued. That is why each outcome is judged, and a doubtful one is not passed on.

Walkthrough: section 13.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self

from ..audio.load import FRAMES_PER_SECOND
from ..checkpoints.configuration import WINDOW_POSITIONS, short_window_limits
from ..decoding.decode import DecodingResult, check_supported
from ..errors import ConfigError, OptionError
from .alignment import check_alignment_heads
from .model import SpeechModel
from .options import TranscriptionOptions
from .segments import Segment, TimedTokens

PROMPT_RESET_TEMPERATURE = 0.5  # text drawn at a higher one is not told to the next window


class Window(NamedTuple):
    """A stretch of the spectrogram that is decoded at once, in frames of 0.01 s."""

    seek: int  # where it starts
    size: int  # frames of sound in it, at most 3,000


# --- Before: what a window is told ----------------------------------------------------------------------------------


class Prompt:
    """What windows are told of what came before: the text so far, after an initial prompt if there is one."""

    def __init__(self, carried: Sequence[int], history: Sequence[int], room: int, condition: bool) -> None:
        self._carried = list(carried)  # at the start of every window's prompt
        self._history = list(history)
        self._room = room  # tokens of history that a window is told
        self._condition = condition

    @classmethod
    def begin(cls, options: TranscriptionOptions, model: SpeechModel) -> Self:
        """Before the first window of a sound."""
        tokens, room = initial_prompt_tokens(options, model), max_prompt_tokens(model)
        if options.carry_initial_prompt:
            return cls(tokens, (), room - len(tokens), options.condition_on_previous_text)
        return cls((), tokens, room, options.condition_on_previous_text)

    def tokens(self) -> list[int]:
        """What the next window is told."""
        return self._carried + (self._history[-self._room :] if self._room else [])

    def add(self, segments: Sequence[Segment], temperature: float) -> None:
        """Take in a window's text; or forget all, if windows are on their own or the text is doubtful."""
        self._history += [token for segment in segments for token in segment["tokens"]]
        if not self._condition or temperature > PROMPT_RESET_TEMPERATURE:
            self._history.clear()


def max_prompt_tokens(model: SpeechModel) -> int:
    """How many tokens a window can be told of what came before: half of the positions, less <|startofprev|>."""
    return model.config.max_target_positions // 2 - 1


def initial_prompt_tokens(options: TranscriptionOptions, model: SpeechModel) -> list[int]:
    """The initial prompt as it is told, none if there is none."""
    return [] if options.initial_prompt is None else model.tokenizer.encode(" " + options.initial_prompt.strip())


def check_options(options: TranscriptionOptions, model: SpeechModel, stacklevel: int = 4) -> None:
    """Refuse what this model cannot do before any work. Raises errors of :mod:`minwhisper.errors`.

    Warnings name the line that many calls above, by default the one that calls :meth:`Whisper.stream`.
    """
    if model.config.max_source_positions < WINDOW_POSITIONS:
        raise ConfigError(f"{model.name}: {short_window_limits(model.config)}; transcribe with a published model")
    first = options.decoding_options[0]
    # A prefix has to fit behind the longest prompt that a window may get.
    prompt = [0] * max_prompt_tokens(model) if options.condition_on_previous_text else options.initial_prompt
    check_supported(replace(first, prompt=prompt), model.tokenizer, model.config)
    room, count = max_prompt_tokens(model), len(initial_prompt_tokens(options, model))
    if count > room:
        if options.carry_initial_prompt:
            raise OptionError(f"carry_initial_prompt: expected an initial_prompt of at most {room} tokens, got {count}")
        warnings.warn(f"initial_prompt: of its {count} tokens only the last {room} are used", stacklevel=stacklevel)
    if options.word_timestamps:
        check_alignment_heads(model.alignment_heads, model.name)
        most = model.config.max_target_positions - 5  # language, task, form and the end take the others
        if (first.sample_len or 0) > most:
            raise OptionError(f"sample_len: expected at most {most} with word_timestamps, got {first.sample_len}")
        if first.task == "translate":
            warnings.warn(
                "word_timestamps: words of a translation may not be where their sound is", stacklevel=stacklevel
            )


# --- After: whether it will do, and what is kept --------------------------------------------------------------------


def needs_fallback(decoded: DecodingResult, options: TranscriptionOptions) -> bool:
    """Whether a window should be decoded again: it repeats itself or is improbable, and is not silence."""
    repeats = exceeds(decoded.compression_ratio, options.compression_ratio_threshold)
    improbable = options.logprob_threshold is not None and decoded.avg_logprob < options.logprob_threshold
    silent = improbable and exceeds(decoded.no_speech_prob, options.no_speech_threshold)
    return (repeats or improbable) and not silent


def is_silence(decoded: DecodingResult, options: TranscriptionOptions) -> bool:
    """Whether nobody speaks in the window, whatever text came out of it."""
    return exceeds(decoded.no_speech_prob, options.no_speech_threshold) and not exceeds(
        decoded.avg_logprob, options.logprob_threshold
    )


def exceeds(value: float, threshold: float | None) -> bool:
    """Whether there is a threshold and the value is above it."""
    return threshold is not None and value > threshold


def make_segment(piece: TimedTokens, window: Window, decoded: DecodingResult, model: SpeechModel) -> Segment:
    """A piece of a window with its text and its place in the whole sound."""
    offset = window.seek / FRAMES_PER_SECOND
    return {
        "id": 0,  # given when it is final
        "seek": window.seek,
        "start": offset + piece.start,
        "end": offset + piece.end,
        "text": model.tokenizer.decode(token for token in piece.tokens if token < model.tokenizer.eot),
        "tokens": list(piece.tokens),
        "temperature": decoded.temperature,
        "avg_logprob": decoded.avg_logprob,
        "compression_ratio": decoded.compression_ratio,
        "no_speech_prob": decoded.no_speech_prob,
    }


def clear_if_empty(segment: Segment) -> Segment:
    """The segment, without text, tokens and words if it has no length or no text."""
    if segment["start"] != segment["end"] and segment["text"].strip():
        return segment
    cleared: Segment = {**segment, "text": "", "tokens": []}
    if "words" in segment:
        cleared["words"] = []
    return cleared
