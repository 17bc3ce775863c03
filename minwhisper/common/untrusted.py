"""Read what files and users state without believing it: sizes, whole numbers, JSON, paths.

A few bytes must not cost much memory or time. So a file is not read further than its kind can reasonably be long, and
a number is held to a range before anything of that size is made. Every loader of this package reads its JSON, its
whole numbers and its users' paths through this module.
"""

import json
import os
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MinWhisperError, ModelNotFoundError, WeightsError
from ..printable import short_repr

MAX_TEXT_BYTES = 10_000_000  # bytes of a JSON or text file; the largest of a published model has 4 million
_FETCH_AGAIN = "is the download complete? Fetch the file again"


def read_limited(path: Path, error: type[MinWhisperError] = WeightsError) -> bytes:
    """Return the bytes of a file of at most :data:`MAX_TEXT_BYTES`.

    Raises ``error`` if the file is missing, longer, or cannot be read.
    """
    if not os.path.isfile(path):
        raise error(f"{path}: missing; expected this file beside the weights: fetch or install them again")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as problem:
        raise error(
            f"{path}: cannot be read ({problem.strerror or problem}); check the file and its permissions"
        ) from None
    if len(data) > MAX_TEXT_BYTES:
        raise error(
            f"{path}: expected at most {MAX_TEXT_BYTES:,} bytes, the file has more; is it another kind of file?"
        )
    return data


def read_text(path: Path, error: type[MinWhisperError] = WeightsError) -> str:
    """Return the text of a UTF-8 file of at most :data:`MAX_TEXT_BYTES` bytes. Raises ``error`` if there is none."""
    return _decoded(read_limited(path, error), str(path), error)


def read_json(path: Path, error: type[MinWhisperError] = WeightsError) -> dict[str, Any]:
    """Return the object in a JSON file of at most :data:`MAX_TEXT_BYTES` bytes; errors as in :func:`parse_json`."""
    return parse_json(read_limited(path, error), str(path), error)


def parse_json(data: bytes, source: str, error: type[MinWhisperError] = WeightsError) -> dict[str, Any]:
    """Return the JSON object in ``data``, which messages call ``source``.

    Raises ``error`` for anything else: other text, nesting too deep for the parser, numbers of thousands of digits,
    and ``NaN`` and ``Infinity``, which Python reads although JSON has no such numbers.
    """
    text = _decoded(data, source, error)
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise error(f"{source}: cannot be read as JSON (nested too deeply); {_FETCH_AGAIN}") from None
    except ValueError as problem:
        raise error(f"{source}: cannot be read as JSON ({problem}); {_FETCH_AGAIN}") from None
    if not isinstance(values, dict):
        raise error(f"{source}: expected a JSON object, got {type(values).__name__}; {_FETCH_AGAIN}")
    return values


def check_integer(
    name: str, value: object, minimum: int, maximum: int, error: type[MinWhisperError] = ConfigError
) -> int:
    """Return ``value`` if it is a whole number from ``minimum`` to ``maximum``. Raises ``error`` for anything else.

    >>> check_integer("encoder_layers", 4, 1, 256)
    4
    """
    if type(value) is not int or not minimum <= value <= maximum:
        raise error(f"{name}: expected a whole number from {minimum} to {maximum}, got {short_repr(value)}")
    return value


def expand_path(text: str) -> Path:
    """Return the path that a user wrote, with ``~`` and ``~user`` expanded; nothing needs to exist there.

    Raises :class:`ModelNotFoundError` for a home folder that is not known and for a character that no path can have.
    """
    if "\0" in text:
        raise ModelNotFoundError(f"{short_repr(text)}: expected a path, this has a NUL character in it")
    path = Path(text)
    if not text.startswith("~"):  # Path turns "./~x" into "~x", which would then be expanded
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        raise ModelNotFoundError(
            f"{short_repr(text)}: the home folder that it begins with is not known; write the whole path"
        ) from None


def _decoded(data: bytes, source: str, error: type[MinWhisperError]) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{source}: cannot be read as text (byte {problem.start} is not UTF-8); {_FETCH_AGAIN}") from None


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
