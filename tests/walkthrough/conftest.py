"""Fixtures of the page's tests."""

from pathlib import Path

import pytest

from minwhisper.parity.comparison import CLIP, REFERENCE_FOLDER, clip_samples
from minwhisper.walkthrough.page import page
from minwhisper.walkthrough.text import parse
from minwhisper.walkthrough.widgets import compute
from opened_page import CHROMIUM, QUIET
from widget_sample import small_data


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def real_data(tiny_en):
    """Compute the values of the interactive figures with a real model."""
    return compute(tiny_en, clip_samples())


@pytest.fixture(scope="session")
def sample(browser, tmp_path_factory):
    """Write the page of the sample: the values of its figures are made up."""
    from test_page import PICTURES, SAMPLE

    file: Path = tmp_path_factory.mktemp("sample") / "sample.html"
    clip = (REFERENCE_FOLDER / CLIP).read_bytes()
    file.write_text(page(parse(SAMPLE), PICTURES, clip, small_data()), encoding="utf-8")
    return file
