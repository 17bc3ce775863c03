"""openai-whisper's own test files, run on this package: nothing in them is changed but what ``whisper`` means.

They are in its source distribution, which is downloaded for the test. ``reference_shim`` is put before everything
else that Python could import, so that ``import whisper`` finds this package under openai-whisper's names. Left out:

* ``test_dtw_cuda_equivalence`` and ``test_median_filter_equivalence``, which test kernels for CUDA,
* ``test_normalizer.py``, which tests what makes texts comparable and is no part of transcribing,
* of ``test_transcribe``, the models whose weights the package index does not have.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from conftest import DATA

pytestmark = pytest.mark.parity
pytest.importorskip("torch")  # the files import it
pytest.importorskip("scipy")
pytest.importorskip("whisper")

HERE = Path(__file__).parents[1]
REFERENCE = "openai-whisper==20250625"
FILES = ["test_audio.py", "test_timing.py", "test_tokenizer.py", "test_transcribe.py"]
TESTS = 1 + 8 + 4 + 2  # that many in each


@pytest.fixture(scope="module")
def reference_tests(tmp_path_factory) -> Path:
    """The folder of openai-whisper's tests."""
    folder = tmp_path_factory.mktemp("reference")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", REFERENCE]
    done = subprocess.run(download, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{REFERENCE} could not be downloaded: {done.stderr.strip()[-300:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (tests,) = folder.glob("*/tests")
    shutil.copy(DATA / "jfk.flac", tests)  # which the distribution lacks
    (tests.parent / "pytest.ini").write_text("[pytest]\nmarkers = requires_cuda: left out\n")
    return tests


def test_openai_whispers_own_tests_pass(reference_tests, tiny_en, base):
    environment = {**os.environ, "PYTHONPATH": str(HERE / "reference_shim"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not requires_cuda", "-p", "no:cacheprovider", *FILES]
    done = subprocess.run(command, cwd=reference_tests, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{TESTS} passed, 8 deselected" in done.stdout
