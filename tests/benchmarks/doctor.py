"""Let the doctor examine ports with every known mistake, with pairs of them, and ports that are right.

``python tests/benchmarks/doctor.py [--model base] [--seconds 3] [--pairs 30] [--only NAME …]``

A port is made from this package's own stages with the mistake in it, in float32, from the first seconds of the JFK clip
and the tokens of its text. It dumps every stage but attention over all positions. For each the table says what was
named, in how many stages, and how long it took. Prints the number of ports for which exactly the mistake was named.
"""

import argparse
import time
import wave
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import minwhisper
from minwhisper.common.edits import EditError
from minwhisper.parity import mistakes
from minwhisper.parity.doctor import diagnose
from minwhisper.parity.graph import network, run
from minwhisper.parity.precision import to_float32
from minwhisper.parity.recording import Recording
from minwhisper.parity.theirs import Theirs
from minwhisper.parity.tracing import place

CLIP = Path(__file__).parents[1] / "data" / "jfk.flac"


def port(model, recording, tokens, names=(), samples=None):
    """Return all stages of a port with these mistakes, in float32."""
    graph = network(model.config)
    edits = [edit for name in names for edit in mistakes.MISTAKES[name].edits]
    given = {"recording": recording, "tokens": tokens}
    if samples is not None:
        given["samples"] = to_float32(samples)
    wanted = [name for name, stage in graph.items() if not stage.large and name not in given]
    found = {"tokens": tokens} | ({} if samples is None else {"samples": given["samples"]})
    scope = {**mistakes.NAMES, "theirs": None}
    done = run(graph, wanted, given, place(model), edits=edits, convert=to_float32, names=scope)
    try:
        with np.errstate(all="ignore"):
            for name, value in done:
                if value.dtype.kind == "f" and np.isnan(value).any():
                    break
                found[name] = value
    except ValueError:  # a port whose shapes do not fit together ends there
        pass
    return found


def stereo_clip(folder: Path) -> Path:
    """Write the beginning of the clip as stereo at 44.1 kHz, its right channel softer, and return the file."""
    samples = minwhisper.load_audio(CLIP)[:48000]
    times = np.arange(int(len(samples) * 44100 / 16000)) * 16000 / 44100
    left = np.interp(times, np.arange(len(samples)), samples)
    path = folder / "stereo.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes((np.stack([left, 0.3 * left], axis=1) * 32767).astype("<i2").tobytes())
    return path


def main() -> int:
    """Examine the ports and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    model = minwhisper.load_model(options.model, plain=True)
    tokenizer = model.tokenizer
    prompt = tokenizer.sot_sequence("en", "transcribe", timestamps=False)
    texts = " And so my fellow Americans ask not", " And so my fellow citizens ask what"  # of equal length
    tokens = np.array([[*prompt, *tokenizer.encode(text)] for text in texts])
    samples = minwhisper.load_audio(CLIP)[: int(options.seconds * 16000)]
    right, count = 0, 0
    names = options.only or list(mistakes.MISTAKES)
    with TemporaryDirectory() as folder:
        stereo = Recording(stereo_clip(Path(folder)))
        correct = port(model, stereo, tokens, (), samples)
        choices = [(name,) for name in names]
        if options.pairs:
            rng = np.random.default_rng(0)
            choices = [tuple(rng.choice(names, 2, replace=False)) for _ in range(options.pairs)]
        for chosen in choices:
            from_file = any(map(uses_window, chosen))
            try:
                arrays = port(model, stereo, tokens, chosen, None if from_file else samples)
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


def same(arrays, others) -> bool:
    """Return whether two ports computed the same."""
    return arrays.keys() == others.keys() and all(np.array_equal(arrays[name], others[name]) for name in arrays)


def uses_window(name: str) -> bool:
    """Return whether a mistake is in loading audio."""
    return any(edit.function is mistakes.graph.window for edit in mistakes.MISTAKES[name].edits)


if __name__ == "__main__":
    raise SystemExit(main())
