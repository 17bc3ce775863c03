"""Measure minwhisper's speed, correctness and memory on a GPU, and compute estimates for a T400.

    python tests/benchmarks/gpu.py [--device cuda] [--rows ROW …] [--rounds 7] [--minutes 8] [--json FILE]

ROW is a row or a section: machine (machine, rates), speed (encoder, step, graph, together, beam, host, whole, words,
compiled), correct (exact, tokens, layers, half), memory (peak, context, flat), checks (memcheck: compute-sanitizer;
suite: the GPU tests) and t400, which needs no GPU. The default is all. Each row is printed as a table when it is ready.
If one fails, the others continue; when the minutes are over, the remaining ones are skipped. Values outside their
limits are printed in bold and listed at the end, and the exit status is 1.

Weights and clips come from the folder that MINWHISPER_MODELS names (see tests/support/carried.py), or from packages;
if there are none, weights are random. The peer is openai-whisper's model in the same process. For a machine without a
network,

    python tests/benchmarks/gpu.py --prepare DIR [--names tiny.en base] [--piece MIB]

creates folders to copy there, of at most 40 MiB each. There, tests/benchmarks/on_gpu.sh combines them and runs the
rows in three parts.
"""

import argparse
import dataclasses
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import bench_path  # noqa: F401 (first, so that this checkout is measured)
import carried
import gpu_checks  # noqa: F401 (like others below, it registers its rows)
import gpu_fast  # noqa: F401
import gpu_fits  # noqa: F401
import gpu_lab
import gpu_layers  # noqa: F401
import gpu_parcels
import gpu_right  # noqa: F401
import gpu_t400
from gpu_device import Gpu
from gpu_lab import MIB, Lab
from gpu_report import HEADINGS, ROWS, Cells, row, run
from minwhisper.common.backend import on_device
from minwhisper.errors import DeviceError
from minwhisper.fast.devices import describe_device, resolve_device

WITHOUT_GPU = ("t400", "checks")  # sections whose rows do not use the GPU in this process
ORDER = "machine rates encoder step graph together beam host whole words compiled exact tokens layers peak context"
ORDER += " flat half memcheck suite t400"

# ------------------------------------------------------------------------------------------ the machine


@row("machine", "Machine", "what", "value")
def machine(lab: Lab) -> Iterator[Cells]:
    """List the machine's names and versions."""
    import cupy

    facts, runtime = describe_device(lab.device), cupy.cuda.runtime
    yield "GPU", f"{facts.name}, compute capability {'.'.join(map(str, facts.compute_capability))}"
    yield "its memory", f"{facts.total / MIB:.0f} MiB, {facts.free / MIB:.0f} MiB free"
    for what, number in (("driver", runtime.driverGetVersion()), ("runtime", runtime.runtimeGetVersion())):
        yield f"CUDA of the {what}", f"{number // 1000}.{number % 1000 // 10}"
    yield "CuPy", getattr(cupy, "__version__", "?")
    for package in ("numpy", "torch", "openai-whisper"):
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"
    yield "Python, processor", f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    yield "clips", f"{len(lab.clips)}, {sum(map(len, lab.clips.values())) / gpu_lab.RATE:.0f} s"
    for name in lab.names:
        source = carried.find_weights(name)
        yield f"weights of {name}", carried.why_no_weights(name) if source is None else str(source)


@row("machine", "Rates", "copied GB/s|.0f", "read GB/s|.0f", "float32 product TFLOP/s|.2f")
def rates(lab: Lab) -> Iterator[Cells]:
    """Measure the GPU's rates."""
    lab.rates = its = lab.gpu.rates()
    yield its.copied / 1e9, its.read / 1e9, its.operations / 1e12


# ------------------------------------------------------------------------------------------ a T400


SECONDS = ("encoder s|.3f", "keys, values s|.3f", "step ms|.2f", "real-time factor|.4f")


@row("t400", "Lower bounds for a window", "model", "weights", "peak MiB|.0f", "fits", *SECONDS, foot=gpu_t400.FORMULA)
def t400(_: Lab | None) -> Iterator[Cells]:
    """Compute times at 1.1 TFLOP/s and 80 GB/s. Sizes that do not fit in either dtype are left out."""
    found = list(gpu_t400.t400())
    fitting = {name for name, _, fits, _ in found if fits}
    for name, dtype, fits, its in found:
        if name in fitting:
            times = (its.encoder, its.cross_kv, 1e3 * its.step, its.real_time) if fits else (None,) * 4
            yield name, dtype, its.memory / MIB, "yes" if fits else "no", *times


# ------------------------------------------------------------------------------------------ the command


def main(
    arguments: Sequence[str] | None = None,
    make: Callable[[str], Gpu] = Gpu,
    clock: Callable[[], float] = time.perf_counter,
    **settings: Any,
) -> int:
    """Run the requested rows, and return 1 if a value is outside its limits or a row failed, else 0.

    Tests pass another GPU, another clock and smaller settings.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", nargs="+", metavar="ROW", default=list(HEADINGS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--names", nargs="+", default=["tiny.en", "base"], help="models with their own weights")
    parser.add_argument("--clips", nargs="+", help="file names of clips (default: all)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="create folders for a machine without a network")
    parser.add_argument("--piece", type=float, metavar="MIB", default=40.0, help="maximum size of a folder (40)")
    options = parser.parse_args(arguments)
    if options.prepare:
        for folder in gpu_parcels.prepare(options.prepare, options.names, int(options.piece * MIB), options.clips):
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            print(f"{folder}: {size / MIB:.1f} MiB")
        print("Copy them to .gpu in a checkout on the other machine, one or all at a time: see on_gpu.sh.")
        return 0
    order = [name for name in ORDER.split() if name in ROWS]
    unknown = set(options.rows) - {*order, *HEADINGS}
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; expected some of {', '.join([*HEADINGS, *order])}")
    names = [name for name in order if {name, ROWS[name].section} & set(options.rows)]
    carried.models_folder()  # adds the folder to the path: openai-whisper may be there
    on_gpu = [name for name in names if ROWS[name].section not in WITHOUT_GPU]
    if not on_gpu:
        return bool(run(names, None, options.minutes, options.json, clock).missed)
    try:
        device = resolve_device(options.device)
    except DeviceError as error:
        run([name for name in names if name not in on_gpu], None, options.minutes, options.json, clock)
        print(f"\nThe other rows need a GPU: {error}.")
        return 1
    clips, how = gpu_lab.read_clips(options.clips)
    lab = Lab(device, make(device), clips, options.names, rounds=options.rounds)
    lab = dataclasses.replace(lab, **settings)
    lab.note(f"clips: {how}")
    with on_device(lab.device):
        lab.begun = lab.gpu.beside_arrays()
        return bool(run(names, lab, options.minutes, options.json, clock).missed)


if __name__ == "__main__":
    sys.exit(main())
