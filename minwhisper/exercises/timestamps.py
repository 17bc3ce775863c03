"""Exercise 9: timestamp rules."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.edits import Edit, Mistake, edited
from .checking import Case, Exercise
from .comparing import Results, as_real_array
from .guard import Answer
from .real_model import clip_logits

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


def timestamp_rules(logits: Any, tokens: Sequence[int], eot: int, timestamp_begin: int) -> Any:
    """Suppress the tokens that may not follow: logits (V,) -> a copy with -inf for them."""
    filtered = logits.copy()
    if not tokens:
        filtered[:timestamp_begin] = -np.inf
        return filtered
    is_timestamp = [token >= timestamp_begin for token in tokens]
    opened = all(is_timestamp[-2:])  # the first token, or a timestamp after a timestamp
    closed = is_timestamp[-1] and not opened
    if opened:
        filtered[timestamp_begin:] = -np.inf
    if closed:
        filtered[:eot] = -np.inf
    earlier = [token for token in tokens if token >= timestamp_begin]
    if earlier:
        first_allowed = earlier[-1] + (0 if closed else 1)  # the next segment may open where this one closed
        filtered[timestamp_begin:first_allowed] = -np.inf
    times, others = filtered[timestamp_begin:], filtered[:timestamp_begin]
    timestamps_win = log_sum_exp(times) > others.max()
    if timestamps_win:
        filtered[:timestamp_begin] = -np.inf
    return filtered


def log_sum_exp(x: Any) -> Any:
    """Return log(Σ exp(x)) without overflow: (N,) -> a number."""
    top = x.max()
    return top if top == -np.inf else top + np.log(np.exp(x - top).sum())


MISTAKES = {
    "text may begin": Mistake(
        "At the beginning text is allowed. Suppress everything below timestamp_begin.",
        (Edit("tokens:\n        filtered[:timestamp_begin]", "tokens:\n        filtered[:0]"),),
    ),
    "the end may begin": Mistake(
        "At the beginning eot or another special token is allowed. Allow only timestamps.",
        (Edit("tokens:\n        filtered[:timestamp_begin]", "tokens:\n        filtered[:eot]"),),
    ),
    "times after opening": Mistake(
        "After a timestamp that opens a segment, another one is allowed. Text must follow.",
        (Edit("if opened:", "if False:"),),
    ),
    "the first time closes": Mistake(
        "The very first token, a timestamp, counts as closing a segment. A timestamp opens one if it is the first "
        "token or follows a timestamp.",
        (Edit("all(is_timestamp[-2:])", "len(tokens) > 1 and all(is_timestamp[-2:])"),),
    ),
    "text after closing": Mistake(
        "After a timestamp that closes a segment, text is allowed. A timestamp must open the next.",
        (Edit("if closed:", "if False:"),),
    ),
    "no end after closing": Mistake(
        "After a timestamp that closes a segment, the end is suppressed. It must stay allowed.",
        (Edit("closed:\n        filtered[:eot]", "closed:\n        filtered[:timestamp_begin]"),),
    ),
    "special tokens after closing": Mistake(
        "After a timestamp that closes a segment, the special tokens between eot and timestamp_begin are suppressed. "
        "This rule suppresses text only: ids below eot.",
        (Edit("closed:\n", "closed:\n        filtered[eot + 1 : timestamp_begin] = -np.inf\n"),),
    ),
    "going back": Mistake(
        "Timestamps may go back. Suppress those below the last one in `tokens`.", (Edit("if earlier:", "if False:"),)
    ),
    "last token only": Mistake(
        "Timestamps may go back after text. Find the last timestamp in all of `tokens`, not only in the last token.",
        (Edit("in tokens if", "in tokens[-1:] if"),),
    ),
    "closes when it opened": Mistake(
        "A segment may close at the time at which it opened. It must close later: suppress the last timestamp, too.",
        (Edit("else 1", "else 0"),),
    ),
    "opens later than closed": Mistake(
        "A segment may not open at the time at which the last one closed. Allow it: segments may follow without a gap.",
        (Edit("0 if closed", "1 if closed"),),
    ),
    "one time too many": Mistake(
        "One timestamp too many is suppressed: the one after the last may close the segment.",
        (Edit("else 1", "else 2"),),
    ),
    "first taken for text": Mistake(
        "timestamp_begin itself is a timestamp, <|0.00|>. Compare with >=, not with >.",
        (Edit("[token >= timestamp_begin", "[token > timestamp_begin"), Edit("if token >=", "if token >")),
    ),
    "<|0.00|> not found": Mistake(
        "timestamp_begin itself, <|0.00|>, is not found as the last timestamp. Compare with >=, not with >.",
        (Edit("if token >=", "if token >"),),
    ),
    "no preference": Mistake(
        "The last rule is missing: prefer timestamps that are together more likely than any text token.",
        (Edit("if timestamps_win:", "if False:"),),
    ),
    "most likely time": Mistake(
        "The most likely timestamp is compared. Compare all of them together: the logarithm of the sum of their exp.",
        (Edit("log_sum_exp(times)", "times.max()"),),
    ),
    "logits summed": Mistake(
        "The logits of the timestamps are summed. Sum probabilities instead: log(sum(exp(…))).",
        (Edit("log_sum_exp(times)", "(times[times > -np.inf].sum() or -np.inf)"),),
    ),
    "wrong way round": Mistake(
        "The comparison is reversed: suppress text when the timestamps are more likely.",
        (Edit("> others", "< others"),),
    ),
    "text summed": Mistake(
        "All tokens below timestamp_begin together are compared with all timestamps. Compare the most likely of them.",
        (Edit("others.max()", "log_sum_exp(others)"),),
    ),
    "forbidden times count": Mistake(
        "Suppressed timestamps are counted in the comparison. Sum over those still allowed.",
        (Edit("times, others = filtered", "times, others = logits"),),
    ),
    "the end left out": Mistake(
        "eot and other special tokens are left out of the comparison. It includes everything below timestamp_begin.",
        (Edit("filtered[:timestamp_begin]\n", "filtered[:eot]\n"),),
    ),
    "forbidden text counts": Mistake(
        "Suppressed text is counted in the comparison. Compare what is still allowed.",
        (Edit(", filtered[:", ", logits[:"),),
    ),
    "text only": Mistake(
        "When timestamps win, eot and other special tokens stay allowed. Suppress everything below timestamp_begin.",
        (Edit("win:\n        filtered[:timestamp_begin]", "win:\n        filtered[:eot]"),),
    ),
    "no maximum": Mistake(
        "exp overflows, or gives 0 for everything, with logits this large. Subtract the largest timestamp logit first, "
        "and add it again after the logarithm.",
        (Edit("top + np.log(np.exp(x - top).sum())", "np.log(np.exp(x).sum())", log_sum_exp),),
    ),
}


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


_without_preference = edited(timestamp_rules, MISTAKES["no preference"].edits)


def _balanced(
    tokens: list[int], excess: float, top: float = 0.0, rivals: int = 1, best: int = 3
) -> tuple[list[int], Any]:
    """Make logits in which all allowed timestamps together exceed the best token below FIRST by ``excess``."""
    filtered = _without_preference(np.zeros(SIZE), tokens, EOT, FIRST)
    count = int((filtered[FIRST:] > -np.inf).sum())
    logits = np.full(SIZE, top - 12.0)
    logits[FIRST:] = top + np.linspace(-0.2, 0.2, SIZE - FIRST)
    times = np.where(filtered[FIRST:] > -np.inf, logits[FIRST:] - top, -np.inf)
    best_logit = float(np.log(np.exp(times).sum())) + top - excess
    logits[[(best + 7 * i) % FIRST if best != EOT else EOT for i in range(rivals)]] = best_logit
    assert count
    return tokens, logits


def _grammar(seed: int) -> tuple[list[int], Any]:
    """Return random tokens that follow the rules, and random logits."""
    rng = np.random.default_rng(seed)
    tokens: list[int] = []
    for _ in range(int(rng.integers(0, 9))):
        filtered = timestamp_rules(
            rng.standard_normal(SIZE) + np.where(np.arange(SIZE) < TEXT, 1.0, 0.0), tokens, EOT, FIRST
        )
        candidates = [token for token in np.flatnonzero(filtered > -np.inf).tolist() if token < EOT or token >= FIRST]
        if not candidates:
            break
        tokens.append(int(rng.choice(candidates)))
    return tokens, rng.standard_normal(SIZE) * 2 + np.where(np.arange(SIZE) < FIRST, 2.0, 0.0)


def _real(function: Answer) -> Results:
    results: Results = []
    for tokens in ([], [50363], [50363, 843, 523, 616, 5891]):  # <|0.00|> And so my fellow
        logits = clip_logits((50257, *tokens))[-1].copy()
        result = function(logits, tokens, 50256, 50363)
        results.append((f"the result for tokens = {tokens}, eot 50256, timestamp_begin 50363", as_real_array(result)))
    return results


_OPEN, _CLOSED = [_time(0), 1, 2, _time(4), _time(4)], [_time(0), 1, 2, _time(4)]

EXERCISE = Exercise(
    number=9,
    title="Timestamps",
    section=11,
    task=TASK,
    solutions=(timestamp_rules,),
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
        Case(
            "Whisper's logits in the text of a recording, 51,864 of them",
            _real,
            "All other cases pass: is the size of the vocabulary, or a timestamp's id, written as a number somewhere?",
            real=True,
        ),
    ),
)
