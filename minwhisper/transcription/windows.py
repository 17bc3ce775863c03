"""Chapter 10, windows: the prompt of a window, the checks of its result, and its segments.

Each window is prompted with the text of the previous ones. This lets errors spread: the model continues a text that
repeats itself. That is why each result is checked, and a doubtful text does not become a prompt.

Walkthrough: section 13.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self

from ..audio.load import FRAMES_PER_SECOND
from ..audio.speech import load_silero
from ..checkpoints.configuration import WINDOW_POSITIONS, short_window_limits
from ..decoding.decode import DecodingResult, check_supported, warn_of_prefix
from ..errors import ConfigError, OptionError
from .alignment import check_alignment_heads
from .model import SpeechModel
from .options import TranscriptionOptions
from .segments import Segment, TimedTokens

PROMPT_RESET_TEMPERATURE = 0.5  # text sampled above it is not used as a prompt


class Window(NamedTuple):
    """A part of the spectrogram that is decoded at once, in frames of 0.01 s."""

    seek: int  # its first frame
    size: int  # frames of audio in it, at most 3,000; the rest is padding


# --- The prompt -----------------------------------------------------------------------------------------------------


class Prompt:
    """The prompt of successive windows: the initial prompt, if there is one, and the text so far."""

    def __init__(self, carried: Sequence[int], history: Sequence[int], max_history: int, condition: bool) -> None:
        self._carried = list(carried)  # tokens at the start of every prompt
        self._history = list(history)
        self._max_history = max_history  # maximum number of tokens of the history in a prompt
        self._condition = condition

    @classmethod
    def initial(cls, options: TranscriptionOptions, model: SpeechModel) -> Self:
        """Return the prompt of the first window."""
        tokens, max_tokens = initial_prompt_tokens(options, model), max_prompt_tokens(model)
        if options.carry_initial_prompt:
            return cls(tokens, (), max_tokens - len(tokens), options.condition_on_previous_text)
        return cls((), tokens, max_tokens, options.condition_on_previous_text)

    def tokens(self) -> list[int]:
        """Return the tokens of the next window's prompt."""
        return self._carried + (self._history[-self._max_history :] if self._max_history else [])

    def add(self, segments: Sequence[Segment], temperature: float) -> None:
        """Append a window's text to the history; or clear it, if the text is doubtful or windows are independent."""
        self._history += [token for segment in segments for token in segment["tokens"]]
        if not self._condition or temperature > PROMPT_RESET_TEMPERATURE:
            self._history.clear()


def max_prompt_tokens(model: SpeechModel) -> int:
    """Return the length of the longest prompt: half of the positions, without <|startofprev|>."""
    return model.config.max_target_positions // 2 - 1


def initial_prompt_tokens(options: TranscriptionOptions, model: SpeechModel) -> list[int]:
    """Return the tokens of the initial prompt; an empty list if there is no such prompt."""
    return [] if options.initial_prompt is None else model.tokenizer.encode(" " + options.initial_prompt.strip())


def check_options(options: TranscriptionOptions, model: SpeechModel, stacklevel: int = 4) -> None:
    """Reject options that this model does not support, before any work.

    Raises ``ConfigError`` for a model with short windows, ``OptionError`` for a prompt or ``sample_len`` that is too
    long or a model without alignment heads, and the errors of ``load_silero`` and ``check_supported``. Warnings name
    the line ``stacklevel`` calls above, by default the one that calls ``Whisper.stream``.
    """
    if model.config.max_source_positions < WINDOW_POSITIONS:
        raise ConfigError(f"{model.name}: {short_window_limits(model.config)}; transcribe with a published model")
    first = options.decoding_options[0]
    # A prefix must fit after the longest prompt that a window may get.
    prompt = [0] * max_prompt_tokens(model) if options.condition_on_previous_text else options.initial_prompt
    check_supported(replace(first, prompt=prompt), model.tokenizer, model.config)
    warn_of_prefix(first, stacklevel)
    if options.vad_filter == "silero":
        load_silero()  # raises if it is not installed
    limit, count = max_prompt_tokens(model), len(initial_prompt_tokens(options, model))
    if count > limit:
        if options.carry_initial_prompt:
            raise OptionError(
                f"carry_initial_prompt: expected an initial_prompt of at most {limit} tokens, got {count}"
            )
        warnings.warn(f"initial_prompt: only the last {limit} of its {count} tokens are used", stacklevel=stacklevel)
    if options.word_timestamps:
        check_alignment_heads(model.alignment_heads, model.name)
        limit = model.config.max_target_positions - 5  # 5 hold start, language, task, notimestamps, end
        if (first.sample_len or 0) > limit:
            raise OptionError(f"sample_len: expected at most {limit} with word_timestamps, got {first.sample_len}")
        if first.task == "translate":
            warnings.warn("word_timestamps: the times of words may be wrong in a translation", stacklevel=stacklevel)


# --- The result -----------------------------------------------------------------------------------------------------


def needs_fallback(decoded: DecodingResult, options: TranscriptionOptions) -> bool:
    """Return whether to decode a window again: its text repeats itself or is improbable, and it is not silence."""
    repeats = exceeds(decoded.compression_ratio, options.compression_ratio_threshold)
    improbable = options.logprob_threshold is not None and decoded.avg_logprob < options.logprob_threshold
    silent = improbable and exceeds(decoded.no_speech_prob, options.no_speech_threshold)
    return (repeats or improbable) and not silent


def is_silence(decoded: DecodingResult, options: TranscriptionOptions) -> bool:
    """Return whether a window counts as silence, so that its text is dropped."""
    return exceeds(decoded.no_speech_prob, options.no_speech_threshold) and not exceeds(
        decoded.avg_logprob, options.logprob_threshold
    )


def exceeds(value: float, threshold: float | None) -> bool:
    """Return whether there is a threshold and the value is above it."""
    return threshold is not None and value > threshold


def make_segment(part: TimedTokens, window: Window, decoded: DecodingResult, model: SpeechModel) -> Segment:
    """Make a segment of part of a window, with its text and its times in the whole recording."""
    offset = window.seek / FRAMES_PER_SECOND
    return {
        "id": 0,  # set when it is final
        "seek": window.seek,
        "start": offset + part.start,
        "end": offset + part.end,
        "text": model.tokenizer.decode(token for token in part.tokens if token < model.tokenizer.eot),
        "tokens": list(part.tokens),
        "temperature": decoded.temperature,
        "avg_logprob": decoded.avg_logprob,
        "compression_ratio": decoded.compression_ratio,
        "no_speech_prob": decoded.no_speech_prob,
    }


def clear_if_empty(segment: Segment) -> Segment:
    """Return the segment, with its text, tokens and words removed if it has no duration or no text."""
    if segment["start"] != segment["end"] and segment["text"].strip():
        return segment
    cleared: Segment = {**segment, "text": "", "tokens": []}
    if "words" in segment:
        cleared["words"] = []
    return cleared
