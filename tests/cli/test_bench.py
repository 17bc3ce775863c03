"""``minwhisper bench``: every stage is timed, and its floor is right."""

from dataclasses import replace

import pytest

from minwhisper.cli import bench
from minwhisper.cli.main import main
from minwhisper.errors import OptionError
from minwhisper.fast.cpu.engine import CpuEngine


@pytest.fixture(scope="module")
def timed(tiny_en):
    engine = CpuEngine(tiny_en.weights, tiny_en.config, 1)
    rates = bench.Rates(50e9, 20e9)
    encoder = {stage.name: stage for stage in bench.encoder_stages(tiny_en, engine, rates)}
    decoder = {stage.name: stage for stage in bench.decoder_stages(tiny_en, engine, rates)}
    return encoder, decoder


@pytest.fixture(scope="module", autouse=True)
def one_round():
    """Time each stage once: the tests need no exact times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.median_seconds, "__defaults__", (1,))
        yield


def test_every_stage_takes_time(timed):
    encoder, decoder = timed
    names = "mel", "stem", "layer norms", "query, key, value and output", "attention, products", "attention, softmax"
    assert tuple(encoder) == (*names, "MLP, products", "GELU", "encoder, whole")
    assert all(stage.seconds > 0 for name, stage in {**encoder, **decoder}.items() if name != "attention, softmax")


def test_floors_are_counted(timed, tiny_en):
    encoder, decoder = timed
    # Counted by hand for tiny.en: (T, D, F, V) = (1500, 384, 1536, 51864), 4 blocks, 50e9 multiplications per second.
    products = 4 * (4 * 1500 * 384**2 + 2 * 1500**2 * 384 + 2 * 1500 * 384 * 1536)
    stem = 3000 * 240 * 384 + 1500 * 1152 * 384
    assert encoder["encoder, whole"].floor == pytest.approx((products + stem) / 50e9)
    assert 2 * (products + stem) == pytest.approx(36.9e9, rel=0.01)
    # A step reads its weights, the vocabulary and the keys and values once: 131 MB.
    assert decoder["decoder step"].floor == pytest.approx(131e6 / 20e9, rel=0.02)
    assert decoder["  of which the logits"].floor == pytest.approx(4 * 51864 * 384 / 20e9)


@pytest.mark.parametrize("how", [{"plain": True}, {"dtype": "float16"}], ids=str)
def test_other_models_are_refused(tiny_en, how):
    with pytest.raises(OptionError, match="expected a float32 model on the CPU"):
        bench.cpu_engine(replace(tiny_en, **how))


def test_the_command_prints_the_machine_the_rates_and_every_stage(capsys):
    assert main(["bench", "tiny.en", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 threads" in out.splitlines()[0]
    assert out.splitlines()[1].startswith("products: ")
    for stage in ("mel", "GELU", "decoder step", "logit filters and greedy choice"):
        assert any(line.startswith(stage) for line in out.splitlines())


def test_an_invalid_number_of_threads_is_rejected(capsys):

    assert main(["bench", "--threads", "-1"]) == 2
    assert "threads: expected a whole number" in capsys.readouterr().err
