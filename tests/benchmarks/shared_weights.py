"""Measure memory and loading time of processes with one model, with and without ``load_model(shared=folder)``.

    python tests/benchmarks/shared_weights.py [--rounds 5] [--models tiny.en base] [--processes 1 2 4]

Each process loads the model, transcribes the JFK clip and waits. When all have done so, their memory is read from
/proc: RSS is what a process maps, PSS counts a page that k processes map as 1/k, USS has only the pages of one process.
With sharing, the file exists before they start. Loading is timed separately, one process at a time: without sharing,
with it in an empty folder, and with it when the file exists. Prints medians; Linux only. Needs the extra ``offline``.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

CHILD = """
import json, sys, time
from minwhisper.whisper import load_model
name, shared, transcribe = json.loads(sys.argv[1])
start = time.perf_counter()
model = load_model(name, shared=shared)
seconds = time.perf_counter() - start
if transcribe:
    model.transcribe("tests/data/jfk.flac")
print(seconds, flush=True)
sys.stdin.read()
"""


class Child:
    """A process that loads a model and waits."""

    def __init__(self, name: str, shared: str | None, transcribe: bool) -> None:
        """Start the process."""
        command = [sys.executable, "-c", CHILD, json.dumps([name, shared, transcribe])]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )

    def ready(self) -> float:
        """Wait until its work is done; return the seconds that loading took."""
        assert self.process.stdout
        return float(self.process.stdout.readline())

    def memory(self) -> tuple[float, float, float]:
        """Return its RSS, PSS and USS in MiB."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        size = {name: int(kib) / 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
        return size["Rss"], size["Pss"], size["Private_Clean"] + size["Private_Dirty"]

    def end(self) -> None:
        """End the process."""
        self.process.communicate()


def loading(name: str, shared: str | None) -> float:
    """Return the seconds that one process takes to load a model."""
    child = Child(name, shared, transcribe=False)
    seconds = child.ready()
    child.end()
    return seconds


def memories(name: str, shared: str | None, count: int) -> list[tuple[float, float, float]]:
    """Return the memory of each of several processes."""
    children = [Child(name, shared, transcribe=True) for _ in range(count)]
    for child in children:
        child.ready()
    found = [child.memory() for child in children]
    for child in children:
        child.end()
    return found


def main() -> None:
    """Print a table of memory and one of loading times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=["tiny.en", "base"])
    parser.add_argument("--processes", nargs="*", type=int, default=[1, 2, 4])
    options = parser.parse_args()
    print("| model, processes | RSS | PSS | USS | all of them | shared: RSS | PSS | USS | all of them |")
    print("|---|---|---|---|---|---|---|---|---|")
    times = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            loading(name, folder)
            for count in options.processes:
                cells = []
                for shared in (None, folder):
                    rounds = [memories(name, shared, count) for _ in range(options.rounds)]
                    each = zip(*(one for found in rounds for one in found), strict=True)
                    totals = [sum(pss for _, pss, _ in found) for found in rounds]
                    cells += [statistics.median(sizes) for sizes in (*each, totals)]
                print(f"| {name}, {count} |", " | ".join(f"{cell:.0f}" for cell in cells), "|", flush=True)
            ways: dict[str, list[float]] = {"not shared": [], "first": [], "later": []}
            for _ in range(options.rounds):
                ways["not shared"].append(loading(name, None))
                with tempfile.TemporaryDirectory() as empty:
                    ways["first"].append(loading(name, empty))
                ways["later"].append(loading(name, folder))
            times.append((name, [statistics.median(seconds) for seconds in ways.values()]))
    print("\n| loading, s | not shared | shared: first process | shared: later |\n|---|---|---|---|")
    for name, seconds in times:
        print(f"| {name} |", " | ".join(f"{one:.2f}" for one in seconds), "|")


if __name__ == "__main__":
    main()
