"""The page of a transcript in Chromium: every way to use it, on desktop and phone, with an empty console."""

import json

import pytest

from made_transcripts import HOSTILE, segment, transcript, word
from minwhisper.writers.html import transcript_page
from opened_page import SCHEMES, WIDTHS, Opened

pytestmark = pytest.mark.browser


class View(Opened):
    """The page in a tab."""

    def __init__(self, browser, path, *how):
        super().__init__(browser, path, *how)
        self.tab.wait_for_selector("html[data-ready]", state="attached")

    def word(self, number):
        return self.tab.locator(f"[data-word='{number}']")

    def chosen(self):
        return self.tab.locator(".chosen").text_content()

    def wait_until(self, script, seconds=15):
        """Wait until an expression is true. Playwright's own function needs ``eval``, which the page forbids."""
        for _ in range(20 * seconds):
            if self.evaluate(script):
                return
            self.tab.wait_for_timeout(50)
        raise AssertionError(script)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, tiny_en, speech):
    samples = speech["jfk.flac"]
    made = tiny_en.transcribe(samples, word_timestamps=True, record=True, beam_size=2)
    path = tmp_path_factory.mktemp("view") / "jfk.html"
    path.write_text(transcript_page(made, "jfk.flac", samples=samples, model="tiny.en"), encoding="utf-8")
    return path


@pytest.fixture
def view(browser, page_file):
    with View(browser, page_file) as view:
        yield view
        assert view.problems == []
        assert {url.split(":")[0] for url in view.requests} <= {"file", "blob", "data"}


def test_a_click_plays_from_the_word_and_the_spoken_word_is_followed(view):
    start = view.evaluate("data.words[8][1] / 1000")
    view.word(8).click()
    view.wait_until("!audio.paused && audio.currentTime > 0")
    assert start <= view.evaluate("audio.currentTime") < start + 1.5
    view.wait_until("spoken > 9")
    now, spoken = view.evaluate("[audio.currentTime * 1000, data.words[spoken]]")
    assert spoken[1] <= now + 50
    view.tab.keyboard.press(" ")
    assert view.evaluate("audio.paused")


def test_the_keyboard_moves_by_word_by_segment_and_to_doubtful_words(view):
    press = view.tab.keyboard.press
    press("ArrowRight")
    press("ArrowRight")
    assert view.chosen() == view.word(1).text_content()
    press("ArrowLeft")
    assert view.chosen() == view.word(0).text_content()
    assert view.evaluate("document.querySelectorAll('[aria-current]').length") == 1
    doubtful = view.evaluate("data.words.findIndex((word, number) => number > 0 && word[3] < 400)")
    press("n")
    assert view.evaluate("chosen") == doubtful
    assert view.evaluate("element('live').textContent").startswith(view.word(doubtful).text_content())
    press("+")
    assert view.evaluate("[element('speed').value, audio.playbackRate]") == ["1.25", 1.25]


def test_search_finds_words_across_spaces_and_the_panel_says_why(view):
    view.tab.keyboard.press("/")
    view.tab.keyboard.type("your COUNTRY")
    assert view.tab.locator(".found").count() == 4
    assert view.tab.locator("#matches").text_content() == "2 found"
    view.tab.keyboard.press("Enter")
    first = view.evaluate("chosen")
    view.tab.keyboard.press("Enter")
    assert view.evaluate("chosen") > first
    assert view.chosen() == "your"
    view.word(4).click()
    panel = view.tab.locator("#panel")
    assert panel.locator("h2").text_content() == view.word(4).text_content()
    assert len(panel.locator(".likely tr").all_text_contents()) >= 5
    assert "mean log-probability" in panel.text_content()
    assert "Candidates that lost" in panel.text_content()
    view.wait_until("element('panel').querySelector('canvas').getContext('2d').getImageData(30, 60, 1, 1).data[3]")


