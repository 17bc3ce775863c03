"""The page: its content, that it needs nothing else, and that it is readable."""

import base64
import re
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import pytest

from contrast import contrast
from minwhisper.errors import MissingExtraError, WalkthroughError
from minwhisper.parity.comparison import CLIP, REFERENCE_FOLDER
from minwhisper.walkthrough.page import LONG_LISTING, page, slug
from minwhisper.walkthrough.run import with_results
from minwhisper.walkthrough.text import PICTURES as PICTURES_FOLDER
from minwhisper.walkthrough.text import Prose, Walkthrough, parse, source_of, write

for library in ("markdown_it", "mdit_py_plugins", "pygments", "latex2mathml"):
    pytest.importorskip(library, reason="pip install 'minwhisper[walkthrough]'")

ROOT = Path(__file__).parents[2]
CSS = (files("minwhisper.walkthrough") / "page.css").read_text(encoding="utf-8")
CLIP_BYTES = (REFERENCE_FOLDER / CLIP).read_bytes()
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="576" height="216" viewBox="0 0 576 216"><style>svg{color:#1f2328}'
    "@media (prefers-color-scheme: dark){svg{color:#e6edf3}}</style>"
    '<path d="M9 9V199H560" fill="none" stroke="currentColor"/></svg>'
)
PICTURES = {f"minwhisper/walkthrough/pictures/{name}.svg": SVG for name in ("here", "here-1")}


# All kinds of content, with lines, tables and formulas too wide for a phone; the listings are filled in.
SAMPLE = write(with_results(parse(Path(__file__).with_name("page.md").read_text("utf-8")), {}))

FIRST = "1-the-mel-scale-log_energy-and-n-more"  # the anchor of section 1
VOID = {"meta", "link", "img", "br", "hr"}


class Reader(HTMLParser):
    """A parser that lists elements as (path of tags, attributes, text), and checks that all are closed."""

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


def made(text, pictures=PICTURES):
    return page(parse(text), pictures, CLIP_BYTES)


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


# ------------------------------------------------------------------------------------------ the whole


def test_the_page_loads_nothing_and_adds_no_script(text, reader):
    for element in reader.elements:
        assert not any(name.startswith("on") for name in element), element  # as in the sample's onclick
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
    assert reader.find("meta", name="viewport", content="width=device-width, initial-scale=1")


def test_titles_are_escaped():
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


def test_ids_are_unique_and_internal_links_lead_to_one(reader):
    assert_links_lead_somewhere(reader)


def test_the_contents_list_every_section(reader):
    entries = [element for element in reader.find("a") if "li" in element["path"] and "nav" in element["path"]]
    links = [(entry["href"], entry["text"].split()[0]) for entry in entries]
    assert links == [(f"#{FIRST}", "1."), ("#2-attention", "2."), ("#glossary", "Glossary")]


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
        ("3. Convolution and positions", "3-convolution-and-positions"),
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


def test_anchors_of_sections_and_prose_are_numbered_together(reader):
    found = [element["id"] for element in reader.elements if element["tag"] in ("h1", "h2", "h3")]
    assert found == ["sound--text", FIRST, "try-this", "exercise-1-a-window", "2-attention", "try-this-1", "glossary"]


def test_boxes_end_at_the_next_heading(reader):
    tries, (exercise,) = reader.find("section", class_="try"), reader.find("section", class_="exercise")
    assert [box["text"].split()[0] for box in tries] == ["Try", "Try"]
    assert "(20, 201)" in tries[0]["text"]
    assert "Exercise" not in tries[0]["text"]
    assert "Write it." in exercise["text"]
    assert exercise["path"].count("section") == 2  # its own and that of section 1
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


def test_an_output_follows_its_code_unchanged(text, reader):
    first = reader.find("div", class_="cell")[0]
    assert "<one> &&&&&&&&&&&&&&&&&&&&\ntwo" in first["text"]
    assert '</code></pre><pre class="output"' in text
    output = re.search(r'<pre class="output"[^>]*><samp>(.*?)</samp></pre>', text, re.DOTALL)[1]
    assert "<" not in output  # escaped, and not highlighted although it holds words of Python
    assert len(reader.find("samp")) == 2  # the third cell shows none


def test_code_is_highlighted_and_complete(text, reader):
    assert '<span class="k">for</span>' in text
    assert any(element["text"].startswith('for name in ["<one>", "two"]:') for element in reader.find("code"))
    assert Reader(made("# T\n\n```python\n\nx\n```\n")).find("div", class_="cell")[0]["text"] == "\nx"


@pytest.mark.parametrize("fence", ["sh", "", "nonsense", "python .noeval"])
def test_blocks_of_any_language_are_code(fence):
    assert Reader(prose(f"```{fence}\nif a < b\n```")).find("code")[0]["text"] == "if a < b"


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


def test_a_picture_in_prose_is_embedded_or_dropped():
    assert prose("![a & b](https://example.org/a.png)") == "<p><em>a &amp; b</em></p>"
    assert '<img src="data:image/svg+xml;base64,' in prose("See ![it](minwhisper/walkthrough/pictures/here.svg) here.")


# ------------------------------------------------------------------------------------------ boxes, answers, terms


def test_a_quotation_that_begins_in_bold_is_a_box(reader):
    (box,) = reader.find("aside", class_="box")
    assert box["text"].split("\n") == ["", "Aside: a zero. It is not silence. See softmax.", "A second paragraph.", ""]
    assert prose("> Plain.\n>\n> > **Nested: box.**").startswith('<blockquote>\n<p>Plain.</p>\n<aside class="box">')


def test_an_answer_is_folded_and_its_markdown_and_cells_are_rendered(reader):
    (answer,) = reader.find("details", class_="answer")
    assert "open" not in answer
    assert answer["text"].startswith("Answer\nIt changes:")
    assert "(20, 201)" in answer["text"]  # the cell, too


@pytest.mark.parametrize("after", ["", "\n\n## 2. Two"])
def test_an_answer_that_does_not_end_is_an_error_with_its_line(after):
    with pytest.raises(WalkthroughError, match="walkthrough.md, line 5: <details> is not closed"):
        made(f"# T\n\n## 1. One\n\n<details><summary>Answer</summary>\n\nIt is.{after}\n")


def test_what_a_section_is_about_is_marked(reader):
    assert reader.find("p", class_="look")[0]["text"] == "Look for: what sound becomes (12 minutes)"
    assert reader.find("p", class_="know")[0]["text"] == "Now you know: what the model sees."


def test_terms_have_anchors(reader):
    assert [anchor["id"] for anchor in reader.find("a") if anchor.get("id")] == ["term-softmax", "term-width"]


# ------------------------------------------------------------------------------------------ prose


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("[mel.py](minwhisper/audio/mel.py)", '<code class="file">mel.py</code>'),
        ("[`mel.py`](minwhisper/audio/mel.py)", "<code>mel.py</code>"),
        ("[here](README.md#against)", '<code class="file">here</code>'),
        ("[N](https://numpy.org/?a=1&b=2)", '<a href="https://numpy.org/?a=1&amp;b=2">N</a>'),
        ("[up](#title)", '<a href="#title">up</a>'),
        ("[x](//example.org/a)", '<code class="file">x</code>'),
        ("[](https://numpy.org)", '<a href="https://numpy.org"></a>'),
        ("a <!-- no --> b", "a  b"),
        ("a <b>c</b> & d", "a &lt;b&gt;c&lt;/b&gt; &amp; d"),
        ("~~old~~", "<s>old</s>"),
        ("from $5 to $6", "from $5 to $6"),
        ("$a$5 and $ b $", "$a$5 and $ b $"),
    ],
)
def test_prose_is_markdown_without_html_or_links_to_files(markdown, expected):
    assert prose(markdown) == f"<p>{expected}</p>"


def test_html_is_shown_as_text_and_comments_are_dropped():
    assert prose('<div onclick="a()">\nb\n</div>') == "<p>&lt;div onclick=&quot;a()&quot;&gt;\nb\n&lt;/div&gt;</p>"
    assert prose("<!-- a\n\nb -->") == ""
    assert prose("<!-- a --> c <script>b</script>") == "<p>c &lt;script&gt;b&lt;/script&gt;</p>"


def test_a_table_scrolls_in_its_own_box_and_the_line_of_files_has_its_own_style(reader):
    (table,), (box,), (where,) = (
        reader.find("table"),
        reader.find("div", class_="table"),
        reader.find("p", class_="where"),
    )
    assert table["path"] == [*box["path"], "table"]
    cells = ["T", "frames of the spectrogram", "log_mel_spectrogram and whatever follows", "3000"]
    assert [cell["text"] for cell in reader.find("td")] == cells
    assert where["text"] == "In the package: mel.py, layers.py."


# ------------------------------------------------------------------------------------------ mathematics


def formula(tex, display=False):
    """Return the MathML of a formula, without its wrapper."""
    sign = "$$" if display else "$"
    (math,) = re.findall(r"<math.*?</math>", prose(f"{sign}{tex}{sign}"), re.DOTALL)
    element = ElementTree.fromstring(math)
    assert element.get("alttext") == tex
    return re.sub(r"</?math[^>]*>", "", math).removeprefix("<mrow>").removesuffix("</mrow>")


def test_formulas_become_mathml_but_prices_do_not(reader):
    displays = [math["display"] for math in reader.find("math")]
    assert displays == [*["inline"] * 5, *["block"] * 2]  # one in the contents and in the heading each
    shown = "".join(element["text"] for element in reader.find("main"))
    assert shown.count("$") == 2
    assert "It costs $5, not 10$." in shown
    assert "\\" not in "".join(math["text"] for math in reader.find("math"))


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\mathrm{softmax}", "<mtext>softmax</mtext>"),
        (r"\operatorname{erf} x", '<mi>erf</mi><mspace width="0.167em" /><mi>x</mi>'),
        (r"\log(x)", '<mi>log</mi><mo stretchy="false">(</mo><mi>x</mi><mo stretchy="false">)</mo>'),
        (r"\tanh\left(x\right)", "<mi>tanh</mi><mrow><mo"),
        (r"2\log_2 x", '<mn>2</mn><mspace width="0.167em" /><msub><mi>log</mi><mn>2</mn></msub><mspace width='),
        (r"\max_i x", '<munder><mo movablelimits="true" lspace="0" rspace="0">max</mo><mi>i</mi></munder><mspace'),
        (r"\arg\max_t p", '<mi>arg</mi><mspace width="0.167em" /><munder>'),
        (r"a \bmod b", "<mi>a</mi><mo>mod</mo><mi>b</mi>"),
        (r"\Phi\varphi", '<mi mathvariant="normal">Φ</mi><mi>φ</mi>'),
        (r"\lvert x\rvert", '<mo stretchy="false" lspace="0" rspace="0">|</mo><mi>x</mi><mo stretchy="false" '),
        (r"\lVert x\rVert", '<mo stretchy="false" lspace="0" rspace="0">‖</mo><mi>x</mi><mo stretchy="false" '),
        ("x_{a-b}", '<mi>a</mi><mo lspace="0" rspace="0">−</mo><mi>b</mi>'),
        ("a-b/c", '<mi>a</mi><mo>−</mo><mi>b</mi><mo lspace="0" rspace="0">/</mo><mi>c</mi>'),
        (r"K^\mathrm{T}", "<msup><mi>K</mi><mtext>T</mtext></msup>"),
        ("|x|^2", '<mo stretchy="false" lspace="0" rspace="0">|</mo><mi>x</mi><msup><mo stretchy="false" lspace="0"'),
        (r"\left|x\right|", '<mo stretchy="true" fence="true" form="prefix">|</mo><mi>x</mi><mo stretchy="true"'),
        (r"1{,}500", "<mn>1</mn><mtext>,</mtext><mn>500</mn>"),
        (r"a\!b", '<mspace width="-0.167em" />'),
        (r"\text{if } a<b", "<mtext>if\N{NO-BREAK SPACE}</mtext><mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
        (r"\text{a<b & c}", "<mtext>a&lt;b\N{NO-BREAK SPACE}&amp;\N{NO-BREAK SPACE}c</mtext>"),
    ],
)
def test_a_formula_is_converted_as_in_tex(tex, expected):
    assert expected in formula(tex)


def test_display_formulas_and_other_notations():
    shown = prose("$$\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}\n$$")
    assert shown.startswith('<div class="math"><math')
    assert shown.count("<mtr>") == 2
    assert shown.count('<mtd columnalign="right">') == 2
    assert prose("```math\na\n```").startswith('<div class="math"><math')
    assert '<span class="math"><math' in prose("so $$a$$ it is")
    assert prose("$`a`$") == prose("$a$")  # GitHub's other way to write one


@pytest.mark.parametrize(
    "tex", [r"\foo", r"a_", r"\frac{a}", r"a & b", r"\begin{aligned} a", r"\operatorname*{arg\,max}_t"]
)
def test_an_unsupported_formula_is_an_error_with_its_line(tex):
    with pytest.raises(WalkthroughError) as error:
        page(Walkthrough("Title", (Prose(f"Text\n\n- more\n  and ${tex}$.", 3),), ()), {}, CLIP_BYTES)
    start = f"walkthrough.md, line 6: the formula '{tex}' cannot be converted: "
    assert re.fullmatch(re.escape(start) + ".+", str(error.value))  # one line


# ------------------------------------------------------------------------------------------ without the libraries


LIBRARIES = {
    "markdown_it": "markdown-it-py",
    "mdit_py_plugins.dollarmath": "mdit-py-plugins",
    "pygments": "pygments",
    "latex2mathml.converter": "latex2mathml",
}


@pytest.mark.parametrize(("module", "name"), LIBRARIES.items())
def test_a_missing_library_is_named_with_its_installation(monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"needs {name}, which is not .*install 'minwhisper\[walkthrough\]'"):
        made(SAMPLE)


# ------------------------------------------------------------------------------------------ colours


def colours(dark):
    """Return the colours of the style, by name."""
    light, night = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light + (night if dark else "")))
    assert set(re.findall(r"--([\w-]+): #", light)) == set(re.findall(r"--([\w-]+): #", night))
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_is_readable_on_every_background(dark):
    style = colours(dark)
    writing = [name for name in style if name.startswith("code") or name in ("ink", "muted", "accent")]
    assert len(writing) == 10
    for name in writing:
        for ground in ("paper", "block", "tint", *(["bar"] if name in ("ink", "muted") else [])):
            assert contrast(style[name], style[ground]) >= 4.5, (name, ground)


def test_every_kind_of_code_token_has_a_colour_or_is_plain():
    """Names, signs and spaces are plain. Any other kind of token needs a colour in the style."""
    code = "\n".join(f"```python\n{path.read_text()}\n```" for path in (ROOT / "minwhisper").glob("*.py"))
    used = set(re.findall(r'<span class="(\w+)">', made(f"# T\n\n{code}\n")))
    coloured = set(re.findall(r"\.(\w+)(?=[^{}]*\{ color)", CSS))
    plain = {"n", "nn", "o", "p", "w", "fm", "vm", "nv", "vc"}
    assert {"k", "nf", "s2", "mi", "c1", "sd"} <= used & coloured
    assert used <= coloured | plain, used - coloured - plain


def test_the_style_follows_the_readers_colour_scheme(reader):
    assert "color-scheme: light dark;" in CSS
    assert reader.find("meta", name="color-scheme", content="light dark")


def test_the_links_of_the_real_page_lead_somewhere():
    files = (ROOT / PICTURES_FOLDER).glob("*.svg")
    pictures = {path.relative_to(ROOT).as_posix(): path.read_text() for path in files}
    reader = Reader(made((ROOT / "walkthrough.md").read_text(encoding="utf-8"), pictures))
    assert_links_lead_somewhere(reader)
    assert not reader.find("p", class_="missing")
