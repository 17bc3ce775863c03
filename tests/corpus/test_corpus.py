"""A corpus on a Dask cluster: the same files as on one machine, whatever dies."""

import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minwhisper
from minwhisper.audio.load import SAMPLE_RATE
from minwhisper.cli.main import main
from minwhisper.corpus import transcribe
from minwhisper.corpus.manifest import read_entries
from minwhisper.errors import CorpusError, ModelNotFoundError, OptionError

distributed = pytest.importorskip("distributed")

from dying_workers import kill_a_worker, write_wav  # noqa: E402
from minwhisper.corpus import cluster, worker  # noqa: E402
from minwhisper.corpus.cluster import connected, worker_environments  # noqa: E402
from minwhisper.corpus.job import Job, Recording, Result, Setup  # noqa: E402
from minwhisper.corpus.parts import PartStore  # noqa: E402
from minwhisper.corpus.run import run  # noqa: E402

pytestmark = pytest.mark.cluster
DATA = Path(__file__).parents[1] / "data"
OPTIONS = {"model": "tiny.en", "temperature": 0.0}
SWITCHES = ["--model", "tiny.en", "--temperature_increment_on_fallback", "None", "--beam_size", "None"]


@pytest.fixture(scope="module")
def client():
    """Two worker processes, with a model each after the first test."""
    with connected(None, 2, 1) as client:
        yield client


@pytest.fixture
def talks(tmp_path):
    """Four short clips, two of which have the same name, and a file that is not audio."""
    folder = tmp_path / "talks"
    for name, clip in {"a/x": "LJ001-0002", "b/x": "LJ001-0008", "b/y": "LJ001-0004"}.items():
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / f"{clip}.wav", path)
    (folder / "broken.mp3").write_bytes(b"no audio" * 100)
    return folder


def outcomes(out):
    """Return the outcomes in the manifest, in order."""
    return [(entry["output"], entry["outcome"]) for entry in read_entries(out / "manifest.jsonl")]


# --- Results --------------------------------------------------------------------------------------------------------


