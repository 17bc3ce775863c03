"""Replacing files atomically. Errors and interruptions during a write are tested in writers/test_writers.py."""

import stat

from minwhisper.common.atomic_write import replace_file


def test_files_are_written_and_replaced(tmp_path):
    file = tmp_path / "a.txt"
    for content in (b"one", b"two", b""):
        replace_file(file, content)
        assert file.read_bytes() == content
        if content == b"one":
            file.chmod(0o600)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600  # a private file stays private
    assert list(tmp_path.iterdir()) == [file]
