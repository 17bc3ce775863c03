"""How minwhisper does on a GPU: is it right, does it fit, is it fast. And what a T400 takes, by arithmetic.

    python tests/benchmarks/gpu.py [--device cuda] [--rows ROW …] [--rounds 7] [--minutes 8] [--json FILE]

Rows, or whole sections of them: machine (machine, rates, compiled), correct (exact, half, plain, graph, layers,
tokens), memory (context, peak, flat), speed (encoder, step, together, beam, whole, host), t400, which needs no GPU. All
by default. They are printed as tables as they come; what fails costs its row only; a section that takes more than its
part of the minutes ends early. What is wanted and missed is in bold, and listed at the end.

Weights come from `--models DIR` (DIR/tiny.en, DIR/base), else from their packages, else at random. The peer is
openai-whisper's model, where it is installed, in the same process. For a machine without a network,

    python tests/benchmarks/gpu.py --prepare DIR [--names tiny.en base] [--piece MIB]

puts weights, sounds and openai-whisper into folders in DIR, each with no more of the weights than a piece, and says
what to do with them.
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

import gpu_fast  # noqa: F401 (as gpu_right, it enters its rows; gpu_lab, which all import first, needs no PyAV)
import gpu_lab
import gpu_right  # noqa: F401
import gpu_t400
import numpy as np
from gpu_lab import MIB, Gpu, Lab
from gpu_report import ROWS, SHARES, Cells, row, run

from minwhisper.backend import on_device
from minwhisper.devices import describe_device, resolve_device
from minwhisper.errors import DeviceError
from minwhisper.fast import gpu as gpu_engine

# ------------------------------------------------------------------------------------------ the machine


@row("machine", "Machine", "what", "value")
def machine(lab: Lab) -> Iterator[Cells]:
    """Everything's name and version."""
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
            yield package, "not installed as a package"
    yield "Python, processor", f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    yield "sounds", f"{len(lab.sounds)} clips, {sum(map(len, lab.sounds.values())) / gpu_lab.RATE:.0f} s"


@row("machine", "Rates", "copied GB/s|.0f", "read GB/s|.0f", "float32 product TFLOP/s|.2f")
def rates(lab: Lab) -> Iterator[Cells]:
    """What the GPU can do."""
    lab.rates = its = lab.gpu.rates()
    yield its.copied / 1e9, its.read / 1e9, its.operations / 1e12


@row("machine", "Kernels", "weights", "compile", "first time s|.2f", "from the disk s|.3f")
def compiled(lab: Lab) -> Iterator[Cells]:
    """How long compiling takes."""
    for dtype in ("float32", "float16"):
        taken, found = [], None
        for _ in range(2):
            start = time.perf_counter()
            found = gpu_engine.load_kernels(np.dtype(dtype))
            taken.append(time.perf_counter() - start)
        yield dtype, found is not None, *taken


# ------------------------------------------------------------------------------------------ a T400


SECONDS = ("encoder s|.3f", "keys, values s|.3f", "step ms|.2f", "real-time factor|.4f")


@row(
    "t400", "The least that a window takes", "model", "weights", "peak MiB|.0f", "fits", *SECONDS, foot=gpu_t400.FORMULA
)
def t400(_: Lab | None) -> Iterator[Cells]:
    """What 1.1 TFLOP/s and 80 GB/s allow. Sizes that do not fit in either dtype are left out."""
    found = list(gpu_t400.t400())
    fitting = {name for name, _, fits, _ in found if fits}
    for name, dtype, fits, its in found:
        if name in fitting:
            times = (its.encoder, its.remember, 1e3 * its.step, its.real_time) if fits else (None,) * 4
            yield name, dtype, its.memory / MIB, "yes" if fits else "no", *times


# ------------------------------------------------------------------------------------------ the command


def main(
    arguments: Sequence[str] | None = None,
    make: Callable[[str], Gpu] = Gpu,
    clock: Callable[[], float] = time.perf_counter,
    **settings: Any,
) -> int:
    """Run the rows that are asked for. A test gives another GPU, another clock and smaller settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", nargs="+", metavar="ROW", default=list(SHARES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--models", type=Path, help="a folder that holds checkpoints, each in a folder")
    parser.add_argument("--names", nargs="+", default=["tiny.en", "base"], help="models with weights of their own")
    parser.add_argument("--clips", nargs="+", help="file names of sounds; all by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="gather what a machine without a network lacks")
    parser.add_argument("--piece", type=float, metavar="MIB", help="the most of the weights in a file; all by default")
    options = parser.parse_args(arguments)
    if options.prepare:
        say_how(gpu_lab.prepare(options.prepare, options.names, options.piece and options.piece * MIB))
        return 0
    unknown = set(options.rows) - {*ROWS, *SHARES}
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; expected some of {', '.join([*SHARES, *ROWS])}")
    order = sorted(ROWS, key=lambda name: list(SHARES).index(ROWS[name].section))
    names = [name for name in order if {name, ROWS[name].section} & set(options.rows)]
    if options.models:
        sys.path.append(str(options.models))  # openai-whisper may be there
    why_not, lab = "", None
    if names != ["t400"]:
        try:
            device = resolve_device(options.device)
            sounds, how = gpu_lab.read_sounds(options.models, options.clips)
            lab = Lab(device, make(device), sounds, options.models, options.names, rounds=options.rounds)
            lab = dataclasses.replace(lab, **settings)
            lab.note(f"sounds: {how}")
        except DeviceError as error:
            why_not = f"\nThe other rows need a GPU: {error}."
    if lab is None:
        run(names, None, options.minutes, options.json, clock)
        print(why_not)
        return 0
    with on_device(lab.device):
        lab.begun = lab.gpu.beside_arrays()
        run(names, lab, options.minutes, options.json, clock)
    return 0


def say_how(folders: Sequence[Path]) -> None:
    """Say how what was prepared gets to another machine."""
    for folder in folders:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}: {size / MIB:.1f} MiB")
    print("On the other machine, copy all that is in these into one folder, and give it as --models.")


if __name__ == "__main__":
    sys.exit(main())
