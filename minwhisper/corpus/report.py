"""The report of a corpus: one HTML page with the outcomes, the speed, and the transcripts to check.

The page needs no network and no second file; it can link to transcripts beside it. Names, messages and everything else
in a manifest may come from anyone, so all of it is shown as text: one line, visible characters only, of limited length.
The ``Content-Security-Policy`` allows the page's own script and nothing else.
"""

import html
import os
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

from ..common.atomic_write import replace_file
from ..printable import printable
from ..writers.html.document import html_document
from .analysis import (
    DURATION_EDGES,
    OTHER,
    SPEED_EDGES,
    Doubtful,
    FailureGroup,
    Histogram,
    Recording,
    Worker,
    doubtful,
    failure_groups,
    histogram,
    language_name,
    recordings,
    speed_of,
    total,
    usual_language,
    workers,
)
from .charts import Band, Bar, Label, chart, share_bar
from .manifest import NAME, Entry
from .throughput import Timeline, timeline

TITLE = "Transcription report"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src '{script}'; form-action 'none'; base-uri 'none'"
LINKED = ("html", "txt", "json")  # formats to link, the first that exists
MAX_NAME, MAX_ERROR = 200, 500  # characters
MAX_DOUBTFUL, MAX_GROUPS, MAX_FILES, MAX_WORKERS, MAX_LISTED = 100, 30, 30, 200, 4  # that are shown

OUTCOMES = {
    "failed": (
        "Failed",
        "The recording cannot be transcribed: for example, it is missing, damaged, or has no audio. "
        "Correct the cause, then run the same command with --retry_failed.",
    ),
    "out_of_memory": (
        "Out of memory",
        "The recording needs more memory than the workers have. Use workers with more memory, or fewer recordings at a "
        "time on each, then run the same command with --retry_failed.",
    ),
    "killed": (
        "Killed",
        "Workers died repeatedly while they transcribed this recording: often the system kills a process that uses too "
        "much memory, or a machine goes away. Look at the logs of the workers, then run the same command with "
        "--retry_failed.",
    ),
    OTHER: (
        "Other outcomes",
        "These outcomes are unknown here: was the manifest written by another version of minwhisper?",
    ),
}
"""The name of each outcome other than done, what it means, and what to do."""


def write_report(
    path: Path, entries: Iterable[Entry], *, title: str = TITLE, skipped: int = 0, formats: Sequence[str] = LINKED
) -> None:
    """Write the report to a file next to the manifest; arguments as in ``report_page``.

    An existing file is replaced only when the new one is complete. Raises OSError if it cannot be written.
    """
    page = report_page(entries, title=title, skipped=skipped, formats=formats, folder=path.parent)
    replace_file(path, page.encode("utf-8"))


def report_page(
    entries: Iterable[Entry],
    *,
    title: str = TITLE,
    skipped: int = 0,
    formats: Sequence[str] = LINKED,
    folder: Path | None = None,
) -> str:
    """Return the report as the text of an HTML file in UTF-8.

    Args:
        entries: of a manifest. The last one about a recording counts.
        title: of the page.
        skipped: the number of recordings that the last run skipped, since they had been transcribed before.
        formats: of the transcripts to link, the preferred one first.
        folder: of the manifest and of the page, to link the transcripts in it; None for no links.
    """
    some = recordings(entries)
    names = _Names(some, formats, folder)
    over_time, all_workers = timeline(some), workers(some)
    failures, doubts = failure_groups(some), doubtful(some)
    sections = [
        ("summary", "Summary", _summary(some, skipped, over_time, all_workers)),
        ("throughput", "Throughput over time", _throughput(over_time)),
        ("failures", "Failures", _failures(failures, names)),
        ("doubtful", "Which transcripts to check first", _doubtful(doubts, some, names)),
        ("distributions", "Durations and speeds", _distributions(some)),
        ("workers", "Workers", _workers(all_workers)),
    ]
    links = "\n".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in sections)
    bodies = "\n".join(
        f'<section>\n<h2 id="{name}">{heading}</h2>\n{content}\n</section>' for name, heading, content in sections
    )
    here = files(__package__)
    script = (here / "report.js").read_text("utf-8")
    digest = "sha256-" + b64encode(sha256(script.encode()).digest()).decode()
    shown = printable(title, MAX_NAME)
    body = f"""<header>
<h1 dir="auto">{html.escape(shown)}</h1>
<nav aria-label="Contents"><ul>
{links}
</ul></nav>
</header>
<main>
{bodies}
</main>
<footer><p>Times are UTC. The file <code>{NAME}</code> has all data of this report.</p></footer>
<script>{script}</script>"""
    return html_document(
        shown, body, style=(here / "report.css").read_text("utf-8"), policy=POLICY.format(script=digest)
    )


