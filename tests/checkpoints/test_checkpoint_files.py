"""The choice of a checkpoint's files in a folder, and the errors for a folder without a checkpoint."""

import json
from pathlib import Path

import pytest

from minwhisper.checkpoints.checksums import verify_checksums
from minwhisper.checkpoints.sources import find_checkpoint
from minwhisper.errors import MinWhisperError, ModelNotFoundError, WeightsError


def folder_of(path: Path, *names: str, config: str = '{"d_model": 4}') -> Path:
    """Create a folder with these files; config.json gets the given text."""
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).write_text(config if name == "config.json" else "{}")
    return path


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
def test_choice_of_weights(tmp_path: Path, names: list[str], format: str, weights: list[str]) -> None:
    found = find_checkpoint(folder_of(tmp_path, *names))
    assert found.format == format
    assert [path.name for path in found.weights] == weights
    assert found.sha256 is None
    assert found.config == ({"d_model": 4} if "config.json" in names else {})
    verify_checksums(found)  # without a known sha256 nothing is read


def test_shards_in_order(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "config.json", "b.safetensors", "a.safetensors")
    index = {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [path.name for path in find_checkpoint(folder).weights] == ["a.safetensors", "b.safetensors"]
    (folder / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r": b\.safetensors missing, a part of the weights"):
        find_checkpoint(folder)


@pytest.mark.parametrize(
    "index",
    ["{}", '{"weight_map": {}}', '{"weight_map": {"x": 1}}', '{"weight_map": {"x": "../elsewhere.safetensors"}}'],
)
def test_damaged_index(tmp_path: Path, index: str) -> None:
    (folder_of(tmp_path, "config.json") / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match=r"model\.safetensors\.index\.json: expected a weight_map"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([], ModelNotFoundError, r"expected model\.safetensors, model\.safetensors\.index\.json, model\.bin or"),
        (["tiny.pt"], ModelNotFoundError, r"no model\.safetensors, and tiny\.pt is a pickle, .* not read; use 'tiny'"),
        (["model.safetensors"], ModelNotFoundError, r"config\.json is missing"),
        (["model.bin.part1", "model.bin.part3"], WeightsError, r"model\.bin\.part2 missing"),
        (["model.bin.part1000000000"], WeightsError, r"model\.bin\.part1 missing"),  # without counting to a billion
    ],
)
def test_folder_without_a_checkpoint(
    tmp_path: Path, names: list[str], error: type[MinWhisperError], message: str
) -> None:
    with pytest.raises(error, match=message):
        find_checkpoint(folder_of(tmp_path, *names))


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_json_that_cannot_be_read(tmp_path: Path, file: str) -> None:
    folder_of(tmp_path, "model.safetensors" if "config" in file else "tokenizer.json", "config.json")
    (tmp_path / file).write_text("{")
    with pytest.raises(WeightsError, match=rf"{file}: cannot be read as JSON"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("config", "expected"), [('{"d_model": 4}', [[1, 2]]), ('{"alignment_heads": [[0, 0]]}', [[0, 0]])]
)
def test_alignment_heads_of_either_file(tmp_path: Path, config: str, expected: list[list[int]]) -> None:
    folder_of(tmp_path, "model.safetensors", "config.json", config=config)
    (tmp_path / "generation_config.json").write_text('{"alignment_heads": [[1, 2]], "max_length": 448}')
    assert find_checkpoint(tmp_path).config == {"alignment_heads": expected} | json.loads(config)
