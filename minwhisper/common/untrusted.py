"""Read JSON, integers and paths from files and users without trusting them.

A small malicious or damaged input must not use much memory or time. Files are therefore read only up to a reasonable
size for their type, and integers are checked against a range before anything of that size is allocated. All loaders of
this package read JSON, integers and users' paths with these functions.
"""

import json
import os
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MinWhisperError, ModelNotFoundError, WeightsError
from ..printable import short_repr

MAX_TEXT_BYTES = 10_000_000  # of a JSON or text file; the largest one of a published model has 4 million
_DOWNLOAD_AGAIN = "is the download complete? Download the file again"


def read_limited(path: Path, error: type[MinWhisperError] = WeightsError) -> bytes:
    """Return the content of a file of at most ``MAX_TEXT_BYTES`` bytes.

    Raises ``error`` if the file is missing, longer, or cannot be read.
    """
    if not os.path.isfile(path):
        raise error(f"{path}: missing; expected this file in the folder of the weights: download or install them again")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as problem:
        raise error(
            f"{path}: cannot be read ({problem.strerror or problem}); check the file and its permissions"
        ) from None
    if len(data) > MAX_TEXT_BYTES:
        raise error(
            f"{path}: expected at most {MAX_TEXT_BYTES:,} bytes, the file has more; is it another type of file?"
        )
    return data


def read_text(path: Path, error: type[MinWhisperError] = WeightsError) -> str:
    """Return the text of a UTF-8 file of at most ``MAX_TEXT_BYTES`` bytes. Raises ``error`` for any other file."""
    return _decode(read_limited(path, error), str(path), error)


def read_json(path: Path, error: type[MinWhisperError] = WeightsError) -> dict[str, Any]:
    """Return the object in a JSON file of at most ``MAX_TEXT_BYTES`` bytes; errors as in ``parse_json``."""
    return parse_json(read_limited(path, error), str(path), error)


def parse_json(data: bytes, source: str, error: type[MinWhisperError] = WeightsError) -> dict[str, Any]:
    """Return the JSON object in ``data``; ``source`` names the data in errors.

    Raises ``error`` for anything else: other text, nesting too deep for the parser, numbers of thousands of digits,
    and ``NaN`` and ``Infinity``, which Python accepts although JSON does not.
    """
    text = _decode(data, source, error)
    try:
        values = json.loads(text, parse_constant=_reject_constant)
    except RecursionError:
        raise error(f"{source}: cannot be read as JSON (nested too deeply); {_DOWNLOAD_AGAIN}") from None
    except ValueError as problem:
        raise error(f"{source}: cannot be read as JSON ({problem}); {_DOWNLOAD_AGAIN}") from None
    if not isinstance(values, dict):
        raise error(f"{source}: expected a JSON object, got {type(values).__name__}; {_DOWNLOAD_AGAIN}")
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
    """Return a user's path with ``~`` and ``~user`` expanded; it need not exist.

    Raises ``ModelNotFoundError`` for an unknown home folder and for a NUL character.
    """
    if "\0" in text:
        raise ModelNotFoundError(f"{short_repr(text)}: expected a path, this one contains a NUL character")
    path = Path(text)
    if not text.startswith("~"):  # Path turns "./~x" into "~x", which expanduser would expand
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        raise ModelNotFoundError(
            f"{short_repr(text)}: the home folder at its start is unknown; write the full path"
        ) from None


def _decode(data: bytes, source: str, error: type[MinWhisperError]) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(
            f"{source}: cannot be read as text (byte {problem.start} is not UTF-8); {_DOWNLOAD_AGAIN}"
        ) from None


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
