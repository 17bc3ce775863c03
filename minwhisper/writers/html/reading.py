"""Reading a transcript from a JSON file, as this package and openai-whisper write it."""

import json
import math
from pathlib import Path
from typing import Any, cast

from ...common.option_checks import as_float
from ...errors import OptionError
from ...printable import printable, short_repr
from ...transcription.segments import Transcript
from .data import page_data

MAX_BYTES = 1 << 30
UNKNOWN = -0.001  # the probability of a word that has none
_NUMBERS = {"temperature": 0.0, "avg_logprob": 0.0, "compression_ratio": 0.0, "no_speech_prob": 0.0}


def read_transcript(path: Path) -> Transcript:
    """Read a transcript. Raises ``OptionError``, with the file's name and the place in it, for anything else."""
    label = printable(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise OptionError(f"{label}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > MAX_BYTES:
        raise OptionError(f"{label}: expected a transcript of at most 1 GiB")
    try:
        found = json.loads(content, parse_constant=_reject)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{label}: expected JSON, as 'minwhisper transcribe -f json' writes it ({error})") from None
    segments = found.get("segments") if isinstance(found, dict) else None
    if not isinstance(segments, list):
        raise OptionError(f"{label}: expected a transcript, with a list of segments; transcribe with -f json")
    transcript: dict[str, Any] = {
        "text": found.get("text") if isinstance(found.get("text"), str) else "",
        "language": found.get("language") if isinstance(found.get("language"), str) else "",
        "segments": [_segment(one, number, label) for number, one in enumerate(segments)],
    }
    if "windows" in found:
        transcript["windows"] = found["windows"]
        try:
            page_data(cast(Transcript, transcript))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise OptionError(f"{label}: its record is damaged ({type(error).__name__}: {error})") from None
    probabilities = found.get("language_probs")
    if isinstance(probabilities, dict) and all(isinstance(p, float) for p in probabilities.values()):
        transcript["language_probs"] = probabilities
    return cast(Transcript, transcript)


def _reject(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _segment(given: Any, number: int, label: str) -> dict[str, Any]:
    place = f"{label}: segment {number}"
    if not isinstance(given, dict):
        raise OptionError(f"{place}: expected an object, got {short_repr(given)}")
    segment: dict[str, Any] = {"id": number, "tokens": [], "text": _text(given, "text", place)}
    segment["start"], segment["end"] = _time(given, "start", place), _time(given, "end", place)
    segment["seek"] = given["seek"] if type(given.get("seek")) is int else 0
    for name, default in _NUMBERS.items():
        segment[name] = _number(given.get(name), default)
    words = given.get("words")
    if isinstance(words, list):
        segment["words"] = [_word(word, f"{place}, word {at}") for at, word in enumerate(words)]
    return segment


def _word(given: Any, place: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise OptionError(f"{place}: expected an object, got {short_repr(given)}")
    return {
        "word": _text(given, "word", place),
        "start": _time(given, "start", place),
        "end": _time(given, "end", place),
        "probability": _number(given.get("probability"), UNKNOWN, 0.0, 1.0),
    }


def _number(value: Any, default: float, minimum: float = -math.inf, maximum: float = math.inf) -> float:
    """Return a finite number as a float (JSON may have 1 for 1.0), or ``default`` for anything else."""
    number = as_float(value)
    return number if math.isfinite(number) and minimum <= number <= maximum else default


def _text(given: dict[str, Any], key: str, place: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise OptionError(f"{place}: expected a text as {key!r}, got {short_repr(value)}")
    return value


def _time(given: dict[str, Any], key: str, place: str) -> float:
    value: Any = given.get(key)
    if type(value) not in (int, float) or not 0 <= value < 1e9:
        raise OptionError(f"{place}: expected seconds as {key!r}, got {short_repr(value)}")
    return float(value)
