"""Transcribe a corpus with workers on a GPU, on a CPU, and on both; print devices, speeds and differences.

    PYTHONPATH=.:tests/support python tests/benchmarks/gpu_corpus.py [--model tiny.en] [--clips 40] [--device cuda]

Needs minwhisper[cluster,gpu,offline] and an NVIDIA GPU. Without PyAV, the workers read WAV files themselves. With
``--device cpu`` the script can be tried without a GPU.
"""

import argparse
import json
import tempfile
import time
import wave
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from distributed import Client, Scheduler, SpecCluster

from minwhisper.audio import load
from minwhisper.corpus import transcribe, worker
from minwhisper.corpus.cluster import LastingNanny, connected
from minwhisper.corpus.manifest import read_entries
from minwhisper.errors import CorpusError

DATA = Path(__file__).parents[1] / "data"
OPTIONS = {"temperature": 0.0}


class WavePlugin(worker.ModelPlugin):
    """A plugin whose worker reads WAV files without PyAV."""

    def setup(self, worker):
        super().setup(worker)
        load._load = read_wav


def read_wav(source, rate, timeline, track):
    """Read 16-bit mono samples at 16 kHz."""
    with wave.open(str(source)) as file:
        assert file.getparams()[:3] == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 2**15


def write_clips(folder: Path, count: int) -> float:
    """Write clips of 1 to 8 s of speech at 16 kHz, and return their total length in seconds."""
    generator = np.random.default_rng(0)
    sources = []
    for path in sorted(DATA.glob("LJ*.wav")):
        with wave.open(str(path)) as file:  # at 22.05 kHz; every device gets the same samples
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
        times = np.arange(0, len(samples) - 1, 22_050 / 16_000)
        sources.append(np.interp(times, np.arange(len(samples)), samples).astype("<i2"))
    total = 0
    for number in range(count):
        source = sources[number % len(sources)]
        size = min(len(source), int(generator.uniform(1, 8) * 16_000))
        with wave.open(str(folder / f"{number:03}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(source[:size].tobytes())
        total += size
    return total / 16_000


def mixed(stack: ExitStack) -> Client:
    """Start a worker that sees the GPU and one that sees none."""
    workers = {
        name: {
            "cls": LastingNanny,
            "options": {"nthreads": 1, "dashboard": False, "env": {"CUDA_VISIBLE_DEVICES": gpu}},
        }
        for name, gpu in (("gpu", "0"), ("cpu", ""))
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    return stack.enter_context(Client(stack.enter_context(SpecCluster(workers=workers, scheduler=scheduler))))


def main() -> None:
    """Run the corpus on each cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    try:
        import av  # noqa: F401
    except ImportError:
        worker.ModelPlugin = WavePlugin
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        source = Path(temporary, "in")
        source.mkdir()
        audio = write_clips(source, options.clips)
        clusters = {
            "CPU": (stack.enter_context(connected(None, 2, 1)), "cpu"),
            "GPU": (stack.enter_context(connected(None, None, 1, device=options.device)), options.device),
            "both": (mixed(stack), "auto"),
        }
        texts = {}
        for name, (client, device) in clusters.items():
            for turn in ("first", "second"):  # the first turn loads models and compiles kernels
                out = Path(temporary, f"{name}-{turn}")
                started = time.perf_counter()
                summary = transcribe(source, out, client=client, model=options.model, device=device, **OPTIONS)
                seconds = time.perf_counter() - started
                devices = Counter(entry["device"] for entry in read_entries(out / "manifest.jsonl"))
                print(
                    f"{name}, {turn}: {summary.done} of {options.clips} done, {len(summary.failed)} failed, on "
                    f"{dict(devices)}: {seconds:.2f} s, {audio / seconds:.0f}x",
                    flush=True,
                )
            texts[name] = {path.name: json.loads(path.read_text())["text"] for path in out.glob("*.json")}
        for name in ("GPU", "both"):
            different = [one for one, text in texts["CPU"].items() if texts[name].get(one) != text]
            print(f"{name}: {len(different)} of {len(texts['CPU'])} texts differ from the CPU's: {different}")
        try:
            with connected(None, 9, device="cuda"):
                print("nine workers on the GPU: started, which is wrong")
        except CorpusError as error:
            print(f"nine workers on the GPU: {error}")


if __name__ == "__main__":
    main()
