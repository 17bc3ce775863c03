"""The command ``minwhisper corpus``: its options and messages; ``tests/corpus/test_corpus.py`` runs it."""

import sys

import pytest

from minwhisper.cli.corpus import progress_line, summary_lines
from minwhisper.cli.main import main
from minwhisper.corpus.progress import Progress, Summary, WorkerState


def test_without_dask_the_command_says_what_to_install(monkeypatch, tmp_path, capfd):
    monkeypatch.setitem(sys.modules, "distributed", None)
    (tmp_path / "a.wav").write_bytes(b"1")
    assert main(["corpus", str(tmp_path), "-o", str(tmp_path / "out"), "--model", "tiny.en"]) == 2
    assert "needs Dask, which is not installed: run pip install 'minwhisper[cluster]'" in capfd.readouterr().err


def test_the_options_reach_the_library_and_without_a_failure_the_status_is_0(monkeypatch, tmp_path, capfd):
    passed = {}
    summary = Summary(1, 0, (), 60.0, 10.0, {}, tmp_path / "manifest.jsonl")
    monkeypatch.setattr("minwhisper.cli.corpus.transcribe", lambda *_, **given: passed.update(given) or summary)
    given = "--split 10 --retry_failed --scheduler tcp://a:1 --batch_size 2 --seed 7 --dtype float16 -f txt"
    assert main(["corpus", "x.wav", "-o", str(tmp_path), "--model", "base", *given.split()]) == 0
    assert (passed["split"], passed["retry_failed"]) == (10, True)
    assert (passed["scheduler"], passed["workers"], passed["model"]) == ("tcp://a:1", None, "base")
    assert (passed["batch_size"], passed["seed"], passed["dtype"], passed["formats"]) == (2, 7, "float16", "txt")
    assert capfd.readouterr().out == "1 transcribed: 1.0 min of audio in 10.0 s, 6.0x\n"


def test_invalid_options_are_refused_before_any_work(tmp_path, capfd):
    out = ["-o", str(tmp_path / "out"), "--model", "tiny.en"]
    for arguments, words in (
        (out, "no recordings: expected files, folders, patterns or addresses, or --files_from"),
        (["x.wav", *out, "--batch_size", "0"], "batch_size"),
        (["x.wav", *out, "-f", "words.vtt"], "output_format words.vtt: it needs word timestamps"),
    ):
        assert main(["corpus", *arguments]) == 2
        assert words in capfd.readouterr().err
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    with pytest.raises(SystemExit):
        main(["corpus", "x.wav"])
    assert "the following arguments are required: -o/--output_dir" in capfd.readouterr().err


def test_progress_shows_the_work_done_the_speed_and_the_time_left(monkeypatch):
    progress = Progress(total=60, total_bytes=6000, done=10, failed=2, audio=1200.0, done_bytes=1500)
    monkeypatch.setattr("time.monotonic", lambda: progress.started + 300)
    progress.workers["tcp://b:1"] = WorkerState(recordings=4, audio=400.0, busy=200.0, within=600.0)
    progress.workers["tcp://a:1"] = WorkerState(recordings=6, audio=800.0, busy=100.0)
    assert progress.audio_so_far == 1800.0  # finished parts of unfinished recordings count
    assert progress.expected_audio == 4800.0  # estimated from the number of bytes
    assert progress_line(progress) == (
        "12 of 60 recordings, 30.0 min of audio, 2 failed, 6.0x, about 8.3 min left "
        "(tcp://a:1 13.3 min at 8.0x; tcp://b:1 6.7 min at 2.0x)"
    )


def test_the_summary_counts_recordings_transcribed_left_out_and_failed(tmp_path):
    workers = {"tcp://a:1": WorkerState(6, 800.0, 100.0, "cuda:0"), "tcp://b:1": WorkerState(4, 400.0, 200.0, "cpu")}
    entry = {"input": "x.wav", "output": "x", "outcome": "failed", "error": "broken"}
    manifest = tmp_path / "manifest.jsonl"
    assert summary_lines(Summary(10, 3, (entry, entry), 1200.0, 300.0, workers, manifest)) == [
        "10 transcribed: 20.0 min of audio in 5.0 min, 4.0x",
        "3 skipped: transcribed by an earlier run",
        f"2 failed: {manifest} has the reasons",
        "  tcp://a:1 (cuda:0): 6 recordings, 13.3 min at 8.0x",
        "  tcp://b:1 (cpu): 4 recordings, 6.7 min at 2.0x",
    ]
