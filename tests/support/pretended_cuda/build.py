"""Compile the simulated driver and cuBLAS, and load them into CuPy."""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
import warnings
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-shared", "-fPIC", "-fvisibility=hidden")
RUNTIME_INSIDE = ("cupy_backends/cuda/api/runtime*.so", "cupy/cuda/cub*.so")


def cuda_major() -> int:
    """Return the CUDA version of the installed CuPy, 12 or 13, without importing it."""
    names = {(one.metadata["Name"] or "").lower() for one in distributions()}
    (name,) = (name for name in names if re.fullmatch(r"cupy-cuda1[23]x", name))
    return int(name[9:11])


def folder_of(package: str) -> Path:
    """Return the folder that a package is installed in."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def headers() -> list[Path]:
    """Return the folders with CUDA's headers: those of NVIDIA's packages, or of an installed CUDA."""
    candidates = [Path(os.environ.get("CUDA_PATH", "/usr/local/cuda"), "include")]
    if find_spec("nvidia") is not None:
        candidates[:0] = sorted(folder_of("nvidia").glob("*/include"))
    return [folder for folder in candidates if any(folder.glob("c*rt*/host_config.h")) or any(folder.glob("cuda_ru*"))]


def why_not() -> str:
    """Return what is missing of CUDA's headers and NVRTC, or "" if nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        done = _gcc("-E", "-o", f"{folder}/out", *_includes(), str(HERE / "streams.c"))
    if done.returncode:
        return f"CUDA's headers are missing: {done.stderr.splitlines()[0]}"
    from cuda.pathfinder import load_nvidia_dynamic_lib

    try:
        load_nvidia_dynamic_lib("nvrtc")
    except Exception as error:  # NVRTC's binding has its own error type
        return f"NVRTC is missing: {str(error).splitlines()[0]}"
    return ""


def _includes() -> list[str]:
    return [f"-I{folder}" for folder in headers()]


def _gcc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["gcc", *arguments], capture_output=True, text=True, check=False)


def _library(folder: str, name: str, *sources: str) -> ctypes.CDLL:
    done = _gcc(*FLAGS, *_includes(), f"-Wl,-soname,{name}", "-o", f"{folder}/{name}", *sources, "-lpthread", "-ldl")
    if done.returncode or done.stderr:
        raise RuntimeError(done.stderr)
    return ctypes.CDLL(f"{folder}/{name}", mode=ctypes.RTLD_GLOBAL)  # stays loaded after the file is deleted


def load() -> ctypes.CDLL:
    """Compile and load the driver and cuBLAS, import CuPy, and replace the runtime in it. Return the driver."""
    assert "cupy" not in sys.modules, "CuPy was imported already, with its own driver"
    os.environ["CUPY_ACCELERATORS"] = ""  # without CUB, whose kernels are compiled into CuPy and cannot run here
    os.environ.setdefault("CUPY_CACHE_DIR", f"{tempfile.gettempdir()}/minwhisper-pretended-cuda-{os.getuid()}")
    site, major = folder_of("cupy").parent, cuda_major()
    with tempfile.TemporaryDirectory() as folder:
        sources = sorted(str(path) for path in HERE.glob("*.c") if path.name != "cublas.c")
        driver = _library(folder, "libcuda.so.1", *sources)
        stubs = Path(folder, "stubs.c")
        stubs.write_text(_stubs(next(site.glob("cupy_backends/cuda/libs/cublas*.so"))), "utf-8")
        (script := Path(folder, "versions")).write_text(f"libcublas.so.{major} {{ global: *; }};")
        version = f"-Wl,--version-script={script}"
        _library(folder, f"libcublasLt.so.{major}", "-x", "c", "/dev/null")
        _library(folder, f"libcublas.so.{major}", version, str(HERE / "cublas.c"), str(stubs), f"{folder}/libcuda.so.1")
    driver.pretended_sgemm(ctypes.c_void_p(_sgemm()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about packages that are not installed and not used here
        import_module("cupy.cuda.cub")
    for pattern in RUNTIME_INSIDE:
        _replace(next(site.glob(pattern)), driver)
    return driver


def _stubs(library: Path) -> str:
    """Return C code for the cuBLAS functions that CuPy is linked to but ``cublas.c`` does not define."""
    wanted = {line.split()[-1].partition("@")[0] for line in _nm("-D", "--undefined-only", str(library))}
    ours = (HERE / "cublas.c").read_text("utf-8")
    missing = sorted(name for name in wanted if name.startswith("cublas") and f" {name}(" not in ours)
    stub = '__attribute__((visibility("default"))) int {0}(void) {{ return pretended_missing("{0}"); }}'
    return "\n".join(["int pretended_missing(const char*);", *map(stub.format, missing), ""])


def _replace(library: Path, driver: ctypes.CDLL) -> None:
    """Overwrite the runtime's functions in a loaded library."""
    maps = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    begin = next(int(area[0].partition("-")[0], 16) for area in maps if area[-1] == str(library))
    driver.pretended_replace.argtypes = [ctypes.c_uint64, ctypes.c_char_p]
    replaced = 0
    for address, kind, name in (line.split()[-3:] for line in _nm("--defined-only", str(library))):
        if kind in "tT" and name.startswith("cuda"):
            replaced += driver.pretended_replace(begin + int(address, 16), name.encode())
    if replaced < 40:
        raise RuntimeError(f"{library.name}: {replaced} functions of CUDA's runtime were found in it")


def _nm(*arguments: str) -> list[str]:
    return subprocess.run(["nm", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


def _sgemm() -> int:
    """Return the address of the Fortran function ``sgemm``, with 64-bit integers, of the BLAS that NumPy uses."""
    import numpy  # noqa: F401
    from threadpoolctl import threadpool_info

    for info in threadpool_info():
        blas = ctypes.CDLL(info["filepath"])
        for name in ("scipy_sgemm_64_", "sgemm_64_"):
            if hasattr(blas, name):
                address = ctypes.cast(getattr(blas, name), ctypes.c_void_p).value
                assert address
                return address
    raise RuntimeError("NumPy's BLAS has no sgemm with 64-bit integers")
