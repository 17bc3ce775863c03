"""Exercise 5: the rules of timestamps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .checking import NO_MISTAKES, Answer, Case, Exercise, Results, as_real_array

TASK = """\
Write timestamp_rules(logits, said, eot, first) -> logits (V,), a copy with -inf where a token may not come next.

said is the list of tokens said so far, without the prompt. Ids below eot are text, eot is the end, those between eot
and first are other special tokens; first is <|0.00|>, and from it on all are times, 0.02 s apart. A transcript reads
<|0.00|> text <|2.40|><|2.40|> text <|5.00|>: every segment opens and closes with a time.
- Where nothing is said, only a time may come: a segment opens.
- After a time that opens a segment (the first token, or a time behind a time) no time may come.
- After a time that closes one (behind text) no text may come: the next segment opens, or the end comes. Of the other
  special tokens this says nothing.
- Times never go back. One that opens may repeat the last time, one that closes has to be later than it.
- Then, unless nothing is said: if all times that are still allowed are together likelier than the likeliest of all
  tokens below first that are allowed, only a time may come. (Logits are log-probabilities but for a constant.)"""

SKELETON = '''\
import numpy as np


def timestamp_rules(logits, said, eot, first):
    """logits (V,) of the next token after the list said -> a copy with -inf where it may not come."""
    allowed = logits.copy()
    ...
'''

MISTAKES = {
    "text may begin": "Where nothing is said, text is still allowed. It begins with a time: nothing below first.",
    "the end may begin": "Where nothing is said, eot or another special token is still allowed. Only times may come.",
    "times after opening": "After a time that opens a segment another time is still allowed. Text has to follow.",
    "the first time closes": (
        "After the very first token, a time, the segment counts as closed. It is open: a time opens one if it is the "
        "first token or stands behind a time."
    ),
    "text after closing": "After a time that closes a segment, text is still allowed. A time has to open the next.",
    "no end after closing": "After a time that closes a segment, the end is forbidden. A transcript may end here.",
    "special tokens after closing": (
        "After a time that closes a segment, the special tokens between eot and first are forbidden. This rule is only "
        "about text: ids below eot."
    ),
    "going back": "Times may go back. Forbid those below the last time in `said`.",
    "last token only": (
        "Times go back where text was said last: look for the last time in all of `said`, not only at its last token."
    ),
    "closes when it opened": (
        "A segment may close at the time it opened at. It closes later: forbid the last time itself, too."
    ),
    "opens later than closed": (
        "A segment may not open at the time the last one closed at. It may: they follow each other without a gap."
    ),
    "one time too many": "One time too many is forbidden: the one after the last may close the segment.",
    "first taken for text": "first itself is a time, <|0.00|>. Compare with >=, not with >.",
    "first no last time": (
        "Where first itself, <|0.00|>, is the last time, it is not found. Look for tokens >= first, not > first."
    ),
    "no preference": "The last rule is missing: where all times together are likelier than any one text token.",
    "likeliest time": (
        "The likeliest time is compared. It is all times together: the logarithm of the sum of exp over them."
    ),
    "logits summed": "The logits of the times are summed. Probabilities add, logits do not: log(sum(exp(…))).",
    "text summed": (
        "All tokens below first together are compared with all times. It is the likeliest one of them that counts: the "
        "times share what one text token has for itself."
    ),
    "forbidden times count": (
        "Times that the other rules forbid are counted among all times. Sum over the logits that are left."
    ),
    "forbidden text counts": "Text that is forbidden still counts in the comparison. Compare what is left.",
    "the end left out": "eot and other special tokens are left out of the comparison. All below first are in it.",
    "text only": "Where the times win, eot and other special tokens stay allowed. Nothing below first does.",
    "no maximum": (
        "exp overflows, or gives 0 for everything, with logits as large as these. Subtract the largest of the times "
        "first and add it again after the logarithm."
    ),
    "wrong way round": "The comparison is made the wrong way round: a time has to come where times are likelier.",
}


def solution(logits: Any, said: Sequence[int], eot: int, first: int, mistakes: frozenset[str] = NO_MISTAKES) -> Any:
    """Scores (V,) and the tokens said -> (V,) with -inf where the next may not be, with these mistakes."""
    allowed = logits.copy()
    if not said:
        if "text may begin" not in mistakes:
            allowed[: eot if "the end may begin" in mistakes else first] = -math.inf
        return allowed
    first_time = first + ("first taken for text" in mistakes)
    just_time = said[-1] >= first_time
    behind_time = said[-2] >= first_time if len(said) > 1 else "the first time closes" not in mistakes
    opened, closed = just_time and behind_time, just_time and not behind_time
    if opened and "times after opening" not in mistakes:
        allowed[first:] = -math.inf
    if closed and "text after closing" not in mistakes:
        if {"no end after closing", "special tokens after closing"} & mistakes:
            end = allowed[eot]
            allowed[:first] = -math.inf
            allowed[eot] = -math.inf if "no end after closing" in mistakes else end
        else:
            allowed[:eot] = -math.inf
    times = [
        token
        for token in (said[-1:] if "last token only" in mistakes else said)
        if token >= first_time + ("first no last time" in mistakes)
    ]
    if times and "going back" not in mistakes:
        later = 1
        if (closed and "opens later than closed" not in mistakes) or "closes when it opened" in mistakes:
            later = 0
        allowed[first : times[-1] + later + (not closed and "one time too many" in mistakes)] = -math.inf
    if "no preference" not in mistakes and _times_win(logits, allowed, eot, first, mistakes):
        allowed[: eot if "text only" in mistakes else first] = -math.inf
    return allowed


def _times_win(logits: Any, allowed: Any, eot: int, first: int, mistakes: frozenset[str]) -> bool:
    times = (logits if "forbidden times count" in mistakes else allowed)[first:]
    text = (logits if "forbidden text counts" in mistakes else allowed)[
        : eot if "the end left out" in mistakes else first
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


# ------------------------------------------------------------------------------------------ what is tried

TEXT, EOT, FIRST, SIZE = 6, 6, 9, 20  # ids 0 to 5 are text, 6 the end, 7 and 8 special, 9 to 19 times


def _time(steps: int) -> int:
    return FIRST + steps


def _likely_text(seed: int) -> Any:
    """Logits in which text, the end and special tokens are likelier than all times together: (V,)."""
    logits = np.random.default_rng(seed).standard_normal(SIZE)
    logits[:FIRST] += 20.0
    return logits


def _name(token: int) -> str:
    if token >= FIRST:
        return f"<|{(token - FIRST) * 0.02:.2f}|>"
    return str(token) if token < EOT else "end" if token == EOT else f"special {token}"


def _next(*cases: tuple[list[int], Any]) -> Any:
    """A step that asks what may follow each of some texts."""

    def run(function: Answer) -> Results:
        outcome: Results = []
        for said, logits in cases:
            result = function(logits.copy(), list(said), EOT, FIRST)
            what = f"the result for said = {said} ({' '.join(map(_name, said)) or 'nothing'}), eot {EOT}, first {FIRST}"
            outcome.append((what, as_real_array(result)))
        return outcome

    return run


def _balanced(
    said: list[int], excess: float, top: float = 0.0, rivals: int = 1, best: int = 3
) -> tuple[list[int], Any]:
    """Times alike whose allowed ones together exceed the likeliest token below first by ``excess``, in logits."""
    allowed = solution(np.zeros(SIZE), said, EOT, FIRST, frozenset({"no preference"}))
    count = int((allowed[FIRST:] > -math.inf).sum())
    logits = np.full(SIZE, top - 12.0)
    logits[FIRST:] = top + np.linspace(-0.2, 0.2, SIZE - FIRST)
    times = np.where(allowed[FIRST:] > -math.inf, logits[FIRST:] - top, -math.inf)
    greedy = float(np.log(np.exp(times).sum())) + top - excess
    logits[[(best + 7 * i) % FIRST if best != EOT else EOT for i in range(rivals)]] = greedy
    assert count
    return said, logits


def _grammar(seed: int) -> tuple[list[int], Any]:
    """A text that keeps the rules, as far as it has come, and random logits."""
    rng = np.random.default_rng(seed)
    said: list[int] = []
    for _ in range(int(rng.integers(0, 9))):
        allowed = solution(rng.standard_normal(SIZE) + np.where(np.arange(SIZE) < TEXT, 1.0, 0.0), said, EOT, FIRST)
        ways = [token for token in np.flatnonzero(allowed > -math.inf).tolist() if token < EOT or token >= FIRST]
        if not ways:
            break
        said.append(int(rng.choice(ways)))
    return said, rng.standard_normal(SIZE) * 2 + np.where(np.arange(SIZE) < FIRST, 2.0, 0.0)


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
        "logits": "begin with `allowed = logits.copy()` and change that; a slice of an array is no copy.",
        "said": "take a copy of the list.",
    },
    cases=(
        Case(
            "nothing said yet",
            _next(([], _likely_text(1))),
            "Only times may come: ids below first become -inf, and those from first on stay as they are.",
        ),
        Case(
            "a segment has opened",
            _next(
                ([_time(0)], _likely_text(2)),
                ([_time(3)], _likely_text(3)),
                (_OPEN, _likely_text(4)),
                ([_time(0), 1, _time(2), _time(5)], _likely_text(5)),
            ),
            "Everything from first on becomes -inf, everything below it stays as it is.",
        ),
        Case(
            "a segment has closed",
            _next((_CLOSED, _likely_text(6)), ([*_OPEN, 3, _time(7)], _likely_text(7))),
            "Text becomes -inf, and times before the last one. The end may come, and a time from the last one on.",
        ),
        Case(
            "in the middle of a segment",
            _next(
                ([_time(0), 1], _likely_text(8)),
                ([_time(3), 1, 2], _likely_text(9)),
                ([*_OPEN, 3, 5], _likely_text(10)),
            ),
            "More text may come, or a time that is later than the one the segment opened at.",
        ),
        Case(
            "times that are together likelier",
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
            "Compare log(sum(exp(times))) with the maximum of everything below first, both after the other rules; if "
            "it is larger, everything below first becomes -inf.",
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
            "forty random texts",
            _next(*map(_grammar, range(40))),
            "Look at the text that is named, and go through the rules one by one.",
        ),
    ),
)
