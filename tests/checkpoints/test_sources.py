"""The resolution of model names, and weight packages. Nothing here contacts the hub."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minwhisper import load_model
from minwhisper.checkpoints import sources
from minwhisper.checkpoints.checksums import verify_checksums
from minwhisper.checkpoints.files import CheckpointFiles
from minwhisper.checkpoints.sources import available_models, find_checkpoint, packaged_model
from minwhisper.errors import ModelNotFoundError, OptionError, WeightsError
from minwhisper.model.config import ALIASES, PUBLISHED
from test_checkpoint_files import folder_of

Asked = list[tuple[Any, ...]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Record the calls to the hub, and pretend that no weight package is installed."""
    calls: Asked = []
    monkeypatch.setattr(sources, "fetch_from_hub", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(sources, "_PACKAGES", {})
    return calls


@pytest.mark.parametrize(
    ("name", "repository", "label"),
    [
        ("tiny", "openai/whisper-tiny", "tiny"),
        ("large", "openai/whisper-large-v3", "large-v3"),
        ("large-v1", "openai/whisper-large", "large-v1"),
        ("openai/whisper-base", "openai/whisper-base", "openai/whisper-base"),
        ("Systran/faster-whisper-tiny", "Systran/faster-whisper-tiny", "Systran/faster-whisper-tiny"),
    ],
)
def test_names_on_the_hub(asked: Asked, name: str, repository: str, label: str) -> None:
    find_checkpoint(name)
    find_checkpoint(name, revision="v1", local_only=True)
    assert asked == [(repository, label, None, False), (repository, label, "v1", True)]


def test_every_available_model_resolves(asked: Asked) -> None:
    assert set(available_models()) == {*PUBLISHED, *ALIASES}
    for name in available_models():
        find_checkpoint(name)
    assert len({repository for repository, *_ in asked}) == len(PUBLISHED)


def test_folders_and_names(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("tiny", "mine", "owner/name"):
        folder_of(tmp_path / folder, "model.safetensors", "config.json")
    find_checkpoint("tiny")  # the published model, not the folder
    assert asked.pop() == ("openai/whisper-tiny", "tiny", None, False)
    for name in ("./tiny", "mine", "owner/name", "owner/name/", str(tmp_path / "tiny"), Path("tiny")):
        assert find_checkpoint(name).weights == (Path(name) / "model.safetensors",)
    assert find_checkpoint("./tiny").origin == "folder ./tiny"
    assert not asked
    find_checkpoint("owner/other")
    assert asked
    with pytest.raises(ModelNotFoundError, match="folder 'base' does not exist; expected a folder with model"):
        find_checkpoint(Path("base"))
    with pytest.raises(OptionError, match="revision 'v1': only a hub id has revisions, a folder has none"):
        find_checkpoint("mine", revision="v1")


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder_of(tmp_path / "mine", "model.safetensors", "config.json")
    assert find_checkpoint("~/mine").folder == tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("Tiny.EN", "did you mean 'tiny.en'"),
        ("whisper-small", "did you mean 'small'"),
        ("base.pt", r"model 'base.pt' is a pickle, .* not read; use 'base', the published model as safetensors"),
        ("./base.pt", r"model 'base.pt' is a pickle"),
        ("mine.pt", r"'mine.pt' is a pickle, .* not read; convert it with convert_openai_to_hf.py of Transformers"),
        ("zzz", "known models: tiny.en, tiny, .*turbo; a hub id is written 'owner/name', a folder './name'"),
        ("", "known models: tiny.en"),
        ("a/b/c", "a hub id is written 'owner/name'"),
    ],
)
def test_unknown_names(asked: Asked, name: str, hint: str) -> None:
    with pytest.raises(ModelNotFoundError, match=hint):
        find_checkpoint(name)
    assert not asked


