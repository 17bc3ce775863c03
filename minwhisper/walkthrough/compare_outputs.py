"""Whether what came out is what a text says came out: two outputs compared line by line, numbers with a tolerance.

* A whole number has to be equal, a decimal one to one part in 10,000, or of its three or more digits to the last.
* ``~1.2e-7`` is an order of magnitude: a number within a factor of 3 will do. Rounding errors are written so.
* Behind ``≈`` the rest of the line may be anything, because it is different each time: how long something took.

Spaces do not count, since the width of a column depends on what is in it.

Walkthrough: section 15.
"""

import re

RELATIVE = 1e-4
FACTOR = 3.0
VARIES = "≈"

_TOKEN = re.compile(r"~?[-+]?\d[\d,]*(?:\.\d*)?(?:e[-+]?\d+)?|\w+|\S")
_NUMBER = re.compile(r"~?[-+]?\d[\d,]*(?:\.(?P<decimals>\d*))?(?:e(?P<power>[-+]?\d+))?")


def first_difference(shown: str, came: str) -> str | None:
    """Where two outputs differ first, as a sentence; None if they are the same.

    >>> first_difference("mean 0.251", "mean  0.250") is None
    True
    >>> first_difference("mean 0.251", "mean 0.249")
    "shown: 'mean 0.251', came out: 'mean 0.249'"
    """
    ours, theirs = shown.splitlines(), came.splitlines()
    for old, new in zip(ours, theirs, strict=False):
        if not same_line(old, new):
            return f"shown: {old!r}, came out: {new!r}"
    if len(ours) != len(theirs):
        rest = (ours if len(ours) > len(theirs) else theirs)[min(len(ours), len(theirs))]
        return f"{len(ours)} lines shown, {len(theirs)} came out; the first without a counterpart is {rest!r}"
    return None


def same_line(shown: str, came: str) -> bool:
    """Whether two lines say the same.

    >>> same_line("took ≈ 3 s", "took ≈ 5 s"), same_line("~1e-7", "~1.7e-7"), same_line("3 heads", "4 heads")
    (True, True, False)
    """
    fixed, varies, _ = shown.partition(VARIES)
    if varies:
        start, also_varies, _ = came.partition(VARIES)
        return bool(also_varies) and same_line(fixed, start)
    old, new = _TOKEN.findall(shown), _TOKEN.findall(came)
    return len(old) == len(new) and all(map(_same_token, old, new))


def _same_token(shown: str, came: str) -> bool:
    number, other = _NUMBER.fullmatch(shown), _NUMBER.fullmatch(came)
    if not number or not other or shown == came:
        return shown == came
    if shown.startswith("~") != came.startswith("~"):
        return False
    a, b = (float(token.lstrip("~").replace(",", "")) for token in (shown, came))
    if shown.startswith("~"):
        return abs(b) <= FACTOR * abs(a) and abs(a) <= FACTOR * abs(b) and a * b >= 0
    if _is_whole(number) or _is_whole(other):
        return a == b and _is_whole(number) == _is_whole(other)
    last_digit = 10.0 ** (int(number["power"] or 0) - len(number["decimals"] or ""))
    if abs(a) < 100 * last_digit:  # of fewer digits the last is too much of the whole
        last_digit = 0.0
    return abs(a - b) <= max(1.001 * last_digit, RELATIVE * abs(a))


def _is_whole(number: re.Match[str]) -> bool:
    return number["decimals"] is None and number["power"] is None
