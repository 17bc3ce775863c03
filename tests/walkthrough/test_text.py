"""The walkthrough's Markdown is parsed into parts and written back unchanged."""

import inspect
from pathlib import Path

import pytest

from minwhisper.errors import WalkthroughError
from minwhisper.model import layers
from minwhisper.model.decoder import Cache
from minwhisper.walkthrough.text import Cell, Listing, PictureLink, Prose, Widget, parse, source_of, write

TEXT = Path(__file__).with_name("parts.md").read_text("utf-8")


@pytest.fixture
def parsed():
    return parse(TEXT)


def test_a_text_has_a_title_and_sections_of_parts(parsed):
    assert parsed.title == "A title"
    assert [section.heading for section in parsed.all_sections()] == ["1. First things", "2. Second things", "Glossary"]
    kinds = [[type(part) for part in parts] for parts in (parsed.introduction, *(s.parts for s in parsed.sections))]
    first = [Prose, Listing, Cell, Prose, Listing, Widget, Prose]
    assert kinds == [[Prose, Cell], first, [Cell, Prose, Widget]]
    assert [cell.code for cell in parsed.cells()] == ["x = 1", "print(x)\n\nx", "y = 2"]


def test_a_cell_has_the_output_and_the_picture_that_follow_it(parsed):
    before, listing, cell, after, folded, widget, _ = parsed.sections[0].parts
    assert cell.output == "1\n1"
    assert cell.picture == PictureLink("A picture of [one](x)", "minwhisper/walkthrough/pictures/one.svg")
    assert parsed.introduction[1] == Cell("x = 1", line=6)
    assert parsed.sections[1].parts[0].output == ""
    assert "no output, since" in before.text
    assert "two.svg" in after.text
    assert (listing.file, listing.name, listing.folded) == ("minwhisper/model/layers.py", "softmax", False)
    assert (folded.source, folded.folded, widget.name) == ("model.layers.gelu", True, "heads")


@pytest.mark.parametrize("name", ["architecture", "here-3", "overview"])
def test_a_picture_that_no_cell_draws_is_prose_even_after_a_cell(name):
    text = f"# T\n\n```python\n1\n```\n\n![a](minwhisper/walkthrough/pictures/{name}.svg)\n"
    cell, picture = parse(text).introduction
    assert (cell.picture, type(picture)) == (None, Prose)


def test_the_glossary_is_a_last_section_without_a_number(parsed):
    assert [part.text for part in parsed.glossary.parts] == ['- <a id="term-attention"></a>**attention**: an average.']
    assert list(parsed.parts())[-1] is parsed.glossary.parts[-1]


@pytest.mark.parametrize("text", [TEXT, "# T\n\n````md\n## 1. One\n```\n## 2. Two\n````\n", "# T\n\n## 1. Empty\n"])
def test_writing_gives_the_text_back(text):
    assert write(parse(text)) == text
    assert "Two" not in [section.title for section in parse(text).sections]  # this heading is in a block of code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no title\n", "walkthrough.md: expected a title"),
        ("# T\n\n```python\nx = 1\n", "walkthrough.md, line 3: the code block '```python' is not closed"),
        ("# T\n\n## 2. Two\n", "walkthrough.md, line 3: expected section 1, got 2"),
        (
            "# T\n\n## Glossary\n## 1. One\n",
            "walkthrough.md, line 4: expected no section after the glossary, got 'One'",
        ),
        ("# T\n\n<!-- widget: sliders -->\n", "walkthrough.md, line 3: expected a widget of playhead, heads, "),
        ("# T\n\n<!-- source: model.layers.gelu -->\ntext\n", "walkthrough.md, line 4: expected '```python .noeval'"),
    ],
)
def test_a_wrong_structure_is_an_error_with_its_line(text, message):
    with pytest.raises(WalkthroughError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)


def test_source_of_returns_functions_methods_and_classes():
    assert source_of("model.layers.softmax") == inspect.getsource(layers.softmax).rstrip("\n")
    assert source_of("model.decoder.Cache") == inspect.getsource(Cache).rstrip("\n")
    method = source_of("model.decoder.Cache.reorder")
    assert method.startswith("def reorder(")  # not indented
    assert '"""' in method


@pytest.mark.parametrize("name", ["model.layers.nothing", "nothing.softmax", "model.layers", "audio.mel.scale.x"])
def test_an_unknown_source_is_an_error(name):
    with pytest.raises(WalkthroughError, match=name):
        source_of(name)
