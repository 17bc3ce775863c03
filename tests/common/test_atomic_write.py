"""Atomic writing: a file is replaced completely or not at all."""

import os
import stat

import pytest

from minwhisper.common.atomic_write import replace_file, temporary_file


def test_files_are_written_and_replaced(tmp_path):
    file = tmp_path / "a.txt"
    for content in (b"one", b"two", b""):
        replace_file(file, content)
        assert file.read_bytes() == content
        if content == b"one":
            file.chmod(0o600)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600  # a private file stays private
    assert list(tmp_path.iterdir()) == [file]


def test_after_an_error_the_old_file_remains(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(file, b"new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def write_and_fail(folder):
    with temporary_file(folder) as file:
        file.write(b"half")
        assert [path.name for path in folder.iterdir()] == [os.path.basename(file.name)]
        raise ZeroDivisionError


def test_a_temporary_file_is_removed_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path)
    assert list(tmp_path.iterdir()) == []
