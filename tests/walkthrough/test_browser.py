"""The page in a browser: it is complete, fits the window, and makes no requests."""

from pathlib import Path

import pytest

from minwhisper.walkthrough.page import page
from minwhisper.walkthrough.text import parse
from opened_page import SCHEMES, WIDTHS, Opened
from page_sample import CLIP_BYTES

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
# Elements that stick out of the window, except inside a box that scrolls.
STICKING_OUT = """() => {
  const scrolls = (element) => element && element.tagName !== "MAIN"
    && (["auto", "scroll"].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  return [...document.querySelectorAll("main, main *, nav *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5) && !scrolls(element.parentElement);
  }).map((element) => element.outerHTML.slice(0, 100));
}"""

# Blocks of code with lines wider than the block.
HIDDEN_CODE = """() => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  return [...document.querySelectorAll("pre")].filter((pre) => pre.scrollWidth > pre.clientWidth)
    .map((pre) => ({ code: pre.textContent.slice(0, 80), overflow: getComputedStyle(pre).overflowX,
                     shade: getComputedStyle(pre).backgroundImage.includes("gradient") }));
}"""


@pytest.fixture(scope="module")
def real_page(tmp_path_factory, widget_data):
    """Write the page of the stored walkthrough."""
    found = ROOT.glob("minwhisper/walkthrough/pictures/*.svg")
    pictures = {picture.relative_to(ROOT).as_posix(): picture.read_text(encoding="utf-8") for picture in found}
    file = tmp_path_factory.mktemp("page") / "walkthrough.html"
    text = (ROOT / "walkthrough.md").read_text(encoding="utf-8")
    file.write_text(page(parse(text), pictures, CLIP_BYTES, widget_data), encoding="utf-8")
    return file


@pytest.mark.parametrize("which", ["sample_page", "real_page"])
@pytest.mark.parametrize(("width", "scheme"), list(zip(WIDTHS, SCHEMES, strict=True)))
def test_the_page_is_complete_and_readable_and_fits_the_window(browser, request, which, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    path = request.getfixturevalue(which)
    with Opened(browser, path, width, scheme) as opened:
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.evaluate(STICKING_OUT) == []
        assert opened.evaluate("document.querySelector('main img').getBoundingClientRect().bottom") < 700  # in view
        opened.wait("document.querySelector('audio').readyState >= 1")
        assert opened.evaluate("document.querySelector('audio').duration") == pytest.approx(11, abs=0.05)
        sizes = opened.evaluate(
            "[...document.images].filter((image) => image.checkVisibility())"
            ".map((image) => [image.naturalWidth, image.clientWidth - 300, image.clientHeight - 50])"
        )
        assert min(min(size if width == 1280 else size[:1]) for size in sizes) > 0  # every picture is drawn
        shapes = opened.evaluate(
            "[...document.querySelectorAll('main math')].map((m) => [m.getBoundingClientRect().width, "
            "m.getBoundingClientRect().height, 4 * m.namespaceURI.endsWith('MathML')])"
        )
        assert min(map(min, shapes)) > 3  # every formula is rendered
        assert not opened.evaluate("document.querySelectorAll('merror').length")
        icon = "() => { const icon = new Image(); icon.src = document.querySelector('link[rel=icon]').href;"
        assert opened.evaluate(f"{icon} return icon.decode().then(() => icon.naturalWidth); }}") > 0
        hidden = opened.evaluate(HIDDEN_CODE)
        assert all(code["overflow"] == "auto" and code["shade"] for code in hidden)  # scrolls, and its shade shows it
        assert hidden == [] or (which, width) != ("real_page", 1280)
        assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]
        assert opened.problems == []
        if which == "sample_page":  # it has all kinds of text, and is short
            found = axe.Axe().run(opened.tab, options={"runOnly": ["color-contrast"]}).response["violations"]
            assert [node["html"][:80] for one in found for node in one["nodes"]] == []


def test_a_heading_shows_its_link_on_hover_and_the_contents_are_not_printed(browser, sample_page):
    with Opened(browser, sample_page) as opened:
        heading = opened.tab.locator("h2").first
        opacity = lambda: heading.locator(".anchor").evaluate("(link) => getComputedStyle(link).opacity")  # noqa: E731
        assert opacity() == "0"
        heading.hover()
        assert opacity() == "1"
        opened.tab.emulate_media(media="print")
        assert not opened.tab.locator(".contents").is_visible()
        assert opened.tab.locator("h1").is_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_entry_of_the_contents_leads_to_its_section(browser, sample_page, width):
    with Opened(browser, sample_page, width) as opened:
        tab = opened.tab
        assert tab.locator(".contents details").evaluate("(details) => details.open") == (width == 1280)
        links = tab.locator(".contents li a").all()
        assert links
        for link in links:
            tab.evaluate("scrollTo(0, 0)")
            if not link.is_visible():
                tab.locator(".contents summary").click()
            link.click()
            anchor = link.get_attribute("href")[1:]
            tab.wait_for_timeout(50)
            top = tab.evaluate("(id) => document.getElementById(id).getBoundingClientRect().top / innerHeight", anchor)
            ended = tab.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2")
            assert 0 <= top < 0.3 or (ended and 0 <= top < 1), anchor
            if width == 1280 and not ended:
                marked = tab.locator(".contents [aria-current]").all()
                assert [one.get_attribute("href") for one in marked] == [f"#{anchor}"]


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
        tab.keyboard.press("Enter")
        opened.wait("window.copied")
        assert opened.evaluate("copied").startswith('for name in ["<one>", "two"]:\n    print(name,')
        assert button.text_content() == "Copied"
        assert tab.locator(".copy").count() == tab.locator("pre.code").count()
    with Opened(browser, sample_page, script=NO_CLIPBOARD) as opened:
        opened.tab.locator(".cell .copy").first.click()
        assert opened.evaluate("getSelection().toString()").startswith("for name in")


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
