"""The display of an alignment: readable without colour, fitted to the terminal, and harmless to it."""

from minwhisper.scoring import align, format_alignment
from minwhisper.scoring.display import columns_of


def shown(reference: str, hypothesis: str, width: int = 80, **options) -> list[str]:
    return format_alignment(align(reference.split(), hypothesis.split()), width, **options).split("\n")


def test_lines_fit_the_width_and_a_longer_word_has_its_own():
    words = "one two three four " * 5 + "x" * 50 + " five"
    lines = shown(words, words, 30)
    assert all(len(line) <= 30 for line in lines if "xx" not in line)
    assert "REF: " + "x" * 50 in lines
    assert " ".join(line[5:] for line in lines if line.startswith("REF: ")).split() == words.split()


def test_wide_characters_take_two_columns():
    above, below, marks = shown("日本 語 de", "x 語 a")
    assert (above, below) == ("REF: 日本 語 de", "HYP: x    語 a")
    assert [columns_of(above[: above.index(char)]) for char in "日d"] == [marks.index("S"), marks.rindex("S")]


def test_escape_sequences_are_not_printed():
    assert "\x1b" not in "".join(shown("a\x1b[31mb c", "a\x1b[2Jb c"))
