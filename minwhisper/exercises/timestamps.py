"""Exercise 5: timestamp rules."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .checking import NO_MISTAKES, Answer, Case, Exercise, Results, as_real_array

TASK = """\
Write timestamp_rules(logits, tokens, eot, timestamp_begin) -> logits (V,), a copy with suppressed tokens at -inf.

tokens is the list of tokens generated so far, without the prompt. Ids below eot are text, eot is the end, and ids
between are other special tokens. timestamp_begin is <|0.00|>; it and all ids above are timestamps, 0.02 s apart.
A transcript reads <|0.00|> text <|2.40|><|2.40|> text <|5.00|>: timestamps open and close each segment.
- At the beginning, only a timestamp is allowed: it opens a segment.
- After a timestamp that opens a segment (the first token, or a timestamp after a timestamp), suppress all timestamps.
- After a timestamp that closes one (after text), suppress text, but no special token: the end may follow.
- Timestamps never go back. One that opens may repeat the last one; one that closes must be later than it.
- Finally, except at the beginning: if all timestamps that are still allowed are together more likely than the most
  likely allowed token below timestamp_begin, allow only timestamps. (Logits are log-probabilities up to a constant.)"""

SKELETON = '''\
import numpy as np


def timestamp_rules(logits, tokens, eot, timestamp_begin):
    """logits (V,) of the token after the list tokens -> a copy with suppressed tokens at -inf."""
    filtered = logits.copy()
    ...
'''

MISTAKES = {
    "text may begin": "At the beginning text is allowed. Suppress everything below timestamp_begin.",
    "the end may begin": "At the beginning eot or another special token is allowed. Allow only timestamps.",
    "times after opening": "After a timestamp that opens a segment, another one is allowed. Text must follow.",
    "the first time closes": (
        "The very first token, a timestamp, counts as closing a segment. A timestamp opens one if it is the first "
        "token or follows a timestamp."
    ),
    "text after closing": "After a timestamp that closes a segment, text is allowed. A timestamp must open the next.",
    "no end after closing": "After a timestamp that closes a segment, the end is suppressed. It must stay allowed.",
    "special tokens after closing": (
        "After a timestamp that closes a segment, the special tokens between eot and timestamp_begin are suppressed. "
        "This rule suppresses text only: ids below eot."
    ),
    "going back": "Timestamps may go back. Suppress those below the last one in `tokens`.",
    "last token only": (
        "Timestamps may go back after text. Find the last timestamp in all of `tokens`, not only in the last token."
    ),
    "closes when it opened": (
        "A segment may close at the time at which it opened. It must close later: suppress the last timestamp, too."
    ),
    "opens later than closed": (
        "A segment may not open at the time at which the last one closed. Allow it: segments may follow without a gap."
    ),
    "one time too many": "One timestamp too many is suppressed: the one after the last may close the segment.",
    "first taken for text": "timestamp_begin itself is a timestamp, <|0.00|>. Compare with >=, not with >.",
    "first no last time": (
        "timestamp_begin itself, <|0.00|>, is not found as the last timestamp. Compare with >=, not with >."
    ),
    "no preference": "The last rule is missing: prefer timestamps that are together more likely than any text token.",
    "likeliest time": (
        "The most likely timestamp is compared. Compare all of them together: the logarithm of the sum of their exp."
    ),
    "logits summed": "The logits of the timestamps are summed. Sum probabilities instead: log(sum(exp(…))).",
    "text summed": (
        "All tokens below timestamp_begin together are compared with all timestamps. Compare the most likely of them."
    ),
    "forbidden times count": "Suppressed timestamps are counted in the comparison. Sum over those still allowed.",
    "forbidden text counts": "Suppressed text is counted in the comparison. Compare what is still allowed.",
    "the end left out": (
        "eot and other special tokens are left out of the comparison. It includes everything below timestamp_begin."
    ),
    "text only": (
        "When timestamps win, eot and other special tokens stay allowed. Suppress everything below timestamp_begin."
    ),
    "no maximum": (
        "exp overflows, or gives 0 for everything, with logits this large. Subtract the largest timestamp logit first, "
        "and add it again after the logarithm."
    ),
    "wrong way round": "The comparison is reversed: suppress text when the timestamps are more likely.",
}


def solution(
    logits: Any, tokens: Sequence[int], eot: int, timestamp_begin: int, mistakes: frozenset[str] = NO_MISTAKES
) -> Any:
    """Suppress tokens by the rules, with these mistakes: logits (V,) -> (V,)."""
    filtered = logits.copy()
    if not tokens:
        if "text may begin" not in mistakes:
            filtered[: eot if "the end may begin" in mistakes else timestamp_begin] = -math.inf
        return filtered
    first_time = timestamp_begin + ("first taken for text" in mistakes)
    just_time = tokens[-1] >= first_time
    behind_time = tokens[-2] >= first_time if len(tokens) > 1 else "the first time closes" not in mistakes
    opened, closed = just_time and behind_time, just_time and not behind_time
    if opened and "times after opening" not in mistakes:
        filtered[timestamp_begin:] = -math.inf
    if closed and "text after closing" not in mistakes:
        if {"no end after closing", "special tokens after closing"} & mistakes:
            end = filtered[eot]
            filtered[:timestamp_begin] = -math.inf
            filtered[eot] = -math.inf if "no end after closing" in mistakes else end
        else:
            filtered[:eot] = -math.inf
    times = [
        token
        for token in (tokens[-1:] if "last token only" in mistakes else tokens)
        if token >= first_time + ("first no last time" in mistakes)
    ]
    if times and "going back" not in mistakes:
        later = 1
        if (closed and "opens later than closed" not in mistakes) or "closes when it opened" in mistakes:
            later = 0
        filtered[timestamp_begin : times[-1] + later + (not closed and "one time too many" in mistakes)] = -math.inf
    if "no preference" not in mistakes and _times_win(logits, filtered, eot, timestamp_begin, mistakes):
        filtered[: eot if "text only" in mistakes else timestamp_begin] = -math.inf
    return filtered


def _times_win(logits: Any, filtered: Any, eot: int, timestamp_begin: int, mistakes: frozenset[str]) -> bool:
    times = (logits if "forbidden times count" in mistakes else filtered)[timestamp_begin:]
    text = (logits if "forbidden text counts" in mistakes else filtered)[
        : eot if "the end left out" in mistakes else timestamp_begin
    ]
    top = times.max()
    if top == -math.inf:
        return "wrong way round" in mistakes
    if "likeliest time" in mistakes:
        together = top
    elif "logits summed" in mistakes:
        together = times[times > -math.inf].sum()
    elif "no maximum" in mistakes:
        together = np.log(np.exp(times).sum())
    else:
        together = top + np.log(np.exp(times - top).sum())
    against = np.log(np.exp(text - text.max()).sum()) + text.max() if "text summed" in mistakes else text.max()
    return bool(together < against if "wrong way round" in mistakes else together > against)


# ------------------------------------------------------------------------------------------ test cases

TEXT, EOT, FIRST, SIZE = 6, 6, 9, 20  # ids 0 to 5 are text, 6 is the end, 7 and 8 are special, 9 to 19 timestamps


def _time(steps: int) -> int:
    return FIRST + steps


def _favour_text(seed: int) -> Any:
    """Return logits (V,) in which any token below FIRST is more likely than all timestamps together."""
    logits = np.random.default_rng(seed).standard_normal(SIZE)
    logits[:FIRST] += 20.0
    return logits


def _name(token: int) -> str:
    if token >= FIRST:
        return f"<|{(token - FIRST) * 0.02:.2f}|>"
    return str(token) if token < EOT else "end" if token == EOT else f"special {token}"


def _next(*cases: tuple[list[int], Any]) -> Any:
    """Return a test case that calls the function for each of several token lists."""

    def run(function: Answer) -> Results:
        results: Results = []
        for tokens, logits in cases:
            result = function(logits.copy(), list(tokens), EOT, FIRST)
            text = " ".join(map(_name, tokens)) or "nothing"
            what = f"the result for tokens = {tokens} ({text}), eot {EOT}, timestamp_begin {FIRST}"
            results.append((what, as_real_array(result)))
        return results

    return run


def _balanced(
    tokens: list[int], excess: float, top: float = 0.0, rivals: int = 1, best: int = 3
) -> tuple[list[int], Any]:
    """Make logits in which all allowed timestamps together exceed the best token below FIRST by ``excess``."""
    filtered = solution(np.zeros(SIZE), tokens, EOT, FIRST, frozenset({"no preference"}))
    count = int((filtered[FIRST:] > -math.inf).sum())
    logits = np.full(SIZE, top - 12.0)
    logits[FIRST:] = top + np.linspace(-0.2, 0.2, SIZE - FIRST)
    times = np.where(filtered[FIRST:] > -math.inf, logits[FIRST:] - top, -math.inf)
    best_logit = float(np.log(np.exp(times).sum())) + top - excess
    logits[[(best + 7 * i) % FIRST if best != EOT else EOT for i in range(rivals)]] = best_logit
    assert count
    return tokens, logits


def _grammar(seed: int) -> tuple[list[int], Any]:
    """Return random tokens that follow the rules, and random logits."""
    rng = np.random.default_rng(seed)
    tokens: list[int] = []
    for _ in range(int(rng.integers(0, 9))):
        filtered = solution(rng.standard_normal(SIZE) + np.where(np.arange(SIZE) < TEXT, 1.0, 0.0), tokens, EOT, FIRST)
        candidates = [token for token in np.flatnonzero(filtered > -math.inf).tolist() if token < EOT or token >= FIRST]
        if not candidates:
            break
        tokens.append(int(rng.choice(candidates)))
    return tokens, rng.standard_normal(SIZE) * 2 + np.where(np.arange(SIZE) < FIRST, 2.0, 0.0)


_OPEN, _CLOSED = [_time(0), 1, 2, _time(4), _time(4)], [_time(0), 1, 2, _time(4)]

EXERCISE = Exercise(
    number=5,
    title="Timestamps",
    section=11,
    function="timestamp_rules",
    task=TASK,
    skeleton=SKELETON,
    solution=solution,
    mistakes=MISTAKES,
    unchanged={
        "logits": "start with `filtered = logits.copy()` and change that; a slice of an array is not a copy.",
        "tokens": "take a copy of the list.",
    },
    cases=(
        Case(
            "no tokens yet",
            _next(([], _favour_text(1))),
            "Only timestamps are allowed: ids below timestamp_begin become -inf, the others stay as they are.",
        ),
        Case(
            "a segment has opened",
            _next(
                ([_time(0)], _favour_text(2)),
                ([_time(3)], _favour_text(3)),
                (_OPEN, _favour_text(4)),
                ([_time(0), 1, _time(2), _time(5)], _favour_text(5)),
            ),
            "Timestamps become -inf, everything below timestamp_begin stays as it is.",
        ),
        Case(
            "a segment has closed",
            _next((_CLOSED, _favour_text(6)), ([*_OPEN, 3, _time(7)], _favour_text(7))),
            "Text and timestamps before the last one become -inf. The end stays, and timestamps from the last one on.",
        ),
        Case(
            "in the middle of a segment",
            _next(
                ([_time(0), 1], _favour_text(8)),
                ([_time(3), 1, 2], _favour_text(9)),
                ([*_OPEN, 3, 5], _favour_text(10)),
            ),
            "Text is allowed, and timestamps later than the one that opened the segment.",
        ),
        Case(
            "timestamps that are together more likely",
            _next(
                _balanced([_time(3), 1], 0.3),
                _balanced([_time(3), 1], -0.3),
                _balanced([_time(3), 1], 0.3, rivals=3),
                _balanced(_CLOSED, 0.3, best=EOT),
                _balanced(_CLOSED, -0.3, best=EOT),
                _balanced([_time(0), 1], 3.0),
                _balanced([_time(0), 1], 0.3, best=7),
                _balanced([_time(0), 1], -0.3, best=7),
                (_CLOSED, np.where(np.arange(SIZE) < EOT, 9.0, np.where(np.arange(SIZE) < FIRST, -4.0, -3.0))),
                ([_time(8), 1], np.where(np.arange(SIZE) < FIRST, 0.4, 0.0)),
            ),
            "Compare log(sum(exp(timestamps))) with the maximum of everything below timestamp_begin, both after the "
            "other rules; if it is larger, everything below timestamp_begin becomes -inf.",
        ),
        Case(
            "logits around 1,000 and -1,000",
            _next(
                _balanced([_time(3), 1], 0.3, 1000.0),
                _balanced([_time(3), 1], -0.3, 1000.0),
                _balanced([_time(3), 1], 0.3, -1000.0),
                _balanced([_time(3), 1], -0.3, -1000.0),
            ),
            "log(sum(exp(x))) is m + log(sum(exp(x - m))) for any m; with the maximum for m, exp cannot overflow.",
        ),
        Case(
            "forty random transcripts",
            _next(*map(_grammar, range(40))),
            "Take the tokens of the message and apply the rules one by one.",
        ),
    ),
)
