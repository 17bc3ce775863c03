"""Chapter 8, what can be asked for: how a window is decoded, and how a whole sound is.

Names, meanings and defaults are openai-whisper's. What makes no sense, alone or together, is refused before any work
with the option's name and the values it may have.

Walkthrough: section 11.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self

from ..audio.load import is_valid_track
from ..common.option_checks import (
    OPTION_HINTS,
    as_token_ids,
    as_tuple,
    check_count,
    check_flag,
    check_names,
    check_number,
    check_text,
)
from ..errors import OptionError
from ..printable import short_repr
from ..tokenizer.languages import TO_LANGUAGE_CODE
from ..tokenizer.tokenizer import Tokenizer

FALLBACK_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PREPEND_PUNCTUATION = "\"'“¿([{-"
"""Marks that belong to the word after them, unless told otherwise."""

APPEND_PUNCTUATION = "\"'.。,，!！?？:：”)]}、"
"""Marks that belong to the word before them, unless told otherwise."""

MAX_CANDIDATES = 256  # rows of the decoder that a window may take: each costs memory
MAX_PATIENCE = 1e6
MAX_TEMPERATURES = 128
MAX_CLIP_TIMES = 1_000_000


@dataclass(frozen=True)
class DecodingOptions:
    """How a window of sound is to be decoded. Raises :class:`OptionError` for what makes no sense."""

    task: str = "transcribe"  # or "translate", which is to English
    language: str | None = None  # a code or an English name; None: detect it
    temperature: float = 0.0  # 0: the likeliest; above: drawn at random, the flatter the higher
    sample_len: int | None = None  # most tokens to say in a window; None: half of the text positions
    best_of: int | None = None  # candidates to draw; above temperature 0 only
    beam_size: int | None = None  # candidates that a beam search keeps; at temperature 0 only
    patience: float | None = None  # a beam search ends with beam_size times this many finished; None: 1
    length_penalty: float | None = None  # 0 favours short candidates, 1 long ones; None: the mean of each decides
    prompt: str | Sequence[int] | None = None  # text or tokens that came before; the last 223 tokens count
    prefix: str | Sequence[int] | None = None  # text or tokens that the window begins with
    suppress_tokens: Iterable[int] | str | None = "-1"  # ids never to say, also as "1,2,3"; -1: what is not spoken
    suppress_blank: bool = True  # do not begin with a space alone or the end
    without_timestamps: bool = False  # text only, no times
    max_initial_timestamp: float | None = 1.0  # the first segment opens this early, in seconds

    def __new__(cls, *_: Any, **options: Any) -> Self:
        """Check the names: an unknown one, such as ``fp16``, gets an explanation instead of a ``TypeError``."""
        check_names(options, [field.name for field in fields(cls)])
        return super().__new__(cls)

    @classmethod
    def named(cls, **options: Any) -> Self:
        """The options of these names. Raises :class:`OptionError` also for a name that there is not."""
        check_names(options, [field.name for field in fields(cls)])
        return cls(**options)

    def __post_init__(self) -> None:
        if not isinstance(self.task, str) or self.task not in ("transcribe", "translate"):
            if isinstance(self.task, str) and self.task == "lang_id":
                raise OptionError("task: 'lang_id' is a method of its own here, detect_language")
            raise OptionError(f"task: expected 'transcribe' or 'translate', got {short_repr(self.task)}")
        check_text("language", self.language, "a code or an English name")
        check_number("temperature", self.temperature, "0, or above for sampling", minimum=0)
        check_count("sample_len", self.sample_len)
        for name in ("best_of", "beam_size"):
            check_count(name, getattr(self, name), maximum=MAX_CANDIDATES)
        check_number("patience", self.patience, "a number above 0, such as 1.0", above=0, optional=True)
        check_number("patience", self.patience, f"at most {MAX_PATIENCE:,.0f}", maximum=MAX_PATIENCE, optional=True)
        check_number("length_penalty", self.length_penalty, "0 to 1", minimum=0, maximum=1, optional=True)
        check_number("max_initial_timestamp", self.max_initial_timestamp, "0 to 30 seconds", 0, 30, optional=True)
        for name in ("suppress_blank", "without_timestamps"):
            check_flag(name, getattr(self, name))
        for name in ("prompt", "prefix", "suppress_tokens"):
            expected = "ids such as '-1' or '1,2,3'" if name == "suppress_tokens" else "a text or token ids"
            object.__setattr__(self, name, as_token_ids(name, getattr(self, name), expected))
        self._listed()
        self._check_together()

    def _check_together(self) -> None:
        if self.beam_size is not None and self.best_of is not None:
            raise OptionError("beam_size, best_of: a beam search does not sample; leave one of them out")
        if self.beam_size is not None and self.temperature > 0:
            raise OptionError(f"beam_size: a beam search has temperature 0, got {self.temperature:g}; or use best_of")
        if self.best_of is not None and self.temperature == 0:
            raise OptionError("best_of: candidates differ above temperature 0 only; raise it, or use beam_size")
        if self.patience is not None:
            if self.beam_size is None:
                raise OptionError("patience: a beam search has it; give beam_size too")
            if round(self.beam_size * self.patience) < 1:
                least = 0.5 / self.beam_size
                raise OptionError(f"patience: expected more than {least:g} for this beam_size, got {self.patience:g}")

    def suppressed_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The ids that ``suppress_tokens`` means, with the special tokens that only a prompt may have."""
        listed = self._listed()
        wrong = [i for i in listed if not -1 <= i < tokenizer.vocab_size]
        if wrong:
            raise OptionError(f"suppress_tokens: {wrong[0]} is no id of a vocabulary of {tokenizer.vocab_size}")
        ids = {*tokenizer.prompt_only_tokens, *listed}
        if -1 in ids:
            ids = (ids - {-1}) | {*tokenizer.non_speech_tokens}
        return tuple(sorted(ids))

    def _listed(self) -> list[int]:
        """The numbers in ``suppress_tokens``."""
        given = () if self.suppress_tokens is None else self.suppress_tokens
        items = _listed_items(given) if isinstance(given, str) else given
        try:
            return [int(item) for item in items]
        except ValueError:
            raise OptionError(
                f"suppress_tokens: expected ids such as '-1' or '1,2,3', got {short_repr(given)}"
            ) from None


