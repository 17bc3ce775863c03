"""The report of a corpus: right numbers, hostile names shown as text, any number of entries, an accessible page."""

import random
import re
import time
from html.parser import HTMLParser

import pytest

from minwhisper.corpus import analysis
from minwhisper.corpus.manifest import Entry
from minwhisper.corpus.report import MAX_DOUBTFUL, report_page, write_report
from minwhisper.corpus.throughput import MAX_PAUSE_WIDTH, timeline
from opened_page import SCHEMES, WIDTHS, Opened

START = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
HOSTILE = "</script><script>alert(1)</script><!-- \"'& \u202e \x07\x1b[31m \udcff --> שלום 国.wav"


def entry(number: int, outcome: str = "done", **more: object) -> Entry:
    path = f"/data/corpus/{number:06}.flac"
    made = {"input": path, "output": f"{number:06}", "size": 1000, "modified": "1", "job": "0" * 64, "outcome": outcome}
    made |= {"finished": START + 60 * number, "attempts": 1, "worker": f"worker-{number % 4}", "device": "CPU"}
    if outcome == "done":
        made |= {"duration": 600.0, "language": "en", "words": 1500, "compression_ratio": 1.6}
        made |= {"mean_logprob": -0.3, "lowest_logprob": -0.6}
    else:
        made["error"] = f"{path}: cannot be decoded at byte {number}"
    return made | {"seconds": 60.0} | more


