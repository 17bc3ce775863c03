"""The benchmark of GPUs: its arithmetic by hand, and that all of it runs, before a GPU's time is spent on it."""

import importlib
import json
import re
import subprocess
import sys
import time
import wave
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cuda_on_cpu
import minwhisper
from conftest import DATA, real_model
from minwhisper.config import PUBLISHED, WhisperConfig
from minwhisper.fast import gpu as gpu_engine
from minwhisper.fast.gpu_kernels import load_kernels

FOLDER = Path(__file__).parent / "benchmarks"
LITTLE = WhisperConfig(
    vocab_size=60,
    num_mel_bins=8,
    d_model=16,
    encoder_layers=1,
    encoder_attention_heads=2,
    encoder_ffn_dim=64,
    decoder_layers=2,
    decoder_attention_heads=4,
    decoder_ffn_dim=64,
    max_source_positions=100,
    max_target_positions=128,
)


@pytest.fixture
def scripts(monkeypatch):
    """The modules of the benchmark, as a script sees them."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in [name for name in sys.modules if name == "gpu" or name.startswith("gpu_")]:
        del sys.modules[name]


@pytest.fixture
def pretended(scripts, gpus):
    """A way to make a GPU that is asked what the pretended one can tell."""
    lab = scripts("gpu_lab")

    class Pretended(lab.Gpu):
        """NumPy's."""

        def wait(self):
            pass

        def back_to_back(self, work, times):
            return sum(self.seconds(work) for _ in range(times)) / times

        def rates(self):
            return lab.Rates(60e9, 70e9, 1e12)

        @contextmanager
        def pool(self, limit=0):
            def peak():
                found, gpus.peak = gpus.peak, gpus.alive
                return found

            gpus.pool_limit = limit
            yield lab.Pool(lambda: gpus.alive, peak, lambda: gpus.alive)
            gpus.pool_limit = 0

        def beside_arrays(self):
            return 0

        def busy(self, work):
            return None

    return Pretended


def tables(text):
    """The lines of each table, by its title."""
    found = {}
    for part in text.split("\n### ")[1:]:
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line[:1] == "|"]
        found[part.splitlines()[0]] = cells[:1] + cells[2:]
    return found


# ------------------------------------------------------------------------------------------ a T400


def test_the_arithmetic_by_hand(scripts):
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
    assert found.remember == pytest.approx(4 * 6 * 1500 * 512 * 512 / 1.1e12)
    assert found.step == pytest.approx(233.621504e6 / 80e9)
    assert found.real_time == pytest.approx((found.encoder + found.remember + 90 * found.step) / 30)


def test_what_fits_is_what_the_readme_says_fits(scripts):
    fits = {(name, dtype): fits for name, dtype, fits, _ in scripts("gpu_t400").t400()}
    assert fits["small", "float32"]
    assert fits["medium", "float16"]
    assert not fits["medium", "float32"]
    assert not fits["large-v3", "float16"]
    assert {name for name, _ in fits}.isdisjoint({"tiny.en", "large-v2"})


