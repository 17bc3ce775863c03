"""Tools for fuzzing checkpoints: generators of cases, mutations of bytes and JSON, and checks of the outcome.

A case may succeed, or fail with one of the package's errors on one printable line. It must not crash, take longer than
five seconds, or use more than 500 MB.
"""

import copy
import gc
import json
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from minwhisper.errors import MinWhisperError
from minwhisper.printable import MAX_MESSAGE

SECONDS = 5.0  # limit for one case
MEMORY = 500_000_000  # limit for the growth of the process, in bytes

NASTY_NUMBERS = (0, -1, 1, 2**31, 2**63, 10**12, 10**40, 0.5, 1e308, -0.0, True)
NASTY_TEXT = ("", "\x1b[31mred\x07", "two\nlines", "\x00", "../../etc/passwd", "x" * 100_000, "\u202e", "é", "~nobody")
# Inserted into the JSON text as they are, because the json module does not write them.
RAW = ("NaN", "Infinity", "-Infinity", "1e400", "9" * 5000, "[" * 100_000, '{"a":' * 50_000, "-", "tru", '"\\ud800"')


class TooSlow(BaseException):
    """A case over its time limit; not an Exception, so that no handler catches it."""


def cases(pytestconfig: pytest.Config, few: int, seed: int) -> Iterator[random.Random]:
    """Yield a random generator per case: ``few`` cases, or as many as fit into the seconds of ``--fuzz``."""
    seconds = pytestconfig.getoption("fuzz")
    end, number = time.monotonic() + seconds, 0
    while number < few or time.monotonic() < end:
        yield random.Random(f"{seed} {number}")
        number += 1
    print(f"{number} cases")


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise ``TooSlow`` after this time."""

    def ring(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def memory_of_process(name: str) -> int:
    """Return a value of /proc/self/status in bytes."""
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith(name)).split()[1])


_before = 0  # the memory of the process at the start of a test, in bytes


def reset_peak_memory() -> None:
    """Measure the peak memory from now on, for all cases of a test together."""
    global _before
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # reset the peak to the current value
    _before = memory_of_process("VmHWM")


def check_case(work: Callable[[], object], what: str) -> bool:
    """Run a case, described by ``what``, and check its outcome; return True if it succeeded."""
    try:
        with alarm(SECONDS), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
        succeeded = True
    except MinWhisperError as error:
        check_line(str(error), what)
        succeeded = False
    except TooSlow:
        pytest.fail(f"{what}: took more than {SECONDS} s")
    except BaseException as error:  # a Rust library's PanicException is not an Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        pytest.fail(f"{what}: {type(error).__name__}: {error}"[:2000])
    for warning in caught:
        check_line(str(warning.message), what)
    grown = memory_of_process("VmHWM") - _before
    if grown > MEMORY:
        gc.collect()
        pytest.fail(f"{what}: took {grown / 1e6:.0f} MB")
    return succeeded


def check_line(message: str, what: str) -> None:
    """Check that a message is one printable line of reasonable length."""
    if not message.isprintable() or not 10 <= len(message) <= MAX_MESSAGE:
        pytest.fail(f"{what}: message {message[:300]!r}")


def mutated_bytes(data: bytes, rng: random.Random, among: int | None = None) -> bytes:
    """Flip, overwrite, remove or repeat some bytes; only among the first ``among`` if given."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(max(1, min(len(out), among or len(out))))
        length = rng.choice((1, 1, 2, 4, 8, 64))
        match rng.randrange(6):
            case 0 if out:
                out[place] ^= 1 << rng.randrange(8)
            case 1:
                out[place : place + length] = rng.randbytes(length)
            case 2:
                out[place : place + length] = rng.choice((b"\xff", b"\x00", b"\x7f")) * length
            case 3:
                del out[place : place + length]
            case 4:
                out[place:place] = out[place : place + length]
            case 5:
                del out[place:]
    return bytes(out)


def mutated_json(values: Any, rng: random.Random) -> bytes:
    """Return JSON text with some values replaced, removed or renamed; it may be invalid JSON."""
    values = copy.deepcopy(values)
    mark, raw = "\ue000", ""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder, key = _anywhere(values, rng)
        match rng.randrange(8):
            case 0 | 1:
                holder[key] = rng.choice(NASTY_NUMBERS)
            case 2:
                holder[key] = rng.choice(NASTY_TEXT)
            case 3:
                holder[key] = rng.choice((None, [], {}, [[]], [None], {"": 0}, False))
            case 4:
                del holder[key]
                if not holder and not isinstance(values, dict):
                    return json.dumps(values).encode()
            case 5:
                raw = rng.choice(RAW)
                holder[key] = mark
            case 6:
                old = holder[key] if isinstance(holder, dict) else key
                if isinstance(holder, dict):
                    holder[rng.choice(NASTY_TEXT)] = old
            case 7:
                other, name = _anywhere(values, rng)
                holder[key] = copy.deepcopy(other[name]) if len(json.dumps(values)) < 100_000 else 0
        if not values:
            break
    text = json.dumps(values).replace(json.dumps(mark), raw or "0").encode()
    return mutated_bytes(text, rng) if rng.random() < 0.2 else text


def _anywhere(values: Any, rng: random.Random) -> tuple[Any, Any]:
    """Return a random container inside ``values`` and one of its keys or indices, creating one if necessary."""
    if not values:
        values["x"] = 0
    while True:
        key = rng.choice(list(values)) if isinstance(values, dict) else rng.randrange(len(values))
        inner = values[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
            values = inner
        else:
            return values, key
