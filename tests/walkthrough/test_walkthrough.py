"""The walkthrough itself: its cells run and give the outputs in the text, and it links to the code."""

import ast
import contextlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from minwhisper.exercises import EXERCISES
from minwhisper.walkthrough.compare_outputs import first_difference
from minwhisper.walkthrough.drawing import Drawing
from minwhisper.walkthrough.overview import draw_overview
from minwhisper.walkthrough.run import OVERVIEW, WITHOUT_CELL, run, stale_listings, stored_pictures
from minwhisper.walkthrough.text import PICTURES, Cell, Listing, Prose, find_walkthrough, parse, write

ROOT = Path(__file__).parents[2]
FILE = ROOT / "walkthrough.md"
FOLDER = ROOT / "minwhisper" / "walkthrough" / "pictures"
TEXT = FILE.read_text("utf-8")
WALKTHROUGH = parse(TEXT)
SECTIONS = WALKTHROUGH.sections
MENTIONED = re.compile(r"\[([\w/]+\.py)\]\(minwhisper/\1\)")


def prose(section) -> str:
    return "\n\n".join(part.text for part in section.parts if isinstance(part, Prose))


def files_of(section) -> str:
    """Return the paragraph that names the files of a section."""
    return next(text for text in prose(section).split("\n\n") if text.startswith("*In the package: "))


@pytest.fixture(scope="module")
def results(tiny_en, base, tmp_path_factory):  # skips without these models
    """Run the cells in an empty folder, like those of the notebook: they need no files of the repository."""
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        return [result for _, _, result in run(WALKTHROUGH, FILE) if result]


@pytest.mark.longest
def test_every_cell_gives_the_output_in_the_text(results):
    assert len(results) == len(list(WALKTHROUGH.cells())) > 50
    assert [result.difference or result.note for result in results if result.difference or result.note] == []
    assert sum(result.drawing is not None for result in results) >= len(SECTIONS)  # pictures are compared by their data


@pytest.mark.longest
def test_any_wrong_digit_is_found(results):
    tried = 0
    for result in results:
        shown = result.output
        for number in re.finditer(r"(?<![~\w.+-])\d+(\.\d+)?(?![\w.])", shown):
            line = shown[shown.rfind("\n", 0, number.start()) + 1 : number.start()]
            if "≈" in line:
                continue
            digit = str((int(number[0][0]) + 3) % 10)
            wrong = shown[: number.start()] + digit + shown[number.start() + 1 :]
            assert first_difference(wrong, result.output), (result.place, number[0])
            tried += 1
    assert tried > 300


def test_listings_are_the_package_source():
    assert stale_listings(WALKTHROUGH) == []
    listings = [part for section in SECTIONS for part in section.parts if isinstance(part, Listing)]
    assert len(listings) >= len(SECTIONS)
    spoiled = replace(listings[0], code=listings[0].code + "\n# no")
    sections = (replace(SECTIONS[0], parts=(spoiled,)), *SECTIONS[1:])
    assert stale_listings(replace(WALKTHROUGH, sections=sections)) == [spoiled]


def test_the_text_is_part_of_the_package_and_in_normal_form():
    assert find_walkthrough().read_text("utf-8") == TEXT == write(WALKTHROUGH)
    for cell in WALKTHROUGH.cells():
        for line in (*cell.code.splitlines(), *cell.output.splitlines()):
            assert len(line) <= 88, line  # the width of the page


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_a_section_is_complete(section):
    text = prose(section)
    assert files_of(section)
    paragraphs = text.split("\n\n")
    assert paragraphs[0].startswith("![You are here: ")
    assert paragraphs[0].endswith(f"({PICTURES}here-{section.number}.svg)")
    assert paragraphs[1].startswith("**Look for:** ")
    assert "\n\n**Now you know:** " in text
    assert text.count("<details><summary>Answer</summary>") == text.count("### Try this") == 1
    assert "### Try this" in text
    assert any(isinstance(part, Listing) for part in section.parts)
    assert any(isinstance(part, Cell) and part.picture for part in section.parts)
    assert any(isinstance(part, Cell) and part.output for part in section.parts)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_the_reading_time_is_that_of_words_and_code(section):
    """A reader is assumed to read 200 words or 20 lines of code per minute."""
    stated = int(re.search(r"\((\d+)\s+minutes\)", prose(section))[1])
    words = len(re.findall(r"[A-Za-z']+", prose(section)))
    lines = sum(len(part.code.splitlines()) for part in section.parts if isinstance(part, Cell | Listing))
    assert stated == pytest.approx(words / 200 + lines / 20, abs=1.5)


def test_terms_of_the_glossary_are_linked_from_the_text_and_explained_once():
    terms = re.findall(r'<a id="(term-[\w-]+)"></a>', TEXT)
    assert sorted(set(terms)) == terms
    assert set(re.findall(r"\(#(term-[\w-]+)\)", TEXT)) == set(terms)


def test_pictures_are_stored_small_and_linked():
    linked = [cell.picture for cell in WALKTHROUGH.cells() if cell.picture]
    stored = [path.name for path in stored_pictures()]  # those of the package, which may be installed elsewhere
    assert sorted(picture.path for picture in linked) == sorted(f"{PICTURES}{name}" for name in stored)
    assert all(len(picture.alt) > 30 for picture in linked)
    assert {*stored, *WITHOUT_CELL} == {path.name for path in FOLDER.iterdir()}
    for file in FOLDER.iterdir():
        assert file.stat().st_size < 60_000
        assert Drawing.from_svg(file.read_text("utf-8")).facts


def test_the_picture_in_the_readme_is_up_to_date(tiny_en):
    facts = Drawing.from_svg((FOLDER / OVERVIEW).read_text("utf-8")).facts
    assert first_difference(facts, draw_overview().facts) is None


def test_modules_and_sections_refer_to_each_other():
    named = {}
    for section in SECTIONS:
        for name in MENTIONED.findall(files_of(section)):
            named.setdefault(name, []).append(section.number)
    says = {}
    for path in (ROOT / "minwhisper").rglob("[!_]*.py"):
        line = re.search(r"^Walkthrough: sections? (.*)\.$", ast.get_docstring(ast.parse(path.read_text())) or "", re.M)
        if line:
            says[str(path.relative_to(ROOT / "minwhisper"))] = [int(number) for number in re.findall(r"\d+", line[1])]
    assert says == named


def test_exercises_are_in_their_sections():
    for exercise in EXERCISES:
        assert f"### Exercise {exercise.number}: " in prose(SECTIONS[exercise.section - 1])
        assert f"minwhisper exercise {exercise.number}" in prose(SECTIONS[exercise.section - 1])
    assert len(re.findall(r"^### Exercise", TEXT, re.M)) == len(EXERCISES)


def test_linked_files_exist():
    targets = re.findall(r"\]\((?!https://)([^)#]+)\)", TEXT)
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []
