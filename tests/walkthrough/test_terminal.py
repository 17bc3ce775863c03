"""The text in a terminal: wrapped, readable, and without Markdown syntax."""

import re
from pathlib import Path
from unittest.mock import Mock

import pytest

from minwhisper.walkthrough import terminal
from minwhisper.walkthrough.plain_formulas import plain_formula
from minwhisper.walkthrough.run import CellResult, stored_picture
from minwhisper.walkthrough.terminal import TerminalView, inline, render
from minwhisper.walkthrough.text import Cell, Listing, PictureLink, Prose, Walkthrough, find_walkthrough, parse

SAMPLE = parse(Path(__file__).with_name("page.md").read_text("utf-8"))
REAL = parse(find_walkthrough().read_text("utf-8"))
MARKS = re.compile("[\ue000-\ue005]")


def plain(text):
    return MARKS.sub("", text)


def shown(walkthrough, monkeypatch, columns=80, terminal=False, results=None):
    """Return what the terminal view prints for a text."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    console = Mock()
    view = TerminalView(console)
    view.title(walkthrough.title)
    for section in (None, *walkthrough.all_sections()):
        if section:
            view.heading(section)
        for part in section.parts if section else walkthrough.introduction:
            view.part(part, (results or {}).get(part))
    return "".join(call.args[0] + "\n" for call in console.text.call_args_list)


@pytest.mark.parametrize("text", [SAMPLE, REAL], ids=["sample", "walkthrough.md"])
def test_prose_fits_the_terminal_and_no_word_is_cut(text):
    columns = 40
    for part in text.parts():
        if not isinstance(part, Prose):
            continue
        rendered = plain(render(re.sub(r"^(`{3,})(?s:.*?)^\1$", "", part.text, flags=re.MULTILINE), columns))
        for line in rendered.split("\n"):
            assert terminal._columns(line) <= columns or " " not in line.strip(" -│"), line
        one_line = plain(render(part.text, 10_000))
        if "|" not in part.text and "```" not in part.text and "$$" not in part.text:
            words = [word for word in rendered.split() if word != "│"]
            assert words == [word for word in one_line.split() if word != "│"]


@pytest.mark.parametrize("text", [SAMPLE, REAL], ids=["sample", "walkthrough.md"])
def test_prose_has_no_markdown_left(text):
    for part in text.parts():
        if isinstance(part, Prose):
            rendered = plain(render(part.text, 80))
            without_code = re.sub(r"^    .*$|`[^`]*`", "", rendered, flags=re.MULTILINE)
            found = re.search(r"\*\*|\]\(|^#|<!--|\\[A-Za-z]|[{}]|</?(details|summary|a )", without_code)
            assert not found, without_code


def test_blocks_can_be_told_apart(monkeypatch):
    printed = shown(SAMPLE, monkeypatch)
    for part in (
        "Sound & text\n",
        "\n1. The mel scale, `log_energy` and n more\n",
        "NumPy (https://numpy.org)",
        "Look for: what sound becomes (12 minutes)\n",
        "In the package: minwhisper/audio/mel.py, minwhisper/model/layers.py.\n",
        "  │ Aside: a zero. It is not silence. See softmax.\n  │\n  │ A second paragraph.\n",
        "    minwhisper/audio/mel.py: scale\n    ...\n",
        "Answer:\n\nIt changes:\n\n    mel_filters(20).shape\n",
        "\n    softmax(x)ᵢ = e^(xᵢ)/(Σⱼ e^(xⱼ))\n",
        "\nGlossary\n\n- softmax: shares that add up to 1.\n- width: 384.\n",
    ):
        assert part in printed, part
    assert "nobody sees this" not in printed
    assert "widget" not in printed
    assert "\033" not in printed


def test_pictures_are_named_by_their_files(monkeypatch):
    monkeypatch.chdir("/")
    file = stored_picture(PictureLink("", "minwhisper/walkthrough/pictures/here-1.svg"))
    assert file.is_file()
    unwrapped = " ".join(shown(SAMPLE, monkeypatch, columns=96).replace("  |", "").split())
    assert f"[picture: You are here: the map {str(file)[1:]}]" in unwrapped
    assert f'[picture: How "loud" it is {str(file.with_name("here.svg"))[1:]}]' in unwrapped


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("a **b *c* d** e", "a b c d e"),
        ("2 * 3 * 4, a_b_c, `x ** 2` and ~~old~~", "2 * 3 * 4, a_b_c, `x ** 2` and old"),
        ("[mel.py](minwhisper/audio/mel.py)", "minwhisper/audio/mel.py"),
        ("[a [b] c](#term-b) and [`x`](https://a.org/b_(c)", "a [b] c and `x` (https://a.org/b_(c)"),
        ('<a id="term-x"></a>**x**: y', "x: y"),
        ("$x_i$ costs \\$5, $`y`$ and 10\\$", "xᵢ costs $5, y and 10$"),
    ],
)
def test_inline_markdown_becomes_plain_text(markdown, expected):
    assert plain(inline(markdown)) == expected


def test_lists_and_tables_keep_their_form():
    text = "- one two three four\n  five\n- six\n\n1. a\n\n| x | yy |\n|--|--|\n| `1` | 2 |"
    assert plain(render(text, 16)) == "- one two three\n  four five\n- six\n\n1. a\n\nx    yy\n───  ──\n`1`  2"
    assert plain(render("| x | yy |\n|--|--|\n| 1 2 3 4 5 | 2 |", 8)) == "x: 1 2 3\n    4 5\n  yy: 2"


def test_on_a_terminal_long_code_and_output_are_broken_at_spaces_and_coloured(monkeypatch):
    cell = Cell("total = first + second + third", output="")
    listing = Listing("model.layers.softmax", "def softmax(x): return numerator / denominator")
    text = Walkthrough("T", (cell, listing), ())
    results = {cell: CellResult("", cell, "one two three four five six seven")}
    printed = shown(text, monkeypatch, columns=30, terminal=True, results=results)
    assert "\033[36m    total = first + second +\n        third\033[0m\n" in printed
    assert "  | one two three four five\n  |   six seven\n" in printed
    assert max(len(re.sub(r"\033\[\d+m", "", line)) for line in printed.split("\n") if "minwhisper" not in line) <= 30
    monkeypatch.setenv("NO_COLOR", "")
    assert "\033" not in shown(text, monkeypatch, terminal=True, results=results)
    to_file = shown(text, monkeypatch, columns=30, results=results)
    assert "    total = first + second + third\n  | one two three four five six seven\n" in to_file


# ------------------------------------------------------------------------------------------ formulas


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"X_k = \sum_{n=0}^{399} w_n x_n e^{-2\pi i k n / 400}", "Xₖ = Σₙ₌₀³⁹⁹ wₙ xₙ e^(−2π i k n / 400)"),
        (r"\frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} g", "(x − μ)/√(σ² + ε) g"),
        (r"\frac{\lVert \text{ours} - \text{exact} \rVert}{\lVert x\rVert}", "‖ours − exact‖/‖x‖"),
        (r"y_s = \arg\max_v p(y_1, \ldots, y_{s-1})_{s-1, v}", "yₛ = arg maxᵥ p(y₁, …, yₛ₋₁)_(s−1, v)"),
        (r"1{,}500 + 2\log_2 x", "1,500 + 2 log₂ x"),
        (r"\begin{aligned} a &= b \\\\ c &= d \end{aligned}", "a = b\nc = d"),
        (r"\hat y + \overline{x}", "y\u0302 + x\u0305"),
        (r"\foo{x", "foox"),
    ],
)
def test_a_formula_becomes_unicode_text(tex, expected):
    assert plain_formula(tex) == expected
