"""The inputs of a corpus: files, folders, patterns and addresses."""

import os

import pytest

from minwhisper.corpus.recordings import find_recordings
from minwhisper.errors import CorpusError, OptionError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("a/x.wav", "a/deep/y.mp3", "b/x.wav", "b/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given, **options):
    return [(one.path, one.output) for one in find_recordings(given, **options)]


def test_folders_are_searched_with_their_subfolders_and_patterns_expanded(folder):
    assert names("a") == [("a/deep/y.mp3", "deep/y"), ("a/x.wav", "x")]
    assert names("*/x.wav") == [("a/x.wav", "a/x"), ("b/x.wav", "b/x")]
    assert names("**/*.mp3", "a/x.wav") == [("a/deep/y.mp3", "y"), ("a/x.wav", "x")]
    (folder / "[live].wav").write_bytes(b"1")
    assert names("[live].wav") == [("[live].wav", "[live]")]


def test_a_recording_has_a_size_and_a_version_so_that_a_change_is_noticed(folder):
    os.utime("a/x.wav", ns=(5, 7))
    (one,) = find_recordings(["a/x.wav"])
    assert (one.size, one.modified) == (5, "7")
    (missing,) = find_recordings(["missing.wav"])  # the worker reports it
    assert (missing.size, missing.modified) == (None, None)


def test_a_pattern_without_matches_and_standard_input_are_errors(folder):
    for given, words in (
        ("*.flac", r"'\*\.flac': no file matches this pattern; check it"),
        ("-", "a corpus cannot be standard input"),
    ):
        with pytest.raises(OptionError, match=words):
            find_recordings([given])


def test_recordings_at_addresses_are_found_with_their_sizes(folder):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("/talks/a/x.wav", "/talks/b/x.wav", "/talks/b/x.mp3", "/talks/notes.txt", "/empty/notes.txt"):
        memory.pipe(name, b"123")
    try:
        found = find_recordings(["memory://talks", "a"])
        assert [(one.path, one.output, one.size) for one in found] == [
            *(("a/deep/y.mp3", "deep/y", 5), ("a/x.wav", "x", 5)),
            *((f"memory:///talks/{name}", name, 3) for name in ("a/x.wav", "b/x.mp3", "b/x.wav")),
        ]
        assert all(one.modified for one in found)
        assert names("memory://talks/*/x.wav") == [(f"memory:///talks/{name}/x.wav", f"{name}/x") for name in "ab"]
        assert names("memory://talks/missing.wav") == [("memory://talks/missing.wav", "missing")]
        outputs = [output for _, output in names("memory://talks/../../x.wav", "memory://../y.wav")]
        assert all(not output.startswith("/") and ".." not in output.split("/") for output in outputs)
        with pytest.raises(CorpusError, match=r"memory://empty: no recordings there; expected files in a format such"):
            find_recordings(["memory://empty"])
        with pytest.raises(CorpusError, match=r"nowhere://x.*install what this protocol needs"):
            find_recordings(["nowhere://x"])
    finally:
        memory.rm("/talks", recursive=True)
        memory.rm("/empty", recursive=True)