def test_a_file_is_not_a_folder(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "models", "model.safetensors", "base.pt")
    for name in ("models/model.safetensors", Path("models/model.safetensors")):
        with pytest.raises(ModelNotFoundError, match=r"model\.safetensors' is a file; expected its folder"):
            find_checkpoint(name)
    for name in ("models/base.pt", tmp_path / "models/base.pt"):
        with pytest.raises(ModelNotFoundError, match=r"base\.pt' is a pickle, which can run code .*; use 'base'"):
            find_checkpoint(name)
    assert not asked


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Create weight packages, each with a part of a model, whose code must not run."""
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install(**contents: bytes) -> None:
        for module, data in contents.items():
            folder = folder_of(tmp_path / "site" / module / "data", "config.json", config='{"lang_ids": []}')
            (folder.parent / "__init__.py").write_text("raise RuntimeError('the code of the package has run')")
            (folder / "weights").write_bytes(data)
        parts = tuple((module.replace("_", "-"), module, "data/weights") for module in ("weights_one", "weights_two"))
        whole = hashlib.sha256(b"first second").hexdigest()
        monkeypatch.setattr(sources, "_PACKAGES", {"base": sources._Package(parts, whole)})

    return install


def test_an_installed_package_comes_first(install: Callable[..., None], tmp_path: Path) -> None:
    install(weights_one=b"first ", weights_two=b"second")
    site = tmp_path / "site"
    info = site / "weights_one-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weights-one\nVersion: 1.0.0\n")
    found = find_checkpoint("base")
    assert found == find_checkpoint("openai/whisper-base") == packaged_model("base")
    assert found.origin == "package weights-one 1.0.0 and weights-two of unknown version"
    assert found.weights == (site / "weights_one/data/weights", site / "weights_two/data/weights")
    assert (found.label, found.format, found.folder) == ("base", "ctranslate2", site / "weights_one/data")
    assert found.config == {"lang_ids": []}
    verify_checksums(found)
    assert packaged_model("tiny") is None


def test_wrong_checksum_of_a_package(install: Callable[..., None]) -> None:
    install(weights_one=b"first ", weights_two=b"sekond")
    files = find_checkpoint("base")
    with pytest.raises(WeightsError, match=r"base: .*weights_two.*: expected sha256 \w{64}, got \w{64}; install it"):
        verify_checksums(files)
    other = replace(files, sha256=None, checksums=((files.folder / "config.json", "0" * 64),))
    with pytest.raises(WeightsError, match=r"base: \S*config.json from package .*: expected sha256 0{64}, got \w{64};"):
        verify_checksums(other)


def test_incomplete_package_or_revision_uses_the_hub(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "fetch_from_hub", lambda *arguments: arguments)
    install(weights_one=b"first ")
    assert packaged_model("base") is None
    assert find_checkpoint("base") == ("openai/whisper-base", "base", None, False)  # type: ignore[comparison-overlap]
    install(weights_one=b"first ", weights_two=b"second")
    assert find_checkpoint("base", "main") == ("openai/whisper-base", "base", "main", False)  # type: ignore[comparison-overlap]


def test_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    cached: set[str] = set()
    monkeypatch.setattr(sources, "find_in_cache", lambda repository, label, revision: label in cached)
    monkeypatch.setattr(sources, "packaged_model", lambda name: None)
    assert sources.default_model().name == "tiny"
    cached.add("tiny.en")
    assert sources.default_model() == ("tiny.en", "it is in the hub's cache")
    cached.add("tiny")
    assert sources.default_model().name == "tiny"
    package = CheckpointFiles("tiny.en", "package p 1", "ctranslate2", (), Path(), None, {})
    monkeypatch.setattr(sources, "packaged_model", lambda name: package)
    assert sources.default_model() == ("tiny.en", "it is installed (package p 1)")


def test_huggingface_hub_is_not_imported_for_a_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, "model.safetensors", "config.json")
    code = (
        "import sys; from minwhisper.checkpoints.sources import find_checkpoint; find_checkpoint(sys.argv[1]); "
        "sys.exit('huggingface_hub' in sys.modules)"
    )
    root = Path(sources.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=root)


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    folder_of(tmp_path / "mine", "model.safetensors", "config.json")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ModelNotFoundError, match=r"mine: cannot be read \(Permission denied\); check its permissions"):
        load_model(tmp_path / "mine")
