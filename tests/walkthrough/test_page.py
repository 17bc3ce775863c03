"""The page: its content, its independence of other files, and its readability."""

import base64
import html
import re
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from minwhisper.errors import MissingExtraError, WalkthroughError
from minwhisper.walkthrough.markup import slug
from minwhisper.walkthrough.page import LONG_LISTING, page
from minwhisper.walkthrough.text import PICTURES as PICTURES_FOLDER
from minwhisper.walkthrough.text import WIDGETS, Prose, Walkthrough, parse, source_of
from page_sample import CLIP_BYTES, PICTURES, SAMPLE, SVG
from widget_sample import TOKENS, small_data

for library in ("markdown_it", "mdit_py_plugins", "pygments", "math_core"):
    pytest.importorskip(library, reason="pip install 'minwhisper[walkthrough]'")

ROOT = Path(__file__).parents[2]
CSS = "".join(
    (files("minwhisper.walkthrough") / name).read_text(encoding="utf-8") for name in ("page.css", "widgets.css")
)


FIRST = "1-the-mel-scale-log_energy-and-n-more"  # the anchor of section 1
VOID = {"meta", "link", "img", "br", "hr"}


class Reader(HTMLParser):
    """A parser that lists elements with their path of tags, attributes and text, and checks that all are closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        element = {"path": [*(above["tag"] for above in self.open), tag], "tag": tag, "text": "", **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag, (tag, self.getpos())

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def find(self, tag, **wanted):
        return [
            element
            for element in self.elements
            if element["tag"] == tag and all(element.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]


def made(text, pictures=PICTURES, data=None):
    return page(parse(text), pictures, CLIP_BYTES, data)


def prose(markdown):
    """Return the HTML of this prose."""
    text = made(f"# Title\n\nFirst.\n\n{markdown}\n")
    return re.search(r"</figure>\n(.*)\n</main>", text, re.DOTALL)[1].strip()


@pytest.fixture(scope="module")
def text():
    return made(SAMPLE)


@pytest.fixture(scope="module")
def reader(text):
    return Reader(text)


@pytest.fixture(scope="module")
def interactive():
    """Return the page with its interactive figures."""
    return Reader(made(SAMPLE, data=small_data()))


# ------------------------------------------------------------------------------------------ the whole page


def test_the_page_loads_nothing_and_adds_no_script(text, reader, interactive):
    assert [script.get("type") for script in interactive.find("script")] == [None, "application/json", None]
    for element in (*reader.elements, *interactive.elements):
        assert not any(name.startswith("on") for name in element), element  # the sample text has an onclick
        for attribute in ("src", "srcset", "data", "poster", "action", *(["href"] if element["tag"] != "a" else [])):
            assert element.get(attribute, "data:").startswith("data:"), element
    assert "url(" not in text
    assert "@import" not in text
    assert len(reader.find("script")) == 1
    (policy,) = reader.find("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none';")
    assert "http" not in policy["content"]


def test_the_page_has_landmarks_for_screen_readers(reader):
    assert reader.find("html", lang="en")
    assert [reader.find(tag)[0]["text"] for tag in ("title", "h1")] == ["Sound & text"] * 2
    assert len(reader.find("main")) == len(reader.find("nav", **{"aria-label": "Contents"})) == 1
    assert all(image["alt"] for image in reader.find("img"))
    assert reader.find("meta", name="description", content="What this is.")
    assert reader.find("meta", name="viewport", content="width=device-width, initial-scale=1")
    assert reader.find("meta", name="color-scheme", content="light dark")
    assert reader.find("p", class_="look")[0]["text"] == "Look for: what sound becomes (12 minutes)"
    assert reader.find("p", class_="know")[0]["text"] == "Now you know: what the model sees."
    text = made("# 1 < 2 & `</title>`\n")
    assert "<title>1 &lt; 2 &amp; &lt;/title&gt;</title>" in text
    assert '<h1 id="1--2--title">1 &lt; 2 &amp; <code>&lt;/title&gt;</code></h1>' in text


def assert_links_lead_somewhere(reader):
    ids = [element["id"] for element in reader.elements if "id" in element]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in reader.find("a") if link.get("href", "").startswith("#")}
    labels = {element["aria-labelledby"] for element in reader.elements if "aria-labelledby" in element}
    assert targets
    assert targets | labels <= set(ids)


def test_the_audio_player_follows_the_first_paragraph(text, reader):
    (audio,) = reader.find("audio")
    kind, content = audio["src"].split(";base64,")
    assert kind == "data:audio/flac"
    assert base64.b64decode(content) == CLIP_BYTES
    assert text.index("What this is.") < text.index("<audio") < text.index("More of it")
    assert "public domain" in reader.find("figure", class_="clip")[0]["text"]
    assert "<audio" in made("# Title\n\n```python\n1\n```\n")  # without a paragraph


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("What log_mel is: a picture", "what-log_mel-is-a-picture"),
        ("Für Élise – 語, ½ & ²", "für-élise--語---"),
        ("  A-B  c ", "a-b--c"),
        ("Try this", "try-this-2"),
    ],
)
def test_anchors_are_those_of_github_and_numbered_if_repeated(heading, anchor):
    taken = {"try-this", "try-this-1"}
    assert slug(heading, taken) == anchor
    assert anchor in taken


def test_anchors_of_sections_and_prose_are_numbered_together_and_linked(reader):
    assert_links_lead_somewhere(reader)
    entries = [element for element in reader.find("a") if "li" in element["path"] and "nav" in element["path"]]
    links = [(entry["href"], entry["text"].split()[0]) for entry in entries]
    assert links == [(f"#{FIRST}", "1."), ("#2-attention", "2."), ("#glossary", "Glossary")]
    assert [anchor["id"] for anchor in reader.find("a") if anchor.get("id")] == ["term-softmax", "term-width"]
    found = [element["id"] for element in reader.elements if element["tag"] in ("h1", "h2", "h3")]
    assert found == ["sound--text", FIRST, "try-this", "exercise-1-a-window", "2-attention", "try-this-1", "glossary"]


def test_boxes_end_at_the_next_heading(reader):
    tries, (exercise,) = reader.find("section", class_="try"), reader.find("section", class_="exercise")
    assert [box["text"].split()[0] for box in tries] == ["Try", "Try"]
    assert "(20, 201)" in tries[0]["text"]
    assert "Exercise" not in tries[0]["text"]
    assert "Write it." in exercise["text"]
    assert exercise["path"].count("section") == 2  # its own section inside section 1
    assert reader.find("h2")[1]["path"].count("section") == 1


# ------------------------------------------------------------------------------------------ code


def test_a_listing_shows_its_file_and_source_and_a_long_one_can_be_folded(reader):
    figure, *_ = reader.find("figure", class_="listing")
    assert figure["text"].startswith("minwhisper/audio/mel.py · scale")
    assert figure["text"].endswith(source_of("audio.mel.scale"))
    (folded,) = reader.find("details", class_="listing")
    assert "open" not in folded
    assert folded["text"] == f"minwhisper/model/layers.py · softmax{source_of('model.layers.softmax')}"
    long = "\n".join(["x = 1"] * (LONG_LISTING + 1))
    folded = Reader(made(f"# T\n\n<!-- source: a.b -->\n```python .noeval\n{long}\n```\n"))
    (details,) = folded.find("details", class_="listing")
    assert "open" in details
    assert folded.find("summary")[1]["text"] == "minwhisper/a.py · b"


def test_code_is_highlighted_and_its_output_follows_unchanged(text, reader):
    first = reader.find("div", class_="cell")[0]
    assert "<one> &&&&&&&&&&&&&&&&&&&&\ntwo" in first["text"]
    assert '</code></pre><pre class="output"' in text
    output = re.search(r'<pre class="output"[^>]*><samp>(.*?)</samp></pre>', text, re.DOTALL)[1]
    assert "<" not in output  # escaped, and not highlighted although it contains Python keywords
    assert len(reader.find("samp")) == 2  # the third cell has no output
    assert '<span class="k">for</span>' in text
    assert any(element["text"].startswith('for name in ["<one>", "two"]:') for element in reader.find("code"))
    assert Reader(made("# T\n\n```python\n\nx\n```\n")).find("div", class_="cell")[0]["text"] == "\nx"
    assert Reader(prose("```nonsense\nif a < b\n```")).find("code")[0]["text"] == "if a < b"


# ------------------------------------------------------------------------------------------ pictures


def test_a_picture_is_embedded_with_its_caption_and_a_note_replaces_a_missing_one(reader):
    here, image = reader.find("img")
    assert (here["alt"], here["path"][-2]) == ("You are here: the map", "figure")
    kind, content = image["src"].split(";base64,")
    assert kind == "data:image/svg+xml"
    assert base64.b64decode(content).decode() == SVG
    assert image["alt"] == 'How "loud" it is'
    assert [figure["text"] for figure in reader.find("figure", class_="picture")] == ['How "loud" it is']
    (note,) = reader.find("p", class_="missing")
    assert note["text"] == "Who looks at whom (picture omitted: matplotlib is not installed)"


# ------------------------------------------------------------------------------------------ boxes, answers, terms


def test_a_quotation_that_begins_in_bold_is_a_box(reader):
    (box,) = reader.find("aside", class_="box")
    assert box["text"].split("\n") == ["", "Aside: a zero. It is not silence. See softmax.", "A second paragraph.", ""]
    assert prose("> Plain.\n>\n> > **Nested: box.**").startswith('<blockquote>\n<p>Plain.</p>\n<aside class="box">')


def test_an_answer_is_folded_and_its_markdown_and_cells_are_rendered(reader):
    (answer,) = reader.find("details", class_="answer")
    assert "open" not in answer
    assert answer["text"].startswith("Answer\nIt changes:")
    assert "(20, 201)" in answer["text"]  # the answer's cell is rendered too


@pytest.mark.parametrize("after", ["", "\n\n## 2. Two"])
def test_an_answer_that_does_not_end_is_an_error_with_its_line(after):
    with pytest.raises(WalkthroughError, match=r"walkthrough\.md, line 5: <details> is not closed"):
        made(f"# T\n\n## 1. One\n\n<details><summary>Answer</summary>\n\nIt is.{after}\n")


# ------------------------------------------------------------------------------------------ interactive figures


def test_every_figure_is_a_picture_a_table_or_a_sentence_without_its_script(interactive, reader):
    figures = {figure["data-widget"]: figure for figure in interactive.find("figure") if "data-widget" in figure}
    assert set(figures) == set(WIDGETS)
    images = [image for image in interactive.find("img") if "png" in image["src"]]
    assert len(images) == 1 + 2 + 3  # one of the player, two of the playhead, three of the heads
    assert all(image["alt"] for image in images)
    for name in ("temperature", "candidates"):
        assert all(token.replace(" ", "␣", 1) in figures[name]["text"] for token in TOKENS[:1])
    assert "␣<b>not" in figures["candidates"]["text"]  # escaped
    assert interactive.find("p", class_="spoken")[0]["text"] == "Ask <b>not"
    twice = Reader(made("# T\n\n## 1. One\n\n<!-- widget: heads -->\n\n<!-- widget: heads -->\n", data=small_data()))
    assert len([image for image in twice.find("img") if "sheet" in image.get("class", "")]) == 3  # shared by both
    assert not [figure for figure in reader.find("figure") if "data-widget" in figure]  # without values


def test_sections_named_in_prose_are_linked(reader):
    links = [(a["href"], a["text"]) for a in reader.find("a") if a["text"].split()[:1] in (["section"], ["1"], ["2"])]
    two = "#2-attention"
    assert links == [(f"#{FIRST}", "1"), (two, "2"), (two, "section\n2"), (two, "section 2")]


# ------------------------------------------------------------------------------------------ prose


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("[mel.py](minwhisper/audio/mel.py)", '<code class="file">mel.py</code>'),
        ("[`mel.py`](minwhisper/audio/mel.py)", "<code>mel.py</code>"),
        ("[here](README.md#against)", '<code class="file">here</code>'),
        ("[N](https://numpy.org/?a=1&b=2)", '<a href="https://numpy.org/?a=1&amp;b=2">N</a>'),
        ("[up](#title)", '<a href="#title">up</a>'),
        ("![a & b](https://example.org/a.png)", "<em>a &amp; b</em>"),
        ("[x](//example.org/a)", '<code class="file">x</code>'),
        ("a <!-- no --> b", "a  b"),
        ("<!-- a --> c <script>b</script> & d", "c &lt;script&gt;b&lt;/script&gt; &amp; d"),
        ('<div onclick="a()">\nb\n</div>', "&lt;div onclick=&quot;a()&quot;&gt;\nb\n&lt;/div&gt;"),
        ("$a$5 and $ b $", "$a$5 and $ b $"),
    ],
)
def test_prose_is_markdown_without_html_or_links_to_files(markdown, expected):
    assert prose(markdown) == f"<p>{expected}</p>"


def test_a_table_scrolls_in_its_own_box_and_the_line_of_files_has_its_own_style(reader):
    (table,), (box,) = reader.find("table"), reader.find("div", class_="table")
    assert table["path"] == [*box["path"], "table"]
    cells = ["T", "frames of the spectrogram", "log_mel_spectrogram and whatever follows", "3000"]
    assert [cell["text"] for cell in reader.find("td")] == cells
    assert [where["text"] for where in reader.find("p", class_="where")] == ["In the package: mel.py, layers.py."]


# ------------------------------------------------------------------------------------------ mathematics


def formula(tex):
    """Return the MathML of a formula, without its wrapper."""
    ((alternative, math),) = re.findall(r'<math alttext="([^"]*)">(.*?)</math>', prose(f"${tex}$"), re.DOTALL)
    assert html.unescape(alternative) == tex
    return math


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\tanh x", '<mi>tanh</mi></mrow><mo lspace="0.1667em">'),  # a thin space after a function's name
        (r"\log(x)", '<mi>log</mi></mrow><mo>&ApplyFunction;</mo><mrow><mo stretchy="false">(</mo>'),  # but none here
        (r"\Phi\varphi", '<mi mathvariant="normal">Φ</mi></mrow><mi>φ</mi>'),
        (r"\lVert x\rVert", '<mo stretchy="false" form="prefix">‖</mo><mi>x</mi><mo stretchy="false" form="postfix">'),
        ("a-b/c", '<mi>a</mi><mo>−</mo><mi>b</mi><mo lspace="0" rspace="0">/</mo><mi>c</mi>'),
        (r"1{,}500", '<mn>1</mn><mo rspace="0">,</mo><mn>500</mn>'),
        (r"\text{if a<b}", "<mtext>if\N{NO-BREAK SPACE}a&lt;b</mtext>"),
    ],
)
def test_a_formula_is_converted_as_in_tex(tex, expected):
    assert expected in formula(tex)


def test_display_formulas_and_other_notations_are_converted():
    shown = prose("$$\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}\n$$")
    assert shown.startswith('<div class="math"><math')
    assert shown.count("<mtr>") == 2
    assert shown.count('<mtd style="text-align: right;') == 2
    assert prose("```math\na\n```").startswith('<div class="math"><math')
    assert '<span class="math"><math' in prose("so $$a$$ it is")
    assert prose("$`a`$") == prose("$a$")  # GitHub's other notation


@pytest.mark.parametrize("tex", [r"\foo", r"a & b", r"\begin{aligned} a"])
def test_an_unsupported_formula_is_an_error_with_its_line(tex):
    with pytest.raises(WalkthroughError) as error:
        page(Walkthrough("Title", (Prose(f"Text\n\n- more\n  and ${tex}$.", 3),), ()), {}, CLIP_BYTES)
    start = f"walkthrough.md, line 6: the formula '{tex}' cannot be converted at character "
    assert re.fullmatch(re.escape(start) + ".+", str(error.value))  # one line


# ------------------------------------------------------------------------------------------ without the libraries


@pytest.mark.parametrize(
    ("module", "name"), [("markdown_it", "markdown-it-py"), ("pygments", "pygments"), ("math_core", "math-core")]
)
def test_a_missing_library_is_named_with_its_installation(monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"needs {name}, which is not .*install 'minwhisper\[walkthrough\]'"):
        made(SAMPLE)


def test_every_kind_of_code_token_has_a_colour_or_is_plain():
    """Names, operators and whitespace are plain. The style has to colour every other kind of token."""
    code = "\n".join(f"```python\n{path.read_text()}\n```" for path in (ROOT / "minwhisper").glob("*.py"))
    used = set(re.findall(r'<span class="(\w+)">', made(f"# T\n\n{code}\n")))
    coloured = set(re.findall(r"\.(\w+)(?=[^{}]*\{ color)", CSS))
    plain = {"n", "nn", "o", "p", "w", "fm", "vm", "nv", "vc"}
    assert {"k", "nf", "s2", "mi", "c1", "sd"} <= used & coloured
    assert used <= coloured | plain, used - coloured - plain


def test_the_links_of_the_real_page_lead_somewhere():
    files = (ROOT / PICTURES_FOLDER).glob("*.svg")
    pictures = {path.relative_to(ROOT).as_posix(): path.read_text() for path in files}
    reader = Reader(made((ROOT / "walkthrough.md").read_text(encoding="utf-8"), pictures))
    assert_links_lead_somewhere(reader)
    assert not reader.find("p", class_="missing")