def test_without_a_gpu_there_is_the_arithmetic_and_a_line_why(scripts, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert scripts("gpu").main([]) == 0
    out = capsys.readouterr().out
    assert list(tables(out)) == ["The least that a window takes"]
    assert "90 · bytes / 80e9" in out
    assert re.search(r"^The other rows need a GPU: device 'cuda': .*\.$", out, re.M)
    assert scripts("gpu").main(["--rows", "t400"]) == 0
    assert "need a GPU" not in capsys.readouterr().out


def test_an_unknown_row_is_named(scripts, capsys):
    with pytest.raises(SystemExit):
        scripts("gpu").main(["--rows", "encoders"])
    assert "unknown rows: encoders; expected some of machine, correct" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ all of it


@pytest.fixture
def small(scripts):
    """Settings of a run that takes seconds."""
    lab = scripts("gpu_lab")
    sizes = [lab.Size("little"), lab.Size("other", "float16")]
    configs = {"little": LITTLE, "other": LITTLE, "tiny.en": PUBLISHED["tiny.en"]}
    return {"sizes": sizes, "more": [], "configs": configs, "windows": 7, "batch": 2, "peer_device": "cpu"}


@pytest.mark.grid
def test_every_row_runs_with_random_weights(scripts, pretended, small, capsys, tmp_path):
    path = tmp_path / "gpu.json"
    arguments = ["--rounds", "1", "--names", "little", "--clips", "LJ001-0008.wav", "--json", str(path)]
    assert scripts("gpu").main(arguments, pretended, **small) == 0
    out, kept = capsys.readouterr().out, json.loads(path.read_text())
    assert set(kept["rows"]) == set(scripts("gpu_report").ROWS)
    assert not {name: its["ended"] for name, its in kept["rows"].items() if its["ended"]}
    silent = {"half", "beam", "whole"}  # nothing is said without a tokenizer
    assert {name for name, its in kept["rows"].items() if not its["lines"]} == silent
    for title, (columns, *lines) in tables(out).items():
        assert all(len(line) == len(columns) for line in lines), title
    columns, lines = (kept["rows"]["peak"][part] for part in ("columns", "lines"))
    for line in (dict(zip(columns, cells, strict=True)) for cells in lines):
        assert line["encoder MiB"] < 0.9 * line["encoder foretold"]  # and not what the engine reserves
    slow = ("encoder", "step", "together")
    assert not [one for one in kept["missed"] if not one.startswith(slow)]


@pytest.mark.grid
@pytest.mark.skipif(bool(cuda_on_cpu.why_not()), reason=cuda_on_cpu.why_not() or "-")
def test_rows_about_kernels_run_with_those_that_run_on_a_gpu(scripts, pretended, small, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_engine, "load_kernels", load_kernels)
    path = tmp_path / "gpu.json"
    arguments = ["--rows", "exact", "graph", "layers", "--names", "little", "--clips", "none", "--json", str(path)]
    assert scripts("gpu").main(arguments, pretended, **small) == 0
    kept = json.loads(path.read_text())
    assert not kept["missed"]
    assert {name: len(its["lines"]) for name, its in kept["rows"].items()} == {"exact": 2, "graph": 4, "layers": 14}


@pytest.mark.grid
def test_words_are_compared(scripts, pretended, small, capsys, tmp_path):
    kept = spoken(scripts, pretended, small, tmp_path, "half")
    assert kept["rows"]["half"]["lines"][0][:4] == ["tiny.en", 1, 4, 0.0]
    assert not kept["missed"]


@pytest.mark.grid
@pytest.mark.parity
def test_rows_of_speech_run_beside_the_peer(scripts, pretended, small, capsys, tmp_path):
    pytest.importorskip("whisper")
    kept = spoken(scripts, pretended, small, tmp_path, "tokens", "beam", "whole")
    assert {name: len(its["lines"]) for name, its in kept["rows"].items()} == {"tokens": 3, "beam": 1, "whole": 4}
    assert not [one for one in kept["missed"] if "equal" in one or "failed" in one]


def spoken(scripts, pretended, small, tmp_path, *rows):
    """What is kept of a run with real weights on one short clip."""
    real_model("tiny.en")
    path = tmp_path / "gpu.json"
    arguments = ["--rounds", "1", "--names", "tiny.en", "--clips", "LJ001-0008.wav", "--json", str(path)]
    assert scripts("gpu").main([*arguments, "--rows", *rows], pretended, **small) == 0
    return json.loads(path.read_text())


def test_what_fails_costs_its_row_and_what_takes_long_ends(scripts, pretended, small, capsys, monkeypatch):
    report, lab = scripts("gpu_report"), scripts("gpu_lab")

    def fails(_):
        yield "one", 1.0
        raise ValueError("a kernel is lost")

    def misses(_):
        yield "one", report.Most(2.0, 1.5)
        yield "two", report.Most(float("nan"), 1.5)
        yield "three", report.Most(1.0, 1.5)

    gpu, now = scripts("gpu"), iter([0.0, *[1.0] * 20, *[61.0] * 20, *[1e9] * 99])
    monkeypatch.setattr(report, "ROWS", {})
    monkeypatch.setattr(gpu, "ROWS", report.ROWS)
    report.row("machine", "Fails", "what", "number|.1f")(fails)
    report.row("correct", "Misses", "what", "number|.1f")(misses)
    assert gpu.main(["--minutes", "2", "--clips", "none"], pretended, lambda: next(now), **small) == 0
    out = capsys.readouterr().out
    assert "**failed**: ValueError: a kernel is lost." in out
    assert tables(out)["Misses"][1:3] == [["one", "**2.0**"], ["two", "**nan**"]]
    assert "- fails: **failed**" in out
    assert "- misses, one, **2.0**: number **2.0**, wanted at most 1.5" in out
    assert lab.Gpu is not pretended


def test_a_section_whose_time_is_over_is_not_begun(scripts, pretended, small, capsys):
    now = iter([0.0, *[100.0] * 99])
    scripts("gpu").main(["--minutes", "1", "--clips", "none"], pretended, lambda: next(now), **small)
    out = capsys.readouterr().out
    assert list(tables(out)) == ["The least that a window takes"]
    for name in ("machine", "tokens", "peak", "whole"):
        assert f"- {name}: not begun, by the time limit" in out


# ------------------------------------------------------------------------------------------ what CuPy is asked


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
    lab, usual, pools, waits = scripts("gpu_lab"), Pool(), [], []
    cupy = SimpleNamespace(
        get_default_memory_pool=lambda: usual, float32=np.float32, matmul=np.matmul, asarray=np.asarray
    )
    cupy.ones, cupy.empty_like, now = (lambda size, dtype: np.ones(64, dtype)), np.empty_like, iter(range(10**6))

    class Event:
        def record(self):
            self.at = next(now)

        def synchronize(self):
            waits.append("event")

    def pool():
        pools.append(Pool())
        return pools[-1]

    runtime = SimpleNamespace(memGetInfo=lambda: (1 << 20, 3 << 20), deviceSynchronize=lambda: waits.append("device"))
    cupy.cuda = SimpleNamespace(
        runtime=runtime,
        MemoryPool=pool,
        Event=Event,
        get_elapsed_time=lambda start, end: 1000.0 * (end.at - start.at),
        set_allocator=lambda allocator: setattr(cupy, "allocator", allocator),
    )
    cupy.ElementwiseKernel = lambda *_: lambda x, y: np.copyto(y, x)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    gpu = lab.Gpu("cuda:0")
    assert gpu.back_to_back(lambda: None, 4) == 0.25
    assert gpu.seconds(lambda: None) >= 0
    assert waits == ["device", "event", "device", "device"]
    assert gpu.beside_arrays() == (2 << 20) - 512
    with gpu.pool(1000) as seen:
        assert cupy.allocator(300) == "300 bytes"
        assert cupy.allocator(200) == "200 bytes"
        pools[0].used -= 300
        assert (seen.used(), seen.peak(), seen.held(), pools[0].limit) == (200, 500, 712, 1000)
        assert seen.peak() == 200
    assert cupy.allocator == usual.malloc
    rates = gpu.rates(side=16, rounds=1)
    assert rates.copied == 2 * rates.read == 2 * 256 * 3
    assert rates.operations == 2 * 16**3 * 3


# ------------------------------------------------------------------------------------------ what it is given


def test_a_wave_is_resampled(scripts, tmp_path):
    read = scripts("gpu_lab").read_wave
    path, seconds = tmp_path / "tone.wav", np.arange(11025) / 22050
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes((16384 * np.sin(2 * np.pi * 440 * seconds)).astype("<i2").tobytes())
    found, expected = read(path), 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    assert found.shape == (8000,)
    assert abs(found - expected)[200:-200].max() < 2e-3
    mine, exact = read(DATA / "LJ001-0008.wav"), minwhisper.load_audio(DATA / "LJ001-0008.wav")
    length = min(len(mine), len(exact))
    assert abs(len(mine) - len(exact)) <= 1
    assert np.linalg.norm(mine[:length] - exact[:length]) < 0.1 * np.linalg.norm(exact)  # near 8 kHz they differ


def test_without_pyav_there_are_the_waves():
    code = "import sys; sys.modules['av'] = None; import gpu_lab; print(*gpu_lab.read_sounds(None), sep='|')"
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    sounds, how = done.stdout.rsplit("|", 1)
    assert sounds.count("LJ001-") == 12
    assert "jfk.flac is left out" in how


def test_what_is_prepared_is_what_is_loaded(scripts, tiny_en, tmp_path, capsys):
    lab, folder = scripts("gpu_lab"), tmp_path / "sent"
    assert scripts("gpu").main(["--prepare", str(folder), "--names", "tiny.en", "--piece", "40"]) == 0
    *told, last = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert "--models" in last
    there = tmp_path / "models"
    for line in told:
        place, _, size = line.rpartition(": ")
        assert float(size.removesuffix(" MiB")) < 42
        sent = Path(place)
        for path in [path for path in sent.rglob("*") if path.is_file()]:
            place = there / path.relative_to(sent)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    model = lab.Lab("cpu", None, {}, there).model("tiny.en")
    assert np.array_equal(model.weights["decoder"]["token_embedding"], tiny_en.weights["decoder"]["token_embedding"])
    sounds, how = lab.read_sounds(there)
    assert how == "prepared"
    assert np.array_equal(sounds["jfk.flac"], minwhisper.load_audio(DATA / "jfk.flac"))
    start = time.perf_counter()
    (there / "tiny.en" / "model.bin.part2").unlink()
    broken = lab.Lab("cpu", None, {}, there)
    broken.model("tiny.en")
    assert any("cannot be loaded" in note for note in broken.notes)
    assert time.perf_counter() - start < 60


def test_words_are_counted(scripts):
    errors = scripts("gpu_right").word_errors
    assert errors("A quick fox", "The quick, brown fox") == (2, 4)
    assert errors("", "one two") == (2, 2)
    assert errors("One two; three", "one TWO three") == (0, 3)
