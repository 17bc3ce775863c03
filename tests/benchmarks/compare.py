"""Compare minwhisper with the installed peers: openai-whisper on PyTorch, faster-whisper in int8.

    python tests/benchmarks/compare.py [--rounds 5] [--model tiny.en] [ROW …]

Rows: encoder, step, whole, together, timed, beam, memory, start, two, long (default: all but long). Each contender is a
process that loads its model once. They take turns in each round, sleeping in between, and the medians are compared.
`together` and `timed` decode several windows of one recording at a time, which only faster-whisper supports too:
without timestamps (its default) and with them. The recording is 2:45 long: the twelve LJ Speech clips in tests/data,
twice, with pauses; `encoder`, `step` and `beam` use the JFK clip.
Needs the extras `offline` and `parity`, and faster-whisper to compare with it.
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[1] / "data"
ROWS = ("encoder", "step", "whole", "together", "timed", "beam", "memory", "start", "two")
TOKENS = 100
PROMPT, WORD = 50257, 400  # any tokens, for timing only

# ------------------------------------------------------------------------------------------ inputs


def prepare(name: str, folder: Path) -> None:
    """Save audio and weights in a folder, in the formats of the contenders."""
    import minwhisper
    from minwhisper.checkpoints.sources import packaged_model
    from minwhisper.parity.comparison import clip_samples, pytorch_model, window_mel

    pause = np.zeros(4000, np.float32)
    parts = [part for path in sorted(DATA.glob("LJ*.wav")) * 2 for part in (minwhisper.load_audio(path), pause)]
    np.save(folder / "book.npy", np.concatenate(parts))
    np.save(folder / "window.npy", window_mel(clip_samples(), 80))
    if importlib.util.find_spec(NEEDS["openai-whisper"]):
        import torch

        model = pytorch_model(minwhisper.load_model(name))
        torch.save({"dims": vars(model.dims), "model_state_dict": model.half().state_dict()}, folder / "model.pt")
    files = packaged_model(name)
    (folder / "ct2").mkdir()
    for path in files.folder.iterdir():
        if "model.bin" not in path.name and path.is_file():
            shutil.copy(path, folder / "ct2")
    with (folder / "ct2" / "model.bin").open("wb") as whole:
        for path in files.weights:
            whole.write(path.read_bytes())


# ------------------------------------------------------------------------------------------ contenders

Jobs = dict[str, Callable[[], Any]]


def ours(name: str, folder: Path) -> Jobs:
    """Return the jobs of minwhisper by name: each is called and timed, unless it returns the seconds itself."""
    import minwhisper
    from minwhisper.model.engine import DecoderInput

    model = minwhisper.load_model(name)
    mel, samples = np.load(folder / "window.npy"), np.load(folder / "book.npy")
    engine = model.engine
    caches: list[Any] = []

    def step() -> float:
        with engine.session():
            if not caches or caches[-1].length > TOKENS + 20:
                text = [PROMPT] + [WORD] * (TOKENS - 1)
                fresh = DecoderInput([text], engine.new_cache(model.encode(mel)), [0])
                caches[:] = [engine.decode_batch([fresh])[0][1]]
            start = time.perf_counter()
            caches[:] = [engine.decode_batch([DecoderInput([[WORD]], caches[-1])])[0][1]]
            return time.perf_counter() - start

    def tokens(**how: Any) -> list[int]:
        result = model.transcribe(samples, temperature=0.0, language="en", **how)
        return [token for segment in result["segments"] for token in segment["tokens"]]

    return {
        "encoder": lambda: model.encode(mel),
        "step": step,
        "whole": tokens,
        "together": lambda: tokens(batch_size=8, without_timestamps=True),
        "timed": lambda: tokens(batch_size=8),
        "beam": lambda: model.decode(mel[0], beam_size=5, language="en").tokens,
    }


def openai(_name: str, folder: Path) -> Jobs:
    """Return the jobs of openai-whisper, with the same weights in float32."""
    import torch
    import whisper

    model = whisper.load_model(str(folder / "model.pt"), device="cpu")
    mel, samples = torch.tensor(np.load(folder / "window.npy")), np.load(folder / "book.npy")
    state: dict[str, Any] = {}

    def step() -> float:
        with torch.no_grad():
            if not state or state["count"] > 20:
                for hook in state.get("hooks", ()):
                    hook.remove()
                features = model.encoder(mel)
                cache, hooks = model.install_kv_cache_hooks()
                model.decoder(torch.tensor([[PROMPT] + [WORD] * (TOKENS - 1)]), features, kv_cache=cache)
                state.update(features=features, cache=cache, hooks=hooks, count=0)
            start = time.perf_counter()
            model.decoder(torch.tensor([[WORD]]), state["features"], kv_cache=state["cache"])
            state["count"] += 1
            return time.perf_counter() - start

    def tokens() -> list[int]:
        result = whisper.transcribe(model, samples, temperature=0.0, fp16=False, language="en")
        return [token for segment in result["segments"] for token in segment["tokens"]]

    def encoder() -> None:
        with torch.no_grad():
            model.encoder(mel)

    beam = whisper.DecodingOptions(beam_size=5, fp16=False, language="en")
    return {
        "encoder": encoder,
        "step": step,
        "whole": tokens,
        "beam": lambda: whisper.decode(model, mel[0], beam).tokens,
    }


def faster(_name: str, folder: Path) -> Jobs:
    """Return the jobs of faster-whisper, in int8."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    cores = len(os.sched_getaffinity(0))
    model = WhisperModel(str(folder / "ct2"), device="cpu", compute_type="int8", cpu_threads=cores)
    together, samples = BatchedInferencePipeline(model), np.load(folder / "book.npy")
    how = {"beam_size": 1, "temperature": 0.0, "language": "en"}

    def batched(timed: bool) -> str:
        segments = together.transcribe(samples, batch_size=8, without_timestamps=not timed, **how)[0]
        return "".join(segment.text for segment in segments)

    return {
        "whole": lambda: "".join(segment.text for segment in model.transcribe(samples, **how)[0]),
        "together": lambda: batched(timed=False),
        "timed": lambda: batched(timed=True),
    }


