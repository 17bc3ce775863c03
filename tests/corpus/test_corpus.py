"""A corpus on a Dask cluster: the same files as on one machine, even if workers, clients or the scheduler die."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minwhisper
from inputs import DATA
from minwhisper.audio.load import SAMPLE_RATE
from minwhisper.cli.main import main
from minwhisper.corpus import transcribe
from minwhisper.corpus.manifest import read_entries
from minwhisper.errors import CorpusError, ModelNotFoundError, OptionError

pytest.importorskip("distributed")

import dask

from audio_files import write_wav
from dying_workers import kill_a_worker
from fake_model import FakePlugin
from minwhisper.corpus import cluster, worker
from minwhisper.corpus.cluster import connected, worker_environments
from minwhisper.corpus.job import Job, Recording
from minwhisper.corpus.run import run

pytestmark = pytest.mark.cluster
OPTIONS = {"model": "tiny.en", "temperature": 0.0}
SWITCHES = ["--model", "tiny.en", "--temperature_increment_on_fallback", "None", "--beam_size", "None"]


@pytest.fixture(scope="module", autouse=True)
def _quick_starts():
    """Fork the workers of clusters from a process that has imported Dask, which saves seconds per worker."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@pytest.fixture(scope="module")
def client(_quick_starts):
    """Start two worker processes, and return their client."""
    with connected(None, 2, 1) as client:
        yield client


@pytest.fixture
def fake(client, tmp_path, monkeypatch):
    """Return a function that runs a corpus on workers without a model and returns the manifest's entries by output."""
    monkeypatch.setattr(worker, "ModelPlugin", FakePlugin)
    # After this time, the result of a dead worker counts as lost.
    monkeypatch.setattr("minwhisper.corpus.task_queue.FETCH_SECONDS", 3.0)

    def run_fake(*files, **options):
        transcribe(files, tmp_path, **{"client": client, "model": "fake"} | options)
        return {entry["output"]: entry for entry in read_entries(tmp_path / "manifest.jsonl")}

    return run_fake


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    """Write two short clips of the same name, and a file that is not audio."""
    folder = tmp_path_factory.mktemp("talks")
    for name, clip in {"a": "LJ001-0002", "b": "LJ001-0008"}.items():
        (folder / name).mkdir()
        shutil.copy(DATA / f"{clip}.wav", folder / name / "x.wav")
    (folder / "broken.mp3").write_bytes(b"no audio" * 100)
    return folder


@pytest.fixture(scope="module")
def alone(talks, tmp_path_factory):
    """Return the folder with the files that ``minwhisper transcribe`` writes for the talks."""
    folder = tmp_path_factory.mktemp("alone")
    command = ["transcribe", str(talks), "--recursive", "-o", str(folder), "-f", "json,srt,jsonl", "--threads", "1"]
    assert main([*command, "--word_timestamps", "True", *SWITCHES]) == 2  # because of the file that is not audio
    return folder


def outcomes(out):
    """Return the outcomes in the manifest, in order."""
    return [(entry["output"], entry["outcome"]) for entry in read_entries(out / "manifest.jsonl")]


# --- Results --------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_same_files_as_one_machine_and_reports_every_recording(talks, alone, tmp_path, capfd):
    out, listed = tmp_path / "out", tmp_path / "list.txt"
    listed.write_text(f"{talks / 'a'}\n{talks / 'broken.mp3'}\n")
    command = ["corpus", str(talks / "b"), "--files_from", str(listed), "-o", str(out), *SWITCHES, "--workers", "1"]
    more = ["-f", "json,srt,jsonl", "--word_timestamps", "True", "--report", str(out / "report.html")]
    assert main([*command, *more]) == 1
    shown = capfd.readouterr()
    assert "2 transcribed: " in shown.out
    assert f"1 failed: {out / 'manifest.jsonl'} has the reasons" in shown.out
    assert "broken.mp3': not an audio file" in shown.err
    written = {path.relative_to(alone) for path in alone.rglob("*.*")}
    assert written == {Path(f"{folder}/x.{format}") for folder in "ab" for format in ("json", "srt", "jsonl")}
    for path in written:
        assert (out / path).read_bytes() == (alone / path).read_bytes()
    manifest, report = Path("manifest.jsonl"), Path("report.html")
    assert {path.relative_to(out) for path in out.rglob("*.*")} == written | {manifest, report}
    assert "broken.mp3" in (out / report).read_text()
    entry = {entry["output"]: entry for entry in read_entries(out / manifest)}["a/x"]
    assert (entry["input"], entry["size"]) == (str(talks / "a/x.wav"), (talks / "a/x.wav").stat().st_size)
    assert (entry["outcome"], entry["language"], entry["words"], entry["attempts"]) == ("done", "en", 4, 1)
    assert entry["device"] == "cpu"
    assert entry["duration"] == pytest.approx(minwhisper.load_audio(talks / "a/x.wav").size / SAMPLE_RATE, abs=1e-3)


