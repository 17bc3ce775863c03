"""Readers of untrusted JSON, integers and paths: correct values, or a clear error."""

import os
import tracemalloc
from pathlib import Path

import pytest

from minwhisper.common.untrusted import MAX_TEXT_BYTES, check_integer, expand_path, parse_json, read_json, read_limited
from minwhisper.errors import ConfigError, ModelNotFoundError, TokenizerError, WeightsError


def test_invalid_json_is_an_error():
    for data, message in (
        (b"", r"x: cannot be read as JSON \(Expecting value.*download the file again"),
        (b"\xff", r"x: cannot be read as text \(byte 0 is not UTF-8\)"),
        (b"[]", "x: expected a JSON object, got list"),
        (b'{"a":' * 10**6, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
        (b'{"a": [-Infinity]}', "-Infinity is not a JSON number"),
    ):
        for error in (WeightsError, TokenizerError):
            with pytest.raises(error, match=f"(?i){message}"):
                parse_json(data, "x", error)


def test_a_huge_file_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no disk space
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=r"config\.json: expected at most 10,000,000 bytes"):
            read_json(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_TEXT_BYTES
    finally:
        tracemalloc.stop()
    path.write_bytes(b" " * (MAX_TEXT_BYTES - 2) + b"{}")
    assert read_json(path) == {}


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for name in ("pipe", "nowhere", "x" * 300, "\ud800"):
        with pytest.raises(WeightsError, match="missing; expected"):
            read_limited(tmp_path / name)


def test_values_outside_the_range_and_other_types_are_rejected():
    assert check_integer("n", 10, 1, 10) == 10
    for value in (0, 11, 2**63, 10**5000, 1.0, True, None, "1", [1], float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=r"^n: expected a whole number from 1 to 10, got "):
            check_integer("n", value, 1, 10)


def test_expand_path_expands_the_home_folder_and_rejects_invalid_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_path("~/x") == tmp_path / "x"
    assert expand_path("./~x") == Path("~x")
    with pytest.raises(ModelNotFoundError, match="home folder"):
        expand_path("~nosuchuser/x")
    with pytest.raises(ModelNotFoundError, match="NUL"):
        expand_path("a\0b")
