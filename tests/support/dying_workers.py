"""What the tests and benchmarks of a corpus share: short WAV files, and the death of a worker process."""

import random
from pathlib import Path

import numpy as np
import psutil

from audio_files import wav_bytes


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write samples (N,) at 16 kHz as 16-bit PCM."""
    path.write_bytes(wav_bytes((samples[:, None] * 32767).astype(np.int16)))


def kill_a_worker(client: int, generator: random.Random) -> bool:
    """Kill one of a client's worker processes at random, and return whether there was one."""
    try:
        children = psutil.Process(client).children(recursive=True)
        workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
        if workers:
            generator.choice(workers).kill()
    except psutil.Error:  # gone
        return False
    return bool(workers)
