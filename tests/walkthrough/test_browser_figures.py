"""The interactive figures in a browser: they work with mouse and keyboard, and the console stays empty."""

import re

import pytest

from minwhisper.walkthrough.widgets import TEMPERATURES, probability
from opened_page import Opened
from widget_sample import TOKENS, small_data

pytestmark = pytest.mark.browser


def assert_bars(figure, step, temperature, count):
    """Check the tokens and probabilities of the first bars; return the sum of all probabilities."""
    texts = "(rows) => rows.map((row) => [...row.children].map((c) => c.textContent))"
    rows = figure.locator(".bars li").evaluate_all(texts)
    shares = [float(re.sub(r"\D*([\d.]+).*", r"\1", share)) / 100 for _, _, share in rows]
    assert [name for name, _, _ in rows[:count]] == [name.replace(" ", "␣", 1) for name in step.names[:count]]
    assert shares[:count] == pytest.approx([probability(step, at, temperature) for at in range(count)], abs=6e-4)
    return sum(shares)


def test_the_playhead_follows_the_audio_and_selected_words_move_it(browser, sample_page):
    with Opened(browser, sample_page, 390) as opened:
        tab = opened.tab
        opened.wait("document.querySelector('audio').readyState >= 1")
        lines = lambda: tab.locator(".line").evaluate_all("(lines) => lines.map((line) => parseFloat(line.style.left))")  # noqa: E731
        assert lines() == [0, 0, 0]  # one line in the player, two in the playhead figure
        words = tab.locator(".spoken button")
        words.first.focus()
        tab.keyboard.press("ArrowRight")
        opened.wait("document.querySelector('.line').style.left !== '0%'")
        assert lines() == pytest.approx([25] * 3, abs=0.1)  # 0.5 of 2 seconds
        assert tab.locator(".spoken .now").all_text_contents() == ["<b>not"]
        figure = tab.locator("[data-widget=playhead]")
        assert figure.locator(".label.now").all_text_contents() == ["<b>not"]
        figure.locator(".play").focus()
        tab.keyboard.press("Enter")
        opened.wait("document.querySelector('audio').currentTime > 0.6")
        assert figure.locator(".play").text_content() == "Pause"
        assert lines()[0] > 25
        figure.locator(".play").click()
        opened.wait("document.querySelector('audio').paused")
        box = figure.locator(".track.rows").bounding_box()
        figure.locator(".track.rows").click(position={"x": box["width"] * 0.9, "y": 5})
        opened.wait("parseFloat(document.querySelector('.line').style.left) > 80")
        assert lines() == pytest.approx([90] * 3, abs=1)
        assert opened.problems == []


def test_heads_are_chosen_by_keyboard_and_say_what_they_attend_to(browser, sample_page):
    data = small_data()
    with Opened(browser, sample_page, 390, "dark") as opened:
        tab = opened.tab
        figure = tab.locator("[data-widget=heads]")
        assert figure.locator("select").input_value() == "encoder"  # in a section on the encoder
        thumbs = figure.locator(".thumbs button")
        chosen = figure.locator(".thumbs [aria-pressed=true]")
        chosen.focus()
        tab.keyboard.press("Home")
        assert chosen.get_attribute("aria-label") == "Block 0, head 0"
        before = figure.locator(".matrix canvas").evaluate("(canvas) => canvas.toDataURL()")
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowRight")
        assert chosen.get_attribute("aria-label") == "Block 1, head 1"
        assert tab.evaluate("document.activeElement.ariaLabel") == "Block 1, head 1"
        assert figure.locator(".matrix canvas").evaluate("(canvas) => canvas.toDataURL()") != before
        slider = figure.locator("input[type=range]")
        slider.focus()
        tab.keyboard.press("End")
        row = data.encoder[1, 1, 24]
        share = float(re.search(r": ([\d.]+)\s%", figure.locator(".readout").text_content())[1]) / 100
        assert share == pytest.approx(row.max(), rel=0.02)
        assert f"most to {row.argmax() * 0.08:.2f} s" in figure.locator(".readout").text_content()
        figure.locator("select").select_option("decoder")
        tab.keyboard.press("Tab")
        slider.fill("2")
        row = data.decoder[1, 1, 2]
        target = ["the prompt", "“␣Ask”", "“␣<b>not”"][row.argmax()]
        sentence = f"To predict “<|endoftext|>”, the decoder attends most to {target}"
        assert sentence in figure.locator(".readout").text_content()
        figure.locator("select").select_option("cross")
        assert thumbs.count() == 4
        assert opened.problems == []


