"""Write ffmpeg_samples.npz: every 97th 16-bit sample of each clip in tests/data, decoded by the ffmpeg command.

Run ``python tests/golden/make_ffmpeg_samples.py`` in the root of the repository, with imageio-ffmpeg installed.
Keys are file names; with ``.length`` appended, the number of samples; ``version`` is ffmpeg's first line of output.
"""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
STEP = 97  # coprime to all frame and block lengths, so that every position within them is sampled
TESTS = Path(__file__).parent.parent
CLIPS = sorted(path for path in (TESTS / "data").iterdir() if path.suffix in {".wav", ".flac", ".aiff"})


def ffmpeg_samples(path: Path) -> np.ndarray:
    """Decode a file with the ffmpeg command: (N,) int16 at 16 kHz."""
    command = [FFMPEG, "-v", "error", "-nostdin", "-i", str(path), "-ac", "1", "-ar", "16000", "-f", "s16le", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<i2")


if __name__ == "__main__":
    version = subprocess.run([FFMPEG, "-version"], capture_output=True, check=True, text=True).stdout
    arrays: dict[str, np.ndarray] = {"version": np.array(version.splitlines()[0])}
    for clip in CLIPS:
        samples = ffmpeg_samples(clip)
        arrays[clip.name] = samples[::STEP]
        arrays[f"{clip.name}.length"] = np.array(samples.size)
    np.savez_compressed(Path(__file__).parent / "ffmpeg_samples.npz", **arrays)
