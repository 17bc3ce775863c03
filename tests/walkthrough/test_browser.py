"""The page in a browser: it is complete, fits the window, and requests nothing."""

import base64
import re
from pathlib import Path

import pytest

from contrast import contrast
from minwhisper.walkthrough.page import page
from minwhisper.walkthrough.text import parse
from opened_page import SCHEMES, WIDTHS, Opened
from page_sample import CLIP_BYTES, PICTURES, SAMPLE
from widget_sample import small_data

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
# Elements in the text that stick out of the window, except in a box that scrolls.
STICKING_OUT = """() => {
  const scrolls = (element) => element && element.tagName !== "MAIN"
    && (["auto", "scroll"].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  return [...document.querySelectorAll("main, main *, nav *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5) && !scrolls(element.parentElement);
  }).map((element) => element.outerHTML.slice(0, 100));
}"""

# Blocks of code with lines that are longer than the block.
HIDDEN_CODE = """() => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  return [...document.querySelectorAll("pre")].filter((pre) => pre.scrollWidth > pre.clientWidth)
    .map((pre) => ({ code: pre.textContent.slice(0, 80), overflow: getComputedStyle(pre).overflowX,
                     shade: getComputedStyle(pre).backgroundImage.includes("gradient") }));
}"""

FIRST_PICTURE = "() => document.querySelector('main img').getBoundingClientRect().bottom"

# The colour of each link and the one behind it.
LINKS = """() => {
  const hex = (colour) => "#" + colour.match(/\\d+/g).slice(0, 3)
    .map((n) => (+n).toString(16).padStart(2, "0")).join("");
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? ground(element.parentElement) : hex(colour);
  };
  return [...document.querySelectorAll("a[href]")]
    .map((a) => ({ text: a.textContent, colour: hex(getComputedStyle(a).color), ground: ground(a) }));
}"""


@pytest.fixture(scope="module", params=["sample", "walkthrough.md"])
def path(request, tmp_path_factory):
    """Write the page of a sample with all kinds of content, or that of the stored walkthrough."""
    text, pictures, data = SAMPLE, PICTURES, small_data()
    if request.param != "sample":
        data = request.getfixturevalue("widget_data")
        text = (ROOT / request.param).read_text(encoding="utf-8")
        found = ROOT.glob("minwhisper/walkthrough/pictures/*.svg")
        pictures = {picture.relative_to(ROOT).as_posix(): picture.read_text(encoding="utf-8") for picture in found}
    file: Path = tmp_path_factory.mktemp("page") / f"{request.param.removesuffix('.md')}.html"
    file.write_text(page(parse(text), pictures, CLIP_BYTES, data), encoding="utf-8")
    return file


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_the_window(browser, path, width, scheme):
    with Opened(browser, path, width, scheme) as opened:
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.evaluate(STICKING_OUT) == []
        hidden = opened.evaluate(HIDDEN_CODE)
        assert all(code["overflow"] == "auto" and code["shade"] for code in hidden)  # scrolls, and looks like it
        if width == 1280 and path.name == "walkthrough.html":
            assert hidden == []
        assert opened.evaluate(FIRST_PICTURE) < 700  # within the first screen
        for link in opened.evaluate(LINKS):
            assert contrast(link["colour"], link["ground"]) >= 4.5, link
        assert opened.problems == []


def test_an_element_that_sticks_out_is_found(browser, tmp_path):
    """Check that the test above can fail."""
    file = tmp_path / "wide.html"
    wide = '<p style="width: 2000px">wide</p>'
    file.write_text(f'<main>{wide}<div style="overflow-x: auto">{wide}</div></main>')
    with Opened(browser, file) as opened:
        assert len(opened.evaluate(STICKING_OUT)) == 1
        assert not opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture(scope="module")
def opened(browser, path):
    """Open the page once, for tests that do not change it."""
    with Opened(browser, path) as page:
        page.wait("document.querySelector('audio').readyState >= 1")
        yield page


def test_only_the_file_is_requested(opened, path):
    opened.tab.wait_for_timeout(200)  # a late request
    assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]
    assert opened.problems == []


def test_every_picture_is_drawn(opened):
    sizes = opened.evaluate(
        "[...document.images].filter((image) => image.checkVisibility())"
        ".map((image) => [image.complete, image.naturalWidth, image.clientWidth, image.clientHeight])"
    )
    assert sizes
    for complete, natural, width, height in sizes:
        assert complete
        assert natural > 0
        assert width > 300
        assert height > 50


def test_the_audio_can_be_played(opened):
    assert opened.evaluate("document.querySelector('audio').duration") == pytest.approx(11, abs=0.05)
    assert opened.evaluate("document.querySelector('audio').error") is None


def test_every_formula_is_rendered(opened):
    shapes = opened.evaluate(
        "[...document.querySelectorAll('main math')].map((m) => [m.getBoundingClientRect().width, "
        "m.getBoundingClientRect().height, m.namespaceURI, m.querySelectorAll('merror').length])"
    )
    assert shapes
    for width, height, namespace, errors in shapes:
        assert min(width, height) > 3
        assert namespace.endswith("MathML")
        assert errors == 0


