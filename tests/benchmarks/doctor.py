"""Let the doctor examine ports with each known mistake, ports with pairs of mistakes, and correct ports.

``python tests/benchmarks/doctor.py [--model base] [--seconds 3] [--pairs 30] [--only NAME …]``

A port is made of this package's own stages with the mistake in it, in float32, on the first seconds of the JFK clip
and the tokens of its text. It dumps every stage except attention over all positions. The table shows, for each port,
the mistakes named, in how many stages, and the time. The last line counts the ports with exactly the right mistakes.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import bench_path  # noqa: F401 (first, so that this checkout is examined)
import minwhisper
from minwhisper.common.edits import EditError
from minwhisper.parity import mistakes
from minwhisper.parity.doctor import diagnose
from minwhisper.parity.recording import Recording
from minwhisper.parity.theirs import Theirs
from ports import CLIP, port, same, stereo_clip, two_sequences, uses_window


def main() -> int:
    """Examine the ports and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    model = minwhisper.load_model(options.model, plain=True)
    tokens = two_sequences(model)
    samples = minwhisper.load_audio(CLIP)[: int(options.seconds * 16000)]
    right, count = 0, 0
    names = options.only or list(mistakes.MISTAKES)
    with TemporaryDirectory() as folder:
        stereo = Recording(stereo_clip(Path(folder)))
        correct = port(model, tokens, (), samples)
        choices = [(name,) for name in names]
        if options.pairs:
            names = [
                name for name in names if uses_window(name) or not same(port(model, tokens, (name,), samples), correct)
            ]
            rng = np.random.default_rng(0)
            choices = [tuple(rng.choice(names, 2, replace=False)) for _ in range(options.pairs)]
        for chosen in choices:
            from_file = any(map(uses_window, chosen))
            try:
                arrays = port(model, tokens, chosen, None if from_file else samples, stereo)
            except EditError as error:
                print(f"{' + '.join(chosen):60} cannot be combined: {error}")
                continue
            if not from_file and same(arrays, correct):
                print(f"-   {' + '.join(chosen):45} makes no difference here")
                continue
            start = time.perf_counter()
            report = diagnose(model, Theirs.of(arrays), audio=stereo.source if from_file else None)
            seconds = time.perf_counter() - start
            found = {}
            for stage in report.stages:
                for name in stage.mistakes or ((stage.remark,) if stage.remark else ()):
                    found[name] = found.get(name, 0) + 1
            count += 1
            right += set(found) == set(chosen)
            mark = "ok " if set(found) == set(chosen) else "NOT"
            shown = ", ".join(f"{name} ({n})" for name, n in found.items()) or "nothing"
            print(f"{mark} {' + '.join(chosen):45} {seconds:5.1f} s  {shown}", flush=True)
    print(f"{right} of {count} named, and nothing else")
    return 0 if right == count else 1


if __name__ == "__main__":
    raise SystemExit(main())
