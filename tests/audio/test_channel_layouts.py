"""No channel layout of any container kills the process, and all are mixed as the ffmpeg command does.

PyAV copies a layout of channels in an order of their own without the list that it points to, and frees the list twice.
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
# The layout is wrong in these files; the ffmpeg command cannot read them either.
REFUSED = {("aiff/pcm_s16be", "7.2.3"), ("aiff/pcm_s16be", "22.2")}


def loaded_in_a_child(*arguments):
    """Load a file of each layout in a process of its own; return what it printed on each, by container and layout."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "support")])}
    command = [sys.executable, str(TESTS / "support" / "channel_layouts.py"), *arguments]
    child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert child.returncode == 0, f"{child.stdout[-300:]}\n{child.stderr[-1000:]}"
    assert child.stderr == ""
    return {(kind, layout): found for kind, layout, *found in map(str.split, child.stdout.splitlines())}


@pytest.mark.parametrize("first", range(0, len(CONTAINERS), 4))
def test_every_layout_is_loaded_and_the_process_lives(first):
    kinds = CONTAINERS[first : first + 4]
    loaded = loaded_in_a_child("", *kinds)
    assert {kind for kind, _ in loaded} == set(kinds)
    if "mov/pcm_s16le" in kinds:
        assert sum(kind == "mov/pcm_s16le" for kind, _ in loaded) == len(LAYOUTS)
    for found, values in loaded.items():
        if values == ["refused"]:
            assert found in REFUSED
            continue
        size, most = map(float, values)
        assert size >= FRAMES // 3, found
        assert most > 0.001, found


@pytest.mark.parity
@needs_ffmpeg
@pytest.mark.parametrize("kind", ["mov/pcm_s16le", "caf/pcm_s16be", "ipod/alac"])
def test_every_layout_is_mixed_as_ffmpeg_does(kind, tmp_path):
    loaded_in_a_child(str(tmp_path), kind)
    files = sorted(tmp_path.glob(f"*.{kind.partition('/')[0]}"))
    assert files
    for path in files:
        samples, expected = np.load(path.with_suffix(".npy")), ffmpeg(path)
        assert samples.shape == expected.shape, LAYOUTS[int(path.stem)]
        assert np.abs(samples - expected).max() <= FFMPEG_TOLERANCE, LAYOUTS[int(path.stem)]


@pytest.mark.parametrize("name", ["7.1", "5.1(side)", "mono", "FR+FL", "FL+FR+BC+LFE", "12 channels"])
@pytest.mark.parametrize("known", [True, False])
def test_a_layout_is_described_as_filters_read_it(name, known, monkeypatch):
    """Also where PyAV's objects are not as they are known; then layouts are kept instead of changed."""
    from minwhisper.audio import resampling  # cannot be imported without PyAV

    assert resampling._LAYOUT_IS_KNOWN
    monkeypatch.setattr(resampling, "_LAYOUT_IS_KNOWN", known)
    layout = av.AudioLayout(name)
    assert resampling.describe_layout(layout) == name
