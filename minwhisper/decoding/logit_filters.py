"""Chapter 7. Logit filters: functions that suppress tokens by setting their logits to -inf.

A decoder scores every token of the vocabulary at every step, and some are never right: marks that nobody pronounces,
special tokens that belong in a prompt, a timestamp earlier than the last one. Each filter is a pure function
``(logits, tokens) -> logits`` once its settings are filled in with ``functools.partial``. ``logits`` is (B, V);
``tokens`` holds the generated tokens of each row, without the prompt. (Radford et al., 2022, section 4.5; the filters
are openai-whisper's.)

Walkthrough: section 11.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..common.backend import Array, array_module, device_constant

GeneratedTokens: TypeAlias = Sequence[Sequence[int]]
"""The tokens generated so far, for each row of the batch."""

LogitFilter: TypeAlias = Callable[[Array, GeneratedTokens], Array]


def suppress_tokens(logits: Array, tokens: GeneratedTokens, *, ids: Sequence[int]) -> Array:
    """Suppress these tokens everywhere. (B, V) -> (B, V)."""
    filtered = logits.copy()
    filtered[:, device_constant(tuple(ids), logits)] = -math.inf
    return filtered


def suppress_blank(logits: Array, tokens: GeneratedTokens, *, ids: Sequence[int]) -> Array:
    """Suppress these tokens at the beginning: a space alone, or the end. (B, V) -> (B, V)."""
    filtered = logits.copy()
    for row, generated in zip(filtered, tokens, strict=True):  # row is a view into filtered
        if not generated:
            row[device_constant(tuple(ids), logits)] = -math.inf
    return filtered


def timestamp_rules(
    logits: Array,
    tokens: GeneratedTokens,
    *,
    eot: int,
    no_timestamps: int,
    timestamp_begin: int,
    max_initial_index: int | None,
) -> Array:
    """Suppress tokens that break the rules of timestamps: these come in pairs and never go back. (B, V) -> (B, V).

    A transcript reads ``<|0.00|> text <|2.40|><|2.40|> text <|5.00|>``: a timestamp opens each segment and another
    closes it. ``timestamp_begin`` is the id of ``<|0.00|>``; all ids below it are text or special. The first segment
    opens at most ``max_initial_index`` steps of 0.02 s into the window, or anywhere for None.
    """
    filtered = logits.copy()
    filtered[:, no_timestamps] = -math.inf
    for row, generated in zip(filtered, tokens, strict=True):  # row is a view into filtered
        if not generated:  # open the first segment
            row[:timestamp_begin] = -math.inf
            if max_initial_index is not None:
                row[timestamp_begin + max_initial_index + 1 :] = -math.inf
            continue
        last_is_timestamp = generated[-1] >= timestamp_begin
        opened = last_is_timestamp and (len(generated) < 2 or generated[-2] >= timestamp_begin)
        closed = last_is_timestamp and not opened
        if opened:  # text must follow
            row[timestamp_begin:] = -math.inf
        if closed:  # the next segment must open, or the text end
            row[:eot] = -math.inf
        timestamps = [token for token in generated if token >= timestamp_begin]
        if timestamps:  # a segment may open when the last one closed, but closes later than it opened
            row[timestamp_begin : timestamps[-1] + (0 if closed else 1)] = -math.inf
        _prefer_timestamps(row, timestamp_begin)
    return filtered


def _prefer_timestamps(row: Array, timestamp_begin: int) -> None:
    """Suppress text if all timestamps together are more likely than any single text token. Changes ``row`` (V,).

    Both sides are probabilities up to the divisor of softmax. An ``if`` would make a GPU wait, so there is none.
    """
    xp = array_module(row)
    text = row[:timestamp_begin]
    top = xp.maximum(row.max(), -6e4)  # finite even if everything is suppressed
    timestamps_are_likelier = xp.exp(row[timestamp_begin:] - top).sum() > xp.exp(text.max() - top)
    text += xp.where(timestamps_are_likelier, -math.inf, 0.0).astype(row.dtype)


def allow_eot_if_all_suppressed(logits: Array, tokens: GeneratedTokens, *, eot: int) -> Array:
    """Allow the end, with certainty, in rows where the other filters suppress every token. (B, V) -> (B, V).

    Whisper's own filters never do that, but a user may suppress the only tokens that are left.
    """
    xp = array_module(logits)
    filtered = logits.copy()
    all_suppressed = logits.max(axis=-1) == -math.inf  # (B,)
    filtered[:, eot] = xp.where(all_suppressed, 0.0, logits[:, eot])
    return filtered


class TimestampSettings(NamedTuple):
    """The settings of ``timestamp_rules``."""

    no_timestamps: int
    timestamp_begin: int
    max_initial_index: int | None


@dataclass(frozen=True)
class LogitFilters:
    """All filters with their settings, applied in order.

    It is plain data, so that a GPU kernel can apply the same filters.
    """

    eot: int
    suppressed: tuple[int, ...]  # everywhere
    blank: tuple[int, ...]  # at the beginning
    timestamps: TimestampSettings | None = None  # None: generate text without timestamps

    def __call__(self, logits: Array, tokens: GeneratedTokens) -> Array:
        """Apply the filters: (B, V) -> (B, V)."""
        if self.blank:
            logits = suppress_blank(logits, tokens, ids=self.blank)
        logits = suppress_tokens(logits, tokens, ids=self.suppressed)
        if self.timestamps:
            logits = timestamp_rules(logits, tokens, eot=self.eot, **self.timestamps._asdict())
        return allow_eot_if_all_suppressed(logits, tokens, eot=self.eot)
