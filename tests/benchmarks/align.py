"""Measure alignment of known texts: word times against ``transcribe``'s, wrong words and sentences found, and speed.

    python tests/benchmarks/align.py [--model base]

Three recordings, each with the twelve clips of LJ Speech in a different order and with pauses. Each is aligned with
its true text, with one word per sentence replaced by one that was not said, and with three sentences added. A word
counts as found if its score is below the limit at which ``minwhisper align`` marks it as doubtful. Needs the
extra ``offline``.
"""

import argparse
import time
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any

import numpy as np

import bench_path  # noqa: F401 (first, so that this checkout is measured)
import minwhisper
from book import TEXTS, join_clips
from inputs import LJ
from minwhisper.cli.align import DOUBTFUL
from minwhisper.transcription.known_text import comparable

RECORDINGS = 3
PAUSE = 0.7  # seconds
OTHER_WORDS = ("elephant", "yesterday", "delicious", "umbrella", "seventeen", "mountain", "guitar", "whisper")
UNSAID = (
    "The quick brown fox jumps over the lazy dog in the middle of the night.",
    "Nobody had told her that the train would leave without them.",
    "We bought bread and apples at the market, and walked home in the rain.",
)
FAR = 0.5  # seconds

Word = dict[str, Any]
rng = np.random.default_rng(0)


def words_of(transcript: Any) -> list[Word]:
    """Return the words that contain letters or digits."""
    return [word for segment in transcript["segments"] for word in segment["words"] if comparable(word["word"])]


def start_differences(words: list[Word], others: list[Word]) -> list[float]:
    """Return the differences in seconds between the starts of words that both texts have."""
    keys = [[comparable(word["word"]) for word in side] for side in (words, others)]
    return [
        abs(words[match.a + i]["start"] - others[match.b + i]["start"])
        for match in SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks()
        for i in range(match.size)
    ]


def with_wrong_words(lines: list[str]) -> tuple[list[str], set[int]]:
    """Replace one word per line; return the lines, and the indices of these words among all words."""
    changed, places, before = [], set(), 0
    for line in lines:
        words = line.split()
        place = int(rng.integers(len(words)))
        words[place] = str(rng.choice(OTHER_WORDS))
        changed.append(" ".join(words))
        places.add(before + place)
        before += len(words)
    return changed, places


def is_doubtful(word: Word) -> bool:
    """Return whether the command would mark a word as doubtful."""
    return word["probability"] < DOUBTFUL


def main() -> None:
    """Run the measurements and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny.en")
    model = minwhisper.load_model(parser.parse_args().model)
    clips = {path.name: minwhisper.load_audio(path) for path in LJ}
    language = {"language": "en"} if model.is_multilingual else {}
    differences: list[float] = []
    wrong, found, others, false_alarms = 0, 0, 0, 0
    unsaid: list[float] = []
    minutes, seconds = 0.0, {"transcribe": 0.0, "align": 0.0}
    for _ in range(RECORDINGS):
        order = [int(number) for number in rng.permutation(len(clips))]
        lines = [TEXTS[number] for number in order]
        samples, _ = join_clips(clips, order, PAUSE)
        minutes += samples.size / 16000 / 60
        began = time.perf_counter()
        heard = model.transcribe(samples, word_timestamps=True, **language)
        seconds["transcribe"] += time.perf_counter() - began
        began = time.perf_counter()
        aligned = model.align(samples, "\n".join(lines), **language)
        seconds["align"] += time.perf_counter() - began
        differences += start_differences(words_of(aligned), words_of(heard))

        changed, places = with_wrong_words(lines)
        # "a--b" is one word of the text, but two of the alignment: join the latter by counting spaces.
        pieces = words_of(model.align(samples, "\n".join(changed), **language))
        starts = np.cumsum([piece["word"].startswith(" ") for piece in pieces]) - 1
        for place, group in groupby(zip(starts, pieces, strict=True), lambda pair: pair[0]):
            doubtful = any(is_doubtful(piece) for _, piece in group)
            if int(place) in places:
                wrong, found = wrong + 1, found + doubtful
            else:
                others, false_alarms = others + 1, false_alarms + doubtful

        longer = list(lines)
        for sentence in UNSAID:
            longer.insert(int(rng.integers(len(longer) + 1)), sentence)
        for segment in model.align(samples, "\n".join(longer), **language)["segments"]:
            if segment["text"].strip() in UNSAID:
                unsaid += [word["probability"] for word in segment["words"]]

    far = sum(difference > FAR for difference in differences)
    print(f"{model.name}: {minutes:.1f} minutes")
    print(f"starts: {len(differences)} words, median {np.median(differences):.3f} s apart,", end=" ")
    print(f"95 % within {np.percentile(differences, 95):.3f} s, more than {FAR} s: {far}")
    print("; ".join(f"{name}: {total / minutes:.1f} s per minute of audio" for name, total in seconds.items()))
    print(f"wrong words found: {found} of {wrong}; false alarms: {false_alarms} of {others}")
    print(f"words of sentences not said: {len(unsaid)}, the highest score {max(unsaid):.2g}")


if __name__ == "__main__":
    main()