@dataclass(frozen=True)
class TranscriptionOptions:
    """How a whole sound is to be transcribed. Make one with :meth:`named`."""

    decoding_options: tuple[DecodingOptions, ...]  # how a window is decoded; the next one where the last has failed
    compression_ratio_threshold: float | None = 2.4  # failed is a text that repeats itself more than this,
    logprob_threshold: float | None = -1.0  # or whose mean log-probability a token is below this,
    no_speech_threshold: float | None = 0.6  # unless silence is likelier than this, which is then left out
    condition_on_previous_text: bool = True  # a window is told the text before it
    initial_prompt: str | None = None  # text to come before the first window: names, spelling, style
    carry_initial_prompt: bool = False  # and before every other one
    word_timestamps: bool = False  # find when each word is said
    prepend_punctuations: str = PREPEND_PUNCTUATION  # marks that belong to the word behind them
    append_punctuations: str = APPEND_PUNCTUATION  # marks that belong to the word before them
    clip_timestamps: str | Sequence[float] = "0"  # start, end, start, end … in seconds; the last end may be left out
    hallucination_silence_threshold: float | None = None  # skip more seconds of silence around doubtful words
    language_detection_windows: int = 1  # from how many windows the language is heard
    audio_track: int | str | None = None  # of a file with several: a number from 1, or a language; None: the default

    @classmethod
    def named(cls, **options: Any) -> Self:
        """The options of these names, those of :class:`DecodingOptions` among them.

        ``temperature`` may be several numbers, to be tried one after another on a window that fails. Beam search is
        for temperature 0 and ``best_of`` for those above, so the two may be given together.
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
        for name in ("condition_on_previous_text", "carry_initial_prompt", "word_timestamps"):
            check_flag(name, getattr(self, name))
        for name in ("prepend_punctuations", "append_punctuations"):
            check_text(name, getattr(self, name), "a text with the marks", optional=False)
        check_text("initial_prompt", self.initial_prompt, "a text")
        if self.carry_initial_prompt and self.initial_prompt is None:
            raise OptionError("carry_initial_prompt: there is none to carry; give initial_prompt too")
        if self.hallucination_silence_threshold is not None and not self.word_timestamps:
            raise OptionError("hallucination_silence_threshold: it goes by the words' times; give word_timestamps too")
        check_count("language_detection_windows", self.language_detection_windows, optional=False)
        object.__setattr__(self, "audio_track", read_track(self.audio_track))
        times = as_tuple("clip_timestamps", self.clip_timestamps, MAX_CLIP_TIMES)
        object.__setattr__(self, "clip_timestamps", self.clip_timestamps if times is None else times)
        self.clips(math.inf)

    def clips(self, seconds: float) -> tuple[tuple[float, float], ...]:
        """The stretches of a sound to transcribe, (start, end) in seconds, of which there are ``seconds`` in all.

        Raises :class:`OptionError` for times that are no numbers, go backwards or lie past the end.
        """
        given = self.clip_timestamps
        expected = "clip_timestamps: expected start,end,start,end,… in seconds"
        try:
            listed = _listed_items(given) if isinstance(given, str) else None
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
                raise OptionError(f"{expected}, each at most {seconds:.2f}, where the sound ends; got {time:g}")
        if len(times) % 2:
            times.append(seconds)
        clips = tuple(zip(times[::2], times[1::2], strict=True))
        for start, end in clips:
            if start >= end and seconds > 0:  # of no sound at all there is one stretch, from 0 to 0
                raise OptionError(f"{expected}, each end after its start; got {start:g} to {end:g}")
        for (_, end), (start, _) in pairwise(clips):
            if start < end:
                raise OptionError(f"{expected}, no clip before the last one ended; got {end:g}, then {start:g}")
        return clips


def _listed_items(text: str) -> Sequence[Any]:
    """Return the items of a list such as "1,2,3", as text."""
    return [item for item in text.split(",") if item.strip()]


def options_per_temperature(temperature: Any, options: Mapping[str, Any]) -> tuple[DecodingOptions, ...]:
    """How a window is decoded at each temperature: searched for at 0, sampled above.

    ``options`` are others of :class:`DecodingOptions`. Raises :class:`OptionError` for one that would never be used.
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
        raise OptionError("best_of: candidates differ above temperature 0 only; raise it, or use beam_size")
    if options.get("beam_size") is not None and all(temperatures):
        raise OptionError("beam_size: a beam search has temperature 0, which is not among those given; or use best_of")
    if options.get("patience") is not None and options.get("beam_size") is None:
        raise OptionError("patience: a beam search has it; give beam_size too")
    of_kind: dict[bool, tuple[str, ...]] = {False: ("beam_size", "patience"), True: ("best_of",)}  # by: is it sampled?
    of_some = {name: value for name, value in options.items() if name in of_kind[False] + of_kind[True]}
    of_all = DecodingOptions(**{name: value for name, value in options.items() if name not in of_some})
    return tuple(
        replace(
            of_all,
            temperature=number,
            **{name: value for name, value in of_some.items() if name in of_kind[number > 0]},
        )
        for number in map(float, temperatures)
    )


def read_track(track: Any) -> int | str | None:
    """Return the number of an audio track, the code of a language, or None for the default track.

    Raises :class:`OptionError` for anything else.
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
