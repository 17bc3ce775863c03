"""Read the texts to score from files and folders: plain text, subtitles, tables and JSON, without their times."""

import html
import json
import re
from pathlib import Path
from typing import NamedTuple

from ..common.untrusted import MAX_TEXT_BYTES
from ..errors import TextError

SUFFIXES = (".json", ".jsonl", ".txt", ".vtt", ".srt", ".tsv")
"""The suffixes of the files that are read from a folder, in order of preference: JSON also has the language."""

_TIMES = re.compile(r"^[^\n]*-->[^\n]*$", re.MULTILINE)


class Text(NamedTuple):
    """The text of a file, and its language if the file contains it."""

    text: str
    language: str | None = None


class Pairing(NamedTuple):
    """The files of two folders, by their names without suffix."""

    pairs: dict[str, tuple[Path, Path]]  # reference, hypothesis
    unpaired: list[Path]  # in one of the folders only


def pair_files(reference: Path, hypothesis: Path) -> Pairing:
    """Pair two files, or the files of two folders that have the same name up to the suffix.

    In a folder, files with a suffix that is not in ``SUFFIXES`` are ignored. Raises ``TextError`` if there is no pair,
    or for a file and a folder.
    """
    for path in (reference, hypothesis):
        if not path.exists():
            raise TextError(f"{path}: there is no such file or folder; check the path")
    if reference.is_dir() != hypothesis.is_dir():
        folder, file = (reference, hypothesis) if reference.is_dir() else (hypothesis, reference)
        raise TextError(f"{folder} is a folder and {file} is a file: expected two files, or two folders")
    if not reference.is_dir():
        return Pairing({hypothesis.stem: (reference, hypothesis)}, [])
    theirs, ours = _by_stem(reference), _by_stem(hypothesis)
    pairs = {stem: (theirs[stem], ours[stem]) for stem in sorted(theirs.keys() & ours.keys())}
    if not pairs:
        raise TextError(
            f"{reference} and {hypothesis}: no two files have the same name; expected pairs such as talk.txt in both, "
            f"with a suffix among {', '.join(SUFFIXES)}"
        )
    unpaired = [theirs.get(stem) or ours[stem] for stem in sorted(theirs.keys() ^ ours.keys())]
    return Pairing(pairs, unpaired)


def read_text(path: Path) -> Text:
    """Return the text of a file, read according to its suffix: .srt, .vtt, .tsv, .json, .jsonl, or else plain text.

    Raises ``TextError`` for a file that cannot be read, is not UTF-8, or does not have the structure of its suffix.
    """
    content = _decoded(path)
    match path.suffix.lower():
        case ".json":
            return _read_json(path, content)
        case ".jsonl":
            parts = [_read_json(path, line) for line in content.split("\n") if line]
            return Text("".join(part.text for part in parts), parts[0].language if parts else None)
        case ".tsv":
            return Text(_read_tsv(path, content))
        case ".srt" | ".vtt":
            return Text(_read_subtitles(path, content))
    return Text(content)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for suffix in SUFFIXES:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() == suffix and path.is_file() and not path.name.startswith("."):
                found.setdefault(path.stem, path)
    return found


def _decoded(path: Path) -> str:
    """Return the content of a UTF-8 file with line feeds, without a byte order mark."""
    if path.is_dir():
        raise TextError(f"{path}: is a folder, expected a text file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        reason = error.strerror or error
        raise TextError(f"{path}: cannot be read ({reason}); check the file and its permissions") from None
    if len(data) > MAX_TEXT_BYTES:
        raise TextError(f"{path}: expected at most {MAX_TEXT_BYTES:,} bytes of text, the file has more; is it audio?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(path, f"byte {error.start} is not UTF-8") from None
    if "\0" in text:
        raise _not_text(path, "it contains NUL characters")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _not_text(path: Path, reason: str) -> TextError:
    return TextError(f"{path}: is not text ({reason}); transcribe an audio file first, or save the text as UTF-8")


def _read_json(path: Path, content: str) -> Text:
    wanted = 'expected a transcript in JSON, {"text": "…", …}, as minwhisper and openai-whisper write it'
    try:
        transcript = json.loads(content)
    except (ValueError, RecursionError):
        raise TextError(f"{path}: is not JSON; {wanted}") from None
    if not isinstance(transcript, dict) or not isinstance(transcript.get("text"), str):
        raise TextError(f"{path}: has no text; {wanted}")
    language = transcript.get("language")
    return Text(transcript["text"], language if isinstance(language, str) else None)


def _read_tsv(path: Path, content: str) -> str:
    header, *rows = content.splitlines() or [""]
    cells = [row.split("\t") for row in rows if row]
    if header.split("\t") != ["start", "end", "text"] or any(len(row) != 3 for row in cells):
        raise TextError(f"{path}: expected a table with the columns start, end and text, separated by tabs")
    return "\n".join(text for _, _, text in cells)


def _read_subtitles(path: Path, content: str) -> str:
    """Return the text below the times of each subtitle, without tags such as <i>."""
    blocks = re.split(r"\n[^\S\n]*\n", content)
    texts = [block[found.end() :] for block in blocks if (found := _TIMES.search(block))]
    if not texts and content.strip() and not content.startswith("WEBVTT"):
        raise TextError(f"{path}: expected subtitles with times such as 00:00:01,000 --> 00:00:02,500, found none")
    text = re.sub(r"<[^<>\n]*>", "", "\n".join(texts))
    return html.unescape(text) if content.startswith("WEBVTT") else text
