"""The page in a browser: it is complete, fits the window, and requests nothing."""

import base64
import re
import shutil
from pathlib import Path

import pytest

from minwhisper.parity.comparison import CLIP, REFERENCE_FOLDER
from minwhisper.walkthrough.page import page
from minwhisper.walkthrough.text import parse
from test_page import PICTURES, ROOT, SAMPLE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
QUIET = (  # no requests of the browser's own
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

# Elements in the text that stick out of the window, except in a box that scrolls.
STICKING_OUT = """() => {
  const scrolls = (element) => element && element.tagName !== "MAIN"
    && (["auto", "scroll"].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  return [...document.querySelectorAll("main, main *, nav *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5) && !scrolls(element.parentElement);
  }).map((element) => element.outerHTML.slice(0, 100));
}"""

READY = "async () => { await Promise.all([...document.images].map((image) => image.decode().catch(() => {}))); }"


class Opened:
    """A page in a window, with its errors and requests."""

    def __init__(self, browser, path, width=1280, scheme="light"):
        self.problems, self.requests = [], []
        self.tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.tab.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url[:100]}"))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.evaluate(READY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tab.close()

    def evaluate(self, script):
        return self.tab.evaluate(script)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=["sample", "walkthrough.md"])
def path(request, tmp_path_factory):
    """Write the page of a sample with all kinds of content, or that of the stored walkthrough."""
    text, pictures = SAMPLE, PICTURES
    if request.param != "sample":
        text = (ROOT / request.param).read_text(encoding="utf-8")
        found = ROOT.glob("minwhisper/walkthrough/pictures/*.svg")
        pictures = {picture.relative_to(ROOT).as_posix(): picture.read_text(encoding="utf-8") for picture in found}
    file: Path = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(page(parse(text), pictures, (REFERENCE_FOLDER / CLIP).read_bytes()), encoding="utf-8")
    return file


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_the_window(browser, path, width, scheme):
    with Opened(browser, path, width, scheme) as opened:
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.evaluate(STICKING_OUT) == []
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
        page.tab.wait_for_function("document.querySelector('audio').readyState >= 1")
        yield page


def test_only_the_file_is_requested(opened, path):
    opened.tab.wait_for_timeout(200)  # a late request
    assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]
    assert opened.problems == []


def test_every_picture_is_drawn(opened):
    sizes = opened.evaluate(
        "[...document.images].map((i) => [i.complete, i.naturalWidth, i.clientWidth, i.clientHeight])"
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


def test_a_picture_follows_the_colour_scheme(browser, path):
    seen = {}
    for scheme in SCHEMES:
        with Opened(browser, path, scheme=scheme) as opened:
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
        for at in range(links.count()):
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


def test_the_contents_are_not_printed(browser, path):
    with Opened(browser, path) as opened:
        opened.tab.emulate_media(media="print")
        assert not opened.tab.locator(".contents").is_visible()
        assert opened.tab.locator("h1").is_visible()


def test_the_page_works_without_its_script(browser, path):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.locator(".contents li a").first.is_visible()
    assert tab.locator("h2").first.is_visible()
    context.close()


def test_the_icon_is_a_picture(browser, path, tmp_path):
    icon = re.search(r'<link rel="icon" href="data:image/svg\+xml;base64,([^"]+)">', path.read_text())[1]
    file = tmp_path / "icon.html"
    (tmp_path / "icon.svg").write_bytes(base64.b64decode(icon))
    file.write_text('<img src="icon.svg" width="16">')
    with Opened(browser, file) as opened:
        assert opened.evaluate("document.images[0].naturalWidth") > 0
