"""Which files of a folder are the checkpoint, and what is said of a folder that is none."""

import json
from pathlib import Path

import pytest

from minwhisper.checkpoints.checksums import verify_checksums
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.errors import MinWhisperError, ModelNotFoundError, WeightsError


def folder_of(path: Path, *names: str, config: str = '{"d_model": 4}') -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).write_text(config if name == "config.json" else "{}")
    return path


@pytest.mark.parametrize(
    ("names", "kind", "weights"),
    [
        (["model.safetensors", "config.json", "model.bin"], "safetensors", ["model.safetensors"]),
        (["model.bin", "config.json", "pytorch_model.bin"], "ctranslate2", ["model.bin"]),
        (["model.bin"], "ctranslate2", ["model.bin"]),
        (
            [f"model.bin.part{number}" for number in range(1, 12)],
            "ctranslate2",
            [f"model.bin.part{number}" for number in range(1, 12)],
        ),
    ],
)
def test_which_files_of_a_folder(tmp_path: Path, names: list[str], kind: str, weights: list[str]) -> None:
    found = find_checkpoint(folder_of(tmp_path, *names))
    assert found.format == kind
    assert [path.name for path in found.weights] == weights
    assert found.sha256 is None
    assert found.config == ({"d_model": 4} if "config.json" in names else {})
    verify_checksums(found)  # nothing is known of it, so nothing is asked


def test_shards_in_order(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "config.json", "b.safetensors", "a.safetensors")
    index = {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [path.name for path in find_checkpoint(folder).weights] == ["a.safetensors", "b.safetensors"]
    (folder / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r": b\.safetensors missing, a part of the weights"):
        find_checkpoint(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", "expected a weight_map"),
        ("[]", "expected a JSON object, got list"),
        ('{"weight_map": []}', "expected a weight_map"),
        ('{"weight_map": {}}', "expected a weight_map"),
        ('{"weight_map": {"x": 1}}', "expected a weight_map"),
        ('{"weight_map": {"x": "../elsewhere.safetensors"}}', "expected a weight_map"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_a_damaged_index_is_named(tmp_path: Path, index: str, message: str) -> None:
    (folder_of(tmp_path, "config.json") / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match=rf"model\.safetensors\.index\.json: {message}"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (
            [],
            ModelNotFoundError,
            "found no weights; expected model.safetensors, model.safetensors.index.json, model.bin or",
        ),
        (
            ["pytorch_model.bin", "config.json"],
            ModelNotFoundError,
            "no model.safetensors: pytorch_model.bin is a pickle, .* from_pretrained",
        ),
        (["tiny.pt"], ModelNotFoundError, "tiny.pt is a pickle, which can run code and is not read; use 'tiny'"),
        (["model.safetensors"], ModelNotFoundError, "config.json is missing"),
        (["model.bin.part1", "model.bin.part3"], WeightsError, "model.bin.part2 missing"),
        (["model.bin.part1000000000"], WeightsError, "model.bin.part1 missing"),  # at once, without counting so far
    ],
)
def test_a_folder_that_is_no_checkpoint(
    tmp_path: Path, names: list[str], error: type[MinWhisperError], message: str
) -> None:
    with pytest.raises(error, match=message):
        find_checkpoint(folder_of(tmp_path, *names))


@pytest.mark.parametrize("text", ["{", "[]", "\udc80"])
def test_a_damaged_config_is_named(tmp_path: Path, text: str) -> None:
    folder_of(tmp_path, "model.safetensors")
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(WeightsError, match=r"config\.json: "):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("config", "expected"), [('{"d_model": 4}', [[1, 2]]), ('{"alignment_heads": [[0, 0]]}', [[0, 0]])]
)
def test_alignment_heads_come_from_where_they_are(tmp_path: Path, config: str, expected: list[list[int]]) -> None:
    folder_of(tmp_path, "model.safetensors", "config.json", config=config)
    (tmp_path / "generation_config.json").write_text('{"alignment_heads": [[1, 2]], "max_length": 448}')
    found = find_checkpoint(tmp_path)
    assert found.config == {"alignment_heads": expected} | json.loads(config)
