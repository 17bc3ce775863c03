"""Both real models on the package's clip, compared stage by stage with stored float64 values, without PyTorch.

The tables of exactness in the README and in the results show these differences.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from minwhisper.common.backend import to_numpy
from minwhisper.parity import comparison as parity

ROOT = Path(__file__).parents[2]
README, RESULTS = ((ROOT / name).read_text() for name in ("README.md", "tests/benchmarks/RESULTS.md"))
COLUMNS = {"tiny.en": (2, 3), "base": (4, 5)}  # in the tables of exactness: this package, PyTorch


@pytest.fixture(scope="module")
def reference(model):
    return parity.load_reference(model.name)


@pytest.fixture(scope="module")
def mel(model):
    return parity.window_mel(parity.clip_samples(), model.config.num_mel_bins)


@pytest.fixture(scope="module")
def differences(model, reference, mel):
    """Return the relative difference of each stage from the stored values."""
    prompt = model.tokenizer.sot_sequence("en", "transcribe", timestamps=True)
    outputs = {"mel": mel, **dict(parity.stages(model, mel, [[*prompt, *reference.tokens]]))}
    parts = {stage: parity.subsample(stage, to_numpy(x), reference.rows[stage]) for stage, x in outputs.items()}
    return {stage: parity.relative_difference(part, reference.exact[stage]) for stage, part in parts.items()}


def test_every_stage_is_as_close_to_the_exact_values_as_pytorch(model, reference, differences):
    blocks = [f"encoder.blocks.{i}" for i in range(model.config.encoder_layers)]
    blocks += [f"decoder.blocks.{i}" for i in range(model.config.decoder_layers)]
    assert set(differences) == {"mel", "stem", "encoder", "logits", *blocks} == set(reference.exact)
    limits = {stage: min(parity.TOLERANCE, reference.pytorch[stage]) for stage in differences}
    assert {stage: difference for stage, difference in differences.items() if not difference <= limits[stage]} == {}


def test_greedy_decoding_generates_the_stored_tokens(model, reference, mel):
    assert parity.generated_tokens(model, mel) == reference.tokens
    assert "ask not what your country can do for you" in model.tokenizer.decode(reference.tokens)


def test_reference_holds_float64_values_and_pytorchs_rounding(reference, model):
    for stage, exact in reference.exact.items():
        assert exact.dtype == np.float64
        assert np.isfinite(exact).all()
        assert len(exact) == len(reference.rows[stage]) > 0
        # The rounding of float32; wrongly stored values would differ by more, or not at all.
        assert 1e-8 < reference.pytorch[stage] < parity.TOLERANCE
    assert Path(str(parity.REFERENCE_FOLDER / f"{model.name}.npz")).stat().st_size < 350_000


def test_other_models_have_no_reference():
    assert parity.load_reference("small") is None


def errors(text: str, column: int) -> dict[str, float]:
    """Return a column of a table of relative errors, by stage."""
    rows = [line.split("|") for line in text.splitlines()]
    rows = [row for row in rows if re.fullmatch(r" (mel|stem|(en|de)coder(\.blocks\.\d)?|logits) ", "".join(row[1:2]))]
    return {row[1].strip(): float(row[column]) for row in rows if re.fullmatch(r" \d\.\de-\d ", row[column])}


def test_the_tables_of_exactness_show_pytorchs_stored_errors(model, reference):
    stored = {stage: float(f"{value:.1e}") for stage, value in reference.pytorch.items()}
    column = COLUMNS[model.name][1]
    assert errors(RESULTS, column) == stored
    shown = errors(README, column)
    assert list(shown) == ["mel", "stem", "encoder", "logits"]
    assert shown.items() <= stored.items()


def test_the_tables_of_exactness_show_the_errors_of_this_package(model, differences):
    column = COLUMNS[model.name][0]
    shown = errors(RESULTS, column)
    assert errors(README, column).items() <= shown.items()
    assert shown.keys() == differences.keys()
    # The errors depend on the BLAS library.
    assert [stage for stage, measured in differences.items() if not measured <= 1.5 * shown[stage]] == []