def sample(count: int = 500) -> list[Entry]:
    """Make the entries of two runs on eight workers, with failures of all kinds and doubtful transcripts."""
    rng = random.Random(7)
    found = []
    for number in range(count):
        outcome = rng.choices(["done", "failed", "out_of_memory", "killed"], [95, 3, 1, 1])[0]
        more: dict[str, object] = {"worker": f"tcp://10.0.0.{1 + number % 8}:8786", "seconds": rng.uniform(10, 90)}
        more["device"] = "NVIDIA T400" if number % 8 < 3 else "Intel Xeon, 8 threads"
        more["finished"] = START + 60 * number + 100_000 * (number >= count // 2)
        more["input"] = f"s3://archive/interviews/{1950 + number % 60}/tape {number:04}, side {'AB'[number % 2]}.flac"
        if outcome == "done":
            more |= {"duration": rng.lognormvariate(6, 1), "language": "en" if rng.random() < 0.97 else "cy"}
            more |= {"mean_logprob": -rng.uniform(0.1, 1.3), "compression_ratio": rng.uniform(1.0, 2.6)}
        found.append(entry(number, outcome, **more))
    return found


class Parsed(HTMLParser):
    """A parser of a page's elements and texts, which checks that elements are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def tiles(page):
    found = re.findall(r"<dt>(.*?)</dt><dd><b>(.*?)</b> <span>(.*?)</span>", page)
    return {name: f"{value} {note}".strip() for name, value, note in found}


def rows(page, name):
    """Return the texts of the cells in each row of the table with this label."""
    table = re.search(rf'aria-label="{name}[^>]*>(.*?)</table>', page, re.S)[1].partition("<tbody>")[2]
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in table.split("</tr>"))
    return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in cells if row]


def test_the_summary_counts_and_adds_up():
    entries = [entry(0), entry(1, duration=1800.0), entry(2, "failed"), entry(3, "killed", attempts=3)]
    page = report_page([entry(0, "failed"), *entries], skipped=7)  # the last entry about a recording counts
    found = tiles(page)
    assert found["Done"] == "2 of 4 recordings"
    assert found["Not transcribed"] == "2 1 failed, 1 killed"
    assert found["Skipped"].startswith("7 ")
    assert found["Audio"] == "40 min transcribed"
    assert found["Words"] == "3,000"
    assert found["Time of run"] == "4 min from 2027-01-15 07:59:00 to 2027-01-15 08:03:00"
    assert found["Throughput"].startswith("10 ")
    assert found["Workers"] == "4 4 × CPU"
    assert found["Languages"] == "1 2 × English"
    assert found["More than one attempt"].startswith("1 ")


def test_throughput_spreads_audio_over_the_working_time_and_shows_pauses():
    some = analysis.recordings([entry(0, seconds=3600.0), entry(600, seconds=1800.0), entry(600, "failed", output="x")])
    found = timeline(some)
    assert [(one.end - one.start) for one in found.pauses] == [36000 - 1800]
    first = [one for one in found.bins if one.end <= START]
    assert len(first) == 30  # bins of 2 minutes: 90 minutes of work get at most 60 bins of a round length
    assert [one.audio for one in first] == pytest.approx([20] * 30)
    assert found.bins[0].rate == pytest.approx(1 / 6)
    assert sum(one.audio for one in found.bins) == pytest.approx(1200)
    assert (sum(one.done for one in found.bins), sum(one.failed for one in found.bins)) == (2, 1)
    assert found.working == 5400
    assert found.bins[0].left == 0
    assert found.bins[-1].right == pytest.approx(1)
    pause = found.pauses[0]
    assert 0 < pause.right - pause.left <= MAX_PAUSE_WIDTH  # shortened
    table = rows(report_page([entry(0), entry(600)]), "Throughput over time")
    assert [row for row in table if row[2] == "pause"] == [["2027-01-15 08:00:00", "2027-01-15 17:59:00", "pause"]]


def test_thousands_of_runs_are_joined_and_nothing_is_lost():
    some = analysis.recordings(entry(20 * number, seconds=60) for number in range(3000))
    found = timeline(some)
    assert len(found.bins) < 300
    assert sum(one.done for one in found.bins) == 3000
    assert sum(one.audio for one in found.bins) == pytest.approx(3000 * 600)
    assert found.working == 3000 * 60


def test_workers_are_compared_with_those_of_the_same_device():
    entries = [entry(number, seconds=60.0 if number % 4 else 300.0) for number in range(40)]
    entries += [entry(100, "failed", worker="worker-2"), entry(101, worker="gpu", device="T400", seconds=6.0)]
    found = {one.name: one for one in analysis.workers(analysis.recordings(entries))}
    assert [*found] == ["worker-2", "worker-0", "worker-1", "worker-3", "gpu"]  # failures first, then the slowest
    assert (found["worker-2"].done, found["worker-2"].failed, found["worker-2"].speed) == (10, 1, 10)
    assert found["worker-0"].slow
    assert found["worker-0"].relative == 0.2
    assert found["gpu"].relative is None
    page = report_page(entries)
    assert rows(page, "Workers")[1] == [
        *("worker-0", "CPU", "10", "1 h 40 min", "2 slow: 0.20 × the median", "50 min", "0")
    ]


def test_histograms_have_every_recording_once():
    page = report_page([entry(number, duration=length) for number, length in enumerate([0.5, 30, 59, 60, 900, 10**6])])
    bars = dict(rows(page, "Durations of the recordings"))
    assert [*bars][:6] == ["0 s to 1 s", "1 s to 2 s", "2 s to 5 s", "5 s to 10 s", "10 s to 20 s", "20 s to 30 s"]
    assert {name: count for name, count in bars.items() if count != "0"} == {
        "0 s to 1 s": "1",
        "30 s to 1 min": "2",
        "1 min to 2 min": "1",
        "10 min to 20 min": "1",
        "8 h to 24 h": "1",
    }
    assert sum(int(row[1]) for row in rows(page, "Speeds of the recordings")) == 6


def test_failures_are_grouped_by_cause():
    entries = [entry(number, "failed") for number in range(40)]
    entries += [entry(50, "out_of_memory", error="needs 9 GB", attempts=2), entry(51, "exploded", error="?")]
    page = report_page(entries)
    groups = analysis.failure_groups(analysis.recordings(entries))
    assert [(group.outcome, group.message, len(group.recordings), group.varied) for group in groups] == [
        ("failed", "cannot be decoded at byte 0", 40, True),
        ("other", "?", 1, False),
        ("out_of_memory", "needs 9 GB", 1, False),
    ]
    assert page.count("<code>--retry_failed</code>") == 2
    assert "10 more, not shown." in page
    assert rows(page, "Recordings with this message: needs")[0][:2] == ["000050.flac", "2"]
    assert 'in <bdi class="name">/data/corpus/</bdi>' in page


def test_doubtful_transcripts_are_ranked_with_reasons():
    entries = [entry(number) for number in range(20)]
    entries[1] |= {"mean_logprob": -1.5, "lowest_logprob": -3.0}  # 3 points; the segment does not count again
    entries[2] |= {"compression_ratio": 4.8, "language": "cy"}  # 2 and 0.5 points
    entries[3] |= {"words": 0}  # 2 points
    entries[4] |= {"lowest_logprob": -1.0, "compression_ratio": 2.4}  # at the thresholds
    entries[5] |= {"words": 0, "duration": 59.0}  # too short to count
    page = report_page(entries)
    found = rows(page, "Doubtful transcripts")
    repeats = "a segment repeats itself: compression ratio 4.8, above 2.4"
    assert [row[:3] for row in found] == [
        ["000001.flac", "mean log-probability -1.50, below -1.0", "3.0"],
        ["000002.flac", repeats + "Welsh, unlike most recordings (English)", "2.5"],
        ["000003.flac", "no words at all", "2.0"],
    ]


def test_only_transcripts_below_the_folder_are_linked(tmp_path):
    (tmp_path / "out").mkdir()
    bad = {"mean_logprob": -2.0}
    names = ["a b#?.x", "javascript:alert(1)", "missing", "../secret", str(tmp_path / "out/absolute"), "%41"]
    for name in ("a b#?.x", "javascript:alert(1)", "../secret", "absolute", "%41"):
        (tmp_path / "out" / f"{name}.txt").write_text("")
    (tmp_path / "out" / "%41.html").write_text("")
    write_report(tmp_path / "out/report.html", [entry(at, output=name, **bad) for at, name in enumerate(names)])
    page = (tmp_path / "out/report.html").read_text("utf-8")
    found = [link["href"] for link in Parsed(page).all("a") if not link["href"].startswith("#")]
    assert found == ["./a%20b%23%3F.x.txt", "./javascript%3Aalert%281%29.txt", "./%2541.html"]


def test_hostile_text_stays_text(tmp_path):
    hostile = dict.fromkeys(["input", "output", "worker", "device", "language", "error"], HOSTILE)
    entries = [entry(0, mean_logprob=-3.0, **hostile), entry(1, "failed", **hostile | {"output": "1"})]
    entries.append(entry(2, HOSTILE, **hostile | {"output": "2"}))
    write_report(tmp_path / "report.html", entries, title=HOSTILE)
    parsed = Parsed((tmp_path / "report.html").read_text("utf-8"))
    assert len(parsed.all("script")) == 1
    text = "".join(parsed.text)
    assert text.count("<script>alert(1)</script>") >= 8
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    policy = parsed.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [entry(0, "failed")],
        [{"input": "a", "output": "a", "job": "", "outcome": "done"}],
        [entry(0, finished=float("nan"), seconds=-1.0, duration=1e300, words=True, attempts="x", language=None)],
        [entry(0, duration=0.0, seconds=0.0, words=0)],
    ],
    ids=["none", "failed", "only required keys", "damaged", "empty recording"],
)
def test_a_page_can_be_made_of_any_entries(entries):
    parsed = Parsed(report_page(entries))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not re.search(r"\bnan\b|\binf\b|None\b(?!\.)", "".join(parsed.text))


def test_tens_of_thousands_of_entries_take_seconds_and_a_small_page(tmp_path):
    some = sample()
    entries = [one | {"output": f"{at}-{number}"} for number in range(60) for at, one in enumerate(some)]
    started = time.process_time()
    write_report(tmp_path / "report.html", entries)
    assert time.process_time() - started < 2.7  # takes 0.9 s on an idle machine
    page = (tmp_path / "report.html").read_text("utf-8")
    assert len(page) < 2_000_000
    assert tiles(page)["Done"].endswith(" of 30,000 recordings")
    assert len(rows(page, "Doubtful transcripts")) == MAX_DOUBTFUL


@pytest.fixture(scope="module")
def report_file(tmp_path_factory):
    """Write a report about the sample, with names that are wider than a screen and contain scripts."""
    path = tmp_path_factory.mktemp("corpus") / "report.html"
    some = sample(150)
    for one in some:
        (path.parent / f"{one['output']}.txt").write_text("")
    long = dict.fromkeys(["input", "language", "error"], HOSTILE + "x" * 5000)
    long |= {"worker": "tcp://10.0.0.1:8786", "device": "NVIDIA T400", "mean_logprob": -3.0}
    hostile = [entry(0, **long, output=HOSTILE), entry(1, "failed", **long, output=f"{HOSTILE}1")]
    write_report(path, [*some, *hostile], title=HOSTILE + "x" * 5000, skipped=12)
    return path


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [*zip(WIDTHS, SCHEMES, strict=True)])
def test_the_page_fits_is_accessible_and_runs_no_script_in_a_name(browser, report_file, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with Opened(browser, report_file, width, scheme) as page:
        page.tab.on("dialog", lambda dialog: page.problems.append(dialog.message))
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.scripts.length") == 1
        found = axe.Axe().run(page.tab).response["violations"]
        assert [(one["id"], [node["html"][:80] for node in one["nodes"][:3]]) for one in found] == []
        assert page.problems == []
        assert [url for url in page.requests if not url.startswith("file:")] == []


@pytest.mark.browser
def test_columns_are_sorted_with_the_keyboard(browser, report_file):
    with Opened(browser, report_file) as page:
        table = page.tab.locator("[aria-label=Workers] table")

        def column(number):
            cells = table.locator(f"tbody tr > :nth-child({number})")
            return cells.evaluate_all("cells => cells.map((cell) => cell.dataset.value ?? cell.textContent)")

        button = table.get_by_role("button", name="Speed")
        button.focus()
        page.tab.keyboard.press("Enter")
        speeds = [float(value) for value in column(5)]
        assert speeds == sorted(speeds, reverse=True)
        assert table.locator("[aria-sort=descending]").text_content() == "Speed"
        page.tab.keyboard.press("Enter")
        assert [float(value) for value in column(5)] == speeds[::-1]
        table.get_by_role("button", name="Worker", exact=True).click()
        assert column(1) == [f"tcp://10.0.0.{number}:8786" for number in range(1, 9)]
        assert page.problems == []
