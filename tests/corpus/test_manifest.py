"""The manifest of a corpus: it holds one line per recording, even if a write is cut off."""

import pytest

from minwhisper.corpus.manifest import NAME, Manifest, read_entries, read_manifest
from minwhisper.errors import CorpusError


def entry(output, outcome="done", **more):
    return {"input": f"{output}.wav", "output": output, "job": "a" * 64, "outcome": outcome, **more}


def test_the_last_line_about_a_recording_counts(tmp_path):
    assert read_manifest(tmp_path) == {}
    with Manifest(tmp_path) as manifest:
        manifest.append(entry("a", "failed", error="broken"))
        manifest.append(entry("b"))
    with Manifest(tmp_path) as manifest:
        manifest.append(entry("a", duration=2.5))
    assert read_manifest(tmp_path) == {"a": entry("a", duration=2.5), "b": entry("b")}


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path):
    with Manifest(tmp_path) as manifest:
        for output in "ab":
            manifest.append(entry(output))
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-20])
    with Manifest(tmp_path) as manifest:
        manifest.append(entry("c"))
    assert [one["output"] for one in read_entries(path)] == ["a", "c"]


def test_lines_are_forced_to_disk_though_no_other_follows(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr("minwhisper.corpus.manifest.os.fsync", forced.append)
    with Manifest(tmp_path) as manifest:
        manifest.append(entry("a"))
        manifest.sync()
        assert forced == []
        monkeypatch.setattr("minwhisper.corpus.manifest.FLUSH_SECONDS", -1.0)  # as if time had passed
        manifest.sync()
        manifest.sync()
        assert len(forced) == 1


def test_names_that_are_not_unicode_can_be_written(tmp_path):
    with Manifest(tmp_path) as manifest:
        manifest.append(entry("a\udcff\n<b>"))
        manifest.append(entry("b"))
    assert [one["output"] for one in read_entries(tmp_path / NAME)][1] == "b"
    assert read_manifest(tmp_path).keys() == {"a\udcff\n<b>", "b"}


def test_two_runs_cannot_write_to_one_folder(tmp_path):
    with Manifest(tmp_path), pytest.raises(CorpusError, match="another run is writing to this folder; wait until"):
        Manifest(tmp_path)
    Manifest(tmp_path).close()


def test_another_file_of_this_name_is_not_taken_for_a_manifest(tmp_path):
    (tmp_path / NAME).write_text('{"text": "hello"}\n')
    with pytest.raises(CorpusError, match=r"line 1 is not an entry of a manifest; choose another output folder"):
        read_manifest(tmp_path)
