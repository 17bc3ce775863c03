"""CUDA C++ kernels on a CPU, for tests: a stand-in for CuPy's ``RawModule`` that compiles them with g++.

It runs the same source as a GPU; ``cuda_on_cpu.h`` explains how. Unlike CuPy and the driver, it checks arguments:
their number, the dtype of arrays, and numbers in place of addresses.
"""

import ctypes
import functools
import os
import re
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
FLAGS = ("-std=c++17", "-O2", "-march=native", "-w", "-shared", "-fPIC", "-fno-semantic-interposition", "-x", "c++")
DTYPES = {"L": np.int64, "I": np.int32, "F": np.float32, "H": np.float16, "i": np.int32, "f": np.float32}


def why_not() -> str:
    """Return why kernels cannot run on this machine, or "" if they can."""
    if shutil.which("g++") is None:
        return "there is no g++ to compile the GPU's kernels with"
    return ""


@functools.cache
def compiled(code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """Compile and load kernels; compiled libraries are kept on disk. Raises ``RuntimeError`` with g++'s output."""
    code = re.sub(r"#include <cuda_fp16.h>", "", code)
    names = re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\))?\s*(\w+)\(", code)
    ends = "".join(f"KERNEL({name})\n" for name in names)
    code = f'#include "{HEADER}"\n#line 1\n{code}\n{ends}'
    headers = [path.read_text("utf-8") for path in sorted(HEADER.parent.rglob("*_on_cpu.h"))]
    installed = [Path(option[2:]).stat().st_mtime_ns for option in options if option.startswith("-I")]
    digest = sha256(repr([code, options, FLAGS, headers, installed]).encode()).hexdigest()
    kept = Path(os.environ.get("CUPY_CACHE_DIR", f"{tempfile.gettempdir()}/minwhisper-kernels-{os.getuid()}"))
    library = kept / f"{digest[:32]}.so"
    if not library.exists():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as folder:
            source, built = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
            source.write_text(code, "utf-8")
            command = ["g++", *FLAGS, *options, str(source), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)
            built.replace(library)  # atomic: another process may be looking for it
    return ctypes.CDLL(str(library))


class RawModule:
    """The part of ``cupy.RawModule`` that the package uses."""

    backward = False  # whether threads and blocks run in reverse order

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc") -> None:
        self.code, self.options = code, options

    def get_function(self, name: str) -> "Kernel":
        """Return the kernel of this name."""
        return Kernel(compiled(self.code, self.options), name)


class Kernel:
    """The part of ``cupy.RawKernel`` that the package uses. Arrays are NumPy's, or wrap one as ``_numbers``."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name = name
        self._launch = getattr(library, f"launch_{name}")
        self._launch.restype = ctypes.c_char_p
        signature = getattr(library, f"signature_{name}")
        signature.restype = ctypes.c_char_p
        self.signature = signature().decode()

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], *, shared_mem: int = 0
    ) -> None:
        """Run the kernel. Raises ``TypeError`` for wrong arguments and ``RuntimeError`` for faults of the kernel."""
        if len(args) != len(self.signature):
            raise TypeError(f"{self.name}: expected {len(self.signature)} arguments, got {len(args)}")
        values = [self._value(number, *both) for number, both in enumerate(zip(self.signature, args, strict=True))]
        addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        sizes = [(ctypes.c_uint * 3)(*(*map(int, three), 1, 1)[:3]) for three in (grid, block)]
        if 0 in [*sizes[0], *sizes[1]]:
            raise ValueError(f"{self.name}: an empty grid or block: {grid}, {block}")
        wrong = self._launch(addresses, *sizes, ctypes.c_size_t(shared_mem), int(RawModule.backward))
        if wrong:
            raise RuntimeError(f"{self.name}: {wrong.decode()}")

    def _value(self, number: int, letter: str, argument: Any) -> Any:
        expected = DTYPES[letter]
        argument = getattr(argument, "_numbers", argument)
        if letter.isupper():
            if isinstance(argument, np.uintp) and argument == 0:
                return ctypes.c_void_p(None)
            if isinstance(argument, np.ndarray) and argument.dtype == expected:
                return ctypes.c_void_p(argument.ctypes.data)
        elif type(argument) is expected:
            return (ctypes.c_int if letter == "i" else ctypes.c_float)(argument)
        kind = "an array of" if letter.isupper() else "a number"
        got = f"{type(argument).__name__} {getattr(argument, 'dtype', '')}"
        raise TypeError(f"{self.name}: argument {number}: expected {kind} {expected.__name__}, got {got}")