# ------------------------------------------------------------------------------------------------------------ summary


def _summary(some: Sequence[Recording], skipped: int, over_time: Timeline, all_workers: Sequence[Worker]) -> str:
    done = [one for one in some if one.done]
    failed = Counter(one.outcome for one in some if not one.done)
    audio = total(one.duration for one in done)
    kinds = ", ".join(f"{count:,} {OUTCOMES[kind][0].lower()}" for kind, count in failed.most_common())
    tiles = [("Done", f"{len(done):,}", f"of {_count(len(some), 'recording')}")]
    tiles.append(("Not transcribed", f"{failed.total():,}", kinds))
    if skipped:
        tiles.append(("Skipped", f"{skipped:,}", "transcribed in an earlier run"))
    tiles.append(("Audio", _hours(audio), "transcribed"))
    if words := total(one.words for one in done):
        tiles.append(("Words", f"{words:,.0f}", ""))
    if over_time.bins:
        pauses = len(over_time.pauses)
        period = f"from {_date(over_time.bins[0].start)} to {_date(over_time.bins[-1].end)}"
        period += f", not counting {_count(pauses, 'pause')}" if pauses else ""
        tiles.append(("Time of run", _time(over_time.working), period))
        tiles.append(("Throughput", _number(audio / over_time.working), "hours of audio per hour of run"))
    if all_workers:
        devices = Counter(worker.device or "unknown device" for worker in all_workers)
        tiles.append(("Workers", f"{len({worker.name for worker in all_workers}):,}", _listed(devices)))
    languages = Counter(language_name(one.language) for one in done if one.language)
    if languages:
        tiles.append(("Languages", f"{len(languages):,}", _listed(languages)))
    if again := sum(one.attempts > 1 for one in some):
        tiles.append(("More than one attempt", f"{again:,}", "of the recordings above"))
    items = (
        f"<div><dt>{name}</dt><dd><b>{value}</b> <span>{_text(note)}</span></dd></div>" for name, value, note in tiles
    )
    return '<dl class="tiles">\n' + "\n".join(items) + "\n</dl>"


def _listed(counts: Counter[str]) -> str:
    """Return the most frequent names with their counts, and the number of the others."""
    shown = [f"{count:,} × {name}" for name, count in counts.most_common(MAX_LISTED)]
    others = len(counts) - len(shown)
    return ", ".join(shown + ([f"{_count(others, 'other')}"] if others else []))


# --------------------------------------------------------------------------------------------------------- throughput


def _throughput(over_time: Timeline) -> str:
    if not over_time.bins:
        return "<p>No recording has been finished yet.</p>"
    best = max(over_time.bins, key=lambda one: one.rate)
    failed = sum(one.failed for one in over_time.bins)
    bars = [
        Bar(
            one.left,
            one.right,
            one.rate,
            f"{_date(one.start)} to {_date(one.end)}: {_number(one.rate)} hours of audio per hour, {one.done:,} done",
            f"{_count(one.failed, 'failure')} from {_date(one.start)} to {_date(one.end)}" if one.failed else "",
        )
        for one in over_time.bins
    ]
    labels, day = [], ""
    for time, place in over_time.ticks:
        moment = datetime.fromtimestamp(time, UTC)
        text = f"{moment:%H:%M:%S}" if time % 60 else f"{moment:%H:%M}"
        today = f"{moment:%Y-%m-%d}"
        labels.append(Label(place, text if today == day else f"{text}\n{today}"))
        day = today
    bands = [
        Band(one.left, one.right, f"pause of {_time(one.end - one.start)} after {_date(one.start)}")
        for one in over_time.pauses
    ]
    facts = f"At most {_number(best.rate)} hours of audio per hour, at {_date(best.start)}."
    notes = []
    if bands:
        pauses = ", ".join(_time(one.end - one.start) for one in over_time.pauses[:MAX_LISTED])
        more = len(bands) - MAX_LISTED
        others = f" and {_count(more, 'more time')}" if more > 0 else ""
        notes.append(f"Hatched: no work for {pauses}{others}.")
        notes.append("A long pause is drawn shortened.")
    if failed:
        notes.append(f"A cross marks where recordings failed ({failed:,} in all).")
    picture = chart(
        "over-time",
        "Throughput over time",
        f"{facts} The table below has all values.",
        bars,
        labels,
        unit="hours of audio per hour of run",
        bands=bands,
    )
    rows = [
        (
            one.start,
            f"<tr><th scope=row>{_date(one.start)}</th><td>{_date(one.end)}</td><td>{_time(one.audio)}</td>"
            f"<td>{_number(one.rate)}</td><td>{one.done:,}</td><td>{one.failed:,}</td></tr>",
        )
        for one in over_time.bins
    ]
    for one in over_time.pauses:
        row = f"<tr><th scope=row>{_date(one.start)}</th><td>{_date(one.end)}</td><td colspan=4>pause</td></tr>"
        rows.append((one.start + 1e-3, row))
    table = _table(
        "Throughput over time",
        ["From", "To", "Audio", "Hours per hour", "Done", "Failed"],
        [row for _, row in sorted(rows)],
    )
    return _figure(picture, " ".join([facts, *notes]), table)


