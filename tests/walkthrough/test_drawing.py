"""Drawing the pictures of the walkthrough: themes, size, reproducibility, and their data as text."""

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
from minwhisper.errors import MissingExtraError
from minwhisper.walkthrough import drawing
from minwhisper.walkthrough.drawing import DARK_INK, INK, LIGHT_INK, PALETTE, Drawing, Sheet, summary

matplotlib = pytest.importorskip("matplotlib")

PAGES = {"#ffffff": LIGHT_INK, "#0d1117": DARK_INK}


IMAGE = np.arange(80.0 * 90).reshape(80, 90) % 7


def example(scale: float = 1.0) -> Drawing:
    with Sheet("An <example> & more", 2.0) as sheet:
        axes = sheet.figure.subplots()
        axes.plot([0, 1, 2, 3], scale * np.array([1.0, 2.0, 3.0, 6.0]), color=PALETTE[0], label="a < b")
        axes.imshow(IMAGE, extent=(0, 3, 0, 3))
        axes.set(xlabel="time (s)", ylabel="$\\alpha$")
    return sheet.drawing


def lab(light: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* values of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(light, 1e-4, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Linear RGB as seen without one of the three types of cones (Machado, Oliveira and Fernandes, 2009, severity 1).
VISION = {
    "all three": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def test_data_and_text_are_visible_on_light_and_dark_pages_and_colours_can_be_told_apart():
    for page, ink in PAGES.items():
        assert min(contrast(colour, page) for colour in PALETTE) >= 3
        assert contrast(ink, page) >= 7
    for vision, cones in VISION.items():  # as readers with full and with colour-deficient vision see them
        seen = {colour: lab(np.asarray(cones) @ linear_rgb(colour)) for colour in PALETTE}
        for one, other in itertools.combinations(PALETTE, 2):
            assert np.linalg.norm(seen[one] - seen[other]) > 18, (vision, one, other)


def test_a_picture_follows_the_theme_and_describes_itself():
    svg = example().svg
    assert example().svg == svg != example(2.0).svg
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


def test_the_readers_matplotlib_settings_have_no_effect_and_are_restored():
    plain = example()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "xtick.major.size": 30}):
        before = dict(matplotlib.rcParams)
        assert example() == plain
        assert dict(matplotlib.rcParams) == before
        with pytest.raises(ZeroDivisionError), Sheet("fails", 1.0):
            1 / 0  # noqa: B018
        assert dict(matplotlib.rcParams) == before


def test_an_image_keeps_its_colours_and_only_a_small_one_shows_its_pixels():
    for rows, sharp in ((drawing.SMOOTH_ROWS - 1, True), (drawing.SMOOTH_ROWS, False)):
        with Sheet("image", 2.0) as sheet:
            sheet.figure.subplots().imshow(np.eye(rows))
        assert ("pixelated" in sheet.drawing.svg) == sharp
    image = pytest.importorskip("PIL.Image").open(BytesIO(b64decode(re.search(r'base64,([^"]*)"', example().svg)[1])))
    assert image.mode == "P"  # a palette takes few bytes
    exact = matplotlib.colormaps["viridis"](IMAGE / 6, bytes=True)[..., :3]
    shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown, exact[::-1]) or np.array_equal(shown, exact)


def test_a_notebook_displays_the_picture_on_its_own_background():
    picture = example()
    image = picture._repr_html_()
    assert image.endswith(' alt="An &lt;example&gt; &amp; more">')
    shown = b64decode(re.search(r'^<img src="data:image/svg\+xml;base64,([^"]*)"', image)[1]).decode()
    assert Drawing.from_svg(shown).facts == picture.facts
    for page, ink in PAGES.items():  # each with its own text colour, whatever the theme of the notebook
        assert f"svg{{color:{ink}}}" in shown
        assert f"svg{{background:{page}}}" in shown
    assert re.fullmatch(r"<Drawing, \d+ kB>", repr(picture))


def test_a_summary_is_mean_deviation_and_range():
    assert summary(np.array([1.0, 2.0, 3.0, 6.0]), "~") == "mean ~3.000, std ~1.871, min ~1.000, max ~6.000"
    assert summary([np.nan, 1.0]) == "mean 1.000, std 0.000, min 1.000, max 1.000"
    assert summary([np.inf]) == "nothing"
    assert "min 0.000, " in summary([9e-4, 1.0])  # too small to be visible
    assert "min 0.001100, " in summary([1.1e-3, 1.0])
    assert "min 0.0009000, " in summary([9e-4, 1.0], log=True)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # importing it raises ImportError
    with pytest.raises(MissingExtraError, match=r"pictures need matplotlib.* pip install 'minwhisper\[walkthrough\]'"):
        example()


def test_matplotlib_is_imported_on_first_use_and_pyplot_never():
    code = (
        "import sys, minwhisper.walkthrough.decoder_drawings as d; assert 'matplotlib' not in sys.modules;"
        "d.work([1e6, 2e6], [1e6, 1e6]);"
        "assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
