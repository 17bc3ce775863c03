"""A fuzzer for audio files: a damaged file must give samples or an AudioError, in little time and memory.

``python audio_fuzzing.py FIRST COUNT SECONDS`` loads COUNT cases from number FIRST on until time is over, and prints
the number of each before loading it. It is a separate program because a case can crash the process.
"""

import random
import resource
import sys
import time
import traceback
import warnings
from functools import cache

import numpy as np

from audio_files import av, encode_audio
from minwhisper.audio.load import load_audio
from minwhisper.errors import AudioError

HANG = 5.0  # seconds of CPU time per case
MEMORY = 500 << 20  # bytes beyond those used at the start
ADDRESSES = 8 << 30  # bytes of address space, so that a case cannot take all memory of the machine
PYOBJECT_SIZE = 400  # bytes at the start of a file, where most changes are made
FORMATS = [
    *[("wav", "pcm_s16le", "mono", {}), ("wav", "adpcm_ms", "mono", {}), ("wav", "pcm_f32le", "stereo", {})],
    *[("flac", "flac", "mono", {}), ("flac", "flac", "5.1", {}), ("mp3", "libmp3lame", "mono", {})],
    *[("ogg", "libopus", "stereo", {}), ("ogg", "flac", "mono", {}), ("ipod", "aac", "mono", {})],
    *[("ipod", "alac", "7.1(wide)", {}), ("mp4", "aac", "mono", {"movflags": "frag_keyframe+empty_moov"})],
    *[("mov", "pcm_s16le", "7.1", {}), ("mov", "pcm_s16le", "6.1", {}), ("aiff", "pcm_s16be", "mono", {})],
    *[("caf", "pcm_s16be", "7.1", {}), ("caf", "alac", "mono", {}), ("matroska", "aac", "stereo", {})],
    *[("au", "pcm_s16be", "mono", {}), ("adts", "aac", "mono", {}), ("mpegts", "mp2", "mono", {})],
    *[("avi", "libmp3lame", "mono", {}), ("asf", "libmp3lame", "mono", {}), ("wv", "wavpack", "stereo", {})],
]
NUMBERS = [0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x3FFF, 0xFFFF, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


@cache
def original(number):
    """Return an undamaged file of a third of a second."""
    container, codec, layout, options = FORMATS[number]
    channels, rate = av.AudioLayout(layout).nb_channels, 48000
    noise = np.random.default_rng(number).integers(-3000, 3000, (rate // 3, channels)).astype(np.int16)
    return encode_audio(noise, container, codec, rate=rate, layout=layout, **options)


def case(number):
    """Return the damaged file of this number, which is always the same."""
    chance = random.Random(number)
    content = bytearray(original(number % len(FORMATS)))
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        _change(content, chance)
    return bytes(content)


def _change(content, chance):
    size = len(content)
    at = chance.randrange(min(size, PYOBJECT_SIZE) if chance.random() < 0.8 else size)
    if chance.random() < 0.15:
        at = max(0, size - 1 - chance.randrange(PYOBJECT_SIZE))  # some formats have their tables here
    kind = chance.random()
    if kind < 0.3:
        content[at] = chance.randrange(256)
    elif kind < 0.6:
        width, order = chance.choice([2, 4, 4, 8]), chance.choice(["big", "little"])
        value = chance.choice([*NUMBERS, chance.getrandbits(32), size, 2 * size])
        content[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, order)
    elif kind < 0.7:
        content[at] ^= 1 << chance.randrange(8)
    elif kind < 0.82:
        del content[at + 1 :]
    elif kind < 0.88:
        del content[at : at + chance.randrange(1, 64)]
    elif kind < 0.94:
        content[at:at] = content[at : at + chance.randrange(1, 200)]
    else:
        content[at : at + 64] = chance.randbytes(64)
    content[:] = content or b"\0"


def main(first, count, seconds):
    warnings.simplefilter("ignore")
    for number in range(len(FORMATS)):
        original(number)
    load_audio(original(0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    allowed, end = peak_memory() + MEMORY, time.monotonic() + seconds
    for number in range(first, first + count):
        if time.monotonic() > end:
            break
        print(number, flush=True)
        if problem := _problem(number, allowed):
            sys.exit(f"case {number}, {FORMATS[number % len(FORMATS)]}: {problem}")


def _problem(number, allowed):
    """Load a case; return a description of the problem, or "" if it loads or is rejected in little time and memory."""
    content, before = case(number), time.process_time()
    try:
        load_audio(content, timeline=number % 2 == 0)
    except AudioError as error:
        if not str(error).isprintable():
            return error
    except BaseException:
        return traceback.format_exc()
    if (taken := time.process_time() - before) > HANG:
        return f"{taken:.1f} s"
    return "" if peak_memory() <= allowed else f"{peak_memory() >> 20} MiB of memory"


def peak_memory():
    """Return the peak memory of this process in bytes."""
    try:  # getrusage would include the parent process
        with open("/proc/self/status") as file:
            return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
