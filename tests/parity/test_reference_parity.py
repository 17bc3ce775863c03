"""Run openai-whisper's own test files, unchanged, on ``compat``.

They are downloaded with its source distribution. Left out are the tests of CUDA kernels; ``test_normalizer.py``, which
tests text normalisation for evaluation; and the models of ``test_transcribe`` that the package index does not have.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import minwhisper
from inputs import DATA

pytestmark = pytest.mark.parity
pytest.importorskip("torch")  # the files import it
pytest.importorskip("scipy")
pytest.importorskip("whisper")

OPENAI_WHISPER = "openai-whisper==20250625"
MODELS = ("tiny.en", "base")
SELECTED = [
    "test_audio.py",
    "test_timing.py",
    "test_tokenizer.py",
    *(f"test_transcribe.py::test_transcribe[{name}]" for name in MODELS),
]
PASSED = 1 + 8 + 4 + len(MODELS)


@pytest.fixture(scope="module")
def openai_tests(tmp_path_factory) -> Path:
    """Return the folder with openai-whisper's tests, and a ``whisper.py`` beside them that installs compat."""
    folder = tmp_path_factory.mktemp("openai-whisper")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", OPENAI_WHISPER]
    done = subprocess.run(download, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{OPENAI_WHISPER} could not be downloaded: {done.stderr.strip()[-300:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (tests,) = folder.glob("*/tests")
    shutil.copy(DATA / "jfk.flac", tests)  # the source distribution lacks it
    (tests / "whisper.py").write_text("import minwhisper.compat\n\nminwhisper.compat.install()\n")
    (tests.parent / "pytest.ini").write_text("[pytest]\nmarkers = requires_cuda: left out\n")
    return tests


@pytest.mark.longest
def test_openai_whispers_own_tests_pass(openai_tests, tiny_en, base):
    path = os.pathsep.join([str(openai_tests), str(Path(minwhisper.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not requires_cuda", "-p", "no:cacheprovider", *SELECTED]
    done = subprocess.run(command, cwd=openai_tests, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{PASSED} passed, 8 deselected" in done.stdout