def test_files_are_byte_for_byte_those_of_one_machine(client, tiny_en, talks, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    summary = transcribe(talks, out, client=client, formats="json,srt,jsonl", word_timestamps=True, **OPTIONS)
    command = ["transcribe", str(talks), "--recursive", "-o", str(alone), "-f", "json,srt,jsonl", "--threads", "1"]
    assert main([*command, "--word_timestamps", "True", *SWITCHES]) == 2  # for the file that is not audio
    written = {path.relative_to(alone) for path in alone.rglob("*.*")}
    assert written == {Path(f"{name}.{one}") for name in ("a/x", "b/x", "b/y") for one in ("json", "srt", "jsonl")}
    for path in written:
        assert (out / path).read_bytes() == (alone / path).read_bytes()
    assert (summary.done, summary.skipped, len(summary.failed)) == (3, 0, 1)
    assert "broken.mp3': not an audio file" in summary.failed[0]["error"]
    entries = {entry["output"]: entry for entry in read_entries(out / "manifest.jsonl")}
    y = entries["b/y"]
    assert (y["input"], y["size"]) == (str(talks / "b/y.wav"), (talks / "b/y.wav").stat().st_size)
    assert (y["outcome"], y["language"], y["words"], y["attempts"], y["device"]) == ("done", "en", 14, 1, "cpu")
    assert y["duration"] == pytest.approx(minwhisper.load_audio(talks / "b/y.wav").size / SAMPLE_RATE, abs=1e-3)
    assert sum(entry.get("duration", 0) for entry in entries.values()) == pytest.approx(summary.audio)


def test_a_second_run_does_what_is_missing_or_has_changed(client, talks, tmp_path):
    out = tmp_path / "out"
    transcribe(talks, out, client=client, **OPTIONS)
    before = {path: path.stat().st_ino for path in out.rglob("*.json")}
    again = transcribe(talks, out, client=client, **OPTIONS)
    assert (again.done, again.skipped, len(again.failed)) == (0, 3, 1)
    assert {path: path.stat().st_ino for path in out.rglob("*.json")} == before

    (out / "b/y.json").unlink()
    shutil.copy(DATA / "LJ001-0012.wav", talks / "a/x.wav")
    again = transcribe(talks, out, client=client, **OPTIONS)
    assert (again.done, again.skipped) == (2, 1)
    assert (out / "b/x.json").stat().st_ino == before[out / "b/x.json"]

    again = transcribe(talks, out, client=client, language="en", **OPTIONS)  # other options
    assert (again.done, again.skipped) == (3, 0)


def test_what_failed_is_tried_again_only_on_request(client, talks, tmp_path):
    out, broken = tmp_path / "out", talks / "broken.mp3"
    transcribe(broken, out, client=client, **OPTIONS)
    assert outcomes(out) == [("broken", "failed")]
    assert len(transcribe(broken, out, client=client, **OPTIONS).failed) == 1
    assert outcomes(out) == [("broken", "failed")]
    assert len(transcribe(broken, out, client=client, retry_failed=True, **OPTIONS).failed) == 1
    assert outcomes(out) == [("broken", "failed")] * 2


def test_windows_of_several_recordings_are_decoded_together(client, tiny_en, talks, tmp_path):
    out = tmp_path / "out"
    summary = transcribe(talks, out, client=client, batch_size=4, **OPTIONS)
    assert (summary.done, len(summary.failed)) == (3, 1)
    for name in ("a/x", "b/x", "b/y"):
        text = json.loads((out / f"{name}.json").read_text())["text"]
        assert text == tiny_en.transcribe(talks / f"{name}.wav", temperature=0.0)["text"]


def test_parts_of_a_long_recording_are_those_of_recordings_of_their_own(client, tiny_en, tmp_path):
    """A run that was interrupted goes on with the parts that are left."""
    clips = [minwhisper.load_audio(DATA / f"LJ001-{number:04}.wav") for number in range(1, 13)]
    pause = np.zeros(SAMPLE_RATE // 4, np.float32)
    talk, out, seen = tmp_path / "talk.wav", tmp_path / "out", []
    write_wav(talk, np.concatenate([part for clip in clips for part in (clip, pause)]))

    def stop_after_one(progress):
        if list((out / ".parts").glob("*")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcribe(talk, out, client=client, split=1, progress=stop_after_one, **OPTIONS)
    (stored,) = (out / ".parts").iterdir()
    assert outcomes(out) == []
    kept = stored.read_bytes().count(b'"transcript"')
    original = PartStore.write
    try:
        PartStore.write = lambda self, part, transcript: seen.append(part) or original(self, part, transcript)
        transcribe(talk, out, client=client, split=1, **OPTIONS)
    finally:
        PartStore.write = original
    (entry,) = read_entries(out / "manifest.jsonl")
    assert entry["parts"] == 2
    assert kept == 1
    assert seen == []  # the only other part completed the recording
    assert not (out / ".parts").exists()
    cuts = minwhisper.cut_at_silence(talk, 40, 60)
    whole = minwhisper.load_audio(talk)
    texts = [
        tiny_en.transcribe(whole[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)], temperature=0.0)["text"]
        for a, b in cuts
    ]
    found = json.loads((out / "talk.json").read_text())
    assert found["text"] == "".join(texts)
    assert len(cuts) == 2
    starts = [segment["start"] for segment in found["segments"]]
    assert starts == sorted(starts)
    assert starts[-1] > cuts[1][0]


# --- Errors that concern the whole run ------------------------------------------------------------------------------


def test_an_error_that_concerns_all_recordings_comes_before_the_work(client, talks, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        transcribe(talks, out, client=client, model="./no-such-model")
    with pytest.raises(OptionError, match="split: it does not go with clip_timestamps"):
        transcribe(talks, out, client=client, split=10, clip_timestamps="0,10", **OPTIONS)
    with pytest.raises(OptionError, match="workers: a cluster that is given has its own"):
        transcribe(talks, out, client=client, workers=3, **OPTIONS)
    with pytest.raises(CorpusError, match=r"scheduler tcp://127.0.0.1:9: cannot be reached; expected the address"):
        transcribe(talks, out, scheduler="tcp://127.0.0.1:9", **OPTIONS)
    assert outcomes(out) == []


def test_a_gpu_belongs_to_one_worker(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    found = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    assert worker_environments(None, None, "cuda") == found
    assert worker_environments(1, None, "cuda") == found[:1]
    assert worker_environments(None, None, "cuda:1") == [{"CUDA_VISIBLE_DEVICES": "3"}]
    with pytest.raises(CorpusError, match="workers: expected at most 2, one for each GPU, got 3"):
        worker_environments(3, None, "cuda")
    assert worker_environments(3, None, "cpu") == [{}, {}, {}]


# --- Workers and clients that die -----------------------------------------------------------------------------------


def test_everything_is_done_once_though_workers_and_client_are_killed(tiny_en, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    clips = sorted(DATA.glob("LJ*.wav"))
    for number in range(10):
        samples = minwhisper.load_audio(clips[number % 12])
        write_wav(source / f"{number}.wav", samples[number * 900 : number * 900 + SAMPLE_RATE])
    broken = {"3", "8"}
    for name in broken:
        (source / f"{name}.wav").write_bytes(b"not audio")
    command = [sys.executable, "-m", "minwhisper", "corpus", str(source), "-o", str(out), "--workers", "2", *SWITCHES]
    generator = random.Random(0)
    killed = 0
    for turn in range(2):
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while client.poll() is None:
            lines = (out / "manifest.jsonl").read_bytes().count(b"\n") if (out / "manifest.jsonl").exists() else 0
            if lines >= 2 + 4 * turn and killed < turn + 1:
                killed += kill_a_worker(client.pid, generator)
            if turn == 0 and lines >= 4 and killed:
                client.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        shown = client.communicate()[0].decode()
    assert client.returncode == 1, shown
    assert killed == 2
    found = sorted(outcomes(out))
    assert found == sorted((str(number), "failed" if str(number) in broken else "done") for number in range(10))
    for path in out.glob("*.json"):
        alone = io.StringIO()
        json.dump(tiny_en.transcribe(source / f"{path.stem}.wav", temperature=0.0), alone)
        assert path.read_text() == alone.getvalue()


def test_ctrl_c_keeps_what_is_finished_and_says_so_in_a_line(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(12):
        shutil.copy(DATA / "LJ001-0002.wav", source / f"{number}.wav")
    command = [sys.executable, "-m", "minwhisper", "corpus", str(source), "-o", str(out), "--workers", "1", *SWITCHES]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    client = subprocess.Popen(command, **how)
    while not list(out.glob("*.json")) and client.poll() is None:
        time.sleep(0.05)
    os.killpg(client.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    shown = client.communicate()[0]
    assert client.returncode == 130
    assert re.search(r"^minwhisper: interrupted after \d+ of 12 recordings, .* goes on from there$", shown, re.M)
    assert "Traceback" not in shown
    assert {name for name, _ in outcomes(out)} == {path.stem for path in out.glob("*.json")}


class FakePlugin(worker.ModelPlugin):
    """A worker's side without a model: what it does with a recording is in the name of its outputs."""

    def loaded(self):
        return None, Setup(self._worker.address, "cpu", "fake", "0" * 64)

    def run(self, task):
        with self._turn:
            self._tell("start", task.labels)
            return [self.fake(recording.output, Path(self.job.folder)) for recording in task.recordings]

    def fake(self, output, folder):
        with (folder / f"{output}.attempts").open("a") as file:
            file.write("x")
        tries, setup = (folder / f"{output}.attempts").read_text(), self.loaded()[1]
        if output in ("killer", "hungry"):
            if output == "hungry":  # as Dask's nanny does before it ends a worker
                self._worker.log_event("worker-restart-memory", {"worker": self._worker.address})
            time.sleep(0.2)
            os._exit(1)
        if output == "large" or (output == "large-once" and tries == "x"):
            return Result("out_of_memory", setup, 0.1, "too large")
        if output == "stranger":
            setup = setup._replace(weights="1" * 64)
        time.sleep(0.05)
        return Result("done", setup, 0.1, facts={"duration": 1.0}, files=(("json", b"ok"),))


@pytest.fixture
def fake(client, tmp_path, monkeypatch):
    """Return a function that runs a corpus of these names with workers that have no model, and returns the entries."""
    monkeypatch.setattr(worker, "ModelPlugin", FakePlugin)

    def run_fake(names, **options):
        recordings = [Recording(name, name) for name in names]
        run(client, recordings, tmp_path, Job("fake", {}, folder=str(tmp_path), **options))
        return {entry["output"]: entry for entry in read_entries(tmp_path / "manifest.jsonl")}

    return run_fake


def test_a_file_that_kills_three_workers_is_given_up_and_no_other(fake, tmp_path):
    names = [f"{number}" for number in range(20)]
    found = fake([*names[:3], "killer", *names[3:]])
    assert {name: entry["outcome"] for name, entry in found.items()} == dict.fromkeys(names, "done") | {
        "killer": "killed"
    }
    assert found["killer"]["error"].startswith("killer: 3 workers died while they transcribed it, ")
    assert (tmp_path / "killer.attempts").read_text() == "xxx"


def test_recordings_that_were_decoded_with_a_killer_are_not_given_up(fake):
    found = fake(["0", "1", "killer", "2", "3"], batch_size=5)
    assert {name: entry["outcome"] for name, entry in found.items()} == {
        **dict.fromkeys("0123", "done"),
        "killer": "killed",
    }


def test_a_lack_of_memory_is_told_from_a_broken_file_and_tried_again(fake):
    found = fake(["0", "large", "large-once"])
    assert {name: (entry["outcome"], entry["attempts"]) for name, entry in found.items()} == {
        "0": ("done", 1),
        "large": ("out_of_memory", 3),
        "large-once": ("done", 2),
    }
    hungry = fake(["hungry"])["hungry"]
    assert hungry["outcome"] == "out_of_memory"
    assert "hungry: 3 workers exceeded their memory limit while they transcribed it; give" in hungry["error"]
    assert found["large"]["error"] == "too large"


def test_a_worker_with_other_weights_is_not_mixed_in(fake, tmp_path):
    fake(["0"])
    with pytest.raises(CorpusError, match="its fake has other weights than that of tcp://"):
        fake(["stranger"])
    assert outcomes(tmp_path) == [("0", "done")]


def test_what_is_finished_is_kept_if_the_scheduler_is_killed(talks, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}
    out = tmp_path / "out"
    for number in range(10):
        shutil.copy(talks / "a/x.wav", talks / f"{number}.wav")

    def start(*command):
        command = [sys.executable, "-m", *command, "--no-dashboard"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    def start_scheduler():
        return start("distributed.cli.dask_scheduler", "--port", port, "--host", "127.0.0.1")

    def start_worker():
        where = f"tcp://127.0.0.1:{port}"
        return start("distributed.cli.dask_worker", where, "--nthreads", "1", "--death-timeout", "60")

    scheduler, one = start_scheduler(), start_worker()

    def kill_the_scheduler(progress):
        if progress.done >= 3:
            scheduler.kill()

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with pytest.raises(
                    CorpusError, match="the connection to the scheduler was lost; what is finished is kept"
                ):
                    transcribe(talks, out, scheduler=f"tcp://127.0.0.1:{port}", progress=kill_the_scheduler, **OPTIONS)
                break
            except CorpusError:
                assert time.monotonic() < deadline
        done = {name for name, outcome in outcomes(out) if outcome == "done"}
        assert 3 <= len(done) < 13
        assert {str(path.relative_to(out).with_suffix("")) for path in out.rglob("*.json")} == done
        scheduler.wait()
        one.terminate()
        one.wait()
        scheduler, one = start_scheduler(), start_worker()
        summary = transcribe(talks, out, scheduler=f"tcp://127.0.0.1:{port}", **OPTIONS)
        assert (summary.done, summary.skipped) == (13 - len(done), len(done))
        assert len(outcomes(out)) == 14
    finally:
        for process in (one, scheduler):
            process.kill()
            process.wait()


# --- The command ----------------------------------------------------------------------------------------------------


def test_the_command_says_what_became_of_all_and_writes_a_report(talks, tmp_path, capfd):
    out = tmp_path / "out"
    listed = tmp_path / "list.txt"
    listed.write_text(f"{talks / 'a'}\n{talks / 'broken.mp3'}\n")
    command = ["corpus", str(talks / "b"), "--files_from", str(listed), "-o", str(out), *SWITCHES, "--workers", "1"]
    assert main([*command, "-f", "txt", "--report", str(out / "report.html")]) == 1
    shown = capfd.readouterr()
    assert "3 transcribed: " in shown.out
    assert f"1 failed: {out / 'manifest.jsonl'} has the reasons" in shown.out
    assert "broken.mp3': not an audio file" in shown.err
    assert {str(path.relative_to(out)) for path in out.rglob("*.*")} == {
        "manifest.jsonl",
        "report.html",
        "a/x.txt",
        "b/x.txt",
        "b/y.txt",
    }
    assert "broken.mp3" in (out / "report.html").read_text()
    (talks / "broken.mp3").unlink()
    assert main([*command[:2], "-o", str(out), *SWITCHES, "--workers", "1", "-f", "txt"]) == 0