# ----------------------------------------------------------------------------------------------------------- failures


def _failures(groups: Sequence[FailureGroup], names: "_Names") -> str:
    if not groups:
        return "<p>None.</p>"
    parts = []
    for outcome, (name, meaning) in OUTCOMES.items():
        same = [group for group in groups if group.outcome == outcome]
        if not same:
            continue
        count = sum(len(group.recordings) for group in same)
        parts.append(f"<h3>{name}: {_count(count, 'recording')}</h3>")
        parts.append(f"<p>{meaning.replace('--retry_failed', '<code>--retry_failed</code>')}</p>")
        parts += [_failure_group(group, names, opened=len(groups) <= 3) for group in same[:MAX_GROUPS]]
        if left := same[MAX_GROUPS:]:
            count = sum(len(group.recordings) for group in left)
            parts.append(f"<p>{_count(len(left), 'more message')}, {_count(count, 'recording')}, not shown.</p>")
    return names.prefix_note() + "\n".join(parts)


def _failure_group(group: FailureGroup, names: "_Names", *, opened: bool) -> str:
    rows = [
        f"<tr><th scope=row>{names.shown(one)}</th><td>{one.attempts:,}</td><td>{_text(one.worker)}</td>"
        f"<td>{_date(one.finished)}</td></tr>"
        for one in group.recordings[:MAX_FILES]
    ]
    message = _text(group.message, MAX_ERROR) or "(no message)"
    note = ' <span class="note">(and with other numbers)</span>' if group.varied else ""
    table = _table(
        f"Recordings with this message: {printable(group.message, MAX_NAME)}",
        ["Recording", "Attempts", "Last worker", "Time"],
        rows,
        left_out=len(group.recordings) - len(rows),
    )
    return (
        f'<details class="group"{" open" if opened else ""}><summary><b>{len(group.recordings):,} ×</b> '
        f"<bdi>{message}</bdi>{note}</summary>\n{table}\n</details>"
    )


# ----------------------------------------------------------------------------------------------- doubtful transcripts


def _doubtful(found: Sequence[Doubtful], some: Sequence[Recording], names: "_Names") -> str:
    usual = usual_language(some)
    explained = f"""<details><summary>How the points are counted</summary>
<p>Each reason counts once for crossing its threshold, and up to once more for the distance from it.</p>
<ul>
<li>The mean log-probability of all tokens is below -1, openai-whisper’s threshold: 2 to 4 points.</li>
<li>If it is not, but that of one segment is: 0.5 to 1 point.</li>
<li>The text of a segment has a compression ratio above 2.4, openai-whisper’s threshold: 1 to 2 points. Such a text
repeats itself.</li>
<li>Fewer than 30 words per minute in a recording of at least one minute: 1 to 2 points.</li>
<li>A language other than that of at least 80 % of the recordings{f" ({_text(language_name(usual))})" if usual else ""}:
0.5 points.</li>
</ul>
<p>They show where to look, not what is wrong: music, noise and silence give points, too.</p></details>"""
    if not found:
        return f"<p>No transcript shows a sign of an error.</p>\n{explained}"
    rows = []
    for one in found[:MAX_DOUBTFUL]:
        recording = one.recording
        reasons = "".join(f"<li>{_text(doubt.reason)}</li>" for doubt in one.doubts)
        rate = recording.words_per_minute
        rows.append(
            f"<tr><th scope=row>{names.shown(recording)}</th><td><ul>{reasons}</ul></td>"
            f"<td data-value={one.points:.4f}>{one.points:.1f}</td>"
            f"{_cell(recording.duration, _time)}{_cell(rate, lambda value: f'{value:,.0f}')}"
            f"<td>{_text(language_name(recording.language))}</td></tr>"
        )
    table = _table(
        "Doubtful transcripts",
        ["Recording", "Why", "Points", "Duration", "Words per minute", "Language"],
        rows,
        left_out=len(found) - len(rows),
        numbers={"Points", "Duration", "Words per minute"},
        sortable=True,
    )
    done = sum(one.done for one in some)
    return (
        f"<p>{_count(len(found), 'transcript')} of {done:,} may be wrong; the most doubtful come first.</p>\n"
        f"{explained}\n{names.prefix_note()}{table}"
    )