def test_the_distributions_are_shown_by_slider_on_hover_and_by_keyboard(browser, sample_page):
    data = small_data()
    with Opened(browser, sample_page) as opened:
        tab = opened.tab
        figure = tab.locator("[data-widget=temperature]")
        figure.locator("select").select_option("0")
        assert_bars(figure, data.steps[0], 1.0, 7)
        slider = figure.locator("input[type=range]")
        slider.focus()
        tab.keyboard.press("ArrowLeft")
        assert figure.locator("output").text_content().startswith("τ = 0.9")
        assert_bars(figure, data.steps[0], 0.9, 7)
        tab.keyboard.press("End")
        assert assert_bars(figure, data.steps[0], TEMPERATURES[-1], 7) == pytest.approx(1, abs=5e-3)  # with all others
        tab.keyboard.press("Home")
        assert_bars(figure, data.steps[0], 0, 7)
        figure.locator("button").click()
        assert figure.locator(".drawn-tokens code").all_text_contents() == ["␣Ask"] * 20  # greedy
        figure = tab.locator("[data-widget=candidates]")
        tokens = figure.locator(".tokens button")
        assert tokens.all_text_contents() == [token.strip() for token in TOKENS]
        tokens.nth(2).hover()
        assert_bars(figure, data.steps[2], 1.0, 5)
        figure.locator(".tokens [tabindex='0']").focus()
        tab.keyboard.press("Home")
        assert_bars(figure, data.steps[0], 1.0, 5)
        tab.keyboard.press("ArrowRight")
        assert_bars(figure, data.steps[1], 1.0, 5)
        assert "Step 2, after “… Ask”: ␣<b>not with" in figure.locator(".readout").text_content()
        assert opened.problems == []


def test_every_stop_of_the_tab_key_is_named_and_visible(browser, sample_page):
    with Opened(browser, sample_page, 390) as opened:
        tab = opened.tab
        seen = set()
        for _ in range(120):
            tab.keyboard.press("Tab")
            stop = tab.evaluate(FOCUSED)
            if stop is None:
                break
            seen.add(stop["tag"])
            assert stop["outline"] != "none" or stop["tag"] == "AUDIO", stop  # its controls draw their own
            assert stop["name"], stop
        assert {"A", "BUTTON", "SELECT", "INPUT", "SUMMARY", "AUDIO"} <= seen
        assert stop is None  # there is no keyboard trap: the end of the page is reached


FOCUSED = """() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  const style = getComputedStyle(element);
  return { tag: element.tagName, outline: style.outlineStyle, html: element.outerHTML.slice(0, 120),
           name: element.ariaLabel || element.textContent.trim() || element.labels?.[0]?.textContent.trim()
                 || element.querySelector("img")?.alt };
}"""


def test_with_reduced_motion_nothing_moves_by_itself(browser, sample_page):
    with Opened(browser, sample_page) as opened:
        opened.tab.emulate_media(reduced_motion="reduce")
        assert opened.tab.locator(".copy").first.evaluate("(b) => getComputedStyle(b).transitionDuration") == "0s"
        opened.evaluate(
            "() => { window.frames_drawn = 0; const draw = requestAnimationFrame; "
            "window.requestAnimationFrame = (f) => { frames_drawn++; return draw(f); }; }"
        )
        opened.tab.locator(".play").click()
        opened.wait("document.querySelector('audio').currentTime > 0.4")
        assert opened.evaluate("frames_drawn") == 0
        assert opened.evaluate("parseFloat(document.querySelector('.line').style.left)") > 0  # a few steps per second
