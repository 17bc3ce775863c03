"""Pictures of the walkthrough: theme, size, reproducibility, and their data as text."""

import itertools
import re
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest

from contrast import contrast, linear_rgb
from minwhisper.errors import MinWhisperError, MissingExtraError
from minwhisper.walkthrough import drawing
from minwhisper.walkthrough.drawing import DARK_INK, INK, LIGHT_INK, PALETTE, Drawing, Sheet, facts_of, summary

matplotlib = pytest.importorskip("matplotlib")

PAGES = {"#ffffff": LIGHT_INK, "#0d1117": DARK_INK}


def example(scale: float = 1.0) -> Drawing:
    with Sheet("An <example> & more", 2.0) as sheet:
        axes = sheet.figure.subplots()
        axes.plot([0, 1, 2, 3], scale * np.array([1.0, 2.0, 3.0, 6.0]), color=PALETTE[0], label="a < b")
        axes.imshow(np.arange(80.0 * 90).reshape(80, 90) % 7, extent=(0, 3, 0, 3))
        axes.set(xlabel="time (s)", ylabel="$\\alpha$")
    return sheet.drawing


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(light, 1e-4, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Linear RGB as seen without one of the three cones (Machado, Oliveira and Fernandes, 2009, severity 1).
VISION = {
    "all three": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize(("page", "ink"), PAGES.items())
def test_data_and_text_are_visible_on_light_and_dark_pages(page, ink):
    assert min(contrast(colour, page) for colour in PALETTE) >= 3
    assert contrast(ink, page) >= 7


@pytest.mark.parametrize("vision", VISION)
def test_colour_blind_readers_can_tell_colours_apart(vision):
    seen = [lab(np.asarray(VISION[vision]) @ linear_rgb(colour)) for colour in PALETTE]
    for (i, one), (j, other) in itertools.combinations(enumerate(seen), 2):
        assert np.linalg.norm(one - other) > 18, (PALETTE[i], PALETTE[j])


def test_a_picture_follows_the_theme_and_describes_itself():
    svg = example().svg
    assert svg.count("currentColor") > 20
    for part in (LIGHT_INK, DARK_INK, "@media (prefers-color-scheme: dark)"):
        assert part in svg
    for other_ink in (INK, "#000000", "#ffffff", "black", "white"):
        assert other_ink not in svg  # invisible on one of the pages
    for part in ("<text", "font-family", "<metadata"):  # text is drawn as paths, and no date is stored
        assert part not in svg
    assert not re.search(r' d="[^"]*\d\.\d{3}', svg)  # at most two decimals
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == "An <example> & more"
    assert root.find(f"{space}desc").text == example().facts
    attributes = [root.get(name) for name in ("role", "viewBox", "width")]
    assert attributes == ["img", "0 0 518.4 144", "518.4pt"]
    used = set(re.findall(r'xlink:href="#([^"]*)"', svg)) | set(re.findall(r"url\(#([^)]*)\)", svg))
    defined = re.findall(r' id="([^"]*)"', svg)
    assert len(used) > 10
    assert used <= set(defined)
    assert len(defined) == len(set(defined))


def test_a_picture_depends_only_on_its_data():
    assert example() == example()
    assert example(2.0).svg != example().svg
    assert example(2.0).facts != example().facts


def test_the_readers_matplotlib_settings_have_no_effect_and_are_restored():
    plain = example()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "xtick.major.size": 30}):
        before = dict(matplotlib.rcParams)
        assert example() == plain
        assert dict(matplotlib.rcParams) == before
        with pytest.raises(ZeroDivisionError), Sheet("fails", 1.0):
            1 / 0  # noqa: B018
        assert dict(matplotlib.rcParams) == before


def test_an_image_keeps_its_colours_and_few_bytes():
    from PIL import Image

    values = np.arange(80.0 * 90).reshape(80, 90) % 7
    with BytesIO(b64decode(re.search(r'base64,([^"]*)"', example().svg)[1])) as file:
        image = Image.open(file)
        assert image.mode == "P"
        shown = np.asarray(image.convert("RGB"))
    exact = matplotlib.colormaps["viridis"](values / 6, bytes=True)[..., :3]
    assert np.array_equal(shown, exact[::-1]) or np.array_equal(shown, exact)


@pytest.mark.parametrize(("rows", "sharp"), [(drawing.SMOOTH_ROWS - 1, True), (drawing.SMOOTH_ROWS, False)])
def test_only_small_images_show_their_pixels(rows, sharp):
    with Sheet("image", 2.0) as sheet:
        sheet.figure.subplots().imshow(np.eye(rows))
    assert ("pixelated" in sheet.drawing.svg) == sharp