# ------------------------------------------------------------------------------------------------------------ workers


def _workers(found: Sequence[Worker]) -> str:
    if not found:
        return "<p>The manifest names no workers.</p>"
    fastest = max((one.speed or 0.0 for one in found), default=0.0) or 1.0
    rows = []
    for one in found[:MAX_WORKERS]:
        slow = f' <b class="bad">slow: {one.relative:.2f} × the median</b>' if one.slow else ""
        failed = f'<b class="bad">{one.failed:,}</b>' if one.failed else "0"
        speed = f"{share_bar((one.speed or 0.0) / fastest)}{_number(one.speed)}{slow}" if one.speed is not None else "–"
        rows.append(
            f"<tr><th scope=row><bdi>{_text(one.name)}</bdi></th><td><bdi>{_text(one.device)}</bdi></td>"
            f"<td data-value={one.done}>{one.done:,}</td>{_cell(one.audio, _time)}"
            f'<td class="speed" data-value="{one.speed if one.speed is not None else ""}">{speed}</td>'
            f"{_cell(one.seconds, _time)}<td data-value={one.failed}>{failed}</td></tr>"
        )
    table = _table(
        "Workers",
        ["Worker", "Device", "Done", "Audio", "Speed", "Work", "Failures"],
        rows,
        left_out=len(found) - len(rows),
        numbers={"Done", "Audio", "Speed", "Work", "Failures"},
        sortable=True,
    )
    return (
        "<p>Those with failures come first, then the slowest. Speed is seconds of audio per second of work. A worker "
        "is slow if it has less than half of the median speed of the workers with the same device. A failure is "
        f"counted for the last worker that tried.</p>\n{table}"
    )


# ------------------------------------------------------------------------------------------------------ distributions


def _distributions(some: Sequence[Recording]) -> str:
    durations = [one.duration for one in some if one.done and one.duration is not None]
    speeds = [speed for one in some if (speed := one.speed) is not None]
    parts = [
        _histogram("durations", "Durations of the recordings", histogram(durations, DURATION_EDGES), "duration"),
        _histogram("speeds", "Speeds of the recordings", histogram(speeds, SPEED_EDGES), "speed"),
    ]
    if not any(parts):
        return "<p>No recording has been transcribed.</p>"
    overall = speed_of(some)
    note = (
        f"<p>Speed is seconds of audio per second of work of one worker; {_number(overall)} for all recordings "
        "together.</p>\n"
        if overall is not None
        else ""
    )
    return note + '<div class="pair">\n' + "\n".join(parts) + "\n</div>"


def _histogram(name: str, title: str, found: Histogram | None, kind: str) -> str:
    if found is None:
        return ""
    unit = _time if kind == "duration" else _number
    count, edges = len(found.counts), [unit(edge) for edge in found.edges]
    spans = [f"{low} to {high}" for low, high in pairwise(edges)]
    bars = [
        Bar(at / count, (at + 1) / count, number, f"{span}: {_count(number, 'recording')}")
        for at, (span, number) in enumerate(zip(spans, found.counts, strict=True))
    ]
    labels = [Label(at / count, edge, minor=at % 2 == 1) for at, edge in enumerate(edges)]
    facts = f"Median {unit(found.median)}; 80 % are from {unit(found.low)} to {unit(found.high)}."
    described = f"{facts} The table below has all counts."
    picture = chart(name, title, described, bars, labels, unit="recordings", whole=True)
    rows = [
        f"<tr><th scope=row>{span}</th><td>{number:,}</td></tr>"
        for span, number in zip(spans, found.counts, strict=True)
    ]
    table = _table(title, [kind.capitalize(), "Recordings"], rows)
    return f"<div>\n<h3>{title}</h3>\n{_figure(picture, facts, table)}\n</div>"


# --------------------------------------------------------------------------------------------------------- HTML parts


