"""Chapter 7. What may not be said: functions that take the logits and give back logits with some at -inf.

A decoder scores every token of the vocabulary at every step, and a few are never right: marks that nobody speaks,
special tokens that belong in a prompt, a timestamp earlier than the one before it. Each rule is a pure function
``(logits, tokens) -> logits`` once its settings are filled in with ``functools.partial``. ``logits`` is (B, V);
``tokens`` holds, for each row, the tokens said so far, the prompt not included. (Radford et al., 2022, section 4.5;
the same rules as openai-whisper's.)

Walkthrough: section 11.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..common.backend import Array, array_module, device_constant

Said: TypeAlias = Sequence[Sequence[int]]
"""For each row of the batch, the tokens said so far."""

LogitFilter: TypeAlias = Callable[[Array, Said], Array]


def suppress_tokens(logits: Array, tokens: Said, *, ids: Sequence[int]) -> Array:
    """Never say any of these. (B, V) -> (B, V)."""
    allowed = logits.copy()
    allowed[:, device_constant(tuple(ids), logits)] = -math.inf
    return allowed


def suppress_blank(logits: Array, tokens: Said, *, ids: Sequence[int]) -> Array:
    """Do not begin with any of these: a space alone, or the end. (B, V) -> (B, V)."""
    rows = [row for row, said in enumerate(tokens) if not said]
    allowed = logits.copy()
    for row in rows:
        allowed[row, device_constant(tuple(ids), logits)] = -math.inf
    return allowed


def timestamp_rules(
    logits: Array, tokens: Said, *, eot: int, no_timestamps: int, first: int, latest_start: int | None
) -> Array:
    """Times come in pairs around the text and never go back. (B, V) -> (B, V).

    A transcript reads ``<|0.00|> text <|2.40|><|2.40|> text <|5.00|>``: each segment opens and closes with a time.
    ``first`` is the id of ``<|0.00|>``, below which all others are text or special; ``latest_start`` is the last
    position, in steps of 0.02 s, at which the first segment may open, None for any.
    """
    allowed = logits.copy()
    allowed[:, no_timestamps] = -math.inf
    for row, said in zip(allowed, tokens, strict=True):  # row is a view into allowed
        if not said:  # open the first segment
            row[:first] = -math.inf
            if latest_start is not None:
                row[first + latest_start + 1 :] = -math.inf
            continue
        just_said_time = said[-1] >= first
        opened = just_said_time and (len(said) < 2 or said[-2] >= first)
        closed = just_said_time and not opened
        if opened:  # text must follow
            row[first:] = -math.inf
        if closed:  # the next segment must open, or the text end
            row[:eot] = -math.inf
        times = [token for token in said if token >= first]
        if times:  # a segment may open when the last one closed, but closes later than it opened
            row[first : times[-1] + (0 if closed else 1)] = -math.inf
        _prefer_time(row, first)
    return allowed


def end_where_stuck(logits: Array, tokens: Said, *, eot: int) -> Array:
    """Where the other rules together forbid everything, the end may be said, and certainly is. (B, V) -> (B, V).

    Whisper's own rules never do, but tokens that somebody suppresses can be the only ones that are left.
    """
    xp = array_module(logits)
    allowed = logits.copy()
    stuck = logits.max(axis=-1) == -math.inf  # (B,)
    allowed[:, eot] = xp.where(stuck, 0.0, logits[:, eot])
    return allowed


def _prefer_time(row: Array, first: int) -> None:
    """If a time, whichever, is likelier than any one text token, only a time may be said. Changes ``row`` (V,).

    Both sides are probabilities but for what softmax would divide by. There is no ``if``, for which a GPU would have
    to be asked.
    """
    xp = array_module(row)
    text = row[:first]
    top = xp.maximum(row.max(), -6e4)  # a number even where nothing at all may be said
    time_is_likelier = xp.exp(row[first:] - top).sum() > xp.exp(text.max() - top)
    text += xp.where(time_is_likelier, -math.inf, 0.0).astype(row.dtype)


class Timestamps(NamedTuple):
    """The settings of :func:`timestamp_rules`."""

    no_timestamps: int
    first: int
    latest_start: int | None


@dataclass(frozen=True)
class LogitFilters:
    """All rules with their settings: one rule that applies them in order. A value, so that others can apply it too."""

    eot: int
    suppressed: tuple[int, ...]  # never,
    blank: tuple[int, ...]  # and not at the beginning
    timestamps: Timestamps | None = None  # None if none are wanted

    def __call__(self, logits: Array, tokens: Said) -> Array:
        """(B, V) -> (B, V)."""
        if self.blank:
            logits = suppress_blank(logits, tokens, ids=self.blank)
        logits = suppress_tokens(logits, tokens, ids=self.suppressed)
        if self.timestamps:
            logits = timestamp_rules(logits, tokens, eot=self.eot, **self.timestamps._asdict())
        return end_where_stuck(logits, tokens, eot=self.eot)
