"""Storage for decoded samples: in memory or in a temporary file, which is deleted afterwards."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from minwhisper.audio import sample_store
from minwhisper.audio.sample_store import SampleStore
from minwhisper.errors import AudioError

OPEN_FILES = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system has no list of open files")
RAMP = np.arange(-5000, 5000).astype(np.int16)


def temporary_files(folder):
    """Return the files in a folder that this process has open, including those without a name."""
    links = []
    for link in OPEN_FILES.iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:  # the listing itself
            continue
    return [link for link in links if link.startswith(f"{folder}{os.sep}")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder for temporary files, which are used for more than 1,000 bytes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sample_store, "MAX_IN_MEMORY", 1000)
    return tmp_path


def stored(pcm, piece):
    store = SampleStore()
    for start in range(0, pcm.size, piece):
        store.append(pcm[start : start + piece])
    return store


@pytest.mark.parametrize("piece", [7, 501, 10000])
def test_samples_are_read_back(folder, piece):
    store = stored(RAMP, piece)
    assert store.size == 10000
    for start, size in [(0, 10000), (9999, 1), (499, 3), (10000, 0)]:
        samples = np.full(size, 9, np.float32)
        store.read_into(samples, start)
        assert np.array_equal(samples, RAMP[start : start + size] / 32768)
    store.close()


def test_full_scale_and_strided_samples():
    store = stored(np.array([-32768, 9, 32767, 9, 0, 9, 1, 9], np.int16)[::2], 4)
    samples = np.ones(4, np.float32)
    store.read_into(samples, 0)
    assert samples.tolist() == [-1, 32767 / 32768, 0, 1 / 32768]


@needs_proc
def test_only_many_samples_are_in_a_file(folder):
    few, many = stored(RAMP[:500], 100), stored(RAMP[:501], 100)
    assert len(temporary_files(folder)) == 1
    many.close()
    assert temporary_files(folder) == []
    assert list(folder.iterdir()) == []
    few.close()
    many.close()


# --- Full disks


@needs_proc
def test_a_full_disk(folder):
    resource = pytest.importorskip("resource")
    store = SampleStore()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, limits[1]))  # the maximum file size
    try:
        with pytest.raises(AudioError) as caught:
            list(map(store.append, RAMP.reshape(100, 100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(caught.value)
    assert 7000 < store.size <= 7500
    for part in (repr(str(folder)), os.strerror(errno.EFBIG), "115 MB of free space per hour", "TMPDIR"):
        assert part in message
    assert len(message.splitlines()) == 1
    store.close()
    assert temporary_files(folder) == []


def test_a_store_on_a_full_disk_can_be_closed(folder, monkeypatch):
    store = stored(RAMP, 1000)

    def refuse():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store._file, "close", refuse)
    store.close()


def test_no_usable_folder(folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(folder / "nope")])
    with pytest.raises(AudioError, match=r"^the folder for temporary files cannot store.*No usable.*nope.*TMPDIR"):
        stored(RAMP, 1000)
