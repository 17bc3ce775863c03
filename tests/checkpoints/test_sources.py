"""Model names, the files of a folder, and weight packages. Nothing here contacts the hub."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from minwhisper import load_model
from minwhisper.checkpoints import sources
from minwhisper.checkpoints.checksums import verify_checksums
from minwhisper.checkpoints.files import CheckpointFiles
from minwhisper.checkpoints.sources import available_models, find_checkpoint, packaged_model
from minwhisper.errors import ModelNotFoundError, OptionError, WeightsError
from minwhisper.model.config import ALIASES, PUBLISHED


def folder_of(path, *names, config='{"d_model": 4}'):
    """Create a folder with these files; config.json gets the given text."""
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).write_text(config if name == "config.json" else "{}")
    return path


@pytest.fixture
def hub_calls(monkeypatch):
    """Record the calls to the hub, and pretend that no weight package is installed."""
    calls = []
    monkeypatch.setattr(sources, "fetch_from_hub", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(sources, "_PACKAGES", {})
    return calls


def test_model_names_select_their_repository_on_the_hub(hub_calls):
    for name, repository, label in (
        ("tiny", "openai/whisper-tiny", "tiny"),
        ("large", "openai/whisper-large-v3", "large-v3"),
        ("large-v1", "openai/whisper-large", "large-v1"),
        ("openai/whisper-base", "openai/whisper-base", "openai/whisper-base"),
    ):
        find_checkpoint(name)
        find_checkpoint(name, revision="v1", local_only=True)
        assert hub_calls[-2:] == [(repository, label, None, False), (repository, label, "v1", True)]
    assert set(available_models()) == {*PUBLISHED, *ALIASES}
    for name in available_models():
        find_checkpoint(name)
    assert len({repository for repository, *_ in hub_calls}) == len(PUBLISHED)


def test_a_path_means_a_folder_and_a_published_name_the_hub(hub_calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("tiny", "mine", "owner/name"):
        folder_of(tmp_path / folder, "model.safetensors", "config.json")
    assert find_checkpoint("~/mine").folder == tmp_path / "mine"
    find_checkpoint("tiny")  # the published model, not the folder
    assert hub_calls.pop() == ("openai/whisper-tiny", "tiny", None, False)
    for name in ("./tiny", "mine", "owner/name", "owner/name/", str(tmp_path / "tiny"), Path("tiny")):
        assert find_checkpoint(name).weights == (Path(name) / "model.safetensors",)
    assert find_checkpoint("./tiny").origin == "folder ./tiny"
    assert not hub_calls
    find_checkpoint("owner/other")
    assert hub_calls
    with pytest.raises(ModelNotFoundError, match="folder 'base' does not exist; expected a folder with model"):
        find_checkpoint(Path("base"))
    with pytest.raises(OptionError, match="revision 'v1': only a hub id has revisions, a folder has none"):
        find_checkpoint("mine", revision="v1")


def test_unknown_names_get_a_hint(hub_calls):
    for name, hint in (
        ("Tiny.EN", "did you mean 'tiny.en'"),
        ("whisper-small", "did you mean 'small'"),
        ("base.pt", r"model 'base.pt' is a pickle, .* not read; use 'base', the published model as safetensors"),
        ("./base.pt", r"model 'base.pt' is a pickle"),
        ("mine.pt", r"'mine.pt' is a pickle, .* not read; convert it with convert_openai_to_hf.py of Transformers"),
        ("zzz", "known models: tiny.en, tiny, .*turbo; a hub id is written 'owner/name', a folder './name'"),
        ("a/b/c", "a hub id is written 'owner/name'"),
    ):
        with pytest.raises(ModelNotFoundError, match=hint):
            find_checkpoint(name)
        assert not hub_calls


def test_a_file_in_place_of_a_folder_is_an_error(hub_calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "models", "model.safetensors", "base.pt")
    for name in ("models/model.safetensors", Path("models/model.safetensors")):
        with pytest.raises(ModelNotFoundError, match=r"model\.safetensors' is a file; expected its folder"):
            find_checkpoint(name)
    for name in ("models/base.pt", tmp_path / "models/base.pt"):
        with pytest.raises(ModelNotFoundError, match=r"base\.pt' is a pickle, which can run code .*; use 'base'"):
            find_checkpoint(name)
    assert not hub_calls


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that creates weight packages, each with a part of a model; their code must not run."""
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install(**contents):
        for module, data in contents.items():
            folder = folder_of(tmp_path / "site" / module / "data", "config.json", config='{"lang_ids": []}')
            (folder.parent / "__init__.py").write_text("raise RuntimeError('the code of the package has run')")
            (folder / "weights").write_bytes(data)
        parts = tuple((module.replace("_", "-"), module, "data/weights") for module in ("weights_one", "weights_two"))
        whole = hashlib.sha256(b"first second").hexdigest()
        monkeypatch.setattr(sources, "_PACKAGES", {"base": sources._Package(parts, whole)})

    return install


