"""Chapter 8. Decoding options: how one window is decoded.

Names, meanings and defaults are openai-whisper's. Invalid values and combinations are rejected at once, with the
option's name and the values that it accepts.

Walkthrough: section 11.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from ..common.option_checks import (
    as_token_ids,
    check_count,
    check_flag,
    check_names,
    check_number,
    check_text,
    use_builtin_numbers,
)
from ..errors import OptionError
from ..printable import short_repr
from ..tokenizer.tokenizer import Tokenizer

MAX_CANDIDATES = 256  # rows of the decoder for one window: each costs memory
MAX_PATIENCE = 1e6
BEST_OF_NEEDS_SAMPLING = "best_of: sampling needs a temperature above 0; raise it, or use beam_size"
PATIENCE_NEEDS_BEAM = "patience: applies to beam search only; give beam_size too"


@dataclass(frozen=True)
class DecodingOptions:
    """Options for decoding a window. Raises ``OptionError`` for invalid values or combinations."""

    task: str = "transcribe"  # or "translate", always into English
    language: str | None = None  # a code or an English name; None: detect it
    temperature: float = 0.0  # 0: greedy or beam search; above: sampling, the more random the higher
    sample_len: int | None = None  # maximum number of tokens per window; None: half of the text positions
    best_of: int | None = None  # candidates to sample, above temperature 0 only
    beam_size: int | None = None  # candidates of a beam search, at temperature 0 only
    patience: float | None = None  # beam search ends when beam_size times this many candidates have finished; None: 1
    length_penalty: float | None = None  # from 0, which favours short candidates, to 1; None: compare by the mean
    prompt: str | Sequence[int] | None = None  # previous text, or its tokens; at most the last 223 are used
    prefix: str | Sequence[int] | None = None  # text that the window starts with, or its tokens
    suppress_tokens: Iterable[int] | str | None = "-1"  # ids, also as "1,2,3"; -1: symbols that are not speech
    suppress_blank: bool = True  # do not begin with a space alone or the end
    without_timestamps: bool = False  # generate text only
    max_initial_timestamp: float | None = 1.0  # latest start of the first segment, in seconds

    def __new__(cls, *_: Any, **options: Any) -> Self:
        """Check the names: an unknown one, such as ``fp16``, gets an explanation instead of a ``TypeError``."""
        check_names(options, [field.name for field in fields(cls)])
        return super().__new__(cls)

    @classmethod
    def named(cls, **options: Any) -> Self:
        """Return options by name. Raises ``OptionError`` for an unknown name, too."""
        check_names(options, [field.name for field in fields(cls)])
        return cls(**options)

    def __post_init__(self) -> None:
        if not isinstance(self.task, str) or self.task not in ("transcribe", "translate"):
            if isinstance(self.task, str) and self.task == "lang_id":
                raise OptionError("task: 'lang_id' is not supported here; call detect_language")
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
            expected = "ids such as '-1' or '1,2,3'" if name == "suppress_tokens" else "text or token ids"
            object.__setattr__(self, name, as_token_ids(name, getattr(self, name), expected))
        use_builtin_numbers(self)
        self._listed_ids()
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.beam_size is not None and self.best_of is not None:
            raise OptionError("beam_size, best_of: a beam search does not sample; omit one of them")
        if self.beam_size is not None and self.temperature > 0:
            raise OptionError(f"beam_size: beam search needs temperature 0, got {self.temperature:g}; or use best_of")
        if self.best_of is not None and self.temperature == 0:
            raise OptionError(BEST_OF_NEEDS_SAMPLING)
        if self.patience is not None:
            if self.beam_size is None:
                raise OptionError(PATIENCE_NEEDS_BEAM)
            if round(self.beam_size * self.patience) < 1:
                least = 0.5 / self.beam_size
                raise OptionError(f"patience: expected more than {least:g} for this beam_size, got {self.patience:g}")

    def suppressed_ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Return the ids that ``suppress_tokens`` stands for, and the special tokens that belong in a prompt only."""
        listed = self._listed_ids()
        wrong = [i for i in listed if not -1 <= i < tokenizer.vocab_size]
        if wrong:
            raise OptionError(f"suppress_tokens: expected ids from -1 to {tokenizer.vocab_size - 1}, got {wrong[0]}")
        ids = {*tokenizer.prompt_only_tokens, *listed}
        if -1 in ids:
            ids = (ids - {-1}) | {*tokenizer.non_speech_tokens}
        return tuple(sorted(ids))

    def _listed_ids(self) -> list[int]:
        """Return the numbers in ``suppress_tokens``."""
        given = () if self.suppress_tokens is None else self.suppress_tokens
        items = split_commas(given) if isinstance(given, str) else given
        try:
            return [int(item) for item in items]
        except ValueError:
            raise OptionError(
                f"suppress_tokens: expected ids such as '-1' or '1,2,3', got {short_repr(given)}"
            ) from None


def split_commas(text: str) -> Sequence[str]:
    """Return the items of a list such as "1,2,3", as text."""
    return [item for item in text.split(",") if item.strip()]
