"""Audio files of every channel layout, and a program that loads them, because some used to crash the process.

``python channel_layouts.py FOLDER CONTAINER/CODEC …`` encodes a file of each layout that the container supports, loads
it and prints a line with the result. It saves files and samples in the folder, unless its name is empty.
"""

import gc
import sys
from pathlib import Path

import numpy as np

from audio_files import av, encode_audio
from minwhisper.audio.load import load_audio
from minwhisper.errors import AudioError

# Some containers turn these into custom layouts, which PyAV cannot write directly.
NAMES = """
mono stereo 2.1 3.0 3.0(back) 4.0 quad quad(side) 3.1 5.0 5.0(side) 4.1 5.1 5.1(side) 6.0 6.0(front) 3.1.2 hexagonal 6.1
6.1(back) 6.1(front) 7.0 7.0(front) 7.1 7.1(wide) 7.1(wide-side) 5.1.2 octagonal cube 5.1.4 7.1.2 7.1.4 7.2.3 9.1.4
hexadecagonal downmix 22.2
"""
LAYOUTS = NAMES.split()
FRAMES = 1600


def make(container, codec, layout):
    """Return the bytes of a short file of noise, or None if the container does not support the layout."""
    channels = av.AudioLayout(layout).nb_channels
    noise = np.random.default_rng(channels).integers(-9000, 9000, (FRAMES, channels)).astype(np.int16)
    try:
        return encode_audio(noise, container, codec, rate=48000, layout=layout)
    except (av.FFmpegError, ValueError):
        return None


def main(folder, *kinds):
    for container, codec in (kind.split("/") for kind in kinds):
        for number, layout in enumerate(LAYOUTS):
            content = make(container, codec, layout)
            if content is None:
                continue
            print(f"{container}/{codec}", layout, end=" ", flush=True)
            try:
                samples = load_audio(content, timeline=True)
                assert np.array_equal(load_audio(content), samples)
            except AudioError:  # the ffmpeg command cannot read it either
                print("rejected", flush=True)
                continue
            gc.collect()
            print(samples.size, f"{np.abs(samples).max():.3f}", flush=True)
            if folder:
                Path(folder, f"{number}.{container}").write_bytes(content)
                np.save(Path(folder, f"{number}.npy"), samples)


if __name__ == "__main__":
    main(*sys.argv[1:])
