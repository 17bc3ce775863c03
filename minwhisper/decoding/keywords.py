"""The options as keyword arguments, for type checkers and for completion in editors.

Each name and type is that of a field of ``DecodingOptions`` or ``TranscriptionOptions``; a test checks that they
agree.

Walkthrough: section 11.
"""

from collections.abc import Iterable, Sequence
from typing import TypedDict


class _WindowKeywords(TypedDict, total=False):
    task: str
    language: str | None
    sample_len: int | None
    best_of: int | None
    beam_size: int | None
    patience: float | None
    length_penalty: float | None
    prefix: str | Sequence[int] | None
    suppress_tokens: Iterable[int] | str | None
    suppress_blank: bool
    without_timestamps: bool
    max_initial_timestamp: float | None


class DecodingKeywords(_WindowKeywords, total=False):
    """The fields of ``DecodingOptions``: keyword arguments of ``Whisper.decode``."""

    temperature: float
    prompt: str | Sequence[int] | None


class TranscriptionKeywords(_WindowKeywords, total=False):
    """The keyword arguments of ``TranscriptionOptions.named``, ``Whisper.transcribe`` and others."""

    temperature: float | Sequence[float]
    compression_ratio_threshold: float | None
    logprob_threshold: float | None
    no_speech_threshold: float | None
    condition_on_previous_text: bool
    initial_prompt: str | None
    carry_initial_prompt: bool
    word_timestamps: bool
    prepend_punctuations: str
    append_punctuations: str
    clip_timestamps: str | Sequence[float]
    vad_filter: bool | str
    hallucination_silence_threshold: float | None
    language_detection_windows: int
    record: bool
    audio_track: int | str | None
