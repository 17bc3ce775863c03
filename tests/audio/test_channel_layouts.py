"""Channel layouts: none crashes the process, and all are mixed as the ffmpeg command mixes them.

PyAV frees the list of channels of a custom layout twice; see minwhisper/audio/resampling.py.
"""

import numpy as np
import pytest

from audio_files import FFMPEG_TOLERANCE, ffmpeg, needs_ffmpeg
from channel_layouts import FRAMES, LAYOUTS
from command_line import run_helper


def load_in_child(*arguments):
    """Load a file of each layout in a child process; return its results by layout."""
    child = run_helper("channel_layouts.py", *arguments, timeout=120)
    assert child.returncode == 0, f"{child.stdout[-300:]}\n{child.stderr[-1000:]}"
    assert child.stderr == ""
    return {layout: found for _, layout, *found in map(str.split, child.stdout.splitlines())}


def test_every_layout_of_caf_loads_without_a_crash():
    loaded = load_in_child("", "caf/pcm_s16be")
    assert len(loaded) > 30
    for layout, (size, most) in loaded.items():
        assert int(size) >= FRAMES // 3, layout
        assert float(most) > 0.001, layout


@pytest.mark.parity
@needs_ffmpeg
def test_every_layout_of_mov_is_mixed_as_by_ffmpeg(tmp_path):
    load_in_child(str(tmp_path), "mov/pcm_s16le")
    files = sorted(tmp_path.glob("*.mov"))
    assert len(files) == len(LAYOUTS)
    for path in files:
        samples, expected = np.load(path.with_suffix(".npy")), ffmpeg(path)
        assert samples.shape == expected.shape, LAYOUTS[int(path.stem)]
        assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE, LAYOUTS[int(path.stem)]