def test_windows_of_several_recordings_are_decoded_together(client, talks, alone, tmp_path):
    summary = transcribe(talks, tmp_path, client=client, batch_size=4, **OPTIONS)
    assert (summary.done, len(summary.failed)) == (2, 1)
    for name in ("a/x.json", "b/x.json"):
        assert json.loads((tmp_path / name).read_text())["text"] == json.loads((alone / name).read_text())["text"]


def test_parts_of_a_long_recording_are_transcribed_like_separate_recordings(client, tiny_en, tmp_path):
    talk, pause = tmp_path / "talk.wav", np.zeros(SAMPLE_RATE // 4, np.float32)
    clips = [minwhisper.load_audio(DATA / f"LJ001-{number}.wav") for number in ("0001", "0004")]
    write_wav(talk, np.concatenate([clips[0], pause, clips[1]]))
    job = Job("tiny.en", {"temperature": 0.0}, folder=str(tmp_path), split=0.2)  # minutes
    run(client, [Recording(str(talk), "talk")], tmp_path, job)
    (entry,) = read_entries(tmp_path / "manifest.jsonl")
    whole, cuts = minwhisper.load_audio(talk), minwhisper.cut_at_silence(talk, 8, 12)
    assert entry["parts"] == len(cuts) == 2
    parts = [whole[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)] for a, b in cuts]
    found = json.loads((tmp_path / "talk.json").read_text())
    assert found["text"] == "".join(tiny_en.transcribe(part, temperature=0.0)["text"] for part in parts)
    starts = [segment["start"] for segment in found["segments"]]
    assert starts == sorted(starts)
    assert starts[-1] >= cuts[1][0]


# --- Repeated runs --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fake")
def test_a_second_run_does_missing_and_changed_recordings_and_on_request_failed_ones(client, tmp_path):
    files = [tmp_path / "in" / name for name in ("a/x.wav", "b/x.wav", "b/y.wav", "broken.mp3")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"sound")

    def done(**options):
        """Run the corpus; return the outputs that were done or tried, and the counts in the summary."""
        before = len(outcomes(tmp_path)) if (tmp_path / "manifest.jsonl").exists() else 0
        summary = transcribe(tmp_path / "in", tmp_path, client=client, model="fake", **options)
        tried = sorted(output for output, _ in outcomes(tmp_path)[before:])
        return tried, (summary.done, summary.skipped, len(summary.failed))

    everything = ["a/x", "b/x", "b/y", "broken"]
    assert done() == (everything, (3, 0, 1))
    assert done() == ([], (0, 3, 1))
    (tmp_path / "b/y.json").unlink()
    files[0].write_bytes(b"another")
    assert done() == (["a/x", "b/y"], (2, 1, 1))
    assert done(retry_failed=True) == (["broken"], (0, 3, 1))
    assert done(language="en") == (everything, (3, 0, 1))  # other options