class _Names:
    """The names of recordings in HTML, without the folder that all inputs share, and links to their transcripts."""

    def __init__(self, some: Sequence[Recording], formats: Sequence[str], folder: Path | None) -> None:
        self.formats = sorted(formats, key=lambda one: LINKED.index(one) if one in LINKED else len(LINKED))
        self.folder = folder
        inputs = {one.input for one in some}
        shared = _common_start(min(inputs), max(inputs)) if len(inputs) > 1 else ""
        self.prefix = shared[: 1 + max(shared.rfind("/"), shared.rfind("\\"))]

    def prefix_note(self) -> str:
        """Return the paragraph that gives the shared folder, if there is one."""
        if len(self.prefix) < 2:
            return ""
        return f'<p class="note">Recordings are in <bdi class="name">{_text(self.prefix)}</bdi></p>\n'

    def shown(self, one: Recording) -> str:
        """Return the name of a recording, linked to its transcript if that exists."""
        name = one.input.removeprefix(self.prefix) if len(self.prefix) > 1 else one.input
        text = f'<bdi class="name">{_text(name) or "(no name)"}</bdi>'
        link = self.link(one)
        return f'<a href="{link}">{text}</a>' if link else text

    def link(self, one: Recording) -> str:
        """Return the address of a transcript relative to the page; nothing if it is not in the page's folder."""
        parts = re.split(r"[/\\]", one.output)
        if self.folder is None or not one.done or not parts[0] or ".." in parts or os.path.isabs(one.output):
            return ""
        for format in self.formats:
            name = f"{one.output}.{format}"
            if os.path.isfile(os.path.join(self.folder, name)):
                return "./" + quote(os.fsencode(name.replace(os.sep, "/")))
        return ""


def _common_start(one: str, other: str) -> str:
    different = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(different, min(len(one), len(other)))]


def _figure(picture: str, caption: str, table: str) -> str:
    return (
        f"<figure>\n{picture}\n<figcaption>{caption}</figcaption>\n"
        f"<details class=values><summary>As a table</summary>\n{table}\n</details>\n</figure>"
    )


def _table(
    name: str,
    heads: Sequence[str],
    rows: Sequence[str],
    *,
    left_out: int = 0,
    numbers: Iterable[str] = (),
    sortable: bool = False,
) -> str:
    """Return a table that scrolls in its own region. ``numbers`` are the heads of columns to sort from the largest."""
    columns = "".join(
        f"<th scope=col{' data-first=descending' if head in numbers else ''}>{head}</th>" for head in heads
    )
    note = f'\n<p class="note">{left_out:,} more, not shown.</p>' if left_out > 0 else ""
    label = html.escape(printable(name, MAX_NAME))
    return (
        f'<div class="table" role="region" aria-label="{label}" tabindex="0">\n'
        f"<table{' class=sortable' if sortable else ''}>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + f"\n</tbody></table></div>{note}"
    )


def _cell(value: float | None, shown: Callable[[float], str]) -> str:
    return "<td data-value=''>–</td>" if value is None else f"<td data-value={value:.6g}>{shown(value)}</td>"


def _text(value: str, limit: int = MAX_NAME) -> str:
    return html.escape(printable(value, limit))


def _count(number: int, thing: str) -> str:
    """Return a number of things.

    >>> _count(1, "recording"), _count(1200, "recording")
    ('1 recording', '1,200 recordings')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _number(value: float) -> str:
    """Return a number with about three digits.

    >>> [_number(value) for value in (1234.5, 56.78, 2.0, 0.00123)]
    ['1,234', '56.8', '2', '0.00123']
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _hours(seconds: float) -> str:
    """Return a duration in hours; short ones in minutes and seconds."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 36_000 else _time(seconds)


def _time(seconds: float) -> str:
    """Return a duration.

    >>> [_time(seconds) for seconds in (0, 0.25, 45, 60, 243, 3900, 7200, 500_000)]
    ['0 s', '0.25 s', '45 s', '1 min', '4 min 3 s', '1 h 5 min', '2 h', '138.9 h']
    """
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"
    if seconds >= 360_000:
        return f"{seconds / 3600:,.1f} h"
    if seconds < 3599.5:
        large, small = divmod(round(seconds), 60)
        return f"{large} min {small} s" if small else f"{large} min"
    large, small = divmod(round(seconds / 60), 60)
    return f"{large} h {small} min" if small else f"{large} h"


def _date(time: float | None) -> str:
    return "–" if time is None else f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"