def test_a_correction_is_kept_and_downloaded_unless_escape_discards_it(view):
    view.word(2).click()
    for key in ("Enter", "x", "Escape"):
        view.tab.keyboard.press(key)
    assert view.word(2).text_content() == view.evaluate("data.words[2][0].trim()")
    assert view.evaluate("corrections.size") == 0
    view.word(1).dblclick()
    view.tab.keyboard.type("thus, <b>")
    view.tab.keyboard.press("Enter")
    assert view.word(1).locator("del").text_content() == view.evaluate("data.words[1][0].trim()")
    assert view.word(1).locator("ins").text_content() == "thus, <b>"
    found = {}
    for name in ("txt", "srt", "vtt", "json"):
        with view.tab.expect_download() as download:
            view.tab.locator("#download").select_option(name)
        assert download.value.suggested_filename == f"jfk.{name}"
        found[name] = download.value.path().read_text("utf-8")
    assert found["txt"].startswith("And thus, <b>")
    assert found["srt"].startswith("1\n00:00:00,")
    assert "thus, &lt;b>" in found["vtt"]
    corrected = json.loads(found["json"])
    assert corrected["corrections"][0]["corrected"] == "thus, <b>"
    assert corrected["segments"][0]["words"][1]["word"] == " thus, <b>"
    view.tab.reload()
    view.tab.wait_for_selector("html[data-ready]", state="attached")
    assert view.word(1).locator("ins").text_content() == "thus, <b>"
    view.word(1).dblclick()
    view.tab.keyboard.type(view.evaluate("data.words[1][0].trim()"))
    view.tab.keyboard.press("Enter")
    assert view.tab.locator("del").count() == 0  # corrected back


@pytest.mark.parametrize(("width", "scheme"), [*zip(WIDTHS, SCHEMES, strict=True)])
def test_the_page_fits_and_is_accessible(browser, page_file, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with View(browser, page_file, width, scheme) as view:
        view.word(3).click()
        view.evaluate("audio.pause()")
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = axe.Axe().run(view.tab).response["violations"]
        assert [(one["id"], [node["html"][:80] for node in one["nodes"][:3]]) for one in found] == []
        assert view.problems == []


@pytest.fixture
def opened_page(browser, tmp_path):
    """Return a function that opens the page of a transcript with these segments."""

    def opened(segments, title, **options):
        path = tmp_path / "page.html"
        path.write_text(transcript_page(transcript(*segments), title, **options), "utf-8")
        return View(browser, path)

    return opened


def test_hostile_text_is_shown_as_text(opened_page):
    view = opened_page([segment(HOSTILE, 0, 1, [word(HOSTILE, 0, 1)])], HOSTILE, audio_link="javascript:alert(2)")
    dialogs = []
    view.tab.on("dialog", lambda dialog: dialogs.append(dialog.message))
    assert view.word(0).text_content() == HOSTILE
    view.word(0).click()
    assert dialogs == []
    assert view.evaluate("document.scripts.length") == 3  # data, audio and the program


def test_ten_thousand_words_are_there_and_only_what_is_visible_is_laid_out(opened_page):
    words = [word(f" word{i}", 0.36 * i, 0.36 * i + 0.3, (i % 10) / 10) for i in range(10_000)]
    tens = [words[i : i + 10] for i in range(0, 10_000, 10)]
    view = opened_page(
        [segment("".join(w["word"] for w in ten) + ".", ten[0]["start"], ten[-1]["end"], ten) for ten in tens], "hour"
    )
    assert view.tab.locator("[data-word]").count() == 10_000
    view.evaluate("choose(9000)")
    top = "spans[9000].getBoundingClientRect().top"
    view.wait_until(f"{top} < innerHeight && {top} > 0")
    drawn = "spans.filter((span) => span.checkVisibility({contentVisibilityAuto: true})).length"
    view.wait_until(f"{drawn} > 0 && {drawn} < 3000")  # words that were scrolled past stay laid out for a while


def test_without_audio_the_text_can_still_be_read(opened_page):
    view = opened_page([segment(" a b", 0, 1, [word(" a", 0, 0.5), word(" b", 0.5, 1)])], "silent")
    view.word(1).click()
    assert view.tab.locator("#play").is_disabled()
    assert view.chosen() == "b"
    assert view.problems == []