def test_a_heading_shows_its_link_on_hover(opened):
    heading = opened.tab.locator("h2").first
    opacity = lambda: heading.locator(".anchor").evaluate("(link) => getComputedStyle(link).opacity")  # noqa: E731
    assert opacity() == "0"
    heading.hover()
    assert opacity() == "1"


def test_a_picture_follows_the_colour_scheme(browser, sample_page):
    seen = {}
    for scheme in SCHEMES:
        with Opened(browser, sample_page, scheme=scheme) as opened:
            opened.evaluate("document.body.style.background = '#808080'")  # only the ink can differ
            seen[scheme] = opened.tab.locator(".picture img").first.screenshot()
    assert seen["light"] != seen["dark"]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_entry_of_the_contents_leads_to_its_section(browser, path, width):
    with Opened(browser, path, width) as opened:
        tab = opened.tab
        assert tab.locator(".contents details").evaluate("(details) => details.open") == (width == 1280)
        links = tab.locator(".contents li a")
        assert links.count() > 0
        for at in range(links.count()) if width == 1280 else (0, links.count() - 1):
            tab.evaluate("scrollTo(0, 0)")
            if width < 1280 and not links.nth(at).is_visible():
                tab.locator(".contents summary").click()
            link = links.nth(at)
            link.click()
            anchor = link.get_attribute("href")[1:]
            tab.wait_for_timeout(50)
            top = tab.evaluate("(id) => document.getElementById(id).getBoundingClientRect().top / innerHeight", anchor)
            ended = tab.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2")
            assert 0 <= top < 0.3 or (ended and 0 <= top < 1), anchor
            if width == 1280 and not ended:
                marked = tab.locator(".contents [aria-current]")
                assert [marked.nth(i).get_attribute("href") for i in range(marked.count())] == [f"#{anchor}"]


def test_on_a_phone_the_contents_are_in_reach_everywhere(browser, sample_page):
    with Opened(browser, sample_page, 390) as opened:
        tab = opened.tab
        tab.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
        button, details = tab.locator(".contents summary"), tab.locator(".contents details")
        box = button.bounding_box()
        assert 0 < box["x"] < box["x"] + box["width"] < 390
        assert 600 < box["y"] < box["y"] + box["height"] < 800
        button.focus()
        tab.keyboard.press("Enter")
        assert tab.locator(".contents li a").first.is_visible()
        tab.keyboard.press("Escape")
        assert not details.evaluate("(details) => details.open")
        assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"
        assert opened.problems == []


CLIPBOARD = (
    "Object.defineProperty(navigator, 'clipboard', { value: { writeText: async (text) => { window.copied = text } } })"
)
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { value: undefined })"


def test_code_is_copied_by_its_button(browser, sample_page):
    with Opened(browser, sample_page, script=CLIPBOARD) as opened:
        tab = opened.tab
        button = tab.locator(".cell .copy").first
        button.focus()
        assert (
            button.evaluate("(button) => getComputedStyle(button).opacity") != "0" or tab.wait_for_timeout(200) is None
        )
        tab.keyboard.press("Enter")
        opened.wait("window.copied")
        assert opened.evaluate("copied").startswith('for name in ["<one>", "two"]:\n    print(name,')
        assert button.text_content() == "Copied"
        assert tab.locator(".copy").count() == tab.locator("pre.code").count()
    with Opened(browser, sample_page, script=NO_CLIPBOARD) as opened:
        opened.tab.locator(".cell .copy").first.click()
        assert opened.evaluate("getSelection().toString()").startswith("for name in")


def test_the_contents_are_not_printed(browser, sample_page):
    with Opened(browser, sample_page) as opened:
        opened.tab.emulate_media(media="print")
        assert not opened.tab.locator(".contents").is_visible()
        assert opened.tab.locator("h1").is_visible()


def test_the_page_works_without_its_script(browser, sample_page):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    tab = context.new_page()
    tab.goto(sample_page.as_uri())
    assert tab.locator(".contents li a").first.is_visible()
    assert tab.locator("h2").first.is_visible()
    assert tab.locator(".clip img").is_visible()
    for kept in tab.locator(".widget").all():  # a picture, a table or a sentence
        assert kept.locator("img, table").first.is_visible()
    context.close()


def test_the_icon_is_a_picture(browser, sample_page, tmp_path):
    icon = re.search(r'<link rel="icon" href="data:image/svg\+xml;base64,([^"]+)">', sample_page.read_text())[1]
    file = tmp_path / "icon.html"
    (tmp_path / "icon.svg").write_bytes(base64.b64decode(icon))
    file.write_text('<img src="icon.svg" width="16">')
    with Opened(browser, file) as opened:
        assert opened.evaluate("document.images[0].naturalWidth") > 0
