"""What a picture of the walkthrough is: theme, size, sameness, and what it says of itself."""

import itertools
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from minwhisper.errors import MinWhisperError, MissingExtraError
from minwhisper.walkthrough import drawing
from minwhisper.walkthrough.drawing import DARK_INK, INK, LIGHT_INK, PALETTE, Drawing, Sheet, facts_of, summary

matplotlib = pytest.importorskip("matplotlib")

PAGES = ("#ffffff", "#0d1117")


def example(scale: float = 1.0) -> Drawing:
    with Sheet("An <example> & more", 2.0) as sheet:
        axes = sheet.figure.subplots()
        axes.plot([0, 1, 2, 3], scale * np.array([1.0, 2.0, 3.0, 6.0]), color=PALETTE[0], label="a < b")
        axes.imshow(np.arange(80.0 * 90).reshape(80, 90) % 7, extent=(0, 3, 0, 3))
        axes.set(xlabel="time (s)", ylabel="$\\alpha$")
    return sheet.drawing


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(light, 1e-4, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# How linear RGB looks to eyes without one of the three cones (Machado, Oliveira and Fernandes, 2009, severity 1).
EYES = {
    "all three": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("colour", PALETTE)
def test_data_can_be_seen_on_a_light_and_on_a_dark_page(colour, page):
    assert contrast(colour, page) >= 3


@pytest.mark.parametrize(("ink", "page"), [(LIGHT_INK, PAGES[0]), (DARK_INK, PAGES[1])])
def test_text_can_be_read_on_a_light_and_on_a_dark_page(ink, page):
    assert contrast(ink, page) >= 7


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_told_apart_by_all_eyes(eyes):
    seen = [lab(np.asarray(EYES[eyes]) @ linear(colour)) for colour in PALETTE]
    for (i, one), (j, other) in itertools.combinations(enumerate(seen), 2):
        assert np.linalg.norm(one - other) > 18, (PALETTE[i], PALETTE[j])


def test_ink_follows_the_theme_and_nothing_of_the_placeholder_is_left():
    svg = example().svg
    assert INK not in svg
    assert svg.count("currentColor") > 20
    for part in (LIGHT_INK, DARK_INK, "@media (prefers-color-scheme: dark)"):
        assert part in svg
    for other_ink in ("#000000", "#ffffff", "black", "white"):
        assert other_ink not in svg  # nothing that would vanish on one of the pages


def test_a_picture_says_what_it_is():
    root = ElementTree.fromstring(example().svg)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.get("role") == "img"
    assert root.find(f"{space}title").text == "An <example> & more"
    assert root.find(f"{space}desc").text == example().facts
    assert root.get("viewBox") == "0 0 518.4 144"
    assert root.get("width") == "518.4pt"


def test_text_is_drawn_as_paths_and_no_date_is_kept():
    svg = example().svg
    assert "<text" not in svg
    assert "font-family" not in svg
    assert "<metadata" not in svg
    assert re.search(r"20\d\d-", svg) is None


def test_everything_that_is_used_is_defined():
    svg = example().svg
    used = set(re.findall(r'xlink:href="#([^"]*)"', svg)) | set(re.findall(r"url\(#([^)]*)\)", svg))
    defined = re.findall(r' id="([^"]*)"', svg)
    assert len(used) > 10
    assert used <= set(defined)
    assert len(defined) == len(set(defined))


def test_the_same_numbers_give_the_same_bytes_and_others_do_not():
    assert example().svg == example().svg
    assert example(2.0).svg != example().svg
    assert example(2.0).facts != example().facts


def test_the_readers_own_settings_neither_matter_nor_change():
    plain = example()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "xtick.major.size": 30}):
        before = dict(matplotlib.rcParams)
        assert example() == plain
        assert dict(matplotlib.rcParams) == before
        with pytest.raises(ZeroDivisionError), Sheet("fails", 1.0):
            1 / 0  # noqa: B018
        assert dict(matplotlib.rcParams) == before


def test_an_image_keeps_its_colours_and_few_bytes():
    from base64 import b64decode
    from io import BytesIO

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


def test_numbers_in_paths_are_rounded_to_a_fiftieth_of_a_pixel():
    assert drawing._compact_path("M 1.23456 -0.00123 \nL 2 3.5 \nz\n") == "M1.23 -0L2 3.5z"
    assert not re.search(r' d="[^"]*\d\.\d{3}', example().svg)


def test_a_notebook_is_given_the_file():
    picture = example()
    assert picture._repr_svg_() == picture.svg
    assert re.fullmatch(r"<Drawing, \d+ kB>", repr(picture))


def test_a_summary_is_mean_deviation_and_range():
    assert summary(np.array([1.0, 2.0, 3.0, 6.0]), "~") == "mean ~3.000, std ~1.871, min ~1.000, max ~6.000"
    assert summary([np.nan, 1.0]) == "mean 1.000, std 0.000, min 1.000, max 1.000"
    assert summary([np.inf]) == "nothing"


def test_what_cannot_be_seen_is_nothing_unless_the_axis_is_logarithmic():
    assert "min 0.000, " in summary([9e-4, 1.0])
    assert "min 0.001100, " in summary([1.1e-3, 1.0])
    assert "min 0.0009000, " in summary([9e-4, 1.0], log=True)


def test_facts_tell_of_everything_that_is_drawn():
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
    assert sheet.drawing.facts.splitlines() == [
        "panel 1: A title; x: time (s); y: value",
        "  bars standing: 2; y mean 4.000, std 2.000, min 2.000, max 6.000",
        "  line a line: 2 points; x mean 1.500, std 0.5000, min 1.000, max 2.000; "
        "y mean 20.00, std 10.00, min 10.00, max 30.00",
        "  shape some dots: 2 points; x mean 2.000, std 2.000, min 0.000, max 4.000; "
        "y mean 6.000, std 1.000, min 5.000, max 7.000",
        *[line for line in sheet.drawing.facts.splitlines() if "shape filled" in line],
        "panel 2: x: x; y: name",
        "  image: 2 × 3; mean ~3.000, std ~2.582, min ~0.000, max ~8.000",
        "  bars lying: 2; x mean ~60.00, std ~10.00, min ~50.00, max ~70.00",
        "  along y: first | second",
        "  text: a word",
        "colours: weight",
    ]
    assert "max 8.000" in next(line for line in sheet.drawing.facts.splitlines() if "shape filled" in line)


def test_facts_of_a_logarithmic_axis_keep_small_numbers():
    with Sheet("log", 2.0) as sheet:
        axes = sheet.figure.subplots()
        axes.plot([0.0, 1.0], [1e-9, 1.0])
        before = facts_of(sheet.figure)
        axes.set_yscale("log")
        assert "y mean 0.5000, std 0.5000, min 0.000, max 1.000" in before
        assert "y mean 0.5000, std 0.5000, min 1.000e-09, max 1.000" in facts_of(sheet.figure)


def test_without_matplotlib_the_error_names_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # importing it raises ImportError
    with pytest.raises(MissingExtraError, match=r"pictures need matplotlib.* pip install 'minwhisper\[walkthrough\]'"):
        example()
    assert issubclass(MissingExtraError, MinWhisperError)


def test_matplotlib_is_imported_only_when_something_is_drawn_and_pyplot_never():
    code = (
        "import sys, minwhisper.walkthrough.drawings as d; assert 'matplotlib' not in sys.modules;"
        "d.work([1e6, 2e6], [1e6, 1e6]);"
        "assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
