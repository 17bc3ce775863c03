"""Comparison of a cell's output with the one in the text, line by line, with a tolerance for numbers.

* Integers have to be equal. Decimals may differ by one part in 10,000, or by one in the last of three or more digits.
* ``~1.2e-7`` is an order of magnitude and matches anything within a factor of 3, or of 6 on a GPU, which adds in
  another order. Rounding errors are written like this.
* After ``≈`` the rest of the line is ignored, because it changes from run to run, as times do.

Whitespace is ignored, since the width of a column depends on its content.
"""

import re

RELATIVE = 1e-4
FACTOR, FACTOR_ON_GPU = 3.0, 6.0
VARIES = "≈"

_TOKEN = re.compile(r"~?[-+]?\d[\d,]*(?:\.\d*)?(?:e[-+]?\d+)?|\w+|\S")
_NUMBER = re.compile(r"~?[-+]?\d[\d,]*(?:\.(?P<decimals>\d*))?(?:e(?P<power>[-+]?\d+))?")


def first_difference(expected: str, actual: str, factor: float = FACTOR) -> str | None:
    """Describe the first difference between two outputs, or return None if they match.

    ``factor`` is how far orders of magnitude may be apart.

    >>> first_difference("mean 0.251", "mean  0.250") is None
    True
    >>> first_difference("mean 0.251", "mean 0.249")
    "expected 'mean 0.251', got 'mean 0.249'"
    """
    old_lines, new_lines = expected.splitlines(), actual.splitlines()
    for old, new in zip(old_lines, new_lines, strict=False):
        if not same_line(old, new, factor):
            return f"expected {old!r}, got {new!r}"
    if len(old_lines) != len(new_lines):
        rest = max(old_lines, new_lines, key=len)[min(len(old_lines), len(new_lines))]
        return f"lines: expected {len(old_lines)}, got {len(new_lines)}; the first unmatched line is {rest!r}"
    return None


def same_line(expected: str, actual: str, factor: float = FACTOR) -> bool:
    """Return whether two lines match.

    >>> same_line("took ≈ 3 s", "took ≈ 5 s"), same_line("~1e-7", "~1.7e-7"), same_line("3 heads", "4 heads")
    (True, True, False)
    """
    fixed, varies, _ = expected.partition(VARIES)
    if varies:
        start, also_varies, _ = actual.partition(VARIES)
        return bool(also_varies) and same_line(fixed, start, factor)
    old, new = _TOKEN.findall(expected), _TOKEN.findall(actual)
    return len(old) == len(new) and all(_same_token(*pair, factor) for pair in zip(old, new, strict=True))


def _same_token(expected: str, actual: str, factor: float) -> bool:
    number, other = _NUMBER.fullmatch(expected), _NUMBER.fullmatch(actual)
    if not number or not other or expected == actual:
        return expected == actual
    if expected.startswith("~") != actual.startswith("~"):
        return False
    a, b = (float(token.lstrip("~").replace(",", "")) for token in (expected, actual))
    if expected.startswith("~"):
        return abs(b) <= factor * abs(a) and abs(a) <= factor * abs(b) and a * b >= 0
    if _is_whole(number) or _is_whole(other):
        return a == b and _is_whole(number) == _is_whole(other)
    last_digit = 10.0 ** (int(number["power"] or 0) - len(number["decimals"] or ""))
    if abs(a) < 100 * last_digit:  # with fewer digits, one unit in the last is a large part of the number
        last_digit = 0.0
    return abs(a - b) <= max(1.001 * last_digit, RELATIVE * abs(a))


def _is_whole(number: re.Match[str]) -> bool:
    return number["decimals"] is None and number["power"] is None
