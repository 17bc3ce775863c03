"""Measure the time and memory of loading a model: medians over fresh processes.

    python tests/benchmarks/load.py [--runs 7] [tiny.en base]

Time is measured from after the imports to a usable model: weights checked and converted, tokenizer read. It is compared
with the minimum: reading the file and converting it to float32. Memory is the peak of NumPy and Python, and the growth
of the process according to the system (including mapped pages of the file), each relative to the size of the weights.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]

CHILD = """
import json, math, sys, time, tracemalloc
import numpy as np
import minwhisper
from minwhisper.model.weight_names import expected_shapes
from minwhisper.checkpoints.sources import packaged_model

def peak():
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

what, name = sys.argv[1:]
packaged_model(name)  # so that the look-up of packages is imported, too
before, start = peak(), time.perf_counter()
if what == "least":
    kept = [np.fromfile(path, "<f2").astype(np.float32) for path in packaged_model(name).weights]
    print(json.dumps({"least": time.perf_counter() - start}))
else:
    if what == "traced":
        tracemalloc.start()
    model = minwhisper.load_model(name)
    seconds = time.perf_counter() - start
    size = 4 * sum(map(math.prod, expected_shapes(model.config).values()))
    if what == "traced":
        print(json.dumps({"traced": tracemalloc.get_traced_memory()[1] / size}))
    else:
        print(json.dumps({"seconds": seconds, "grown": (peak() - before) / size, "size": size}))
"""


def measure(what: str, name: str) -> dict[str, float]:
    """Return what a fresh process reports."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, what, name], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["tiny.en", "base"])
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    print("model      seconds  least  ratio  weights MB  NumPy's peak / weights  process / weights")
    for name in options.models:
        measure("loaded", name)  # the first brings the file into the system's cache
        runs = [measure("loaded", name) | measure("least", name) for _ in range(options.runs)]
        seconds, least, grown = (median(run[key] for run in runs) for key in ("seconds", "least", "grown"))
        traced = measure("traced", name)["traced"]
        print(
            f"{name:9}  {seconds:7.3f}  {least:5.3f}  {seconds / least:5.2f}  {runs[0]['size'] / 1e6:10.0f}  "
            f"{traced:22.3f}  {grown:17.3f}"
        )


if __name__ == "__main__":
    main()