def test_an_installed_package_comes_first(install, tmp_path):
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


def test_a_wrong_checksum_of_a_package_is_an_error(install):
    install(weights_one=b"first ", weights_two=b"sekond")
    files = find_checkpoint("base")
    with pytest.raises(WeightsError, match=r"base: .*weights_two.*: expected sha256 \w{64}, got \w{64}; install it"):
        verify_checksums(files)
    other = replace(files, sha256=None, checksums=((files.folder / "config.json", "0" * 64),))
    with pytest.raises(WeightsError, match=r"base: \S*config.json from package .*: expected sha256 0{64}, got \w{64};"):
        verify_checksums(other)


def test_incomplete_package_or_revision_uses_the_hub(install, monkeypatch):
    monkeypatch.setattr(sources, "fetch_from_hub", lambda *arguments: arguments)
    install(weights_one=b"first ")
    assert packaged_model("base") is None
    assert find_checkpoint("base") == ("openai/whisper-base", "base", None, False)
    install(weights_one=b"first ", weights_two=b"second")
    assert find_checkpoint("base", "main") == ("openai/whisper-base", "base", "main", False)


def test_the_default_model_is_one_that_needs_no_download(monkeypatch):
    cached = set()
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


def test_an_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    folder_of(tmp_path / "mine", "model.safetensors", "config.json")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ModelNotFoundError, match=r"mine: cannot be read \(Permission denied\); check its permissions"):
        load_model(tmp_path / "mine")


# --- The files of a folder


PARTS = [f"model.bin.part{number}" for number in range(1, 12)]


@pytest.mark.parametrize(
    ("names", "format", "weights"),
    [
        (["model.safetensors", "config.json", "model.bin"], "safetensors", ["model.safetensors"]),
        (["model.bin", "config.json", "pytorch_model.bin"], "ctranslate2", ["model.bin"]),
        (["model.bin"], "ctranslate2", ["model.bin"]),
        (PARTS, "ctranslate2", PARTS),
    ],
)
def test_safetensors_are_preferred_to_ctranslate2_and_pickles_ignored(tmp_path, names, format, weights):
    found = find_checkpoint(folder_of(tmp_path, *names))
    assert found.format == format
    assert [path.name for path in found.weights] == weights
    assert found.sha256 is None
    assert found.config == ({"d_model": 4} if "config.json" in names else {})
    verify_checksums(found)  # no sha256 is known, so nothing is read


def test_shards_are_sorted_and_a_damaged_index_is_an_error(tmp_path):
    index = folder_of(tmp_path, "config.json", "b.safetensors", "a.safetensors") / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}')
    assert [path.name for path in find_checkpoint(tmp_path).weights] == ["a.safetensors", "b.safetensors"]
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r": part of the weights is missing: b\.safetensors"):
        find_checkpoint(tmp_path)
    for damaged in ("{}", '{"weight_map": {"x": 1}}', '{"weight_map": {"x": "../elsewhere.safetensors"}}'):
        index.write_text(damaged)
        with pytest.raises(WeightsError, match=r"model\.safetensors\.index\.json: expected a weight_map"):
            find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([], ModelNotFoundError, r"expected model\.safetensors, model\.safetensors\.index\.json, model\.bin or"),
        (["tiny.pt"], ModelNotFoundError, r"no model\.safetensors, and tiny\.pt is a pickle, .* not read; use 'tiny'"),
        (["model.safetensors"], ModelNotFoundError, r"config\.json is missing"),
        (["model.bin.part1", "model.bin.part3"], WeightsError, r"missing: model\.bin\.part2, although"),
        (["model.bin.part1000000000"], WeightsError, r"missing: model\.bin\.part1,"),  # without counting to a billion
    ],
)
def test_a_folder_without_a_checkpoint_is_an_error(tmp_path, names, error, message):
    with pytest.raises(error, match=message):
        find_checkpoint(folder_of(tmp_path, *names))


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_invalid_json_is_an_error(tmp_path, file):
    folder_of(tmp_path, "model.safetensors" if "config" in file else "tokenizer.json", "config.json")
    (tmp_path / file).write_text("{")
    with pytest.raises(WeightsError, match=rf"{file}: cannot be read as JSON"):
        find_checkpoint(tmp_path)


def test_alignment_heads_are_read_from_either_file(tmp_path):
    for config, expected in (({"d_model": 4}, [[1, 2]]), ({"alignment_heads": [[0, 0]]}, [[0, 0]])):
        folder_of(tmp_path, "model.safetensors", "config.json", config=json.dumps(config))
        (tmp_path / "generation_config.json").write_text('{"alignment_heads": [[1, 2]], "max_length": 448}')
        assert find_checkpoint(tmp_path).config == {"alignment_heads": expected} | config
