"""Measure the page of an hour of speech: its size, and the time in which Chromium opens and scrolls it.

``python tests/benchmarks/view_page.py [--minutes 60] [--keep page.html]``

The clips of LJ Speech are transcribed once, with words and a record, and repeated until the hour is full. Opening is
timed from the navigation to the finished text, scrolling by the time between frames on the way to the end.
Needs Playwright and Chromium (the extra ``browser``).
"""

import argparse
import copy
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

import bench_path  # noqa: F401 (first, so that this checkout is measured)
import minwhisper
from minwhisper.transcription.segments import Transcript
from minwhisper.writers.html import transcript_page

DATA = Path(__file__).parents[1] / "data"
SCROLL = """async () => {
  const times = [];
  let last = performance.now();
  const end = document.documentElement.scrollHeight;
  for (let y = 0; y < end; y += end / 120) {
    scrollTo(0, y);
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - last);
    last = performance.now();
  }
  return times;
}"""


def repeated(transcript: Transcript, seconds: float, times: int) -> Transcript:
    """Repeat a transcript with shifted times."""
    found = copy.deepcopy(transcript)
    found["segments"], found["windows"] = [], []
    for number in range(times):
        shift = number * seconds
        for segment in copy.deepcopy(transcript["segments"]):
            segment["start"] += shift
            segment["end"] += shift
            segment["seek"] += round(100 * shift)
            for word in segment["words"]:
                word["start"] += shift
                word["end"] += shift
            found["segments"].append(segment)
        for window in transcript["windows"]:
            found["windows"].append({**window, "seek": window["seek"] + round(100 * shift)})
    return found


def main() -> None:
    """Make the page, open it, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    pause = np.zeros(8000, np.float32)
    clips = [part for path in sorted(DATA.glob("LJ*.wav")) for part in (minwhisper.load_audio(path), pause)]
    book = np.concatenate(clips)
    model = minwhisper.load_model("tiny.en")
    once = model.transcribe(book, word_timestamps=True, record=True)
    seconds = len(book) / 16000
    times = max(1, round(60 * options.minutes / seconds))
    start = time.perf_counter()
    page = transcript_page(repeated(once, seconds, times), "hour.wav", samples=np.tile(book, times), model="tiny.en")
    words = sum(len(segment["words"]) for segment in once["segments"]) * times
    print(f"{times * seconds / 60:.0f} minutes, {words:,} words: made in {time.perf_counter() - start:.0f} s")
    print(f"size {len(page.encode()) / 1e6:.2f} MB")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        path = options.keep or Path(folder, "page.html")
        path.write_text(page, "utf-8")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        opened, frames = [], []
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1280, "height": 800})
            start = time.perf_counter()
            tab.goto(path.resolve().as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            opened.append(time.perf_counter() - start)
            frames += tab.evaluate(SCROLL)
            tab.close()
        browser.close()
    print(f"opened in {statistics.median(opened):.2f} s (median of {len(opened)})")
    slow = np.percentile(frames, [50, 95])
    print(f"scrolling: a frame every {slow[0]:.0f} ms, 95 % within {slow[1]:.0f} ms")


if __name__ == "__main__":
    main()