CONTENDERS = {"minwhisper": ours, "openai-whisper": openai, "faster-whisper int8": faster}
NEEDS = {"minwhisper": "minwhisper", "openai-whisper": "whisper", "faster-whisper int8": "faster_whisper"}


def peak() -> int:
    """Return the peak memory of this process in bytes."""
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def child(contender: str, name: str, folder: Path) -> None:
    """Load a contender, then do the job on each input line; print its seconds, tokens and the peak memory so far."""
    jobs = CONTENDERS[contender](name, folder)
    print(json.dumps(sorted(jobs)), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        result = jobs[line.strip()]()
        seconds = result if isinstance(result, float) else time.perf_counter() - start
        tokens = result if isinstance(result, list) else None
        print(json.dumps({"seconds": seconds, "peak": peak(), "tokens": tokens}), flush=True)


# ------------------------------------------------------------------------------------------ turns


class Contender:
    """A process that waits for its turn."""

    def __init__(self, contender: str, name: str, folder: Path) -> None:
        command = [sys.executable, __file__, "--child", contender, "--folder", str(folder), "--model", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.jobs = self.answer()

    def answer(self) -> Any:
        for line in self._process.stdout:
            if line.startswith(("[", "{")):  # libraries may print other lines
                return json.loads(line)
        raise SystemExit("a contender has ended early; see above")

    def begin(self, job: str) -> None:
        self._process.stdin.write(job + "\n")
        self._process.stdin.flush()

    def do(self, job: str) -> dict[str, Any]:
        self.begin(job)
        return self.answer()

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def contenders(job: str, name: str, folder: Path) -> dict[str, Contender]:
    """Load the contenders that are installed and can do a job; return them by name."""
    found = {who: Contender(who, name, folder) for who, needed in NEEDS.items() if importlib.util.find_spec(needed)}
    for who in [who for who, contender in found.items() if job not in contender.jobs]:
        found.pop(who).end()
    return found


def in_turn(job: str, name: str, folder: Path, rounds: int) -> None:
    """Time a job of all contenders in turn, and print medians and ratios."""
    field = contenders(job, name, folder)
    times: dict[str, list[float]] = {who: [] for who in field}
    out: dict[str, list[int] | None] = {}
    for number in range(rounds + 1):
        for who, contender in field.items():
            for _ in range(10 if job == "step" else 1):
                answer = contender.do(job)
                out[who] = answer["tokens"]
                if number:  # the first round warms up
                    times[who].append(answer["seconds"])
    for contender in field.values():
        contender.end()
    mine = statistics.median(times.pop("minwhisper"))
    print(f"{job}, {name}: minwhisper {1e3 * mine:.1f} ms")
    for who, column in times.items():
        theirs = statistics.median(column)
        equal = "" if out[who] is None else f"; tokens {'equal' if out[who] == out['minwhisper'] else 'DIFFER'}"
        print(f"  {who} {1e3 * theirs:.1f} ms: time ratio {mine / theirs:.2f}, speed {theirs / mine:.2f} times{equal}")


def two(name: str, folder: Path, rounds: int) -> None:
    """Run beam searches in two processes of a kind at once. Twice the time is fair; more is lost to interference."""
    for who, needed in NEEDS.items():
        if not importlib.util.find_spec(needed) or who.startswith("faster"):
            continue
        pair = [Contender(who, name, folder) for _ in range(2)]
        alone, both = [], []
        for number in range(rounds + 1):
            single = pair[0].do("beam")["seconds"]
            for contender in pair:
                contender.begin("beam")
            slower = max(contender.answer()["seconds"] for contender in pair)
            if number:
                alone.append(single)
                both.append(slower)
        for contender in pair:
            contender.end()
        one, other = statistics.median(alone), statistics.median(both)
        print(f"two, {name}: {who}: one {1e3 * one:.0f} ms, two {1e3 * other:.0f} ms, {other / one:.1f} times")


def memory(name: str, folder: Path) -> None:
    """Compare the peak memory of processes that load a model and transcribe the book once."""
    peaks = {}
    for who, contender in contenders("whole", name, folder).items():
        peaks[who] = contender.do("whole")["peak"]
        contender.end()
    mine = peaks.pop("minwhisper")
    print(f"memory, {name}: minwhisper {mine / 2**20:.0f} MiB")
    for who, theirs in peaks.items():
        print(f"  {who} {theirs / 2**20:.0f} MiB: ratio {mine / theirs:.2f}")


def start(name: str, folder: Path, rounds: int) -> None:
    """Time both commands from a cold start to the end, on the JFK clip.

    A first run, which is not counted, lets Python cache its bytecode, as it does when a package is installed.
    """
    clip, bin = str(DATA / "jfk.flac"), Path(sys.executable).parent
    whisper = [str(bin / "whisper"), clip, "--model", str(folder / "model.pt"), "--fp16", "False"]
    commands = (
        [str(bin / "minwhisper"), "transcribe", clip, "--model", name],
        [*whisper, "--language", "en", "--output_dir", str(folder)],
    )
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    columns: tuple[list[float], ...] = ([], [])
    for number in range(rounds + 1):
        for command, column in zip(commands, columns, strict=True):
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment)
            if number:
                column.append(time.perf_counter() - begun)
    if not (folder / "jfk.txt").exists():  # whisper ends with status 0 even if it finds no ffmpeg
        raise SystemExit("whisper wrote no file: is the command ffmpeg installed?")
    mine, theirs = map(statistics.median, columns)
    print(f"start, {name}: minwhisper transcribe {mine:.2f} s, whisper {theirs:.2f} s: time ratio {mine / theirs:.2f}")


def long(name: str, folder: Path) -> None:
    """Compare an hour of audio with five minutes, each read from a file in a fresh process.

    The five minutes run before and after the hour, four times in all, because the machine's speed drifts.
    """
    figures: dict[int, list[list[float]]] = {5: [], 60: []}
    for minutes in (5, 5, 60, 5, 5):
        path = folder / "long.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            samples = np.resize(np.load(folder / "book.npy"), minutes * 60 * 16_000)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        code = (
            "import sys, time, minwhisper; sys.path.insert(0, sys.argv[1]); from compare import peak; "
            "model = minwhisper.load_model(sys.argv[2]); start = time.perf_counter(); "
            "model.transcribe(sys.argv[3], temperature=0.0, language='en'); print(time.perf_counter() - start, peak())"
        )
        command = [sys.executable, "-c", code, str(Path(__file__).parent), name, str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        figures[minutes].append([float(figure) for figure in done.stdout.split()])
    (short, little), (hour, much) = (map(statistics.median, zip(*figures[minutes], strict=True)) for minutes in (5, 60))
    print(
        f"long, {name}: 5 minutes {short:.1f} s, {little / 2**20:.0f} MiB; 1 hour {hour:.1f} s, {much / 2**20:.0f} MiB"
    )
    print(f"  time ratio {hour / short:.1f}, memory ratio {much / little:.2f}")


def main() -> None:
    """Run the requested rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.model, options.folder)
        return
    unknown = set(options.rows) - {*ROWS, "long"}
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; expected some of {', '.join(ROWS)}, long")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(options.model, folder)
        for row in options.rows or ROWS:
            if row == "memory":
                memory(options.model, folder)
            elif row == "start":
                start(options.model, folder, options.rounds)
            elif row == "two":
                two(options.model, folder, options.rounds)
            elif row == "long":
                long(options.model, folder)
            else:
                in_turn(row, options.model, folder, options.rounds)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
