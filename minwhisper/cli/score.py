"""The command ``minwhisper score``: word and character error rates of transcripts, and an alignment word by word."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..common.console import Console
from ..errors import TextError
from ..printable import printable, short_repr
from ..scoring.alignment import Pair, align
from ..scoring.display import Style, columns_of, format_alignment
from ..scoring.error_rate import ErrorCounts, count_errors, split_characters, split_words
from ..scoring.normalize import Normalizer, normalize_basic, normalize_english
from ..scoring.texts import pair_files, read_text
from ..tokenizer.languages import TO_LANGUAGE_CODE

NORMALIZERS: Mapping[str, Normalizer | None] = {"english": normalize_english, "basic": normalize_basic, "none": None}
COLOURS = {"S": "33", "D": "31", "I": "32"}  # yellow, red, green


@dataclass(frozen=True)
class Score:
    """The comparison of two texts."""

    name: str
    reference: Path
    hypothesis: Path
    normalize: str  # of NORMALIZERS
    word_pairs: Sequence[Pair]
    character_pairs: Sequence[Pair]

    @property
    def words(self) -> ErrorCounts:
        """Return the counts of words."""
        return count_errors(self.word_pairs)

    @property
    def characters(self) -> ErrorCounts:
        """Return the counts of characters."""
        return count_errors(self.character_pairs)


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the error rates of a file, or of the files of a folder, and return the exit status."""
    pairs, unpaired = pair_files(options.reference, options.hypothesis)
    scores = [_score(name, *files, options.normalize, console) for name, files in pairs.items()]
    for path in unpaired:
        console.note(f"{path}: the other folder has no file of this name; not counted")
    if options.json:
        console.text(as_json(scores, unpaired, options))
        return 0
    if options.alignment:
        width = shutil.get_terminal_size().columns - 1  # a full line would wrap in some terminals
        for score in scores:
            shown = score.character_pairs if options.cer else score.word_pairs
            text = format_alignment(shown, width, _style(), separator="" if options.cer else " ")
            console.text(f"{printable(score.name)}\n\n{text}\n")
    for line in as_table(scores, options.cer):
        console.text(line)
    return 0


def _score(name: str, reference: Path, hypothesis: Path, normalize: str | None, console: Console) -> Score:
    """Compare two files. Raises ``TextError`` for a reference without words."""
    theirs, ours = read_text(reference), read_text(hypothesis)
    if normalize is None:
        language = theirs.language or ours.language or "en"
        normalize = "english" if TO_LANGUAGE_CODE.get(language.lower()) == "en" else "basic"
        if normalize == "basic":
            console.note(f"{name}: basic normalisation, because its language is {short_repr(language)}")
    normalizer = NORMALIZERS[normalize]
    if not split_words(theirs.text, normalizer):
        after = f" after {normalize} normalisation (--normalize)" if normalizer and theirs.text.strip() else ""
        raise TextError(f"{reference}: the reference has no words{after}; expected the text that was spoken")
    return Score(
        name,
        reference,
        hypothesis,
        normalize,
        align(*(split_words(text, normalizer) for text in (theirs.text, ours.text))),
        align(*(split_characters(text, normalizer) for text in (theirs.text, ours.text))),
    )


def as_table(scores: Sequence[Score], by_character: bool) -> list[str]:
    """Return a line for each text, and for all of them if there are several."""
    rows = [(printable(score.name, 40), score.words, score.characters) for score in scores]
    if len(rows) > 1:
        rows.append(("total", *_total(scores)))
    width = max(columns_of(name) for name, _, _ in rows)
    unit = "characters" if by_character else "words"
    lines = [f"{'':{width}} {'WER':>9} {'CER':>9} {'S':>6} {'D':>6} {'I':>6} {unit:>10}"]
    for name, words, characters in rows:
        counts = characters if by_character else words
        figures = (counts.substitutions, counts.deletions, counts.insertions)
        rates = " ".join(f"{100 * rate:>7.2f} %" for rate in (words.rate, characters.rate))
        space = " " * (width - columns_of(name))
        lines.append(f"{name}{space} {rates} {' '.join(f'{figure:>6,}' for figure in figures)} {counts.length:>10,}")
    return lines


def as_json(scores: Sequence[Score], unpaired: Sequence[Path], options: argparse.Namespace) -> str:
    """Return everything as JSON; alignments are lists of [reference, hypothesis], null for a word that is missing."""
    texts: list[dict[str, Any]] = []
    for score in scores:
        paths = {"reference": str(score.reference), "hypothesis": str(score.hypothesis)}
        rates = _rates(score.words, score.characters)
        texts.append({"name": score.name, **paths, "normalize": score.normalize, **rates})
        if options.alignment:
            texts[-1]["alignment"] = score.character_pairs if options.cer else score.word_pairs
    content = {"texts": texts, "total": _rates(*_total(scores)), "unpaired": [str(path) for path in unpaired]}
    return json.dumps(content, indent=None if options.alignment else 2, ensure_ascii=False)


def _total(scores: Sequence[Score]) -> tuple[ErrorCounts, ErrorCounts]:
    """Return the counts of words and of characters of all texts."""
    words = sum((score.words for score in scores), ErrorCounts())
    return words, sum((score.characters for score in scores), ErrorCounts())


def _rates(words: ErrorCounts, characters: ErrorCounts) -> dict[str, dict[str, float]]:
    return {
        unit: {**asdict(counts), "rate": counts.rate} for unit, counts in (("words", words), ("characters", characters))
    }


def _style() -> Style | None:
    """Return the colours of errors on a terminal."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return None
    return lambda mark, text: f"\033[{COLOURS[mark]}m{text}\033[0m" if mark else text
