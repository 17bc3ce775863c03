"""``minwhisper bench``: every stage is timed, and its floor is right."""

from dataclasses import replace

import pytest

from command_line import run_command
from minwhisper.cli import bench
from minwhisper.errors import OptionError


@pytest.fixture
def timed(tiny_en, monkeypatch, capfd):
    """Run the command, and return its lines and all stages by name. Each is timed once: exact times are not needed."""
    stages = {}
    for name in ("encoder_stages", "decoder_stages"):
        real = getattr(bench, name)
        noted = lambda *given, real=real: (stages.setdefault(stage.name, stage) for stage in real(*given))  # noqa: E731
        monkeypatch.setattr(bench, name, noted)
    monkeypatch.setattr(bench.median_seconds, "__defaults__", (1,))
    monkeypatch.setattr(bench, "measure_rates", lambda _: bench.Rates(50e9, 20e9))
    result = run_command(capfd, "bench", "tiny.en", "--threads", "1")
    assert result.status == 0
    return result.out.splitlines(), stages


def test_every_stage_is_printed_with_its_time_and_its_floor(timed):
    lines, stages = timed
    names = "mel", "stem", "layer norms", "query, key, value and output", "attention, products", "attention, softmax"
    assert tuple(stages)[:9] == (*names, "MLP, products", "GELU", "encoder, whole")
    assert all(stage.seconds > 0 for name, stage in stages.items() if name != "attention, softmax")
    assert lines[0].startswith("tiny.en on ")
    assert "1 threads" in lines[0]
    assert lines[1] == "products: 100 GFLOP/s; memory: 20 GB/s"
    for name in stages:
        assert any(line.startswith(name) for line in lines)
    # Counted by hand for tiny.en: (T, D, F, V) = (1500, 384, 1536, 51864), 4 blocks, 50e9 multiplications per second.
    products = 4 * (4 * 1500 * 384**2 + 2 * 1500**2 * 384 + 2 * 1500 * 384 * 1536)
    stem = 3000 * 240 * 384 + 1500 * 1152 * 384
    assert stages["encoder, whole"].floor == pytest.approx((products + stem) / 50e9)
    assert 2 * (products + stem) == pytest.approx(36.9e9, rel=0.01)
    # A step reads its weights, the token embedding and the keys and values once: 131 MB.
    assert stages["decoder step"].floor == pytest.approx(131e6 / 20e9, rel=0.02)
    assert stages["  of which the logits"].floor == pytest.approx(4 * 51864 * 384 / 20e9)


def test_measured_rates_are_plausible(tiny_en):
    rates = bench.measure_rates(bench.cpu_engine(tiny_en))
    assert 1e8 < rates.multiplications < 1e13
    assert 1e8 < rates.bytes < 1e12


@pytest.mark.parametrize("how", [{"plain": True}, {"dtype": "float16"}], ids=str)
def test_plain_and_float16_models_are_refused(tiny_en, how):
    with pytest.raises(OptionError, match="expected a float32 model on the CPU"):
        bench.cpu_engine(replace(tiny_en, **how))