def test_a_notebook_displays_the_picture_on_its_own_background():
    picture = example()
    image = picture._repr_html_()
    assert image.endswith(' alt="An &lt;example&gt; &amp; more">')
    shown = b64decode(re.search(r'^<img src="data:image/svg\+xml;base64,([^"]*)"', image)[1]).decode()
    assert Drawing.from_svg(shown).facts == picture.facts
    for page, ink in PAGES.items():  # each with its colour of text, whichever theme the notebook has
        assert f"svg{{color:{ink}}}" in shown
        assert f"svg{{background:{page}}}" in shown
    assert re.fullmatch(r"<Drawing, \d+ kB>", repr(picture))


def test_a_summary_is_mean_deviation_and_range():
    assert summary(np.array([1.0, 2.0, 3.0, 6.0]), "~") == "mean ~3.000, std ~1.871, min ~1.000, max ~6.000"
    assert summary([np.nan, 1.0]) == "mean 1.000, std 0.000, min 1.000, max 1.000"
    assert summary([np.inf]) == "nothing"
    assert "min 0.000, " in summary([9e-4, 1.0])  # too small to be seen
    assert "min 0.001100, " in summary([1.1e-3, 1.0])
    assert "min 0.0009000, " in summary([9e-4, 1.0], log=True)


def test_facts_cover_everything_that_is_drawn():
    with Sheet("all kinds", 3.0) as sheet:
        left, right = sheet.figure.subplots(1, 2)
        left.plot([1, 2], [10.0, 30.0], label="a line")
        left.scatter([0, 4], [5.0, 7.0], label="some dots")
        left.bar([0, 1], [2.0, 6.0], label="standing", color=PALETTE[0])
        left.fill_between([0.0, 1.0], [0.0, 0.0], [8.0, 8.0], label="filled")
        left.set(xlabel="time (s)", ylabel="value", title="A title")
        image = right.imshow(np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 8.0]]))
        right.barh([0, 1], [50.0, 70.0], left=[0.0, 20.0], label="lying")
        right.set_yticks([0, 1], ["first", "second"])
        right.text(0, 0, "a word")
        right.set(xlabel="x", ylabel="name")
        sheet.figure.colorbar(image, ax=right, label="weight")
        sheet.approximate.append(right)
    (filled,) = (line for line in sheet.drawing.facts.splitlines() if "shape filled" in line)
    assert "max 8.000" in filled
    assert sheet.drawing.facts.splitlines() == [
        "panel 1: A title; x: time (s); y: value",
        "  bars standing: 2; y mean 4.000, std 2.000, min 2.000, max 6.000",
        "  line a line: 2 points; x mean 1.500, std 0.5000, min 1.000, max 2.000; "
        "y mean 20.00, std 10.00, min 10.00, max 30.00",
        "  shape some dots: 2 points; x mean 2.000, std 2.000, min 0.000, max 4.000; "
        "y mean 6.000, std 1.000, min 5.000, max 7.000",
        filled,
        "panel 2: x: x; y: name",
        "  image: 2 × 3; mean ~3.000, std ~2.582, min ~0.000, max ~8.000",
        "  bars lying: 2; x mean ~60.00, std ~10.00, min ~50.00, max ~70.00",
        "  along y: first | second",
        "  text: a word",
        "colours: weight",
    ]


def test_facts_of_a_logarithmic_axis_keep_small_numbers():
    with Sheet("log", 2.0) as sheet:
        sheet.figure.subplots().plot([0.0, 1.0], [1e-9, 1.0])
        before = facts_of(sheet.figure)
        sheet.figure.axes[0].set_yscale("log")
    assert "y mean 0.5000, std 0.5000, min 0.000, max 1.000" in before
    assert "y mean 0.5000, std 0.5000, min 1.000e-09, max 1.000" in sheet.drawing.facts


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # importing it raises ImportError
    with pytest.raises(MissingExtraError, match=r"pictures need matplotlib.* pip install 'minwhisper\[walkthrough\]'"):
        example()
    assert issubclass(MissingExtraError, MinWhisperError)


def test_matplotlib_is_imported_on_first_use_and_pyplot_never():
    code = (
        "import sys, minwhisper.walkthrough.decoder_drawings as d; assert 'matplotlib' not in sys.modules;"
        "d.work([1e6, 2e6], [1e6, 1e6]);"
        "assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
