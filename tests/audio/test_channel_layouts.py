"""Channel layouts of all containers: none crashes the process, and all are mixed as by the ffmpeg command.

PyAV frees the list of channels of a custom layout twice; see minwhisper/audio/resampling.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audio_files import FFMPEG_TOLERANCE, av, ffmpeg, needs_ffmpeg
from channel_layouts import CONTAINERS, FRAMES, LAYOUTS

TESTS = Path(__file__).parents[1]
# The layout in these files is wrong; the ffmpeg command cannot read them either.
REJECTED = {("aiff/pcm_s16be", "7.2.3"), ("aiff/pcm_s16be", "22.2")}


def load_in_child(*arguments):
    """Load a file of each layout in a child process; return its results by container and layout."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "support")])}
    command = [sys.executable, str(TESTS / "support" / "channel_layouts.py"), *arguments]
    child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert child.returncode == 0, f"{child.stdout[-300:]}\n{child.stderr[-1000:]}"
    assert child.stderr == ""
    return {(kind, layout): found for kind, layout, *found in map(str.split, child.stdout.splitlines())}


OTHERS = [pytest.param(kinds, marks=pytest.mark.grid) for kinds in (CONTAINERS[4:8], CONTAINERS[8:12], CONTAINERS[12:])]


@pytest.mark.parametrize("kinds", [CONTAINERS[:4], *OTHERS], ids=" ".join)
def test_every_layout_loads_without_a_crash(kinds):
    loaded = load_in_child("", *kinds)
    assert {kind for kind, _ in loaded} == set(kinds)
    if "mov/pcm_s16le" in kinds:
        assert sum(kind == "mov/pcm_s16le" for kind, _ in loaded) == len(LAYOUTS)
    for found, values in loaded.items():
        if values == ["rejected"]:
            assert found in REJECTED
            continue
        size, most = map(float, values)
        assert size >= FRAMES // 3, found
        assert most > 0.001, found


@pytest.mark.parity
@needs_ffmpeg
def test_every_layout_is_mixed_as_by_ffmpeg(tmp_path):
    load_in_child(str(tmp_path), "mov/pcm_s16le")
    files = sorted(tmp_path.glob("*.mov"))
    assert len(files) == len(LAYOUTS)
    for path in files:
        samples, expected = np.load(path.with_suffix(".npy")), ffmpeg(path)
        assert samples.shape == expected.shape, LAYOUTS[int(path.stem)]
        assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE, LAYOUTS[int(path.stem)]


@pytest.mark.parametrize("name", ["7.1", "mono", "FR+FL", "12 channels"])
@pytest.mark.parametrize("known", [True, False])
def test_a_layout_is_described_as_by_ffmpeg(name, known, monkeypatch):
    """If PyAV's objects have an unknown structure, layouts are never freed."""
    from minwhisper.audio import resampling  # needs PyAV

    assert resampling._LAYOUT_IS_KNOWN
    monkeypatch.setattr(resampling, "_LAYOUT_IS_KNOWN", known)
    layout = av.AudioLayout(name)
    assert resampling.describe_layout(layout) == name