def test_an_interrupted_run_continues_with_the_remaining_parts(fake, tmp_path):
    def stop_after_one(progress):
        if list((tmp_path / ".parts").glob("*")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fake("talk.wav", split=1, progress=stop_after_one)
    assert outcomes(tmp_path) == []
    assert fake("talk.wav", split=1)["talk"]["parts"] == 2
    assert (tmp_path / "talk#0.attempts").read_text() == "x"
    assert json.loads((tmp_path / "talk.json").read_text())["text"] == " Part 0. Part 1."
    assert not (tmp_path / ".parts").exists()


# --- Errors that concern the whole run ------------------------------------------------------------------------------


def test_an_error_that_concerns_all_recordings_comes_before_the_work(client, talks, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    for options, error, words in (
        ({"client": client, "model": "./no-such-model"}, ModelNotFoundError, "no-such-model"),
        ({"split": 10, "clip_timestamps": "0,10"}, OptionError, "split: cannot be combined with clip_timestamps"),
        ({"client": client, "workers": 3}, OptionError, "workers: an existing cluster has its own"),
        ({"scheduler": "tcp://127.0.0.1:9"}, CorpusError, "127.0.0.1:9: cannot be reached; expected the address"),
    ):
        with pytest.raises(error, match=words):
            transcribe(talks, tmp_path, **OPTIONS | options)
    assert outcomes(tmp_path) == []


def test_a_gpu_belongs_to_one_worker(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    found = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    assert worker_environments(None, None, "cuda") == found
    assert worker_environments(1, None, "cuda") == found[:1]
    assert worker_environments(None, None, "cuda:1") == [{"CUDA_VISIBLE_DEVICES": "3"}]
    with pytest.raises(CorpusError, match="workers: expected at most 2, one for each GPU, got 3"):
        worker_environments(3, None, "cuda")
    assert worker_environments(3, None, "cpu") == [{}, {}, {}]


def test_a_worker_with_other_weights_is_not_mixed_in(fake, tmp_path):
    fake("0")
    with pytest.raises(CorpusError, match="its fake has other weights than that of tcp://"):
        fake("stranger")
    assert outcomes(tmp_path) == [("0", "done")]


# --- Killed workers, clients and schedulers -------------------------------------------------------------------------


def start(source, out, workers, **how):
    """Start the command in a process of its own."""
    command = ["minwhisper", "corpus", str(source), "-o", str(out), "--workers", str(workers), *SWITCHES]
    how |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", *command], **how)


@pytest.mark.longest
def test_every_recording_is_done_once_although_workers_and_the_client_are_killed(tiny_en, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    clips = sorted(DATA.glob("LJ*.wav"))
    for number in range(6):
        samples = minwhisper.load_audio(clips[number])
        write_wav(source / f"{number}.wav", samples[number * 900 : number * 900 + SAMPLE_RATE])
    (source / "3.wav").write_bytes(b"not audio")
    generator, killed = random.Random(0), 0
    for turn in range(2):
        client = start(source, out, 2)
        while client.poll() is None:
            lines = (out / "manifest.jsonl").read_bytes().count(b"\n") if (out / "manifest.jsonl").exists() else 0
            if lines >= 1 + 2 * turn and killed < turn + 1:
                killed += kill_a_worker(client.pid, generator)
            if turn == 0 and lines >= 2 and killed:
                client.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        shown = client.communicate()[0]
    assert client.returncode == 1, shown
    assert killed == 2
    assert sorted(outcomes(out)) == [(str(number), "failed" if number == 3 else "done") for number in range(6)]
    for path in out.glob("*.json"):
        transcript = tiny_en.transcribe(source / f"{path.stem}.wav", temperature=0.0)
        assert path.read_text() == json.dumps(transcript)


def test_ctrl_c_keeps_finished_recordings_and_says_so_in_one_line(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(12):
        shutil.copy(DATA / "LJ001-0002.wav", source / f"{number}.wav")
    client = start(source, out, 1, start_new_session=True)
    while not list(out.glob("*.json")) and client.poll() is None:
        time.sleep(0.05)
    os.killpg(client.pid, signal.SIGINT)  # like a terminal, which signals the workers too
    shown = client.communicate()[0]
    assert client.returncode == 130
    assert re.search(r"^minwhisper: interrupted after \d+ of 12 recordings, .* continues from there$", shown, re.M)
    assert "Traceback" not in shown
    assert {name for name, _ in outcomes(out)} == {path.stem for path in out.glob("*.json")}


def test_a_file_that_kills_three_workers_is_given_up_and_no_other(fake, tmp_path):
    names = [f"{number}" for number in range(20)]
    found = fake(*names[:3], "killer", *names[3:])
    killer = found.pop("killer")
    assert {name: entry["outcome"] for name, entry in found.items()} == dict.fromkeys(names, "done")
    assert killer["outcome"] == "killed"
    assert killer["error"].startswith("killer: 3 workers died while they transcribed it, ")
    assert (tmp_path / "killer.attempts").read_text() == "xxx"


def test_recordings_decoded_together_with_one_that_exceeds_the_memory_are_not_given_up(fake):
    found = fake("0", "1", "hungry", "2", batch_size=4)
    hungry = found.pop("hungry")
    assert {name: entry["outcome"] for name, entry in found.items()} == dict.fromkeys("012", "done")
    assert hungry["outcome"] == "out_of_memory"
    assert "hungry: 3 workers exceeded their memory limit while they transcribed it; give" in hungry["error"]


def test_an_out_of_memory_error_is_retried_and_not_taken_for_a_broken_file(fake):
    found = fake("0", "broken", "large", "large-once")
    assert {name: (entry["outcome"], entry["attempts"]) for name, entry in found.items()} == {
        "0": ("done", 1),
        "broken": ("failed", 1),
        "large": ("out_of_memory", 3),
        "large-once": ("done", 2),
    }
    assert found["large"]["error"] == "too large"


CLUSTER = """
import time
from distributed import LocalCluster
how = {"processes": False, "protocol": "tcp", "dashboard_address": None}
with LocalCluster(n_workers=1, threads_per_worker=1, **how) as cluster:
    print(cluster.scheduler_address, flush=True)
    time.sleep(120)
"""


def test_finished_recordings_are_kept_if_the_scheduler_is_killed(fake, tmp_path):
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    elsewhere = subprocess.Popen([sys.executable, "-c", CLUSTER], env=os.environ | {"PYTHONPATH": path}, **how)
    names = sorted(f"slow{number}" for number in range(12))

    def kill_the_scheduler(progress):
        if progress.done >= 3:
            elsewhere.kill()

    try:
        address = elsewhere.stdout.readline().strip()
        with pytest.raises(CorpusError, match="the connection to the scheduler was lost; finished work is kept"):
            fake(*names, client=None, scheduler=address, progress=kill_the_scheduler)
    finally:
        elsewhere.kill()
        elsewhere.communicate()
    done = outcomes(tmp_path)
    assert 3 <= len(done) < len(names)
    assert {(path.stem, "done") for path in tmp_path.glob("*.json")} == set(done)
    fake(*names)
    assert sorted(outcomes(tmp_path)) == [(name, "done") for name in names]  # each once
